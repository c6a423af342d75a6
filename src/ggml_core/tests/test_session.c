/* Sessions: logits against a plain computation, the same bits however the work is split, slots, limits, memory. */
#define _XOPEN_SOURCE 700

#include <pthread.h>

#include "base/platform.h"
#include "tests/tiny_model.h"

enum { N_TOKENS = 150, N_CTX = 160 };

static int32_t tokens[N_TOKENS];

static nano_limits limits_of(int32_t n_threads, int32_t n_batch, int32_t n_slots) {
    nano_limits l = nano_limits_default();
    l.n_ctx = N_CTX;
    l.n_threads = n_threads;
    l.n_batch = n_batch;
    l.n_slots = n_slots;
    l.n_outputs = n_batch;
    l.deterministic = true;
    return l;
}

/* ------------------------------------------------- the plain computation */

static double ref_weights[2 + 9 * TINY_LAYER][TINY_VOCAB * TINY_FF];
static double ref_k[TINY_LAYER][N_TOKENS][TINY_HEAD_KV][TINY_HEAD_DIM];
static double ref_v[TINY_LAYER][N_TOKENS][TINY_HEAD_KV][TINY_HEAD_DIM];

static void ref_matvec(int w, int n_in, int n_out, const double *x, double *y) {
    for (int r = 0; r < n_out; r++) {
        y[r] = 0;
        for (int i = 0; i < n_in; i++) {
            y[r] += ref_weights[w][r * n_in + i] * x[i];
        }
    }
}

static void ref_norm(int w, const double *x, double *y) {
    double sum = 0;
    for (int i = 0; i < TINY_EMBD; i++) {
        sum += x[i] * x[i];
    }
    for (int i = 0; i < TINY_EMBD; i++) {
        y[i] = x[i] / sqrt(sum / TINY_EMBD + 1e-5) * ref_weights[w][i];
    }
}

static void ref_rope(double *x, int n_head, int position) {
    for (int h = 0; h < n_head; h++) {
        for (int i = 0; i < TINY_HEAD_DIM / 2; i++) {
            double angle = position * pow(10000.0, -2.0 * i / TINY_HEAD_DIM);
            double *p = x + h * TINY_HEAD_DIM + 2 * i, a = p[0], b = p[1];
            p[0] = a * cos(angle) - b * sin(angle);
            p[1] = a * sin(angle) + b * cos(angle);
        }
    }
}

static void ref_attention(int layer, int position, const double *q, double *out) {
    for (int h = 0; h < TINY_HEAD; h++) {
        int kv = h / (TINY_HEAD / TINY_HEAD_KV);
        double scores[N_TOKENS], sum = 0;
        for (int p = 0; p <= position; p++) {
            scores[p] = 0;
            for (int i = 0; i < TINY_HEAD_DIM; i++) {
                scores[p] += q[h * TINY_HEAD_DIM + i] * ref_k[layer][p][kv][i];
            }
            scores[p] = exp(scores[p] / sqrt((double)TINY_HEAD_DIM));
            sum += scores[p];
        }
        for (int i = 0; i < TINY_HEAD_DIM; i++) {
            out[h * TINY_HEAD_DIM + i] = 0;
            for (int p = 0; p <= position; p++) {
                out[h * TINY_HEAD_DIM + i] += scores[p] / sum * ref_v[layer][p][kv][i];
            }
        }
    }
}

static void ref_logits(int position, double *logits) {
    double x[TINY_EMBD], h[TINY_EMBD], q[TINY_HEAD * TINY_HEAD_DIM], a[TINY_FF], b[TINY_FF];
    memcpy(x, &ref_weights[0][tokens[position] * TINY_EMBD], sizeof x);
    for (int layer = 0; layer < TINY_LAYER; layer++) {
        int w = 2 + 9 * layer, n_kv = TINY_HEAD_KV * TINY_HEAD_DIM;
        double *k = &ref_k[layer][position][0][0], *v = &ref_v[layer][position][0][0];
        ref_norm(w, x, h);
        ref_matvec(w + 1, TINY_EMBD, TINY_HEAD * TINY_HEAD_DIM, h, q);
        ref_matvec(w + 2, TINY_EMBD, n_kv, h, k);
        ref_matvec(w + 3, TINY_EMBD, n_kv, h, v);
        ref_rope(q, TINY_HEAD, position);
        ref_rope(k, TINY_HEAD_KV, position);
        ref_attention(layer, position, q, a);
        ref_matvec(w + 4, TINY_HEAD * TINY_HEAD_DIM, TINY_EMBD, a, h);
        for (int i = 0; i < TINY_EMBD; i++) {
            x[i] += h[i];
        }
        ref_norm(w + 5, x, h);
        ref_matvec(w + 6, TINY_EMBD, TINY_FF, h, a);
        ref_matvec(w + 7, TINY_EMBD, TINY_FF, h, b);
        for (int i = 0; i < TINY_FF; i++) {
            a[i] = a[i] / (1 + exp(-a[i])) * b[i];
        }
        ref_matvec(w + 8, TINY_FF, TINY_EMBD, a, h);
        for (int i = 0; i < TINY_EMBD; i++) {
            x[i] += h[i];
        }
    }
    ref_norm(1, x, h);
    ref_matvec(0, TINY_EMBD, TINY_VOCAB, h, logits);
}

