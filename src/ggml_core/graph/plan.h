/*
 * A plan: the graph lowered to nodes in stages, every buffer's place known.
 *
 * Lowering drops views (they become offsets), puts a QUANTIZE node before linears whose weights want their
 * activations quantised (one node an activation and format, shared by all its linears), fuses neighbours (a residual
 * addition into the linear before it, a norm into the QUANTIZE behind it, swiglu with its two linears), and groups
 * nodes that do not depend on each other into stages, waited for as one. Two tensors share arena bytes only when their
 * stages are disjoint.
 *
 * What a session allocates, in this order, each part aligned to a cache line:
 *
 *   session | nodes | stages, groups | inputs, slots, tiles | pool      bookkeeping
 *   K and V of every layer (layout: nano_cache_at)                        cache
 *   temporaries                                                           activations
 *   logits (n_outputs, n_vocab); sums of importance, twice                outputs
 *   n_threads working spaces                                              scratch
 *   parameters; their gradients; the optimiser's state                    parameters, gradients, optimizer
 */
#ifndef NANO_GRAPH_PLAN_H
#define NANO_GRAPH_PLAN_H

#include "base/cpus.h"
#include "graph/graph.h"
#include "model.h"

typedef enum nano_region {
    NANO_REGION_NONE, /* an optional source that is not there */
    NANO_REGION_FILE,
    NANO_REGION_INPUT,
    NANO_REGION_CACHE,
    NANO_REGION_ARENA,
    NANO_REGION_OUTPUT,
    NANO_REGION_PARAM,     /* weights that are trained: f32, in the session */
    NANO_REGION_GRAD,      /* their gradients */
    NANO_REGION_IMPORTANCE /* f64: how many rows, then a sum of squares for each column */
} nano_region;

/* Where weights are, trained or not. */
static inline bool nano_region_is_weight(nano_region region) {
    return region == NANO_REGION_FILE || region == NANO_REGION_PARAM;
}

typedef struct nano_operand {
    nano_region region;
    nano_type type;
    int64_t rows;        /* NANO_DIM_T, NANO_DIM_W, or how many */
    int64_t ne[2];       /* a row: ne[1] groups (heads) of ne[0] elements, contiguous */
    size_t row_bytes;    /* from one row to the next */
    uint64_t offset;     /* in its region; FILE: unused */
    bool transposed;     /* CACHE: see nano_cache_at */
    bool on_device;      /* data is an address there */
    const uint8_t *data; /* FILE: the mapping; the others are set when a session is made */
} nano_operand;

typedef struct nano_node {
    nano_op op;
    bool on_device;
    nano_op norm; /* QUANTIZE: what is done to each row before, NORM or RMS_NORM with its sources; else NONE */
    nano_operand out;
    uint8_t *out_data;              /* out.data, to write to */
    nano_operand src[NANO_MAX_SRC]; /* LINEAR: the last is added to the result */
    nano_params params;
    const char *weight; /* IMPORTANCE: the weight's name, the graph's; else NULL */
} nano_node;

/* Tokens of one step that follow each other in one slot. */
typedef struct nano_tile {
    int32_t first; /* row in the step */
    int32_t count; /* at most NANO_TILE_TOKENS */
    int32_t slot;
    int32_t position; /* of the first */
} nano_tile;

/* Attention walks the cache in blocks that start at multiples of NANO_KV_BLOCK, whatever the step's split: part of
 * what makes results the same bits for any batch. */
enum { NANO_TILE_TOKENS = 32, NANO_KV_BLOCK = 64 };

/* Offsets into the one allocation. */
typedef struct nano_layout {
    uint64_t session, nodes, stages, groups, tokens, positions, wanted, targets, weights, slots, n_past, advance, tiles;
    uint64_t pool;
    uint64_t cache, arena, outputs, importance, importance_before, scratch, parameters, gradients, state, total;
    uint64_t importance_bytes; /* of the sums, without what aligns them */
    uint64_t parameter_bytes;  /* of all parameters, and of all gradients */
    uint64_t state_bytes;      /* of the optimiser */
    uint64_t scratch_stride;   /* a thread's working space */
} nano_layout;

