/* What the planner's files share while a plan is made. */
#ifndef NANO_GRAPH_PLANNER_H
#define NANO_GRAPH_PLANNER_H

#include "graph/plan.h"

/* While planning, a value is a graph tensor or, after those, one of the planner's own: an activation in a linear's
 * activation format, the sums of importance of a linear's weight, what rows give to a loss, a twin on a device. */
typedef struct nano_value {
    int32_t source;     /* of what the planner added: the graph tensor it belongs to; else -1 */
    nano_region region; /* of what the planner added */
    nano_type type;
    int64_t rows; /* as nano_operand's */
    uint64_t row_bytes;
    int32_t first; /* stages between which it lives */
    int32_t last;
    int32_t next_ending; /* list of values whose last stage is the same */
    bool on_device;      /* which memory it is in; of a twin: the device's */
    int32_t twin;        /* the value that stands for this one in the device's memory; -1: none */
    bool is_taken;       /* its place goes on to an output that is made in place */
    uint64_t offset;
} nano_value;

typedef struct nano_lowered {
    nano_op op;     /* NONE: dropped */
    nano_op norm;   /* as nano_node's */
    int32_t tensor; /* the graph's, for parameters; -1 for the planner's own */
    int32_t out;    /* values */
    int32_t src[NANO_MAX_SRC];
    int32_t stage;
    bool on_device;
} nano_lowered;

typedef struct nano_planner {
    const nano_model *model;
    const nano_graph *graph;
    nano_plan *plan;
    nano_error *err;
    nano_value *values;
    int32_t n_values;
    nano_lowered *nodes;
    int32_t n_nodes;
    int32_t n_stages;
    int32_t n_host_nodes;    /* the others are a device's */
    int32_t n_uploads;       /* these come first among them */
    uint64_t arena_bytes[2]; /* the processor's, a device's */
    uint64_t cache_bytes[2];
    uint64_t importance_bytes;
} nano_planner;

/* The value whose memory `v` lives in. */
static inline int32_t nano_value_root(const nano_planner *p, int32_t v) {
    return v >= 0 && v < p->graph->n_tensors ? p->graph->tensors[v].root : v;
}

/* The value whose memory a node touches where it names `v`: on a device, of what crosses, the twin. */
static inline int32_t nano_node_value(const nano_planner *p, const nano_lowered *node, int32_t v) {
    const int32_t root = nano_value_root(p, v);
    return root >= 0 && node->on_device && node->op != NANO_OP_UPLOAD && p->values[root].twin >= 0
               ? p->values[root].twin
               : root;
}

static inline int64_t nano_rows_limit(const nano_planner *p, int64_t rows) {
    return rows == NANO_DIM_T ? p->plan->limits.n_batch : rows == NANO_DIM_W ? p->plan->limits.n_outputs : rows;
}

nano_status nano_plan_too_large(nano_error *err);

/* Layers that the weights name. */
int32_t nano_plan_n_layers(const nano_graph *graph);

/* Divides the nodes between the processor and a device. After fusing. */
nano_status nano_plan_devices(nano_planner *p);

/* Lays out what the device holds, from the finished nodes; refuses nodes that it cannot run. */
nano_status nano_plan_device_layout(nano_planner *p);

/* Gives each node its stage and each value the stages between which it lives. work: room for two numbers a value. */
void nano_plan_stages(nano_planner *p, int32_t *work);
/* Free pieces of the arena below its top, in order of offset, none touching. */
typedef struct nano_piece {
    uint64_t offset;
    uint64_t size;
} nano_piece;
/* Places every value of the arena. work: room for a number a stage; pieces: one a value. */
nano_status nano_plan_places(nano_planner *p, int32_t *work, nano_piece *pieces);

#endif
