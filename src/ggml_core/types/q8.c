/* The 8-bit types: Q8_0 of the files, A8 of the activations. */
#include <float.h>
#include <math.h>

#include "cpu/kernels.h"
#include "types/blocks.h"
#include "types/f16.h"
#include "types/types.h"

/* Out of range and NaN (a block whose scale overflows) must not reach the conversion, which C leaves undefined. */
static int8_t to_i8(float x) {
    if (!(x > -128.0f)) {
        return -128;
    }
    return x < 127.0f ? (int8_t)x : 127;
}

void nano_q8_0_from_float(const float *x, void *y, int64_t n) {
    nano_block_q8_0 *block = y;
    for (const float *end = x + n; x < end; x += NANO_BLOCK, block++) {
        float largest = 0.0f;
        for (int i = 0; i < NANO_BLOCK; i++) {
            largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest; /* passes over NaN, of either kind */
        }
        const float d = largest / 127.0f;
        const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        nano_store_f16(block->d, d);
        for (int i = 0; i < NANO_BLOCK; i++) {
            block->q[i] = to_i8(roundf(x[i] * inverse));
        }
    }
}

/* The steps are so small that a search would gain next to nothing. */
void nano_q8_0_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    (void)importance;
    nano_kernels_current()->quantize_q8_0(x, y, n);
}

void nano_q8_0_to_float(const void *x, float *y, int64_t n) {
    const nano_block_q8_0 *block = x;
    for (const float *end = y + n; y < end; y += NANO_BLOCK, block++) {
        const float d = nano_load_f16(block->d);
        for (int i = 0; i < NANO_BLOCK; i++) {
            y[i] = d * (float)block->q[i];
        }
    }
}

void nano_a8_from_float(const float *x, void *y, int64_t n) {
    int8_t *q = y;
    float *d = (float *)(void *)(q + n);
    int16_t *sum = (int16_t *)(void *)(d + n / NANO_A8_BLOCK);
    for (int64_t b = 0; b < n / NANO_A8_BLOCK; b++, x += NANO_A8_BLOCK, q += NANO_A8_BLOCK, sum += 2) {
        uint32_t largest_bits = 0; /* of |x|: as integers they are in order, infinity and NaN last */
        for (int i = 0; i < NANO_A8_BLOCK; i++) {
            const uint32_t bits = nano_f32_bits(x[i]) & 0x7fffffffu;
            largest_bits = bits > largest_bits ? bits : largest_bits;
        }
        const float largest = nano_bits_f32(largest_bits);
        sum[0] = sum[1] = 0;
        if (!(largest >= NANO_A8_TINY && largest <= FLT_MAX)) {
            memset(q, 0, NANO_A8_BLOCK);
            d[b] = largest < NANO_A8_TINY ? 0.0f : largest / 127.0f;
            continue;
        }
        const float inverse = 127.0f / largest;
        for (int i = 0; i < NANO_A8_BLOCK; i++) {
            q[i] = (int8_t)lrintf(x[i] * inverse);
            sum[i / 16] = (int16_t)(sum[i / 16] + q[i]);
        }
        d[b] = largest / 127.0f;
    }
}

void nano_a8_to_float(const void *x, float *y, int64_t n) {
    const int8_t *q = nano_a8_q(x);
    const float *d = nano_a8_d(x, n);
    for (int64_t i = 0; i < n; i++) {
        y[i] = d[i / NANO_A8_BLOCK] * (float)q[i];
    }
}
