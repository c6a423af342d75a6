/* Optimisers: ADAM against steps computed here, schedules, L-BFGS on functions whose minima are known. */
#define _GNU_SOURCE 1

#include "tests/check.h"

#include <math.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define SANITIZED 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#    define SANITIZED 1
#  endif
#endif

/* Nothing here may allocate between armed = 1 and armed = 0. */
static volatile int armed;
static volatile int n_refused;

#if defined(__GLIBC__) && !defined(SANITIZED)
static void refuse(const char *name) {
    (void)name;
    n_refused += armed;
}
#  include "tests/no_alloc.h"
#endif

static uint64_t random_state = 1;

static double random_double(void) { /* -1 .. 1; splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / 4503599627370496.0 - 1.0;
}

/* -------------------------------------------------------------------- ADAM */

enum { N = 37 };

typedef struct vectors {
    float w[N], g[N], m[N], v[N];
} vectors;

static nano_adam_span span_of(vectors *a, int64_t n, double rate, double decay) {
    const nano_adam_span span = {a->w, a->g, a->m, a->v, n, rate, decay};
    return span;
}

static void fill(vectors *a) {
    memset(a, 0, sizeof *a);
    for (int i = 0; i < N; i++) {
        a->w[i] = (float)random_double();
        a->g[i] = (float)random_double();
    }
}

static bool is_near(double found, double expected, double tolerance) {
    return fabs(found - expected) <= tolerance * (fabs(expected) + 1e-3);
}

/* The step as the papers have it, in f64. */
static void check_against_formula(const nano_adam *adam, double rate, double decay) {
    static vectors a;
    fill(&a);
    double w[N], m[N] = {0}, v[N] = {0};
    for (int i = 0; i < N; i++) {
        w[i] = (double)a.w[i];
    }
    for (int64_t t = 1; t <= 60; t++) {
        double squares = 0.0, norm = 0.0;
        for (int i = 0; i < N; i++) {
            a.g[i] = (float)random_double() * 3.0f;
            squares += (double)a.g[i] * (double)a.g[i];
        }
        const double clip = adam->max_norm > 0.0 ? fmin(1.0, adam->max_norm / sqrt(squares)) : 1.0;
        for (int i = 0; i < N; i++) {
            const double g = (double)a.g[i] * clip + (adam->decoupled ? 0.0 : decay * w[i]);
            m[i] = adam->beta1 * m[i] + (1.0 - adam->beta1) * g;
            v[i] = adam->beta2 * v[i] + (1.0 - adam->beta2) * g * g;
            const double m_hat = m[i] / (1.0 - pow(adam->beta1, (double)t));
            const double v_hat = v[i] / (1.0 - pow(adam->beta2, (double)t));
            w[i] -= (adam->decoupled ? rate * decay * w[i] : 0.0) + rate * m_hat / (sqrt(v_hat) + adam->eps);
        }
        const nano_adam_span span = span_of(&a, N, rate, decay);
        CHECK_OK(nano_adam_step(adam, t, 1, &span, &norm, &check_error));
        CHECK(is_near(norm, sqrt(squares), 1e-12));
    }
    for (int i = 0; i < N; i++) {
        CHECK(is_near((double)a.w[i], w[i], 1e-5));
        CHECK(is_near((double)a.m[i], m[i], 1e-5));
        CHECK(is_near((double)a.v[i], v[i], 1e-5));
    }
}

static void test_adam_formula(void) {
    nano_adam adam = nano_adam_default();
    check_against_formula(&adam, 1e-2, 0.0);
    check_against_formula(&adam, 1e-2, 0.1);
    adam.max_norm = 1.0;
    check_against_formula(&adam, 1e-2, 0.1);
    adam.decoupled = false;
    adam.beta1 = 0.0;
    adam.beta2 = 0.95;
    check_against_formula(&adam, 3e-3, 0.3);
}

/* By hand: the first step is rate * g / (|g| + eps), whatever the gradient's size. */
static void test_adam_first_step(void) {
    const nano_adam adam = nano_adam_default();
    float w[4] = {1.0f, 2.0f, -1.0f, 0.5f}, m[4] = {0}, v[4] = {0};
    const float g[4] = {100.0f, -0.001f, 0.25f, 0.0f};
    const nano_adam_span span = {w, g, m, v, 4, 0.1, 0.0};
    CHECK_OK(nano_adam_step(&adam, 1, 1, &span, NULL, &check_error));
    CHECK(is_near((double)w[0], 0.9, 1e-6) && is_near((double)w[1], 2.1, 1e-6) && is_near((double)w[2], -1.1, 1e-6));
    CHECK(w[3] == 0.5f && m[3] == 0.0f && v[3] == 0.0f);
}

/* Spans cut anywhere make the same parameters: only the norm's last bits could differ, and nothing is clipped. */
static void test_adam_spans(void) {
    static vectors whole, parts;
    const nano_adam adam = nano_adam_default();
    fill(&whole);
    parts = whole;
    double whole_norm = 0.0, norm = 0.0;
    const nano_adam_span one = span_of(&whole, N, 1e-2, 0.1);
    nano_adam_span three[3] = {one, one, one};
    const int64_t ends[] = {5, 5, N};
    for (int64_t i = 0, at = 0; i < 3; at = ends[i++]) {
        const nano_adam_span cut = {parts.w + at, parts.g + at, parts.m + at, parts.v + at, ends[i] - at, 1e-2, 0.1};
        three[i] = cut;
    }
    for (int64_t t = 1; t < 5; t++) {
        CHECK_OK(nano_adam_step(&adam, t, 1, &one, &whole_norm, &check_error));
        CHECK_OK(nano_adam_step(&adam, t, 3, three, &norm, &check_error));
        CHECK(is_near(norm, whole_norm, 1e-14));
    }
    CHECK(memcmp(&whole, &parts, sizeof whole) == 0);
    CHECK_OK(nano_adam_step(&adam, 1, 0, NULL, &norm, &check_error));
    CHECK(norm == 0.0);
}

static void test_adam_refuses(void) {
    static vectors a, b, before_a, before_b;
    fill(&a);
    fill(&b);
    const nano_adam good = nano_adam_default();
    nano_adam adam = good;
    nano_adam_span spans[2] = {span_of(&a, N, 1e-2, 0.0), span_of(&b, N, 1e-2, 0.0)};
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        b.g[N - 1 - i * 9] = bad[i];
        before_a = a;
        before_b = b;
        CHECK_FAILS(NANO_ERR_ARGUMENT, "span 1: a gradient is not finite",
                    nano_adam_step(&good, 1, 2, spans, NULL, &check_error));
        CHECK(memcmp(&a, &before_a, sizeof a) == 0 && memcmp(&b, &before_b, sizeof b) == 0);
        b.g[N - 1 - i * 9] = 1.0f;
    }
    a.g[3] = 3e38f; /* finite, and its square is in f64 */
    double norm = 0.0;
    CHECK_OK(nano_adam_step(&good, 1, 1, spans, &norm, &check_error));
    CHECK(is_near(norm, 3e38, 1e-6));
    fill(&a);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "step: found 0", nano_adam_step(&good, 0, 2, spans, NULL, &check_error));
    adam.beta2 = 1.0;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "betas", nano_adam_step(&adam, 1, 2, spans, NULL, &check_error));
    adam = good;
    adam.beta1 = NAN;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "betas", nano_adam_step(&adam, 1, 2, spans, NULL, &check_error));
    adam = good;
    adam.eps = 0.0;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "eps", nano_adam_step(&adam, 1, 2, spans, NULL, &check_error));
    adam = good;
    adam.max_norm = -1.0;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "max_norm", nano_adam_step(&adam, 1, 2, spans, NULL, &check_error));
    spans[1].rate = -1.0;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "span 1", nano_adam_step(&good, 1, 2, spans, NULL, &check_error));
    spans[1].rate = 3e38;
    spans[1].decay = 3e38;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "too large", nano_adam_step(&good, 1, 2, spans, NULL, &check_error));
    spans[1] = span_of(&b, -1, 1e-2, 0.0);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "n -1", nano_adam_step(&good, 1, 2, spans, NULL, &check_error));
    spans[1] = span_of(&b, 1, 1e-2, 0.0);
    spans[1].m = NULL;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "four vectors", nano_adam_step(&good, 1, 2, spans, NULL, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "options", nano_adam_step(NULL, 1, 2, spans, NULL, &check_error));
}

