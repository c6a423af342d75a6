/* y = x w^T (+ bias), with an activation function in the same pass; and the activation formats of x. */
#include "base/arith.h"
#include "cpu/exec.h"
#include "cpu/product.h"

#include <string.h>

/* A unit is a group of weight rows: a cache line of outputs when few columns pass, so that threads finish together; as
 * many as kernels like to have at hand when many do. A block of weights stays in the second-level cache while all
 * columns pass. */
enum { UNIT_ROWS = 16, LONG_UNIT_ROWS = 64, LONG_COLUMNS = 16, BLOCK_WEIGHT_BYTES = 128 * 1024, GATED_ROWS = 256 };

/* Where a step trains, its many rows times float weights are a product of packed matrices: faster, in another order of
 * addition than decoding's. */
enum { PRODUCT_MIN = 32 };

static bool is_product(const nano_step *step, const nano_node *node) {
    return step->trains && node->src[0].type == NANO_TYPE_F32 && nano_step_rows(step, &node->out) >= PRODUCT_MIN;
}

static nano_product product_of(const nano_step *step, const nano_node *node) {
    const nano_operand *x = &node->src[0], *w = &node->src[1];
    return (nano_product){.n_rows = nano_step_rows(step, &node->out),
                          .n_cols = w->rows,
                          .n_terms = w->ne[0],
                          .a = {.data = x->data, .row_bytes = x->row_bytes, .type = x->type},
                          .b = {.data = w->data, .row_bytes = w->row_bytes, .type = w->type},
                          .c = nano_out_row(node, 0),
                          .c_stride = (int64_t)(node->out.row_bytes / sizeof(float))};
}

uint64_t nano_linear_scratch(const nano_node *node, int64_t rows, bool trains) {
    const bool may_be = trains && node->src[0].type == NANO_TYPE_F32 && rows >= PRODUCT_MIN;
    return may_be ? nano_product_scratch(rows, node->src[1].rows, node->src[1].ne[0]) : 0;
}

static int64_t unit_rows(int64_t n_cols) { return n_cols > LONG_COLUMNS ? LONG_UNIT_ROWS : UNIT_ROWS; }

static int64_t row_units(const nano_step *step, const nano_node *node) {
    const int64_t n_cols = nano_step_rows(step, &node->out), rows = unit_rows(n_cols);
    return n_cols == 0 ? 0 : (node->out.ne[0] + rows - 1) / rows;
}

int64_t nano_units_linear(const nano_step *step, const nano_node *node) {
    if (is_product(step, node)) {
        const nano_product p = product_of(step, node);
        return nano_product_units(&p);
    }
    return row_units(step, node);
}

int64_t nano_units_gated(const nano_step *step, const nano_node *node) { return row_units(step, node); }

/* Rows r0 ... r0 + n_rows - 1 of the weights w times all columns, to y. */
static void multiply(const nano_step *step, const nano_node *node, const nano_operand *w, int64_t r0, int64_t n_rows,
                     float *y, int64_t y_stride) {
    const nano_operand *x = &node->src[0];
    nano_linear_args args = {.n = w->ne[0],
                             .w = w->data + (size_t)r0 * w->row_bytes,
                             .w_stride = w->row_bytes,
                             .n_rows = n_rows,
                             .x = x->data,
                             .x_stride = x->row_bytes,
                             .n_cols = nano_step_rows(step, &node->out),
                             .y = y,
                             .y_stride = y_stride};
    if (x->type == NANO_TYPE_A8 && nano_step_is_wide(step, args.n_cols)) {
        step->kernels->wide_linear(w->type, &args);
    } else {
        nano_kernels_linear(step->kernels, w->type)(&args);
    }
}

/* Weight rows that are worked on at once. */
static int64_t block_rows(const nano_operand *w, int64_t n_cols, int64_t range) {
    return n_cols == 1 ? range : nano_max_i64(BLOCK_WEIGHT_BYTES / (int64_t)w->row_bytes / UNIT_ROWS, 1) * UNIT_ROWS;
}

/* What comes after the product, of a block of outputs. */
static void finish_block(const nano_step *step, const nano_node *node, const nano_block *block) {
    const float *bias = nano_vector(&node->src[2]);
    const bool adds = node->src[3].region != NANO_REGION_NONE;
    const int64_t n = block->n_cols;
    if (bias == NULL && !adds && node->params.ints[0] == NANO_ACT_NONE) {
        return;
    }
    for (int64_t i = block->row; i < block->row + block->n_rows; i++) {
        float *y = nano_out_row(node, i) + block->col;
        if (bias != NULL) {
            step->kernels->add(y, bias + block->col, y, n);
        }
        switch ((nano_activation)node->params.ints[0]) {
            case NANO_ACT_NONE: break;
            case NANO_ACT_GELU: step->kernels->gelu(y, y, n); break;
            case NANO_ACT_SILU: step->kernels->silu(y, y, n); break;
        }
        if (adds) {
            step->kernels->add(y, nano_row(&node->src[3], i) + block->col, y, n);
        }
    }
}

