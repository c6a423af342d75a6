/*
 * A graph as bytes. Layout, all integers LEB128 varints (signed ones zigzag), floats f64 little endian:
 *
 *   "NNPG"  version
 *   n records, in the graph's order, each a kind and:
 *     0 weight: name length, name, n_dims, ne...
 *     1 input:  kind
 *     2 cache:  index, n_head_kv, head_dim
 *     3 op:     number, n_src, src..., n_ints, ints..., n_floats, floats...      (trailing zeros left out)
 *     4 gradient: weight
 *     5 weight of another file than the model's: file, then as 0
 *   output
 *
 * Loading is building: every record goes through the functions that a model definition calls, so a program that
 * loads has passed every check there is. Nothing may follow the last field.
 */
#include "graph/graph.h"

#include <string.h>

enum {
    RECORD_WEIGHT = 0,
    RECORD_INPUT = 1,
    RECORD_CACHE = 2,
    RECORD_OP = 3,
    RECORD_GRADIENT = 4,
    RECORD_WEIGHT_OF = 5,
    RECORD_LAST = RECORD_WEIGHT_OF
};

static const char magic[4] = {'N', 'N', 'P', 'G'};

/* ------------------------------------------------------------------ saving */

/* Counts what does not fit, so that one pass with no buffer measures. */
typedef struct sink {
    uint8_t *buffer;
    size_t capacity;
    size_t size;
} sink;

static void put_bytes(sink *s, const void *data, size_t n) {
    if (s->buffer != NULL && s->capacity >= n && s->size <= s->capacity - n) {
        memcpy(s->buffer + s->size, data, n);
    }
    s->size += n;
}

static void put_uint(sink *s, uint64_t v) {
    do {
        uint8_t byte = (uint8_t)(v & 0x7f);
        v >>= 7;
        byte = (uint8_t)(byte | (v != 0 ? 0x80 : 0));
        put_bytes(s, &byte, 1);
    } while (v != 0);
}

static void put_int(sink *s, int64_t v) { put_uint(s, ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0)); }

static void put_op(sink *s, const nano_tensor *t) {
    int32_t n_src = NANO_MAX_SRC, n_ints = NANO_MAX_INTS, n_floats = NANO_MAX_FLOATS;
    while (n_src > 0 && t->src[n_src - 1] < 0) {
        n_src--;
    }
    while (n_ints > 0 && t->params.ints[n_ints - 1] == 0) {
        n_ints--;
    }
    while (n_floats > 0 && t->params.floats[n_floats - 1] == 0.0) {
        n_floats--;
    }
    put_uint(s, RECORD_OP);
    put_uint(s, (uint64_t)t->op);
    put_uint(s, (uint64_t)n_src);
    for (int32_t i = 0; i < n_src; i++) {
        put_int(s, t->src[i]);
    }
    put_uint(s, (uint64_t)n_ints);
    for (int32_t i = 0; i < n_ints; i++) {
        put_int(s, t->params.ints[i]);
    }
    put_uint(s, (uint64_t)n_floats);
    put_bytes(s, t->params.floats, (size_t)n_floats * sizeof t->params.floats[0]);
}

static void put_record(sink *s, const nano_tensor *t) {
    switch (t->op == NANO_OP_NONE ? t->storage : NANO_STORE_TEMP) {
        case NANO_STORE_WEIGHT:
            put_uint(s, t->index == 0 ? RECORD_WEIGHT : RECORD_WEIGHT_OF);
            if (t->index != 0) {
                put_uint(s, (uint64_t)t->index);
            }
            put_uint(s, strlen(t->name));
            put_bytes(s, t->name, strlen(t->name));
            put_uint(s, (uint64_t)t->n_dims);
            for (int32_t i = 0; i < t->n_dims; i++) {
                put_int(s, t->ne[i]);
            }
            break;
        case NANO_STORE_INPUT:
            put_uint(s, RECORD_INPUT);
            put_uint(s, (uint64_t)t->index);
            break;
        case NANO_STORE_CACHE:
            put_uint(s, RECORD_CACHE);
            put_uint(s, (uint64_t)t->index);
            put_int(s, t->ne[1]);
            put_int(s, t->ne[0]);
            break;
        case NANO_STORE_GRAD:
            put_uint(s, RECORD_GRADIENT);
            put_uint(s, (uint64_t)t->index);
            break;
        case NANO_STORE_TEMP:
        case NANO_STORE_ALIAS: put_op(s, t); break;
    }
}

