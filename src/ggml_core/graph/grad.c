/*
 * Automatic differentiation, in reverse: from the loss back to the parameters, each op that lies between gives each of
 * its sources what the loss changes by when that source does, given the same of its own result. What several readers
 * give one tensor is added up.
 *
 * An op's derivative is one row of one table, a function that appends ordinary ops. Only tensors that depend on a
 * parameter are given anything, so nothing is computed for a frozen weight, and what lies before the first parameter
 * is not differentiated at all. A parameter's gradient lives in the session: ops add to it in place.
 *
 * Views of a tensor give it pieces of its rows: those are put next to each other where they do not overlap, which
 * costs one pass, and none when they lie so already (the gradient of a fused Q, K, V).
 */
#include "graph/grad.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- appending */

/* Parameters of an op to append; the rest are zeros. */
typedef struct settings {
    int64_t ints[NANO_MAX_INTS];
    double floats[NANO_MAX_FLOATS];
} settings;

/* Appends an op over up to four sources, -1 for none; -1 after a failure. */
static int32_t op_with(nano_backward *b, const char *name, const int32_t src[NANO_MAX_SRC], const settings *s) {
    int32_t out = -1;
    const nano_op_info *info = nano_op_by_name(name);
    if (b->status == NANO_OK && info == NULL) {
        b->status = nano_fail(b->err, NANO_ERR_INTERNAL, "gradient: op %s is not in the table of ops", name);
    }
    if (b->status == NANO_OK) {
        b->status = nano_graph_op(b->graph, name, NANO_MAX_SRC, src, info->max_ints, s->ints, info->max_floats,
                                  s->floats, &out, b->err);
    }
    return out;
}

static int32_t op(nano_backward *b, const char *name, int32_t x, int32_t y, int32_t z) {
    return op_with(b, name, (int32_t[NANO_MAX_SRC]){x, y, z, -1}, &(settings){{0}, {0}});
}

/* The same with one float. */
static int32_t op_float(nano_backward *b, const char *name, int32_t x, int32_t y, int32_t z, double value) {
    return op_with(b, name, (int32_t[NANO_MAX_SRC]){x, y, z, -1}, &(settings){{0}, {value}});
}

/* A piece of each of x's rows, of the shape of tensor `like`. */
static int32_t piece_of(nano_backward *b, int32_t x, int64_t at, int32_t like) {
    const nano_tensor *t = &b->graph->tensors[like];
    settings s = {{at, t->n_dims - 1, t->ne[0], t->n_dims == 3 ? t->ne[1] : 0}, {0}};
    return op_with(b, "view", (int32_t[NANO_MAX_SRC]){x, -1, -1, -1}, &s);
}

/* ------------------------------------------------------------------- giving */

/* An op being differentiated: a copy, since appending moves tensors. */
typedef struct node {
    int32_t index;
    nano_tensor t;
    int32_t d; /* the gradient of its result; -1 for the loss, whose is 1 */
} node;

static bool wants(const nano_backward *b, const node *n, int k) {
    return n->t.src[k] >= 0 && b->states[n->t.src[k]].depends;
}

/* The value of source k, for a gradient to read. */
static int32_t value(nano_backward *b, const node *n, int k) {
    return n->t.src[k] < 0 || b->status != NANO_OK ? -1 : nano_backward_value(b, n->t.src[k]);
}

/* Adds d to the gradient of an activation. */
static void give_tensor(nano_backward *b, int32_t i, int32_t d) {
    nano_grad_state *state = &b->states[i];
    state->gradient = state->gradient < 0 ? d : op(b, "add", state->gradient, d, -1);
}

static void give(nano_backward *b, const node *n, int k, int32_t d) { give_tensor(b, n->t.src[k], d); }

/* Where the gradient of source k, a parameter, is added to. */
static int32_t into(nano_backward *b, const node *n, int k) {
    nano_grad_state *state = &b->states[n->t.src[k]];
    if (b->status == NANO_OK && state->gradient < 0) {
        b->status = nano_graph_gradient(b->graph, n->t.src[k], &state->gradient, b->err);
    }
    return state->gradient;
}

static bool is_weight(const nano_backward *b, const node *n, int k) {
    return b->graph->tensors[n->t.src[k]].storage == NANO_STORE_WEIGHT;
}

/* ------------------------------------------------------------------- views */

