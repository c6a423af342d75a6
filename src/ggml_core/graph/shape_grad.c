/* The shape rules of losses and gradients. */
#include "graph/shape.h"

/* ------------------------------------------------------------------ losses */

static bool is_input(const nano_tensor *t, nano_input kind) {
    return t->storage == NANO_STORE_INPUT && t->index == (int32_t)kind;
}

static void become_scalar(nano_tensor *t) {
    t->n_dims = 1;
    t->ne[0] = 1;
}

static nano_status check_loss(const nano_graph *graph, const nano_tensor *t, const char *name, nano_error *err) {
    const nano_tensor *logits = nano_source(graph, t, 0);
    if (!nano_is_activation(logits) || logits->n_dims != 2 || logits->ne[1] != NANO_DIM_W) {
        return nano_refuse(err, name, "an activation (W, n) as the logits");
    }
    if (!is_input(nano_source(graph, t, 1), NANO_INPUT_TARGETS) ||
        !is_input(nano_source(graph, t, 2), NANO_INPUT_WEIGHTS)) {
        return nano_refuse(err, name, "the inputs targets and weights");
    }
    return NANO_OK;
}

nano_status nano_shape_cross_entropy(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    NANO_TRY(check_loss(graph, t, "cross_entropy", err));
    become_scalar(t);
    return NANO_OK;
}

nano_status nano_shape_cross_entropy_grad(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    NANO_TRY(check_loss(graph, t, "cross_entropy_grad", err));
    nano_take_shape(t, nano_source(graph, t, 0));
    return NANO_OK;
}

nano_status nano_shape_sum(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    if (!nano_is_activation(nano_source(graph, t, 0))) {
        return nano_refuse(err, "sum", "an activation");
    }
    become_scalar(t);
    return NANO_OK;
}

nano_status nano_shape_fill(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0);
    if (!nano_is_activation(x)) {
        return nano_refuse(err, "fill", "an activation");
    }
    nano_take_shape(t, x);
    return NANO_OK;
}

/* -------------------------------------------------------------------- rows */

nano_status nano_shape_rows_grad(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *d = nano_source(graph, t, 0), *index = nano_source(graph, t, 1);
    const nano_tensor *into = nano_gradient_of(graph, nano_source(graph, t, 2));
    if (!nano_is_activation(d) || d->n_dims != 2 || d->ne[1] != NANO_DIM_T) {
        return nano_refuse(err, "rows_grad", "an activation (T, n) as d");
    }
    if (!is_input(index, NANO_INPUT_TOKENS) && !is_input(index, NANO_INPUT_POSITIONS)) {
        return nano_refuse(err, "rows_grad", "tokens or positions as the index");
    }
    if (into == NULL || into->n_dims != 2 || into->ne[0] != d->ne[0]) {
        return nano_refuse(err, "rows_grad", "a gradient (n_rows, n) with rows as long as d's");
    }
    nano_alias_gradient(t, into);
    return NANO_OK;
}

nano_status nano_shape_spread(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *d = nano_source(graph, t, 0);
    if (!nano_is_activation(d) || d->n_dims != 2 || d->ne[1] != NANO_DIM_W ||
        !is_input(nano_source(graph, t, 1), NANO_INPUT_WANTED)) {
        return nano_refuse(err, "spread", "an activation (W, n) and the input wanted");
    }
    t->n_dims = 2;
    t->ne[0] = d->ne[0];
    t->ne[1] = NANO_DIM_T;
    return NANO_OK;
}

