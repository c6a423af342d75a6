/* Reference of the optimisers' loops: plain C that a compiler turns into vectors where it may. CMakeLists.txt says that
 * sqrtf need not set errno, which would forbid that. */
#include <math.h>

#include "cpu/kernels/levels.h"
#include "optim/sums.h"

static void adam(const nano_adam_args *a, float *restrict w, const float *restrict g, float *restrict m,
                 float *restrict v) {
    const nano_adam_args k = *a;
    for (int64_t i = 0; i < k.n; i++) {
        const float gradient = g[i] * k.gradient + w[i] * k.into_gradient;
        m[i] = m[i] * k.beta1 + gradient * k.rest1;
        v[i] = v[i] * k.beta2 + gradient * gradient * k.rest2;
        w[i] = w[i] * k.keep - m[i] * k.rate / (sqrtf(v[i]) * k.spread + k.eps);
    }
}

void nano_adam_ref(const nano_adam_args *a) { adam(a, a->w, a->g, a->m, a->v); }
double nano_sum_squares_ref(const float *x, int64_t n) { return nano_sum_squares_f32(x, n); }