/* A known piece of the gradient of a tensor's rows: d, which lies in d's root from `from` on. */
typedef struct piece {
    int64_t at, size; /* in a row */
    int32_t d;        /* -1: several next to each other */
    int32_t root;
    int64_t from;
} piece;

/* Takes views out of tensor i's list whose pieces do not overlap, in order, at most as many as join takes. */
static int take_pieces(nano_backward *b, int32_t i, piece pieces[NANO_MAX_SRC]) {
    int n = 0;
    for (int32_t *link = &b->states[i].views; *link >= 0 && n < NANO_MAX_SRC;) {
        const int32_t view = *link, d = b->states[view].gradient;
        const nano_tensor *t = &b->graph->tensors[view], *from = &b->graph->tensors[d];
        const piece p = {t->root_offset, nano_tensor_row_size(t), d, from->root, from->root_offset};
        int place = 0;
        bool overlaps = false;
        for (int k = 0; k < n; k++) {
            overlaps = overlaps || (p.at < pieces[k].at + pieces[k].size && pieces[k].at < p.at + p.size);
            place += pieces[k].at < p.at ? 1 : 0;
        }
        if (overlaps) {
            link = &b->states[view].next_view;
            continue;
        }
        memmove(&pieces[place + 1], &pieces[place], (size_t)(n - place) * sizeof p);
        pieces[place] = p;
        n++;
        *link = b->states[view].next_view;
    }
    return n;
}

/* Pieces that lie next to each other in one tensor as they should in the row become one. */
static int merge_pieces(piece *pieces, int n) {
    int merged = 0;
    for (int k = 1; k < n; k++) {
        piece *last = &pieces[merged];
        const piece *p = &pieces[k];
        if (last->root == p->root && last->at + last->size == p->at && last->from + last->size == p->from) {
            last->size += p->size;
            last->d = -1;
        } else {
            pieces[++merged] = *p;
        }
    }
    return merged + 1;
}

static int32_t join(nano_backward *b, int32_t i, const piece *pieces, int n) {
    const int64_t size = nano_tensor_row_size(&b->graph->tensors[i]);
    if (n == 1 && pieces[0].size == size) {
        return piece_of(b, pieces[0].root, pieces[0].from, i);
    }
    settings s = {{size}, {0}};
    int32_t src[NANO_MAX_SRC] = {-1, -1, -1, -1};
    for (int k = 0; k < n; k++) {
        const settings cut = {{pieces[k].from, 1, pieces[k].size}, {0}};
        const int32_t whole[NANO_MAX_SRC] = {pieces[k].root, -1, -1, -1};
        src[k] = pieces[k].d >= 0 ? pieces[k].d : op_with(b, "view", whole, &cut);
        s.ints[1 + k] = pieces[k].at;
    }
    const int32_t joined = op_with(b, "join", src, &s);
    return b->graph->tensors[i].n_dims == 2 ? joined : piece_of(b, joined, 0, i);
}

/* All that the views of tensor i give it. */
static void collect_views(nano_backward *b, int32_t i) {
    while (b->status == NANO_OK && b->states[i].views >= 0) {
        piece pieces[NANO_MAX_SRC];
        const int n = merge_pieces(pieces, take_pieces(b, i, pieces));
        give_tensor(b, i, join(b, i, pieces, n));
    }
}

/* -------------------------------------------------------------- derivatives */

static void grad_rows(nano_backward *b, const node *n) {
    if (is_weight(b, n, 0)) {
        (void)op(b, "rows_grad", n->d, n->t.src[1], into(b, n, 0));
    } else {
        give(b, n, 0, op(b, "spread", n->d, n->t.src[1], -1));
    }
}

/* What goes into a fused activation is computed again. */
static int32_t before_activation(nano_backward *b, const node *n) {
    const int32_t z = op(b, "linear", value(b, n, 0), n->t.src[1], n->t.src[2]);
    return op(b, n->t.params.ints[0] == NANO_ACT_GELU ? "gelu_grad" : "silu_grad", z, n->d, -1);
}

static void grad_linear(nano_backward *b, const node *n) {
    const int32_t d = n->t.params.ints[0] == NANO_ACT_NONE ? n->d : before_activation(b, n);
    if (wants(b, n, 1)) {
        (void)op(b, "linear_grad_w", d, value(b, n, 0), into(b, n, 1));
    }
    if (wants(b, n, 2)) {
        (void)op(b, "sum_rows", d, into(b, n, 2), -1);
    }
    if (wants(b, n, 0)) {
        give(b, n, 0, op(b, "linear_grad_x", d, n->t.src[1], -1));
    }
}