static void test_schedule(void) {
    const nano_schedule_kind kinds[] = {NANO_SCHEDULE_CONSTANT, NANO_SCHEDULE_LINEAR, NANO_SCHEDULE_COSINE};
    for (int i = 0; i < 3; i++) {
        CHECK(nano_schedule(kinds[i], 0, 10, 110, 0.1) == 0.0);
        CHECK(nano_schedule(kinds[i], 1, 10, 110, 0.1) == 0.1);
        CHECK(nano_schedule(kinds[i], 10, 10, 110, 0.1) == 1.0);
        CHECK(nano_schedule(kinds[i], 1, 0, 0, 0.5) == (i == 0 ? 1.0 : 0.5));
        CHECK(nano_schedule(kinds[i], 1000, 10, 110, 0.1) == (i == 0 ? 1.0 : 0.1));
        CHECK(nano_schedule(kinds[i], 7, 10, 5, 0.1) == 0.7); /* a warm-up longer than the run */
    }
    CHECK(nano_schedule(NANO_SCHEDULE_CONSTANT, 60, 10, 110, 0.1) == 1.0);
    CHECK(is_near(nano_schedule(NANO_SCHEDULE_LINEAR, 60, 10, 110, 0.1), 0.55, 1e-15));
    CHECK(is_near(nano_schedule(NANO_SCHEDULE_LINEAR, 35, 10, 110, 0.0), 0.75, 1e-15));
    CHECK(is_near(nano_schedule(NANO_SCHEDULE_COSINE, 60, 10, 110, 0.1), 0.55, 1e-15));
    CHECK(is_near(nano_schedule(NANO_SCHEDULE_COSINE, 35, 10, 110, 0.0), 0.5 + 0.5 * sqrt(0.5), 1e-15));
    for (int64_t step = 11; step <= 110; step++) {
        CHECK(nano_schedule(NANO_SCHEDULE_COSINE, step, 10, 110, 0.1) <
              nano_schedule(NANO_SCHEDULE_COSINE, step - 1, 10, 110, 0.1));
    }
}

