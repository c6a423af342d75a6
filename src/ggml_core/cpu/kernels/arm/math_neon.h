/* exp and what is made of it, four at a time. */
#ifndef NANO_CPU_KERNELS_ARM_MATH_NEON_H
#define NANO_CPU_KERNELS_ARM_MATH_NEON_H

#include "cpu/kernels/arm/common_arm.h"

/*
 * exp(x) = 2^k * exp(r), k = round(x / ln 2), |r| <= ln 2 / 2, relative error below 2^-23. ln 2 is taken off in two
 * parts (Cody & Waite); exp(r) is 1 + r + r^2 p(r), p the minimax polynomial of degree 4 for the relative error,
 * 4e-9. 2^k is multiplied in as two powers that are both normal numbers, so that results overflow to infinity and go
 * through the subnormals to 0 as they should. NaN stays.
 */
NANO_INLINE float32x4_t nano_exp4(float32x4_t x) {
    x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-105.0f)), vdupq_n_f32(90.0f));
    const int32x4_t k = vcvtnq_s32_f32(vmulq_f32(x, vdupq_n_f32(0x1.715476p+0f)));
    const float32x4_t kf = vcvtq_f32_s32(k);
    float32x4_t r = vfmsq_f32(x, kf, vdupq_n_f32(0x1.62e400p-1f));
    r = vfmsq_f32(r, kf, vdupq_n_f32(0x1.7f7d1cp-20f));
    float32x4_t p = vfmaq_f32(vdupq_n_f32(0x1.123a20p-7f), r, vdupq_n_f32(0x1.6a23d0p-10f));
    p = vfmaq_f32(vdupq_n_f32(0x1.5558f2p-5f), r, p);
    p = vfmaq_f32(vdupq_n_f32(0x1.555492p-3f), r, p);
    p = vfmaq_f32(vdupq_n_f32(0x1.fffffcp-2f), r, p);
    p = vfmaq_f32(vdupq_n_f32(1.0f), r, vfmaq_f32(vdupq_n_f32(1.0f), r, p));
    const int32x4_t half = vshrq_n_s32(k, 1);
    const int32x4_t bias = vdupq_n_s32(127);
    const float32x4_t power0 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    const float32x4_t power1 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(k, half), bias), 23));
    return vmulq_f32(vmulq_f32(p, power0), power1);
}

/* x * sigmoid(z) */
NANO_INLINE float32x4_t nano_gate4(float32x4_t x, float32x4_t z) {
    return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), nano_exp4(vnegq_f32(z))));
}

#endif
