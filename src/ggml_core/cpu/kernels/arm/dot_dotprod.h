/* Dots with sdot (FEAT_DotProd): only for files of the dotprod level, nothing here runs on older CPUs. */
#ifndef NANO_CPU_KERNELS_ARM_DOT_DOTPROD_H
#define NANO_CPU_KERNELS_ARM_DOT_DOTPROD_H

#include "cpu/kernels/arm/rows_arm.h"

#define NANO_TILE_COLS 8

/* Rows become lanes: afterwards v[k] holds in lane r what was 32-bit lane k of row r. */
NANO_INLINE void nano_transpose(int8x16_t v[4]) {
    const int32x4_t r0 = vreinterpretq_s32_s8(v[0]);
    const int32x4_t r1 = vreinterpretq_s32_s8(v[1]);
    const int32x4_t r2 = vreinterpretq_s32_s8(v[2]);
    const int32x4_t r3 = vreinterpretq_s32_s8(v[3]);
    const int64x2_t a = vreinterpretq_s64_s32(vtrn1q_s32(r0, r1));
    const int64x2_t b = vreinterpretq_s64_s32(vtrn2q_s32(r0, r1));
    const int64x2_t c = vreinterpretq_s64_s32(vtrn1q_s32(r2, r3));
    const int64x2_t d = vreinterpretq_s64_s32(vtrn2q_s32(r2, r3));
    v[0] = vreinterpretq_s8_s64(vtrn1q_s64(a, c));
    v[1] = vreinterpretq_s8_s64(vtrn1q_s64(b, d));
    v[2] = vreinterpretq_s8_s64(vtrn2q_s64(a, c));
    v[3] = vreinterpretq_s8_s64(vtrn2q_s64(b, d));
}

/* Transposing pays from four columns on: it saves each of them the adding across lanes. */
NANO_INLINE nano_rows4 nano_prepare(nano_rows4 w, int n_cols) {
    if (n_cols >= 4) {
        nano_transpose(w.lo);
        nano_transpose(w.hi);
    }
    return w;
}

NANO_INLINE int32x4_t nano_dot(nano_type type, const nano_rows4 *w, int8x16_t x_lo, int8x16_t x_hi, int32x4_t start,
                               int n_cols) {
    (void)type;
    const int32x4_t zero = vdupq_n_s32(0);
    if (n_cols >= 4) {
        int32x4_t lo = vdotq_laneq_s32(start, w->lo[0], x_lo, 0);
        int32x4_t hi = vdotq_laneq_s32(zero, w->hi[0], x_hi, 0);
        lo = vdotq_laneq_s32(lo, w->lo[1], x_lo, 1);
        hi = vdotq_laneq_s32(hi, w->hi[1], x_hi, 1);
        lo = vdotq_laneq_s32(lo, w->lo[2], x_lo, 2);
        hi = vdotq_laneq_s32(hi, w->hi[2], x_hi, 2);
        lo = vdotq_laneq_s32(lo, w->lo[3], x_lo, 3);
        hi = vdotq_laneq_s32(hi, w->hi[3], x_hi, 3);
        return vaddq_s32(lo, hi);
    }
    const int32x4_t r0 = vdotq_s32(vdotq_s32(zero, w->lo[0], x_lo), w->hi[0], x_hi);
    const int32x4_t r1 = vdotq_s32(vdotq_s32(zero, w->lo[1], x_lo), w->hi[1], x_hi);
    const int32x4_t r2 = vdotq_s32(vdotq_s32(zero, w->lo[2], x_lo), w->hi[2], x_hi);
    const int32x4_t r3 = vdotq_s32(vdotq_s32(zero, w->lo[3], x_lo), w->hi[3], x_hi);
    return vaddq_s32(start, vpaddq_s32(vpaddq_s32(r0, r1), vpaddq_s32(r2, r3)));
}

/* Of half a block. */
NANO_INLINE int32x4_t nano_dot_half(const int8x16_t w[4], int8x16_t x, int n_cols) {
    const int32x4_t zero = vdupq_n_s32(0);
    if (n_cols >= 4) {
        const int32x4_t s = vdotq_laneq_s32(vdotq_laneq_s32(zero, w[0], x, 0), w[1], x, 1);
        return vdotq_laneq_s32(vdotq_laneq_s32(s, w[2], x, 2), w[3], x, 3);
    }
    const int32x4_t r01 = vpaddq_s32(vdotq_s32(zero, w[0], x), vdotq_s32(zero, w[1], x));
    const int32x4_t r23 = vpaddq_s32(vdotq_s32(zero, w[2], x), vdotq_s32(zero, w[3], x));
    return vpaddq_s32(r01, r23);
}

NANO_INLINE int32x4_t nano_dot_halves(const nano_rows4 *w, int8x16_t x_lo, int8x16_t x_hi, int32x4_t scale_lo,
                                      int32x4_t scale_hi, int n_cols) {
    const int32x4_t lo = vmulq_s32(nano_dot_half(w->lo, x_lo, n_cols), scale_lo);
    return vmlaq_s32(lo, nano_dot_half(w->hi, x_hi, n_cols), scale_hi);
}

#endif