/* ------------------------------------------------------------------ L-BFGS */

enum { MAX_N = 100, MAX_HISTORY = 20 };

/* A function and how it is to misbehave. */
typedef struct problem {
    int64_t n;
    double (*f)(int64_t n, const double *x, double *g);
    int n_calls;
    int fail_at; /* this call fails ... */
    nano_status status;
    int cancel_after; /* iterations */
    double f_last;
} problem;

static nano_status call(void *context, const double *x, double *f, double *g, nano_error *err) {
    problem *p = context;
    p->n_calls++;
    if (p->n_calls == p->fail_at) {
        err->status = p->status;
        (void)snprintf(err->message, sizeof err->message, "call %d fails", p->n_calls);
        return p->status;
    }
    *f = p->f(p->n, x, g);
    return NANO_OK;
}

static bool watch(void *context, const double *x, const nano_lbfgs_result *now) {
    problem *p = context;
    double g[MAX_N];
    CHECK(now->f == p->f(p->n, x, g)); /* x is where it says to be */
    CHECK(now->iterations == 1 || now->f <= p->f_last);
    p->f_last = now->f;
    return p->cancel_after == 0 || now->iterations < p->cancel_after;
}

static double rosenbrock(int64_t n, const double *x, double *g) { /* minimum 0 at (1, ..., 1) */
    double f = 0.0;
    memset(g, 0, (size_t)n * sizeof *g);
    for (int64_t i = 0; i + 1 < n; i++) {
        const double a = x[i + 1] - x[i] * x[i], b = 1.0 - x[i];
        f += 100.0 * a * a + b * b;
        g[i] += -400.0 * x[i] * a - 2.0 * b;
        g[i + 1] += 200.0 * a;
    }
    return f;
}