nano_status nano_graph_save(const nano_graph *graph, void *buffer, size_t capacity, size_t *size, nano_error *err) {
    if (graph->output < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "program: the graph has no output");
    }
    sink s = {buffer, capacity, 0};
    put_bytes(&s, magic, sizeof magic);
    put_uint(&s, NANO_PROGRAM_VERSION);
    put_uint(&s, (uint64_t)graph->n_tensors);
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        put_record(&s, &graph->tensors[i]);
    }
    put_uint(&s, (uint64_t)graph->output);
    *size = s.size;
    if (buffer != NULL && s.size > capacity) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "program: needs %zu bytes, the buffer has %zu", s.size, capacity);
    }
    return NANO_OK;
}

/* ----------------------------------------------------------------- loading */

typedef struct reader {
    const uint8_t *data;
    size_t size;
    size_t at;
    nano_error *err;
} reader;

static nano_status damaged(reader *r, const char *what) {
    return nano_fail(r->err, NANO_ERR_FORMAT, "program: %s at byte %zu of %zu", what, r->at, r->size);
}

static nano_status get_bytes(reader *r, void *out, size_t n) {
    if (n > r->size - r->at) {
        return damaged(r, "ends too early");
    }
    memcpy(out, r->data + r->at, n);
    r->at += n;
    return NANO_OK;
}

static nano_status get_uint(reader *r, uint64_t max, uint64_t *out) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = 0;
        NANO_TRY(get_bytes(r, &byte, 1));
        uint64_t bits = byte & 0x7f;
        if (shift == 63 && bits > 1) {
            break;
        }
        v |= bits << shift;
        if ((byte & 0x80) == 0) {
            if (v > max) {
                return damaged(r, "has a number out of range");
            }
            *out = v;
            return NANO_OK;
        }
    }
    return damaged(r, "has a number of more than 64 bits");
}

static nano_status get_int(reader *r, int64_t *out) {
    uint64_t v = 0;
    NANO_TRY(get_uint(r, UINT64_MAX, &v));
    uint64_t u = (v >> 1) ^ ((v & 1) != 0 ? UINT64_MAX : 0);
    memcpy(out, &u, sizeof u);
    return NANO_OK;
}

static nano_status load_weight(reader *r, nano_graph *graph, int32_t file, int32_t *out) {
    uint64_t length = 0, n_dims = 0;
    char name[NANO_MAX_NAME + 1];
    int64_t ne[4];
    NANO_TRY(get_uint(r, NANO_MAX_NAME, &length));
    NANO_TRY(get_bytes(r, name, (size_t)length));
    name[length] = '\0';
    if (strlen(name) != length) {
        return damaged(r, "has a weight's name with a zero byte");
    }
    NANO_TRY(get_uint(r, 4, &n_dims));
    for (uint64_t i = 0; i < n_dims; i++) {
        NANO_TRY(get_int(r, &ne[i]));
    }
    return nano_graph_weight_of(graph, file, name, (int32_t)n_dims, ne, out, r->err);
}

