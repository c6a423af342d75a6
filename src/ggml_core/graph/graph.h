/* The graph: tensors in the order they were made, each a leaf or the output of one op over earlier ones. */
#ifndef NANO_GRAPH_GRAPH_H
#define NANO_GRAPH_GRAPH_H

#include "types/types.h"

typedef enum nano_op {
    NANO_OP_NONE = 0, /* a leaf */
#define NANO_OP(NAME, name, number, min_src, max_src, n_ints, n_floats, in_place) NANO_OP_##NAME = number,
#include "graph/ops.inc"
#undef NANO_OP
    /* The planner's own. */
    NANO_OP_QUANTIZE = 1000,   /* an activation, or the norm of one, turned into a linear's activation format */
    NANO_OP_IMPORTANCE = 1001, /* squares of a linear's input added up, by column */
    NANO_OP_GATED = 1002,      /* swiglu of two linears: (x; gate: weight; up: weight) */
    NANO_OP_ROW_LOSSES = 1003, /* what cross_entropy adds up, f64: a row's part each */
    NANO_OP_ROW_SUMS = 1004,   /* the same of sum */
    NANO_OP_UPLOAD = 1005      /* an activation of the processor's into a device's memory */
} nano_op;

typedef enum nano_storage {
    NANO_STORE_WEIGHT,
    NANO_STORE_INPUT,
    NANO_STORE_CACHE,
    NANO_STORE_TEMP,
    NANO_STORE_ALIAS, /* no memory of its own: a view of `root`; or a cache or a gradient after a write */
    NANO_STORE_GRAD   /* a parameter's gradient, which lives from step to step: ops add to it, their outputs alias it */
} nano_storage;

/* Limits on what a program may ask for. */
enum { NANO_MAX_TENSORS = 1 << 14, NANO_MAX_NAME = 255, NANO_MAX_FILES = 256, NANO_INPUT_LAST = NANO_INPUT_WEIGHTS };
#define NANO_MAX_ELEMENTS ((int64_t)1 << 40)

typedef enum nano_activation { NANO_ACT_NONE = 0, NANO_ACT_GELU = 1, NANO_ACT_SILU = 2 } nano_activation;
typedef enum nano_rope_order { NANO_ROPE_PAIRS = 0, NANO_ROPE_HALVES = 1 } nano_rope_order;
typedef enum nano_rope_scaling { NANO_ROPE_NONE = 0, NANO_ROPE_LINEAR = 1, NANO_ROPE_YARN = 2 } nano_rope_scaling;

typedef struct nano_params {
    int64_t ints[NANO_MAX_INTS];
    double floats[NANO_MAX_FLOATS];
} nano_params;

typedef struct nano_tensor {
    nano_storage storage;
    nano_op op;
    nano_type type; /* F32 or I32; -1 for weights and caches, whose type the file and the plan decide */
    int32_t n_dims;
    int64_t ne[4]; /* ne[n_dims - 1] of an activation is NANO_DIM_T or NANO_DIM_W. A cache: (n_head_kv, head_dim) */
    int32_t src[NANO_MAX_SRC];
    nano_params params;
    int32_t root;        /* the tensor whose memory this is: itself but for aliases */
    int64_t root_offset; /* elements from the start of each of root's rows */
    int32_t index;       /* which input; which cache; a weight's file (0: the model's); a gradient's weight */
    bool is_param;       /* a weight that has a gradient: f32 in the session's own memory */
    char *name;          /* of a weight; owned */
} nano_tensor;

/* The gradient of `weight`, f32 of its shape, which makes the weight a parameter. One a weight. */
nano_status nano_graph_gradient(nano_graph *graph, int32_t weight, int32_t *out, nano_error *err);

/* Whether a cache is one of keys; else of values. */
static inline bool nano_cache_is_keys(const nano_tensor *cache) { return cache->index % 2 == 0; }

struct nano_graph {
    nano_tensor *tensors;
    int32_t n_tensors;
    int32_t capacity;
    int32_t output; /* -1 until set */
};

/* An op's row of ops.inc. */
typedef struct nano_op_info {
    nano_op op;
    const char *name;
    int32_t min_src;
    int32_t max_src;
    int32_t max_ints;
    int32_t max_floats;
    uint32_t in_place; /* bit k: the output may lie where source k does, if both are rows of the same size */
    /* Fills t->type, shape and, for aliases, storage, root and root_offset from its sources and parameters. */
    nano_status (*shape)(const nano_graph *graph, nano_tensor *t, nano_error *err);
} nano_op_info;

const nano_op_info *nano_op_by_name(const char *name); /* NULL when unknown */
const nano_op_info *nano_op_by_number(int64_t number); /* NULL when unknown */

/* The symbolic outermost dim, or 0 when every dim is known. */
static inline int64_t nano_tensor_rows_dim(const nano_tensor *t) {
    int64_t outer = t->n_dims > 0 ? t->ne[t->n_dims - 1] : 1;
    return outer < 0 ? outer : 0;
}

/* One element, as a loss is. */
static inline bool nano_tensor_is_scalar(const nano_tensor *t) { return t->n_dims == 1 && t->ne[0] == 1; }

/* N of a weight's name "blk.N....", at least 2^20 where it is so large; -1 when it names no layer. */
int32_t nano_weight_layer(const char *name);

/* Elements of one row: all dims but a symbolic outermost one. */
int64_t nano_tensor_row_size(const nano_tensor *t);

#endif
