#include <float.h>
#include <math.h>
#include <string.h>

#include "base/arith.h"
#include "base/error.h"
#include "optim/line_search.h"
#include "optim/sums.h"

/* One minimisation: what the caller gave, and the work memory cut up. x and g are those of the point evaluated last,
 * x0 and g0 those of the iteration's start, d the direction from there. */
typedef struct state {
    const nano_lbfgs_options *options;
    nano_objective_fn *f;
    void *context;
    int64_t n;
    double *x, *g, *x0, *g0, *d;
    double *s, *y;       /* (history, n), a ring: differences of x and of g over an iteration */
    double *rho, *alpha; /* (history): 1 / s.y; of the two-loop recursion */
    int32_t n_pairs;
    int32_t newest;  /* in the ring */
    double largest;  /* max |g[i]| */
    bool was_finite; /* anywhere in this line search */
    nano_lbfgs_result result;
} state;

nano_lbfgs_options nano_lbfgs_options_default(void) {
    const nano_lbfgs_options options = {10, 1000, 10000, 1e-5, 1e-9, NANO_LINE_SEARCH_WOLFE, 1e-4, 0.9, 20, NULL, NULL};
    return options;
}

const char *nano_lbfgs_reason_text(nano_lbfgs_reason reason) {
    switch (reason) {
        case NANO_LBFGS_GRADIENT: return "the gradient is as small as asked for";
        case NANO_LBFGS_DECREASE: return "the function falls no more";
        case NANO_LBFGS_ITERATIONS: return "all iterations are used up";
        case NANO_LBFGS_EVALUATIONS: return "all evaluations are used up";
        case NANO_LBFGS_LINE_SEARCH: return "no step along the gradient lowers the function enough";
        case NANO_LBFGS_NOT_FINITE: return "the function or its gradient is not finite";
        case NANO_LBFGS_CANCELLED: return "cancelled";
        case NANO_LBFGS_FAILED: return "the function failed";
        default: return "unknown";
    }
}

size_t nano_lbfgs_bytes(int64_t n, int32_t history) {
    size_t pairs = 0, vectors = 0, doubles = 0;
    if (n < 1 || history < 0 || (uint64_t)n > SIZE_MAX || !nano_mul_size(2, (size_t)history, &pairs) ||
        !nano_add_size(pairs, 4, &vectors) || !nano_mul_size((size_t)n, vectors, &doubles) ||
        !nano_add_size(doubles, pairs, &doubles) || !nano_mul_size(doubles, sizeof(double), &doubles)) {
        return 0;
    }
    return doubles;
}

/* ------------------------------------------------------------- evaluation */

/* max |g[i]|, INFINITY when one is not finite. */
static double largest_of(const double *g, int64_t n) {
    double largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(g[i]) <= DBL_MAX)) {
            return INFINITY;
        }
        largest = fabs(g[i]) > largest ? fabs(g[i]) : largest;
    }
    return largest;
}

/* f, g and `largest` at x; *f is INFINITY where any of it is not finite. */
static nano_status evaluate(state *z, double *f, nano_error *err) {
    z->result.evaluations++;
    NANO_TRY(z->f(z->context, z->x, f, z->g, err));
    z->largest = largest_of(z->g, z->n);
    if (isfinite(*f) && isfinite(z->largest)) {
        z->was_finite = true;
    } else {
        *f = INFINITY;
    }
    return NANO_OK;
}

static nano_status evaluate_along(void *context, nano_line_point *p, nano_error *err) {
    state *z = context;
    for (int64_t i = 0; i < z->n; i++) {
        z->x[i] = z->x0[i] + p->a * z->d[i];
    }
    NANO_TRY(evaluate(z, &p->f, err));
    p->slope = nano_dot_f64(z->g, z->d, z->n);
    if (!isfinite(p->slope)) {
        p->f = INFINITY;
    }
    return NANO_OK;
}