static double quadratic(int64_t n, const double *x, double *g) { /* curvatures 1 ... 1e4; minimum 0 at i + 1 */
    double f = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double curvature = pow(1e4, n > 1 ? (double)i / (double)(n - 1) : 0.0), d = x[i] - (double)(i + 1);
        f += 0.5 * curvature * d * d;
        g[i] = curvature * d;
    }
    return f;
}

static double sphere(int64_t n, const double *x, double *g) {
    double f = 0.0;
    for (int64_t i = 0; i < n; i++) {
        f += 0.5 * x[i] * x[i];
        g[i] = x[i];
    }
    return f;
}

static double log_barrier(int64_t n, const double *x, double *g) { /* not finite for x <= 0; minimum n at 1 */
    double f = 0.0;
    for (int64_t i = 0; i < n; i++) {
        f += x[i] - log(x[i]);
        g[i] = 1.0 - 1.0 / x[i];
    }
    return f;
}

static double wrong_gradient(int64_t n, const double *x, double *g) {
    const double f = sphere(n, x, g);
    for (int64_t i = 0; i < n; i++) {
        g[i] = -g[i];
    }
    return f;
}

static double not_finite(int64_t n, const double *x, double *g) {
    (void)sphere(n, x, g);
    return NAN;
}

static double infinite_gradient(int64_t n, const double *x, double *g) {
    const double f = sphere(n, x, g);
    g[n - 1] = INFINITY;
    return f;
}

static double alone_finite(int64_t n, const double *x, double *g) { /* at 0 alone */
    g[n - 1] = 1.0;
    return x[0] == 0.0 ? 1.0 : NAN;
}

static double downhill(int64_t n, const double *x, double *g) { /* without a minimum */
    for (int64_t i = 0; i < n; i++) {
        g[i] = -1.0;
    }
    return -x[0] - (n > 1 ? x[1] : 0.0);
}

static double work[(4 + 2 * MAX_HISTORY) * MAX_N + 2 * MAX_HISTORY + 1];

static nano_lbfgs_result minimise(problem *p, const nano_lbfgs_options *given, double *x, nano_status expected) {
    nano_lbfgs_options o = *given;
    nano_lbfgs_result result = {NANO_LBFGS_FAILED, -1, -1, 0.0, 0.0};
    nano_error err = {NANO_OK, ""};
    const size_t size = nano_lbfgs_bytes(p->n, o.history);
    CHECK(size > 0 && size < sizeof work);
    o.progress = watch;
    o.progress_context = p;
    memset(work, 0xff, sizeof work); /* NaN: nothing is read before it is written */
    p->n_calls = 0;
    p->f_last = INFINITY;
    armed = 1;
    const nano_status status = nano_lbfgs(&o, p->n, x, call, p, work, &result, &err);
    armed = 0;
    CHECK(status == expected && result.evaluations == p->n_calls);
    if (status != NANO_OK) {
        CHECK(err.status == status && strstr(err.message, "fails") != NULL);
    }
    static const uint8_t untouched[sizeof(double)] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    CHECK(memcmp((const uint8_t *)work + size, untouched, sizeof untouched) == 0);
    return result;
}

static double farthest(const double *x, int64_t n, double first, double step) {
    double most = 0.0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs(x[i] - (first + step * (double)i)));
    }
    return most;
}

static void test_rosenbrock(nano_line_search search) {
    double x[MAX_N] = {-1.2, 1.0};
    nano_lbfgs_options o = nano_lbfgs_options_default();
    o.line_search = search;
    o.f_tolerance = 0.0;
    problem p = {2, rosenbrock, 0, 0, NANO_OK, 0, 0.0};
    nano_lbfgs_result r = minimise(&p, &o, x, NANO_OK);
    CHECK(r.reason == NANO_LBFGS_GRADIENT && r.gradient <= 1e-5 && farthest(x, 2, 1.0, 0.0) < 1e-5);
    CHECK(r.iterations <= 50 && r.evaluations <= 80);
    p.n = 100;
    for (int i = 0; i < 100; i++) {
        x[i] = i % 2 == 0 ? -1.2 : 1.0;
    }
    r = minimise(&p, &o, x, NANO_OK);
    CHECK(r.reason == NANO_LBFGS_GRADIENT);
    CHECK(r.iterations <= 700 && r.evaluations <= 1000);
}

