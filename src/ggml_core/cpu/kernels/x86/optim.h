/* The optimisers' loops, over vec_<level>.h. */
#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/vmath.h"
#include "optim/sums.h"

void V_LEVEL(nano_adam)(const nano_adam_args *a) {
    const vf gradient = v_set(a->gradient), into_gradient = v_set(a->into_gradient);
    const vf beta1 = v_set(a->beta1), rest1 = v_set(a->rest1), beta2 = v_set(a->beta2), rest2 = v_set(a->rest2);
    const vf keep = v_set(a->keep), rate = v_set(a->rate), spread = v_set(a->spread), eps = v_set(a->eps);
    for (int64_t i = 0; i < a->n; i += V_LANES) {
        const int64_t left = a->n - i;
        const vf w = v_get(a->w + i, left);
        const vf g = v_add(v_mul(v_get(a->g + i, left), gradient), v_mul(w, into_gradient));
        const vf m = v_add(v_mul(v_get(a->m + i, left), beta1), v_mul(g, rest1));
        const vf v = v_add(v_mul(v_get(a->v + i, left), beta2), v_mul(v_mul(g, g), rest2));
        const vf step = v_div(v_mul(m, rate), v_add(v_mul(v_sqrt(v), spread), eps));
        v_put(a->m + i, m, left);
        v_put(a->v + i, v, left);
        v_put(a->w + i, v_sub(v_mul(w, keep), step), left);
    }
}

/* Compiled with the level's instructions. */
double V_LEVEL(nano_sum_squares)(const float *x, int64_t n) { return nano_sum_squares_f32(x, n); }