/* The one allocation on a device: offsets, each part's up to the next one's. */
typedef struct nano_device_layout {
    uint64_t weights, cache, arena, outputs, inputs, part, total;
} nano_device_layout;

/* In steps of at least so many rows, and where the level has them, linears over quantised activations go through the
 * wide kernels. Shorter ones, drafts of a prompt lookup among them, add up in the order of decoding. */
enum { NANO_WIDE_MIN = 32 };

/* Where a parameter lies in the flat vectors, in elements. */
typedef struct nano_param_place {
    int32_t tensor;
    int64_t n, offset;
    int64_t end; /* of it with what fills up its last cache line */
} nano_param_place;

#define NANO_PARAM_START ((nano_param_place){-1, 0, 0, 0})
/* The next of a graph's parameters, in the order of its weights; false at the end, where `end` is the vectors' length. */
bool nano_param_next(const nano_graph *graph, nano_param_place *at);

struct nano_plan {
    const nano_model *model;
    bool wide; /* room for that: not where the limits ask for the same bits whatever the step */
    nano_limits limits;
    nano_memory memory;
    nano_layout layout;
    nano_node *nodes;
    int32_t n_nodes;
    int32_t *stages; /* first node of each stage, and n_nodes at the end */
    int32_t n_stages;
    int32_t n_host_nodes; /* the others are a device's; they come last, their UPLOAD nodes first */
    int32_t n_host_stages;
    nano_device_layout device;
    bool device_is_shared; /* its memory is the processor's */
    nano_placement placement;
    bool paced; /* how many threads decoding uses was left to the core */
};

/* The most elements in a block of a type that a cache can have. */
enum { NANO_CACHE_BLOCK = 32 };

/* Elements of a row of a cache: a head in whole blocks. */
static inline int64_t nano_cache_row_size(nano_type type, int64_t head_dim) {
    int64_t block = nano_type_block_size(type);
    return (head_dim + block - 1) / block * block;
}
/* Threads that a session has, of which a step uses its kind's number. */
static inline int32_t nano_limits_most_threads(const nano_limits *limits) {
    return limits->n_threads > limits->n_threads_batch ? limits->n_threads : limits->n_threads_batch;
}

/* A cache holds slots, a slot heads, a head positions, row_bytes each: in rows, one after the other, or, `transposed`
 * (keys of a type without blocks), in blocks of NANO_KV_BLOCK positions, each of them (head_dim, NANO_KV_BLOCK). */
static inline int64_t nano_cache_positions(bool transposed, int64_t n) {
    return transposed ? (n + NANO_KV_BLOCK - 1) / NANO_KV_BLOCK * NANO_KV_BLOCK : n;
}
/* Where in a head a position's row or column starts. */
static inline size_t nano_cache_at(const nano_operand *cache, int64_t position) {
    int64_t in_block = cache->transposed ? position % NANO_KV_BLOCK : 0;
    return cache->row_bytes * (size_t)(position - in_block) +
           (cache->transposed ? nano_type_block_bytes(cache->type) * (size_t)in_block : 0);
}
/* Bytes at the start of a head that hold its first n positions. */
static inline size_t nano_cache_run_bytes(const nano_operand *cache, int64_t n) {
    return cache->row_bytes * (size_t)nano_cache_positions(cache->transposed, n);
}
/* Bytes from one slot, and from one head of a slot, to the next. */
static inline size_t nano_cache_head_bytes(const nano_operand *cache, int32_t n_ctx) {
    return nano_cache_run_bytes(cache, n_ctx);
}
static inline size_t nano_cache_slot_bytes(const nano_operand *cache, int32_t n_ctx) {
    return nano_cache_head_bytes(cache, n_ctx) * (size_t)cache->ne[1];
}

#endif
