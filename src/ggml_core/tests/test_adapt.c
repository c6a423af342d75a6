/* LoRA: adapted graphs against the same matrices multiplied out, several files, what programs keep, what is refused. */
#define _XOPEN_SOURCE 700

#include "graph/graph.h"
#include "graph/plan.h"
#include "tests/tiny_model.h"

enum { RANK = 4, N_TOKENS = 40, MAX_TENSORS = 64 };

static const float ALPHA = 6.0f;

/* ---------------------------------------------------------------- adapters */

typedef struct adapter_tensor {
    char name[64];
    nano_type type;
    int64_t ne[2];
} adapter_tensor;

typedef struct adapter {
    char path[64];
    nano_gguf *gguf;
    const char *type, *kind, *architecture; /* NULL: no such key */
    int n;
    adapter_tensor tensors[MAX_TENSORS];
    uint64_t seed;
} adapter;

static void add_tensor(adapter *a, const char *weight, const char *suffix, int64_t n, int64_t n_rows) {
    adapter_tensor *t = &a->tensors[a->n++];
    snprintf(t->name, sizeof t->name, "%.48s%s", weight, suffix);
    t->type = NANO_TYPE_F32;
    t->ne[0] = n;
    t->ne[1] = n_rows;
}

/* The pair of each weight whose name contains `part`; the table's lies the other way round. */
static adapter adapter_for(const char *part, uint64_t seed) {
    tiny_weight weights[2 + 9 * TINY_LAYER];
    int n = tiny_weights(weights);
    adapter a = {.type = "adapter", .kind = "lora", .seed = seed};
    for (int i = 0; i < n; i++) {
        if (weights[i].ne[1] == 0 || strstr(weights[i].name, part) == NULL) {
            continue;
        }
        bool is_table = strcmp(weights[i].name, "token_embd.weight") == 0;
        int64_t n_in = weights[i].ne[0], n_out = weights[i].ne[1];
        add_tensor(&a, weights[i].name, ".lora_a", is_table ? RANK : n_in, is_table ? n_out : RANK);
        add_tensor(&a, weights[i].name, ".lora_b", RANK, is_table ? n_in : n_out);
    }
    return a;
}

static float *adapter_values(const adapter *a, int index, int64_t *n) {
    uint64_t state = 0x9E3779B97F4A7C15ULL * (a->seed + 1) + (uint64_t)index * 1000003ULL;
    *n = a->tensors[index].ne[0] * a->tensors[index].ne[1];
    float *values = malloc((size_t)*n * sizeof *values);
    for (int64_t i = 0; i < *n; i++) {
        values[i] = 0.25f * tiny_random(&state);
    }
    return values;
}

static void adapter_write(adapter *a) {
    nano_gguf_writer *w = NULL;
    const struct {
        const char *key, *value;
    } texts[] = {{"general.type", a->type}, {"adapter.type", a->kind}, {"general.architecture", a->architecture}};
    snprintf(a->path, sizeof a->path, "/tmp/nano_adapter_XXXXXX");
    int fd = mkstemp(a->path);
    CHECK(fd >= 0);
    close(fd);
    CHECK_OK(nano_gguf_writer_open(a->path, &w, &check_error));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].value != NULL) {
            nano_str s = {texts[i].value, strlen(texts[i].value)};
            CHECK_OK(nano_gguf_writer_set_str(w, texts[i].key, false, &s, 1, &check_error));
        }
    }
    CHECK_OK(nano_gguf_writer_set(w, "adapter.lora.alpha", NANO_GGUF_FLOAT32, false, &ALPHA, 1, &check_error));
    for (int i = 0; i < a->n; i++) {
        CHECK_OK(nano_gguf_writer_tensor(w, a->tensors[i].name, a->tensors[i].type, 2, a->tensors[i].ne, &check_error));
    }
    for (int i = 0; i < a->n; i++) {
        int64_t n = 0;
        float *values = adapter_values(a, i, &n);
        size_t bytes = nano_type_row_bytes(a->tensors[i].type, n);
        void *data = malloc(bytes);
        CHECK_OK(nano_type_from_float(a->tensors[i].type, values, data, n, &check_error));
        CHECK_OK(nano_gguf_writer_write(w, data, bytes, &check_error));
        free(values);
        free(data);
    }
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    CHECK_OK(nano_gguf_open(a->path, &a->gguf, &check_error));
}

static void adapter_close(adapter *a) {
    nano_gguf_free(a->gguf);
    (void)remove(a->path);
}

