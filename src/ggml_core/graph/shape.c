/* The op table, and the shape rules of the ops that models are made of. */
#include "graph/shape.h"

nano_status nano_shape_rows(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *table = nano_source(graph, t, 0), *index = nano_source(graph, t, 1);
    if (index->storage != NANO_STORE_INPUT) {
        return nano_refuse(err, "rows", "an input (tokens, positions or wanted) as the index");
    }
    const bool is_number = index->index == NANO_INPUT_TOKENS || index->index == NANO_INPUT_POSITIONS;
    bool of_weight = table->storage == NANO_STORE_WEIGHT && table->n_dims == 2 && is_number;
    bool of_step = nano_is_activation(table) && table->n_dims == 2 && table->ne[1] == NANO_DIM_T &&
                   index->index == NANO_INPUT_WANTED;
    if (!of_weight && !of_step) {
        return nano_refuse(err, "rows",
                           "a weight (n_rows, n) with tokens or positions, or an activation (T, n) with wanted");
    }
    t->n_dims = 2;
    t->ne[0] = table->ne[0];
    t->ne[1] = index->ne[0];
    return NANO_OK;
}

nano_status nano_shape_linear(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0), *w = nano_source(graph, t, 1), *bias = nano_source(graph, t, 2);
    if (!nano_is_activation(x) || x->n_dims != 2) {
        return nano_refuse(err, "linear", "an activation (rows, n_in) as x");
    }
    if (w->storage != NANO_STORE_WEIGHT || w->n_dims != 2) {
        return nano_refuse(err, "linear", "a weight (n_out, n_in) as w");
    }
    if (w->ne[0] != x->ne[0]) {
        return nano_fail(err, NANO_ERR_SHAPE, "linear: weight %s has rows of %lld, x has rows of %lld", w->name,
                         (long long)w->ne[0], (long long)x->ne[0]);
    }
    if (bias != NULL && !nano_is_vector(bias, w->ne[1])) {
        return nano_fail(err, NANO_ERR_SHAPE, "linear: the bias of weight %s is not a weight (%lld)", w->name,
                         (long long)w->ne[1]);
    }
    if (t->params.ints[0] < NANO_ACT_NONE || t->params.ints[0] > NANO_ACT_SILU) {
        return nano_refuse(err, "linear", "activation 0, 1 or 2");
    }
    t->n_dims = 2;
    t->ne[0] = w->ne[1];
    t->ne[1] = x->ne[1];
    return NANO_OK;
}

static nano_status check_norm(const nano_tensor *t, const nano_tensor *x, const nano_tensor *w, const nano_tensor *bias,
                              const char *name, nano_error *err) {
    if (!nano_is_activation(x)) {
        return nano_refuse(err, name, "an activation as x");
    }
    if (!nano_is_vector(w, x->ne[0]) || (bias != NULL && !nano_is_vector(bias, x->ne[0]))) {
        return nano_fail(err, NANO_ERR_SHAPE, "%s: expected weights (%lld)", name, (long long)x->ne[0]);
    }
    if (!(t->params.floats[0] >= 0.0 && t->params.floats[0] < 1.0)) {
        return nano_refuse(err, name, "eps from 0 to 1");
    }
    return NANO_OK;
}

nano_status nano_shape_norm(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0);
    NANO_TRY(check_norm(t, x, nano_source(graph, t, 1), nano_source(graph, t, 2), "norm", err));
    nano_take_shape(t, x);
    return NANO_OK;
}

nano_status nano_shape_rms_norm(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0);
    NANO_TRY(check_norm(t, x, nano_source(graph, t, 1), NULL, "rms_norm", err));
    nano_take_shape(t, x);
    return NANO_OK;
}

