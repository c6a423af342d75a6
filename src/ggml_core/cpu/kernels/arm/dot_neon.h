/* Dots for ARMv8.0: 8-bit products added up in 16 bits as far as they fit, then widened. */
#ifndef NANO_CPU_KERNELS_ARM_DOT_NEON_H
#define NANO_CPU_KERNELS_ARM_DOT_NEON_H

#include "cpu/kernels/arm/rows_arm.h"

#define NANO_TILE_COLS 4 /* more would not fit the registers */

NANO_INLINE nano_rows4 nano_prepare(nano_rows4 w, int n_cols) {
    (void)n_cols;
    return w;
}

/* v[r] += the products of eight integers of four rows. Row after row, so that none waits for the one before. */
NANO_INLINE void nano_multiply_low(int16x8_t v[4], const int8x16_t w[4], int8x16_t x) {
    v[0] = vmlal_s8(v[0], vget_low_s8(w[0]), vget_low_s8(x));
    v[1] = vmlal_s8(v[1], vget_low_s8(w[1]), vget_low_s8(x));
    v[2] = vmlal_s8(v[2], vget_low_s8(w[2]), vget_low_s8(x));
    v[3] = vmlal_s8(v[3], vget_low_s8(w[3]), vget_low_s8(x));
}

NANO_INLINE void nano_multiply_high(int16x8_t v[4], const int8x16_t w[4], int8x16_t x) {
    v[0] = vmlal_high_s8(v[0], w[0], x);
    v[1] = vmlal_high_s8(v[1], w[1], x);
    v[2] = vmlal_high_s8(v[2], w[2], x);
    v[3] = vmlal_high_s8(v[3], w[3], x);
}

/* The first eight products. */
NANO_INLINE void nano_multiply(int16x8_t v[4], const int8x16_t w[4], int8x16_t x) {
    v[0] = vmull_s8(vget_low_s8(w[0]), vget_low_s8(x));
    v[1] = vmull_s8(vget_low_s8(w[1]), vget_low_s8(x));
    v[2] = vmull_s8(vget_low_s8(w[2]), vget_low_s8(x));
    v[3] = vmull_s8(vget_low_s8(w[3]), vget_low_s8(x));
}

NANO_INLINE int32x4_t nano_dot(nano_type type, const nano_rows4 *w, int8x16_t x_lo, int8x16_t x_hi, int32x4_t start,
                               int n_cols) {
    (void)n_cols;
    int16x8_t a[4];
    nano_multiply(a, w->lo, x_lo);
    nano_multiply_high(a, w->lo, x_lo);
    if (type == NANO_TYPE_Q8_0 || type == NANO_TYPE_IQ4_NL || type == NANO_TYPE_IQ4_XS) {
        /* Two products fill 16 bits: 2 * 128 * 127 = 32512. */
        int16x8_t b[4];
        nano_multiply(b, w->hi, x_hi);
        nano_multiply_high(b, w->hi, x_hi);
        const int32x4_t r0 = vpadalq_s16(vpaddlq_s16(a[0]), b[0]);
        const int32x4_t r1 = vpadalq_s16(vpaddlq_s16(a[1]), b[1]);
        const int32x4_t r2 = vpadalq_s16(vpaddlq_s16(a[2]), b[2]);
        const int32x4_t r3 = vpadalq_s16(vpaddlq_s16(a[3]), b[3]);
        return vaddq_s32(start, vpaddq_s32(vpaddq_s32(r0, r1), vpaddq_s32(r2, r3)));
    }
    nano_multiply_low(a, w->hi, x_hi);
    nano_multiply_high(a, w->hi, x_hi);
    const int16x8_t r01 = vpaddq_s16(a[0], a[1]);
    const int16x8_t r23 = vpaddq_s16(a[2], a[3]);
    if (type == NANO_TYPE_Q5_K) {
        /* Of integers up to 31, eight: 8 * 31 * 127 = 31496. */
        return vaddq_s32(start, vpaddq_s32(vpaddlq_s16(r01), vpaddlq_s16(r23)));
    }
    /* Of integers up to 16 in magnitude, half a block's do: 16 * 16 * 127 = 32512. */
    return vpadalq_s16(start, vpaddq_s16(r01, r23));
}

/* Of half a block. Of integers up to 32 in magnitude, eight products fill 16 bits: 8 * 32 * 127 = 32512. */
NANO_INLINE int32x4_t nano_dot_half(const int8x16_t w[4], int8x16_t x) {
    int16x8_t a[4];
    nano_multiply(a, w, x);
    nano_multiply_high(a, w, x);
    return vpaddlq_s16(vpaddq_s16(vpaddq_s16(a[0], a[1]), vpaddq_s16(a[2], a[3])));
}

NANO_INLINE int32x4_t nano_dot_halves(const nano_rows4 *w, int8x16_t x_lo, int8x16_t x_hi, int32x4_t scale_lo,
                                      int32x4_t scale_hi, int n_cols) {
    (void)n_cols;
    const int32x4_t lo = vmulq_s32(nano_dot_half(w->lo, x_lo), scale_lo);
    return vmlaq_s32(lo, nano_dot_half(w->hi, x_hi), scale_hi);
}

#endif
