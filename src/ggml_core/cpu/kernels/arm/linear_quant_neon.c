/* Integer linears for ARMv8.0: 8-bit products added up in 16 bits as far as they fit, then widened. */
#define NANO_TILE_COLS 4 /* more would not fit the registers */
#include "cpu/kernels/arm/linear_quant_arm.h"

NANO_INLINE nano_rows4 nano_prepare(nano_rows4 w, int n_cols) {
    (void)n_cols;
    return w;
}

/* Q8_0: two products fill 16 bits (2 * 128 * 127 = 32512). Lanes add up to the dot product. */
NANO_INLINE int32x4_t nano_dot_bytes(int8x16_t w_lo, int8x16_t w_hi, int8x16_t x_lo, int8x16_t x_hi) {
    const int16x8_t lo = vmlal_high_s8(vmull_s8(vget_low_s8(w_lo), vget_low_s8(x_lo)), w_lo, x_lo);
    const int16x8_t hi = vmlal_high_s8(vmull_s8(vget_low_s8(w_hi), vget_low_s8(x_hi)), w_hi, x_hi);
    return vpadalq_s16(vpaddlq_s16(lo), hi);
}

/* Integers of up to 5 bits: four products a lane, at most 4 * 31 * 127 = 15748. */
NANO_INLINE int16x8_t nano_dot_nibbles(int8x16_t w_lo, int8x16_t w_hi, int8x16_t x_lo, int8x16_t x_hi) {
    const int16x8_t lo = vmlal_high_s8(vmull_s8(vget_low_s8(w_lo), vget_low_s8(x_lo)), w_lo, x_lo);
    return vmlal_high_s8(vmlal_s8(lo, vget_low_s8(w_hi), vget_low_s8(x_hi)), w_hi, x_hi);
}

NANO_INLINE int32x4_t nano_dot(nano_type type, const nano_rows4 *w, int8x16_t x_lo, int8x16_t x_hi, int32x4_t start,
                               int n_cols) {
    (void)n_cols;
    if (type == NANO_TYPE_Q8_0) {
        const int32x4_t r0 = nano_dot_bytes(w->lo[0], w->hi[0], x_lo, x_hi);
        const int32x4_t r1 = nano_dot_bytes(w->lo[1], w->hi[1], x_lo, x_hi);
        const int32x4_t r2 = nano_dot_bytes(w->lo[2], w->hi[2], x_lo, x_hi);
        const int32x4_t r3 = nano_dot_bytes(w->lo[3], w->hi[3], x_lo, x_hi);
        return vaddq_s32(start, vpaddq_s32(vpaddq_s32(r0, r1), vpaddq_s32(r2, r3)));
    }
    /* Pairs still fit 16 bits: 8 * 31 * 127 = 31496; of 4-bit integers also pairs of pairs: 16 * 15 * 127 = 30480. */
    const int16x8_t r01 = vpaddq_s16(nano_dot_nibbles(w->lo[0], w->hi[0], x_lo, x_hi),
                                     nano_dot_nibbles(w->lo[1], w->hi[1], x_lo, x_hi));
    const int16x8_t r23 = vpaddq_s16(nano_dot_nibbles(w->lo[2], w->hi[2], x_lo, x_hi),
                                     nano_dot_nibbles(w->lo[3], w->hi[3], x_lo, x_hi));
    if (type == NANO_TYPE_Q4_0 || type == NANO_TYPE_Q4_1) {
        return vpadalq_s16(start, vpaddq_s16(r01, r23));
    }
    return vaddq_s32(start, vpaddq_s32(vpaddlq_s16(r01), vpaddlq_s16(r23)));
}

void nano_linear_q8_0_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q8_0, args); }
void nano_linear_q4_0_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q4_0, args); }
void nano_linear_q4_1_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q4_1, args); }
void nano_linear_q5_0_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q5_0, args); }
void nano_linear_q5_1_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q5_1, args); }
