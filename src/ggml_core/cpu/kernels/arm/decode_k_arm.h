/*
 * Super-blocks of 256 (Q2_K .. Q6_K, IQ4_XS): layouts, the scales and minima of their parts, four rows at a time, and
 * their integers as signed bytes.
 *
 * A super-block is 8 blocks of 32 elements in two halves: block b lies in half b / 4, at bits that depend on b % 4.
 */
#ifndef NANO_CPU_KERNELS_ARM_DECODE_K_ARM_H
#define NANO_CPU_KERNELS_ARM_DECODE_K_ARM_H

#include "cpu/kernels/arm/rows_arm.h"

enum { NANO_K_BLOCKS = NANO_SUPER / NANO_A8_BLOCK };

NANO_INLINE size_t nano_k_bytes(nano_type type) {
    return type == NANO_TYPE_Q2_K   ? sizeof(nano_block_q2_k)
           : type == NANO_TYPE_Q3_K ? sizeof(nano_block_q3_k)
           : type == NANO_TYPE_Q4_K ? sizeof(nano_block_q4_k)
           : type == NANO_TYPE_Q5_K ? sizeof(nano_block_q5_k)
           : type == NANO_TYPE_Q6_K ? sizeof(nano_block_q6_k)
                                    : sizeof(nano_block_iq4_xs);
}

NANO_INLINE size_t nano_k_d_at(nano_type type) {
    return type == NANO_TYPE_Q2_K   ? offsetof(nano_block_q2_k, d)
           : type == NANO_TYPE_Q3_K ? offsetof(nano_block_q3_k, d)
           : type == NANO_TYPE_Q6_K ? offsetof(nano_block_q6_k, d)
                                    : 0;
}

/* Parts have 16 elements, not 32. */
NANO_INLINE int nano_k_in_16(nano_type type) {
    return type == NANO_TYPE_Q2_K || type == NANO_TYPE_Q3_K || type == NANO_TYPE_Q6_K;
}

NANO_INLINE int nano_k_has_min(nano_type type) {
    return type == NANO_TYPE_Q2_K || type == NANO_TYPE_Q4_K || type == NANO_TYPE_Q5_K;
}

/* ------------------------------------------------------------------ scales */

/* What goes with a super-block of each of four rows, a row a lane. */
typedef struct nano_k_head {
    int32x4_t scale[16]; /* of every part */
    float32x4_t min[16];
    float32x4_t d;
    float32x4_t dmin;
} nano_k_head;

/* Four bytes of each row: those of row r are bytes 4 r .. 4 r + 3, lane r of 32 bits. */
NANO_INLINE uint8x16_t nano_gather_words(const uint8_t *const w[4], size_t at) {
    uint32_t v[4];
    memcpy(&v[0], w[0] + at, 4);
    memcpy(&v[1], w[1] + at, 4);
    memcpy(&v[2], w[2] + at, 4);
    memcpy(&v[3], w[3] + at, 4);
    const uint64_t low = v[0] | (uint64_t)v[1] << 32, high = v[2] | (uint64_t)v[3] << 32;
    return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low), vcreate_u64(high)));
}

/* Six bits: the low four of `low`, and of `high` bits 4 and 5. */
NANO_INLINE uint8x16_t nano_join_6(uint8x16_t low, uint8x16_t high) {
    return vorrq_u8(low, vandq_u8(high, vdupq_n_u8(0x30)));
}

NANO_INLINE uint8x16_t nano_minus_32(uint8x16_t x) { return vsubq_u8(x, vdupq_n_u8(32)); }

/* Bytes i of the rows as signed integers. */
NANO_INLINE void nano_spread_scales(uint8x16_t bytes, int32x4_t out[4]) {
    const int32x4_t v = vreinterpretq_s32_u8(bytes);
    out[0] = vshrq_n_s32(vshlq_n_s32(v, 24), 24);
    out[1] = vshrq_n_s32(vshlq_n_s32(v, 16), 24);
    out[2] = vshrq_n_s32(vshlq_n_s32(v, 8), 24);
    out[3] = vshrq_n_s32(v, 24);
}

