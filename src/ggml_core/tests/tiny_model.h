/* A small Llama-shaped model with random weights, in a temporary file, for tests of graphs, plans and sessions. */
#ifndef NANO_TESTS_TINY_MODEL_H
#define NANO_TESTS_TINY_MODEL_H

#include "tests/check.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    TINY_VOCAB = 96,
    TINY_EMBD = 64,
    TINY_HEAD = 4,
    TINY_HEAD_KV = 2,
    TINY_HEAD_DIM = 16,
    TINY_FF = 128,
    TINY_LAYER = 2
};

typedef struct tiny_model {
    char path[64];
    nano_gguf *gguf;
    nano_model *model;
    uint8_t program[16384];
    size_t program_size;
} tiny_model;

/* xorshift64*: the same numbers everywhere. */
static inline float tiny_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (float)((*state * 0x2545F4914F6CDD1DULL) >> 40) / (float)(1 << 23) - 1.0f;
}

typedef struct tiny_weight {
    char name[64];
    int64_t ne[2]; /* ne[1] = 0: a vector */
} tiny_weight;

/* Every weight in file order; returns how many. */
static inline int tiny_weights(tiny_weight *out) {
    static const struct {
        const char *name;
        int64_t n_in, n_out;
    } per_layer[] = {{"attn_norm", TINY_EMBD, 0},
                     {"attn_q", TINY_EMBD, TINY_HEAD * TINY_HEAD_DIM},
                     {"attn_k", TINY_EMBD, TINY_HEAD_KV * TINY_HEAD_DIM},
                     {"attn_v", TINY_EMBD, TINY_HEAD_KV * TINY_HEAD_DIM},
                     {"attn_output", TINY_HEAD * TINY_HEAD_DIM, TINY_EMBD},
                     {"ffn_norm", TINY_EMBD, 0},
                     {"ffn_gate", TINY_EMBD, TINY_FF},
                     {"ffn_up", TINY_EMBD, TINY_FF},
                     {"ffn_down", TINY_FF, TINY_EMBD}};
    int n = 0;
    out[n++] = (tiny_weight){"token_embd.weight", {TINY_EMBD, TINY_VOCAB}};
    out[n++] = (tiny_weight){"output_norm.weight", {TINY_EMBD, 0}};
    for (int layer = 0; layer < TINY_LAYER; layer++) {
        for (size_t i = 0; i < sizeof per_layer / sizeof per_layer[0]; i++) {
            tiny_weight *w = &out[n++];
            snprintf(w->name, sizeof w->name, "blk.%d.%s.weight", layer, per_layer[i].name);
            w->ne[0] = per_layer[i].n_in;
            w->ne[1] = per_layer[i].n_out;
        }
    }
    return n;
}

static inline int32_t tiny_w(nano_graph *g, const char *name) {
    tiny_weight weights[2 + 9 * TINY_LAYER];
    int n = tiny_weights(weights);
    int32_t out = -1;
    for (int i = 0; i < n; i++) {
        if (strcmp(weights[i].name, name) == 0) {
            CHECK_OK(nano_graph_weight(g, name, weights[i].ne[1] == 0 ? 1 : 2, weights[i].ne, &out, &check_error));
        }
    }
    return out;
}

static inline int32_t tiny_layer_w(nano_graph *g, int layer, const char *name) {
    char full[64];
    snprintf(full, sizeof full, "blk.%d.%s.weight", layer, name);
    return tiny_w(g, full);
}

static inline int32_t tiny_op(nano_graph *g, const char *name, int32_t a, int32_t b, int32_t c) {
    int32_t src[3] = {a, b, c}, out = -1;
    CHECK_OK(nano_graph_op(g, name, 3, src, 0, NULL, 0, NULL, &out, &check_error));
    return out;
}

static inline int32_t tiny_rms_norm(nano_graph *g, int32_t x, int32_t w) {
    int32_t src[2] = {x, w}, out = -1;
    double eps = 1e-5;
    CHECK_OK(nano_graph_op(g, "rms_norm", 2, src, 0, NULL, 1, &eps, &out, &check_error));
    return out;
}

static inline int32_t tiny_heads(nano_graph *g, int32_t x, int64_t n_head) {
    int64_t ints[4] = {0, 2, TINY_HEAD_DIM, n_head};
    int32_t out = -1;
    CHECK_OK(nano_graph_op(g, "view", 1, &x, 4, ints, 0, NULL, &out, &check_error));
    return out;
}

static inline int32_t tiny_cache(nano_graph *g, int32_t index) {
    int32_t out = -1;
    CHECK_OK(nano_graph_cache(g, index, TINY_HEAD_KV, TINY_HEAD_DIM, &out, &check_error));
    return out;
}

