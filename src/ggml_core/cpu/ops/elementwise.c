/* Ops on each row by itself: a unit is a row. Rows of several groups (heads) are contiguous, so that one kernel call
 * covers them, but for norms, which are over the innermost dim. */
#include "cpu/exec.h"

static int64_t rows(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

static int64_t row_size(const nano_operand *o) { return o->ne[0] * o->ne[1]; }

int64_t nano_units_norm(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_rms_norm(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_gelu(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_silu(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_scale(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_swiglu(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_add(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_mul(const nano_step *step, const nano_node *node) { return rows(step, node); }

int64_t nano_units_gelu_grad(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_silu_grad(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_swiglu_grad(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_norm_grad_x(const nano_step *step, const nano_node *node) { return rows(step, node); }
int64_t nano_units_rms_norm_grad_x(const nano_step *step, const nano_node *node) { return rows(step, node); }

void nano_norm_row(const nano_step *step, const nano_node *node, nano_op op, int64_t row, float *y) {
    nano_norm_fn *norm = op == NANO_OP_NORM ? step->kernels->norm : step->kernels->rms_norm;
    const float *w = nano_vector(&node->src[1]), *b = nano_vector(&node->src[2]), *x = nano_row(&node->src[0], row);
    int64_t n = node->out.ne[0];
    for (int64_t g = 0; g < node->out.ne[1]; g++) {
        norm(x + g * n, w, b, (float)node->params.floats[0], y + g * n, n);
    }
}

void nano_forward_norm(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    for (int64_t i = first; i < last; i++) {
        nano_norm_row(step, node, node->op, i, nano_out_row(node, i));
    }
}

void nano_forward_rms_norm(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    nano_forward_norm(step, node, first, last, thread);
}

static void forward_unary(nano_unary_fn *f, const nano_node *node, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
        f(nano_row(&node->src[0], i), nano_out_row(node, i), row_size(&node->out));
    }
}

void nano_forward_gelu(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    forward_unary(step->kernels->gelu, node, first, last);
}

void nano_forward_silu(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    forward_unary(step->kernels->silu, node, first, last);
}

void nano_forward_scale(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    for (int64_t i = first; i < last; i++) {
        step->kernels->scale(nano_row(&node->src[0], i), (float)node->params.floats[0], nano_out_row(node, i),
                             row_size(&node->out));
    }
}

/* b: another activation, or one vector for every group of every row. */
static void forward_binary(nano_binary_fn *f, const nano_node *node, int64_t first, int64_t last) {
    const nano_operand *a = &node->src[0], *b = &node->src[1];
    bool is_vector = nano_region_is_weight(b->region);
    int64_t n = is_vector ? node->out.ne[0] : row_size(&node->out);
    int64_t groups = is_vector ? node->out.ne[1] : 1;
    for (int64_t i = first; i < last; i++) {
        const float *row = is_vector ? nano_vector(b) : nano_row(b, i);
        for (int64_t g = 0; g < groups; g++) {
            f(nano_row(a, i) + g * n, row, nano_out_row(node, i) + g * n, n);
        }
    }
}

void nano_forward_swiglu(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    forward_binary(step->kernels->swiglu, node, first, last);
}

void nano_forward_add(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    forward_binary(step->kernels->add, node, first, last);
}

void nano_forward_mul(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    forward_binary(step->kernels->mul, node, first, last);
}

/* --------------------------------------------------------------- gradients */

void nano_forward_gelu_grad(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    forward_binary(step->kernels->gelu_grad, node, first, last);
}

void nano_forward_silu_grad(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    forward_binary(step->kernels->silu_grad, node, first, last);
}

void nano_forward_swiglu_grad(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const int64_t n = row_size(&node->src[0]);
    for (int64_t i = first; i < last; i++) {
        float *y = nano_out_row(node, i);
        step->kernels->swiglu_grad(nano_row(&node->src[0], i), nano_row(&node->src[1], i), nano_row(&node->src[2], i),
                                   y, y + n, n);
    }
}

void nano_forward_norm_grad_x(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    nano_norm_grad_fn *grad = node->op == NANO_OP_NORM_GRAD_X ? step->kernels->norm_grad : step->kernels->rms_norm_grad;
    const float *w = nano_vector(&node->src[1]);
    const int64_t n = node->out.ne[0];
    for (int64_t i = first; i < last; i++) {
        const float *x = nano_row(&node->src[0], i), *d = nano_row(&node->src[2], i);
        float *y = nano_out_row(node, i);
        for (int64_t g = 0; g < node->out.ne[1]; g++) {
            grad(x + g * n, w, d + g * n, (float)node->params.floats[0], y + g * n, n);
        }
    }
}

void nano_forward_rms_norm_grad_x(const nano_step *step, const nano_node *node, int64_t first, int64_t last,
                                  int thread) {
    nano_forward_norm_grad_x(step, node, first, last, thread);
}