static void forward_product(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    float *scratch = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    const nano_product p = product_of(step, node);
    for (nano_block block; nano_product_next(&p, &first, last, &block);) {
        nano_product_block(step->kernels, &p, &block, scratch);
        finish_block(step, node, &block);
    }
}

void nano_forward_linear(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    if (is_product(step, node)) {
        forward_product(step, node, first, last, thread);
        return;
    }
    const nano_operand *w = &node->src[1];
    int64_t n_cols = nano_step_rows(step, &node->out), unit = unit_rows(n_cols);
    int64_t r_end = nano_min_i64(last * unit, node->out.ne[0]);
    int64_t block = block_rows(w, n_cols, r_end - first * unit);
    for (int64_t r0 = first * unit; r0 < r_end; r0 += block) {
        const nano_block done = {0, n_cols, r0, nano_min_i64(block, r_end - r0)};
        multiply(step, node, w, r0, done.n_cols, nano_out_row(node, 0) + r0,
                 (int64_t)(node->out.row_bytes / sizeof(float)));
        finish_block(step, node, &done);
    }
}

/* The gate's block of rows waits in the working space: a unit's where there are many columns. */
static int64_t gated_rows(int64_t n_cols) { return n_cols > GATED_ROWS / LONG_UNIT_ROWS ? LONG_UNIT_ROWS : GATED_ROWS; }

uint64_t nano_gated_scratch(int64_t rows) {
    return (uint64_t)nano_max_i64(rows * LONG_UNIT_ROWS, (GATED_ROWS / LONG_UNIT_ROWS) * GATED_ROWS) * sizeof(float);
}

void nano_forward_gated(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    float *gate = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    int64_t n_cols = nano_step_rows(step, &node->out), unit = unit_rows(n_cols), block = gated_rows(n_cols);
    int64_t r_end = nano_min_i64(last * unit, node->out.ne[0]);
    for (int64_t r0 = first * unit; r0 < r_end; r0 += block) {
        int64_t n_rows = nano_min_i64(block, r_end - r0);
        multiply(step, node, &node->src[1], r0, n_rows, gate, block);
        multiply(step, node, &node->src[2], r0, n_rows, nano_out_row(node, 0) + r0,
                 (int64_t)(node->out.row_bytes / sizeof(float)));
        for (int64_t c = 0; c < n_cols; c++) {
            float *y = nano_out_row(node, c) + r0;
            step->kernels->swiglu(gate + c * block, y, y, n_rows);
        }
    }
}

/* A unit is a row, or a group of them for the wide kernels. */
int64_t nano_units_quantize(const nano_step *step, const nano_node *node) {
    int64_t rows = nano_step_rows(step, &node->out);
    return nano_step_is_wide(step, rows) ? (rows + NANO_WIDE_GROUP - 1) / NANO_WIDE_GROUP : rows;
}

uint64_t nano_quantize_scratch(const nano_node *node, bool wide) {
    return node->norm == NANO_OP_NONE ? 0 : (uint64_t)node->out.ne[0] * sizeof(float) * (wide ? NANO_WIDE_GROUP : 1);
}

/* n rows from `first` as f32, stride elements apart: the source's own, or in the working space after a norm. */
static const float *rows_in(const nano_step *step, const nano_node *node, int64_t first, int64_t n, int thread,
                            int64_t *stride) {
    if (node->norm == NANO_OP_NONE) {
        *stride = (int64_t)(node->src[0].row_bytes / sizeof(float));
        return nano_row(&node->src[0], first);
    }
    float *rows = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    *stride = node->out.ne[0];
    for (int64_t i = 0; i < n; i++) {
        nano_norm_row(step, node, node->norm, first + i, rows + i * *stride);
    }
    return rows;
}

void nano_forward_quantize(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    int64_t n = node->out.ne[0], rows = nano_step_rows(step, &node->out), stride = 0;
    if (nano_step_is_wide(step, rows)) {
        for (int64_t g = first; g < last; g++) {
            int64_t n_cols = nano_min_i64(rows - g * NANO_WIDE_GROUP, NANO_WIDE_GROUP);
            const float *x = rows_in(step, node, g * NANO_WIDE_GROUP, n_cols, thread, &stride);
            step->kernels->wide_pack(x, stride, n_cols, node->out_data + (size_t)g * nano_wide_group_bytes(n), n);
        }
        return;
    }
    nano_convert_fn *convert = nano_kernels_quantize(step->kernels, node->out.type);
    for (int64_t i = first; i < last; i++) {
        convert(rows_in(step, node, i, 1, thread, &stride), node->out_data + (size_t)i * node->out.row_bytes, n);
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
