/* Element by element, and what attention's softmax needs. Tails go through the vector arithmetic, too: what an
 * element becomes does not depend on where a row was split. */
#include <math.h>

#include "cpu/kernels/arm/math_neon.h"

/* y[i] = EXPR of the vector x (and z), from a (and b). */
#define UNARY(name, EXPR)                                             \
    void nano_##name##_neon(const float *a, float *y, int64_t n) {    \
        int64_t i = 0;                                                \
        for (; n - i >= 4; i += 4) {                                  \
            const float32x4_t x = nano_load4(a + i);                  \
            vst1q_f32(y + i, EXPR);                                   \
        }                                                             \
        if (i < n) {                                                  \
            const float32x4_t x = nano_load_part(a + i, n - i, 0.0f); \
            nano_store_part(y + i, EXPR, n - i);                      \
        }                                                             \
    }

#define BINARY(name, EXPR)                                                         \
    void nano_##name##_neon(const float *a, const float *b, float *y, int64_t n) { \
        int64_t i = 0;                                                             \
        for (; n - i >= 4; i += 4) {                                               \
            const float32x4_t x = nano_load4(a + i);                               \
            const float32x4_t z = nano_load4(b + i);                               \
            vst1q_f32(y + i, EXPR);                                                \
        }                                                                          \
        if (i < n) {                                                               \
            const float32x4_t x = nano_load_part(a + i, n - i, 0.0f);              \
            const float32x4_t z = nano_load_part(b + i, n - i, 0.0f);              \
            nano_store_part(y + i, EXPR, n - i);                                   \
        }                                                                          \
    }

NANO_INLINE float32x4_t nano_gelu4(float32x4_t x) {
    const float32x4_t cubic = vmulq_f32(vmulq_f32(x, x), vdupq_n_f32(NANO_GELU_CUBIC));
    const float32x4_t linear = vmulq_f32(x, vdupq_n_f32(NANO_GELU_LINEAR));
    return nano_gate4(x, vmulq_f32(linear, vaddq_f32(vdupq_n_f32(1.0f), cubic)));
}

BINARY(add, vaddq_f32(x, z))
BINARY(mul, vmulq_f32(x, z))
BINARY(swiglu, vmulq_f32(nano_gate4(x, x), z))
UNARY(silu, nano_gate4(x, x))
UNARY(gelu, nano_gelu4(x))

/* silu'(x), s the sigmoid of x */
NANO_INLINE float32x4_t nano_silu_slope4(float32x4_t x, float32x4_t s) {
    const float32x4_t one = vdupq_n_f32(1.0f);
    return vmulq_f32(s, vfmaq_f32(one, x, vsubq_f32(one, s)));
}

NANO_INLINE float32x4_t nano_sigmoid4(float32x4_t u) { return nano_gate4(vdupq_n_f32(1.0f), u); }

NANO_INLINE float32x4_t nano_gelu_slope4(float32x4_t a) {
    const float32x4_t one = vdupq_n_f32(1.0f), most = vdupq_n_f32(NANO_GELU_SATURATED);
    const float32x4_t x = vminq_f32(vmaxq_f32(a, vnegq_f32(most)), most);
    const float32x4_t linear = vmulq_f32(x, vdupq_n_f32(NANO_GELU_LINEAR));
    const float32x4_t cubic = vmulq_f32(vmulq_f32(x, x), vdupq_n_f32(NANO_GELU_CUBIC));
    const float32x4_t s = nano_sigmoid4(vmulq_f32(linear, vaddq_f32(one, cubic)));
    const float32x4_t turn = vmulq_f32(linear, vfmaq_f32(one, vdupq_n_f32(3.0f), cubic)); /* x u' */
    return vmulq_f32(s, vfmaq_f32(one, vsubq_f32(one, s), turn));
}

BINARY(gelu_grad, vmulq_f32(nano_gelu_slope4(x), z))
BINARY(silu_grad, vmulq_f32(nano_silu_slope4(x, nano_sigmoid4(x)), z))

void nano_swiglu_grad_neon(const float *a, const float *b, const float *d, float *da, float *db, int64_t n) {
    for (int64_t i = 0; i < n; i += 4) {
        const int64_t k = n - i < 4 ? n - i : 4;
        const float32x4_t x = k == 4 ? nano_load4(a + i) : nano_load_part(a + i, k, 0.0f);
        const float32x4_t z = k == 4 ? nano_load4(b + i) : nano_load_part(b + i, k, 0.0f);
        const float32x4_t d_i = k == 4 ? nano_load4(d + i) : nano_load_part(d + i, k, 0.0f);
        const float32x4_t s = nano_sigmoid4(x);
        nano_store_part(da + i, vmulq_f32(vmulq_f32(nano_silu_slope4(x, s), z), d_i), k);
        nano_store_part(db + i, vmulq_f32(vmulq_f32(x, s), d_i), k);
    }
}

