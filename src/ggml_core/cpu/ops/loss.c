/* Losses and where their gradients begin: sums over rows, and the cross entropy of a softmax. */
#include "base/arith.h"
#include "cpu/exec.h"

#include <math.h>
#include <string.h>

/* Elements whose exponentials are added in f32; their sums are added in f64. */
enum { PIECE = 512 };

/* The planner has cross_entropy and sum read f64, one a row, that a node before them has made with all threads:
 * nano_forward_row_losses and nano_forward_row_sums. Here they are added up in their order. */
static double sum_parts(const nano_step *step, const nano_node *node) {
    const double *parts = (const double *)(const void *)node->src[0].data;
    const int64_t n_rows = nano_step_rows(step, &node->src[0]);
    double sum = 0.0;
    for (int64_t i = 0; i < n_rows; i++) {
        sum += parts[i];
    }
    return sum;
}

static int64_t one(const nano_step *step, const nano_node *node) {
    (void)step;
    (void)node;
    return 1;
}

int64_t nano_units_cross_entropy(const nano_step *step, const nano_node *node) { return one(step, node); }
int64_t nano_units_sum(const nano_step *step, const nano_node *node) { return one(step, node); }

void nano_forward_cross_entropy(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    if (first < last) {
        *nano_out_row(node, 0) = (float)sum_parts(step, node);
    }
}

void nano_forward_sum(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    if (first < last) {
        *nano_out_row(node, 0) = (float)(node->params.floats[0] * sum_parts(step, node));
    }
}

/* ---------------------------------------------------------- parts by rows */

static double *part(const nano_node *node, int64_t row) {
    return (double *)(void *)(node->out_data + (size_t)row * node->out.row_bytes);
}

int64_t nano_units_row_sums(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }
int64_t nano_units_row_losses(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

void nano_forward_row_sums(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)step;
    (void)thread;
    const nano_operand *x = &node->src[0];
    for (int64_t i = first; i < last; i++) {
        const float *row = nano_row(x, i);
        double sum = 0.0;
        for (int64_t k = 0; k < x->ne[0] * x->ne[1]; k++) {
            sum += (double)row[k];
        }
        *part(node, i) = sum;
    }
}

/* One row of logits, what it should predict, and what it counts. */
typedef struct example {
    const float *logits;
    int64_t n;
    int64_t target;
    float weight;
} example;

static example example_of(const nano_node *node, int64_t row) {
    const int32_t *targets = (const int32_t *)(const void *)node->src[1].data;
    const float *weights = (const float *)(const void *)node->src[2].data;
    return (example){nano_row(&node->src[0], row), node->src[0].ne[0], targets[row], weights[row]};
}

/* -log softmax(x)[target] = max + log sum exp(x - max) - x[target]: no exponential overflows. */
static double row_loss(const nano_kernels *kernels, const example *e) {
    float powers[PIECE];
    const float max = kernels->max(e->logits, e->n);
    double sum = 0.0;
    for (int64_t i = 0; i < e->n; i += PIECE) {
        const int64_t n = nano_min_i64(PIECE, e->n - i);
        memcpy(powers, e->logits + i, (size_t)n * sizeof *powers);
        sum += (double)kernels->exp_sum(powers, max, n);
    }
    return (double)max + log(sum) - (double)e->logits[e->target];
}

void nano_forward_row_losses(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    for (int64_t i = first; i < last; i++) {
        const example e = example_of(node, i);
        *part(node, i) = e.weight == 0.0f ? 0.0 : (double)e.weight * row_loss(step->kernels, &e);
    }
}

/* --------------------------------------------------------------- gradients */

int64_t nano_units_cross_entropy_grad(const nano_step *step, const nano_node *node) {
    return nano_step_rows(step, &node->out);
}

/* weight * (softmax(x) - 1 at the target). y may be the logits. */
static void row_gradient(const nano_kernels *kernels, const example *e, float *y) {
    const float max = kernels->max(e->logits, e->n);
    double sum = 0.0;
    if (y != e->logits) {
        memcpy(y, e->logits, (size_t)e->n * sizeof *y);
    }
    for (int64_t i = 0; i < e->n; i += PIECE) {
        sum += (double)kernels->exp_sum(y + i, max, nano_min_i64(PIECE, e->n - i));
    }
    kernels->scale(y, (float)((double)e->weight / sum), y, e->n);
    y[e->target] -= e->weight;
}

void nano_forward_cross_entropy_grad(const nano_step *step, const nano_node *node, int64_t first, int64_t last,
                                     int thread) {
    (void)thread;
    for (int64_t i = first; i < last; i++) {
        const example e = example_of(node, i);
        if (e.weight == 0.0f) {
            memset(nano_out_row(node, i), 0, (size_t)e.n * sizeof(float));
        } else {
            row_gradient(step->kernels, &e, nano_out_row(node, i));
        }
    }
}

int64_t nano_units_fill(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

void nano_forward_fill(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)step;
    (void)thread;
    for (int64_t i = first; i < last; i++) {
        float *y = nano_out_row(node, i);
        for (int64_t k = 0; k < node->out.ne[0] * node->out.ne[1]; k++) {
            y[k] = (float)node->params.floats[0];
        }
    }
}
