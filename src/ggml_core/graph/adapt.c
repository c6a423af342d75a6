/*
 * LoRA (Hu et al., 2021, arXiv:2106.09685): a weight W (n_out, n_in) gets the low-rank addition scale * B A, with A
 * (r, n_in) and B (n_out, r). W itself stays as it is, mapped and in any type:
 *
 *   linear (x; W; bias)  becomes  linear (x; W; bias) + linear (scale * linear (x; A); B)
 *   rows (W; tokens)     becomes  rows (W; tokens) + linear (scale * rows (A; tokens); B)    A (n_rows, r), B (n, r)
 *
 * A graph is copied, op by op, with these in place of what they stand for.
 */
#include "graph/graph.h"
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char suffix_a[] = ".lora_a", suffix_b[] = ".lora_b";

typedef struct pair {
    const nano_gguf_tensor *a, *b; /* NULL: the weight has none */
    bool is_table;                 /* rows reads the weight */
    bool is_used;
} pair;

typedef struct copier {
    const nano_graph *from;
    nano_graph *to;
    const nano_gguf *adapter; /* NULL: activations become ops of their own, and nothing else happens */
    int32_t file;
    double scale, alpha;
    pair *pairs;        /* by tensor of `from`, as all that follow */
    int32_t *map;       /* its place in `to` */
    int32_t *low_rank;  /* what is still to be added to it, or -1 */
    int32_t *n_readers; /* the output is read by the caller */
    int32_t *reader;    /* the last of them */
    nano_error *err;
} copier;

/* ---------------------------------------------------------------- building */

static nano_status op(copier *c, const char *name, int32_t a, int32_t b, int32_t *out) {
    const int32_t src[2] = {a, b};
    return nano_graph_op(c->to, name, 2, src, 0, NULL, 0, NULL, out, c->err);
}

static int32_t mapped(const copier *c, int32_t tensor) { return tensor < 0 ? -1 : c->map[tensor]; }

static nano_status copy_op(copier *c, const nano_tensor *t, const nano_params *params, int32_t *out) {
    const nano_op_info *info = nano_op_by_number(t->op);
    int32_t src[NANO_MAX_SRC];
    for (int k = 0; k < NANO_MAX_SRC; k++) {
        src[k] = mapped(c, t->src[k]);
    }
    return nano_graph_op(c->to, info->name, info->max_src, src, info->max_ints, params->ints, info->max_floats,
                         params->floats, out, c->err);
}

static nano_status copy_leaf(copier *c, const nano_tensor *t, int32_t *out) {
    switch (t->storage) {
        case NANO_STORE_WEIGHT: return nano_graph_weight_of(c->to, t->index, t->name, t->n_dims, t->ne, out, c->err);
        case NANO_STORE_INPUT: return nano_graph_input(c->to, (nano_input)t->index, out, c->err);
        case NANO_STORE_CACHE: return nano_graph_cache(c->to, t->index, t->ne[1], t->ne[0], out, c->err);
        default: return nano_fail(c->err, NANO_ERR_ARGUMENT, "adapt: the graph has gradients: adapt it before");
    }
}

/* Whether anything is to be added to what weight w makes: a scale of 0 leaves every bit as it is. */
static bool use(copier *c, int32_t w) {
    c->pairs[w].is_used = c->pairs[w].a != NULL;
    return c->pairs[w].is_used && c->scale != 0.0;
}

/* A leaf may be asked for before its turn. */
static nano_status take_leaf(copier *c, int32_t i) {
    return i < 0 || c->map[i] >= 0 ? NANO_OK : copy_leaf(c, &c->from->tensors[i], &c->map[i]);
}

/* scale * (x A^T), or the same of rows of A. */
static nano_status add_narrow(copier *c, bool is_rows, int32_t x, int32_t weight, int32_t *out) {
    const pair *p = &c->pairs[weight];
    const double factor = c->alpha == 0.0 ? c->scale : c->scale * c->alpha / (double)p->b->ne[0];
    int32_t a = -1;
    NANO_TRY(nano_graph_weight_of(c->to, c->file, p->a->name, 2, p->a->ne, &a, c->err));
    NANO_TRY(is_rows ? op(c, "rows", a, x, out) : op(c, "linear", x, a, out));
    return nano_graph_op(c->to, "scale", 1, out, 0, NULL, 1, &factor, out, c->err);
}