/* Bytes i of the rows as floats. */
NANO_INLINE void nano_spread_mins(uint8x16_t bytes, float32x4_t out[4]) {
    const uint32x4_t v = vreinterpretq_u32_u8(bytes);
    out[0] = vcvtq_f32_u32(vandq_u32(v, vdupq_n_u32(0xff)));
    out[1] = vcvtq_n_f32_u32(vandq_u32(v, vdupq_n_u32(0xff00)), 8);
    out[2] = vcvtq_n_f32_u32(vandq_u32(v, vdupq_n_u32(0xff0000)), 16);
    out[3] = vcvtq_n_f32_u32(vandq_u32(v, vdupq_n_u32(0xff000000u)), 24);
}

NANO_INLINE void nano_q2_k_scales(const uint8_t *const w[4], nano_k_head *head) {
    for (size_t i = 0; i < 16; i += 4) {
        const uint8x16_t packed = nano_gather_words(w, offsetof(nano_block_q2_k, scale) + i);
        nano_spread_scales(nano_low_nibbles(packed), head->scale + i);
        nano_spread_mins(vshrq_n_u8(packed, 4), head->min + i);
    }
}

NANO_INLINE void nano_q3_k_scales(const uint8_t *const w[4], nano_k_head *head) {
    const size_t at = offsetof(nano_block_q3_k, scale);
    const uint8x16_t a = nano_gather_words(w, at), b = nano_gather_words(w, at + 4);
    const uint8x16_t high = nano_gather_words(w, at + 8);
    const uint8x16_t s0 = nano_join_6(nano_low_nibbles(a), vshlq_n_u8(high, 4));
    const uint8x16_t s1 = nano_join_6(nano_low_nibbles(b), vshlq_n_u8(high, 2));
    const uint8x16_t s2 = nano_join_6(vshrq_n_u8(a, 4), high);
    const uint8x16_t s3 = nano_join_6(vshrq_n_u8(b, 4), vshrq_n_u8(high, 2));
    nano_spread_scales(nano_minus_32(s0), head->scale);
    nano_spread_scales(nano_minus_32(s1), head->scale + 4);
    nano_spread_scales(nano_minus_32(s2), head->scale + 8);
    nano_spread_scales(nano_minus_32(s3), head->scale + 12);
}

/* Q4_K and Q5_K. */
NANO_INLINE void nano_q4_k_scales(const uint8_t *const w[4], nano_k_head *head) {
    const size_t at = offsetof(nano_block_q4_k, scale);
    const uint8x16_t a = nano_gather_words(w, at), b = nano_gather_words(w, at + 4);
    const uint8x16_t low = nano_gather_words(w, at + 8);
    nano_spread_scales(vandq_u8(a, vdupq_n_u8(63)), head->scale);
    nano_spread_scales(nano_join_6(nano_low_nibbles(low), vshrq_n_u8(a, 2)), head->scale + 4);
    nano_spread_mins(vandq_u8(b, vdupq_n_u8(63)), head->min);
    nano_spread_mins(nano_join_6(vshrq_n_u8(low, 4), vshrq_n_u8(b, 2)), head->min + 4);
}

NANO_INLINE void nano_q6_k_scales(const uint8_t *const w[4], nano_k_head *head) {
    for (size_t i = 0; i < 16; i += 4) {
        nano_spread_scales(nano_gather_words(w, offsetof(nano_block_q6_k, scale) + i), head->scale + i);
    }
}

/* Four parts: their low bits in two bytes of nibbles, their high bits in one byte. Both are spread out to a byte each,
 * halving by halving. */