/* ------------------------------------------------------------------ running */

/* Logits of all tokens, in steps of n_step. */
static void run_in_steps(nano_model *model, int32_t n_threads, int n_step, float *logits) {
    nano_limits limits = nano_limits_default();
    nano_plan *plan = NULL;
    nano_session *session = NULL;
    int32_t tokens[N_TOKENS], n_rows = 0;
    uint8_t wanted[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = (i * 37 + 11) % TINY_VOCAB;
        wanted[i] = 1;
    }
    limits.n_ctx = N_TOKENS;
    limits.n_batch = limits.n_outputs = N_TOKENS;
    limits.n_threads = n_threads;
    limits.type_k = limits.type_v = NANO_TYPE_F32;
    limits.deterministic = true;
    CHECK_OK(nano_plan_create(model, &limits, &plan, &check_error));
    CHECK_OK(nano_session_create(plan, &session, &check_error));
    for (int first = 0, n = n_step; first < N_TOKENS; first += n) {
        n = n_step < N_TOKENS - first ? n_step : N_TOKENS - first;
        CHECK_OK(nano_session_eval(session, n, tokens + first, NULL, wanted, &check_error));
        const float *rows = nano_session_logits(session, &n_rows);
        CHECK(n_rows == n);
        memcpy(logits + (size_t)first * TINY_VOCAB, rows, (size_t)n * TINY_VOCAB * sizeof *logits);
    }
    nano_session_free(session);
    nano_plan_free(plan);
}

static void run(nano_model *model, int32_t n_threads, float *logits) {
    run_in_steps(model, n_threads, N_TOKENS, logits);
}

/* The model's program adapted by each file in turn, bound to all of them. */
static nano_status adapted(const tiny_model *m, int n, adapter *adapters, const float *scales, nano_model **out,
                           nano_error *err) {
    static uint8_t program[1 << 16];
    const nano_gguf *files[4] = {m->gguf};
    nano_graph *graph = NULL;
    size_t size = 0;
    CHECK_OK(nano_graph_load(m->program, m->program_size, &graph, &check_error));
    for (int i = 0; i < n; i++) {
        nano_graph *next = NULL;
        nano_status status = nano_graph_adapt(graph, adapters[i].gguf, i + 1, scales[i], &next, err);
        nano_graph_free(graph);
        if (status != NANO_OK) {
            return status;
        }
        graph = next;
        files[i + 1] = adapters[i].gguf;
    }
    CHECK_OK(nano_graph_save(graph, program, sizeof program, &size, &check_error));
    nano_graph_free(graph);
    return nano_model_create_with(files, n + 1, program, size, out, err);
}

/* The model with scale * alpha / r * B A in its weights; where the head is tied to the table, only rows of the table
 * have it: tests of the table look at the file of the graph that they read alone. */
static void merge(tiny_model *m, int n, const adapter *adapters, const float *scales) {
    tiny_weight weights[2 + 9 * TINY_LAYER];
    int n_weights = tiny_weights(weights);
    nano_gguf_writer *w = NULL;
    nano_model_free(m->model);
    nano_gguf_free(m->gguf);
    CHECK_OK(nano_gguf_writer_open(m->path, &w, &check_error));
    for (int i = 0; i < n_weights; i++) {
        CHECK_OK(nano_gguf_writer_tensor(w, weights[i].name, NANO_TYPE_F32, weights[i].ne[1] == 0 ? 1 : 2,
                                         weights[i].ne, &check_error));
    }
    for (int i = 0; i < n_weights; i++) {
        int64_t n_in = weights[i].ne[0], n_out = weights[i].ne[1] == 0 ? 1 : weights[i].ne[1];
        float *values = malloc((size_t)(n_in * n_out) * sizeof *values);
        tiny_values(i, &weights[i], values, n_in * n_out);
        for (int k = 0; k < n; k++) {
            for (int j = 0; j + 1 < adapters[k].n; j += 2) {
                size_t length = strlen(weights[i].name);
                if (strncmp(adapters[k].tensors[j].name, weights[i].name, length) == 0) {
                    int64_t count = 0;
                    float *a = adapter_values(&adapters[k], j, &count),
                          *b = adapter_values(&adapters[k], j + 1, &count);
                    for (int64_t p = 0; p < n_in * n_out; p++) {
                        double sum = 0;
                        for (int r = 0; r < RANK; r++) {
                            sum += (double)b[p / n_in * RANK + r] * (double)a[r * n_in + p % n_in];
                        }
                        values[p] += (float)((double)scales[k] * (double)ALPHA / RANK * sum);
                    }
                    free(a);
                    free(b);
                }
            }
        }
        CHECK_OK(nano_gguf_writer_write(w, values, (size_t)(n_in * n_out) * sizeof *values, &check_error));
        free(values);
    }
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    CHECK_OK(nano_gguf_open(m->path, &m->gguf, &check_error));
    CHECK_OK(nano_model_create(m->gguf, m->program, m->program_size, &m->model, &check_error));
}

