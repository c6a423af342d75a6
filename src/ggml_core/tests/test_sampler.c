/*
 * The sampler against a straightforward reference: full sorts, doubles, one stage after the other. At a huge
 * temperature every survivor of the truncation is equally likely, so a few thousand draws show the exact set; at an
 * ordinary one the frequencies are compared with the probabilities (chi-square). Seeds are fixed.
 *
 *   test_sampler [light]        light: fewer draws and a smaller vocabulary, for emulated processors
 */
#include "ggml_core.h"
#include "tests/check.h"
#include "text/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* CHECK with a message of its own. */
#define EXPECT(condition, ...)                                    \
    do {                                                          \
        if (!(condition)) {                                       \
            (void)fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            (void)fprintf(stderr, __VA_ARGS__);                   \
            (void)fprintf(stderr, "\n");                          \
            check_n_failed++;                                     \
        }                                                         \
    } while (0)

/* ------------------------------------------------------------------- tools */

static nano_random rng;
static bool light;

static int32_t random_below(int32_t n) { return (int32_t)(nano_random_double(&rng) * (double)n); }

static float random_normal(void) {
    double u = 1.0 - nano_random_double(&rng), v = nano_random_double(&rng);
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

/* Everything off: temperature 1 over the whole vocabulary. */
static nano_sampler_params plain(void) {
    nano_sampler_params p = nano_sampler_params_default();
    p.temperature = 1.0f;
    p.top_k = 0;
    p.top_p = 1.0f;
    p.min_p = 0.0f;
    p.seed = 42;
    return p;
}

static nano_sampler *make(const nano_sampler_params *p, int32_t n_vocab) {
    nano_sampler *s = NULL;
    nano_error err = {NANO_OK, ""};
    if (nano_sampler_create(p, n_vocab, &s, &err) != NANO_OK) {
        (void)printf("cannot create a sampler: %s\n", err.message);
        exit(1);
    }
    return s;
}

static int32_t sample(nano_sampler *s, const float *logits) {
    int32_t id = -1;
    nano_error err = {NANO_OK, ""};
    nano_status status = nano_sampler_sample(s, logits, &id, &err);
    EXPECT(status == NANO_OK, "sample: %s", err.message);
    return status == NANO_OK ? id : 0;
}

/* --------------------------------------------------------------- reference */

typedef struct ref_item {
    int32_t id;
    double logit, p, key;
} ref_item;

typedef struct reference {
    ref_item *items;
    size_t n;
} reference;

static int by_key(const void *a, const void *b) {
    const ref_item *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

static void ref_sort(reference *r) {
    if (r->n > 0) {
        qsort(r->items, r->n, sizeof *r->items, by_key);
    }
}

/* Softmax at `temperature`; the items are sorted by probability. */
static void ref_softmax(reference *r, double temperature) {
    double sum = 0.0;
    for (size_t i = 0; i < r->n; i++) {
        r->items[i].key = r->items[i].logit;
    }
    ref_sort(r);
    for (size_t i = 0; i < r->n; i++) {
        double gap = r->items[i].logit - r->items[0].logit;
        r->items[i].p = r->items[i].logit == r->items[0].logit ? 1.0 : exp(gap / temperature);
        sum += r->items[i].p;
    }
    for (size_t i = 0; i < r->n; i++) {
        r->items[i].p /= sum;
    }
}

static void ref_keep_mass(reference *r, double mass, size_t min_keep) {
    double sum = 0.0;
    size_t n = 0;
    mass *= 1.0 - 1e-12; /* thirty times 1/60 may add up to a little less than 0.5 */
    while (n < r->n && (n < min_keep || n == 0 || sum < mass)) {
        sum += r->items[n++].p;
    }
    r->n = n;
}

static void ref_typical(reference *r, double mass, size_t min_keep) {
    double entropy = 0.0;
    for (size_t i = 0; i < r->n; i++) {
        entropy -= r->items[i].p > 0.0 ? r->items[i].p * log(r->items[i].p) : 0.0;
    }
    for (size_t i = 0; i < r->n; i++) {
        r->items[i].key = -fabs(-log(r->items[i].p) - entropy);
    }
    ref_sort(r);
    ref_keep_mass(r, mass, min_keep);
    ref_softmax(r, 1.0);
}

/* The candidates that are left before the draw, with their probabilities. */
static reference ref_chain(const nano_sampler_params *p, const float *logits, int32_t n_vocab) {
    reference r = {malloc((size_t)n_vocab * sizeof(ref_item)), 0};
    if (r.items == NULL) {
        (void)printf("out of memory\n");
        exit(1);
    }
    size_t min_keep = (size_t)p->min_keep;
    for (int32_t i = 0; i < n_vocab; i++) {
        if (!isnan(logits[i]) && !(isinf(logits[i]) && logits[i] < 0.0f)) {
            ref_item item = {i, (double)logits[i], 0.0, 0.0};
            r.items[r.n++] = item;
        }
    }
    ref_softmax(&r, 1.0);
    if (p->top_k > 0) {
        size_t k = (size_t)p->top_k > min_keep ? (size_t)p->top_k : min_keep;
        r.n = r.n < k ? r.n : k;
        ref_softmax(&r, 1.0);
    }
    if (p->typical_p < 1.0f) {
        ref_typical(&r, (double)p->typical_p, min_keep);
    }
    if (p->top_p < 1.0f) {
        ref_keep_mass(&r, (double)p->top_p, min_keep);
        ref_softmax(&r, 1.0);
    }
    size_t n = 0;
    while (n < r.n && (n < min_keep || r.items[n].p >= (double)p->min_p * r.items[0].p)) {
        n++;
    }
    r.n = n;
    ref_softmax(&r, (double)p->temperature);
    return r;
}

/* ------------------------------------------------------------------ checks */

/* The exact set of survivors, by draws at a temperature that makes them equally likely. */
static void check_set(nano_sampler_params p, const float *logits, int32_t n_vocab, const char *what) {
    p.temperature = 1e30f;
    reference r = ref_chain(&p, logits, n_vocab);
    int32_t *seen = calloc((size_t)n_vocab, sizeof *seen);
    nano_sampler *s = make(&p, n_vocab);
    size_t draws = r.n * 16 + 64; /* a survivor is missed once in e^16 = 9 million */
    for (size_t i = 0; seen != NULL && i < draws; i++) {
        seen[sample(s, logits)]++;
    }
    size_t missing = 0, extra = 0;
    for (size_t i = 0; seen != NULL && i < r.n; i++) {
        missing += seen[r.items[i].id] == 0;
        seen[r.items[i].id] = 0;
    }
    for (int32_t i = 0; seen != NULL && i < n_vocab; i++) {
        extra += seen[i] != 0;
    }
    EXPECT(seen != NULL && missing == 0 && extra == 0, "%s: n_vocab %d: of %zu candidates %zu missing, %zu too many",
           what, (int)n_vocab, r.n, missing, extra);
    nano_sampler_free(s);
    free(seen);
    free(r.items);
}

/* Chi-square over the candidates with at least 5 expected draws, the others together; refused beyond 5 standard
 * deviations (the statistic's mean is the number of cells less one, its variance twice that). */
static void check_frequencies(nano_sampler_params p, const float *logits, int32_t n_vocab, int draws,
                              const char *what) {
    reference r = ref_chain(&p, logits, n_vocab);
    int32_t *seen = calloc((size_t)n_vocab, sizeof *seen);
    nano_sampler *s = make(&p, n_vocab);
    for (int i = 0; seen != NULL && i < draws; i++) {
        seen[sample(s, logits)]++;
    }
    double chi2 = 0.0, rest_expected = 0.0, rest_seen = 0.0;
    int32_t cells = 0, counted = 0;
    for (size_t i = 0; seen != NULL && i < r.n; i++) {
        double expected = r.items[i].p * draws, found = (double)seen[r.items[i].id];
        counted += seen[r.items[i].id];
        if (expected >= 5.0) {
            chi2 += (found - expected) * (found - expected) / expected;
            cells++;
        } else {
            rest_expected += expected;
            rest_seen += found;
        }
    }
    if (rest_expected >= 5.0) {
        chi2 += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
        cells++;
    }
    double freedom = cells > 1 ? (double)(cells - 1) : 1.0;
    EXPECT(counted == draws, "%s: %d draws were no candidates", what, draws - (int)counted);
    EXPECT(chi2 < freedom + 5.0 * sqrt(2.0 * freedom) + 5.0, "%s: n_vocab %d: chi-square %.1f with %g degrees", what,
           (int)n_vocab, chi2, freedom);
    nano_sampler_free(s);
    free(seen);
    free(r.items);
}

/* Logits of one of five sorts: normal, peaked, many ties, all equal, normal with holes (-inf and NaN). */
static void fill(float *logits, int32_t n, int sort) {
    for (int32_t i = 0; i < n; i++) {
        float x = random_normal();
        logits[i] = sort == 1 ? 5.0f * x : sort == 2 ? floorf(2.0f * x) : sort == 3 ? 1.0f : 2.0f * x;
        if (sort == 4 && i % 3 == 1) {
            logits[i] = i % 2 == 0 ? -INFINITY : NAN;
        }
    }
}

/* ------------------------------------------------------------------- tests */

static void test_random(void) {
    uint64_t state = 1234567;
    EXPECT(nano_splitmix64(&state) == UINT64_C(6457827717110365317), "SplitMix64, first of seed 1234567");
    EXPECT(nano_splitmix64(&state) == UINT64_C(3203168211198807973), "SplitMix64, second of seed 1234567");
    nano_random r = {{1, 2, 3, 4}};
    static const uint64_t expected[4] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
    for (int i = 0; i < 4; i++) {
        uint64_t x = nano_random_next(&r);
        EXPECT(x == expected[i], "xoshiro256** number %d from the state 1, 2, 3, 4 is %llu", i, (unsigned long long)x);
    }
    double sum = 0.0;
    for (int i = 0; i < 100000; i++) {
        double x = nano_random_double(&r);
        EXPECT(x >= 0.0 && x < 1.0, "uniform number %g", x);
        sum += x;
    }
    EXPECT(fabs(sum / 100000.0 - 0.5) < 0.005, "mean of the uniform numbers %g", sum / 100000.0);
}

static void refused(nano_sampler_params p, int32_t n_vocab, const char *name) {
    nano_sampler *s = NULL;
    CHECK_FAILS(NANO_ERR_ARGUMENT, name, nano_sampler_create(&p, n_vocab, &s, &check_error));
    EXPECT(s == NULL, "bad %s: a sampler was made", name);
    nano_sampler_free(s);
}

static void test_parameters(void) {
    struct {
        size_t offset;
        float bad[3];
        const char *name;
    } floats[] = {
        {offsetof(nano_sampler_params, temperature), {NAN, INFINITY, -INFINITY}, "temperature"},
        {offsetof(nano_sampler_params, top_p), {NAN, -0.1f, 1.1f}, "top_p"},
        {offsetof(nano_sampler_params, min_p), {NAN, -0.1f, 1.1f}, "min_p"},
        {offsetof(nano_sampler_params, typical_p), {NAN, -0.1f, 1.1f}, "typical_p"},
        {offsetof(nano_sampler_params, repeat_penalty), {NAN, 0.0f, -1.0f}, "repeat_penalty"},
        {offsetof(nano_sampler_params, presence_penalty), {NAN, INFINITY, -INFINITY}, "presence_penalty"},
        {offsetof(nano_sampler_params, frequency_penalty), {NAN, INFINITY, -INFINITY}, "frequency_penalty"},
        {offsetof(nano_sampler_params, mirostat_tau), {NAN, -1.0f, INFINITY}, "mirostat_tau"},
        {offsetof(nano_sampler_params, mirostat_eta), {NAN, -1.0f, INFINITY}, "mirostat_eta"},
    };
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        for (int j = 0; j < 3; j++) {
            nano_sampler_params p = nano_sampler_params_default();
            memcpy((char *)&p + floats[i].offset, &floats[i].bad[j], sizeof(float));
            refused(p, 10, floats[i].name);
        }
    }
    struct {
        size_t offset;
        int32_t bad;
        const char *name;
    } ints[] = {
        {offsetof(nano_sampler_params, mirostat), 3, "mirostat"},
        {offsetof(nano_sampler_params, mirostat), -1, "mirostat"},
        {offsetof(nano_sampler_params, min_keep), -1, "min_keep"},
        {offsetof(nano_sampler_params, penalty_last_n), -2, "penalty_last_n"},
        {offsetof(nano_sampler_params, penalty_last_n), -1, "max_last_n"}, /* max_last_n is 0 */
        {offsetof(nano_sampler_params, max_last_n), -1, "max_last_n"},
        {offsetof(nano_sampler_params, n_bias), -1, "bias"},
        {offsetof(nano_sampler_params, n_bias), 1, "bias"}, /* no ids */
    };
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        nano_sampler_params p = nano_sampler_params_default();
        memcpy((char *)&p + ints[i].offset, &ints[i].bad, sizeof(int32_t));
        refused(p, 10, ints[i].name);
    }
    nano_sampler_params p = nano_sampler_params_default();
    refused(p, 0, "n_vocab");
    int32_t ids[2] = {3, 10};
    float values[2] = {1.0f, 1.0f};
    p.bias_ids = ids;
    p.bias_values = values;
    p.n_bias = 2;
    refused(p, 10, "bias");
    ids[1] = -1;
    refused(p, 10, "bias");
    ids[1] = 9;
    values[1] = NAN;
    refused(p, 10, "bias");
}

