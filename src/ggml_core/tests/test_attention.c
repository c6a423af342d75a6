/* Attention alone: every cache type, windows longer than a block, softcap, heads that fill no whole block, against a
 * plain computation, and the same bits however the tokens are split. */
#include "types/types.h"

#include <math.h>

#include "tests/check.h"
#include "tests/tiny_gguf.h"

enum { N_HEAD = 10, N_HEAD_KV = 2, K_DIM = 40, V_DIM = 24, N_TOKENS = 200, N_IDS = 24, BLOCK = 32 };
enum { N_ROW = N_HEAD * K_DIM + N_HEAD_KV * (K_DIM + V_DIM), N_OUT = N_HEAD * V_DIM };
enum { K_AT = N_HEAD * K_DIM, V_AT = K_AT + N_HEAD_KV * K_DIM };

static float table[N_IDS][N_ROW]; /* what a token asks, its keys, its values */
static int32_t tokens[N_TOKENS];
static float first[N_TOKENS][N_OUT], again[N_TOKENS][N_OUT];

typedef struct attention_case {
    const char *type_k, *type_v;
    int64_t window;
    double softcap;
} attention_case;

/* ------------------------------------------------- the plain computation */

/* n numbers as a row of `type` keeps them, filled up with zeros. */
static void kept(nano_type type, const float *x, int n, double *out) {
    float padded[2 * BLOCK] = {0}, back[2 * BLOCK];
    float row[2 * BLOCK];
    memcpy(padded, x, (size_t)n * sizeof *x);
    const nano_type_traits *traits = nano_type_find(type);
    traits->from_float(padded, row, 2 * BLOCK);
    traits->to_float(row, back, 2 * BLOCK);
    for (int i = 0; i < n; i++) {
        out[i] = (double)back[i];
    }
}

static void expect_head(const attention_case *c, int position, int head, double *out) {
    static double scores[N_TOKENS];
    const nano_type type_k = nano_type_from_name(c->type_k), type_v = nano_type_from_name(c->type_v);
    const bool quantised = nano_type_find(type_k)->activation == NANO_TYPE_A8;
    int kv = head / (N_HEAD / N_HEAD_KV), from = 0;
    double q[K_DIM], k[K_DIM], v[V_DIM], largest = -INFINITY, sum = 0;
    if (c->window > 0 && position + 1 > c->window) {
        from = position + 1 - (int)c->window;
    }
    kept(quantised ? NANO_TYPE_A8 : NANO_TYPE_F32, &table[tokens[position]][head * K_DIM], K_DIM, q);
    for (int p = from; p <= position; p++) {
        kept(type_k, &table[tokens[p]][K_AT + kv * K_DIM], K_DIM, k);
        scores[p] = 0;
        for (int i = 0; i < K_DIM; i++) {
            scores[p] += q[i] * k[i] / sqrt((double)K_DIM);
        }
        scores[p] = c->softcap > 0 ? c->softcap * tanh(scores[p] / c->softcap) : scores[p];
        largest = scores[p] > largest ? scores[p] : largest;
    }
    memset(out, 0, V_DIM * sizeof *out);
    for (int p = from; p <= position; p++) {
        sum += exp(scores[p] - largest);
    }
    for (int p = from; p <= position; p++) {
        kept(type_v, &table[tokens[p]][V_AT + kv * V_DIM], V_DIM, v);
        for (int i = 0; i < V_DIM; i++) {
            out[i] += exp(scores[p] - largest) / sum * v[i];
        }
    }
}

/* The largest difference; values are of size 1. */
static double worst_difference(const attention_case *c) {
    double worst = 0, out[V_DIM];
    for (int t = 0; t < N_TOKENS; t += t < 70 ? 1 : 7) {
        for (int h = 0; h < N_HEAD; h++) {
            expect_head(c, t, h, out);
            for (int i = 0; i < V_DIM; i++) {
                double d = fabs((double)first[t][h * V_DIM + i] - out[i]);
                worst = d <= worst ? worst : d; /* a NaN is the worst */
            }
        }
    }
    return worst;
}

