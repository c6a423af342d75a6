/* What the Arm kernel files share. Loads and stores here take any address. */
#ifndef NANO_CPU_KERNELS_ARM_COMMON_ARM_H
#define NANO_CPU_KERNELS_ARM_COMMON_ARM_H

#if !defined(__aarch64__) && !defined(__arm__)
#  error "these levels are for Arm"
#endif

#include <arm_neon.h>
#include <string.h>

#if !defined(__aarch64__)
#  include "cpu/kernels/arm/arm32.h"
#endif

#include "cpu/kernels/levels.h"

/* For templates over a constant type or tile width: every use must fold into its caller. */
#define NANO_INLINE static inline __attribute__((always_inline))

NANO_INLINE float32x4_t nano_load4(const void *p) { return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p)); }

/* The k < 4 leading floats of p, then `fill`. */
NANO_INLINE float32x4_t nano_load_part(const void *p, int64_t k, float fill) {
    float v[4] = {fill, fill, fill, fill};
    memcpy(v, p, (size_t)k * sizeof v[0]);
    return vld1q_f32(v);
}

/* The leading k lanes, at most 4. */
NANO_INLINE void nano_store_part(float *p, float32x4_t x, int64_t k) {
    if (k >= 4) {
        vst1q_f32(p, x);
        return;
    }
    float v[4];
    vst1q_f32(v, x);
    for (int64_t i = 0; i < k; i++) {
        p[i] = v[i];
    }
}

#endif