/* -------------------------------------------------------------- directions */

static void add_scaled(double *y, double factor, const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] += factor * x[i];
    }
}

/* The ring's place of the k-th newest pair. */
static int32_t pair_at(const state *z, int32_t k) {
    const int32_t at = z->newest - k;
    return at >= 0 ? at : at + z->options->history;
}

/* d = -H g by the two-loop recursion (algorithm 7.4), H's start being gamma = s.y / y.y of the newest pair (7.20). Its
 * slope; -g when there is nothing else, or when rounding has made of d something that does not lead down. */
static double find_direction(state *z) {
    const int64_t n = z->n;
    for (int64_t i = 0; i < n; i++) {
        z->d[i] = -z->g[i];
    }
    if (z->n_pairs == 0) {
        return nano_dot_f64(z->d, z->g, n);
    }
    for (int32_t k = 0; k < z->n_pairs; k++) {
        const int32_t at = pair_at(z, k);
        z->alpha[at] = z->rho[at] * nano_dot_f64(z->s + at * n, z->d, n);
        add_scaled(z->d, -z->alpha[at], z->y + at * n, n);
    }
    const double *y = z->y + z->newest * n;
    const double gamma = 1.0 / (z->rho[z->newest] * nano_dot_f64(y, y, n));
    for (int64_t i = 0; i < n; i++) {
        z->d[i] *= gamma;
    }
    for (int32_t k = z->n_pairs - 1; k >= 0; k--) {
        const int32_t at = pair_at(z, k);
        const double beta = z->rho[at] * nano_dot_f64(z->y + at * n, z->d, n);
        add_scaled(z->d, z->alpha[at] - beta, z->s + at * n, n);
    }
    const double slope = nano_dot_f64(z->d, z->g, n);
    if (slope < 0.0 && slope >= -DBL_MAX) {
        return slope;
    }
    z->n_pairs = 0;
    return find_direction(z);
}

/* Remembers the iteration's step and change of gradient where they show positive curvature: only such a pair keeps H
 * positive definite. */
static void store_pair(state *z) {
    if (z->options->history == 0) {
        return;
    }
    const int32_t at = z->n_pairs == 0 ? 0 : (z->newest + 1) % z->options->history;
    double *s = z->s + at * z->n, *y = z->y + at * z->n;
    for (int64_t i = 0; i < z->n; i++) {
        s[i] = z->x[i] - z->x0[i];
        y[i] = z->g[i] - z->g0[i];
    }
    const double sy = nano_dot_f64(s, y, z->n);
    const double yy = nano_dot_f64(y, y, z->n);
    if (!(sy > DBL_EPSILON * yy) || !isfinite(1.0 / sy) || !isfinite(yy)) {
        if (z->n_pairs == z->options->history) { /* it has overwritten the oldest */
            z->n_pairs--;
        }
        return;
    }
    z->rho[at] = 1.0 / sy;
    z->newest = at;
    z->n_pairs = z->n_pairs < z->options->history ? z->n_pairs + 1 : z->n_pairs;
}

/* -------------------------------------------------------------------- loop */

static nano_status check(const nano_lbfgs_options *o, int64_t n, nano_error *err) {
    if (nano_lbfgs_bytes(n, o->history) == 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "lbfgs: found n %lld and history %d, expected n >= 1, history >= 0",
                         (long long)n, o->history);
    }
    if (o->max_iterations < 0 || o->max_evaluations < 1 || o->max_line_steps < 1) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "lbfgs: found %d iterations, %d evaluations, %d line steps at most, expected >= 0, 1, 1",
                         o->max_iterations, o->max_evaluations, o->max_line_steps);
    }
    if (!(o->gradient_tolerance >= 0.0) || !(o->f_tolerance >= 0.0)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "lbfgs: tolerances: found %g and %g, expected 0 or more",
                         o->gradient_tolerance, o->f_tolerance);
    }
    if (o->line_search != NANO_LINE_SEARCH_WOLFE && o->line_search != NANO_LINE_SEARCH_BACKTRACKING) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "lbfgs: line search: found %d, expected 0 or 1", (int)o->line_search);
    }
    if (!(o->decrease > 0.0 && o->decrease < 0.5) || !(o->curvature > o->decrease && o->curvature < 1.0)) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "lbfgs: found decrease %g and curvature %g, expected 0 < decrease < 0.5, decrease < curvature "
                         "< 1",
                         o->decrease, o->curvature);
    }
    return NANO_OK;
}