/* That times B^T: what is to be added. */
static nano_status add_wide(copier *c, int32_t narrow, int32_t weight, int32_t *out) {
    const pair *p = &c->pairs[weight];
    int32_t b = -1;
    NANO_TRY(nano_graph_weight_of(c->to, c->file, p->b->name, 2, p->b->ne, &b, c->err));
    return op(c, "linear", narrow, b, out);
}

/* A sum that only another sum reads can wait for that one: each of its linears then adds what there is to its result, in
 * the pass that it makes anyway. (B's comes first in a sum, because the planner gives it to the first that can take it:
 * W's then need not wait for A's.) */
static bool can_wait(const copier *c, int32_t i) {
    return c->n_readers[i] == 1 && c->from->tensors[c->reader[i]].op == NANO_OP_ADD;
}

static bool is_adapted(copier *c, const nano_tensor *linear) {
    return !c->pairs[linear->src[1]].is_table && use(c, linear->src[1]);
}

/* A linear without what is to be added, and without its activation where that comes after. */
static nano_status copy_product(copier *c, int32_t i) {
    const nano_tensor *t = &c->from->tensors[i];
    nano_params params = t->params;
    NANO_TRY(take_leaf(c, t->src[1]));
    NANO_TRY(take_leaf(c, t->src[2]));
    params.ints[0] = c->adapter == NULL || is_adapted(c, t) ? NANO_ACT_NONE : params.ints[0];
    return copy_op(c, t, &params, &c->map[i]);
}

static nano_status finish_linear(copier *c, int32_t i) {
    const nano_tensor *t = &c->from->tensors[i];
    const int64_t activation = t->params.ints[0];
    if (c->low_rank[i] >= 0) {
        NANO_TRY(add_wide(c, c->low_rank[i], t->src[1], &c->low_rank[i]));
        if (activation == NANO_ACT_NONE && can_wait(c, i)) {
            return NANO_OK;
        }
        NANO_TRY(op(c, "add", c->low_rank[i], c->map[i], &c->map[i]));
        c->low_rank[i] = -1;
    } else if (c->adapter != NULL) {
        return NANO_OK;
    }
    if (activation == NANO_ACT_NONE) {
        return NANO_OK;
    }
    return op(c, activation == NANO_ACT_GELU ? "gelu" : "silu", c->map[i], -1, &c->map[i]);
}

/* Linear i and, where it has an adapter, all others that read the same: product by product, so that the planner finds
 * what does not depend on each other side by side. */
static nano_status copy_linears(copier *c, int32_t i) {
    const nano_tensor *tensors = c->from->tensors;
    const int32_t x = tensors[i].src[0], last = is_adapted(c, &tensors[i]) ? c->from->n_tensors - 1 : i;
    for (int32_t pass = 0; pass < 3; pass++) {
        for (int32_t j = i; j <= last; j++) {
            if (tensors[j].op != NANO_OP_LINEAR || tensors[j].src[0] != x) {
                continue;
            }
            if (pass == 0) {
                NANO_TRY(copy_product(c, j));
            } else if (pass == 2) {
                NANO_TRY(finish_linear(c, j));
            } else if (is_adapted(c, &tensors[j])) {
                NANO_TRY(add_narrow(c, false, c->map[x], tensors[j].src[1], &c->low_rank[j]));
            }
        }
    }
    return NANO_OK;
}

static nano_status copy_rows(copier *c, int32_t i) {
    const nano_tensor *t = &c->from->tensors[i];
    int32_t low_rank = -1;
    NANO_TRY(copy_op(c, t, &t->params, &c->map[i]));
    if (!use(c, t->src[0])) {
        return NANO_OK;
    }
    NANO_TRY(add_narrow(c, true, c->map[t->src[1]], t->src[0], &low_rank));
    NANO_TRY(add_wide(c, low_rank, t->src[0], &low_rank));
    return op(c, "add", low_rank, c->map[i], &c->map[i]);
}