static void test_quadratics(nano_line_search search) {
    static const int32_t histories[] = {0, 1, 5, 20};
    static const int64_t sizes[] = {1, 2, 7, 30};
    nano_lbfgs_options o = nano_lbfgs_options_default();
    o.line_search = search;
    o.f_tolerance = 0.0;
    o.gradient_tolerance = 1e-6;
    o.max_iterations = 3000;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            double x[MAX_N] = {0};
            problem p = {sizes[j], quadratic, 0, 0, NANO_OK, 0, 0.0};
            o.history = histories[i];
            const nano_lbfgs_result r = minimise(&p, &o, x, NANO_OK);
            if (o.history < 5 && o.history < p.n) { /* slow, and down all the same: f is 1e4 ... 1e7 at the start */
                CHECK(r.f < 100.0);
            } else {
                CHECK(r.reason == NANO_LBFGS_GRADIENT && farthest(x, p.n, 1.0, 1.0) < 1e-5);
            }
            x[0] = 7.0;
            p.f = sphere;
            p.n = 1;
            CHECK(minimise(&p, &o, x, NANO_OK).reason == NANO_LBFGS_GRADIENT && fabs(x[0]) < 1e-6);
        }
    }
}

static void test_domain(nano_line_search search) {
    double x[MAX_N];
    nano_lbfgs_options o = nano_lbfgs_options_default();
    o.line_search = search;
    problem p = {5, log_barrier, 0, 0, NANO_OK, 0, 0.0};
    for (int i = 0; i < 5; i++) {
        x[i] = pow(10.0, (double)(i - 2));
    }
    nano_lbfgs_result r = minimise(&p, &o, x, NANO_OK);
    CHECK(r.reason <= NANO_LBFGS_DECREASE && farthest(x, 5, 1.0, 0.0) < 1e-3 && r.f < 5.0 + 1e-6);
    p.f = not_finite;
    x[0] = 1.0;
    r = minimise(&p, &o, x, NANO_OK);
    CHECK(r.reason == NANO_LBFGS_NOT_FINITE && r.iterations == 0 && r.evaluations == 1 && x[0] == 1.0);
    p.f = infinite_gradient;
    CHECK(minimise(&p, &o, x, NANO_OK).reason == NANO_LBFGS_NOT_FINITE);
    p.f = alone_finite;
    p.n = 1;
    x[0] = 0.0;
    r = minimise(&p, &o, x, NANO_OK);
    CHECK(r.reason == NANO_LBFGS_NOT_FINITE && r.evaluations == 21 && x[0] == 0.0 && r.f == 1.0);
    p.f = wrong_gradient;
    x[0] = 3.0;
    r = minimise(&p, &o, x, NANO_OK);
    CHECK(r.reason == NANO_LBFGS_LINE_SEARCH && r.iterations == 0 && x[0] == 3.0 && r.f == 4.5 && r.gradient == 3.0);
    p.f = downhill;
    o.max_iterations = 5;
    r = minimise(&p, &o, x, NANO_OK);
    CHECK(r.reason == NANO_LBFGS_ITERATIONS && r.iterations == 5 && r.f < -30.0);
}