/* Each stage alone, then all together, over sizes and sorts of logits. */
static void test_stages(void) {
    static const int32_t sizes[] = {1, 2, 5, 17, 40, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int32_t n = sizes[i];
        float logits[100];
        for (int sort = 0; sort < 5; sort++) {
            fill(logits, n, sort);
            for (int keep = 0; keep < 8; keep += 7) {
                nano_sampler_params p = plain();
                p.min_keep = keep;
                check_set(p, logits, n, "nothing");
                for (int32_t k = 1; k <= 64; k = 3 * k + 1) {
                    p.top_k = k;
                    check_set(p, logits, n, "top-k");
                }
                p.top_k = 0;
                for (int j = 0; j < 5; j++) {
                    static const float share[5] = {0.0f, 0.2f, 0.5f, 0.9f, 0.999f};
                    p.top_p = share[j];
                    check_set(p, logits, n, "top-p");
                    p.top_p = 1.0f;
                    p.typical_p = share[j];
                    check_set(p, logits, n, "typical");
                    p.typical_p = 1.0f;
                    p.min_p = share[j] * share[j];
                    check_set(p, logits, n, "min-p");
                    p.min_p = 0.0f;
                }
                p.top_k = 40;
                p.typical_p = 0.9f;
                p.top_p = 0.9f;
                p.min_p = 0.02f;
                check_set(p, logits, n, "all together");
            }
        }
    }
}