static nano_status copy_tensor(copier *c, int32_t i) {
    const nano_tensor *t = &c->from->tensors[i];
    switch (t->op) {
        case NANO_OP_NONE: return take_leaf(c, i);
        case NANO_OP_LINEAR: return c->map[i] >= 0 ? NANO_OK : copy_linears(c, i);
        case NANO_OP_ROWS: return copy_rows(c, i);
        case NANO_OP_ADD:
            NANO_TRY(copy_op(c, t, &t->params, &c->map[i]));
            for (int k = 0; k < 2; k++) {
                if (c->low_rank[t->src[k]] >= 0) {
                    NANO_TRY(op(c, "add", c->low_rank[t->src[k]], c->map[i], &c->map[i]));
                }
            }
            return NANO_OK;
        default: return copy_op(c, t, &t->params, &c->map[i]);
    }
}

/* ---------------------------------------------------------------- checking */

static bool is_text(nano_str s, const char *expected) {
    return s.size == strlen(expected) && memcmp(s.data, expected, s.size) == 0;
}

static nano_status check_kind(const nano_gguf *file, const char *key, const char *expected, nano_error *err) {
    nano_str found = {"model", 5}; /* what a file is that does not say */
    nano_status status = nano_gguf_get_str(file, key, &found, err);
    if (status != NANO_OK && status != NANO_ERR_NOT_FOUND) {
        return status;
    }
    if (is_text(found, expected)) {
        return NANO_OK;
    }
    return nano_fail(err, NANO_ERR_UNSUPPORTED, "%s: %s: found '%.*s', expected '%s'", nano_gguf_path(file), key,
                     (int)(found.size < 64 ? found.size : 64), found.data, expected);
}

nano_status nano_adapter_check(const nano_gguf *adapter, const nano_gguf *model, nano_error *err) {
    NANO_TRY(check_kind(adapter, "general.type", "adapter", err));
    NANO_TRY(check_kind(adapter, "adapter.type", "lora", err));
    return model == NULL ? NANO_OK : nano_model_check_architecture(model, adapter, err);
}

static nano_status check_shape(const copier *c, const nano_gguf_tensor *t, int64_t n_rows, int64_t n, nano_error *err) {
    if (t->n_dims == 2 && t->ne[1] == n_rows && t->ne[0] == n) {
        return NANO_OK;
    }
    return nano_fail(err, NANO_ERR_SHAPE, "%s: tensor %s: found %d dims (%lld, %lld), expected (%lld, %lld)",
                     nano_gguf_path(c->adapter), t->name, (int)t->n_dims, (long long)t->ne[1], (long long)t->ne[0],
                     (long long)n_rows, (long long)n);
}

/* The matrices for weight i of the model's file. */
static nano_status find_pair(copier *c, int32_t i) {
    const nano_tensor *w = &c->from->tensors[i];
    pair *p = &c->pairs[i];
    char name[NANO_MAX_NAME + sizeof suffix_a];
    (void)snprintf(name, sizeof name, "%s%s", w->name, suffix_a);
    p->a = nano_gguf_find_tensor(c->adapter, name);
    (void)snprintf(name, sizeof name, "%s%s", w->name, suffix_b);
    p->b = nano_gguf_find_tensor(c->adapter, name);
    if (p->a == NULL && p->b == NULL) {
        return NANO_OK;
    }
    if (p->a == NULL || p->b == NULL) {
        return nano_fail(c->err, NANO_ERR_NOT_FOUND, "%s: tensor %s%s is missing", nano_gguf_path(c->adapter), w->name,
                         p->a == NULL ? suffix_a : suffix_b);
    }
    const int64_t rank = p->b->ne[0];
    NANO_TRY(p->is_table ? check_shape(c, p->a, w->ne[1], rank, c->err) : check_shape(c, p->a, rank, w->ne[0], c->err));
    return check_shape(c, p->b, p->is_table ? w->ne[0] : w->ne[1], rank, c->err);
}

static nano_status find_pairs(copier *c) {
    for (int32_t i = 0; i < c->from->n_tensors; i++) {
        const nano_tensor *t = &c->from->tensors[i];
        if (t->op == NANO_OP_ROWS) {
            c->pairs[t->src[0]].is_table = true;
        }
    }
    for (int32_t i = 0; i < c->from->n_tensors; i++) {
        const nano_tensor *t = &c->from->tensors[i];
        if (t->storage == NANO_STORE_WEIGHT && t->index == 0 && t->n_dims == 2) {
            NANO_TRY(find_pair(c, i));
        }
    }
    return NANO_OK;
}