static void test_ends(nano_line_search search) {
    nano_lbfgs_options o = nano_lbfgs_options_default();
    o.line_search = search;
    for (int at = 1; at < 30; at += 4) {
        double x[2] = {-1.2, 1.0}, g[2];
        problem p = {2, rosenbrock, 0, at, NANO_ERR_IO, 0, 0.0};
        nano_lbfgs_result r = minimise(&p, &o, x, NANO_ERR_IO);
        CHECK(r.reason == NANO_LBFGS_FAILED && r.evaluations == at);
        CHECK(at == 1 ? isnan(r.f) && x[0] == -1.2 : r.f == rosenbrock(2, x, g));
        p.status = NANO_ERR_CANCELLED;
        x[0] = -1.2;
        x[1] = 1.0;
        r = minimise(&p, &o, x, NANO_ERR_CANCELLED);
        CHECK(r.reason == NANO_LBFGS_CANCELLED);
        p.fail_at = 0;
        p.cancel_after = at;
        x[0] = -1.2;
        x[1] = 1.0;
        r = minimise(&p, &o, x, NANO_OK);
        CHECK(r.reason == NANO_LBFGS_CANCELLED ? r.iterations == at : r.iterations < at + 1);
        p.cancel_after = 0;
        x[0] = -1.2;
        x[1] = 1.0;
        o.max_evaluations = at;
        r = minimise(&p, &o, x, NANO_OK);
        CHECK(r.reason == NANO_LBFGS_EVALUATIONS && r.evaluations == at && r.f == rosenbrock(2, x, g));
        CHECK(r.f <= 24.2);
        o.max_evaluations = 10000;
        for (o.max_line_steps = 1; o.max_line_steps < 4; o.max_line_steps++) {
            x[0] = -1.2;
            x[1] = 1.0;
            r = minimise(&p, &o, x, NANO_OK);
            CHECK(r.f <= 24.2 && r.f == rosenbrock(2, x, g));
        }
        o.max_line_steps = 20;
    }
    double x[2] = {5.0, 5.0};
    problem p = {2, sphere, 0, 0, NANO_OK, 0, 0.0};
    o.max_iterations = 0;
    CHECK(minimise(&p, &o, x, NANO_OK).reason == NANO_LBFGS_ITERATIONS && x[0] == 5.0);
    x[0] = x[1] = 0.0;
    CHECK(minimise(&p, &o, x, NANO_OK).reason == NANO_LBFGS_GRADIENT && p.n_calls == 1);
    x[0] = 5.0;
    o = nano_lbfgs_options_default();
    o.line_search = search;
    o.f_tolerance = 0.5;
    o.gradient_tolerance = 0.0;
    CHECK(minimise(&p, &o, x, NANO_OK).reason == NANO_LBFGS_DECREASE);
    o.f_tolerance = 0.0;
    x[0] = 1e-200; /* the slope is 0: nowhere to go */
    CHECK(minimise(&p, &o, x, NANO_OK).reason == NANO_LBFGS_LINE_SEARCH);
    for (int reason = 0; reason < 9; reason++) {
        CHECK(strlen(nano_lbfgs_reason_text((nano_lbfgs_reason)reason)) > 5);
    }
}

static void refuses(const char *text, nano_lbfgs_options o, int64_t n) {
    problem p = {n, sphere, 0, 0, NANO_OK, 0, 0.0};
    nano_lbfgs_result r = {NANO_LBFGS_FAILED, -7, -7, 0.0, 0.0};
    double x[2] = {4.0, 4.0};
    CHECK_FAILS(NANO_ERR_ARGUMENT, text, nano_lbfgs(&o, n, x, call, &p, work, &r, &check_error));
    CHECK(r.iterations == -7 && x[0] == 4.0 && p.n_calls == 0);
}

static void test_options(void) {
    const nano_lbfgs_options good = nano_lbfgs_options_default();
    nano_lbfgs_options o = good;
#define REFUSES(text, field, value) \
    o.field = (value);              \
    refuses(text, o, 2);            \
    o = good
    REFUSES("history -1", history, -1);
    REFUSES("expected >= 0, 1, 1", max_iterations, -1);
    REFUSES("expected >= 0, 1, 1", max_evaluations, 0);
    REFUSES("expected >= 0, 1, 1", max_line_steps, 0);
    REFUSES("tolerances", gradient_tolerance, NAN);
    REFUSES("tolerances", f_tolerance, -1.0);
    REFUSES("line search", line_search, (nano_line_search)2);
    REFUSES("decrease", decrease, 0.5);
    REFUSES("curvature", curvature, 1.0);
    REFUSES("curvature", curvature, 1e-5);
    refuses("n 0", good, 0);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "work memory", nano_lbfgs(&good, 2, work, call, NULL, NULL, NULL, &check_error));
    CHECK(nano_lbfgs_bytes(10, 3) == (4 + 6) * 10 * 8 + 6 * 8);
    CHECK(nano_lbfgs_flat_bytes(10, 3) == (5 + 6) * 10 * 8 + 6 * 8);
    CHECK(nano_lbfgs_bytes(0, 3) == 0 && nano_lbfgs_bytes(5, -1) == 0);
    CHECK(nano_lbfgs_bytes(INT64_MAX, 0) == 0 && nano_lbfgs_flat_bytes(INT64_MAX, INT32_MAX) == 0);
    CHECK(nano_lbfgs_bytes(INT64_MAX / 8, INT32_MAX) == 0 && nano_lbfgs_flat_bytes((int64_t)1 << 59, 1) == 0);
}

