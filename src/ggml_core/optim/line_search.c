#include <math.h>

#include "base/error.h"
#include "optim/line_search.h"

typedef struct search {
    const nano_line *line;
    nano_line_point start;
    nano_line_point last; /* evaluated */
    int32_t n_steps;
} search;

static nano_status go(search *s, double a, nano_error *err) {
    s->last.a = a;
    s->n_steps++;
    return s->line->evaluate(s->line->context, &s->last, err);
}

static bool falls_enough(const search *s, const nano_line_point *p) {
    return p->f <= s->start.f + s->line->decrease * p->a * s->start.slope;
}

static bool is_flat_enough(const search *s, const nano_line_point *p) {
    return fabs(p->slope) <= -s->line->curvature * s->start.slope;
}

/* Where the cubic with p's and q's values and slopes has its minimum (Nocedal & Wright, 3.59); may be NaN. */
static double cubic_minimum(const nano_line_point *p, const nano_line_point *q) {
    const double d1 = p->slope + q->slope - 3.0 * (p->f - q->f) / (p->a - q->a);
    const double root = sqrt(d1 * d1 - p->slope * q->slope);
    const double d2 = q->a > p->a ? root : -root;
    return q->a - (q->a - p->a) * (q->slope + d2 - d1) / (q->slope - p->slope + 2.0 * d2);
}

/* `a` moved between lo and hi; lo where it is not a number. */
static double clamp(double a, double lo, double hi) { return !(a >= lo) ? lo : a > hi ? hi : a; }

/* The next place to try inside the bracket. As More & Thuente (1994) have it, interpolation has to make the bracket
 * shrink: it keeps a tenth's distance from both ends, and after a step that shrank it by less than a third the middle is
 * taken. Where hi is not finite nothing can be interpolated, and the tenth is tried. */
static double inside(const nano_line_point *lo, const nano_line_point *hi, double width_before) {
    const double width = fabs(hi->a - lo->a);
    if (!isfinite(hi->f)) {
        return lo->a + 0.1 * (hi->a - lo->a);
    }
    const double a = cubic_minimum(lo, hi);
    if (isnan(a) || width > 0.66 * width_before) {
        return 0.5 * (lo->a + hi->a);
    }
    const double low = lo->a < hi->a ? lo->a : hi->a;
    return clamp(a, low + 0.1 * width, low + 0.9 * width);
}

/* Between lo, which falls enough or is the start and from which it goes down towards hi, and hi, which does not or has
 * a slope the other way, there is a point that fulfils the conditions (algorithm 3.6). */
static nano_status zoom(search *s, nano_line_point lo, nano_line_point hi, bool *is_found, nano_error *err) {
    double width_before = INFINITY, width = fabs(hi.a - lo.a);
    while (s->n_steps < s->line->max_steps) {
        const double a = inside(&lo, &hi, width_before);
        const bool is_narrow = a == lo.a || a == hi.a;
        if (lo.a > 0.0 && (is_narrow || s->n_steps + 1 == s->line->max_steps)) { /* the best one known */
            *is_found = true;
            return s->last.a == lo.a ? NANO_OK : go(s, lo.a, err);
        }
        if (is_narrow) {
            return NANO_OK;
        }
        NANO_TRY(go(s, a, err));
        if (!falls_enough(s, &s->last) || s->last.f >= lo.f) {
            hi = s->last;
        } else if (is_flat_enough(s, &s->last)) {
            *is_found = true;
            return NANO_OK;
        } else {
            if (s->last.slope * (hi.a - lo.a) >= 0.0) {
                hi = lo;
            }
            lo = s->last;
        }
        width_before = width;
        width = fabs(hi.a - lo.a);
    }
    *is_found = s->last.a == lo.a && lo.a > 0.0;
    return NANO_OK;
}

/* Goes on until a bracket is found (algorithm 3.5). One evaluation stays for zoom to come back to its best point. */
static nano_status wolfe(search *s, double a, bool *is_found, nano_error *err) {
    nano_line_point before = s->start;
    for (;;) {
        NANO_TRY(go(s, a, err));
        if (!falls_enough(s, &s->last) || s->last.f >= before.f) {
            return zoom(s, before, s->last, is_found, err);
        }
        if (is_flat_enough(s, &s->last) || s->n_steps + 1 >= s->line->max_steps) {
            *is_found = true;
            return NANO_OK;
        }
        if (s->last.slope >= 0.0) {
            return zoom(s, s->last, before, is_found, err);
        }
        const double step = a - before.a;
        a = clamp(cubic_minimum(&before, &s->last), a + 1.1 * step, a + 4.0 * step);
        before = s->last;
    }
}

/* Algorithm 3.1, the next step from the parabola through what is known, within a tenth and a half of this one. */
static nano_status backtrack(search *s, double a, bool *is_found, nano_error *err) {
    while (s->n_steps < s->line->max_steps) {
        NANO_TRY(go(s, a, err));
        if (falls_enough(s, &s->last)) {
            *is_found = true;
            return NANO_OK;
        }
        const double rise = s->last.f - s->start.f - a * s->start.slope; /* > 0; infinite where f is */
        a = clamp(-0.5 * s->start.slope * a * a / rise, 0.1 * a, 0.5 * a);
    }
    return NANO_OK;
}

nano_status nano_line_search_run(const nano_line *line, const nano_line_point *start, double first,
                                 nano_line_point *found, bool *is_found, nano_error *err) {
    search s = {line, *start, *start, 0};
    *is_found = false;
    const nano_status status =
        line->kind == NANO_LINE_SEARCH_WOLFE ? wolfe(&s, first, is_found, err) : backtrack(&s, first, is_found, err);
    *found = s.last;
    return status;
}