static double difference(const float *a, const float *b) {
    double most = 0;
    for (int i = 0; i < N_TOKENS * TINY_VOCAB; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    }
    return most;
}

static float base[N_TOKENS * TINY_VOCAB], with[N_TOKENS * TINY_VOCAB], expected[N_TOKENS * TINY_VOCAB];

static void logits_of(const tiny_model *m, int n, adapter *adapters, const float *scales, float *logits) {
    nano_model *model = NULL;
    CHECK_OK(adapted(m, n, adapters, scales, &model, &check_error));
    if (model != NULL) {
        run(model, 2, logits);
    }
    nano_model_free(model);
}

/* ------------------------------------------------------------------- tests */

static void test_merged(void) {
    tiny_model m;
    tiny_model_open(&m, "F32");
    run(m.model, 1, base);
    adapter adapters[2] = {adapter_for("blk.", 1), adapter_for("attn_", 2)};
    const float scales[2] = {0.5f, -1.25f}, none[2] = {0.0f, 0.0f};
    adapter_write(&adapters[0]);
    adapter_write(&adapters[1]);
    logits_of(&m, 2, adapters, none, with);
    CHECK(memcmp(with, base, sizeof base) == 0);
    nano_model *model = NULL;
    CHECK_OK(adapted(&m, 2, adapters, scales, &model, &check_error));
    run(model, 1, with);
    run(model, 3, expected);
    CHECK(memcmp(with, expected, sizeof with) == 0);
    for (int n_step = 1; n_step < 20; n_step += 6) {
        run_in_steps(model, 2, n_step, expected);
        CHECK(memcmp(with, expected, sizeof with) == 0);
    }
    nano_model_free(model);
    logits_of(&m, 1, adapters, scales, base);
    merge(&m, 1, adapters, scales);
    run(m.model, 1, expected);
    CHECK(difference(base, expected) < 1e-4);
    merge(&m, 2, adapters, scales);
    run(m.model, 1, expected);
    CHECK(difference(with, expected) < 1e-4);
    CHECK(difference(with, base) > 0.1);
    adapter_close(&adapters[0]);
    adapter_close(&adapters[1]);
    tiny_model_close(&m);
}

/* Matrices in any type, on a base in any type: what they lose is the type's. */
static void test_types(const char *base_type, double limit) {
    static const char *const types[] = {"F16", "BF16", "Q8_0"};
    const float scale = 1.0f;
    tiny_model m;
    tiny_model_open(&m, base_type);
    adapter a = adapter_for("blk.", 1);
    adapter_write(&a);
    logits_of(&m, 1, &a, &scale, expected);
    run(m.model, 1, base);
    CHECK(difference(base, expected) > 20 * limit);
    adapter_close(&a);
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
        for (int i = 0; i < a.n; i += 2) { /* rows of B are shorter than a block */
            a.tensors[i].type = nano_type_from_name(types[k]);
        }
        adapter_write(&a);
        logits_of(&m, 1, &a, &scale, with);
        CHECK(difference(with, expected) < limit);
        CHECK(difference(with, expected) > 0);
        adapter_close(&a);
    }
    tiny_model_close(&m);
}

static nano_graph *program_graph(const tiny_model *m) {
    nano_graph *graph = NULL;
    CHECK_OK(nano_graph_load(m->program, m->program_size, &graph, &check_error));
    return graph;
}

static nano_graph *adapt(const nano_graph *graph, const nano_gguf *gguf) {
    nano_graph *out = NULL;
    CHECK_OK(nano_graph_adapt(graph, gguf, 1, 1.0f, &out, &check_error));
    return out;
}

static int count_ops(const nano_graph *graph, nano_op op) {
    int n = 0;
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        n += graph->tensors[i].op == op ? 1 : 0;
    }
    return n;
}