void nano_scale_neon(const float *a, float s, float *y, int64_t n) {
    const float32x4_t factor = vdupq_n_f32(s);
    int64_t i = 0;
    for (; n - i >= 4; i += 4) {
        vst1q_f32(y + i, vmulq_f32(nano_load4(a + i), factor));
    }
    if (i < n) {
        nano_store_part(y + i, vmulq_f32(nano_load_part(a + i, n - i, 0.0f), factor), n - i);
    }
}

float nano_max_neon(const float *x, int64_t n) {
    float32x4_t m0 = vdupq_n_f32(-INFINITY), m1 = m0;
    int64_t i = 0;
    for (; n - i >= 8; i += 8) {
        m0 = vmaxnmq_f32(m0, nano_load4(x + i));
        m1 = vmaxnmq_f32(m1, nano_load4(x + i + 4));
    }
    for (; n - i >= 4; i += 4) {
        m0 = vmaxnmq_f32(m0, nano_load4(x + i));
    }
    if (i < n) {
        m1 = vmaxnmq_f32(m1, nano_load_part(x + i, n - i, -INFINITY));
    }
    return vmaxnmvq_f32(vmaxnmq_f32(m0, m1));
}

float nano_exp_sum_neon(float *x, float max, int64_t n) {
    const float32x4_t m = vdupq_n_f32(max);
    float32x4_t s0 = vdupq_n_f32(0.0f), s1 = s0;
    int64_t i = 0;
    for (; n - i >= 8; i += 8) {
        const float32x4_t e0 = nano_exp4(vsubq_f32(nano_load4(x + i), m));
        const float32x4_t e1 = nano_exp4(vsubq_f32(nano_load4(x + i + 4), m));
        vst1q_f32(x + i, e0);
        vst1q_f32(x + i + 4, e1);
        s0 = vaddq_f32(s0, e0);
        s1 = vaddq_f32(s1, e1);
    }
    for (; i < n; i += 4) { /* what is not there adds 0 */
        const int64_t k = n - i < 4 ? n - i : 4;
        const float32x4_t e = nano_exp4(vsubq_f32(nano_load_part(x + i, k, -INFINITY), m));
        nano_store_part(x + i, e, k);
        s0 = vaddq_f32(s0, e);
    }
    return vaddvq_f32(vaddq_f32(s0, s1));
}

void nano_softmax_grad_neon(const float *p, float *d, int64_t n) {
    float32x4_t s0 = vdupq_n_f32(0.0f), s1 = s0;
    int64_t i = 0;
    for (; n - i >= 8; i += 8) {
        s0 = vfmaq_f32(s0, nano_load4(p + i), nano_load4(d + i));
        s1 = vfmaq_f32(s1, nano_load4(p + i + 4), nano_load4(d + i + 4));
    }
    for (; i < n; i += 4) {
        const int64_t k = n - i < 4 ? n - i : 4;
        s0 = vfmaq_f32(s0, nano_load_part(p + i, k, 0.0f), nano_load_part(d + i, k, 0.0f));
    }
    const float32x4_t sum = vdupq_n_f32(vaddvq_f32(vaddq_f32(s0, s1)));
    for (i = 0; n - i >= 4; i += 4) {
        vst1q_f32(d + i, vmulq_f32(nano_load4(p + i), vsubq_f32(nano_load4(d + i), sum)));
    }
    for (; i < n; i += 4) {
        const float32x4_t x = vsubq_f32(nano_load_part(d + i, n - i, 0.0f), sum);
        nano_store_part(d + i, vmulq_f32(nano_load_part(p + i, n - i, 0.0f), x), n - i);
    }
}

void nano_f32_to_f16_neon(const void *x, void *y, int64_t n) {
    const uint8_t *in = x;
    uint8_t *out = y;
    int64_t i = 0;
    for (; n - i >= 4; i += 4) {
        vst1_u8(out + 2 * i, vreinterpret_u8_f16(vcvt_f16_f32(nano_load4(in + 4 * i))));
    }
    if (i < n) {
        uint8_t last[8];
        vst1_u8(last, vreinterpret_u8_f16(vcvt_f16_f32(nano_load_part(in + 4 * i, n - i, 0.0f))));
        memcpy(out + 2 * i, last, (size_t)(n - i) * 2);
    }
}