/* The same bits, whatever the work memory held before. */
static void test_same_bits(void) {
    const nano_lbfgs_options o = nano_lbfgs_options_default();
    double x[2][30];
    for (int i = 0; i < 2; i++) {
        problem p = {30, rosenbrock, 0, 0, NANO_OK, 0, 0.0};
        random_state = 5;
        for (int j = 0; j < 30; j++) {
            x[i][j] = 2.0 * random_double();
        }
        (void)minimise(&p, &o, x[i], NANO_OK);
    }
    CHECK(memcmp(x[0], x[1], sizeof x[0]) == 0);
}

typedef struct flat_problem {
    float values[8], gradient[8];
    int n_calls;
    int fail_at;
} flat_problem;

static nano_status call_flat(void *context, double *f, nano_error *err) {
    flat_problem *p = context;
    double x[8], g[8];
    if (++p->n_calls == p->fail_at) {
        err->status = NANO_ERR_CANCELLED;
        return NANO_ERR_CANCELLED;
    }
    for (int i = 0; i < 8; i++) {
        x[i] = (double)p->values[i];
    }
    *f = rosenbrock(8, x, g);
    for (int i = 0; i < 8; i++) {
        p->gradient[i] = (float)g[i];
    }
    return NANO_OK;
}

static void test_flat(void) {
    nano_lbfgs_options o = nano_lbfgs_options_default();
    flat_problem p = {{-1.2f, 1.0f, -1.2f, 1.0f, -1.2f, 1.0f, -1.2f, 1.0f}, {0}, 0, 0};
    const flat_problem start = p;
    nano_lbfgs_result r;
    CHECK(nano_lbfgs_flat_bytes(8, o.history) <= sizeof work);
    armed = 1;
    CHECK_OK(nano_lbfgs_flat(&o, 8, p.values, p.gradient, call_flat, &p, work, &r, &check_error));
    armed = 0;
    CHECK(r.reason <= NANO_LBFGS_DECREASE && r.evaluations == p.n_calls);
    for (int i = 0; i < 8; i++) {
        CHECK(is_near((double)p.values[i], 1.0, 2e-3));
    }
    for (int at = 1; at < 20; at += 6) { /* the values are those of the best point, not of the one that failed */
        p = start;
        p.fail_at = at;
        CHECK(nano_lbfgs_flat(&o, 8, p.values, p.gradient, call_flat, &p, work, &r, &(nano_error){NANO_OK, ""}) ==
              NANO_ERR_CANCELLED);
        double f = 0.0;
        CHECK_OK(call_flat(&p, &f, &check_error));
        CHECK(at == 1 ? memcmp(p.values, start.values, sizeof p.values) == 0 : f == r.f);
    }
    CHECK_FAILS(NANO_ERR_ARGUMENT, "values", nano_lbfgs_flat(&o, 8, NULL, NULL, NULL, NULL, NULL, NULL, &check_error));
    o.history = -1;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "history",
                nano_lbfgs_flat(&o, 8, p.values, p.gradient, call_flat, &p, work, &r, &check_error));
}

int main(void) {
    test_adam_formula();
    test_adam_first_step();
    armed = 1;
    test_adam_spans();
    armed = 0;
    test_adam_refuses();
    test_schedule();
    for (int search = 0; search < 2; search++) {
        test_rosenbrock((nano_line_search)search);
        test_quadratics((nano_line_search)search);
        test_domain((nano_line_search)search);
        test_ends((nano_line_search)search);
    }
    test_options();
    test_same_bits();
    test_flat();
    CHECK(n_refused == 0);
    return check_result();
}