static void test_frequencies(void) {
    static const int32_t sizes[] = {1, 2, 10, 60, 300};
    const int draws = light ? 1500 : 6000;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        float logits[300];
        for (int sort = 0; sort < 5; sort++) {
            fill(logits, sizes[i], sort);
            nano_sampler_params p = plain();
            check_frequencies(p, logits, sizes[i], draws, "temperature 1");
            p.temperature = 0.5f;
            check_frequencies(p, logits, sizes[i], draws, "temperature 0.5");
            p = nano_sampler_params_default();
            check_frequencies(p, logits, sizes[i], draws, "defaults");
            p.top_k = 0;
            p.typical_p = 0.7f;
            p.temperature = 2.0f;
            check_frequencies(p, logits, sizes[i], draws, "typical, temperature 2");
        }
    }
}

static int32_t first_largest(const float *x, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        best = x[i] > x[best] ? i : best;
    }
    return best;
}

/* Greedy over penalised logits, against the window of accepted tokens counted afresh each time. */
static void test_penalties(void) {
    enum { N = 12, STEPS = 400 };
    for (int variant = 0; variant < 6; variant++) {
        static const int32_t last_n[6] = {0, 1, 5, 64, -1, 7};
        nano_sampler_params p = plain();
        p.temperature = variant % 2 == 0 ? 0.0f : -1.0f;
        p.repeat_penalty = variant == 5 ? 1.0f : 1.3f;
        p.presence_penalty = variant >= 2 ? 0.2f : 0.0f;
        p.frequency_penalty = variant >= 3 ? 0.11f : 0.0f;
        p.penalty_last_n = last_n[variant];
        p.max_last_n = 100;
        int32_t window = last_n[variant] == -1 ? 100 : last_n[variant];
        int32_t history[2 * STEPS];
        int32_t n_history = 0;
        nano_sampler *s = make(&p, N);
        for (int step = 0; step < STEPS; step++) {
            float logits[N], expected[N];
            for (int32_t i = 0; i < N; i++) {
                int32_t count = 0;
                for (int32_t j = n_history - window > 0 ? n_history - window : 0; j < n_history; j++) {
                    count += history[j] == i;
                }
                logits[i] = random_normal();
                expected[i] = logits[i];
                if (count > 0) {
                    expected[i] = logits[i] > 0 ? logits[i] / p.repeat_penalty : logits[i] * p.repeat_penalty;
                    expected[i] -= p.presence_penalty;
                    expected[i] -= (float)count * p.frequency_penalty;
                }
            }
            int32_t id = sample(s, logits), best = first_largest(expected, N);
            EXPECT(id == best, "penalties %d: step %d: found %d, expected %d", variant, step, (int)id, (int)best);
            for (int i = 0; i < 1 + step % 2; i++) {
                int32_t accepted = i == 0 ? id : random_below(N);
                history[n_history++] = accepted;
                nano_sampler_accept(s, accepted);
            }
            nano_sampler_accept(s, -1); /* no token: ignored */
            nano_sampler_accept(s, N);
            if (step == STEPS / 2) {
                nano_sampler_reset(s, 7);
                n_history = 0;
            }
        }
        nano_sampler_free(s);
    }
}

