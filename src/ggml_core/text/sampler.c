/*
 * From logits to a token. Every truncating sampler keeps a prefix of some order of the candidates: top-k and
 * mirostat by count, top-p and typical by probability. None needs that prefix sorted, so one selection
 * (select_prefix, quickselect that also adds up probability) serves them all in linear time, and a bounded heap
 * serves the common case of a small top-k. Orders are total (ties go to the lower id) and all sums are doubles,
 * so a seed gives the same tokens wherever the C library's exp gives the same bits.
 */
#include "base/arith.h"
#include "base/error.h"
#include "text/random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    float key; /* the order: larger comes first; the logit but while typical sampling works */
    float logit;
    float weight; /* probability up to a factor: 1 for the largest logit */
    int32_t id;
} candidate;

struct nano_sampler {
    nano_sampler_params params; /* bias_ids and bias_values are ours */
    int32_t n_vocab;
    nano_random random;
    double mu; /* mirostat: largest surprise let through, bits */

    bool penalise;
    int32_t last_n; /* capacity of `ring` */
    int32_t n_ring;
    int32_t ring_at; /* the next to be overwritten */
    int32_t *ring;
    int32_t *counts; /* (n_vocab): how often a token is in the ring */

    float *adjusted;       /* (n_vocab): logits with bias and penalties; NULL when neither is on */
    candidate *candidates; /* only the first n are alive */
    size_t capacity;
    size_t n;
    float max_logit; /* over the candidates */
};

/* Mirostat 1 estimates Zipf's exponent from so many of the most probable tokens (Basu et al., section 5). */
enum { MIROSTAT_TOP = 100 };
/* Below this a segment is sorted instead of partitioned. */
enum { SORT_BELOW = 16 };

/* ---------------------------------------------------------------- creation */

nano_sampler_params nano_sampler_params_default(void) {
    nano_sampler_params p = {0};
    p.temperature = 0.8f;
    p.top_k = 40;
    p.top_p = 0.95f;
    p.min_p = 0.05f;
    p.typical_p = 1.0f;
    p.repeat_penalty = 1.0f;
    p.penalty_last_n = 64;
    p.mirostat_tau = 5.0f;
    p.mirostat_eta = 0.1f;
    p.min_keep = 1;
    return p;
}

/* A float parameter and the range it must be in; `<=` is false for NaN. */
static nano_status check_range(const char *name, float value, float low, float high, const char *expected,
                               nano_error *err) {
    if (low <= value && value <= high) {
        return NANO_OK;
    }
    return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: %s: found %g, expected %s", name, (double)value, expected);
}

static nano_status check_floats(const nano_sampler_params *p, nano_error *err) {
    const float most = FLT_MAX;
    NANO_TRY(check_range("temperature", p->temperature, -most, most, "a finite number", err));
    NANO_TRY(check_range("top_p", p->top_p, 0.0f, 1.0f, "0 to 1", err));
    NANO_TRY(check_range("min_p", p->min_p, 0.0f, 1.0f, "0 to 1", err));
    NANO_TRY(check_range("typical_p", p->typical_p, 0.0f, 1.0f, "0 to 1", err));
    NANO_TRY(check_range("repeat_penalty", p->repeat_penalty, FLT_MIN, most, "a positive number", err));
    NANO_TRY(check_range("presence_penalty", p->presence_penalty, -most, most, "a finite number", err));
    NANO_TRY(check_range("frequency_penalty", p->frequency_penalty, -most, most, "a finite number", err));
    NANO_TRY(check_range("mirostat_tau", p->mirostat_tau, 0.0f, most, "a number of bits >= 0", err));
    return check_range("mirostat_eta", p->mirostat_eta, 0.0f, most, "a number >= 0", err);
}