static void load_reference(const char *type_name) {
    tiny_weight weights[2 + 9 * TINY_LAYER];
    int n = tiny_weights(weights);
    nano_type type = nano_type_from_name(type_name);
    for (int w = 0; w < n; w++) {
        bool vector = weights[w].ne[1] == 0;
        int64_t count = weights[w].ne[0] * (vector ? 1 : weights[w].ne[1]);
        static float values[TINY_VOCAB * TINY_FF];
        static uint8_t packed[TINY_VOCAB * TINY_FF * 4];
        tiny_values(w, &weights[w], values, count);
        if (!vector) {
            CHECK_OK(nano_type_from_float(type, values, packed, count, &check_error));
            CHECK_OK(nano_type_to_float(type, packed, values, count, &check_error));
        }
        for (int64_t i = 0; i < count; i++) {
            ref_weights[w][i] = (double)values[i];
        }
    }
}

/* Evaluates all tokens, n_batch at a time, and keeps every token's logits. */
static void run(nano_session *s, int32_t n_batch, int32_t n_past, float *out) {
    uint8_t wanted[N_TOKENS];
    memset(wanted, 1, sizeof wanted);
    for (int32_t at = n_past; at < N_TOKENS; at += n_batch) {
        int32_t n = N_TOKENS - at < n_batch ? N_TOKENS - at : n_batch, n_rows = 0;
        CHECK_OK(nano_session_eval(s, n, tokens + at, NULL, wanted, &check_error));
        const float *logits = nano_session_logits(s, &n_rows);
        CHECK(n_rows == n);
        memcpy(out + (size_t)at * TINY_VOCAB, logits, (size_t)n * TINY_VOCAB * sizeof *out);
    }
}

static float first[N_TOKENS * TINY_VOCAB], again[N_TOKENS * TINY_VOCAB];

/* The largest difference to the plain computation, as a fraction of the logits' range. */
static double worst_difference(const float *logits) {
    double worst = 0, low = 0, high = 0;
    for (int t = 0; t < N_TOKENS; t++) {
        double expected[TINY_VOCAB];
        ref_logits(t, expected);
        for (int i = 0; i < TINY_VOCAB; i++) {
            double d = fabs((double)logits[t * TINY_VOCAB + i] - expected[i]);
            worst = d > worst ? d : worst;
            low = expected[i] < low ? expected[i] : low;
            high = expected[i] > high ? expected[i] : high;
        }
    }
    return worst / (high - low);
}

static void same_bits(const char *level, const char *type, const char *what, int32_t n) {
    if (memcmp(first, again, sizeof first) != 0) {
        check_n_failed++;
        fprintf(stderr, "level %s, %s: other bits with %s %d\n", level, type, what, (int)n);
    }
}

/* -------------------------------------------------------------------- tests */

static void test_splits(const tiny_model *m, const char *level, const char *type, double tolerance, nano_type type_k,
                        nano_type type_v) {
    static const int32_t threads[] = {2, 3, 7}, batches[] = {1, 7, 31, 512};
    nano_limits l = limits_of(1, N_TOKENS, 1);
    l.type_k = type_k;
    l.type_v = type_v;
    nano_session *s = tiny_session(m, l);
    run(s, N_TOKENS, 0, first);
    double worst = worst_difference(first);
    if (!(worst <= tolerance)) {
        check_n_failed++;
        fprintf(stderr, "level %s, %s: off by %g of the range, expected %g\n", level, type, worst, tolerance);
    }
    /* A prompt-cache hit: forget the end, evaluate it again in other pieces. */
    memcpy(again, first, sizeof first);
    CHECK_OK(nano_session_truncate(s, 0, 77, &check_error));
    run(s, 20, 77, again);
    same_bits(level, type, "positions kept", 77);
    nano_session_free(s);
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        l.n_threads = threads[i];
        s = tiny_session(m, l);
        run(s, N_TOKENS, 0, again);
        same_bits(level, type, "threads", threads[i]);
        nano_session_free(s);
    }
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        nano_limits b = limits_of(2, batches[i], 1);
        b.type_k = type_k;
        b.type_v = type_v;
        s = tiny_session(m, b);
        run(s, batches[i] < N_TOKENS ? batches[i] : N_TOKENS, 0, again);
        same_bits(level, type, "tokens a step:", batches[i]);
        nano_session_free(s);
    }
}