static void test_bias(void) {
    float logits[6] = {0.0f, 1.0f, 2.0f, -1.0f, NAN, 0.5f}, copy[6];
    int32_t ids[4] = {2, 3, 0, 0};
    float values[4] = {-INFINITY, 1.5f, 0.25f, 0.25f};
    memcpy(copy, logits, sizeof logits);
    nano_sampler_params p = plain();
    p.bias_ids = ids;
    p.bias_values = values;
    p.n_bias = 4;
    nano_sampler *s = make(&p, 6);
    double expected[6] = {exp(0.5), exp(1.0), 0.0, exp(0.5), 0.0, exp(0.5)}, sum = 3.0 * exp(0.5) + exp(1.0);
    int32_t seen[6] = {0};
    ids[0] = 99; /* the sampler has copies */
    values[1] = 50.0f;
    for (int i = 0; i < 40000; i++) {
        seen[sample(s, logits)]++;
    }
    for (int i = 0; i < 6; i++) {
        double share = expected[i] / sum, sigma = sqrt(share * (1.0 - share) / 40000.0);
        EXPECT(fabs((double)seen[i] / 40000.0 - share) <= 5.0 * sigma, "bias: token %d drawn %d times", i,
               (int)seen[i]);
    }
    EXPECT(memcmp(copy, logits, sizeof logits) == 0, "the caller's logits were changed");
    nano_sampler_free(s);
    ids[0] = 3;
    values[0] = INFINITY;
    p.n_bias = 1;
    s = make(&p, 6);
    for (int i = 0; i < 100; i++) {
        EXPECT(sample(s, logits) == 3, "a bias of +inf must force its token");
    }
    nano_sampler_free(s);
}

