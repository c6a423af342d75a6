/* Gradients against central differences of a plain f64 forward pass, an op's derivative at a time and in whole models;
 * the same bits for any number of threads and with activations computed again; what backward refuses. */
#define _XOPEN_SOURCE 700

#include "tests/graph_reference.h"

#include <unistd.h>

enum { VOCAB = 11, EMBD = 8, MAX_TOKENS = 96, MAX_PARAMS = 64, PROGRAM_BYTES = 1 << 18 };

/* ------------------------------------------------------------------ graphs */

typedef struct builder {
    nano_graph *g;
    int32_t tokens, positions, wanted;
} builder;

static builder make_builder(void) {
    builder b = {0};
    CHECK_OK(nano_graph_create(&b.g, &check_error));
    CHECK_OK(nano_graph_input(b.g, NANO_INPUT_TOKENS, &b.tokens, &check_error));
    CHECK_OK(nano_graph_input(b.g, NANO_INPUT_POSITIONS, &b.positions, &check_error));
    CHECK_OK(nano_graph_input(b.g, NANO_INPUT_WANTED, &b.wanted, &check_error));
    return b;
}

/* n_out 0: a vector. */
static int32_t weight(builder *b, const char *name, int64_t n_in, int64_t n_out) {
    const int64_t ne[2] = {n_in, n_out};
    int32_t out = -1;
    CHECK_OK(nano_graph_weight(b->g, name, n_out == 0 ? 1 : 2, ne, &out, &check_error));
    return out;
}

static int32_t op_with(builder *b, const char *name, const int32_t src[3], const int64_t ints[4],
                       const double floats[2]) {
    const nano_op_info *info = nano_op_by_name(name);
    const int64_t all_ints[NANO_MAX_INTS] = {ints[0], ints[1], ints[2], ints[3]};
    const double all_floats[NANO_MAX_FLOATS] = {floats[0], floats[1]};
    int32_t out = -1;
    CHECK_OK(
        nano_graph_op(b->g, name, 3, src, info->max_ints, all_ints, info->max_floats, all_floats, &out, &check_error));
    return out;
}

static int32_t op(builder *b, const char *name, int32_t x, int32_t y, int32_t z) {
    return op_with(b, name, (int32_t[3]){x, y, z}, (int64_t[4]){0}, (double[2]){0});
}

static int32_t op_int(builder *b, const char *name, int32_t x, int32_t y, int32_t z, int64_t value) {
    return op_with(b, name, (int32_t[3]){x, y, z}, (int64_t[4]){value}, (double[2]){0});
}

static int32_t op_float(builder *b, const char *name, int32_t x, int32_t y, int32_t z, double value) {
    return op_with(b, name, (int32_t[3]){x, y, z}, (int64_t[4]){0}, (double[2]){value});
}

/* d1 0: one inner dim. */
static int32_t view(builder *b, int32_t x, int64_t at, int64_t d0, int64_t d1) {
    return op_with(b, "view", (int32_t[3]){x, -1, -1}, (int64_t[4]){at, d1 == 0 ? 1 : 2, d0, d1}, (double[2]){0});
}

/* (T, EMBD) from the tokens and a table of its own. */
static int32_t embed(builder *b, const char *name) {
    return op(b, "rows", weight(b, name, EMBD, VOCAB), b->tokens, -1);
}

/* Cross entropy of what a last linear makes of x (T, n). */
static int32_t loss_of(builder *b, int32_t x, int64_t n) {
    int32_t loss = -1;
    const int32_t logits = op(b, "linear", op(b, "rows", x, b->wanted, -1), weight(b, "output", n, VOCAB), -1);
    CHECK_OK(nano_graph_set_output(b->g, logits, &check_error));
    CHECK_OK(nano_graph_loss(b->g, &loss, &check_error));
    CHECK(b->g->output == logits);
    return loss;
}

static int32_t build_rows(builder *b) {
    const int32_t x =
        op(b, "add", embed(b, "tokens"), op(b, "rows", weight(b, "positions", EMBD, 16), b->positions, -1), -1);
    return loss_of(b, x, EMBD);
}

/* The table of tokens is the output matrix, too. */
static int32_t build_tied(builder *b) {
    const int32_t h = op(b, "linear", embed(b, "output"), weight(b, "h", EMBD, EMBD), -1);
    return loss_of(b, op(b, "add", h, op(b, "rows", weight(b, "output", EMBD, VOCAB), b->tokens, -1), -1), EMBD);
}

static int32_t build_linear(builder *b) {
    int32_t x = embed(b, "tokens");
    x = op(b, "linear", x, weight(b, "a", EMBD, 7), weight(b, "a.bias", 7, 0));
    x = op_int(b, "linear", x, weight(b, "b", 7, 9), weight(b, "b.bias", 9, 0), NANO_ACT_GELU);
    x = op_int(b, "linear", x, weight(b, "c", 9, EMBD), -1, NANO_ACT_SILU);
    return loss_of(b, x, EMBD);
}

static int32_t norm_of(builder *b, const char *kind, int32_t x, const char *name, const char *bias, int64_t n) {
    const int32_t src[3] = {x, weight(b, name, n, 0), bias == NULL ? -1 : weight(b, bias, n, 0)};
    return op_with(b, kind, src, (int64_t[4]){0}, (double[2]){1e-5});
}

/* Over rows and over heads, with and without a bias. */
static int32_t build_norm(builder *b) {
    int32_t x = norm_of(b, "norm", embed(b, "tokens"), "norm.a", "bias", EMBD);
    int32_t heads = norm_of(b, "norm", view(b, x, 0, 4, 2), "norm.b", NULL, 4);
    x = op(b, "add", x, view(b, op(b, "silu", heads, -1, -1), 0, EMBD, 0), -1);
    return loss_of(b, x, EMBD);
}