/* A checkpoint of a training is an adapter, too: with tensors of the optimiser's. */
static bool is_of_training(const nano_gguf_tensor *t) { return strncmp(t->name, "training.", 9) == 0; }

/* Every tensor of the adapter has come to use. */
static nano_status check_used(const copier *c) {
    const uint64_t n = nano_gguf_n_tensors(c->adapter);
    uint64_t n_used = 0;
    for (int32_t i = 0; i < c->from->n_tensors; i++) {
        n_used += c->pairs[i].is_used ? 2 : 0;
    }
    for (uint64_t k = 0; k < n && n_used < n; k++) {
        const nano_gguf_tensor *t = nano_gguf_tensor_at(c->adapter, k);
        bool is_used = is_of_training(t);
        for (int32_t i = 0; i < c->from->n_tensors && !is_used; i++) {
            is_used = c->pairs[i].is_used && (c->pairs[i].a == t || c->pairs[i].b == t);
        }
        if (!is_used) {
            return nano_fail(c->err, NANO_ERR_NOT_FOUND, "%s: tensor %s is left over: the model has no place for it",
                             nano_gguf_path(c->adapter), t->name);
        }
    }
    return n_used > 0 ? NANO_OK : nano_fail(c->err, NANO_ERR_NOT_FOUND, "%s: no tensors", nano_gguf_path(c->adapter));
}

/* -------------------------------------------------------------- the adapter */

static nano_status read_adapter(copier *c, float scale) {
    if (c->file < 1 || c->file >= NANO_MAX_FILES) {
        return nano_fail(c->err, NANO_ERR_ARGUMENT, "adapt: file %d, expected 1 to %d", (int)c->file,
                         NANO_MAX_FILES - 1);
    }
    NANO_TRY(nano_adapter_check(c->adapter, NULL, c->err));
    NANO_TRY(nano_gguf_get_float(c->adapter, "adapter.lora.alpha", &c->alpha, c->err));
    c->scale = (double)scale;
    return find_pairs(c);
}

static void count_readers(copier *c) {
    for (int32_t i = 0; i < c->from->n_tensors; i++) {
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            if (c->from->tensors[i].src[k] >= 0) {
                c->n_readers[c->from->tensors[i].src[k]]++;
                c->reader[c->from->tensors[i].src[k]] = i;
            }
        }
    }
    if (c->from->output >= 0) {
        c->n_readers[c->from->output]++;
    }
}

static nano_status copy(copier *c, float scale) {
    if (c->adapter != NULL) {
        NANO_TRY(read_adapter(c, scale));
    }
    count_readers(c);
    for (int32_t i = 0; i < c->from->n_tensors; i++) {
        c->map[i] = c->low_rank[i] = -1;
    }
    for (int32_t i = 0; i < c->from->n_tensors; i++) {
        NANO_TRY(copy_tensor(c, i));
    }
    if (c->from->output >= 0) {
        NANO_TRY(nano_graph_set_output(c->to, c->map[c->from->output], c->err));
    }
    return c->adapter == NULL ? NANO_OK : check_used(c);
}

nano_status nano_graph_adapt(const nano_graph *graph, const nano_gguf *adapter, int32_t file, float scale,
                             nano_graph **out, nano_error *err) {
    const size_t n = (size_t)graph->n_tensors + 1;
    copier c = {.from = graph, .adapter = adapter, .file = file, .err = err};
    c.pairs = calloc(n, sizeof *c.pairs);
    c.map = calloc(n * 4, sizeof *c.map);
    nano_status status = NANO_OK;
    if (c.pairs == NULL || c.map == NULL) {
        status = nano_fail(err, NANO_ERR_MEMORY, "adapt: out of memory");
    } else {
        c.low_rank = c.map + n;
        c.n_readers = c.map + 2 * n;
        c.reader = c.map + 3 * n;
        status = nano_graph_create(&c.to, err);
    }
    if (status == NANO_OK) {
        status = copy(&c, scale);
    }
    free(c.pairs);
    free(c.map);
    if (status != NANO_OK) {
        nano_graph_free(c.to);
        return status;
    }
    *out = c.to;
    return NANO_OK;
}