/* Beside other slots: slot 1 gets the tokens, slots 0 and 2 something else, mixed in one step. */
static void test_slots(const tiny_model *m, const char *level, const char *type, nano_type type_k, nano_type type_v) {
    nano_limits l = limits_of(2, 64, 3);
    l.type_k = type_k;
    l.type_v = type_v;
    nano_session *s = tiny_session(m, l);
    uint64_t state = 7;
    for (int32_t at = 0; at < N_TOKENS;) {
        int32_t step[64], slots[64], n = 0, rows[64], n_rows = 0, mine = 0;
        uint8_t wanted[64];
        for (; n < 40 && at + mine < N_TOKENS; n++) {
            float dice = tiny_random(&state);
            slots[n] = dice < 0.0f ? 1 : dice < 0.5f ? 0 : 2;
            if (nano_session_n_past(s, slots[n]) + n >= N_CTX) {
                slots[n] = 1;
            }
            step[n] = slots[n] == 1 ? tokens[at + mine] : (int32_t)(fabsf(dice) * (TINY_VOCAB - 1));
            wanted[n] = slots[n] == 1;
            if (slots[n] == 1) {
                rows[mine++] = n_rows++;
            }
        }
        CHECK_OK(nano_session_eval(s, n, step, slots, wanted, &check_error));
        const float *logits = nano_session_logits(s, &n_rows);
        CHECK(n_rows == mine);
        for (int32_t i = 0; i < mine; i++) {
            memcpy(again + (size_t)(at + i) * TINY_VOCAB, logits + (size_t)rows[i] * TINY_VOCAB,
                   TINY_VOCAB * sizeof *again);
        }
        at += mine;
    }
    same_bits(level, type, "slots", 3);
    /* A copied slot goes on as the one it came from. */
    CHECK_OK(nano_session_copy_slot(s, 1, 2, 100, &check_error));
    CHECK(nano_session_n_past(s, 2) == 100);
    int32_t slots[50], n_rows = 0;
    uint8_t wanted[50];
    for (int i = 0; i < 50; i++) {
        slots[i] = 2;
        wanted[i] = 1;
    }
    CHECK_OK(nano_session_eval(s, 50, tokens + 100, slots, wanted, &check_error));
    memcpy(again + 100 * TINY_VOCAB, nano_session_logits(s, &n_rows), 50 * TINY_VOCAB * sizeof *again);
    same_bits(level, type, "positions copied", 100);
    nano_session_free(s);
}

static void test_errors(const tiny_model *m) {
    nano_session *s = tiny_session(m, limits_of(1, 16, 2));
    int32_t bad_id[2] = {1, TINY_VOCAB}, bad_slot[2] = {0, 2}, n_rows = 0;
    CHECK_FAILS(NANO_ERR_LIMIT, "1 to 16", nano_session_eval(s, 17, tokens, NULL, NULL, &check_error));
    CHECK_FAILS(NANO_ERR_LIMIT, "0 tokens", nano_session_eval(s, 0, tokens, NULL, NULL, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "id 96", nano_session_eval(s, 2, bad_id, NULL, NULL, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "slot 2", nano_session_eval(s, 2, tokens, bad_slot, NULL, &check_error));
    CHECK(nano_session_n_past(s, 0) == 0);
    for (int i = 0; i < N_CTX / 16; i++) {
        CHECK_OK(nano_session_eval(s, 16, tokens, NULL, NULL, &check_error));
    }
    CHECK_FAILS(NANO_ERR_LIMIT, "n_ctx is 160", nano_session_eval(s, 1, tokens, NULL, NULL, &check_error));
    CHECK(nano_session_n_past(s, 0) == N_CTX);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "truncate", nano_session_truncate(s, 0, N_CTX + 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "copy_slot", nano_session_copy_slot(s, 0, 5, 1, &check_error));
    CHECK_OK(nano_session_truncate(s, 0, 10, &check_error));
    nano_session_cancel(s);
    CHECK_FAILS(NANO_ERR_CANCELLED, "cancelled", nano_session_eval(s, 4, tokens, NULL, NULL, &check_error));
    CHECK(nano_session_n_past(s, 0) == 10);
    CHECK(nano_session_logits(s, &n_rows) != NULL && n_rows == 0);
    CHECK_OK(nano_session_eval(s, 4, tokens, NULL, NULL, &check_error));
    CHECK(nano_session_n_past(s, 0) == 14);
    nano_session_free(s);

    nano_plan *plan = NULL;
    nano_limits l = limits_of(1, 16, 1);
    l.n_ctx = 0;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "n_ctx 0", nano_plan_create(m->model, &l, &plan, &check_error));
    l = limits_of(1, 16, 1);
    l.type_k = nano_type_from_name("Q4_1");
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "cache", nano_plan_create(m->model, &l, &plan, &check_error));
    l = limits_of(1, INT32_MAX, INT32_MAX);
    l.n_ctx = INT32_MAX;
    CHECK_FAILS(NANO_ERR_MEMORY, "limits", nano_plan_create(m->model, &l, &plan, &check_error));
}