static int32_t build_rms_norm(builder *b) {
    int32_t x = norm_of(b, "rms_norm", embed(b, "tokens"), "norm.a", NULL, EMBD);
    int32_t heads = norm_of(b, "rms_norm", view(b, x, 2, 3, 2), "norm.b", NULL, 3);
    return loss_of(b, op(b, "gelu", heads, -1, -1) >= 0 ? view(b, op(b, "gelu", heads, -1, -1), 0, 6, 0) : -1, 6);
}

static int32_t build_gelu_silu(builder *b) {
    const int32_t x = embed(b, "tokens");
    return loss_of(b, op(b, "add", op(b, "gelu", x, -1, -1), op(b, "silu", view(b, x, 0, EMBD, 0), -1, -1), -1), EMBD);
}

/* Two matrices, one matrix twice, heads, and both cut from one matrix's result in the other order. */
static int32_t build_swiglu(builder *b) {
    const int32_t x = embed(b, "tokens"), gate = op(b, "linear", x, weight(b, "gate", EMBD, 6), -1);
    const int32_t up = op(b, "linear", x, weight(b, "up", EMBD, 6), -1);
    const int32_t both = op(b, "linear", x, weight(b, "both", EMBD, 12), -1);
    const int32_t heads = op(b, "swiglu", view(b, gate, 0, 3, 2), view(b, up, 0, 3, 2), -1);
    const int32_t twice = op(b, "mul", op(b, "swiglu", gate, gate, -1), view(b, heads, 0, 6, 0), -1);
    const int32_t fused = op(b, "swiglu", view(b, both, 6, 6, 0), view(b, both, 0, 6, 0), -1);
    return loss_of(b, op(b, "add", op(b, "swiglu", gate, up, -1), op(b, "add", twice, fused, -1), -1), 6);
}

/* With a vector, with another activation, with itself. */
static int32_t build_add_mul_scale(builder *b) {
    int32_t x = op(b, "add", embed(b, "tokens"), weight(b, "shift", EMBD, 0), -1);
    int32_t y = op(b, "mul", x, weight(b, "factor", EMBD, 0), -1);
    int32_t heads = op(b, "mul", view(b, y, 0, 4, 2), weight(b, "factor of heads", 4, 0), -1);
    heads = op(b, "add", heads, weight(b, "shift of heads", 4, 0), -1);
    y = op(b, "add", op(b, "mul", x, y, -1), op(b, "mul", x, x, -1), -1);
    y = op(b, "add", y, op(b, "add", x, x, -1), -1);
    y = op(b, "add", y, view(b, heads, 0, EMBD, 0), -1);
    return loss_of(b, op_float(b, "scale", y, -1, -1, -0.7), EMBD);
}

/* Pieces that overlap, more of them than join takes, views of views, rows that no view covers. */
static int32_t build_views(builder *b) {
    const int32_t x = op(b, "linear", embed(b, "tokens"), weight(b, "a", EMBD, 24), -1);
    int32_t sum = view(b, x, 0, 3, 0);
    for (int64_t at = 3; at < 22; at += at < 12 ? 3 : 2) { /* up to element 23 of 24 */
        const int32_t piece = view(b, x, at, 3, 0);
        sum = op(b, "add", op_float(b, "scale", sum, -1, -1, 0.9), op(b, "gelu", piece, -1, -1), -1);
    }
    const int32_t heads = view(b, x, 4, 3, 4), inner = view(b, heads, 2, 3, 0);
    sum = op(b, "add", sum, op(b, "silu", inner, -1, -1), -1);
    const int32_t only_viewed = view(b, op(b, "silu", heads, -1, -1), 2, 5, 2);
    const int32_t row = view(b, only_viewed, 4, 3, 0);
    return loss_of(b, op(b, "mul", sum, row, -1), 3);
}

static int32_t rope(builder *b, int32_t x, int64_t n_rot, int64_t order) {
    const int32_t table =
        op_with(b, "rope_table", (int32_t[3]){b->positions, -1, -1}, (int64_t[4]){n_rot}, (double[2]){100.0});
    return op_int(b, "rope", x, table, -1, order);
}

static int32_t build_rope(builder *b) {
    const int32_t x = op(b, "linear", embed(b, "tokens"), weight(b, "a", EMBD, 12), -1);
    const int32_t pairs = rope(b, view(b, x, 0, 6, 2), 6, NANO_ROPE_PAIRS);
    const int32_t halves = rope(b, pairs, 4, NANO_ROPE_HALVES);
    return loss_of(b, op(b, "gelu", view(b, halves, 0, 12, 0), -1, -1), 12);
}

typedef struct heads {
    int64_t n_head, n_kv, head_dim, v_dim, window;
    double scale, softcap;
} heads;

static int32_t write_cache(builder *b, int32_t x, int32_t index) {
    const nano_tensor t = b->g->tensors[x];
    int32_t cache = -1;
    CHECK_OK(nano_graph_cache(b->g, index, t.ne[1], t.ne[0], &cache, &check_error));
    return op(b, "kv_write", x, cache, -1);
}

static int32_t attend(builder *b, int32_t q, int32_t k, int32_t v, const heads *h) {
    return op_with(b, "attention", (int32_t[3]){q, k, v}, (int64_t[4]){h->window}, (double[2]){h->scale, h->softcap});
}

