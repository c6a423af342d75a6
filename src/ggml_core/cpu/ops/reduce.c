/*
 * Sums over the step's rows, added to a parameter's gradient.
 *
 * A unit is some columns: it adds up all rows in their order, so which thread runs it changes nothing. BLOCK_LINES rows
 * at a time are added up by themselves first: long sums of f32 lose less.
 */
#include "base/arith.h"
#include "cpu/exec.h"

#include <string.h>

enum { UNIT_COLUMNS = 128, BLOCK_LINES = 32 };

static int64_t column_units(const nano_operand *into) { return (into->ne[0] + UNIT_COLUMNS - 1) / UNIT_COLUMNS; }

/* A line is one group of a row. */
static int64_t n_lines(const nano_step *step, const nano_operand *o) { return nano_step_rows(step, o) * o->ne[1]; }

static const float *line_at(const nano_operand *o, int64_t line) {
    return nano_row(o, line / o->ne[1]) + line % o->ne[1] * o->ne[0];
}

/* sum[i] += what line `line` contributes to column `column` + i, i < n <= UNIT_COLUMNS. */
typedef void contribute_fn(const nano_step *step, const nano_node *node, int64_t line, int64_t column, int64_t n,
                           float *sum, int thread);

static void reduce(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread,
                   contribute_fn *contribute) {
    const int64_t lines = n_lines(step, &node->src[0]);
    for (int64_t u = first; u < last; u++) {
        const int64_t column = u * UNIT_COLUMNS, n = nano_min_i64(UNIT_COLUMNS, node->out.ne[0] - column);
        float *into = nano_out_row(node, 0) + column;
        for (int64_t block = 0; block < lines; block += BLOCK_LINES) {
            float sum[UNIT_COLUMNS] = {0};
            for (int64_t l = block; l < nano_min_i64(block + BLOCK_LINES, lines); l++) {
                contribute(step, node, l, column, n, sum, thread);
            }
            step->kernels->add(into, sum, into, n);
        }
    }
}

int64_t nano_units_sum_rows(const nano_step *step, const nano_node *node) {
    (void)step;
    return column_units(&node->out);
}
int64_t nano_units_sum_products(const nano_step *step, const nano_node *node) {
    return nano_units_sum_rows(step, node);
}
int64_t nano_units_norm_grad_w(const nano_step *step, const nano_node *node) { return nano_units_sum_rows(step, node); }
int64_t nano_units_rms_norm_grad_w(const nano_step *step, const nano_node *node) {
    return nano_units_sum_rows(step, node);
}

static void contribute_line(const nano_step *step, const nano_node *node, int64_t line, int64_t column, int64_t n,
                            float *sum, int thread) {
    (void)thread;
    step->kernels->add(sum, line_at(&node->src[0], line) + column, sum, n);
}

void nano_forward_sum_rows(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    reduce(step, node, first, last, thread, contribute_line);
}

static void add_products(const nano_kernels *kernels, const float *a, const float *b, int64_t n, float *sum) {
    float products[UNIT_COLUMNS];
    kernels->mul(a, b, products, n);
    kernels->add(sum, products, sum, n);
}

static void contribute_product(const nano_step *step, const nano_node *node, int64_t line, int64_t column, int64_t n,
                               float *sum, int thread) {
    (void)thread;
    add_products(step->kernels, line_at(&node->src[0], line) + column, line_at(&node->src[1], line) + column, n, sum);
}

void nano_forward_sum_products(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    reduce(step, node, first, last, thread, contribute_product);
}

/* ----------------------------------------------- the gradient of a norm's w */

uint64_t nano_norm_grad_w_scratch(const nano_node *node) { return (uint64_t)node->out.ne[0] * sizeof(float); }

/* Every unit normalises every line anew: little beside the products of matrices round a norm, and nothing to keep. */
static void contribute_norm(const nano_step *step, const nano_node *node, int64_t line, int64_t column, int64_t n,
                            float *sum, int thread) {
    nano_norm_fn *norm = node->op == NANO_OP_NORM_GRAD_W ? step->kernels->norm : step->kernels->rms_norm;
    float *y = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    norm(line_at(&node->src[0], line), NULL, NULL, (float)node->params.floats[0], y, node->out.ne[0]);
    add_products(step->kernels, y + column, line_at(&node->src[1], line) + column, n, sum);
}

void nano_forward_norm_grad_w(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    reduce(step, node, first, last, thread, contribute_norm);
}

void nano_forward_rms_norm_grad_w(const nano_step *step, const nano_node *node, int64_t first, int64_t last,
                                  int thread) {
    nano_forward_norm_grad_w(step, node, first, last, thread);
}

/* ------------------------------------------------- the gradient of a table */

int64_t nano_units_rows_grad(const nano_step *step, const nano_node *node) {
    (void)step;
    return column_units(&node->out);
}

void nano_forward_rows_grad(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const nano_operand *d = &node->src[0];
    const int32_t *index = (const int32_t *)(const void *)node->src[1].data;
    const int64_t from = first * UNIT_COLUMNS, n = nano_min_i64(last * UNIT_COLUMNS, node->out.ne[0]) - from;
    for (int64_t t = 0; t < nano_step_rows(step, d); t++) {
        float *row = nano_out_row(node, index[t]) + from;
        step->kernels->add(row, nano_row(d, t) + from, row, n);
    }
}
