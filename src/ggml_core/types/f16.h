/*
 * Scalar conversions between f32 and the two 16-bit float formats, as IEEE 754 defines them: exact one way,
 * round to nearest even the other; subnormals kept, signalling NaNs made quiet. They give the bits that the
 * F16C and Arm conversion instructions give.
 */
#ifndef NANO_TYPES_F16_H
#define NANO_TYPES_F16_H

#include <stdint.h>
#include <string.h>

static inline uint32_t nano_f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float nano_bits_f32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float nano_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 0x1fu;
    const uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0) { /* zero or subnormal: a multiple of 2^-24 */
        return nano_bits_f32(sign | nano_f32_bits((float)mantissa * 0x1p-24f));
    }
    if (exponent == 31) {
        return nano_bits_f32(sign | 0x7f800000u | (mantissa << 13) | (mantissa != 0 ? 0x400000u : 0u));
    }
    return nano_bits_f32(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

static inline uint16_t nano_f32_to_f16(float x) {
    const uint32_t bits = nano_f32_bits(x);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t a = bits & 0x7fffffffu;
    if (a > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    }
    if (a >= 0x47800000u) { /* 2^16 and more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (a >= 0x38800000u) { /* 2^-14, the least normal number; the carry of rounding may reach infinity */
        const uint32_t rebased = a - 0x38000000u;
        return (uint16_t)(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13));
    }
    if (a < 0x33000000u) { /* below half of the least subnormal, 2^-24 */
        return (uint16_t)sign;
    }
    const uint32_t shift = 126 - (a >> 23);
    const uint32_t mantissa = (a & 0x7fffffu) | 0x800000u;
    const uint32_t kept = mantissa >> shift;
    const uint32_t rest = mantissa & ((1u << shift) - 1);
    const uint32_t half = 1u << (shift - 1);
    const uint32_t up = rest > half || (rest == half && (kept & 1u) != 0);
    return (uint16_t)(sign | (kept + up));
}

static inline float nano_bf16_to_f32(uint16_t h) { return nano_bits_f32((uint32_t)h << 16); }

static inline uint16_t nano_f32_to_bf16(float x) {
    const uint32_t bits = nano_f32_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((bits >> 16) | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* Unaligned loads and stores. */
static inline uint16_t nano_load_u16(const void *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline float nano_load_f16(const void *p) { return nano_f16_to_f32(nano_load_u16(p)); }
static inline float nano_load_bf16(const void *p) { return nano_bf16_to_f32(nano_load_u16(p)); }

static inline float nano_load_f32(const void *p) {
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void nano_store_f16(void *p, float x) {
    const uint16_t v = nano_f32_to_f16(x);
    memcpy(p, &v, sizeof v);
}

#endif