/* Q, K and V cut out of one matrix's result. */
static int32_t fused_attention(builder *b, int32_t x, const char *name, int32_t layer, const heads *h) {
    const int64_t n_q = h->n_head * h->head_dim, n_k = h->n_kv * h->head_dim, n_v = h->n_kv * h->v_dim;
    const int32_t qkv = op(b, "linear", x, weight(b, name, EMBD, n_q + n_k + n_v), -1);
    const int32_t k = write_cache(b, view(b, qkv, n_q, h->head_dim, h->n_kv), 2 * layer);
    const int32_t v = write_cache(b, view(b, qkv, n_q + n_k, h->v_dim, h->n_kv), 2 * layer + 1);
    return attend(b, view(b, qkv, 0, h->head_dim, h->n_head), k, v, h);
}

static int32_t build_attention(builder *b) {
    const heads h = {2, 2, 4, 4, 0, 0.0, 0.0};
    return loss_of(b, fused_attention(b, embed(b, "tokens"), "qkv", 0, &h), 8);
}

/* Heads that share keys and values, values of another size, a window, a scale and a softcap. */
static int32_t build_attention_odd(builder *b) {
    const heads h = {4, 2, 3, 5, 3, 0.9, 1.5};
    return loss_of(b, fused_attention(b, embed(b, "tokens"), "qkv", 0, &h), 20);
}

/* Two attentions over the same keys and values; the queries of one alone depend on a parameter of their own. */
static int32_t build_attention_shared(builder *b) {
    const heads h = {2, 1, 4, 4, 0, 0.0, 0.0};
    const int32_t x = embed(b, "tokens");
    const int32_t kv = op(b, "linear", x, weight(b, "kv", EMBD, 8), -1);
    const int32_t k = write_cache(b, rope(b, view(b, kv, 0, 4, 1), 4, NANO_ROPE_PAIRS), 0);
    const int32_t v = write_cache(b, view(b, kv, 4, 4, 1), 1);
    const int32_t first = attend(b, view(b, x, 0, 4, 2), k, v, &h);
    const int32_t q = op(b, "linear", first, weight(b, "q", 8, 8), -1);
    return loss_of(b, op(b, "add", first, attend(b, view(b, q, 0, 4, 2), k, v, &h), -1), 8);
}

static int32_t build_sum(builder *b) {
    const int32_t x = op(b, "linear", embed(b, "tokens"), weight(b, "a", EMBD, 6), -1);
    return op_float(b, "sum", op(b, "gelu", view(b, x, 0, 3, 2), -1, -1), -1, -1, 0.125);
}

static int32_t layer_weight(builder *b, int layer, const char *name, int64_t n_in, int64_t n_out) {
    char full[64];
    snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    return weight(b, full, n_in, n_out);
}

static int32_t layer_norm(builder *b, const char *kind, int32_t x, int layer, const char *name, bool bias, int64_t n) {
    char full[64], full_bias[64];
    snprintf(full, sizeof full, "blk.%d.%s_norm", layer, name);
    snprintf(full_bias, sizeof full_bias, "blk.%d.%s_bias", layer, name);
    return norm_of(b, kind, x, full, bias ? full_bias : NULL, n);
}

static int32_t build_gpt2(builder *b) {
    const heads h = {2, 2, 4, 4, 0, 0.0, 0.0};
    int32_t x = op(b, "add", embed(b, "output"), op(b, "rows", weight(b, "positions", EMBD, 16), b->positions, -1), -1);
    for (int i = 0; i < 3; i++) {
        char qkv[64];
        snprintf(qkv, sizeof qkv, "blk.%d.qkv", i);
        int32_t a = fused_attention(b, layer_norm(b, "norm", x, i, "attn", true, EMBD), qkv, i, &h);
        x = op(b, "add", x,
               op(b, "linear", a, layer_weight(b, i, "out", EMBD, EMBD), layer_weight(b, i, "out bias", EMBD, 0)), -1);
        a = op_int(b, "linear", layer_norm(b, "norm", x, i, "ffn", true, EMBD), layer_weight(b, i, "up", EMBD, 10),
                   layer_weight(b, i, "up bias", 10, 0), NANO_ACT_GELU);
        x = op(b, "add", x, op(b, "linear", a, layer_weight(b, i, "down", 10, EMBD), -1), -1);
    }
    return loss_of(b, norm_of(b, "norm", x, "norm", "bias", EMBD), EMBD);
}

/* With norms of the heads. */
static int32_t build_llama(builder *b) {
    const heads h = {4, 2, 4, 4, 0, 0.0, 0.0};
    int32_t x = embed(b, "tokens");
    for (int i = 0; i < 3; i++) {
        const int32_t a = layer_norm(b, "rms_norm", x, i, "attn", false, EMBD);
        const int32_t q = op(b, "linear", a, layer_weight(b, i, "q", EMBD, 16), -1);
        const int32_t k = op(b, "linear", a, layer_weight(b, i, "k", EMBD, 8), -1);
        const int32_t v = op(b, "linear", a, layer_weight(b, i, "v", EMBD, 8), -1);
        const int32_t qn = layer_norm(b, "rms_norm", view(b, q, 0, 4, 4), i, "q", false, 4);
        const int32_t kn = layer_norm(b, "rms_norm", view(b, k, 0, 4, 2), i, "k", false, 4);
        const int32_t keys = write_cache(b, rope(b, kn, 4, NANO_ROPE_HALVES), 2 * i);
        const int32_t values = write_cache(b, view(b, v, 0, 4, 2), 2 * i + 1);
        const int32_t o = attend(b, rope(b, qn, 4, NANO_ROPE_HALVES), keys, values, &h);
        x = op(b, "add", x, op(b, "linear", o, layer_weight(b, i, "out", 16, EMBD), -1), -1);
        const int32_t f = layer_norm(b, "rms_norm", x, i, "ffn", false, EMBD);
        const int32_t gate = op(b, "linear", f, layer_weight(b, i, "gate", EMBD, 6), -1);
        const int32_t up = op(b, "linear", f, layer_weight(b, i, "up", EMBD, 6), -1);
        x = op(b, "add", x, op(b, "linear", op(b, "swiglu", gate, up, -1), layer_weight(b, i, "down", 6, EMBD), -1),
               -1);
    }
    return loss_of(b, norm_of(b, "rms_norm", x, "norm", NULL, EMBD), EMBD);
}

