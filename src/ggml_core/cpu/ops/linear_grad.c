/* The gradients of y = x w^T: of x, d w, and of w, d^T x. */
#include "cpu/exec.h"
#include "cpu/product.h"

static nano_factor factor(const nano_operand *o, bool by_terms) {
    return (nano_factor){.data = o->data, .row_bytes = o->row_bytes, .type = o->type, .by_terms = by_terms};
}

static nano_product of_x(const nano_step *step, const nano_node *node) {
    const nano_operand *d = &node->src[0], *w = &node->src[1];
    return (nano_product){.n_rows = nano_step_rows(step, d),
                          .n_cols = w->ne[0],
                          .n_terms = d->ne[0],
                          .a = factor(d, false),
                          .b = factor(w, true),
                          .c = nano_out_row(node, 0),
                          .c_stride = (int64_t)(node->out.row_bytes / sizeof(float))};
}

static nano_product of_w(const nano_step *step, const nano_node *node) {
    const nano_operand *d = &node->src[0], *x = &node->src[1];
    return (nano_product){.n_rows = d->ne[0],
                          .n_cols = x->ne[0],
                          .n_terms = nano_step_rows(step, d),
                          .a = factor(d, true),
                          .b = factor(x, true),
                          .c = nano_out_row(node, 0),
                          .c_stride = x->ne[0],
                          .add = true};
}

static void run(const nano_step *step, const nano_product *p, int64_t first, int64_t last, int thread) {
    float *scratch = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    for (nano_block block; nano_product_next(p, &first, last, &block);) {
        nano_product_block(step->kernels, p, &block, scratch);
    }
}

int64_t nano_units_linear_grad_x(const nano_step *step, const nano_node *node) {
    const nano_product p = of_x(step, node);
    return nano_product_units(&p);
}

void nano_forward_linear_grad_x(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    const nano_product p = of_x(step, node);
    run(step, &p, first, last, thread);
}

int64_t nano_units_linear_grad_w(const nano_step *step, const nano_node *node) {
    const nano_product p = of_w(step, node);
    return p.n_terms == 0 ? 0 : nano_product_units(&p);
}

void nano_forward_linear_grad_w(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    const nano_product p = of_w(step, node);
    run(step, &p, first, last, thread);
}

uint64_t nano_linear_grad_x_scratch(const nano_node *node, int64_t rows) {
    return nano_product_scratch(rows, node->src[1].ne[0], node->src[0].ne[0]);
}

uint64_t nano_linear_grad_w_scratch(const nano_node *node, int64_t n_tokens) {
    return nano_product_scratch(node->src[0].ne[0], node->src[1].ne[0], n_tokens);
}