static void cut(state *z, double *work) {
    const int64_t n = z->n;
    double **const vectors[] = {&z->g, &z->x0, &z->g0, &z->d};
    for (int i = 0; i < 4; i++, work += n) {
        *vectors[i] = work;
    }
    const int64_t history = z->options->history;
    z->s = work;
    z->y = z->s + history * n;
    z->rho = z->y + history * n;
    z->alpha = z->rho + history;
}

/* The first length to try. A direction that knows the curvature has the right one; the first goes one unit far at most;
 * later steepest descents expect to gain what the one before did (Nocedal & Wright, section 3.5). */
static double first_step(const state *z, double slope, double gain_before) {
    if (z->n_pairs > 0) {
        return 1.0;
    }
    if (gain_before > 0.0) {
        return -2.0 * gain_before / slope;
    }
    const double length = sqrt(-slope);
    return length > 1.0 ? 1.0 / length : 1.0;
}

static void go_back(state *z) {
    memcpy(z->x, z->x0, (size_t)z->n * sizeof(double));
    memcpy(z->g, z->g0, (size_t)z->n * sizeof(double));
}

/* One iteration: a step, or none where the line search found none: x and g are then as they were. */
static nano_status iterate(state *z, double *gain, bool *has_moved, nano_error *err) {
    const nano_lbfgs_options *o = z->options;
    const int32_t left = o->max_evaluations - z->result.evaluations;
    const nano_line line = {evaluate_along, z,
                            o->line_search, o->decrease,
                            o->curvature,   left < o->max_line_steps ? left : o->max_line_steps};
    const nano_line_point start = {0.0, z->result.f, find_direction(z)};
    nano_line_point found = start;
    *has_moved = false;
    z->was_finite = start.slope >= -DBL_MAX;
    if (!z->was_finite || start.slope == 0.0) {
        return NANO_OK;
    }
    memcpy(z->x0, z->x, (size_t)z->n * sizeof(double));
    memcpy(z->g0, z->g, (size_t)z->n * sizeof(double));
    z->was_finite = false;
    const nano_status status =
        nano_line_search_run(&line, &start, first_step(z, start.slope, *gain), &found, has_moved, err);
    if (status != NANO_OK || !*has_moved) {
        go_back(z);
        return status;
    }
    store_pair(z);
    z->result.iterations++;
    z->result.f = found.f;
    z->result.gradient = z->largest;
    *gain = start.f - found.f;
    return NANO_OK;
}

/* No step was found. Along the gradient itself there may be one, where pairs have led astray. */
static bool gives_up(state *z) {
    const bool has_evaluations = z->result.evaluations < z->options->max_evaluations;
    z->result.reason = !has_evaluations ? NANO_LBFGS_EVALUATIONS
                       : z->was_finite  ? NANO_LBFGS_LINE_SEARCH
                                        : NANO_LBFGS_NOT_FINITE;
    const bool is_over = z->n_pairs == 0 || !has_evaluations;
    z->n_pairs = 0;
    return is_over;
}