/* Parameters before and behind frozen matrices of the types that their names say. All is linear, so that gradients do not
 * depend on what the forward pass makes of its activations for the sake of quantised weights. */
static int32_t build_frozen(builder *b) {
    int32_t x = op(b, "linear", embed(b, "tokens"), weight(b, "a", EMBD, 64), -1);
    x = op(b, "linear", x, weight(b, "frozen.Q8_0", 64, 32), weight(b, "bias", 32, 0));
    x = op(b, "linear", x, weight(b, "frozen.Q4_0", 32, 256), -1);
    x = op(b, "linear", x, weight(b, "frozen.Q4_K", 256, 12), -1);
    x = op(b, "linear", x, weight(b, "frozen.F16", 12, EMBD), -1);
    x = op(b, "mul", op(b, "add", x, weight(b, "shift", EMBD, 0), -1), weight(b, "frozen.factor", EMBD, 0), -1);
    return op_float(b, "sum", x, -1, -1, 1.0);
}

static const struct {
    const char *name;
    int32_t (*build)(builder *b);
    int32_t n_first, n_second; /* tokens of the two sequences */
    double loss_tolerance;     /* relative */
} cases[] = {
    {"rows", build_rows, 9, 5, 1e-6},
    {"tied", build_tied, 9, 5, 1e-6},
    {"linear", build_linear, 9, 5, 1e-6},
    {"norm", build_norm, 9, 5, 1e-6},
    {"rms_norm", build_rms_norm, 9, 5, 1e-6},
    {"gelu, silu", build_gelu_silu, 9, 5, 1e-6},
    {"swiglu", build_swiglu, 9, 5, 1e-6},
    {"add, mul, scale", build_add_mul_scale, 9, 5, 1e-6},
    {"views", build_views, 9, 5, 1e-6},
    {"rope", build_rope, 9, 5, 1e-6},
    {"attention", build_attention, 9, 5, 1e-6},
    {"attention over blocks", build_attention, 75, 20, 1e-6},
    {"attention, odd", build_attention_odd, 9, 5, 1e-6},
    {"attention, odd, over blocks", build_attention_odd, 75, 20, 1e-6},
    {"attention, shared keys", build_attention_shared, 9, 5, 1e-6},
    {"sum", build_sum, 9, 5, 1e-6},
    {"gpt2", build_gpt2, 9, 5, 1e-6},
    {"llama", build_llama, 9, 5, 1e-6},
    {"frozen", build_frozen, 9, 5, 0.2}, /* whose activations are quantised, too; a sum of both signs */
};

/* ------------------------------------------------------------------- files */

/* xorshift64*: the same numbers everywhere, from -1 to 1. */
static double draw(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * 0x2545F4914F6CDD1DULL) >> 40) / (double)(1 << 23) - 1.0;
}

static bool is_frozen(const nano_tensor *t) { return strncmp(t->name, "frozen.", 7) == 0; }

static nano_type type_of(const nano_tensor *t) {
    const nano_type type = is_frozen(t) ? nano_type_from_name(t->name + 7) : -1;
    return type >= 0 ? type : NANO_TYPE_F32;
}

static void write_weight(nano_gguf_writer *w, const nano_tensor *t, uint64_t *state) {
    const int64_t n = nano_tensor_row_size(t);
    const size_t bytes = nano_type_row_bytes(type_of(t), n);
    const bool is_norm = strstr(t->name, "norm") != NULL;
    float *values = malloc((size_t)n * sizeof *values);
    void *data = malloc(bytes);
    for (int64_t i = 0; i < n; i++) {
        values[i] = (float)(draw(state) * (t->n_dims == 1 ? 0.3 : 0.5) + (is_norm ? 1.0 : 0.0));
    }
    CHECK_OK(nano_type_from_float(type_of(t), values, data, n, &check_error));
    CHECK_OK(nano_gguf_writer_write(w, data, bytes, &check_error));
    free(values);
    free(data);
}

/* A file with all weights that the graph reads. */
static void write_file(const nano_graph *g, char *path) {
    uint64_t state = 88172645463325252ULL;
    nano_gguf_writer *w = NULL;
    const int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    CHECK_OK(nano_gguf_writer_open(path, &w, &check_error));
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const nano_tensor *t = &g->tensors[i];
        if (t->storage == NANO_STORE_WEIGHT) {
            CHECK_OK(nano_gguf_writer_tensor(w, t->name, type_of(t), t->n_dims, t->ne, &check_error));
        }
    }
    for (int32_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].storage == NANO_STORE_WEIGHT) {
            write_weight(w, &g->tensors[i], &state);
        }
    }
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
}

/* ------------------------------------------------------------------- steps */

/* Two sequences: what a session takes, and the same as the reference wants it. */
typedef struct batch {
    int32_t n_tokens, n_wanted;
    int32_t tokens[MAX_TOKENS], slots[MAX_TOKENS], positions[MAX_TOKENS], targets[MAX_TOKENS];
    float weights[MAX_TOKENS];
    int32_t wanted[MAX_TOKENS], wanted_targets[MAX_TOKENS];
    double wanted_weights[MAX_TOKENS];
} batch;

