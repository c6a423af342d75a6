#include "cpu/exec.h"

#include "base/arith.h"

typedef struct op_row {
    nano_units_fn *units;
    nano_forward_fn *forward;
} op_row;

/* By op number. */
static const op_row table[] = {
#define NANO_OP(NAME, name, number, min_src, max_src, n_ints, n_floats, in_place) \
    [number] = {nano_units_##name, nano_forward_##name},
#include "graph/ops.inc"
#undef NANO_OP
};

static const op_row quantize_row = {nano_units_quantize, nano_forward_quantize};
static const op_row importance_row = {nano_units_importance, nano_forward_importance};
static const op_row gated_row = {nano_units_gated, nano_forward_gated};
static const op_row row_losses_row = {nano_units_row_losses, nano_forward_row_losses};
static const op_row row_sums_row = {nano_units_row_sums, nano_forward_row_sums};

static const op_row *row_of(const nano_node *node) {
    switch (node->op) {
        case NANO_OP_QUANTIZE: return &quantize_row;
        case NANO_OP_IMPORTANCE: return &importance_row;
        case NANO_OP_GATED: return &gated_row;
        case NANO_OP_ROW_LOSSES: return &row_losses_row;
        case NANO_OP_ROW_SUMS: return &row_sums_row;
        default: return &table[node->op];
    }
}

uint64_t nano_node_scratch(const nano_plan *plan, const nano_node *node, int64_t rows) {
    switch (node->op) {
        case NANO_OP_LINEAR: return nano_linear_scratch(node, rows, plan->model->has_gradients);
        case NANO_OP_ATTENTION: return nano_attention_scratch(node);
        case NANO_OP_ROPE: return nano_rope_scratch(node);
        case NANO_OP_NORM_GRAD_W:
        case NANO_OP_RMS_NORM_GRAD_W: return nano_norm_grad_w_scratch(node);
        case NANO_OP_ATTENTION_GRAD: return nano_attention_grad_scratch(node, nano_min_i64(plan->limits.n_ctx, rows));
        case NANO_OP_LINEAR_GRAD_X: return nano_linear_grad_x_scratch(node, rows);
        case NANO_OP_LINEAR_GRAD_W: return nano_linear_grad_w_scratch(node, plan->limits.n_batch);
        case NANO_OP_QUANTIZE: return nano_quantize_scratch(node, plan->wide);
        case NANO_OP_GATED: return nano_gated_scratch(rows);
        default: return 0;
    }
}

/* ------------------------------------------------------------------- before */

/* The units of a stage in this step, and the most of one of its nodes. */
static int64_t stage_units(const nano_plan *plan, const nano_step *step, int32_t stage, int64_t *most) {
    int64_t sum = 0;
    for (int32_t i = plan->stages[stage]; i < plan->stages[stage + 1]; i++) {
        const int64_t units = row_of(&plan->nodes[i])->units(step, &plan->nodes[i]);
        sum += units;
        *most = nano_max_i64(*most, units);
    }
    return sum;
}

void nano_exec_prepare(const nano_plan *plan, const nano_step *step, nano_group *groups, uint32_t run) {
    nano_group *group = NULL;
    int32_t n_groups = 0;
    for (int32_t s = 0; s < step->n_stages; s++) {
        int64_t most = 0;
        const int64_t units = stage_units(plan, step, s, &most);
        /* Handing out single units costs more than running them, and so does waiting between such stages. */
        const bool is_serial = most <= 1;
        if (is_serial && group != NULL && group->units_a_piece == 0) {
            group->end = s + 1;
            continue;
        }
        group = &groups[n_groups++];
        group->first = s;
        group->end = s + 1;
        group->units_a_piece = is_serial ? 0 : (units + NANO_PILE_MAX - 1) / NANO_PILE_MAX;
        group->n_units = units;
    }
    for (int32_t g = 0; g < n_groups; g++) {
        const int64_t each = groups[g].units_a_piece;
        nano_pile_fill(&groups[g].pile, run, each == 0 ? 1 : (uint32_t)((groups[g].n_units + each - 1) / each));
    }
}

/* ------------------------------------------------------------------ running */

/* Runs units first ... last - 1 of a stage, counted through all its nodes. */
static void run_units(const nano_plan *plan, const nano_step *step, int32_t stage, int64_t first, int64_t last,
                      int thread) {
    for (int32_t i = plan->stages[stage]; i < plan->stages[stage + 1] && last > 0; i++) {
        const nano_node *node = &plan->nodes[i];
        const int64_t units = row_of(node)->units(step, node);
        if (first < units) {
            row_of(node)->forward(step, node, nano_max_i64(first, 0), nano_min_i64(last, units), thread);
        }
        first -= units;
        last -= units;
    }
}

/* Runs n pieces of a group, of which n_left were left when they were taken. */
static void run_pieces(const nano_plan *plan, const nano_step *step, const nano_group *group, uint32_t n_left,
                       uint32_t n, int thread) {
    const int64_t each = group->units_a_piece;
    if (each == 0) {
        for (int32_t s = group->first; s < group->end; s++) {
            run_units(plan, step, s, 0, INT64_MAX, thread);
        }
        return;
    }
    const int64_t first = (group->n_units + each - 1) / each - n_left;
    run_units(plan, step, group->first, first * each, nano_min_i64((first + n) * each, group->n_units), thread);
}

void nano_exec(const nano_plan *plan, const nano_step *step, nano_pool *pool, nano_group *groups,
               const nano_atomic *cancel, int thread, uint32_t run) {
    /* Past the step's last group is one with another number, from an earlier step or from none. */
    uint32_t n_left, n;
    for (nano_group *group = groups; nano_pile_take(pool, &group->pile, run, &n_left, &n);) {
        if (n > 0) {
            if (nano_atomic_load_relaxed(cancel) == 0) {
                run_pieces(plan, step, group, n_left, n, thread);
            }
            nano_pile_done(pool, &group->pile, n);
        } else if (nano_pile_wait(pool, &group->pile, run)) {
            group++;
        }
    }
}