static bool ends(state *z, double gain) {
    const nano_lbfgs_options *o = z->options;
    const double scale = fmax(fmax(fabs(z->result.f), fabs(z->result.f + gain)), 1.0);
    nano_lbfgs_reason *reason = &z->result.reason;
    if (z->result.gradient <= o->gradient_tolerance) {
        *reason = NANO_LBFGS_GRADIENT;
    } else if (z->result.iterations > 0 && gain <= o->f_tolerance * scale) {
        *reason = NANO_LBFGS_DECREASE;
    } else if (z->result.iterations >= o->max_iterations) {
        *reason = NANO_LBFGS_ITERATIONS;
    } else if (z->result.evaluations >= o->max_evaluations) {
        *reason = NANO_LBFGS_EVALUATIONS;
    } else {
        return false;
    }
    return true;
}

static bool goes_on(const state *z) {
    const nano_lbfgs_options *o = z->options;
    return o->progress == NULL || o->progress(o->progress_context, z->x, &z->result);
}

static nano_status run(state *z, nano_error *err) {
    double gain = 0.0;
    bool has_moved = false;
    NANO_TRY(evaluate(z, &z->result.f, err));
    if (!z->was_finite) {
        z->result.reason = NANO_LBFGS_NOT_FINITE;
        return NANO_OK;
    }
    z->result.gradient = z->largest;
    bool is_over = ends(z, gain);
    while (!is_over) {
        NANO_TRY(iterate(z, &gain, &has_moved, err));
        if (has_moved) {
            is_over = ends(z, gain);
            if (!goes_on(z) && !is_over) {
                z->result.reason = NANO_LBFGS_CANCELLED;
                is_over = true;
            }
        } else {
            is_over = gives_up(z);
            gain = 0.0;
        }
    }
    return NANO_OK;
}

nano_status nano_lbfgs(const nano_lbfgs_options *options, int64_t n, double *x, nano_objective_fn *f, void *context,
                       void *work, nano_lbfgs_result *result, nano_error *err) {
    if (options == NULL || x == NULL || f == NULL || work == NULL || result == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "lbfgs: expected options, x, a function, work memory and a result");
    }
    NANO_TRY(check(options, n, err));
    state z = {.options = options, .f = f, .context = context, .n = n, .x = x};
    cut(&z, work);
    z.result.f = z.result.gradient = NAN;
    const nano_status status = run(&z, err);
    if (status != NANO_OK) {
        z.result.reason = status == NANO_ERR_CANCELLED ? NANO_LBFGS_CANCELLED : NANO_LBFGS_FAILED;
    }
    *result = z.result;
    return status;
}

/* ------------------------------------------------------------- f32 vectors */

typedef struct flat {
    float *values;
    const float *gradient;
    int64_t n;
    nano_flat_objective_fn *f;
    void *context;
} flat;

static void to_values(const flat *a, const double *x) {
    for (int64_t i = 0; i < a->n; i++) {
        a->values[i] = (float)x[i];
    }
}

static nano_status evaluate_flat(void *context, const double *x, double *f, double *g, nano_error *err) {
    const flat *a = context;
    to_values(a, x);
    NANO_TRY(a->f(a->context, f, err));
    for (int64_t i = 0; i < a->n; i++) {
        g[i] = (double)a->gradient[i];
    }
    return NANO_OK;
}

size_t nano_lbfgs_flat_bytes(int64_t n, int32_t history) {
    size_t size = nano_lbfgs_bytes(n, history);
    if (size == 0 || !nano_add_size(size, (size_t)n * sizeof(double), &size)) {
        return 0;
    }
    return size;
}

nano_status nano_lbfgs_flat(const nano_lbfgs_options *options, int64_t n, float *values, const float *gradient,
                            nano_flat_objective_fn *f, void *context, void *work, nano_lbfgs_result *result,
                            nano_error *err) {
    if (values == NULL || gradient == NULL || f == NULL || work == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "lbfgs: expected values, gradients, a function and work memory");
    }
    flat a = {values, gradient, n, f, context};
    double *x = work;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (double)values[i];
    }
    const nano_status status = nano_lbfgs(options, n, x, evaluate_flat, &a, x + n, result, err);
    to_values(&a, x);
    return status;
}