NANO_INLINE uint8x16_t nano_iq4_xs_four(uint32x4_t nibbles, uint32x4_t pairs) {
    const uint32x4_t bytes = vandq_u32(vorrq_u32(nibbles, vshlq_n_u32(nibbles, 8)), vdupq_n_u32(0x00ff00ff));
    const uint32x4_t low = vorrq_u32(bytes, vshlq_n_u32(bytes, 4));
    const uint32x4_t fours = vandq_u32(vorrq_u32(pairs, vshlq_n_u32(pairs, 12)), vdupq_n_u32(0x000f000f));
    const uint32x4_t high = vorrq_u32(vshlq_n_u32(fours, 4), vshlq_n_u32(fours, 10));
    return nano_minus_32(nano_join_6(nano_low_nibbles(vreinterpretq_u8_u32(low)), vreinterpretq_u8_u32(high)));
}

NANO_INLINE void nano_iq4_xs_scales(const uint8_t *const w[4], nano_k_head *head) {
    const uint32x4_t low = vreinterpretq_u32_u8(nano_gather_words(w, offsetof(nano_block_iq4_xs, scale)));
    const uint32x4_t high = vreinterpretq_u32_u8(nano_gather_words(w, offsetof(nano_block_iq4_xs, high)));
    const uint32x4_t byte = vdupq_n_u32(0xff);
    nano_spread_scales(nano_iq4_xs_four(vandq_u32(low, vdupq_n_u32(0xffff)), vandq_u32(high, byte)), head->scale);
    nano_spread_scales(nano_iq4_xs_four(vshrq_n_u32(low, 16), vandq_u32(vshrq_n_u32(high, 8), byte)), head->scale + 4);
}

NANO_INLINE void nano_k_read_head(nano_type type, const uint8_t *const w[4], nano_k_head *head) {
    const size_t d = nano_k_d_at(type);
    head->d = nano_gather_f16(w[0] + d, w[1] + d, w[2] + d, w[3] + d);
    if (nano_k_has_min(type)) { /* dmin follows d */
        head->dmin = nano_gather_f16(w[0] + d + 2, w[1] + d + 2, w[2] + d + 2, w[3] + d + 2);
    }
    switch (type) {
        case NANO_TYPE_Q2_K: nano_q2_k_scales(w, head); break;
        case NANO_TYPE_Q3_K: nano_q3_k_scales(w, head); break;
        case NANO_TYPE_Q6_K: nano_q6_k_scales(w, head); break;
        case NANO_TYPE_IQ4_XS: nano_iq4_xs_scales(w, head); break;
        default: nano_q4_k_scales(w, head); break;
    }
}

/* ------------------------------------------------------------------- codes */

/* x >> n, of bytes; n is constant: -4, -2 .. 6. (The intrinsics want it so without optimisation, too.) */
NANO_INLINE uint8x16_t nano_shift(uint8x16_t x, int n) {
    switch (n) {
        case -4: return vshlq_n_u8(x, 4);
        case -2: return vshlq_n_u8(x, 2);
        case 2: return vshrq_n_u8(x, 2);
        case 4: return vshrq_n_u8(x, 4);
        case 6: return vshrq_n_u8(x, 6);
        default: return x;
    }
}

NANO_INLINE uint8x16_t nano_nibbles(uint8x16_t x, int upper) { return upper ? vshrq_n_u8(x, 4) : nano_low_nibbles(x); }

/* Less 32: the six bits come to the top of the byte, the uppermost of them flipped, and go down again with the sign.
 * What is below them falls off. */
NANO_INLINE int8x16_t nano_q6_k_codes(uint8x16_t q, uint8x16_t high, int quarter) {
    const uint8x16_t pairs = veorq_u8(high, vdupq_n_u8(0xaa));
    const uint8x16_t top = quarter == 0   ? vsliq_n_u8(vshlq_n_u8(q, 2), pairs, 6)
                           : quarter == 1 ? vsriq_n_u8(vshlq_n_u8(pairs, 4), vshlq_n_u8(q, 4), 2)
                           : quarter == 2 ? vsriq_n_u8(vshlq_n_u8(pairs, 2), q, 2)
                                          : vsriq_n_u8(pairs, q, 2);
    return vshrq_n_s8(vreinterpretq_s8_u8(top), 2);
}