static void grad_norm(nano_backward *b, const node *n) {
    const bool is_rms = n->t.op == NANO_OP_RMS_NORM;
    const double eps = n->t.params.floats[0];
    if (wants(b, n, 1)) {
        (void)op_float(b, is_rms ? "rms_norm_grad_w" : "norm_grad_w", value(b, n, 0), n->d, into(b, n, 1), eps);
    }
    if (wants(b, n, 2)) {
        (void)op(b, "sum_rows", n->d, into(b, n, 2), -1);
    }
    if (wants(b, n, 0)) {
        give(b, n, 0, op_float(b, is_rms ? "rms_norm_grad_x" : "norm_grad_x", value(b, n, 0), n->t.src[1], n->d, eps));
    }
}

/* Its turn comes with its root's. */
static void grad_view(nano_backward *b, const node *n) {
    nano_grad_state *root = &b->states[n->t.root];
    if (n->d < 0) {
        return; /* read by views alone, which have given theirs to the root */
    }
    b->states[n->index].next_view = root->views;
    root->views = n->index;
}

/* A rotation's transpose turns back. */
static void grad_rope(nano_backward *b, const node *n) {
    const settings s = {{n->t.params.ints[0], 1 - n->t.params.ints[1]}, {0}};
    const int32_t table = value(b, n, 1);
    give(b, n, 0, op_with(b, "rope", (int32_t[NANO_MAX_SRC]){n->d, table, -1, -1}, &s));
}

/* Attention has given the cache, after the write, the gradient of what was written. */
static void grad_kv_write(nano_backward *b, const node *n) { give(b, n, 0, n->d); }

static void grad_attention(nano_backward *b, const node *n) {
    settings s;
    int64_t at = 0;
    memcpy(s.ints, n->t.params.ints, sizeof s.ints);
    memcpy(s.floats, n->t.params.floats, sizeof s.floats);
    const int32_t src[NANO_MAX_SRC] = {value(b, n, 0), n->t.src[1], n->t.src[2], n->d};
    const int32_t all = op_with(b, "attention_grad", src, &s);
    for (int k = 0; k < 3; k++) {
        /* k and v are given as the heads that were written. */
        const int32_t heads = k == 0 ? n->t.src[0] : b->graph->tensors[n->t.src[k]].src[0];
        if (wants(b, n, k)) {
            give(b, n, k, piece_of(b, all, at, heads));
        }
        at += nano_tensor_row_size(&b->graph->tensors[heads]);
    }
}

static void grad_unary(nano_backward *b, const node *n) {
    give(b, n, 0, op(b, n->t.op == NANO_OP_GELU ? "gelu_grad" : "silu_grad", value(b, n, 0), n->d, -1));
}

static void grad_swiglu(nano_backward *b, const node *n) {
    const int32_t both = op(b, "swiglu_grad", value(b, n, 0), value(b, n, 1), n->d);
    for (int k = 0; k < 2; k++) {
        if (wants(b, n, k)) {
            give(b, n, k, piece_of(b, both, k * nano_tensor_row_size(&n->t), n->index));
        }
    }
}

static void grad_add(nano_backward *b, const node *n) {
    for (int k = 0; k < 2; k++) {
        if (wants(b, n, k) && is_weight(b, n, k)) {
            (void)op(b, "sum_rows", n->d, into(b, n, k), -1);
        } else if (wants(b, n, k)) {
            give(b, n, k, n->d);
        }
    }
}

static void grad_mul(nano_backward *b, const node *n) {
    for (int k = 0; k < 2; k++) {
        if (wants(b, n, k) && is_weight(b, n, k)) {
            (void)op(b, "sum_products", n->d, value(b, n, 1 - k), into(b, n, k));
        } else if (wants(b, n, k)) {
            give(b, n, k, op(b, "mul", n->d, value(b, n, 1 - k), -1));
        }
    }
}

static void grad_scale(nano_backward *b, const node *n) {
    give(b, n, 0, op_float(b, "scale", n->d, -1, -1, n->t.params.floats[0]));
}