static nano_status check_params(const nano_sampler_params *p, int32_t n_vocab, nano_error *err) {
    if (n_vocab < 1) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: n_vocab: found %d, expected at least 1", (int)n_vocab);
    }
    NANO_TRY(check_floats(p, err));
    if (p->mirostat < 0 || p->mirostat > 2) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: mirostat: found %d, expected 0, 1 or 2", (int)p->mirostat);
    }
    if (p->min_keep < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: min_keep: found %d, expected at least 0", (int)p->min_keep);
    }
    if (p->penalty_last_n < -1 || p->max_last_n < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "sampler: penalty_last_n, max_last_n: found %d, %d, expected at least -1, 0",
                         (int)p->penalty_last_n, (int)p->max_last_n);
    }
    if (p->penalty_last_n == -1 && p->max_last_n == 0) {
        return nano_fail(
            err, NANO_ERR_ARGUMENT,
            "sampler: penalty_last_n: -1 stands for max_last_n, which is 0, expected the context's length");
    }
    if (p->n_bias < 0 || (p->n_bias > 0 && (p->bias_ids == NULL || p->bias_values == NULL))) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: bias: found a count of %d%s", (int)p->n_bias,
                         p->n_bias < 0 ? ", expected at least 0" : " but no ids or values");
    }
    for (int32_t i = 0; i < p->n_bias; i++) {
        int32_t id = p->bias_ids[i];
        if (id < 0 || id >= n_vocab) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: bias: found token %d, expected 0 to %d", (int)id,
                             (int)(n_vocab - 1));
        }
        if (isnan(p->bias_values[i])) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: bias: token %d: found NaN, expected a number", (int)id);
        }
    }
    return NANO_OK;
}

/* calloc for (n) items; false when they cannot be had. Zero items are no allocation. */
static bool allocate(void **out, size_t n, size_t item) {
    size_t bytes = 0;
    *out = NULL;
    if (n == 0) {
        return true;
    }
    if (nano_mul_size(n, item, &bytes)) {
        *out = calloc(1, bytes);
    }
    return *out != NULL;
}

static int32_t *copy_ids(const int32_t *ids, size_t n) {
    void *p = NULL;
    if (allocate(&p, n, sizeof *ids) && n > 0) {
        memcpy(p, ids, n * sizeof *ids);
    }
    return p;
}

static float *copy_values(const float *values, size_t n) {
    void *p = NULL;
    if (allocate(&p, n, sizeof *values) && n > 0) {
        memcpy(p, values, n * sizeof *values);
    }
    return p;
}

/* The most candidates that top-k leaves, which is all there are when it is off. */
static size_t top_count(const nano_sampler_params *p, size_t n_vocab) {
    if (p->mirostat != 0 || p->top_k <= 0) {
        return n_vocab;
    }
    size_t k = (size_t)(p->top_k > p->min_keep ? p->top_k : p->min_keep);
    return k < n_vocab ? k : n_vocab;
}

/* A heap beats selection while few candidates enter it. */
static bool use_heap(size_t k, size_t n_vocab) { return k <= n_vocab / 8; }

nano_status nano_sampler_create(const nano_sampler_params *params, int32_t n_vocab, nano_sampler **out,
                                nano_error *err) {
    if (params == NULL || out == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: params and out must be given");
    }
    NANO_TRY(check_params(params, n_vocab, err));
    nano_sampler *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "sampler: out of memory");
    }
    size_t n = (size_t)n_vocab;
    size_t n_bias = (size_t)params->n_bias;
    s->params = *params;
    s->n_vocab = n_vocab;
    s->last_n = params->penalty_last_n == -1 ? params->max_last_n : params->penalty_last_n;
    s->penalise = s->last_n > 0 && (params->repeat_penalty != 1.0f || params->presence_penalty != 0.0f ||
                                    params->frequency_penalty != 0.0f);
    s->capacity = top_count(params, n);
    if (!use_heap(s->capacity, n)) {
        s->capacity = n;
    }
    s->params.bias_ids = copy_ids(params->bias_ids, n_bias);
    s->params.bias_values = copy_values(params->bias_values, n_bias);
    void *ring = NULL, *counts = NULL, *adjusted = NULL, *candidates = NULL;
    bool ok = (n_bias == 0 || (s->params.bias_ids != NULL && s->params.bias_values != NULL)) &&
              allocate(&ring, s->penalise ? (size_t)s->last_n : 0, sizeof *s->ring) &&
              allocate(&counts, s->penalise ? n : 0, sizeof *s->counts) &&
              allocate(&adjusted, s->penalise || n_bias > 0 ? n : 0, sizeof *s->adjusted) &&
              allocate(&candidates, s->capacity, sizeof *s->candidates);
    s->ring = ring;
    s->counts = counts;
    s->adjusted = adjusted;
    s->candidates = candidates;
    if (!ok) {
        nano_sampler_free(s);
        return nano_fail(err, NANO_ERR_MEMORY, "sampler: out of memory for a vocabulary of %d", (int)n_vocab);
    }
    nano_sampler_reset(s, params->seed);
    *out = s;
    return NANO_OK;
}

