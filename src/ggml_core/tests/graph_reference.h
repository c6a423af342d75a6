/* What a graph's forward ops mean, in f64 and as plainly as can be: to compare the core with, and to differentiate by
 * finite differences. */
#ifndef NANO_TESTS_GRAPH_REFERENCE_H
#define NANO_TESTS_GRAPH_REFERENCE_H

#include "graph/graph.h"
#include "tests/check.h"

#include <math.h>
#include <stdlib.h>

/* A step's inputs, and the value of every tensor: (rows, row size). A cache after a write has the rows written. */
typedef struct reference {
    const nano_graph *graph;
    int32_t n_tokens, n_wanted;
    const int32_t *tokens, *slots, *positions; /* (n_tokens) */
    const int32_t *wanted, *targets;           /* (n_wanted) */
    const double *weights;                     /* (n_wanted) */
    double **values;                           /* (n_tensors); those of weights are the caller's to fill */
} reference;

static inline int64_t reference_rows(const reference *r, const nano_tensor *t) {
    int64_t dim = nano_tensor_rows_dim(t);
    return dim == NANO_DIM_T ? r->n_tokens : dim == NANO_DIM_W ? r->n_wanted : 1;
}

static inline int64_t reference_size(const reference *r, int32_t i) {
    const nano_tensor *t = &r->graph->tensors[i];
    int64_t n = nano_tensor_row_size(t);
    return t->storage == NANO_STORE_WEIGHT ? n : n * (t->op == NANO_OP_KV_WRITE ? r->n_tokens : reference_rows(r, t));
}

static inline void reference_open(reference *r) {
    r->values = calloc((size_t)r->graph->n_tensors, sizeof *r->values);
    for (int32_t i = 0; i < r->graph->n_tensors; i++) {
        r->values[i] = calloc((size_t)reference_size(r, i) + 1, sizeof *r->values[i]);
    }
}

static inline void reference_close(reference *r) {
    for (int32_t i = 0; i < r->graph->n_tensors; i++) {
        free(r->values[i]);
    }
    free(r->values);
}

/* An op with its sources' values. */
typedef struct reference_op {
    const nano_tensor *t;
    const nano_tensor *src[NANO_MAX_SRC];
    const double *x[NANO_MAX_SRC];
    double *y;
    int64_t rows, row; /* of the result */
} reference_op;

static inline double reference_act(double x, int64_t act) {
    const double inner = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return act == NANO_ACT_GELU ? 0.5 * x * (1.0 + tanh(inner)) : act == NANO_ACT_SILU ? x / (1.0 + exp(-x)) : x;
}

static inline void reference_do_rows(const reference *r, const reference_op *o) {
    const int32_t kind = o->src[1]->index;
    const int32_t *index = kind == NANO_INPUT_TOKENS ? r->tokens : kind == NANO_INPUT_WANTED ? r->wanted : r->positions;
    for (int64_t i = 0; i < o->rows; i++) {
        memcpy(o->y + i * o->row, o->x[0] + index[i] * o->row, (size_t)o->row * sizeof *o->y);
    }
}

static inline void reference_do_linear(const reference_op *o) {
    const int64_t n_in = o->src[1]->ne[0];
    for (int64_t i = 0; i < o->rows; i++) {
        for (int64_t j = 0; j < o->row; j++) {
            double sum = o->x[2] == NULL ? 0.0 : o->x[2][j];
            for (int64_t k = 0; k < n_in; k++) {
                sum += o->x[0][i * n_in + k] * o->x[1][j * n_in + k];
            }
            o->y[i * o->row + j] = reference_act(sum, o->t->params.ints[0]);
        }
    }
}

static inline void reference_do_norm(const reference_op *o) {
    const int64_t n = o->t->ne[0];
    for (int64_t i = 0; i < o->rows * o->row; i += n) {
        double mean = 0.0, square = 0.0;
        for (int64_t k = 0; k < n && o->t->op == NANO_OP_NORM; k++) {
            mean += o->x[0][i + k] / (double)n;
        }
        for (int64_t k = 0; k < n; k++) {
            square += (o->x[0][i + k] - mean) * (o->x[0][i + k] - mean) / (double)n;
        }
        for (int64_t k = 0; k < n; k++) {
            double z = (o->x[0][i + k] - mean) / sqrt(square + o->t->params.floats[0]);
            o->y[i + k] = z * o->x[1][k] + (o->x[2] == NULL ? 0.0 : o->x[2][k]);
        }
    }
}

/* Without scaling of the context. */
static inline void reference_do_rope(const reference *r, const reference_op *o) {
    const nano_params *table = &o->src[1]->params;
    const int64_t n = o->t->ne[0], n_rot = table->ints[0], heads = o->row / n;
    const bool pairs = o->t->params.ints[0] == NANO_ROPE_PAIRS;
    memcpy(o->y, o->x[0], (size_t)(o->rows * o->row) * sizeof *o->y);
    for (int64_t i = 0; i < o->rows * heads; i++) {
        for (int64_t k = 0; k < n_rot / 2; k++) {
            /* The angle is rounded as the core rounds it: at high positions that is what differs. */
            float freq = (float)pow(table->floats[0], -2.0 * (double)k / (double)n_rot);
            double angle = (double)((float)r->positions[i / heads] * freq);
            int64_t a = i * n + (pairs ? 2 * k : k), b = pairs ? a + 1 : a + n_rot / 2;
            o->y[a] = o->x[0][a] * cos(angle) - o->x[0][b] * sin(angle);
            o->y[b] = o->x[0][a] * sin(angle) + o->x[0][b] * cos(angle);
        }
    }
}