static void test_edges(void) {
    for (int variant = 0; variant < 5; variant++) {
        nano_sampler_params p = variant == 0 ? nano_sampler_params_default() : plain();
        p.temperature = variant == 1 ? 0.0f : p.temperature;
        p.mirostat = variant >= 3 ? variant - 2 : 0;
        nano_sampler *s = make(&p, 5);
        nano_error err = {NANO_OK, ""};
        int32_t id = 77;
        float none[5] = {NAN, -INFINITY, -INFINITY, NAN, -INFINITY};
        EXPECT(nano_sampler_sample(s, none, &id, &err) == NANO_ERR_ARGUMENT, "nothing to draw is not refused");
        EXPECT(id == 77 && err.message[0] != '\0', "nothing to draw: id %d, message '%s'", (int)id, err.message);
        EXPECT(nano_sampler_sample(s, none, &id, NULL) == NANO_ERR_ARGUMENT, "err may be NULL");
        float one[5] = {NAN, -INFINITY, -INFINITY, -3e38f, NAN};
        float spread[5] = {-3e38f, -1e38f, 3e38f, 1.0f, NAN};
        float infinite[5] = {1.0f, INFINITY, 3e38f, INFINITY, NAN};
        int32_t seen[5] = {0};
        for (int i = 0; i < 200; i++) {
            EXPECT(sample(s, one) == 3, "variant %d: the only candidate", variant);
            EXPECT(sample(s, spread) == 2, "variant %d: far ahead of the others", variant);
            seen[sample(s, infinite)]++;
        }
        EXPECT(seen[1] + seen[3] == 200, "variant %d: +inf takes all of the probability", variant);
        EXPECT(variant == 1 ? seen[1] == 200 : seen[1] > 50 && seen[3] > 50, "variant %d: two +inf: %d, %d", variant,
               (int)seen[1], (int)seen[3]);
        nano_sampler_free(s);
        s = make(&p, 1);
        EXPECT(sample(s, infinite) == 0 && sample(s, spread) == 0, "variant %d: a vocabulary of one", variant);
        nano_sampler_free(s);
    }
    nano_sampler_params p = plain();
    float logits[4] = {1.0f, 3.0f, 3.0f, 2.0f};
    p.temperature = 1e-45f; /* denormal: as good as greedy, but among equals it draws */
    nano_sampler *s = make(&p, 4);
    for (int i = 0; i < 100; i++) {
        int32_t id = sample(s, logits);
        EXPECT(id == 1 || id == 2, "tiny temperature drew %d", (int)id);
    }
    nano_sampler_free(s);
    nano_sampler_free(NULL);
}

