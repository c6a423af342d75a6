/* What the shape rules share. A rule sees checked indices and finite parameters, and refuses everything that the op's
 * forward function could not run. */
#ifndef NANO_GRAPH_SHAPE_H
#define NANO_GRAPH_SHAPE_H

#include "graph/graph.h"

#include <string.h>

/* Fills t->type, shape and, for aliases, storage, root and root_offset from its sources and parameters. */
typedef nano_status nano_shape_fn(const nano_graph *graph, nano_tensor *t, nano_error *err);

#define NANO_OP(NAME, name, number, min_src, max_src, n_ints, n_floats, in_place) nano_shape_fn nano_shape_##name;
#include "graph/ops.inc"
#undef NANO_OP

/* NULL: an optional source left out. */
static inline const nano_tensor *nano_source(const nano_graph *graph, const nano_tensor *t, int i) {
    return t->src[i] < 0 ? NULL : &graph->tensors[t->src[i]];
}

static inline nano_status nano_refuse(nano_error *err, const char *op, const char *expected) {
    return nano_fail(err, NANO_ERR_SHAPE, "%s: expected %s", op, expected);
}

/* f32 with rows per token or per wanted row: what most ops read and write. */
static inline bool nano_is_activation(const nano_tensor *t) {
    return t != NULL && t->type == NANO_TYPE_F32 && (t->storage == NANO_STORE_TEMP || t->storage == NANO_STORE_ALIAS) &&
           t->n_dims >= 2 && nano_tensor_rows_dim(t) != 0;
}

/* (T, n_head, head_dim): one row of heads a token. */
static inline bool nano_is_heads(const nano_tensor *t) {
    return nano_is_activation(t) && t->n_dims == 3 && t->ne[2] == NANO_DIM_T;
}

/* So that what a head needs, times the heads, is far from overflowing. */
enum { NANO_MAX_HEADS = 1 << 16 };

/* The cache that t is or writes; NULL when it is none. */
static inline const nano_tensor *nano_cache_of(const nano_graph *graph, const nano_tensor *t) {
    const nano_tensor *root = &graph->tensors[t->root];
    return root->storage == NANO_STORE_CACHE ? root : NULL;
}

/* The gradient that t is or adds to; NULL when it is none. */
static inline const nano_tensor *nano_gradient_of(const nano_graph *graph, const nano_tensor *t) {
    const nano_tensor *root = &graph->tensors[t->root];
    return root->storage == NANO_STORE_GRAD ? root : NULL;
}

/* A weight that is one row of n elements. */
static inline bool nano_is_vector(const nano_tensor *t, int64_t n) {
    return t != NULL && t->storage == NANO_STORE_WEIGHT && t->n_dims == 1 && t->ne[0] == n;
}

static inline bool nano_same_dims(const nano_tensor *a, const nano_tensor *b) {
    return a->n_dims == b->n_dims && memcmp(a->ne, b->ne, (size_t)a->n_dims * sizeof a->ne[0]) == 0;
}

static inline void nano_take_shape(nano_tensor *t, const nano_tensor *from) {
    t->n_dims = from->n_dims;
    memcpy(t->ne, from->ne, sizeof t->ne);
}

/* t is the gradient `into` after something was added to it. */
static inline void nano_alias_gradient(nano_tensor *t, const nano_tensor *into) {
    t->storage = NANO_STORE_ALIAS;
    t->root = into->root;
    nano_take_shape(t, into);
}

#endif