void nano_sampler_free(nano_sampler *s) {
    if (s == NULL) {
        return;
    }
    union {
        const void *in;
        void *out;
    } ids = {s->params.bias_ids}, values = {s->params.bias_values}; /* free wants plain pointers */
    free(ids.out);
    free(values.out);
    free(s->ring);
    free(s->counts);
    free(s->adjusted);
    free(s->candidates);
    free(s);
}

void nano_sampler_reset(nano_sampler *s, uint64_t seed) {
    for (int32_t i = 0; i < s->n_ring; i++) {
        s->counts[s->ring[i]] = 0;
    }
    s->n_ring = 0;
    s->ring_at = 0;
    s->mu = 2.0 * (double)s->params.mirostat_tau;
    nano_random_seed(&s->random, seed);
}

/* --------------------------------------------------------- bias, penalties */

void nano_sampler_accept(nano_sampler *s, int32_t id) {
    if (!s->penalise || id < 0 || id >= s->n_vocab) {
        return;
    }
    if (s->n_ring == s->last_n) {
        s->counts[s->ring[s->ring_at]]--;
    } else {
        s->n_ring++;
    }
    s->ring[s->ring_at] = id;
    s->counts[id]++;
    s->ring_at = s->ring_at + 1 < s->last_n ? s->ring_at + 1 : 0;
}

/* The repetition penalty is Keskar et al.'s (CTRL, 2019) with the sign taken into account; presence and
 * frequency are subtracted. A token that is in the ring more than once is met more than once: its count is
 * negated at the first meeting, and put right afterwards. */
static void penalise(nano_sampler *s, float *x) {
    const nano_sampler_params *p = &s->params;
    for (int32_t i = 0; i < s->n_ring; i++) {
        int32_t id = s->ring[i];
        int32_t count = s->counts[id];
        if (count > 0) {
            float v = x[id] > 0.0f ? x[id] / p->repeat_penalty : x[id] * p->repeat_penalty;
            x[id] = v - p->presence_penalty - (float)count * p->frequency_penalty;
            s->counts[id] = -count;
        }
    }
    for (int32_t i = 0; i < s->n_ring; i++) {
        int32_t *count = &s->counts[s->ring[i]];
        *count = *count < 0 ? -*count : *count;
    }
}

/* The logits to sample from: the caller's own when there is nothing to change. */
static const float *adjust(nano_sampler *s, const float *logits) {
    if (s->adjusted == NULL || (s->params.n_bias == 0 && s->n_ring == 0)) {
        return logits;
    }
    memcpy(s->adjusted, logits, (size_t)s->n_vocab * sizeof *logits);
    for (int32_t i = 0; i < s->params.n_bias; i++) {
        s->adjusted[s->params.bias_ids[i]] += s->params.bias_values[i];
    }
    if (s->penalise) {
        penalise(s, s->adjusted);
    }
    return s->adjusted;
}

/* --------------------------------------------------------------- selection */

static inline bool before(const candidate *a, const candidate *b) {
    return a->key > b->key || (a->key == b->key && a->id < b->id);
}

