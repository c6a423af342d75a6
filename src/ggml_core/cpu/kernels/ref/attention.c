/* Reference of attention's softmax and value sum, and the reference table. */
#include <math.h>

#include "cpu/kernels/levels.h"
#include "types/f16.h"

float nano_max_ref(const float *x, int64_t n) {
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    return largest;
}

float nano_exp_sum_ref(float *x, float max, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += (double)x[i];
    }
    return (float)sum;
}

#define WEIGH(name, bytes, LOAD)                                                    \
    void nano_weigh_##name##_ref(const nano_weigh_args *a) {                        \
        for (int64_t c = 0; c < a->n_cols; c++) {                                   \
            float *out = a->out + c * a->out_stride;                                \
            for (int64_t r = 0; r < a->n_rows; r++) {                               \
                const uint8_t *v = (const uint8_t *)a->v + (size_t)r * a->v_stride; \
                const float p = a->p[c * a->p_stride + r];                          \
                for (int64_t i = 0; i < a->n; i++) {                                \
                    out[i] += p * LOAD(v + bytes * i);                              \
                }                                                                   \
            }                                                                       \
        }                                                                           \
    }

WEIGH(f32, 4, nano_load_f32)
WEIGH(f16, 2, nano_load_f16)

void nano_kernels_init_ref(nano_kernels *k) {
#define NANO_KERNEL(name, fn) k->name = nano_##name##_ref;
#include "cpu/kernels.inc"
#undef NANO_KERNEL
}