static void test_streams(void) {
    float logits[300];
    int32_t first[500];
    fill(logits, 300, 0);
    for (int mirostat = 0; mirostat < 3; mirostat++) {
        nano_sampler_params p = plain();
        p.mirostat = mirostat;
        p.repeat_penalty = 1.1f;
        nano_sampler *a = make(&p, 300), *b = make(&p, 300);
        int same = 0, different = 0;
        for (int i = 0; i < 500; i++) {
            first[i] = sample(a, logits);
            nano_sampler_accept(a, first[i]);
            int32_t id = sample(b, logits);
            nano_sampler_accept(b, id);
            same += id == first[i];
        }
        EXPECT(same == 500, "two samplers with one seed differ in %d of 500", 500 - same);
        nano_sampler_reset(a, p.seed);
        nano_sampler_reset(b, p.seed + 1);
        same = 0;
        for (int i = 0; i < 500; i++) {
            int32_t id = sample(a, logits);
            nano_sampler_accept(a, id);
            same += id == first[i];
            id = sample(b, logits);
            nano_sampler_accept(b, id);
            different += id != first[i];
        }
        EXPECT(same == 500, "a reset changes %d of 500", 500 - same);
        EXPECT(different > 400, "another seed changes only %d of 500", different);
        nano_sampler_free(a);
        nano_sampler_free(b);
    }
}