static void grad_sum(nano_backward *b, const node *n) {
    give(b, n, 0, op_float(b, "fill", value(b, n, 0), -1, -1, n->t.params.floats[0]));
}

static void grad_cross_entropy(nano_backward *b, const node *n) {
    give(b, n, 0, op(b, "cross_entropy_grad", value(b, n, 0), n->t.src[1], n->t.src[2]));
}

/* An op's derivative. sources: bit k for each source that it is given for. grad: called when one of them, at least,
 * depends on a parameter. */
typedef struct derivative {
    uint32_t sources;
    void (*grad)(nano_backward *b, const node *n);
} derivative;

static const derivative derivatives[] = {
    [NANO_OP_ROWS] = {1, grad_rows},
    [NANO_OP_LINEAR] = {1 | 2 | 4, grad_linear},
    [NANO_OP_NORM] = {1 | 2 | 4, grad_norm},
    [NANO_OP_RMS_NORM] = {1 | 2, grad_norm},
    [NANO_OP_VIEW] = {1, grad_view},
    [NANO_OP_ROPE] = {1, grad_rope},
    [NANO_OP_KV_WRITE] = {1, grad_kv_write},
    [NANO_OP_ATTENTION] = {1 | 2 | 4, grad_attention},
    [NANO_OP_GELU] = {1, grad_unary},
    [NANO_OP_SILU] = {1, grad_unary},
    [NANO_OP_SWIGLU] = {1 | 2, grad_swiglu},
    [NANO_OP_ADD] = {1 | 2, grad_add},
    [NANO_OP_MUL] = {1 | 2, grad_mul},
    [NANO_OP_SCALE] = {1, grad_scale},
    [NANO_OP_CROSS_ENTROPY] = {1, grad_cross_entropy},
    [NANO_OP_SUM] = {1, grad_sum},
};

static const derivative *derivative_of(nano_op op) {
    static const derivative none = {0, NULL};
    return (size_t)op < sizeof derivatives / sizeof derivatives[0] ? &derivatives[op] : &none;
}

/* ------------------------------------------------------------------- checks */

/* Marks what depends on a parameter, and what the loss depends on. */
static void mark(nano_backward *b, int32_t n_params, const int32_t *params) {
    for (int32_t i = 0; i < n_params; i++) {
        b->states[params[i]].depends = true;
    }
    for (int32_t i = 0; i < b->n; i++) {
        const nano_tensor *t = &b->graph->tensors[i];
        for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
            b->states[i].depends = b->states[i].depends || b->states[t->src[k]].depends;
        }
        b->states[t->root].n_writes += t->op == NANO_OP_KV_WRITE ? 1 : 0;
    }
    b->states[b->loss].reached = true;
    for (int32_t i = b->loss; i >= 0; i--) {
        for (int k = 0; k < NANO_MAX_SRC && b->graph->tensors[i].src[k] >= 0; k++) {
            b->states[b->graph->tensors[i].src[k]].reached |= b->states[i].reached;
        }
    }
}

/* The gradients of attention read its caches after the forward pass: they must hold what attention saw. */
static nano_status check_caches(const nano_backward *b, const nano_tensor *t) {
    for (int k = 1; k < 3; k++) {
        const nano_tensor *write = &b->graph->tensors[t->src[k]];
        if (write->op != NANO_OP_KV_WRITE || b->states[write->root].n_writes != 1) {
            return nano_fail(b->err, NANO_ERR_UNSUPPORTED,
                             "gradient: attention over cache %d, expected one kv_write to it, which attention reads",
                             (int)b->graph->tensors[write->root].index);
        }
    }
    return NANO_OK;
}

static nano_status check_ops(const nano_backward *b) {
    for (int32_t i = 0; i <= b->loss; i++) {
        const nano_tensor *t = &b->graph->tensors[i];
        if (!b->states[i].reached || !b->states[i].depends || t->op == NANO_OP_NONE) {
            continue;
        }
        for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
            if (b->states[t->src[k]].depends && (derivative_of(t->op)->sources >> k & 1) == 0) {
                return nano_fail(b->err, NANO_ERR_UNSUPPORTED, "gradient: op %s has no derivative over its source %d",
                                 nano_op_by_number(t->op)->name, k);
            }
        }
        if (t->op == NANO_OP_ATTENTION) {
            NANO_TRY(check_caches(b, t));
        }
    }
    return NANO_OK;
}