static nano_status load_op(reader *r, nano_graph *graph, int32_t *out) {
    uint64_t number = 0, n_src = 0, n_ints = 0, n_floats = 0;
    int32_t src[NANO_MAX_SRC];
    nano_params params;
    NANO_TRY(get_uint(r, INT32_MAX, &number));
    const nano_op_info *info = nano_op_by_number((int64_t)number);
    if (info == NULL) {
        return nano_fail(r->err, NANO_ERR_UNSUPPORTED, "program: op number %llu is unknown to this build",
                         (unsigned long long)number);
    }
    NANO_TRY(get_uint(r, NANO_MAX_SRC, &n_src));
    for (uint64_t i = 0; i < n_src; i++) {
        int64_t v = 0;
        NANO_TRY(get_int(r, &v));
        if (v < -1 || v >= graph->n_tensors) {
            return damaged(r, "has a source that is not an earlier tensor");
        }
        src[i] = (int32_t)v;
    }
    NANO_TRY(get_uint(r, NANO_MAX_INTS, &n_ints));
    for (uint64_t i = 0; i < n_ints; i++) {
        NANO_TRY(get_int(r, &params.ints[i]));
    }
    NANO_TRY(get_uint(r, NANO_MAX_FLOATS, &n_floats));
    NANO_TRY(get_bytes(r, params.floats, (size_t)n_floats * sizeof params.floats[0]));
    return nano_graph_op(graph, info->name, (int32_t)n_src, src, (int32_t)n_ints, params.ints, (int32_t)n_floats,
                         params.floats, out, r->err);
}

static nano_status load_record(reader *r, nano_graph *graph, int32_t *out) {
    uint64_t kind = 0, index = 0;
    int64_t n_head_kv = 0, head_dim = 0;
    NANO_TRY(get_uint(r, RECORD_LAST, &kind));
    switch (kind) {
        case RECORD_WEIGHT: return load_weight(r, graph, 0, out);
        case RECORD_INPUT:
            NANO_TRY(get_uint(r, NANO_INPUT_LAST, &index));
            return nano_graph_input(graph, (nano_input)index, out, r->err);
        case RECORD_CACHE:
            NANO_TRY(get_uint(r, INT32_MAX, &index));
            NANO_TRY(get_int(r, &n_head_kv));
            NANO_TRY(get_int(r, &head_dim));
            return nano_graph_cache(graph, (int32_t)index, n_head_kv, head_dim, out, r->err);
        case RECORD_GRADIENT:
            NANO_TRY(get_uint(r, INT32_MAX, &index));
            return nano_graph_gradient(graph, (int32_t)index, out, r->err);
        case RECORD_WEIGHT_OF:
            NANO_TRY(get_uint(r, NANO_MAX_FILES - 1, &index));
            return index == 0 ? damaged(r, "has a weight of no other file")
                              : load_weight(r, graph, (int32_t)index, out);
        default: return load_op(r, graph, out);
    }
}

static nano_status load_version(reader *r, uint64_t *version) {
    char found[4];
    NANO_TRY(get_bytes(r, found, sizeof found));
    if (memcmp(found, magic, sizeof magic) != 0) {
        return nano_fail(r->err, NANO_ERR_FORMAT, "program: does not start with NNPG");
    }
    return get_uint(r, UINT64_MAX, version);
}

nano_status nano_program_version(const void *data, size_t size, uint64_t *version, nano_error *err) {
    reader r = {data, size, 0, err};
    return load_version(&r, version);
}

static nano_status load(reader *r, nano_graph *graph) {
    uint64_t version = 0, n = 0, output = 0;
    NANO_TRY(load_version(r, &version));
    if (version != NANO_PROGRAM_VERSION) {
        return nano_fail(r->err, NANO_ERR_UNSUPPORTED, "program: needs program version %llu, this build has %d",
                         (unsigned long long)version, NANO_PROGRAM_VERSION);
    }
    NANO_TRY(get_uint(r, NANO_MAX_TENSORS, &n));
    for (uint64_t i = 0; i < n; i++) {
        int32_t made = -1;
        NANO_TRY(load_record(r, graph, &made));
        if (made != (int32_t)i) {
            return damaged(r, "has the same leaf twice");
        }
    }
    NANO_TRY(get_uint(r, INT32_MAX, &output));
    NANO_TRY(nano_graph_set_output(graph, (int32_t)output, r->err));
    return r->at == r->size ? NANO_OK : damaged(r, "has bytes after its end");
}

nano_status nano_graph_load(const void *data, size_t size, nano_graph **out, nano_error *err) {
    nano_graph *graph = NULL;
    NANO_TRY(nano_graph_create(&graph, err));
    reader r = {data, size, 0, err};
    nano_status status = load(&r, graph);
    if (status != NANO_OK) {
        nano_graph_free(graph);
        return status;
    }
    *out = graph;
    return NANO_OK;
}