/* Mean surprise over a long run, measured by the test's own softmax. */
static void test_mirostat_mean(void) {
    enum { N = 2000, STEPS = 4000, WARM = 1000 };
    static float logits[N];
    static double surprise[N];
    for (int version = 1; version <= 2; version++) {
        for (int tau = 3; tau <= (light ? 3 : 7); tau += 2) { /* the first of the tokens has 2.7 bits */
            double sum = 0.0, mean = 0.0;
            for (int i = 0; i < N; i++) { /* Zipf with an exponent of 1.1, in a scrambled order */
                logits[(i * 1237) % N] = -1.1f * logf((float)(i + 1));
            }
            for (int i = 0; i < N; i++) {
                sum += exp((double)logits[i]);
            }
            for (int i = 0; i < N; i++) {
                surprise[i] = log2(sum) - (double)logits[i] / 0.6931471805599453;
            }
            nano_sampler_params p = plain();
            p.mirostat = version;
            p.mirostat_tau = (float)tau;
            nano_sampler *s = make(&p, N);
            for (int i = 0; i < STEPS; i++) {
                int32_t id = sample(s, logits);
                mean += i >= WARM ? surprise[id] / (STEPS - WARM) : 0.0;
            }
            EXPECT(fabs(mean - (double)tau) < 0.05, "mirostat %d: mean surprise %.3f, expected %d", version, mean, tau);
            nano_sampler_free(s);
        }
    }
}

/* The first draw's candidates: mu is 2 tau then. */
static void test_mirostat_cut(void) {
    enum { N = 400 };
    float logits[N];
    for (int sort = 0; sort < (light ? 1 : 3); sort++) {
        fill(logits, N, sort);
        nano_sampler_params p = plain();
        p.mirostat_tau = 3.5f;
        reference r = ref_chain(&p, logits, N);
        for (int version = 1; version <= 2; version++) {
            size_t keep = 0;
            if (version == 2) {
                while (keep < r.n && -log2(r.items[keep].p) <= 7.0) {
                    keep++;
                }
            } else {
                double tb = 0.0, tt = 0.0;
                for (size_t i = 1; i < 100; i++) {
                    double t = log(1.0 + 1.0 / (double)i);
                    tb += t * log(r.items[i - 1].p / r.items[i].p);
                    tt += t * t;
                }
                double z = tb / tt, e = z - 1.0;
                double k = pow(e * pow(2.0, 7.0) / (1.0 - pow(N, -e)), 1.0 / z);
                keep = k > 1.0 ? (size_t)k : 1;
            }
            size_t most = 0, draws = 12000;
            p.mirostat = version;
            p.mirostat_eta = 0.0f; /* mu stays, so one sampler can be asked again and again */
            nano_sampler *s = make(&p, N);
            for (size_t i = 0; i < draws; i++) {
                int32_t id = sample(s, logits);
                size_t rank = 0;
                while (r.items[rank].id != id) {
                    rank++;
                }
                most = rank + 1 > most ? rank + 1 : most;
            }
            EXPECT(most == (keep < r.n ? keep : r.n), "mirostat %d, logits %d: drew from the best %zu, expected %zu",
                   version, sort, most, keep);
            nano_sampler_free(s);
        }
        free(r.items);
    }
}