static inline void swap(candidate *a, candidate *b) {
    candidate t = *a;
    *a = *b;
    *b = t;
}

static void insertion_sort(candidate *c, size_t n) {
    for (size_t i = 1; i < n; i++) {
        candidate x = c[i];
        size_t at = i;
        for (; at > 0 && before(&x, &c[at - 1]); at--) {
            c[at] = c[at - 1];
        }
        c[at] = x;
    }
}

/* Puts a random element of c (n) at its place in the order, those before it to its left; returns the place. */
static size_t partition(candidate *c, size_t n, uint64_t *state) {
    swap(&c[nano_splitmix64(state) % n], &c[n - 1]);
    candidate pivot = c[n - 1];
    size_t place = 0;
    for (size_t i = 0; i < n - 1; i++) {
        /* Always swap, advance on condition: without a branch nothing is mispredicted. */
        candidate x = c[i];
        c[i] = c[place];
        c[place] = x;
        place += before(&x, &pivot);
    }
    swap(&c[place], &c[n - 1]);
    return place;
}

/* Reorders c (n) so that its first r >= 1 elements are the shortest prefix of the order (by key) that has at least
 * `count` elements and at least `mass` of weight; returns r, which is n when there is no such prefix. *kept is the
 * weight of the r. Expected linear time. */
static size_t select_prefix(candidate *c, size_t n, size_t count, double mass, double *kept) {
    uint64_t state = n;
    size_t low = 0, high = n; /* low < r <= high, until they meet */
    double sum = 0.0;         /* the weight of [0, low) */
    count = count > 0 ? count : 1;
    while (high - low > SORT_BELOW && count < high) {
        size_t place = low + partition(c + low, high - low, &state);
        double left = sum;
        for (size_t i = low; i < place; i++) {
            left += (double)c[i].weight;
        }
        if (place >= count && left >= mass) {
            high = place;
        } else {
            low = place + 1;
            sum = left + (double)c[place].weight;
            if (low >= count && sum >= mass) {
                *kept = sum;
                return low;
            }
        }
    }
    if (count < high) { /* otherwise all of [0, high) is asked for, in any order */
        insertion_sort(c + low, high - low);
    }
    while (low < high && (low < count || sum < mass)) {
        sum += (double)c[low++].weight;
    }
    *kept = sum;
    return low;
}