static inline int32_t tiny_layer(nano_graph *g, int layer, int32_t x, int32_t table) {
    int32_t h = tiny_rms_norm(g, x, tiny_layer_w(g, layer, "attn_norm"));
    int32_t q = tiny_op(g, "linear", h, tiny_layer_w(g, layer, "attn_q"), -1);
    int32_t k = tiny_op(g, "linear", h, tiny_layer_w(g, layer, "attn_k"), -1);
    int32_t v = tiny_op(g, "linear", h, tiny_layer_w(g, layer, "attn_v"), -1);
    q = tiny_op(g, "rope", tiny_heads(g, q, TINY_HEAD), table, -1);
    k = tiny_op(g, "rope", tiny_heads(g, k, TINY_HEAD_KV), table, -1);
    k = tiny_op(g, "kv_write", k, tiny_cache(g, 2 * layer), -1);
    v = tiny_op(g, "kv_write", tiny_heads(g, v, TINY_HEAD_KV), tiny_cache(g, 2 * layer + 1), -1);
    h = tiny_op(g, "attention", q, k, v);
    x = tiny_op(g, "add", x, tiny_op(g, "linear", h, tiny_layer_w(g, layer, "attn_output"), -1), -1);
    h = tiny_rms_norm(g, x, tiny_layer_w(g, layer, "ffn_norm"));
    int32_t gate = tiny_op(g, "linear", h, tiny_layer_w(g, layer, "ffn_gate"), -1);
    int32_t up = tiny_op(g, "linear", h, tiny_layer_w(g, layer, "ffn_up"), -1);
    h = tiny_op(g, "swiglu", gate, up, -1);
    return tiny_op(g, "add", x, tiny_op(g, "linear", h, tiny_layer_w(g, layer, "ffn_down"), -1), -1);
}

static inline nano_graph *tiny_graph(void) {
    nano_graph *g = NULL;
    int32_t tokens = -1, positions = -1, wanted = -1, table = -1;
    CHECK_OK(nano_graph_create(&g, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_TOKENS, &tokens, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_POSITIONS, &positions, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_WANTED, &wanted, &check_error));
    int64_t n_rot = TINY_HEAD_DIM;
    double freq_base = 10000.0;
    CHECK_OK(nano_graph_op(g, "rope_table", 1, &positions, 1, &n_rot, 1, &freq_base, &table, &check_error));
    int32_t x = tiny_op(g, "rows", tiny_w(g, "token_embd.weight"), tokens, -1);
    for (int layer = 0; layer < TINY_LAYER; layer++) {
        x = tiny_layer(g, layer, x, table);
    }
    x = tiny_rms_norm(g, tiny_op(g, "rows", x, wanted, -1), tiny_w(g, "output_norm.weight"));
    x = tiny_op(g, "linear", x, tiny_w(g, "token_embd.weight"), -1);
    CHECK_OK(nano_graph_set_output(g, x, &check_error));
    return g;
}

/* Random values of a weight: the same for every type. */
static inline void tiny_values(int index, const tiny_weight *w, float *values, int64_t n) {
    uint64_t state = 88172645463325252ULL + (uint64_t)index * 1000003ULL;
    for (int64_t i = 0; i < n; i++) {
        values[i] = w->ne[1] == 0 ? 1.0f + 0.1f * tiny_random(&state) : 0.25f * tiny_random(&state);
    }
}

static inline void tiny_model_open(tiny_model *m, const char *type_name) {
    tiny_weight weights[2 + 9 * TINY_LAYER];
    int n = tiny_weights(weights);
    nano_type type = nano_type_from_name(type_name), f32 = nano_type_from_name("F32");
    nano_gguf_writer *w = NULL;
    snprintf(m->path, sizeof m->path, "/tmp/nano_tiny_XXXXXX");
    int fd = mkstemp(m->path);
    CHECK(fd >= 0);
    close(fd);
    CHECK_OK(nano_gguf_writer_open(m->path, &w, &check_error));
    for (int i = 0; i < n; i++) {
        bool vector = weights[i].ne[1] == 0;
        CHECK_OK(nano_gguf_writer_tensor(w, weights[i].name, vector ? f32 : type, vector ? 1 : 2, weights[i].ne,
                                         &check_error));
    }
    for (int i = 0; i < n; i++) {
        bool vector = weights[i].ne[1] == 0;
        int64_t count = weights[i].ne[0] * (vector ? 1 : weights[i].ne[1]);
        size_t bytes = nano_type_row_bytes(vector ? f32 : type, count);
        float *values = malloc((size_t)count * sizeof *values);
        void *data = malloc(bytes);
        tiny_values(i, &weights[i], values, count);
        CHECK_OK(nano_type_from_float(vector ? f32 : type, values, data, count, &check_error));
        CHECK_OK(nano_gguf_writer_write(w, data, bytes, &check_error));
        free(values);
        free(data);
    }
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    nano_graph *g = tiny_graph();
    CHECK_OK(nano_graph_save(g, m->program, sizeof m->program, &m->program_size, &check_error));
    nano_graph_free(g);
    CHECK_OK(nano_gguf_open(m->path, &m->gguf, &check_error));
    CHECK_OK(nano_model_create(m->gguf, m->program, m->program_size, &m->model, &check_error));
    if (check_n_failed > 0) {
        exit(check_result()); /* nothing else can work */
    }
}

static inline void tiny_model_close(tiny_model *m) {
    nano_model_free(m->model);
    nano_gguf_free(m->gguf);
    (void)remove(m->path);
}

static inline nano_session *tiny_session(const tiny_model *m, nano_limits limits) {
    nano_plan *plan = NULL;
    nano_session *session = NULL;
    CHECK_OK(nano_plan_create(m->model, &limits, &plan, &check_error));
    CHECK_OK(nano_session_create(plan, &session, &check_error));
    nano_plan_free(plan);
    if (session == NULL) {
        exit(check_result());
    }
    return session;
}

#endif
