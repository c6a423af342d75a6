/*
 * What aarch64's intrinsics have and 32-bit Arm lacks, under their names. (As macros over functions of our own: a
 * header may declare some of them.) 32-bit vector arithmetic takes subnormal floats for 0 and rounds to nearest.
 */
#ifndef NANO_CPU_KERNELS_ARM_ARM32_H
#define NANO_CPU_KERNELS_ARM_ARM32_H

#include <arm_neon.h>

#define NANO_PADDQ(suffix, vector)                                                             \
    static inline vector nano_vpaddq_##suffix(vector a, vector b) {                            \
        return vcombine_##suffix(vpadd_##suffix(vget_low_##suffix(a), vget_high_##suffix(a)),  \
                                 vpadd_##suffix(vget_low_##suffix(b), vget_high_##suffix(b))); \
    }
NANO_PADDQ(f32, float32x4_t)
NANO_PADDQ(s32, int32x4_t)
NANO_PADDQ(s16, int16x8_t)
#undef NANO_PADDQ
#define vpaddq_f32 nano_vpaddq_f32
#define vpaddq_s32 nano_vpaddq_s32
#define vpaddq_s16 nano_vpaddq_s16

static inline float nano_vaddvq_f32(float32x4_t x) {
    const float32x2_t pairs = vpadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(vpadd_f32(pairs, pairs), 0);
}
#define vaddvq_f32 nano_vaddvq_f32

static inline int16_t nano_vaddvq_s16(int16x8_t x) {
    const int64x2_t sums = vpaddlq_s32(vpaddlq_s16(x));
    return (int16_t)(vgetq_lane_s64(sums, 0) + vgetq_lane_s64(sums, 1));
}
#define vaddvq_s16 nano_vaddvq_s16

static inline uint32_t nano_vmaxvq_u32(uint32x4_t x) {
    const uint32x2_t most = vpmax_u32(vget_low_u32(x), vget_high_u32(x));
    return vget_lane_u32(vpmax_u32(most, most), 0);
}
#define vmaxvq_u32 nano_vmaxvq_u32

/* The second operand when it is the greater number: NaN there is passed over. */
static inline float32x4_t nano_vmaxnmq_f32(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(b, a), b, a); }
static inline float nano_vmaxnmvq_f32(float32x4_t x) {
    const float32x2_t most = vpmax_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(vpmax_f32(most, most), 0);
}
#define vmaxnmq_f32 nano_vmaxnmq_f32
#define vmaxnmvq_f32 nano_vmaxnmvq_f32

/* To nearest even, of numbers up to 2^22 in magnitude: after adding 1.5 * 2^23 an integer is what the mantissa holds. */
static inline int32x4_t nano_vcvtnq_s32_f32(float32x4_t x) {
    return vsubq_s32(vreinterpretq_s32_f32(vaddq_f32(x, vdupq_n_f32(0x1.8p23f))), vdupq_n_s32(0x4b400000));
}
#define vcvtnq_s32_f32 nano_vcvtnq_s32_f32

/* Within 2 ulp, by two steps of Newton's method; 0 where 1 / b is subnormal. */
static inline float32x4_t nano_vdivq_f32(float32x4_t a, float32x4_t b) {
    float32x4_t inverse = vrecpeq_f32(b);
    inverse = vmulq_f32(inverse, vrecpsq_f32(b, inverse));
    inverse = vmulq_f32(inverse, vrecpsq_f32(b, inverse));
    return vmulq_f32(a, inverse);
}
#define vdivq_f32 nano_vdivq_f32

#define vfmaq_laneq_f32(a, b, v, lane) vfmaq_f32(a, b, vdupq_n_f32(vgetq_lane_f32(v, lane)))

static inline int16x8_t nano_vmlal_high_s8(int16x8_t a, int8x16_t b, int8x16_t c) {
    return vmlal_s8(a, vget_high_s8(b), vget_high_s8(c));
}
static inline int32x4_t nano_vmovl_high_s16(int16x8_t x) { return vmovl_s16(vget_high_s16(x)); }
#define vmlal_high_s8 nano_vmlal_high_s8
#define vmovl_high_s16 nano_vmovl_high_s16

static inline float32x4_t nano_vzip1q_f32(float32x4_t a, float32x4_t b) { return vzipq_f32(a, b).val[0]; }
static inline float32x4_t nano_vzip2q_f32(float32x4_t a, float32x4_t b) { return vzipq_f32(a, b).val[1]; }
#define vzip1q_f32 nano_vzip1q_f32
#define vzip2q_f32 nano_vzip2q_f32

static inline uint8x16_t nano_vqtbl1q_u8(uint8x16_t table, uint8x16_t at) {
    uint8x8x2_t halves;
    halves.val[0] = vget_low_u8(table);
    halves.val[1] = vget_high_u8(table);
    return vcombine_u8(vtbl2_u8(halves, vget_low_u8(at)), vtbl2_u8(halves, vget_high_u8(at)));
}
static inline int8x16_t nano_vqtbl1q_s8(int8x16_t table, uint8x16_t at) {
    return vreinterpretq_s8_u8(nano_vqtbl1q_u8(vreinterpretq_u8_s8(table), at));
}
#define vqtbl1q_u8 nano_vqtbl1q_u8
#define vqtbl1q_s8 nano_vqtbl1q_s8

#endif