/* Restores the heap whose worst element is at the root, when only the root may be out of place. */
static void sift_down(candidate *heap, size_t n, size_t at) {
    candidate x = heap[at];
    for (size_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && before(&heap[child], &heap[child + 1])) {
            child++;
        }
        if (!before(&x, &heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = x;
}

static inline candidate make_candidate(float logit, int32_t id) {
    candidate c = {logit, logit, 0.0f, id};
    return c;
}

/* Collects the k best of x (n_vocab). A logit of -inf has no probability, and NaN compares false: neither enters. */
static void gather_top(nano_sampler *s, const float *x, size_t k) {
    candidate *heap = s->candidates;
    int32_t n_vocab = s->n_vocab, id = 0;
    size_t n = 0;
    for (; id < n_vocab && n < k; id++) {
        if (x[id] > -INFINITY) {
            heap[n++] = make_candidate(x[id], id);
        }
    }
    s->n = n;
    for (size_t at = n / 2; at-- > 0;) {
        sift_down(heap, n, at);
    }
    if (n == 0) {
        return;
    }
    float worst = heap[0].logit;
    for (; id < n_vocab; id++) {
        if (NANO_UNLIKELY(x[id] > worst)) { /* an equal one has a higher id than the root's: it comes after */
            heap[0] = make_candidate(x[id], id);
            sift_down(heap, n, 0);
            worst = heap[0].logit;
        }
    }
}

static void gather_all(nano_sampler *s, const float *x) {
    candidate *c = s->candidates;
    size_t n = 0;
    for (int32_t id = 0; id < s->n_vocab; id++) {
        c[n] = make_candidate(x[id], id);
        n += x[id] > -INFINITY;
    }
    s->n = n;
}

static void gather(nano_sampler *s, const float *x) {
    size_t n_vocab = (size_t)s->n_vocab;
    size_t k = top_count(&s->params, n_vocab);
    if (use_heap(k, n_vocab)) {
        gather_top(s, x, k);
    } else {
        double unused;
        gather_all(s, x);
        if (k < s->n) {
            s->n = select_prefix(s->candidates, s->n, k, 0.0, &unused);
        }
    }
    s->max_logit = -INFINITY;
    for (size_t i = 0; i < s->n; i++) {
        s->max_logit = s->candidates[i].logit > s->max_logit ? s->candidates[i].logit : s->max_logit;
    }
}

/* ------------------------------------------------------------------- chain */

/* Sets every weight to exp((logit - max) / temperature); returns their sum, at least 1. The largest is set apart
 * because +inf - +inf is NaN and 0 / a denormal temperature must stay 0. */
static double weigh(nano_sampler *s, float temperature) {
    double sum = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        candidate *c = &s->candidates[i];
        c->weight = c->logit == s->max_logit ? 1.0f : expf((c->logit - s->max_logit) / temperature);
        sum += (double)c->weight;
    }
    return sum;
}

/* Locally typical sampling (Meister et al., 2022): those whose surprise is nearest to the entropy, until they have
 * typical_p of the probability. Returns the weight kept of `sum`. */
static double keep_typical(nano_sampler *s, double sum, size_t min_keep) {
    double log_sum = log(sum), entropy = 0.0, kept;
    for (size_t i = 0; i < s->n; i++) {
        double w = (double)s->candidates[i].weight;
        if (w > 0.0) {
            double surprise = log_sum - log(w);
            s->candidates[i].key = (float)surprise;
            entropy += w / sum * surprise;
        } else {
            s->candidates[i].key = INFINITY;
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        s->candidates[i].key = -fabsf(s->candidates[i].key - (float)entropy);
    }
    s->n = select_prefix(s->candidates, s->n, min_keep, (double)s->params.typical_p * sum, &kept);
    for (size_t i = 0; i < s->n; i++) {
        s->candidates[i].key = s->candidates[i].logit;
    }
    return kept;
}

/* min-p (Nguyen et al., 2024): those with at least min_p times the largest probability. */
static void keep_min_p(nano_sampler *s, size_t min_keep) {
    candidate *c = s->candidates;
    float largest = 0.0f;
    for (size_t i = 0; i < s->n; i++) {
        largest = c[i].weight > largest ? c[i].weight : largest;
    }
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        n += c[i].weight >= s->params.min_p * largest;
    }
    double unused;
    s->n = select_prefix(c, s->n, n > min_keep ? n : min_keep, 0.0, &unused);
}

static void keep_likely(nano_sampler *s) {
    const nano_sampler_params *p = &s->params;
    size_t min_keep = (size_t)p->min_keep;
    if (p->typical_p >= 1.0f && p->top_p >= 1.0f && p->min_p <= 0.0f) {
        return;
    }
    double sum = weigh(s, 1.0f);
    if (p->typical_p < 1.0f) {
        sum = keep_typical(s, sum, min_keep);
    }
    if (p->top_p < 1.0f) {
        /* The smallest set with at least top_p of the probability (Holtzman et al., 2020). */
        s->n = select_prefix(s->candidates, s->n, min_keep, (double)p->top_p * sum, &sum);
    }
    if (p->min_p > 0.0f) {
        keep_min_p(s, min_keep);
    }
    s->max_logit = -INFINITY;
    for (size_t i = 0; i < s->n; i++) {
        s->max_logit = s->candidates[i].logit > s->max_logit ? s->candidates[i].logit : s->max_logit;
    }
}

/* Draws one of the candidates by weight; `sum` is the sum of the weights, added up in their order. */
static const candidate *draw(nano_sampler *s, double sum) {
    double at = nano_random_double(&s->random) * sum;
    const candidate *last = NULL;
    for (size_t i = 0; i < s->n; i++) {
        const candidate *c = &s->candidates[i];
        if (c->weight > 0.0f) {
            last = c;
            at -= (double)c->weight;
            if (at < 0.0) {
                break;
            }
        }
    }
    return last; /* the last one with any weight when rounding leaves `at` at 0 */
}

/* ---------------------------------------------------------------- mirostat */

/* How many of the most probable tokens mirostat 1 keeps for the surprise mu (Basu et al., 2020, algorithm 1 and
 * equation 2); c (n) are sorted and n >= 1. */
static size_t mirostat_k(const candidate *c, size_t n, double n_vocab, double mu) {
    double tb = 0.0, tt = 0.0;
    for (size_t i = 0; i + 1 < n && c[i + 1].weight > 0.0f; i++) {
        double t = log((double)(i + 2) / (double)(i + 1));
        double b = log((double)c[i].weight) - log((double)c[i + 1].weight);
        tb += t * b;
        tt += t * t;
    }
    double exponent = tt > 0.0 ? tb / tt : 0.0;
    double epsilon = exponent - 1.0;
    /* (1 - N^-e) / e, whose limit at e = 0 is ln N */
    double spread = fabs(epsilon) < 1e-9 ? log(n_vocab) : -expm1(-epsilon * log(n_vocab)) / epsilon;
    double k = exponent > 0.0 && spread > 0.0 ? pow(exp2(mu) / spread, 1.0 / exponent) : n_vocab;
    if (!(k < n_vocab)) { /* also NaN */
        k = n_vocab;
    }
    return k > 1.0 ? (size_t)k : 1;
}

/* Draws so that the surprise -log2 p of the tokens, p taken before the truncation, comes to tau on average. */
static const candidate *mirostat(nano_sampler *s) {
    const nano_sampler_params *p = &s->params;
    candidate *c = s->candidates;
    size_t min_keep = (size_t)p->min_keep, keep = 0;
    double sum = weigh(s, p->temperature), kept;
    if (p->mirostat == 1) {
        size_t top = select_prefix(c, s->n, MIROSTAT_TOP, 0.0, &kept);
        insertion_sort(c, top);
        keep = mirostat_k(c, top, (double)s->n_vocab, s->mu);
    } else {
        double least = sum * exp2(-s->mu); /* the weight whose surprise is mu */
        for (size_t i = 0; i < s->n; i++) {
            keep += (double)c[i].weight >= least;
        }
    }
    keep = keep > min_keep ? keep : min_keep;
    s->n = select_prefix(c, s->n, keep, 0.0, &kept);
    const candidate *drawn = draw(s, kept);
    double surprise = -log2((double)drawn->weight / sum);
    s->mu -= (double)p->mirostat_eta * (surprise - (double)p->mirostat_tau);
    return drawn;
}

/* ------------------------------------------------------------------ sample */

/* The first of the largest; -1 when there is none above -inf. */
static int32_t greedy(const float *x, int32_t n) {
    int32_t best = -1;
    float largest = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (NANO_UNLIKELY(x[i] > largest)) {
            largest = x[i];
            best = i;
        }
    }
    return best;
}

nano_status nano_sampler_sample(nano_sampler *s, const float *logits, int32_t *id, nano_error *err) {
    const float *x = adjust(s, logits);
    int32_t found = -1;
    if (s->params.temperature <= 0.0f) {
        found = greedy(x, s->n_vocab);
    } else {
        gather(s, x);
        if (s->n > 0 && s->params.mirostat != 0) {
            found = mirostat(s)->id;
        } else if (s->n > 0) {
            keep_likely(s);
            found = draw(s, weigh(s, s->params.temperature))->id;
        }
    }
    if (found < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "sampler: all %d logits are NaN or -inf: nothing can be drawn",
                         (int)s->n_vocab);
    }
    *id = found;
    return NANO_OK;
}
