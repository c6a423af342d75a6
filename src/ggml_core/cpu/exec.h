/* Running a plan's nodes: what an op's functions see, and the table of them. */
#ifndef NANO_CPU_EXEC_H
#define NANO_CPU_EXEC_H

#include "base/threads.h"
#include "cpu/kernels.h"
#include "graph/plan.h"

/* One step, as every thread sees it. */
typedef struct nano_step {
    const nano_kernels *kernels;
    bool wide;   /* long steps go through the wide kernels */
    bool trains; /* the graph has gradients: linears over floats are products of packed matrices */
    int32_t n_ctx;
    int32_t n_stages;         /* the plan's, or the first of them */
    int32_t n_tokens;         /* T */
    int32_t n_wanted;         /* W */
    const int32_t *positions; /* (T) */
    const int32_t *slots;     /* (T) */
    const nano_tile *tiles;
    int32_t n_tiles;
    uint8_t *scratch; /* scratch_stride bytes a thread */
    size_t scratch_stride;
} nano_step;

/* The rows of an operand in this step. */
static inline int64_t nano_step_rows(const nano_step *step, const nano_operand *o) {
    return o->rows == NANO_DIM_T ? step->n_tokens : o->rows == NANO_DIM_W ? step->n_wanted : o->rows;
}
static inline const float *nano_row(const nano_operand *o, int64_t row) {
    return (const float *)(const void *)(o->data + (size_t)row * o->row_bytes);
}
static inline float *nano_out_row(const nano_node *node, int64_t row) {
    return (float *)(void *)(node->out_data + (size_t)row * node->out.row_bytes);
}
/* A weight vector's data; NULL when the source is absent. */
static inline const float *nano_vector(const nano_operand *o) { return (const float *)(const void *)o->data; }

/* Do linears over so many rows read groups of columns for the wide kernels? */
static inline bool nano_step_is_wide(const nano_step *step, int64_t rows) {
    return step->wide && rows >= NANO_WIDE_MIN;
}

/* An op's work comes in units that may run in any order on any thread; which unit runs where never changes a bit of
 * the result. units: how many this step has. forward: runs units first ... last - 1. */
typedef int64_t nano_units_fn(const nano_step *step, const nano_node *node);
typedef void nano_forward_fn(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread);

#define NANO_OP(NAME, name, number, min_src, max_src, n_ints, n_floats, in_place) \
    nano_units_fn nano_units_##name;                                              \
    nano_forward_fn nano_forward_##name;
#include "graph/ops.inc"
#undef NANO_OP
nano_units_fn nano_units_quantize;
nano_forward_fn nano_forward_quantize;
nano_units_fn nano_units_importance;
nano_forward_fn nano_forward_importance;
nano_units_fn nano_units_gated;
nano_forward_fn nano_forward_gated;
nano_units_fn nano_units_row_losses;
nano_forward_fn nano_forward_row_losses;
nano_units_fn nano_units_row_sums;
nano_forward_fn nano_forward_row_sums;

/* One row of a NORM or RMS_NORM, whose sources and parameters are the node's. */
void nano_norm_row(const nano_step *step, const nano_node *node, nano_op op, int64_t row, float *y);

/* Bytes of working space a thread needs for a node of `plan` with at most `rows` rows out. */
uint64_t nano_node_scratch(const nano_plan *plan, const nano_node *node, int64_t rows);
uint64_t nano_attention_scratch(const nano_node *node);
uint64_t nano_rope_scratch(const nano_node *node);
uint64_t nano_norm_grad_w_scratch(const nano_node *node);
uint64_t nano_attention_grad_scratch(const nano_node *node, int64_t n); /* n: tokens of the longest sequence */
uint64_t nano_linear_grad_x_scratch(const nano_node *node, int64_t rows);
uint64_t nano_linear_grad_w_scratch(const nano_node *node, int64_t n_tokens);
uint64_t nano_linear_scratch(const nano_node *node, int64_t rows, bool trains);
uint64_t nano_gated_scratch(int64_t rows);
uint64_t nano_quantize_scratch(const nano_node *node, bool wide);

/* What a step's threads do together: a stage whose units they share, or stages of single units that follow each other
 * and that one thread runs. On a cache line of its own. */
typedef struct NANO_ALIGNED(64) nano_group {
    nano_pile pile;
    int32_t first, end; /* stages */
    int64_t n_units;
    int64_t units_a_piece; /* 0: the pile's one piece is all there is */
} nano_group;

/* Makes the groups of a step, room for n_stages and one more, which is never filled; every thread's nano_exec ends
 * there. By the caller, before the pool's run number `run`. */
void nano_exec_prepare(const nano_plan *plan, const nano_step *step, nano_group *groups, uint32_t run);
/* Works on all groups: what a thread of the pool does in run number `run`. When *cancel becomes non-zero the remaining
 * work is skipped. Reads `step` and the groups' parts while it holds a piece only, as threads.h asks. */
void nano_exec(const nano_plan *plan, const nano_step *step, nano_pool *pool, nano_group *groups,
               const nano_atomic *cancel, int thread, uint32_t run);

#endif