nano_status nano_shape_join(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const int64_t row = t->params.ints[0], *offsets = t->params.ints + 1;
    int64_t sizes[NANO_MAX_SRC] = {0};
    if (row < 1 || row > NANO_MAX_ELEMENTS) {
        return nano_refuse(err, "join", "rows of 1 to 2^40 elements");
    }
    for (int i = 0; i < NANO_MAX_SRC && t->src[i] >= 0; i++) {
        const nano_tensor *x = nano_source(graph, t, i);
        if (!nano_is_activation(x) || nano_tensor_rows_dim(x) != nano_tensor_rows_dim(nano_source(graph, t, 0))) {
            return nano_refuse(err, "join", "activations with the same rows");
        }
        sizes[i] = nano_tensor_row_size(x);
        if (offsets[i] < 0 || sizes[i] > row || offsets[i] > row - sizes[i]) {
            return nano_fail(err, NANO_ERR_SHAPE, "join: %lld elements from %lld on do not lie in a row of %lld",
                             (long long)sizes[i], (long long)offsets[i], (long long)row);
        }
        for (int k = 0; k < i; k++) {
            if (offsets[i] < offsets[k] + sizes[k] && offsets[k] < offsets[i] + sizes[i]) {
                return nano_refuse(err, "join", "sources that do not overlap");
            }
        }
    }
    t->n_dims = 2;
    t->ne[0] = row;
    t->ne[1] = nano_tensor_rows_dim(nano_source(graph, t, 0));
    return NANO_OK;
}

/* --------------------------------------------------------------- into (n) */

/* x and, where the op has one, y of the same shape; into: the gradient of a vector as long as their innermost dim. */
static nano_status shape_into(const nano_graph *graph, nano_tensor *t, const char *name, const nano_tensor *x,
                              const nano_tensor *y, int into_at, nano_error *err) {
    const nano_tensor *into = nano_gradient_of(graph, nano_source(graph, t, into_at));
    if (!nano_is_activation(x) || (y != NULL && (!nano_is_activation(y) || !nano_same_dims(x, y)))) {
        return nano_refuse(err, name, y == NULL ? "an activation" : "two activations of the same shape");
    }
    if (into == NULL || into->n_dims != 1 || into->ne[0] != x->ne[0]) {
        return nano_refuse(err, name, "a gradient (n) as long as the innermost dim");
    }
    nano_alias_gradient(t, into);
    return NANO_OK;
}

nano_status nano_shape_sum_rows(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_into(graph, t, "sum_rows", nano_source(graph, t, 0), NULL, 1, err);
}

nano_status nano_shape_sum_products(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_into(graph, t, "sum_products", nano_source(graph, t, 0), nano_source(graph, t, 1), 2, err);
}

/* ------------------------------------------------------------------- norms */

static nano_status check_eps(const nano_tensor *t, const char *name, nano_error *err) {
    const double eps = t->params.floats[0];
    return eps >= 0.0 && eps < 1.0 ? NANO_OK : nano_refuse(err, name, "eps from 0 to 1");
}

static nano_status shape_grad_x(const nano_graph *graph, nano_tensor *t, const char *name, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0), *d = nano_source(graph, t, 2);
    if (!nano_is_activation(x) || !nano_is_activation(d) || !nano_same_dims(x, d)) {
        return nano_refuse(err, name, "two activations of the same shape");
    }
    if (!nano_is_vector(nano_source(graph, t, 1), x->ne[0])) {
        return nano_fail(err, NANO_ERR_SHAPE, "%s: expected a weight (%lld)", name, (long long)x->ne[0]);
    }
    NANO_TRY(check_eps(t, name, err));
    nano_take_shape(t, x);
    return NANO_OK;
}

static nano_status shape_grad_w(const nano_graph *graph, nano_tensor *t, const char *name, nano_error *err) {
    NANO_TRY(check_eps(t, name, err));
    return shape_into(graph, t, name, nano_source(graph, t, 0), nano_source(graph, t, 1), 2, err);
}

nano_status nano_shape_norm_grad_x(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_grad_x(graph, t, "norm_grad_x", err);
}
nano_status nano_shape_norm_grad_w(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_grad_w(graph, t, "norm_grad_w", err);
}
nano_status nano_shape_rms_norm_grad_x(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_grad_x(graph, t, "rms_norm_grad_x", err);
}
nano_status nano_shape_rms_norm_grad_w(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_grad_w(graph, t, "rms_norm_grad_w", err);
}

/* ------------------------------------------------------ element by element */

