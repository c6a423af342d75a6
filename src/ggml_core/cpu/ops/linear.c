/* y = x w^T (+ bias), with an activation function in the same pass; and the activation formats of x. */
#include "base/arith.h"
#include "cpu/exec.h"

#include <string.h>

/* A unit is a group of weight rows: one cache line of outputs. A block of weights and of columns is sized so that
 * the weights stay in the second-level cache while all columns pass, and the columns mostly in the third. */
enum { UNIT_ROWS = 16, BLOCK_WEIGHT_BYTES = 128 * 1024 };

int64_t nano_units_linear(const nano_step *step, const nano_node *node) {
    return nano_step_rows(step, &node->out) == 0 ? 0 : (node->out.ne[0] + UNIT_ROWS - 1) / UNIT_ROWS;
}

static void finish_rows(const nano_step *step, const nano_node *node, int64_t r0, int64_t n, int64_t n_cols) {
    const float *bias = nano_vector(&node->src[2]);
    for (int64_t c = 0; c < n_cols; c++) {
        float *y = nano_out_row(node, c) + r0;
        if (bias != NULL) {
            step->kernels->add(y, bias + r0, y, n);
        }
        switch ((nano_activation)node->params.ints[0]) {
            case NANO_ACT_NONE: break;
            case NANO_ACT_GELU: step->kernels->gelu(y, y, n); break;
            case NANO_ACT_SILU: step->kernels->silu(y, y, n); break;
        }
    }
}

void nano_forward_linear(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const nano_operand *x = &node->src[0], *w = &node->src[1];
    int64_t n_cols = nano_step_rows(step, &node->out);
    int64_t r_end = nano_min_i64(last * UNIT_ROWS, node->out.ne[0]);
    int64_t block = nano_max_i64(BLOCK_WEIGHT_BYTES / (int64_t)w->row_bytes / UNIT_ROWS, 1) * UNIT_ROWS;
    block = n_cols == 1 ? r_end - first * UNIT_ROWS : block;
    nano_linear_fn *kernel = nano_kernels_linear(step->kernels, w->type);
    bool wide = x->type == NANO_TYPE_A8 && nano_step_is_wide(step, n_cols);
    bool plain = node->src[2].region == NANO_REGION_NONE && node->params.ints[0] == NANO_ACT_NONE;
    for (int64_t r0 = first * UNIT_ROWS; r0 < r_end; r0 += block) {
        int64_t n_rows = nano_min_i64(block, r_end - r0);
        nano_linear_args args = {.n = w->ne[0],
                                 .w = w->data + (size_t)r0 * w->row_bytes,
                                 .w_stride = w->row_bytes,
                                 .n_rows = n_rows,
                                 .x = x->data,
                                 .x_stride = x->row_bytes,
                                 .n_cols = n_cols,
                                 .y = nano_out_row(node, 0) + r0,
                                 .y_stride = (int64_t)(node->out.row_bytes / sizeof(float))};
        if (wide) {
            step->kernels->wide_linear(w->type, &args);
        } else {
            kernel(&args);
        }
        if (!plain) {
            finish_rows(step, node, r0, n_rows, n_cols);
        }
    }
}

/* A unit is a row, or a group of them for the wide kernels. */
int64_t nano_units_quantize(const nano_step *step, const nano_node *node) {
    int64_t rows = nano_step_rows(step, &node->out);
    return nano_step_is_wide(step, rows) ? (rows + NANO_WIDE_GROUP - 1) / NANO_WIDE_GROUP : rows;
}

void nano_forward_quantize(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const nano_operand *x = &node->src[0];
    int64_t n = node->out.ne[0], rows = nano_step_rows(step, &node->out);
    if (nano_step_is_wide(step, rows)) {
        for (int64_t g = first; g < last; g++) {
            step->kernels->wide_pack(nano_row(x, g * NANO_WIDE_GROUP), (int64_t)(x->row_bytes / sizeof(float)),
                                     nano_min_i64(rows - g * NANO_WIDE_GROUP, NANO_WIDE_GROUP),
                                     node->out_data + (size_t)g * nano_wide_group_bytes(n), n);
        }
        return;
    }
    nano_convert_fn *convert = nano_kernels_quantize(step->kernels, node->out.type);
    for (int64_t i = first; i < last; i++) {
        convert(nano_row(x, i), node->out_data + (size_t)i * node->out.row_bytes, n);
    }
}

/* Columns by the piece: a unit's sums stay in the first-level cache while all rows pass. */
enum { UNIT_COLUMNS = 256 };

int64_t nano_units_importance(const nano_step *step, const nano_node *node) {
    return nano_step_rows(step, &node->src[0]) == 0 ? 0 : (node->out.ne[0] + UNIT_COLUMNS - 1) / UNIT_COLUMNS;
}

void nano_forward_importance(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    double *sums = (double *)(void *)node->out_data;
    int64_t n_rows = nano_step_rows(step, &node->src[0]), end = nano_min_i64(last * UNIT_COLUMNS, node->out.ne[0]);
    if (first == 0) {
        sums[0] += (double)n_rows;
    }
    for (int64_t r = 0; r < n_rows; r++) {
        const float *x = nano_row(&node->src[0], r);
        for (int64_t i = first * UNIT_COLUMNS; i < end; i++) {
            sums[1 + i] += (double)x[i] * (double)x[i];
        }
    }
}