static batch make_batch(int32_t n_first, int32_t n_second) {
    batch s = {.n_tokens = n_first + n_second};
    uint64_t state = 4101842887655102017ULL;
    for (int32_t i = 0; i < s.n_tokens; i++) {
        s.tokens[i] = (int32_t)((draw(&state) + 1.0) * VOCAB / 2.0) % VOCAB;
        s.slots[i] = i < n_first ? 1 : 0; /* the other way round than the obvious one */
        s.positions[i] = i < n_first ? i : i - n_first;
        s.targets[i] = i % 3 == 1 ? -1 : (int32_t)((draw(&state) + 1.0) * VOCAB / 2.0) % VOCAB;
        s.weights[i] = 0.25f * (float)(1 + i % 4);
        if (s.targets[i] >= 0) {
            s.wanted[s.n_wanted] = i;
            s.wanted_targets[s.n_wanted] = s.targets[i];
            s.wanted_weights[s.n_wanted++] = (double)s.weights[i];
        }
    }
    return s;
}

/* The gradients of a graph's parameters, one after the other, and its loss. */
typedef struct gradients {
    double loss;
    int32_t n_params;
    nano_param params[MAX_PARAMS]; /* value and gradient: copies */
    uint64_t activations;          /* bytes planned */
} gradients;

static void read_gradients(const nano_graph *g, nano_session *session, gradients *out) {
    out->n_params = nano_session_n_params(session);
    CHECK(out->n_params > 0 && out->n_params <= MAX_PARAMS);
    for (int32_t i = 0; i < out->n_params && i < MAX_PARAMS; i++) {
        nano_param *p = &out->params[i];
        CHECK_OK(nano_session_param(session, i, p, &check_error));
        p->name = g->tensors[nano_graph_find_weight(g, 0, p->name)].name; /* the model's is gone with it */
        float *copy = malloc((size_t)p->n * 2 * sizeof *copy);
        memcpy(copy, p->value, (size_t)p->n * sizeof *copy);
        memcpy(copy + p->n, p->gradient, (size_t)p->n * sizeof *copy);
        p->value = copy;
        p->gradient = copy + p->n;
    }
}

static void free_gradients(gradients *g) {
    for (int32_t i = 0; i < g->n_params; i++) {
        free(g->params[i].value);
    }
}

/* One step of a session over a graph with gradients. */
static void run_session(const nano_graph *g, const nano_gguf *gguf, const batch *s, int32_t n_threads, gradients *out) {
    static uint8_t program[PROGRAM_BYTES];
    size_t size = 0;
    nano_model *model = NULL;
    nano_plan *plan = NULL;
    nano_session *session = NULL;
    nano_limits limits = nano_limits_default();
    limits.n_ctx = s->n_tokens;
    limits.n_batch = limits.n_outputs = s->n_tokens;
    limits.n_slots = 2;
    limits.n_threads = n_threads;
    limits.type_k = limits.type_v = NANO_TYPE_F32;
    limits.deterministic = true;
    CHECK_OK(nano_graph_save(g, program, sizeof program, &size, &check_error));
    CHECK_OK(nano_model_create(gguf, program, size, &model, &check_error));
    CHECK_OK(nano_plan_create(model, &limits, &plan, &check_error));
    CHECK_OK(nano_session_create(plan, &session, &check_error));
    if (session == NULL) {
        exit(check_result()); /* nothing else can work */
    }
    CHECK_OK(nano_session_gradient(session, s->n_tokens, s->tokens, s->slots, s->targets, s->weights, &out->loss,
                                   &check_error));
    out->activations = nano_plan_memory(plan).activations;
    read_gradients(g, session, out);
    nano_session_free(session);
    nano_plan_free(plan);
    nano_model_free(model);
}

static bool same_bits(const gradients *a, const gradients *b) {
    bool same = a->loss == b->loss && a->n_params == b->n_params;
    for (int32_t i = 0; same && i < a->n_params; i++) {
        same = memcmp(a->params[i].gradient, b->params[i].gradient, (size_t)a->params[i].n * sizeof(float)) == 0;
    }
    return same;
}

/* ------------------------------------------------------------- comparisons */

static void fill_weights(reference *r, const nano_gguf *gguf) {
    for (int32_t i = 0; i < r->graph->n_tensors; i++) {
        const nano_tensor *t = &r->graph->tensors[i];
        if (t->storage != NANO_STORE_WEIGHT) {
            continue;
        }
        const int64_t n = nano_tensor_row_size(t);
        const nano_gguf_tensor *stored = nano_gguf_find_tensor(gguf, t->name);
        float *values = malloc((size_t)n * sizeof *values);
        CHECK_OK(nano_type_to_float(stored->type, stored->data, values, n, &check_error));
        for (int64_t k = 0; k < n; k++) {
            r->values[i][k] = (double)values[k];
        }
        free(values);
    }
}

/* The loss's central difference for one number of a weight. */
static double difference(reference *r, int32_t w, int64_t k, int32_t loss) {
    const double h = 1e-5, kept = r->values[w][k];
    double f[2];
    for (int side = 0; side < 2; side++) {
        r->values[w][k] = side == 0 ? kept - h : kept + h;
        reference_run(r, w + 1, loss);
        f[side] = r->values[loss][0];
    }
    r->values[w][k] = kept;
    return (f[1] - f[0]) / (2.0 * h);
}

/* How far gradients may be from the differences, relative to their norm: f32 sums of some hundred products. */
static const double tolerance = 3e-6;