/* ------------------------------------------------------------------- model */

static int32_t heads(nano_graph *g, int32_t x, int64_t offset, int64_t dim, int64_t n) {
    int64_t ints[4] = {offset, 2, dim, n};
    int32_t out = -1;
    CHECK_OK(nano_graph_op(g, "view", 1, &x, 4, ints, 0, NULL, &out, &check_error));
    return out;
}

static int32_t cached(nano_graph *g, int32_t x, int32_t index, int64_t dim) {
    int32_t src[2] = {x, -1}, out = -1;
    CHECK_OK(nano_graph_cache(g, index, N_HEAD_KV, dim, &src[1], &check_error));
    CHECK_OK(nano_graph_op(g, "kv_write", 2, src, 0, NULL, 0, NULL, &out, &check_error));
    return out;
}

static size_t make_program(const attention_case *c, uint8_t *program, size_t capacity) {
    nano_graph *g = NULL;
    int64_t ne[2] = {N_ROW, N_IDS};
    int32_t ids = -1, wanted = -1, weight = -1, x = -1, out = -1;
    double floats[2] = {0.0, c->softcap};
    size_t size = 0;
    CHECK_OK(nano_graph_create(&g, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_TOKENS, &ids, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_WANTED, &wanted, &check_error));
    CHECK_OK(nano_graph_weight(g, "table", 2, ne, &weight, &check_error));
    CHECK_OK(nano_graph_op(g, "rows", 2, (int32_t[]){weight, ids}, 0, NULL, 0, NULL, &x, &check_error));
    int32_t k = cached(g, heads(g, x, K_AT, K_DIM, N_HEAD_KV), 0, K_DIM);
    int32_t v = cached(g, heads(g, x, V_AT, V_DIM, N_HEAD_KV), 1, V_DIM);
    int32_t src[3] = {heads(g, x, 0, K_DIM, N_HEAD), k, v};
    CHECK_OK(nano_graph_op(g, "attention", 3, src, 1, &c->window, 2, floats, &out, &check_error));
    CHECK_OK(nano_graph_op(g, "rows", 2, (int32_t[]){out, wanted}, 0, NULL, 0, NULL, &out, &check_error));
    CHECK_OK(nano_graph_set_output(g, out, &check_error));
    CHECK_OK(nano_graph_save(g, program, capacity, &size, &check_error));
    nano_graph_free(g);
    return size;
}

static nano_gguf *make_file(void) {
    static tiny_gguf file;
    nano_gguf *gguf = NULL;
    tiny_begin(&file);
    tiny_string(&file, "table");
    tiny_u32(&file, 2);
    tiny_u64(&file, N_ROW);
    tiny_u64(&file, N_IDS);
    tiny_u32(&file, NANO_TYPE_F32);
    tiny_u64(&file, 0);
    while (file.size % 32 != 0) {
        tiny_bytes(&file, "", 1);
    }
    tiny_bytes(&file, table, sizeof table);
    file.bytes[8] = 1; /* tensors */
    CHECK_OK(tiny_open(&file, &gguf, &check_error));
    return gguf;
}

/* -------------------------------------------------------------------- runs */

/* All tokens, n_batch a step; with two slots every second token of a step is another's. */
static void run(const nano_model *model, const attention_case *c, int32_t n_threads, int32_t n_batch, int32_t n_slots,
                float (*out)[N_OUT]) {
    nano_limits l = nano_limits_default();
    nano_plan *plan = NULL;
    nano_session *s = NULL;
    l.n_ctx = N_TOKENS;
    l.n_batch = l.n_outputs = n_batch;
    l.n_threads = n_threads;
    l.n_slots = n_slots;
    l.type_k = nano_type_from_name(c->type_k);
    l.type_v = nano_type_from_name(c->type_v);
    CHECK_OK(nano_plan_create(model, &l, &plan, &check_error));
    CHECK_OK(nano_session_create(plan, &s, &check_error));
    for (int32_t at = 0, mine; s != NULL && at < N_TOKENS; at += mine) {
        int32_t ids[N_TOKENS], slots[N_TOKENS], n = 0, n_rows = 0;
        uint8_t wanted[N_TOKENS];
        for (mine = 0; n < n_batch && at + mine < N_TOKENS; n++) {
            slots[n] = n % n_slots;
            ids[n] = slots[n] == 0 ? tokens[at + mine++] : tokens[(at + n) * 7 % N_TOKENS];
            wanted[n] = slots[n] == 0;
        }
        CHECK_OK(nano_session_eval(s, n, ids, slots, wanted, &check_error));
        const float *rows = nano_session_logits(s, &n_rows);
        CHECK(n_rows == mine);
        memcpy(out[at], rows, (size_t)mine * sizeof out[0]);
    }
    nano_session_free(s);
    nano_plan_free(plan);
}

