/* What the planner's files share while a plan is made. */
#ifndef NANO_GRAPH_PLANNER_H
#define NANO_GRAPH_PLANNER_H

#include "graph/plan.h"

/* While planning, a value is a graph tensor or, after those, an activation in a linear's activation format or the sums
 * of importance of a linear's weight. */
typedef struct nano_value {
    int32_t source;     /* of what the planner added: the graph tensor it belongs to; else -1 */
    nano_region region; /* of what the planner added */
    nano_type type;
    int64_t rows; /* as nano_operand's */
    uint64_t row_bytes;
    int32_t first; /* stages between which it lives */
    int32_t last;
    int32_t next_ending; /* list of values whose last stage is the same */
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
    uint64_t arena_bytes;
    uint64_t cache_bytes;
    uint64_t importance_bytes;
} nano_planner;

/* The value whose memory `v` lives in. */
static inline int32_t nano_value_root(const nano_planner *p, int32_t v) {
    return v >= 0 && v < p->graph->n_tensors ? p->graph->tensors[v].root : v;
}

static inline int64_t nano_rows_limit(const nano_planner *p, int64_t rows) {
    return rows == NANO_DIM_T ? p->plan->limits.n_batch : rows == NANO_DIM_W ? p->plan->limits.n_outputs : rows;
}

nano_status nano_plan_too_large(nano_error *err);

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