static nano_status check_params(const nano_graph *graph, int32_t n_params, const int32_t *params, nano_error *err) {
    if (n_params < 1) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "gradient: %d parameters, expected at least 1", (int)n_params);
    }
    for (int32_t i = 0; i < n_params; i++) {
        if (params[i] < 0 || params[i] >= graph->n_tensors || graph->tensors[params[i]].storage != NANO_STORE_WEIGHT) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "gradient: parameter %d is tensor %d, expected a weight", (int)i,
                             (int)params[i]);
        }
    }
    return NANO_OK;
}

/* ------------------------------------------------------------------ the walk */

static void differentiate(nano_backward *b) {
    for (int32_t i = b->loss; i >= 0 && b->status == NANO_OK; i--) {
        const node n = {i, b->graph->tensors[i], -1};
        if (n.t.op == NANO_OP_NONE || !b->states[i].reached || !b->states[i].depends) {
            continue;
        }
        collect_views(b, i);
        if (b->status == NANO_OK) {
            derivative_of(n.t.op)->grad(b, &(node){i, n.t, b->states[i].gradient});
        }
    }
}

/* Takes back what was appended. */
static void undo(nano_backward *b) {
    nano_graph *graph = b->graph;
    while (graph->n_tensors > b->n) {
        const nano_tensor *t = &graph->tensors[--graph->n_tensors];
        if (t->storage == NANO_STORE_GRAD) {
            graph->tensors[t->index].is_param = false;
        }
    }
}

static nano_status run(nano_backward *b, int32_t n_params, const int32_t *params) {
    mark(b, n_params, params);
    for (int32_t i = 0; i < n_params; i++) {
        if (!b->states[params[i]].reached) {
            return nano_fail(b->err, NANO_ERR_ARGUMENT, "gradient: the loss does not depend on parameter %s",
                             b->graph->tensors[params[i]].name);
        }
    }
    NANO_TRY(check_ops(b));
    nano_backward_find_layers(b);
    differentiate(b);
    if (b->status == NANO_OK) {
        b->status = nano_graph_set_output(b->graph, b->loss, b->err);
    }
    if (b->status != NANO_OK) {
        undo(b);
    }
    return b->status;
}

nano_status nano_graph_backward(nano_graph *graph, int32_t loss, int32_t n_params, const int32_t *params,
                                bool recompute, nano_error *err) {
    if (loss < 0 || loss >= graph->n_tensors || graph->tensors[loss].op == NANO_OP_NONE ||
        !nano_tensor_is_scalar(&graph->tensors[loss])) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "gradient: tensor %d is no loss, expected the result of an op, f32 (1)", (int)loss);
    }
    NANO_TRY(check_params(graph, n_params, params, err));
    const int32_t n = graph->n_tensors;
    nano_backward b = {.graph = graph, .err = err, .loss = loss, .n = n, .recompute = recompute};
    nano_status status;
    b.states = calloc((size_t)n, sizeof *b.states);
    b.stack = calloc((size_t)n, sizeof *b.stack);
    if (b.states == NULL || b.stack == NULL) {
        status = nano_fail(err, NANO_ERR_MEMORY, "gradient: out of memory");
    } else {
        for (int32_t i = 0; i < n; i++) {
            b.states[i].copy = b.states[i].gradient = b.states[i].views = b.states[i].next_view = -1;
        }
        status = run(&b, n_params, params);
    }
    free(b.states);
    free(b.stack);
    return status;
}

/* ------------------------------------------------------------------- losses */

nano_status nano_graph_loss(nano_graph *graph, int32_t *loss, nano_error *err) {
    int32_t src[3] = {graph->output, -1, -1};
    if (graph->output < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "loss: the graph has no output");
    }
    NANO_TRY(nano_graph_input(graph, NANO_INPUT_TARGETS, &src[1], err));
    NANO_TRY(nano_graph_input(graph, NANO_INPUT_WEIGHTS, &src[2], err));
    return nano_graph_op(graph, "cross_entropy", 3, src, 0, NULL, 0, NULL, loss, err);
}

int32_t nano_graph_find_weight(const nano_graph *graph, int32_t file, const char *name) {
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        const nano_tensor *t = &graph->tensors[i];
        if (t->storage == NANO_STORE_WEIGHT && t->index == file && strcmp(t->name, name) == 0) {
            return i;
        }
    }
    return -1;
}