/* Sums of squares of what the first layer's Q and the output matrix read, against the plain computation. */
static void test_importance(const tiny_model *m) {
    nano_limits l = limits_of(2, 32, 1);
    const double *sums = NULL;
    int64_t n = 0, n_rows = 0;
    nano_session *s = tiny_session(m, l);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "did not ask",
                nano_session_importance(s, "blk.0.attn_q.weight", &sums, &n, &n_rows, &check_error));
    nano_session_free(s);
    l.importance = true;
    l.type_k = l.type_v = nano_type_from_name("F32"); /* as the run before */
    s = tiny_session(m, l);
    run(s, 32, 0, again);
    same_bits("any", "F32", "importance", 1);
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "output_norm",
                nano_session_importance(s, "output_norm.weight", &sums, &n, &n_rows, &check_error));
    CHECK_OK(nano_session_importance(s, "token_embd.weight", &sums, &n, &n_rows, &check_error));
    CHECK(n == TINY_EMBD && n_rows == N_TOKENS);
    CHECK_OK(nano_session_importance(s, "blk.0.attn_q.weight", &sums, &n, &n_rows, &check_error));
    CHECK(n == TINY_EMBD && n_rows == N_TOKENS);
    double expected[TINY_EMBD] = {0}, h[TINY_EMBD];
    for (int t = 0; t < N_TOKENS; t++) {
        ref_norm(2, &ref_weights[0][tokens[t] * TINY_EMBD], h);
        for (int i = 0; i < TINY_EMBD; i++) {
            expected[i] += h[i] * h[i];
        }
    }
    for (int i = 0; i < TINY_EMBD; i++) {
        CHECK(fabs(sums[i] - expected[i]) <= 1e-5 * expected[i]);
    }
    nano_session_free(s);
}

typedef struct canceller {
    nano_session *session;
    nano_atomic is_over;
} canceller;

static void *cancel_often(void *p) {
    canceller *c = p;
    while (nano_atomic_load(&c->is_over) == 0) {
        nano_session_cancel(c->session);
        nano_thread_yield();
    }
    return NULL;
}

/* Steps that are cancelled anywhere leave the sums as they were; others add all of theirs. */
static void test_cancelled_importance(const tiny_model *m) {
    nano_limits l = limits_of(2, 32, 1);
    l.importance = true;
    nano_session *s = tiny_session(m, l);
    canceller c = {s, {0}};
    pthread_t thread;
    const double *sums = NULL;
    int64_t n = 0, n_rows = 0, expected = 0;
    double before = 0.0;
    CHECK(pthread_create(&thread, NULL, cancel_often, &c) == 0);
    for (int i = 0; i < 300; i++) {
        nano_error err;
        const nano_status status = nano_session_eval(s, 32, tokens, NULL, NULL, &err);
        CHECK(status == NANO_OK || status == NANO_ERR_CANCELLED);
        CHECK_OK(nano_session_importance(s, "blk.0.attn_q.weight", &sums, &n, &n_rows, &check_error));
        expected += status == NANO_OK ? 32 : 0;
        CHECK(n_rows == expected && (status == NANO_OK || sums[0] == before));
        before = sums[0];
        CHECK_OK(nano_session_truncate(s, 0, 0, &check_error));
    }
    nano_atomic_store(&c.is_over, 1);
    (void)pthread_join(thread, NULL);
    nano_session_free(s);
}