nano_status nano_shape_view(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0);
    int64_t offset = t->params.ints[0], n_inner = t->params.ints[1], d0 = t->params.ints[2], d1 = t->params.ints[3];
    if (!nano_is_activation(x)) {
        return nano_refuse(err, "view", "an activation as x");
    }
    if (n_inner < 1 || n_inner > 2 || (n_inner == 1 && d1 != 0)) {
        return nano_refuse(err, "view", "1 or 2 inner dims");
    }
    int64_t row = nano_tensor_row_size(x);
    d1 = n_inner == 1 ? 1 : d1;
    if (d0 < 1 || d1 < 1 || d0 > row || d1 > row / d0 || offset < 0 || offset > row - d0 * d1) {
        return nano_fail(err, NANO_ERR_SHAPE, "view: %lld x %lld elements from %lld do not lie in a row of %lld",
                         (long long)d0, (long long)d1, (long long)offset, (long long)row);
    }
    t->storage = NANO_STORE_ALIAS;
    t->root = x->root;
    t->root_offset = x->root_offset + offset;
    t->n_dims = (int32_t)n_inner + 1;
    t->ne[0] = d0;
    t->ne[1] = d1;
    t->ne[n_inner] = nano_tensor_rows_dim(x);
    return NANO_OK;
}

nano_status nano_shape_rope_table(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *positions = nano_source(graph, t, 0), *factors = nano_source(graph, t, 1);
    int64_t n_rot = t->params.ints[0], scaling = t->params.ints[1], n_ctx_orig = t->params.ints[2];
    const double *f = t->params.floats; /* freq_base, factor, ext_factor, attn_factor, beta_fast, beta_slow */
    if (positions->storage != NANO_STORE_INPUT || positions->index != NANO_INPUT_POSITIONS) {
        return nano_refuse(err, "rope_table", "the positions as its source");
    }
    if (n_rot < 2 || n_rot % 2 != 0 || n_rot > (1 << 20)) {
        return nano_fail(err, NANO_ERR_SHAPE, "rope_table: n_rot is %lld, expected an even number from 2 to 2^20",
                         (long long)n_rot);
    }
    if (factors != NULL && !nano_is_vector(factors, n_rot / 2)) {
        return nano_fail(err, NANO_ERR_SHAPE, "rope_table: expected factors (%lld)", (long long)(n_rot / 2));
    }
    if (scaling < NANO_ROPE_NONE || scaling > NANO_ROPE_YARN) {
        return nano_refuse(err, "rope_table", "scaling 0, 1 or 2");
    }
    if (!(f[0] > 0.0) || (scaling != NANO_ROPE_NONE && !(f[1] > 0.0))) {
        return nano_refuse(err, "rope_table", "freq_base and factor above 0");
    }
    if (scaling == NANO_ROPE_YARN && (n_ctx_orig < 1 || n_ctx_orig > (1 << 30) || !(f[0] > 1.0) || !(f[3] > 0.0) ||
                                      !(f[4] > 0.0) || !(f[5] > 0.0))) {
        return nano_refuse(err, "rope_table",
                           "for yarn: n_ctx_orig, attn_factor, beta_fast, beta_slow above 0, freq_base above 1");
    }
    t->n_dims = 2;
    t->ne[0] = n_rot;
    t->ne[1] = NANO_DIM_T;
    return NANO_OK;
}

nano_status nano_shape_rope(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0), *table = nano_source(graph, t, 1);
    if (!nano_is_heads(x)) {
        return nano_refuse(err, "rope", "x (T, n_head, head_dim)");
    }
    if (table->op != NANO_OP_ROPE_TABLE || table->ne[0] > x->ne[0]) {
        return nano_refuse(err, "rope", "a rope_table with n_rot at most head_dim");
    }
    if (t->params.ints[0] != NANO_ROPE_PAIRS && t->params.ints[0] != NANO_ROPE_HALVES) {
        return nano_refuse(err, "rope", "pair order 0 or 1");
    }
    if (t->params.ints[1] != 0 && t->params.ints[1] != 1) {
        return nano_refuse(err, "rope", "0 or 1 for turning back");
    }
    nano_take_shape(t, x);
    return NANO_OK;
}

nano_status nano_shape_kv_write(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0), *target = nano_source(graph, t, 1);
    const nano_tensor *cache = nano_cache_of(graph, target);
    if (cache == NULL || !nano_is_heads(x) || x->ne[0] != cache->ne[0] || x->ne[1] != cache->ne[1]) {
        return nano_refuse(err, "kv_write", "x (T, n_head_kv, head_dim) and a cache of the same heads");
    }
    t->storage = NANO_STORE_ALIAS;
    t->type = -1;
    t->root = target->root;
    nano_take_shape(t, cache);
    return NANO_OK;
}

