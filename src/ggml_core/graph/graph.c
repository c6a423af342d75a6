#include "graph/graph.h"

#include "base/arith.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nano_status nano_graph_create(nano_graph **out, nano_error *err) {
    nano_graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "graph: out of memory");
    }
    graph->output = -1;
    *out = graph;
    return NANO_OK;
}

void nano_graph_free(nano_graph *graph) {
    if (graph == NULL) {
        return;
    }
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        free(graph->tensors[i].name);
    }
    free(graph->tensors);
    free(graph);
}

int32_t nano_weight_layer(const char *name) {
    enum { ENOUGH = 1 << 20 };
    int32_t layer = 0;
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') {
        return -1;
    }
    for (const char *c = name + 4; *c >= '0' && *c <= '9'; c++) {
        layer = layer < ENOUGH ? layer * 10 + (*c - '0') : layer;
    }
    return layer;
}

int64_t nano_tensor_row_size(const nano_tensor *t) {
    int64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++) {
        n *= t->ne[i] > 0 ? t->ne[i] : 1;
    }
    return n;
}

/* Dims are checked here once, so that products of a tensor's dims never overflow anywhere else. */
static nano_status check_dims(const char *what, int32_t n_dims, const int64_t *ne, nano_error *err) {
    if (n_dims < 1 || n_dims > 4) {
        return nano_fail(err, NANO_ERR_SHAPE, "%s: %d dims, expected 1 to 4", what, (int)n_dims);
    }
    int64_t total = 1;
    for (int32_t i = 0; i < n_dims; i++) {
        if (ne[i] < 1 || ne[i] > NANO_MAX_ELEMENTS / total) {
            return nano_fail(err, NANO_ERR_SHAPE,
                             "%s: dim %d is %lld, expected at least 1 and 2^40 elements at most in all", what, (int)i,
                             (long long)ne[i]);
        }
        total *= ne[i];
    }
    return NANO_OK;
}

/* Appends a copy of `t`, taking over its name on success. */
static nano_status append(nano_graph *graph, const nano_tensor *t, int32_t *out, nano_error *err) {
    if (graph->n_tensors == graph->capacity) {
        if (graph->capacity >= NANO_MAX_TENSORS) {
            return nano_fail(err, NANO_ERR_LIMIT, "graph: more than %d tensors", (int)NANO_MAX_TENSORS);
        }
        int32_t capacity = graph->capacity == 0 ? 256 : graph->capacity * 2;
        nano_tensor *grown = realloc(graph->tensors, (size_t)capacity * sizeof *grown);
        if (grown == NULL) {
            return nano_fail(err, NANO_ERR_MEMORY, "graph: out of memory for %d tensors", (int)capacity);
        }
        graph->tensors = grown;
        graph->capacity = capacity;
    }
    graph->tensors[graph->n_tensors] = *t;
    *out = graph->n_tensors++;
    return NANO_OK;
}

static nano_tensor leaf(const nano_graph *graph, nano_storage storage, nano_type type) {
    nano_tensor t;
    memset(&t, 0, sizeof t);
    t.storage = storage;
    t.type = type;
    t.root = graph->n_tensors;
    for (int i = 0; i < NANO_MAX_SRC; i++) {
        t.src[i] = -1;
    }
    for (int i = 0; i < 4; i++) {
        t.ne[i] = 1;
    }
    return t;
}

static bool same_shape(const nano_tensor *t, int32_t n_dims, const int64_t *ne) {
    return t->n_dims == n_dims && memcmp(t->ne, ne, (size_t)n_dims * sizeof *ne) == 0;
}

