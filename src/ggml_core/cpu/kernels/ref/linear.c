/* The reference of linear: one dot a time, added up in the order of the row. */
#include "cpu/kernels/levels.h"
#include "types/blocks.h"
#include "types/f16.h"

/* A function nano_linear_<name>_ref that calls DOT(w row, x row, n) for every output. */
#define LINEAR(name, DOT)                                                           \
    void nano_linear_##name##_ref(const nano_linear_args *a) {                      \
        for (int64_t c = 0; c < a->n_cols; c++) {                                   \
            const uint8_t *x = (const uint8_t *)a->x + (size_t)c * a->x_stride;     \
            for (int64_t r = 0; r < a->n_rows; r++) {                               \
                const uint8_t *w = (const uint8_t *)a->w + (size_t)r * a->w_stride; \
                a->y[c * a->y_stride + r] = DOT(w, x, a->n);                        \
            }                                                                       \
        }                                                                           \
    }

#define FLOAT_DOT(name, bytes, LOAD)                                         \
    static float dot_##name(const uint8_t *w, const uint8_t *x, int64_t n) { \
        float sum = 0.0f;                                                    \
        for (int64_t i = 0; i < n; i++) {                                    \
            sum += LOAD(w + bytes * i) * nano_load_f32(x + 4 * i);           \
        }                                                                    \
        return sum;                                                          \
    }

FLOAT_DOT(f32, 4, nano_load_f32)
FLOAT_DOT(f16, 2, nano_load_f16)
FLOAT_DOT(bf16, 2, nano_load_bf16)

/* A block's dot is an exact integer, then scaled: BLOCK_DOT evaluates to it, given the block and its 32 q. */
#define INTEGER_DOT(name, BLOCK_DOT)                                                \
    static float dot_##name(const uint8_t *w, const uint8_t *x, int64_t n) {        \
        const nano_block_##name *block = (const void *)w;                           \
        const int8_t *q = nano_a8_q(x);                                             \
        const float *d = nano_a8_d(x, n);                                           \
        const int16_t *q_sum = nano_a8_sum(x, n);                                   \
        float sum = 0.0f;                                                           \
        for (int64_t b = 0; b < n / NANO_BLOCK; b++, q += NANO_BLOCK) {             \
            sum += BLOCK_DOT(&block[b], q, d[b], nano_a8_block_sum(q_sum + 2 * b)); \
        }                                                                           \
        return sum;                                                                 \
    }

static int32_t codes_4(const uint8_t *low, const int8_t *q) {
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) {
        sum += (low[i] & 15) * q[i] + (low[i] >> 4) * q[i + 16];
    }
    return sum;
}

static int32_t codes_5(const uint8_t *low, const uint8_t *high, const int8_t *q) {
    int32_t sum = codes_4(low, q);
    for (int i = 0; i < NANO_BLOCK; i++) {
        sum += ((high[i / 8] >> (i % 8)) & 1) * 16 * q[i];
    }
    return sum;
}

static float block_q8_0(const nano_block_q8_0 *w, const int8_t *q, float d, int32_t q_sum) {
    int32_t sum = 0;
    for (int i = 0; i < NANO_BLOCK; i++) {
        sum += w->q[i] * q[i];
    }
    (void)q_sum;
    return nano_load_f16(w->d) * d * (float)sum;
}

static float block_q4_0(const nano_block_q4_0 *w, const int8_t *q, float d, int32_t q_sum) {
    return nano_load_f16(w->d) * d * (float)(codes_4(w->q, q) - 8 * q_sum);
}

static float block_q4_1(const nano_block_q4_1 *w, const int8_t *q, float d, int32_t q_sum) {
    return nano_load_f16(w->d) * d * (float)codes_4(w->q, q) + nano_load_f16(w->m) * d * (float)q_sum;
}

static float block_q5_0(const nano_block_q5_0 *w, const int8_t *q, float d, int32_t q_sum) {
    return nano_load_f16(w->d) * d * (float)(codes_5(w->q, w->high, q) - 16 * q_sum);
}

static float block_q5_1(const nano_block_q5_1 *w, const int8_t *q, float d, int32_t q_sum) {
    return nano_load_f16(w->d) * d * (float)codes_5(w->q, w->high, q) + nano_load_f16(w->m) * d * (float)q_sum;
}

INTEGER_DOT(q8_0, block_q8_0)
INTEGER_DOT(q4_0, block_q4_0)
INTEGER_DOT(q4_1, block_q4_1)
INTEGER_DOT(q5_0, block_q5_0)
INTEGER_DOT(q5_1, block_q5_1)

LINEAR(f32, dot_f32)
LINEAR(f16, dot_f16)
LINEAR(bf16, dot_bf16)
LINEAR(q8_0, dot_q8_0)
LINEAR(q4_0, dot_q4_0)
LINEAR(q4_1, dot_q4_1)
LINEAR(q5_0, dot_q5_0)
LINEAR(q5_1, dot_q5_1)