static void compare_param(const char *name, reference *r, const nano_param *p, int32_t loss) {
    const int32_t w = nano_graph_find_weight(r->graph, p->file, p->name);
    double error = 0.0, norm = 0.0;
    CHECK(w >= 0);
    for (int64_t k = 0; w >= 0 && k < p->n; k++) {
        const double expected = difference(r, w, k, loss), off = (double)p->gradient[k] - expected;
        error += off * off;
        norm += expected * expected;
    }
    reference_run(r, w + 1, loss); /* as it was */
    if (!(sqrt(error) <= tolerance * sqrt(norm)) || !(norm > 1e-6)) {
        fprintf(stderr, "%s: gradient of %s is off by %g, its norm is %g\n", name, p->name, sqrt(error), sqrt(norm));
        CHECK(!"within the tolerance");
    }
}

static int32_t list_params(const nano_graph *g, int32_t *params) {
    int32_t n = 0;
    for (int32_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].storage == NANO_STORE_WEIGHT && !is_frozen(&g->tensors[i]) && n < MAX_PARAMS) {
            params[n++] = i;
        }
    }
    return n;
}

/* Marks the ops that a case differentiates. */
static void test_case(int i, bool seen[]) {
    builder b = make_builder(), again = make_builder();
    const int32_t loss = cases[i].build(&b), n = b.g->n_tensors;
    CHECK(cases[i].build(&again) == loss);
    char path[] = "/tmp/nano_grad_XXXXXX";
    int32_t params[MAX_PARAMS];
    const int32_t n_params = list_params(b.g, params);
    const batch s = make_batch(cases[i].n_first, cases[i].n_second);
    nano_gguf *gguf = NULL;
    gradients one = {0}, three = {0}, recomputed = {0};
    write_file(b.g, path);
    CHECK_OK(nano_gguf_open(path, &gguf, &check_error));
    reference r = {b.g,         s.n_tokens, s.n_wanted,       s.tokens,         s.slots,
                   s.positions, s.wanted,   s.wanted_targets, s.wanted_weights, NULL};
    for (int32_t t = 0; t < n; t++) {
        seen[b.g->tensors[t].op] = true;
    }
    reference_open(&r);
    fill_weights(&r, gguf);
    reference_run(&r, 0, loss);
    CHECK_OK(nano_graph_backward(b.g, loss, n_params, params, false, &check_error));
    CHECK_OK(nano_graph_backward(again.g, loss, n_params, params, true, &check_error));
    run_session(b.g, gguf, &s, 1, &one);
    run_session(b.g, gguf, &s, 3, &three);
    run_session(again.g, gguf, &s, 2, &recomputed);
    CHECK(one.n_params == n_params);
    CHECK(fabs(one.loss - r.values[loss][0]) <= cases[i].loss_tolerance * fabs(r.values[loss][0]));
    CHECK(same_bits(&one, &three));
    CHECK(same_bits(&one, &recomputed));
    const bool has_layers = nano_graph_find_weight(b.g, 0, "blk.2.out") >= 0;
    CHECK(!has_layers || recomputed.activations < one.activations / 4 * 3);
    b.g->n_tensors = n; /* the reference knows forward ops alone */
    for (int32_t p = 0; p < one.n_params; p++) {
        compare_param(cases[i].name, &r, &one.params[p], loss);
    }
    reference_close(&r);
    free_gradients(&one);
    free_gradients(&three);
    free_gradients(&recomputed);
    nano_gguf_free(gguf);
    (void)remove(path);
    nano_graph_free(b.g);
    nano_graph_free(again.g);
}

/* The weights that the loss depends on. */
static int32_t reached_params(const nano_graph *g, int32_t loss, int32_t *params) {
    bool *reached = calloc((size_t)g->n_tensors, sizeof *reached);
    int32_t n = 0;
    reached[loss] = true;
    for (int32_t i = loss; i >= 0; i--) {
        for (int k = 0; k < NANO_MAX_SRC && reached[i] && g->tensors[i].src[k] >= 0; k++) {
            reached[g->tensors[i].src[k]] = true;
        }
        if (reached[i] && g->tensors[i].storage == NANO_STORE_WEIGHT && n < MAX_PARAMS) {
            params[n++] = i;
        }
    }
    free(reached);
    return n;
}

/* An op over x (T, EMBD), or over it and any earlier value, of the same shape. */
static int32_t random_op(builder *b, uint64_t *state, int layer, int32_t at, int32_t x, int32_t other) {
    const heads h = {2, 1 + at % 2, 4, 4, at % 5, 0.0, 0.0};
    char name[64], second[64];
    snprintf(name, sizeof name, "blk.%d.w%d", layer, (int)at);
    snprintf(second, sizeof second, "blk.%d.norm%d", layer, (int)at);
    switch ((int)((draw(state) + 1.0) * 4.0)) {
        case 0: return op_int(b, "linear", x, weight(b, name, EMBD, EMBD), -1, at % 3);
        case 1: return norm_of(b, "norm", x, second, NULL, EMBD);
        case 2: return view(b, norm_of(b, "rms_norm", view(b, x, 0, 4, 2), second, NULL, 4), 0, EMBD, 0);
        case 3: return op(b, "swiglu", op(b, "linear", x, weight(b, name, EMBD, EMBD), -1), other, -1);
        case 4: return op(b, "mul", x, op(b, "gelu", other, -1, -1), -1);
        case 5: return op(b, "add", op_float(b, "scale", x, -1, -1, 0.5), op(b, "silu", other, -1, -1), -1);
        case 6: return fused_attention(b, x, name, at, &h);
        default: return op(b, "add", x, other, -1);
    }
}

/* Layers of anything, which read each other's values as they like. */
static int32_t build_random(builder *b, uint64_t seed) {
    int32_t made[64] = {embed(b, "tokens")}, n = 1;
    uint64_t state = 88172645463325252ULL + seed * 1000003ULL;
    for (int layer = 0; layer < 4; layer++) {
        for (int i = 0; i < 6; i++, n++) {
            const int back = (int)((draw(&state) + 1.0) * 0.5 * (n < 8 ? n : 8));
            made[n] = random_op(b, &state, layer, n, made[n - 1], made[n - 1 - back % n]);
        }
    }
    return loss_of(b, norm_of(b, "norm", made[n - 1], "norm", NULL, EMBD), EMBD);
}

