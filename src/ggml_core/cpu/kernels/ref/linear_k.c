/* The reference of linear for the types whose blocks have parts: each part's dot is an exact integer, then scaled. */
#include "cpu/kernels/levels.h"
#include "types/unpacked.h"

static float dot_unpacked(nano_unpack_fn *unpack, int size, size_t bytes, const uint8_t *w, const uint8_t *x,
                          int64_t n) {
    const int8_t *q = nano_a8_q(x);
    const float *d = nano_a8_d(x, n);
    const int16_t *half_sum = nano_a8_sum(x, n);
    nano_unpacked u;
    float sum = 0.0f;
    for (int64_t i = 0; i < n; i += size, w += bytes) {
        unpack(w, &u);
        for (int k = 0; k < size; k += u.part) {
            int32_t dot = 0;
            int32_t q_sum = 0;
            for (int j = k; j < k + u.part; j++) {
                dot += u.q[j] * q[i + j];
            }
            for (int j = k; j < k + u.part; j += 16) {
                q_sum += half_sum[(i + j) / 16];
            }
            const float dx = d[(i + k) / NANO_A8_BLOCK];
            sum += u.scale[k / u.part] * dx * (float)dot - u.min[k / u.part] * dx * (float)q_sum;
        }
    }
    return sum;
}

#define LINEAR(name, size)                                                                           \
    void nano_linear_##name##_ref(const nano_linear_args *a) {                                       \
        for (int64_t c = 0; c < a->n_cols; c++) {                                                    \
            const uint8_t *x = (const uint8_t *)a->x + (size_t)c * a->x_stride;                      \
            for (int64_t r = 0; r < a->n_rows; r++) {                                                \
                const uint8_t *w = (const uint8_t *)a->w + (size_t)r * a->w_stride;                  \
                a->y[c * a->y_stride + r] =                                                          \
                    dot_unpacked(nano_##name##_unpack, size, sizeof(nano_block_##name), w, x, a->n); \
            }                                                                                        \
        }                                                                                            \
    }

LINEAR(q2_k, NANO_SUPER)
LINEAR(q3_k, NANO_SUPER)
LINEAR(q4_k, NANO_SUPER)
LINEAR(q5_k, NANO_SUPER)
LINEAR(q6_k, NANO_SUPER)
LINEAR(iq4_nl, NANO_BLOCK)
LINEAR(iq4_xs, NANO_SUPER)