/* The table's rows have its pair, and the head that reads the table, too, does not. */
static void test_table(void) {
    tiny_model m;
    tiny_model_open(&m, "F32");
    adapter a = adapter_for("token_embd", 3);
    const float scale = 2.0f;
    adapter_write(&a);
    run(m.model, 1, base);
    logits_of(&m, 1, &a, &scale, with);
    CHECK(difference(with, base) > 0.1);
    nano_graph *from = program_graph(&m), *to = adapt(from, a.gguf);
    CHECK(count_ops(to, NANO_OP_ROWS) == count_ops(from, NANO_OP_ROWS) + 1);
    CHECK(count_ops(to, NANO_OP_LINEAR) == count_ops(from, NANO_OP_LINEAR) + 1);
    nano_graph_free(from);
    nano_graph_free(to);
    adapter_close(&a);
    tiny_model_close(&m);
}

/* A residual sum and the adapter's are both made by the linears: as many passes as there are products. */
static void test_fused(void) {
    tiny_model m;
    tiny_model_open(&m, "Q8_0");
    adapter a = adapter_for(".attn_output", 1);
    adapter_write(&a);
    nano_model *model = NULL;
    nano_plan *plan = NULL, *before = NULL;
    nano_limits limits = nano_limits_default();
    const float scale = 1.0f;
    CHECK_OK(adapted(&m, 1, &a, &scale, &model, &check_error));
    CHECK_OK(nano_plan_create(model, &limits, &plan, &check_error));
    CHECK_OK(nano_plan_create(m.model, &limits, &before, &check_error));
    int n_adds = 0;
    for (int32_t i = 0; i < plan->n_nodes; i++) {
        n_adds += plan->nodes[i].op == NANO_OP_ADD ? 1 : 0;
    }
    CHECK(n_adds == 0);
    CHECK(plan->n_nodes == before->n_nodes + 3 * TINY_LAYER);
    CHECK(plan->memory.weights == before->memory.weights + TINY_LAYER * RANK * 4 * (TINY_EMBD + TINY_EMBD));
    nano_plan_free(plan);
    nano_plan_free(before);
    nano_model_free(model);
    adapter_close(&a);
    tiny_model_close(&m);
}

/* Fused activations become ops of their own, with an adapter where its linear has one, and everywhere with none. */
static void test_activations(void) {
    const int64_t ne[2] = {TINY_EMBD, TINY_FF}, down[2] = {TINY_FF, TINY_VOCAB}, act = NANO_ACT_GELU;
    int32_t tokens = -1, wanted = -1, x = -1, w = -1;
    nano_graph *g = NULL, *split = NULL, *again = NULL;
    CHECK_OK(nano_graph_create(&g, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_TOKENS, &tokens, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_WANTED, &wanted, &check_error));
    x = tiny_op(g, "rows", tiny_op(g, "rows", tiny_w(g, "token_embd.weight"), tokens, -1), wanted, -1);
    CHECK_OK(nano_graph_weight(g, "blk.0.ffn_up.weight", 2, ne, &w, &check_error));
    int32_t src[2] = {x, w};
    CHECK_OK(nano_graph_op(g, "linear", 2, src, 1, &act, 0, NULL, &x, &check_error));
    CHECK_OK(nano_graph_weight(g, "blk.0.ffn_down.weight", 2, down, &w, &check_error));
    x = tiny_op(g, "linear", x, w, -1);
    CHECK_OK(nano_graph_set_output(g, x, &check_error));
    CHECK_OK(nano_graph_adapt(g, NULL, 0, 1.0f, &split, &check_error));
    CHECK(count_ops(split, NANO_OP_GELU) == 1 && count_ops(split, NANO_OP_LINEAR) == 2);
    CHECK(split->n_tensors == g->n_tensors + 1);
    CHECK_OK(nano_graph_adapt(split, NULL, 0, 1.0f, &again, &check_error));
    CHECK(again->n_tensors == split->n_tensors);
    nano_graph_free(split);
    nano_graph_free(again);
    adapter a = {.type = "adapter", .kind = "lora"};
    add_tensor(&a, "blk.0.ffn_up.weight", ".lora_a", TINY_EMBD, RANK);
    add_tensor(&a, "blk.0.ffn_up.weight", ".lora_b", RANK, TINY_FF);
    adapter_write(&a);
    split = adapt(g, a.gguf);
    CHECK(count_ops(split, NANO_OP_GELU) == 1 && count_ops(split, NANO_OP_LINEAR) == 4);
    for (int32_t i = 0; i < split->n_tensors; i++) {
        CHECK(split->tensors[i].op != NANO_OP_LINEAR || split->tensors[i].params.ints[0] == NANO_ACT_NONE);
        CHECK(split->tensors[i].op != NANO_OP_GELU || split->tensors[split->tensors[i].src[0]].op == NANO_OP_ADD);
    }
    nano_graph_free(split);
    nano_graph_free(g);
    adapter_close(&a);
}

