/*
 * attention's value sum: 16 elements of 4 columns, or 32 or 16 of one, stay in registers while the rows go by. An
 * element is a chain of fused multiply-adds in the order of the rows, whatever the tile.
 */
#include "cpu/kernels/arm/common_arm.h"
#include "types/blocks.h"

/* 16 elements of one column. */
typedef struct nano_values16 {
    float32x4_t v0, v1, v2, v3;
} nano_values16;

NANO_INLINE float32x4_t nano_from_halves(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }

/* d times 16 signed bytes. */
NANO_INLINE nano_values16 nano_from_bytes(int8x16_t q, const uint8_t *d) {
    uint16_t half;
    memcpy(&half, d, sizeof half);
    const float32x4_t scale = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
    const int16x8_t lo = vmovl_s8(vget_low_s8(q)), hi = vmovl_s8(vget_high_s8(q));
    const nano_values16 x = {vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), scale),
                             vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))), scale),
                             vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), scale),
                             vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi))), scale)};
    return x;
}

/* Elements i .. i + 15 of a row; i is a multiple of 16, so that they are half a block. */
NANO_INLINE nano_values16 nano_values_of(nano_type type, const uint8_t *row, int64_t i) {
    if (type == NANO_TYPE_Q8_0) {
        const uint8_t *block = row + (size_t)(i / NANO_BLOCK) * sizeof(nano_block_q8_0);
        const uint8_t *q = block + offsetof(nano_block_q8_0, q) + i % NANO_BLOCK;
        return nano_from_bytes(vreinterpretq_s8_u8(vld1q_u8(q)), block);
    }
    if (type == NANO_TYPE_Q4_0) {
        const uint8_t *block = row + (size_t)(i / NANO_BLOCK) * sizeof(nano_block_q4_0);
        const uint8x16_t packed = vld1q_u8(block + offsetof(nano_block_q4_0, q));
        const uint8x16_t codes = i % NANO_BLOCK == 0 ? vandq_u8(packed, vdupq_n_u8(15)) : vshrq_n_u8(packed, 4);
        return nano_from_bytes(vsubq_s8(vreinterpretq_s8_u8(codes), vdupq_n_s8(8)), block);
    }
    if (type == NANO_TYPE_F16) {
        const uint8_t *p = row + 2 * i;
        const nano_values16 x = {nano_from_halves(p), nano_from_halves(p + 8), nano_from_halves(p + 16),
                                 nano_from_halves(p + 24)};
        return x;
    }
    const uint8_t *p = row + 4 * i;
    const nano_values16 x = {nano_load4(p), nano_load4(p + 16), nano_load4(p + 32), nano_load4(p + 48)};
    return x;
}

/* The k < 16 elements from i on, then anything: of blocks all 16, of numbers no more than k are read. */
NANO_INLINE nano_values16 nano_values_part(nano_type type, const uint8_t *row, int64_t i, int64_t k) {
    if (type == NANO_TYPE_Q8_0 || type == NANO_TYPE_Q4_0) {
        return nano_values_of(type, row, i);
    }
    const size_t bytes = type == NANO_TYPE_F16 ? 2 : 4;
    uint8_t part[64] = {0};
    memcpy(part, row + (size_t)i * bytes, (size_t)k * bytes);
    return nano_values_of(type, part, 0);
}

