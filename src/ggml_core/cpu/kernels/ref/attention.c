/* Reference of attention's softmax and value sum, and the reference table. */
#include <math.h>

#include "cpu/kernels/levels.h"
#include "types/blocks.h"
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

void nano_softmax_grad_ref(const float *p, float *d, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)p[i] * (double)d[i];
    }
    for (int64_t i = 0; i < n; i++) {
        d[i] = p[i] * (d[i] - (float)sum);
    }
}

static float load_f32(const uint8_t *row, int64_t i) { return nano_load_f32(row + 4 * i); }
static float load_f16(const uint8_t *row, int64_t i) { return nano_load_f16(row + 2 * i); }

static float load_q8_0(const uint8_t *row, int64_t i) {
    const nano_block_q8_0 *block = (const nano_block_q8_0 *)row + i / NANO_BLOCK;
    return nano_load_f16(block->d) * (float)block->q[i % NANO_BLOCK];
}

static float load_q4_0(const uint8_t *row, int64_t i) {
    const nano_block_q4_0 *block = (const nano_block_q4_0 *)row + i / NANO_BLOCK;
    const int code = (block->q[i % 16] >> (i % NANO_BLOCK / 16 * 4)) & 15;
    return nano_load_f16(block->d) * (float)(code - 8);
}

#define WEIGH(name)                                                                 \
    void nano_weigh_##name##_ref(const nano_weigh_args *a) {                        \
        for (int64_t c = 0; c < a->n_cols; c++) {                                   \
            float *out = a->out + c * a->out_stride;                                \
            for (int64_t r = 0; r < a->n_rows; r++) {                               \
                const uint8_t *v = (const uint8_t *)a->v + (size_t)r * a->v_stride; \
                const float p = a->p[c * a->p_stride + r];                          \
                for (int64_t i = 0; i < a->n; i++) {                                \
                    out[i] += p * load_##name(v, i);                                \
                }                                                                   \
            }                                                                       \
        }                                                                           \
    }

WEIGH(f32)
WEIGH(f16)
WEIGH(q8_0)
WEIGH(q4_0)

void nano_kernels_init_ref(nano_kernels *k) {
#define NANO_KERNEL(name, fn) k->name = nano_##name##_ref;
#include "cpu/kernels.inc"
#undef NANO_KERNEL
    k->wide_linear = NULL;
    k->wide_pack = NULL;
}