/* Whatever the graph: kept or computed again, on one thread or three, the same bits. */
static void test_random_layers(void) {
    int n_shorter = 0;
    const batch s = make_batch(7, 4);
    for (uint64_t seed = 0; seed < 40; seed++) {
        builder b = make_builder(), again = make_builder();
        const int32_t loss = build_random(&b, seed);
        int32_t params[MAX_PARAMS];
        char path[] = "/tmp/nano_grad_XXXXXX";
        nano_gguf *gguf = NULL;
        gradients kept = {0}, recomputed = {0};
        CHECK(build_random(&again, seed) == loss);
        write_file(b.g, path);
        CHECK_OK(nano_gguf_open(path, &gguf, &check_error));
        const int32_t n_params = reached_params(b.g, loss, params);
        CHECK_OK(nano_graph_backward(b.g, loss, n_params, params, false, &check_error));
        CHECK_OK(nano_graph_backward(again.g, loss, n_params, params, true, &check_error));
        run_session(b.g, gguf, &s, 1, &kept);
        run_session(again.g, gguf, &s, 3, &recomputed);
        CHECK(same_bits(&kept, &recomputed));
        n_shorter += recomputed.activations < kept.activations ? 1 : 0;
        free_gradients(&kept);
        free_gradients(&recomputed);
        nano_gguf_free(gguf);
        (void)remove(path);
        nano_graph_free(b.g);
        nano_graph_free(again.g);
    }
    CHECK(n_shorter > 20);
}

/* ------------------------------------------------------------- the graph */

static int count_ops(const nano_graph *g, const char *name) {
    const nano_op_info *info = nano_op_by_name(name);
    int n = 0;
    CHECK(info != NULL);
    for (int32_t i = 0; i < g->n_tensors; i++) {
        n += info != NULL && g->tensors[i].op == info->op ? 1 : 0;
    }
    return n;
}

/* What is frozen has no gradient, and nothing before the first parameter is differentiated. */
static void test_frozen(void) {
    builder b = make_builder();
    const int32_t loss = build_gpt2(&b), down = nano_graph_find_weight(b.g, 0, "blk.1.down");
    CHECK_OK(nano_graph_backward(b.g, loss, 1, &down, false, &check_error));
    int n_gradients = 0;
    for (int32_t i = 0; i < b.g->n_tensors; i++) {
        const nano_tensor *t = &b.g->tensors[i];
        n_gradients += t->storage == NANO_STORE_GRAD ? 1 : 0;
        CHECK(t->storage != NANO_STORE_WEIGHT || t->is_param == (i == down));
    }
    CHECK(n_gradients == 1 && b.g->output == loss);
    CHECK(count_ops(b.g, "linear_grad_w") == 1);
    CHECK(count_ops(b.g, "linear_grad_x") == 5); /* the output and the four of layer 2 */
    CHECK(count_ops(b.g, "attention_grad") == 1);
    CHECK(count_ops(b.g, "rows_grad") == 0);
    nano_graph_free(b.g);
}

/* The gradient of a fused Q, K, V lies as it should when attention has made it; pieces that do not are joined once. */
static void test_joins(void) {
    builder fused = make_builder(), pieces = make_builder();
    int32_t params[MAX_PARAMS];
    int32_t loss = build_gpt2(&fused);
    CHECK_OK(nano_graph_backward(fused.g, loss, list_params(fused.g, params), params, false, &check_error));
    CHECK(count_ops(fused.g, "join") == 0);
    const int32_t x = op(&pieces, "linear", embed(&pieces, "tokens"), weight(&pieces, "a", EMBD, 12), -1);
    int32_t sum = view(&pieces, x, 9, 3, 0);
    for (int64_t at = 0; at < 9; at += 3) {
        sum = op(&pieces, "mul", sum, view(&pieces, x, at, 3, 0), -1);
    }
    loss = loss_of(&pieces, sum, 3);
    CHECK_OK(nano_graph_backward(pieces.g, loss, list_params(pieces.g, params), params, false, &check_error));
    CHECK(count_ops(pieces.g, "join") == 1 && count_ops(pieces.g, "add") == 0);
    nano_graph_free(fused.g);
    nano_graph_free(pieces.g);
}

/* Each layer is computed again, but for what crosses to the next one, what no gradient reads (the linears behind v and
 * at the end of the layer) and the writing of keys and values. */
static void test_recomputed(void) {
    builder b = make_builder();
    int32_t params[MAX_PARAMS];
    const int32_t loss = build_llama(&b);
    CHECK_OK(nano_graph_backward(b.g, loss, list_params(b.g, params), params, true, &check_error));
    CHECK(count_ops(b.g, "linear") == 3 * 7 + 1 + 3 * 5);
    CHECK(count_ops(b.g, "attention") == 3 + 3);
    CHECK(count_ops(b.g, "kv_write") == 3 * 2);
    nano_graph_free(b.g);
}

/* ---------------------------------------------------------------- refusals */