static void test_case(const nano_gguf *gguf, const char *level, const attention_case *c) {
    static const struct {
        int32_t n_threads, n_batch, n_slots;
    } splits[] = {{3, N_TOKENS, 1}, {1, 1, 1}, {2, 7, 1}, {1, 33, 1}, {2, 64, 1}, {2, 50, 2}};
    uint8_t program[4096];
    nano_model *model = NULL;
    size_t size = make_program(c, program, sizeof program);
    CHECK_OK(nano_model_create(gguf, program, size, &model, &check_error));
    if (model == NULL) {
        return;
    }
    run(model, c, 1, N_TOKENS, 1, first);
    double worst = worst_difference(c);
    if (!(worst < 2e-6)) {
        check_n_failed++;
        fprintf(stderr, "level %s, %s keys, %s values, window %d, softcap %g: off by %g\n", level, c->type_k, c->type_v,
                (int)c->window, c->softcap, worst);
    }
    for (size_t i = 0; i < sizeof splits / sizeof splits[0]; i++) {
        memset(again, 0, sizeof again);
        run(model, c, splits[i].n_threads, splits[i].n_batch, splits[i].n_slots, again);
        if (memcmp(first, again, sizeof first) != 0) {
            check_n_failed++;
            fprintf(stderr,
                    "level %s, %s keys, %s values, window %d: other bits with %d threads, %d a step, %d slots\n", level,
                    c->type_k, c->type_v, (int)c->window, (int)splits[i].n_threads, (int)splits[i].n_batch,
                    (int)splits[i].n_slots);
        }
    }
    nano_model_free(model);
}

static void fill(void) {
    uint64_t state = 1;
    for (int32_t id = 0; id < N_IDS; id++) {
        for (int32_t i = 0; i < N_ROW; i++) {
            state = state * 6364136223846793005ULL + 1442695040888963407ULL;
            table[id][i] = (float)(int32_t)(state >> 32) / 2147483648.0f * (i < V_AT ? 3.0f : 1.0f);
        }
    }
    for (int32_t t = 0; t < N_TOKENS; t++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        tokens[t] = (int32_t)(state >> 40) % N_IDS;
    }
}

int main(void) {
    static const attention_case cases[] = {
        {"F32", "F32", 0, 0.0},     {"F32", "F32", 100, 5.0},  {"F16", "F16", 65, 0.0},
        {"F16", "Q8_0", 0, 0.0},    {"Q8_0", "F16", 100, 0.0}, {"Q8_0", "Q8_0", 0, 0.0},
        {"Q8_0", "Q4_0", 130, 0.0}, {"Q4_0", "Q8_0", 30, 2.0}, {"Q4_0", "Q4_0", 0, 0.0}};
    char levels[128];
    fill();
    nano_gguf *gguf = make_file();
    snprintf(levels, sizeof levels, "%s", nano_cpu_levels());
    for (char *level = strtok(levels, ","); level != NULL && gguf != NULL; level = strtok(NULL, ",")) {
        CHECK_OK(nano_cpu_set_level(level, &check_error));
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            test_case(gguf, level, &cases[i]);
        }
    }
    nano_gguf_free(gguf);
    return check_result();
}