/* A program of several files goes through bytes and comes back the same; broken ones are refused. */
static void test_program(void) {
    static uint8_t first[1 << 16], second[1 << 16];
    size_t n_first = 0, n_second = 0;
    tiny_model m;
    tiny_model_open(&m, "F32");
    adapter a = adapter_for("attn_q", 1);
    adapter_write(&a);
    nano_graph *from = program_graph(&m), *to = adapt(from, a.gguf), *loaded = NULL;
    CHECK_OK(nano_graph_save(from, first, sizeof first, &n_first, &check_error));
    CHECK(n_first == m.program_size && memcmp(first, m.program, n_first) == 0);
    CHECK_OK(nano_graph_save(to, first, sizeof first, &n_first, &check_error));
    CHECK_OK(nano_graph_load(first, n_first, &loaded, &check_error));
    CHECK_OK(nano_graph_save(loaded, second, sizeof second, &n_second, &check_error));
    CHECK(n_first == n_second && memcmp(first, second, n_first) == 0);
    nano_graph_free(loaded);
    for (size_t i = 0; i < n_first; i++) { /* any one byte another: loads or is refused, and is bound or refused */
        const nano_gguf *files[2] = {m.gguf, a.gguf};
        nano_model *model = NULL;
        memcpy(second, first, n_first);
        second[i] ^= (uint8_t)(1 << i % 8);
        (void)nano_model_create_with(files, 2, second, n_first, &model, NULL);
        nano_model_free(model);
    }
    nano_model *model = NULL;
    const nano_gguf *files[2] = {m.gguf, m.gguf};
    CHECK_FAILS(NANO_ERR_ARGUMENT, "of file 1, there are 1",
                nano_model_create(m.gguf, first, n_first, &model, &check_error));
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "attn_q.weight.lora_a is missing",
                nano_model_create_with(files, 2, first, n_first, &model, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "0 files", nano_model_create_with(files, 0, first, n_first, &model, &check_error));
    int32_t w = -1;
    const int64_t ne[2] = {4, 4};
    CHECK_FAILS(NANO_ERR_ARGUMENT, "file -1", nano_graph_weight_of(to, -1, "w", 2, ne, &w, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "file 256", nano_graph_weight_of(to, 256, "w", 2, ne, &w, &check_error));
    /* "NNPG", version, one tensor: of file 0 in the record for other files. */
    const uint8_t of_no_other[] = {'N', 'N', 'P', 'G', NANO_PROGRAM_VERSION, 1, 5, 0, 1, 'w', 1, 8, 0};
    CHECK_FAILS(NANO_ERR_FORMAT, "no other file",
                nano_graph_load(of_no_other, sizeof of_no_other, &loaded, &check_error));
    nano_graph_free(from);
    nano_graph_free(to);
    adapter_close(&a);
    tiny_model_close(&m);
}

/* One file's adapter, changed in one way, must be refused with `text`. */
static void refused(const tiny_model *m, adapter *a, nano_status status, const char *text) {
    nano_graph *graph = program_graph(m), *out = NULL;
    adapter_write(a);
    CHECK_FAILS(status, text, nano_graph_adapt(graph, a->gguf, 1, 1.0f, &out, &check_error));
    nano_error err;
    (void)nano_graph_adapt(graph, a->gguf, 1, 1.0f, &out, &err);
    CHECK(strstr(err.message, a->path) != NULL);
    adapter_close(a);
    nano_graph_free(graph);
}

static void test_refused(void) {
    tiny_model m;
    tiny_model_open(&m, "F32");
    adapter good = adapter_for("attn_q", 1), a = good;
    a.type = "model";
    refused(&m, &a, NANO_ERR_UNSUPPORTED, "general.type: found 'model', expected 'adapter'");
    a.type = NULL;
    refused(&m, &a, NANO_ERR_UNSUPPORTED, "general.type: found 'model', expected 'adapter'");
    a = good;
    a.kind = "control_vector";
    refused(&m, &a, NANO_ERR_UNSUPPORTED, "adapter.type: found 'control_vector', expected 'lora'");
    a = good;
    a.n--;
    refused(&m, &a, NANO_ERR_NOT_FOUND, "blk.1.attn_q.weight.lora_b is missing");
    a = good;
    a.tensors[0].ne[1] = RANK + 1;
    refused(&m, &a, NANO_ERR_SHAPE, "lora_a: found 2 dims (5, 64), expected (4, 64)");
    a = good;
    a.tensors[0].ne[0] = TINY_EMBD / 2;
    refused(&m, &a, NANO_ERR_SHAPE, "expected (4, 64)");
    a = good;
    a.tensors[1].ne[1] = TINY_EMBD + 1;
    refused(&m, &a, NANO_ERR_SHAPE, "lora_b: found 2 dims (65, 4), expected (64, 4)");
    a = good;
    add_tensor(&a, "blk.7.attn_q.weight", ".lora_a", TINY_EMBD, RANK);
    refused(&m, &a, NANO_ERR_NOT_FOUND, "blk.7.attn_q.weight.lora_a is left over");
    a = good;
    add_tensor(&a, "blk.0.attn_q.weight", ".magnitude", TINY_EMBD, 1);
    refused(&m, &a, NANO_ERR_NOT_FOUND, "blk.0.attn_q.weight.magnitude is left over");
    a = good;
    a.n = 0;
    refused(&m, &a, NANO_ERR_NOT_FOUND, "no tensors");
    nano_graph *graph = program_graph(&m), *out = NULL;
    adapter_write(&good);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "file 0", nano_graph_adapt(graph, good.gguf, 0, 1.0f, &out, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "not finite", nano_graph_adapt(graph, good.gguf, 1, NAN, &out, &check_error));
    adapter_close(&good);
    nano_graph_free(graph);
    tiny_model_close(&m);
}

static void test_architecture(void) {
    adapter llama = adapter_for("attn_q", 1), gpt2 = llama, none = llama, model = llama;
    llama.architecture = model.architecture = "llama";
    gpt2.architecture = "gpt2";
    adapter_write(&llama);
    adapter_write(&gpt2);
    adapter_write(&none);
    adapter_write(&model);
    CHECK_OK(nano_adapter_check(llama.gguf, model.gguf, &check_error));
    CHECK_OK(nano_adapter_check(none.gguf, model.gguf, &check_error));
    CHECK_OK(nano_adapter_check(gpt2.gguf, NULL, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "general.architecture: found 'gpt2', expected 'llama' as in",
                nano_adapter_check(gpt2.gguf, model.gguf, &check_error));
    nano_model *out = NULL;
    const nano_gguf *files[2] = {model.gguf, gpt2.gguf};
    CHECK_FAILS(NANO_ERR_ARGUMENT, "found 'gpt2'", nano_model_create_with(files, 2, "", 0, &out, &check_error));
    adapter_close(&llama);
    adapter_close(&gpt2);
    adapter_close(&none);
    adapter_close(&model);
}

/* Prompt caches tell apart: the model alone, each adapter, each scale, and which file comes first. */
static void test_fingerprints(void) {
    tiny_model m;
    tiny_model_open(&m, "F32");
    adapter a[4] = {adapter_for("attn_q", 1), adapter_for("attn_q", 2), adapter_for("attn_q", 1),
                    adapter_for("attn_q", 2)};
    for (int i = 0; i < 4; i++) {
        adapter_write(&a[i]);
    }
    const struct {
        int n, first;
        float scale;
    } sets[] = {{0, 0, 1.0f}, {1, 0, 1.0f}, {1, 0, 0.5f}, {1, 1, 1.0f}, {2, 0, 1.0f}, {2, 1, 1.0f}};
    enum { N_SETS = sizeof sets / sizeof sets[0] };
    uint64_t prints[N_SETS] = {0};
    for (int i = 0; i < N_SETS; i++) {
        nano_model *model = NULL;
        const float scales[2] = {sets[i].scale, sets[i].scale};
        CHECK_OK(adapted(&m, sets[i].n, a + sets[i].first, scales, &model, &check_error));
        prints[i] = nano_model_fingerprint(model);
        nano_model_free(model);
        for (int k = 0; k < i; k++) {
            CHECK(prints[i] != prints[k]);
        }
    }
    CHECK(prints[0] == nano_model_fingerprint(m.model));
    for (int i = 0; i < 4; i++) {
        adapter_close(&a[i]);
    }
    tiny_model_close(&m);
}

int main(void) {
    test_merged();
    test_types("F32", 0.1);
    test_types("Q4_0", 0.2); /* whose activations are rounded, too */
    test_table();
    test_fused();
    test_activations();
    test_program();
    test_refused();
    test_architecture();
    test_fingerprints();
    return check_result();
}