nano_status nano_shape_attention(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *q = nano_source(graph, t, 0);
    const nano_tensor *k = nano_cache_of(graph, nano_source(graph, t, 1)),
                      *v = nano_cache_of(graph, nano_source(graph, t, 2));
    if (!nano_is_heads(q) || k == NULL || v == NULL) {
        return nano_refuse(err, "attention", "q (T, n_head, head_dim) and two caches");
    }
    if (!nano_cache_is_keys(k) || nano_cache_is_keys(v)) {
        return nano_fail(err, NANO_ERR_SHAPE, "attention: caches %d and %d, expected keys (even) and values (odd)",
                         (int)k->index, (int)v->index);
    }
    if (q->ne[1] > NANO_MAX_HEADS) {
        return nano_fail(err, NANO_ERR_SHAPE, "attention: q has %lld heads, expected at most %d", (long long)q->ne[1],
                         (int)NANO_MAX_HEADS);
    }
    if (k->ne[0] != q->ne[0] || k->ne[1] != v->ne[1] || q->ne[1] % k->ne[1] != 0) {
        return nano_fail(
            err, NANO_ERR_SHAPE,
            "attention: q has %lld heads of %lld, k %lld of %lld, v %lld; n_head must be a multiple of n_head_kv",
            (long long)q->ne[1], (long long)q->ne[0], (long long)k->ne[1], (long long)k->ne[0], (long long)v->ne[1]);
    }
    if (t->params.ints[0] < 0 || t->params.ints[0] > INT32_MAX || t->params.floats[1] < 0.0) {
        return nano_refuse(err, "attention", "window and softcap of 0 or more");
    }
    t->n_dims = 2;
    t->ne[0] = q->ne[1] * v->ne[0];
    t->ne[1] = NANO_DIM_T;
    if (t->ne[0] > NANO_MAX_ELEMENTS) {
        return nano_refuse(err, "attention", "rows of at most 2^40 elements");
    }
    return NANO_OK;
}

static nano_status shape_unary(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *x = nano_source(graph, t, 0);
    if (!nano_is_activation(x)) {
        return nano_refuse(err, "gelu, silu or scale", "an activation");
    }
    nano_take_shape(t, x);
    return NANO_OK;
}

nano_status nano_shape_swiglu(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *a = nano_source(graph, t, 0), *b = nano_source(graph, t, 1);
    if (!nano_is_activation(a) || !nano_is_activation(b) || !nano_same_dims(a, b)) {
        return nano_refuse(err, "swiglu", "two activations of the same shape");
    }
    nano_take_shape(t, a);
    return NANO_OK;
}

nano_status nano_shape_gelu(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_unary(graph, t, err);
}
nano_status nano_shape_silu(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_unary(graph, t, err);
}
nano_status nano_shape_scale(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_unary(graph, t, err);
}

static nano_status shape_binary(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    const nano_tensor *a = nano_source(graph, t, 0), *b = nano_source(graph, t, 1);
    bool fits =
        nano_is_activation(a) && (nano_is_vector(b, a->ne[0]) || (nano_is_activation(b) && nano_same_dims(a, b)));
    if (!fits) {
        return nano_refuse(err, "add or mul", "two activations of the same shape, or an activation and a weight (n)");
    }
    nano_take_shape(t, a);
    return NANO_OK;
}

nano_status nano_shape_add(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_binary(graph, t, err);
}
nano_status nano_shape_mul(const nano_graph *graph, nano_tensor *t, nano_error *err) {
    return shape_binary(graph, t, err);
}

static const nano_op_info ops[] = {
#define NANO_OP(NAME, name, number, min_src, max_src, n_ints, n_floats, in_place) \
    {NANO_OP_##NAME, #name, min_src, max_src, n_ints, n_floats, in_place, nano_shape_##name},
#include "graph/ops.inc"
#undef NANO_OP
};

enum { N_OPS = sizeof ops / sizeof ops[0] };

const nano_op_info *nano_op_by_name(const char *name) {
    for (int i = 0; i < N_OPS; i++) {
        if (strcmp(ops[i].name, name) == 0) {
            return &ops[i];
        }
    }
    return NULL;
}

const nano_op_info *nano_op_by_number(int64_t number) {
    for (int i = 0; i < N_OPS; i++) {
        if ((int64_t)ops[i].op == number) {
            return &ops[i];
        }
    }
    return NULL;
}