nano_status nano_graph_weight_of(nano_graph *graph, int32_t file, const char *name, int32_t n_dims, const int64_t *ne,
                                 int32_t *out, nano_error *err) {
    size_t length = strlen(name);
    if (file < 0 || file >= NANO_MAX_FILES) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "graph: weight %s is of file %d, expected 0 to %d", name, (int)file,
                         NANO_MAX_FILES - 1);
    }
    if (length == 0 || length > NANO_MAX_NAME) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "graph: a weight's name has %zu bytes, expected 1 to %d", length,
                         (int)NANO_MAX_NAME);
    }
    NANO_TRY(check_dims(name, n_dims, ne, err));
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        const nano_tensor *t = &graph->tensors[i];
        if (t->storage == NANO_STORE_WEIGHT && t->index == file && strcmp(t->name, name) == 0) {
            if (!same_shape(t, n_dims, ne)) {
                return nano_fail(err, NANO_ERR_SHAPE, "weight %s: asked for twice with different shapes", name);
            }
            *out = i;
            return NANO_OK;
        }
    }
    nano_tensor t = leaf(graph, NANO_STORE_WEIGHT, -1);
    t.index = file;
    t.n_dims = n_dims;
    memcpy(t.ne, ne, (size_t)n_dims * sizeof *ne);
    t.name = malloc(length + 1);
    if (t.name == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "graph: out of memory for the name %s", name);
    }
    memcpy(t.name, name, length + 1);
    nano_status status = append(graph, &t, out, err);
    if (status != NANO_OK) {
        free(t.name);
    }
    return status;
}

nano_status nano_graph_weight(nano_graph *graph, const char *name, int32_t n_dims, const int64_t *ne, int32_t *out,
                              nano_error *err) {
    return nano_graph_weight_of(graph, 0, name, n_dims, ne, out, err);
}

nano_status nano_graph_input(nano_graph *graph, nano_input kind, int32_t *out, nano_error *err) {
    if ((int)kind < NANO_INPUT_TOKENS || (int)kind > NANO_INPUT_LAST) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "graph: input kind %d, expected 0 to %d", (int)kind,
                         (int)NANO_INPUT_LAST);
    }
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        if (graph->tensors[i].storage == NANO_STORE_INPUT && graph->tensors[i].index == (int32_t)kind) {
            *out = i;
            return NANO_OK;
        }
    }
    nano_tensor t = leaf(graph, NANO_STORE_INPUT, kind == NANO_INPUT_WEIGHTS ? NANO_TYPE_F32 : NANO_TYPE_I32);
    t.n_dims = 1;
    t.ne[0] = kind == NANO_INPUT_TOKENS || kind == NANO_INPUT_POSITIONS ? NANO_DIM_T : NANO_DIM_W;
    t.index = (int32_t)kind;
    return append(graph, &t, out, err);
}

nano_status nano_graph_gradient(nano_graph *graph, int32_t weight, int32_t *out, nano_error *err) {
    if (weight < 0 || weight >= graph->n_tensors || graph->tensors[weight].storage != NANO_STORE_WEIGHT) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "gradient: tensor %d is not a weight", (int)weight);
    }
    for (int32_t i = 0; graph->tensors[weight].is_param && i < graph->n_tensors; i++) {
        if (graph->tensors[i].storage == NANO_STORE_GRAD && graph->tensors[i].index == weight) {
            *out = i;
            return NANO_OK;
        }
    }
    nano_tensor t = leaf(graph, NANO_STORE_GRAD, NANO_TYPE_F32);
    t.n_dims = graph->tensors[weight].n_dims;
    memcpy(t.ne, graph->tensors[weight].ne, sizeof t.ne);
    t.index = weight;
    NANO_TRY(append(graph, &t, out, err));
    graph->tensors[weight].is_param = true;
    return NANO_OK;
}

nano_status nano_graph_cache(nano_graph *graph, int32_t index, int64_t n_head_kv, int64_t head_dim, int32_t *out,
                             nano_error *err) {
    int64_t ne[2] = {head_dim, n_head_kv};
    NANO_TRY(check_dims("cache", 2, ne, err));
    if (index < 0 || index >= NANO_MAX_TENSORS) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "cache: index %d, expected 0 to %d", (int)index, NANO_MAX_TENSORS - 1);
    }
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        const nano_tensor *t = &graph->tensors[i];
        if (t->storage == NANO_STORE_CACHE && t->index == index) {
            if (!same_shape(t, 2, ne)) {
                return nano_fail(err, NANO_ERR_SHAPE, "cache %d: asked for twice with different shapes", (int)index);
            }
            *out = i;
            return NANO_OK;
        }
    }
    nano_tensor t = leaf(graph, NANO_STORE_CACHE, -1);
    t.n_dims = 2;
    memcpy(t.ne, ne, sizeof ne);
    t.index = index;
    return append(graph, &t, out, err);
}