/* backward fails and leaves the graph as it was. */
static void refused(builder *b, nano_status status, const char *text, int32_t loss, int32_t n_params,
                    const int32_t *params) {
    static uint8_t before[PROGRAM_BYTES], after[PROGRAM_BYTES];
    size_t size = 0, size_after = 0;
    const int32_t output = b->g->output;
    CHECK_OK(nano_graph_save(b->g, before, sizeof before, &size, &check_error));
    for (int recompute = 0; recompute < 2; recompute++) {
        CHECK_FAILS(status, text, nano_graph_backward(b->g, loss, n_params, params, recompute != 0, &check_error));
        CHECK_OK(nano_graph_save(b->g, after, sizeof after, &size_after, &check_error));
        CHECK(size == size_after && memcmp(before, after, size) == 0 && b->g->output == output);
    }
    for (int32_t i = 0; i < b->g->n_tensors; i++) {
        CHECK(!b->g->tensors[i].is_param);
    }
}

static void test_refusals(void) {
    builder b = make_builder();
    const int32_t unread = weight(&b, "unread", EMBD, 0), loss = build_linear(&b);
    const int32_t a = nano_graph_find_weight(b.g, 0, "a"), both[2] = {a, unread};
    const int32_t logits = b.g->output, wrong[2] = {a, logits};
    CHECK(a >= 0 && nano_graph_find_weight(b.g, 1, "a") == -1 && nano_graph_find_weight(b.g, 0, "nothing") == -1);
    refused(&b, NANO_ERR_ARGUMENT, "does not depend on parameter unread", loss, 2, both);
    refused(&b, NANO_ERR_ARGUMENT, "expected a weight", loss, 2, wrong);
    refused(&b, NANO_ERR_ARGUMENT, "0 parameters", loss, 0, NULL);
    refused(&b, NANO_ERR_ARGUMENT, "no loss", logits, 1, &a);
    refused(&b, NANO_ERR_ARGUMENT, "no loss", -1, 1, &a);
    refused(&b, NANO_ERR_ARGUMENT, "no loss", b.g->n_tensors, 1, &a);
    refused(&b, NANO_ERR_ARGUMENT, "no loss", a, 1, &a);
    CHECK_OK(nano_graph_backward(b.g, loss, 1, &a, false, &check_error));
    CHECK_FAILS(NANO_ERR_SHAPE, "logits",
                nano_graph_loss(b.g, &(int32_t){-1}, &check_error)); /* the output is a loss */
    nano_graph_free(b.g);
    b = make_builder();
    CHECK_FAILS(NANO_ERR_ARGUMENT, "no output", nano_graph_loss(b.g, &(int32_t){-1}, &check_error));
    nano_graph_free(b.g);
}

/* Frequencies of a rope table cannot be learnt. */
static void test_no_derivative(void) {
    builder b = make_builder();
    const int32_t x = view(&b, embed(&b, "tokens"), 0, 4, 2), factors = weight(&b, "factors", 2, 0);
    const int32_t table =
        op_with(&b, "rope_table", (int32_t[3]){b.positions, factors, -1}, (int64_t[4]){4}, (double[2]){100.0});
    const int32_t loss = loss_of(&b, view(&b, op(&b, "rope", x, table, -1), 0, EMBD, 0), EMBD);
    refused(&b, NANO_ERR_UNSUPPORTED, "op rope_table has no derivative over its source 1", loss, 1, &factors);
    nano_graph_free(b.g);
}

/* Attention's gradients read the caches after all is done. */
static void test_caches(void) {
    for (int kind = 0; kind < 2; kind++) {
        builder b = make_builder();
        const heads h = {2, 2, 4, 4, 0, 0.0, 0.0};
        const int32_t q = view(&b, embed(&b, "tokens"), 0, 4, 2), v = write_cache(&b, q, 1);
        int32_t k = write_cache(&b, q, 0);
        if (kind == 0) {
            (void)write_cache(&b, op(&b, "gelu", q, -1, -1), 0);
        } else {
            CHECK_OK(nano_graph_cache(b.g, 0, 2, 4, &k, &check_error));
        }
        const int32_t loss = loss_of(&b, attend(&b, q, k, v, &h), 8), w = nano_graph_find_weight(b.g, 0, "tokens");
        refused(&b, NANO_ERR_UNSUPPORTED, "cache 0", loss, 1, &w);
        nano_graph_free(b.g);
    }
}

/* More gradients than a graph takes; and a layer as long as it can be, computed again without running out of stack. */
static void test_limits(void) {
    for (int kind = 0; kind < 2; kind++) {
        builder b = make_builder();
        int32_t x = op(&b, "linear", embed(&b, "tokens"), weight(&b, "blk.0.a", EMBD, EMBD), -1);
        const int32_t w = nano_graph_find_weight(b.g, 0, "blk.0.a");
        for (int i = 0; i < (kind == 0 ? 9000 : 5000); i++) {
            x = kind == 0 ? op_float(&b, "scale", x, -1, -1, 1.0) : op(&b, "silu", x, -1, -1);
        }
        const int32_t loss = loss_of(&b, op(&b, "linear", x, weight(&b, "blk.1.a", EMBD, EMBD), -1), EMBD);
        if (kind == 0) {
            refused(&b, NANO_ERR_LIMIT, "more than 16384 tensors", loss, 1, &w);
        } else {
            CHECK_OK(nano_graph_backward(b.g, loss, 1, &w, true, &check_error));
            CHECK(count_ops(b.g, "silu") == 2 * 5000 - 1); /* the last crosses to the next layer */
        }
        nano_graph_free(b.g);
    }
}

int main(void) {
    bool seen[64] = {false};
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
        test_case(i, seen);
    }
    for (int op_number = 1; op_number <= NANO_OP_CROSS_ENTROPY; op_number++) {
        CHECK(seen[op_number]); /* all that models are made of */
    }
    CHECK(seen[NANO_OP_SUM]);
    test_random_layers();
    test_frozen();
    test_joins();
    test_recomputed();
    test_refusals();
    test_no_derivative();
    test_caches();
    test_limits();
    return check_result();
}