/* Threads for prompts, masks and polling: the same bits; what cannot be is refused. */
static void test_threads(const tiny_model *m) {
    nano_limits l = limits_of(1, 32, 1);
    nano_plan *plan = NULL;
    l.n_threads_batch = 3;
    l.poll = 0;
    l.type_k = l.type_v = nano_type_from_name("F32"); /* as the run before */
    nano_session *s = tiny_session(m, l);
    run(s, 32, 0, again);
    same_bits("any", "F32", "n_threads_batch", 3);
    nano_session_free(s);
    l.n_threads = 0;
    l.n_threads_batch = 0;
    l.poll = 100;
    CHECK_OK(nano_plan_create(m->model, &l, &plan, &check_error));
    CHECK(nano_plan_limits(plan).n_threads >= 1 &&
          nano_plan_limits(plan).n_threads_batch == nano_plan_limits(plan).n_threads);
    nano_plan_free(plan);
    l.cpu_mask[3] = (uint64_t)1 << 63;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "cpu_mask", nano_plan_create(m->model, &l, &plan, &check_error));
    l.cpu_mask[3] = 0;
    l.poll = 101;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "poll", nano_plan_create(m->model, &l, &plan, &check_error));
    l.poll = 50;
    l.n_threads_batch = -1;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "n_threads_batch", nano_plan_create(m->model, &l, &plan, &check_error));
}

static void test_fit(const tiny_model *m) {
    nano_limits l = limits_of(1, 8, 1);
    nano_plan *plan = NULL;
    int32_t n_ctx = -1;
    l.n_ctx = 100000;
    CHECK_OK(nano_plan_fit(m->model, &l, UINT64_MAX, &n_ctx, &check_error));
    CHECK(n_ctx == 100000);
    CHECK_OK(nano_plan_fit(m->model, &l, 1000, &n_ctx, &check_error));
    CHECK(n_ctx == 0);
    CHECK_OK(nano_plan_fit(m->model, &l, 4000000, &n_ctx, &check_error));
    CHECK(n_ctx > 0 && n_ctx < 100000);
    for (int more = 0; more < 2; more++) {
        /* A page more of cache than fits is 16 positions of this model. */
        l.n_ctx = n_ctx + more * 16;
        CHECK_OK(nano_plan_create(m->model, &l, &plan, &check_error));
        nano_memory memory = nano_plan_memory(plan);
        CHECK((memory.total <= 4000000) == (more == 0));
        CHECK(memory.total == memory.weights + memory.allocated);
        CHECK(memory.allocated ==
              memory.cache + memory.activations + memory.outputs + memory.scratch + memory.bookkeeping);
        nano_plan_free(plan);
    }
}

int main(void) {
    static const struct {
        const char *type;
        const char *type_k, *type_v;
        double tolerance; /* activations quantised to 8 bits cost about 1 % */
    } types[] = {{"F32", "F32", "F32", 2e-6},  {"F16", "F16", "F16", 1e-3},    {"BF16", "F32", "F32", 2e-6},
                 {"Q8_0", "F16", "F16", 0.02}, {"Q4_0", "F16", "F16", 0.02},   {"Q4_1", "F32", "F32", 0.02},
                 {"Q5_0", "F16", "F16", 0.02}, {"Q5_1", "F16", "F16", 0.02},   {"F32", "Q8_0", "Q8_0", 0.02},
                 {"F32", "F16", "Q4_0", 0.1},  {"Q8_0", "Q4_0", "Q8_0", 0.15}, {"Q4_0", "Q4_0", "Q4_0", 0.15}};
    uint64_t state = 42;
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = (int32_t)(fabsf(tiny_random(&state)) * (TINY_VOCAB - 1));
    }
    char levels[128];
    snprintf(levels, sizeof levels, "%s", nano_cpu_levels());
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        tiny_model m;
        tiny_model_open(&m, types[t].type);
        load_reference(types[t].type);
        char list[128];
        memcpy(list, levels, sizeof list);
        for (char *level = strtok(list, ","); level != NULL; level = strtok(NULL, ",")) {
            CHECK_OK(nano_cpu_set_level(level, &check_error));
            /* An F16 cache costs about 1e-4 of the range; F32 is exact enough to see any mistake. */
            nano_type type_k = nano_type_from_name(types[t].type_k), type_v = nano_type_from_name(types[t].type_v);
            test_splits(&m, level, types[t].type, types[t].tolerance, type_k, type_v);
            test_slots(&m, level, types[t].type, type_k, type_v);
        }
        if (t == 0) {
            test_errors(&m);
            test_importance(&m);
            test_cancelled_importance(&m);
            test_threads(&m);
            test_fit(&m);
        }
        tiny_model_close(&m);
    }
    printf("session: levels %s\n", levels);
    return check_result();
}