/* Elements i .. i + 15 (i: 0 or 16) of block 4 half + quarter of a super-block; quarter and i are constants. */
NANO_INLINE int8x16_t nano_k_decode(nano_type type, const uint8_t *w, int half, int quarter, int i) {
    const int bit = 4 * half + quarter;
    if (type == NANO_TYPE_IQ4_XS) {
        const uint8x16_t q = vld1q_u8(w + offsetof(nano_block_iq4_xs, q) + 16 * bit);
        return nano_iq4_values(nano_nibbles(q, i));
    }
    if (type == NANO_TYPE_Q2_K) {
        const uint8x16_t q = vld1q_u8(w + offsetof(nano_block_q2_k, q) + 32 * half + i);
        const uint8x16_t code = nano_shift(q, 2 * quarter);
        return vreinterpretq_s8_u8(quarter == 3 ? code : vandq_u8(code, vdupq_n_u8(3)));
    }
    if (type == NANO_TYPE_Q3_K) {
        /* The code is two bits, less 4 where the third is zero: upper bits of ones. */
        const uint8x16_t q = vld1q_u8(w + offsetof(nano_block_q3_k, q) + 32 * half + i);
        const uint8x16_t zeros = vmvnq_u8(vld1q_u8(w + offsetof(nano_block_q3_k, high) + i));
        const uint8x16_t ones = vtstq_u8(zeros, vdupq_n_u8((uint8_t)(1 << bit)));
        return vreinterpretq_s8_u8(vsliq_n_u8(nano_shift(q, 2 * quarter), ones, 2));
    }
    if (type == NANO_TYPE_Q6_K) {
        const uint8x16_t q = vld1q_u8(w + offsetof(nano_block_q6_k, q) + 64 * half + 32 * (quarter & 1) + i);
        const uint8x16_t high = vld1q_u8(w + offsetof(nano_block_q6_k, high) + 32 * half + i);
        return nano_q6_k_codes(q, high, quarter);
    }
    const size_t q_at = type == NANO_TYPE_Q4_K ? offsetof(nano_block_q4_k, q) : offsetof(nano_block_q5_k, q);
    const uint8x16_t low = nano_nibbles(vld1q_u8(w + q_at + 64 * half + 32 * (quarter >> 1) + i), quarter & 1);
    if (type == NANO_TYPE_Q4_K) {
        return vreinterpretq_s8_u8(low);
    }
    const uint8x16_t high = vld1q_u8(w + offsetof(nano_block_q5_k, high) + i);
    return vreinterpretq_s8_u8(vbslq_u8(vdupq_n_u8(0x10), vshlq_u8(high, vdupq_n_s8((int8_t)(4 - bit))), low));
}

NANO_INLINE nano_rows4 nano_k_decode_rows(nano_type type, const uint8_t *const w[4], int half, int quarter) {
    nano_rows4 out;
    out.lo[0] = nano_k_decode(type, w[0], half, quarter, 0);
    out.lo[1] = nano_k_decode(type, w[1], half, quarter, 0);
    out.lo[2] = nano_k_decode(type, w[2], half, quarter, 0);
    out.lo[3] = nano_k_decode(type, w[3], half, quarter, 0);
    out.hi[0] = nano_k_decode(type, w[0], half, quarter, 16);
    out.hi[1] = nano_k_decode(type, w[1], half, quarter, 16);
    out.hi[2] = nano_k_decode(type, w[2], half, quarter, 16);
    out.hi[3] = nano_k_decode(type, w[3], half, quarter, 16);
    return out;
}

#endif