NANO_INLINE nano_values16 nano_values_load(const float *p) {
    const nano_values16 s = {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
    return s;
}

NANO_INLINE void nano_values_store(float *p, nano_values16 s) {
    vst1q_f32(p, s.v0);
    vst1q_f32(p + 4, s.v1);
    vst1q_f32(p + 8, s.v2);
    vst1q_f32(p + 12, s.v3);
}

NANO_INLINE nano_values16 nano_values_add(nano_values16 s, nano_values16 v, float p) {
    const float32x4_t f = vdupq_n_f32(p);
    s.v0 = vfmaq_f32(s.v0, v.v0, f);
    s.v1 = vfmaq_f32(s.v1, v.v1, f);
    s.v2 = vfmaq_f32(s.v2, v.v2, f);
    s.v3 = vfmaq_f32(s.v3, v.v3, f);
    return s;
}

/* One column, elements i.. (32). */
NANO_INLINE void nano_weigh_tile1x32(nano_type type, const nano_weigh_args *a, int64_t col, int64_t i) {
    const uint8_t *v = a->v;
    const float *p = a->p + col * a->p_stride;
    float *out = a->out + col * a->out_stride + i;
    nano_values16 s0 = nano_values_load(out), s1 = nano_values_load(out + 16);
    for (int64_t r = 0; r < a->n_rows; r++, v += a->v_stride) {
        s0 = nano_values_add(s0, nano_values_of(type, v, i), p[r]);
        s1 = nano_values_add(s1, nano_values_of(type, v, i + 16), p[r]);
    }
    nano_values_store(out, s0);
    nano_values_store(out + 16, s1);
}

/* One column, k <= 16 elements. */
NANO_INLINE void nano_weigh_tile1x16(nano_type type, const nano_weigh_args *a, int64_t col, int64_t i, int64_t k) {
    const uint8_t *v = a->v;
    const float *p = a->p + col * a->p_stride;
    float *out = a->out + col * a->out_stride + i;
    float part[16] = {0};
    memcpy(part, out, (size_t)k * sizeof part[0]);
    nano_values16 s = nano_values_load(part);
    for (int64_t r = 0; r < a->n_rows; r++, v += a->v_stride) {
        s = nano_values_add(s, k < 16 ? nano_values_part(type, v, i, k) : nano_values_of(type, v, i), p[r]);
    }
    nano_values_store(part, s);
    memcpy(out, part, (size_t)k * sizeof part[0]);
}

/* Columns col.. (4), elements i.. (16). */
NANO_INLINE void nano_weigh_tile4x16(nano_type type, const nano_weigh_args *a, int64_t col, int64_t i) {
    const uint8_t *v = a->v;
    const float *p = a->p + col * a->p_stride;
    float *out = a->out + col * a->out_stride + i;
    nano_values16 s0 = nano_values_load(out);
    nano_values16 s1 = nano_values_load(out + a->out_stride);
    nano_values16 s2 = nano_values_load(out + 2 * a->out_stride);
    nano_values16 s3 = nano_values_load(out + 3 * a->out_stride);
    for (int64_t r = 0; r < a->n_rows; r++, v += a->v_stride) {
        const nano_values16 x = nano_values_of(type, v, i);
        s0 = nano_values_add(s0, x, p[r]);
        s1 = nano_values_add(s1, x, p[a->p_stride + r]);
        s2 = nano_values_add(s2, x, p[2 * a->p_stride + r]);
        s3 = nano_values_add(s3, x, p[3 * a->p_stride + r]);
    }
    nano_values_store(out, s0);
    nano_values_store(out + a->out_stride, s1);
    nano_values_store(out + 2 * a->out_stride, s2);
    nano_values_store(out + 3 * a->out_stride, s3);
}

NANO_INLINE void nano_weigh(nano_type type, const nano_weigh_args *a) {
    int64_t col = 0;
    for (; a->n_cols - col >= 4; col += 4) {
        int64_t i = 0;
        for (; a->n - i >= 16; i += 16) {
            nano_weigh_tile4x16(type, a, col, i);
        }
        for (int64_t c = col; i < a->n && c < col + 4; c++) {
            nano_weigh_tile1x16(type, a, c, i, a->n - i);
        }
    }
    for (; col < a->n_cols; col++) {
        int64_t i = 0;
        for (; a->n - i >= 32; i += 32) {
            nano_weigh_tile1x32(type, a, col, i);
        }
        for (; i < a->n; i += 16) {
            nano_weigh_tile1x16(type, a, col, i, a->n - i < 16 ? a->n - i : 16);
        }
    }
}

void nano_weigh_f32_neon(const nano_weigh_args *args) { nano_weigh(NANO_TYPE_F32, args); }
void nano_weigh_f16_neon(const nano_weigh_args *args) { nano_weigh(NANO_TYPE_F16, args); }
void nano_weigh_q8_0_neon(const nano_weigh_args *args) { nano_weigh(NANO_TYPE_Q8_0, args); }
void nano_weigh_q4_0_neon(const nano_weigh_args *args) { nano_weigh(NANO_TYPE_Q4_0, args); }
