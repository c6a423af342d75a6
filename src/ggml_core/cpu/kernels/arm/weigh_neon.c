/*
 * attention's value sum: 16 elements of 4 columns, or 32 or 4 of one, stay in registers while the rows go by. An
 * element is a chain of fused multiply-adds in the order of the rows, whatever the tile.
 */
#include "cpu/kernels/arm/common_arm.h"

/* Elements 4 i .. 4 i + 3 of a row of floats or halves. */
NANO_INLINE float32x4_t nano_value4(int half, const uint8_t *v, int64_t i) {
    return half ? vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(v + 8 * i))) : nano_load4(v + 16 * i);
}

NANO_INLINE const uint8_t *nano_value_at(int half, const nano_weigh_args *a, int64_t i) {
    return (const uint8_t *)a->v + i * (half ? 2 : 4);
}

/* One column, elements i.. (32). */
NANO_INLINE void nano_weigh_tile1x32(int half, const nano_weigh_args *a, int64_t col, int64_t i) {
    const uint8_t *v = nano_value_at(half, a, i);
    const float *p = a->p + col * a->p_stride;
    float *out = a->out + col * a->out_stride + i;
    float32x4_t s0 = vld1q_f32(out), s1 = vld1q_f32(out + 4), s2 = vld1q_f32(out + 8), s3 = vld1q_f32(out + 12);
    float32x4_t s4 = vld1q_f32(out + 16), s5 = vld1q_f32(out + 20), s6 = vld1q_f32(out + 24);
    float32x4_t s7 = vld1q_f32(out + 28);
    for (int64_t r = 0; r < a->n_rows; r++, v += a->v_stride) {
        const float32x4_t f = vdupq_n_f32(p[r]);
        s0 = vfmaq_f32(s0, nano_value4(half, v, 0), f);
        s1 = vfmaq_f32(s1, nano_value4(half, v, 1), f);
        s2 = vfmaq_f32(s2, nano_value4(half, v, 2), f);
        s3 = vfmaq_f32(s3, nano_value4(half, v, 3), f);
        s4 = vfmaq_f32(s4, nano_value4(half, v, 4), f);
        s5 = vfmaq_f32(s5, nano_value4(half, v, 5), f);
        s6 = vfmaq_f32(s6, nano_value4(half, v, 6), f);
        s7 = vfmaq_f32(s7, nano_value4(half, v, 7), f);
    }
    vst1q_f32(out, s0);
    vst1q_f32(out + 4, s1);
    vst1q_f32(out + 8, s2);
    vst1q_f32(out + 12, s3);
    vst1q_f32(out + 16, s4);
    vst1q_f32(out + 20, s5);
    vst1q_f32(out + 24, s6);
    vst1q_f32(out + 28, s7);
}

/* 16 elements of one column. */
typedef struct nano_values16 {
    float32x4_t v0, v1, v2, v3;
} nano_values16;

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

/* Columns col.. (4), elements i.. (16). */
NANO_INLINE void nano_weigh_tile4x16(int half, const nano_weigh_args *a, int64_t col, int64_t i) {
    const uint8_t *v = nano_value_at(half, a, i);
    const float *p = a->p + col * a->p_stride;
    float *out = a->out + col * a->out_stride + i;
    nano_values16 s0 = nano_values_load(out);
    nano_values16 s1 = nano_values_load(out + a->out_stride);
    nano_values16 s2 = nano_values_load(out + 2 * a->out_stride);
    nano_values16 s3 = nano_values_load(out + 3 * a->out_stride);
    for (int64_t r = 0; r < a->n_rows; r++, v += a->v_stride) {
        const nano_values16 x = {nano_value4(half, v, 0), nano_value4(half, v, 1), nano_value4(half, v, 2),
                                 nano_value4(half, v, 3)};
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

/* One column, k <= 4 elements. */
NANO_INLINE void nano_weigh_tile1x4(int half, const nano_weigh_args *a, int64_t col, int64_t i, int64_t k) {
    const uint8_t *v = nano_value_at(half, a, i);
    const float *p = a->p + col * a->p_stride;
    float *out = a->out + col * a->out_stride + i;
    float32x4_t s = nano_load_part(out, k, 0.0f);
    uint8_t row[16] = {0};
    for (int64_t r = 0; r < a->n_rows; r++, v += a->v_stride) {
        memcpy(row, v, (size_t)k * (half ? 2 : 4));
        s = vfmaq_f32(s, nano_value4(half, row, 0), vdupq_n_f32(p[r]));
    }
    nano_store_part(out, s, k);
}

NANO_INLINE void nano_weigh(int half, const nano_weigh_args *a) {
    int64_t col = 0;
    for (; a->n_cols - col >= 4; col += 4) {
        int64_t i = 0;
        for (; a->n - i >= 16; i += 16) {
            nano_weigh_tile4x16(half, a, col, i);
        }
        for (; i < a->n; i += 4) {
            const int64_t k = a->n - i < 4 ? a->n - i : 4;
            for (int64_t c = col; c < col + 4; c++) {
                nano_weigh_tile1x4(half, a, c, i, k);
            }
        }
    }
    for (; col < a->n_cols; col++) {
        int64_t i = 0;
        for (; a->n - i >= 32; i += 32) {
            nano_weigh_tile1x32(half, a, col, i);
        }
        for (; i < a->n; i += 4) {
            nano_weigh_tile1x4(half, a, col, i, a->n - i < 4 ? a->n - i : 4);
        }
    }
}

void nano_weigh_f32_neon(const nano_weigh_args *args) { nano_weigh(0, args); }
void nano_weigh_f16_neon(const nano_weigh_args *args) { nano_weigh(1, args); }