/* The first n sources are activations of one shape. */
static nano_status check_same(const nano_graph *graph, const nano_tensor *t, int n, const char *name, nano_error *err) {
    for (int i = 0; i < n; i++) {
        const nano_tensor *x = nano_source(graph, t, i);
        if (!nano_is_activation(x) || !nano_same_dims(x, nano_source(graph, t, 0))) {
            return nano_refuse(err, name, "activations of the same shape");
        }
    }
    return NANO_OK;
}

nano_status nano_shape_gelu_grad(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    NANO_TRY(check_same(graph, t, 2, "gelu_grad", err));
    nano_take_shape(t, nano_source(graph, t, 0));
    return NANO_OK;
}

nano_status nano_shape_silu_grad(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    NANO_TRY(check_same(graph, t, 2, "silu_grad", err));
    nano_take_shape(t, nano_source(graph, t, 0));
    return NANO_OK;
}

nano_status nano_shape_swiglu_grad(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *gate = nano_source(graph, t, 0);
    NANO_TRY(check_same(graph, t, 3, "swiglu_grad", err));
    if (nano_tensor_row_size(gate) > NANO_MAX_ELEMENTS / 2) {
        return nano_refuse(err, "swiglu_grad", "rows of at most 2^39 elements");
    }
    t->n_dims = 2;
    t->ne[0] = 2 * nano_tensor_row_size(gate);
    t->ne[1] = nano_tensor_rows_dim(gate);
    return NANO_OK;
}

/* ------------------------------------------------------ linear, attention */

static bool is_matrix(const nano_tensor *t) { return nano_is_activation(t) && t->n_dims == 2; }

nano_status nano_shape_linear_grad_x(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *d = nano_source(graph, t, 0), *w = nano_source(graph, t, 1);
    if (!is_matrix(d)) {
        return nano_refuse(err, "linear_grad_x", "an activation (rows, n_out) as d");
    }
    if (w->storage != NANO_STORE_WEIGHT || w->n_dims != 2 || w->ne[1] != d->ne[0]) {
        return nano_fail(err, NANO_ERR_SHAPE, "linear_grad_x: expected a weight (%lld, n_in) as w",
                         (long long)d->ne[0]);
    }
    t->n_dims = 2;
    t->ne[0] = w->ne[0];
    t->ne[1] = d->ne[1];
    return NANO_OK;
}

nano_status nano_shape_linear_grad_w(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *d = nano_source(graph, t, 0), *x = nano_source(graph, t, 1);
    const nano_tensor *into = nano_gradient_of(graph, nano_source(graph, t, 2));
    if (!is_matrix(d) || !is_matrix(x) || d->ne[1] != x->ne[1]) {
        return nano_refuse(err, "linear_grad_w", "activations (rows, n_out) and (rows, n_in) as d and x");
    }
    if (into == NULL || into->n_dims != 2 || into->ne[0] != x->ne[0] || into->ne[1] != d->ne[0]) {
        return nano_fail(err, NANO_ERR_SHAPE, "linear_grad_w: expected a gradient (%lld, %lld) as into",
                         (long long)d->ne[0], (long long)x->ne[0]);
    }
    nano_alias_gradient(t, into);
    return NANO_OK;
}

nano_status nano_shape_attention_grad(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    NANO_TRY(nano_shape_attention(graph, t, err)); /* the sources up to d, and d's own shape */
    const nano_tensor *q = nano_source(graph, t, 0), *d = nano_source(graph, t, 3);
    const nano_tensor *k = nano_cache_of(graph, nano_source(graph, t, 1));
    const nano_tensor *v = nano_cache_of(graph, nano_source(graph, t, 2));
    if (!nano_is_activation(d) || !nano_same_dims(d, t)) {
        return nano_refuse(err, "attention_grad", "d of the attention's own shape");
    }
    if (q->ne[0] > NANO_MAX_ELEMENTS / 4 / NANO_MAX_HEADS || v->ne[0] > NANO_MAX_ELEMENTS / 4 / NANO_MAX_HEADS) {
        return nano_refuse(err, "attention_grad", "heads of at most 2^22 elements");
    }
    t->ne[0] = (q->ne[1] + k->ne[1]) * q->ne[0] + v->ne[1] * v->ne[0];
    return NANO_OK;
}