static nano_status check_params(const nano_op_info *info, int32_t n_ints, int32_t n_floats, const double *floats,
                                nano_error *err) {
    if (n_ints < 0 || n_ints > info->max_ints || n_floats < 0 || n_floats > info->max_floats) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %d ints and %d floats, expected at most %d and %d", info->name,
                         (int)n_ints, (int)n_floats, (int)info->max_ints, (int)info->max_floats);
    }
    for (int32_t i = 0; i < n_floats; i++) {
        if (!isfinite(floats[i])) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: parameter %d is not finite", info->name, (int)i);
        }
    }
    return NANO_OK;
}

nano_status nano_graph_op(nano_graph *graph, const char *name, int32_t n_src, const int32_t *src, int32_t n_ints,
                          const int64_t *ints, int32_t n_floats, const double *floats, int32_t *out, nano_error *err) {
    const nano_op_info *info = nano_op_by_name(name);
    if (info == NULL) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "op %s: unknown", name);
    }
    while (n_src > 0 && src[n_src - 1] == -1) {
        n_src--; /* an optional source left out */
    }
    if (n_src < info->min_src || n_src > info->max_src) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %d sources, expected %d to %d", name, (int)n_src,
                         (int)info->min_src, (int)info->max_src);
    }
    NANO_TRY(check_params(info, n_ints, n_floats, floats, err));
    nano_tensor t = leaf(graph, NANO_STORE_TEMP, NANO_TYPE_F32);
    t.op = info->op;
    for (int32_t i = 0; i < n_src; i++) {
        if (src[i] < 0 || src[i] >= graph->n_tensors) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: source %d is tensor %d, expected an earlier one (0 to %d)",
                             name, (int)i, (int)src[i], (int)graph->n_tensors - 1);
        }
        t.src[i] = src[i];
    }
    if (n_ints > 0) {
        memcpy(t.params.ints, ints, (size_t)n_ints * sizeof *ints);
    }
    if (n_floats > 0) {
        memcpy(t.params.floats, floats, (size_t)n_floats * sizeof *floats);
    }
    NANO_TRY(info->shape(graph, &t, err));
    return append(graph, &t, out, err);
}

nano_status nano_graph_set_output(nano_graph *graph, int32_t tensor, nano_error *err) {
    if (tensor < 0 || tensor >= graph->n_tensors) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "output: tensor %d, expected 0 to %d", (int)tensor,
                         (int)graph->n_tensors - 1);
    }
    const nano_tensor *t = &graph->tensors[tensor];
    const bool is_logits = t->n_dims == 2 && t->ne[1] == NANO_DIM_W;
    if (t->storage != NANO_STORE_TEMP || !(is_logits || nano_tensor_is_scalar(t))) {
        return nano_fail(err, NANO_ERR_SHAPE, "output: expected the result of an op with shape (W, n_vocab) or (1)");
    }
    graph->output = tensor;
    return NANO_OK;
}

int32_t nano_graph_n_tensors(const nano_graph *graph) { return graph->n_tensors; }

nano_status nano_graph_shape(const nano_graph *graph, int32_t tensor, int32_t *n_dims, int64_t *ne, nano_error *err) {
    if (tensor < 0 || tensor >= graph->n_tensors) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "shape: tensor %d, expected 0 to %d", (int)tensor,
                         (int)graph->n_tensors - 1);
    }
    const nano_tensor *t = &graph->tensors[tensor];
    *n_dims = t->n_dims;
    memcpy(ne, t->ne, sizeof t->ne);
    return NANO_OK;
}