/* A vocabulary of today's size: sets against the reference, then the time a token takes. */
static void test_large(void) {
    enum { REPEATS = 20 };
    const int32_t n = light ? 16032 : 128256;
    float *logits = malloc((size_t)n * sizeof *logits);
    if (logits == NULL) {
        EXPECT(false, "out of memory");
        return;
    }
    nano_sampler_params p = nano_sampler_params_default();
    for (int sort = 0; sort < 4; sort++) {
        fill(logits, n, sort);
        check_set(p, logits, n, "large, defaults");
    }
    fill(logits, n, 1);
    p.top_k = 0;
    check_frequencies(p, logits, n, 300, "large, top-k off");
    p.typical_p = 0.2f;
    check_frequencies(p, logits, n, 300, "large, top-k off, typical");
    p = plain();
    p.top_k = n / 2;
    check_frequencies(p, logits, n, 300, "large, top-k half");
    struct {
        const char *name;
        int sort, top_k, mirostat; /* top_k -1: half of the vocabulary */
        float temperature, top_p, min_p, typical_p, repeat_penalty;
    } cases[] = {
        {"defaults", 0, 40, 0, 0.8f, 0.95f, 0.05f, 1.0f, 1.0f},
        {"defaults, repeat penalty", 0, 40, 0, 0.8f, 0.95f, 0.05f, 1.0f, 1.1f},
        {"greedy", 0, 40, 0, 0.0f, 0.95f, 0.05f, 1.0f, 1.0f},
        {"top-p alone, peaked", 1, 0, 0, 0.8f, 0.95f, 0.0f, 1.0f, 1.0f},
        {"top-p alone, flat", 3, 0, 0, 0.8f, 0.95f, 0.0f, 1.0f, 1.0f},
        {"min-p alone", 0, 0, 0, 0.8f, 1.0f, 0.05f, 1.0f, 1.0f},
        {"typical alone", 0, 0, 0, 0.8f, 1.0f, 0.0f, 0.9f, 1.0f},
        {"top-k half", 0, -1, 0, 0.8f, 1.0f, 0.0f, 1.0f, 1.0f},
        {"mirostat 1", 0, 0, 1, 0.8f, 1.0f, 0.0f, 1.0f, 1.0f},
        {"mirostat 2", 0, 0, 2, 0.8f, 1.0f, 0.0f, 1.0f, 1.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        p = plain();
        p.top_k = cases[i].top_k < 0 ? n / 2 : cases[i].top_k;
        p.mirostat = cases[i].mirostat;
        p.temperature = cases[i].temperature;
        p.top_p = cases[i].top_p;
        p.min_p = cases[i].min_p;
        p.typical_p = cases[i].typical_p;
        p.repeat_penalty = cases[i].repeat_penalty;
        fill(logits, n, cases[i].sort);
        nano_sampler *s = make(&p, n);
        clock_t start = clock();
        for (int j = 0; j < REPEATS; j++) {
            nano_sampler_accept(s, sample(s, logits));
        }
        (void)printf("%d tokens, %-25s %8.1f us a token\n", (int)n, cases[i].name,
                     (double)(clock() - start) / CLOCKS_PER_SEC / REPEATS * 1e6);
        nano_sampler_free(s);
    }
    free(logits);
}

int main(int argc, char **argv) {
    light = argc > 1 && strcmp(argv[1], "light") == 0;
    nano_random_seed(&rng, 2026);
    test_random();
    test_parameters();
    test_stages();
    test_frequencies();
    test_penalties();
    test_bias();
    test_edges();
    test_streams();
    test_mirostat_mean();
    test_mirostat_cut();
    test_large();
    return check_result();
}
