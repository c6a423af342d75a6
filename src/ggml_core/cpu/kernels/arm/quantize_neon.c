/* f32 to A8. The arithmetic is the reference's, operation by operation: the bits must be the same at every level. */
#include <float.h>

#include "cpu/kernels/arm/common_arm.h"
#include "types/f16.h"

NANO_INLINE uint32x4_t nano_abs_bits(float32x4_t x) { return vreinterpretq_u32_f32(vabsq_f32(x)); }

NANO_INLINE int16x8_t nano_round8(float32x4_t a, float32x4_t b, float32x4_t factor) {
    const int32x4_t lo = vcvtnq_s32_f32(vmulq_f32(a, factor));
    const int32x4_t hi = vcvtnq_s32_f32(vmulq_f32(b, factor));
    return vcombine_s16(vmovn_s32(lo), vmovn_s32(hi));
}

/* One block of 32; returns the scale. */
NANO_INLINE float nano_quantize_block(const uint8_t *x, int8_t *q, int16_t *sum) {
    const float32x4_t x0 = nano_load4(x), x1 = nano_load4(x + 16), x2 = nano_load4(x + 32), x3 = nano_load4(x + 48);
    const float32x4_t x4 = nano_load4(x + 64), x5 = nano_load4(x + 80), x6 = nano_load4(x + 96);
    const float32x4_t x7 = nano_load4(x + 112);
    /* As integers |x| is in order, infinity and NaN last. */
    const uint32x4_t m01 = vmaxq_u32(nano_abs_bits(x0), nano_abs_bits(x1));
    const uint32x4_t m23 = vmaxq_u32(nano_abs_bits(x2), nano_abs_bits(x3));
    const uint32x4_t m45 = vmaxq_u32(nano_abs_bits(x4), nano_abs_bits(x5));
    const uint32x4_t m67 = vmaxq_u32(nano_abs_bits(x6), nano_abs_bits(x7));
    const float largest = nano_bits_f32(vmaxvq_u32(vmaxq_u32(vmaxq_u32(m01, m23), vmaxq_u32(m45, m67))));
    if (!(largest >= NANO_A8_TINY && largest <= FLT_MAX)) {
        vst1q_s8(q, vdupq_n_s8(0));
        vst1q_s8(q + 16, vdupq_n_s8(0));
        sum[0] = sum[1] = 0;
        return largest < NANO_A8_TINY ? 0.0f : largest / 127.0f;
    }
    const float32x4_t inverse = vdupq_n_f32(127.0f / largest);
    const int16x8_t q0 = nano_round8(x0, x1, inverse), q1 = nano_round8(x2, x3, inverse);
    const int16x8_t q2 = nano_round8(x4, x5, inverse), q3 = nano_round8(x6, x7, inverse);
    vst1q_s8(q, vcombine_s8(vmovn_s16(q0), vmovn_s16(q1)));
    vst1q_s8(q + 16, vcombine_s8(vmovn_s16(q2), vmovn_s16(q3)));
    sum[0] = vaddvq_s16(vaddq_s16(q0, q1)); /* at most 16 * 127: fits 16 bits */
    sum[1] = vaddvq_s16(vaddq_s16(q2, q3));
    return largest / 127.0f;
}

void nano_quantize_a8_neon(const void *x, void *y, int64_t n) {
    const uint8_t *in = x;
    int8_t *q = y;
    float *d = (float *)(void *)(q + n);
    int16_t *sum = (int16_t *)(void *)(d + n / NANO_A8_BLOCK);
    for (int64_t b = 0; b < n / NANO_A8_BLOCK; b++) {
        d[b] = nano_quantize_block(in + b * NANO_A8_BLOCK * 4, q + b * NANO_A8_BLOCK, &sum[2 * b]);
    }
}