/* The output of one head of one token. */
static inline void reference_attend(const reference *r, const reference_op *o, int64_t i, int64_t h, double *y) {
    const int64_t head_dim = o->src[0]->ne[0], n_head = o->src[0]->ne[1], n_kv = o->src[1]->ne[1];
    const int64_t v_dim = o->src[2]->ne[0], window = o->t->params.ints[0], group = h / (n_head / n_kv);
    const double scale = o->t->params.floats[0] == 0.0 ? 1.0 / sqrt((double)head_dim) : o->t->params.floats[0];
    const double cap = o->t->params.floats[1];
    double sum = 0.0;
    memset(y, 0, (size_t)v_dim * sizeof *y);
    for (int32_t j = 0; j < r->n_tokens; j++) {
        const int32_t back = r->positions[i] - r->positions[j];
        if (r->slots[j] != r->slots[i] || back < 0 || (window > 0 && back >= window)) {
            continue;
        }
        double score = 0.0;
        for (int64_t k = 0; k < head_dim; k++) {
            score += scale * o->x[0][(i * n_head + h) * head_dim + k] * o->x[1][(j * n_kv + group) * head_dim + k];
        }
        const double p = exp(cap > 0.0 ? cap * tanh(score / cap) : score);
        sum += p;
        for (int64_t k = 0; k < v_dim; k++) {
            y[k] += p * o->x[2][(j * n_kv + group) * v_dim + k];
        }
    }
    for (int64_t k = 0; k < v_dim; k++) {
        y[k] /= sum;
    }
}

static inline void reference_do_attention(const reference *r, const reference_op *o) {
    const int64_t n_head = o->src[0]->ne[1], v_dim = o->src[2]->ne[0];
    for (int64_t i = 0; i < o->rows * n_head; i++) {
        reference_attend(r, o, i / n_head, i % n_head, o->y + i * v_dim);
    }
}

static inline void reference_do_view(const reference_op *o) {
    const int64_t from = nano_tensor_row_size(o->src[0]);
    for (int64_t i = 0; i < o->rows; i++) {
        memcpy(o->y + i * o->row, o->x[0] + i * from + o->t->params.ints[0], (size_t)o->row * sizeof *o->y);
    }
}

static inline void reference_do_elements(const reference_op *o) {
    const int64_t n = o->rows * o->row;
    const bool vector = o->src[1] != NULL && o->src[1]->storage == NANO_STORE_WEIGHT;
    for (int64_t i = 0; i < n; i++) {
        const double a = o->x[0][i], b = o->x[1] == NULL ? 0.0 : o->x[1][vector ? i % o->src[1]->ne[0] : i];
        switch (o->t->op) {
            case NANO_OP_GELU: o->y[i] = reference_act(a, NANO_ACT_GELU); break;
            case NANO_OP_SILU: o->y[i] = reference_act(a, NANO_ACT_SILU); break;
            case NANO_OP_SWIGLU: o->y[i] = reference_act(a, NANO_ACT_SILU) * b; break;
            case NANO_OP_ADD: o->y[i] = a + b; break;
            case NANO_OP_MUL: o->y[i] = a * b; break;
            case NANO_OP_SCALE: o->y[i] = a * o->t->params.floats[0]; break;
            default: CHECK(!"an op of the reference"); break;
        }
    }
}

static inline void reference_do_loss(const reference *r, const reference_op *o) {
    o->y[0] = 0.0;
    if (o->t->op == NANO_OP_SUM) {
        const int64_t n = reference_rows(r, o->src[0]) * nano_tensor_row_size(o->src[0]);
        for (int64_t i = 0; i < n; i++) {
            o->y[0] += o->t->params.floats[0] * o->x[0][i];
        }
        return;
    }
    const int64_t n = o->src[0]->ne[0];
    for (int32_t i = 0; i < r->n_wanted; i++) {
        double sum = 0.0;
        for (int64_t k = 0; k < n; k++) {
            sum += exp(o->x[0][i * n + k]);
        }
        o->y[0] += r->weights[i] * (log(sum) - o->x[0][i * n + r->targets[i]]);
    }
}

static inline void reference_do(const reference *r, int32_t i) {
    const nano_tensor *t = &r->graph->tensors[i];
    reference_op o = {.t = t, .y = r->values[i], .rows = reference_rows(r, t), .row = nano_tensor_row_size(t)};
    for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
        o.src[k] = &r->graph->tensors[t->src[k]];
        o.x[k] = r->values[t->src[k]];
    }
    switch (t->op) {
        case NANO_OP_ROWS: reference_do_rows(r, &o); break;
        case NANO_OP_LINEAR: reference_do_linear(&o); break;
        case NANO_OP_NORM:
        case NANO_OP_RMS_NORM: reference_do_norm(&o); break;
        case NANO_OP_VIEW: reference_do_view(&o); break;
        case NANO_OP_ROPE_TABLE: break; /* rope computes what it needs */
        case NANO_OP_ROPE: reference_do_rope(r, &o); break;
        case NANO_OP_KV_WRITE: memcpy(o.y, o.x[0], (size_t)(r->n_tokens * o.row) * sizeof *o.y); break;
        case NANO_OP_ATTENTION: reference_do_attention(r, &o); break;
        case NANO_OP_CROSS_ENTROPY:
        case NANO_OP_SUM: reference_do_loss(r, &o); break;
        default: reference_do_elements(&o); break;
    }
}

/* Computes tensors first .. last. */
static inline void reference_run(const reference *r, int32_t first, int32_t last) {
    for (int32_t i = first; i <= last; i++) {
        if (r->graph->tensors[i].op != NANO_OP_NONE) {
            reference_do(r, i);
        }
    }
}

#endif
