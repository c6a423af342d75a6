#include <float.h>
#include <math.h>

#include "base/error.h"
#include "cpu/kernels.h"

/* One pass over the gradients for their norm, which also finds what is not finite, and one over all four vectors: 32
 * bytes a parameter in all, which is what bounds the time. */

nano_adam nano_adam_default(void) {
    const nano_adam adam = {0.9, 0.999, 1e-8, 0.0, true};
    return adam;
}

static nano_status check_options(const nano_adam *adam, int64_t step, nano_error *err) {
    if (!(adam->beta1 >= 0.0 && adam->beta1 < 1.0) || !(adam->beta2 >= 0.0 && adam->beta2 < 1.0)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: betas: found %g and %g, expected 0 <= beta < 1", adam->beta1,
                         adam->beta2);
    }
    if (!(adam->eps >= (double)FLT_MIN && adam->eps <= (double)FLT_MAX)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: eps: found %g, expected %g or more", adam->eps,
                         (double)FLT_MIN);
    }
    if (!(adam->max_norm >= 0.0)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: max_norm: found %g, expected 0 or more", adam->max_norm);
    }
    if (step < 1) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: step: found %lld, expected 1 or more", (long long)step);
    }
    return NANO_OK;
}

static nano_status check_span(const nano_adam_span *s, int32_t i, nano_error *err) {
    if (s->n < 0 || (s->n > 0 && (s->value == NULL || s->gradient == NULL || s->m == NULL || s->v == NULL))) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: span %d: expected n >= 0 and four vectors, found n %lld", i,
                         (long long)s->n);
    }
    if (!(s->rate >= 0.0 && s->rate <= (double)FLT_MAX) || !(s->decay >= 0.0 && s->decay <= (double)FLT_MAX)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: span %d: found rate %g and decay %g, expected 0 or more", i,
                         s->rate, s->decay);
    }
    return NANO_OK;
}

static nano_status find_args(const nano_adam *adam, const nano_adam_span *s, int64_t step, double scale,
                             nano_adam_args *k, nano_error *err) {
    const double correction1 = 1.0 - pow(adam->beta1, (double)step);
    const double correction2 = 1.0 - pow(adam->beta2, (double)step);
    k->n = s->n;
    k->w = s->value;
    k->g = s->gradient;
    k->m = s->m;
    k->v = s->v;
    k->gradient = (float)scale; /* clipped, or 1 */
    k->into_gradient = adam->decoupled ? 0.0f : (float)s->decay;
    k->beta1 = (float)adam->beta1;
    k->rest1 = (float)(1.0 - adam->beta1);
    k->beta2 = (float)adam->beta2;
    k->rest2 = (float)(1.0 - adam->beta2);
    k->keep = adam->decoupled ? (float)(1.0 - s->rate * s->decay) : 1.0f;
    k->rate = (float)(s->rate / correction1);
    k->spread = (float)(1.0 / sqrt(correction2));
    k->eps = (float)adam->eps;
    if (!isfinite(k->keep) || !isfinite(k->rate) || !isfinite(k->spread)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: rate %g with decay %g, beta1 %.17g and beta2 %.17g: too large",
                         s->rate, s->decay, adam->beta1, adam->beta2);
    }
    return NANO_OK;
}

nano_status nano_adam_step(const nano_adam *adam, int64_t step, int32_t n_spans, const nano_adam_span *spans,
                           double *norm, nano_error *err) {
    if (adam == NULL || n_spans < 0 || (n_spans > 0 && spans == NULL)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "adam: expected options and %d spans", n_spans);
    }
    NANO_TRY(check_options(adam, step, err));
    const nano_kernels *kernels = nano_kernels_current();
    nano_adam_args k;
    double squares = 0.0;
    for (int32_t i = 0; i < n_spans; i++) {
        NANO_TRY(check_span(&spans[i], i, err));
        NANO_TRY(find_args(adam, &spans[i], step, 1.0, &k, err));
        const double more = kernels->sum_squares(spans[i].gradient, spans[i].n);
        if (!isfinite(more)) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "adam: span %d: a gradient is not finite; nothing has changed", i);
        }
        squares += more;
    }
    const double found = sqrt(squares);
    const double scale = adam->max_norm > 0.0 && found > adam->max_norm ? adam->max_norm / found : 1.0;
    for (int32_t i = 0; i < n_spans; i++) {
        NANO_TRY(find_args(adam, &spans[i], step, scale, &k, err));
        kernels->adam(&k);
    }
    if (norm != NULL) {
        *norm = found;
    }
    return NANO_OK;
}
