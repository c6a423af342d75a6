/*
 * Linears whose weights are floats (F32, F16, BF16): tiles of 4 rows by 4 columns, and 8 rows by 1 column, which is
 * as many independent sums as the multiply-add's latency asks for.
 *
 * Each output has one vector of partial sums, elements i % 4 in lane i % 4, and ends as (l0 + l1) + (l2 + l3): the
 * same for every tile.
 */
#include "cpu/kernels/arm/common_arm.h"

NANO_INLINE int64_t nano_float_bytes(nano_type type) { return type == NANO_TYPE_F32 ? 4 : 2; }

/* Four weights as floats. */
NANO_INLINE float32x4_t nano_load_weights(nano_type type, const uint8_t *p) {
    if (type == NANO_TYPE_F32) {
        return nano_load4(p);
    }
    const uint8x8_t h = vld1_u8(p);
    if (type == NANO_TYPE_F16) {
        return vcvt_f32_f16(vreinterpret_f16_u8(h));
    }
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(h), 16));
}

/* The last k < 4 weights, then zeros. */
NANO_INLINE float32x4_t nano_load_weights_part(nano_type type, const uint8_t *p, int64_t k) {
    uint8_t v[16] = {0};
    memcpy(v, p, (size_t)k * (size_t)nano_float_bytes(type));
    return nano_load_weights(type, v);
}

/* Lane r is the sum of a_r's lanes. */
NANO_INLINE float32x4_t nano_sum4(float32x4_t a0, float32x4_t a1, float32x4_t a2, float32x4_t a3) {
    return vpaddq_f32(vpaddq_f32(a0, a1), vpaddq_f32(a2, a3));
}

/* Partial sums of one row with four columns. */
typedef struct nano_row_sums {
    float32x4_t c0, c1, c2, c3;
} nano_row_sums;

NANO_INLINE nano_row_sums nano_row_add(nano_row_sums s, float32x4_t w, float32x4_t x0, float32x4_t x1, float32x4_t x2,
                                       float32x4_t x3) {
    s.c0 = vfmaq_f32(s.c0, w, x0);
    s.c1 = vfmaq_f32(s.c1, w, x1);
    s.c2 = vfmaq_f32(s.c2, w, x2);
    s.c3 = vfmaq_f32(s.c3, w, x3);
    return s;
}

/* Rows row.. (4) by columns col.. (4). Rows and columns beyond the last repeat it and are dropped. */
NANO_INLINE void nano_float_tile4x4(nano_type type, const nano_linear_args *a, int64_t row, int64_t col) {
    const int64_t rows = a->n_rows - row < 4 ? a->n_rows - row : 4;
    const int64_t cols = a->n_cols - col < 4 ? a->n_cols - col : 4;
    const uint8_t *w0 = (const uint8_t *)a->w + (size_t)row * a->w_stride;
    const uint8_t *w1 = w0 + (rows > 1 ? a->w_stride : 0);
    const uint8_t *w2 = w1 + (rows > 2 ? a->w_stride : 0);
    const uint8_t *w3 = w2 + (rows > 3 ? a->w_stride : 0);
    const uint8_t *x0 = (const uint8_t *)a->x + (size_t)col * a->x_stride;
    const uint8_t *x1 = x0 + (cols > 1 ? a->x_stride : 0);
    const uint8_t *x2 = x1 + (cols > 2 ? a->x_stride : 0);
    const uint8_t *x3 = x2 + (cols > 3 ? a->x_stride : 0);
    const float32x4_t zero = vdupq_n_f32(0.0f);
    nano_row_sums s0 = {zero, zero, zero, zero};
    nano_row_sums s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; a->n - i >= 4; i += 4) {
        const float32x4_t v0 = nano_load4(x0 + i * 4);
        const float32x4_t v1 = nano_load4(x1 + i * 4);
        const float32x4_t v2 = nano_load4(x2 + i * 4);
        const float32x4_t v3 = nano_load4(x3 + i * 4);
        const int64_t at = i * nano_float_bytes(type);
        s0 = nano_row_add(s0, nano_load_weights(type, w0 + at), v0, v1, v2, v3);
        s1 = nano_row_add(s1, nano_load_weights(type, w1 + at), v0, v1, v2, v3);
        s2 = nano_row_add(s2, nano_load_weights(type, w2 + at), v0, v1, v2, v3);
        s3 = nano_row_add(s3, nano_load_weights(type, w3 + at), v0, v1, v2, v3);
    }
    if (i < a->n) {
        const int64_t k = a->n - i;
        const float32x4_t v0 = nano_load_part(x0 + i * 4, k, 0.0f);
        const float32x4_t v1 = nano_load_part(x1 + i * 4, k, 0.0f);
        const float32x4_t v2 = nano_load_part(x2 + i * 4, k, 0.0f);
        const float32x4_t v3 = nano_load_part(x3 + i * 4, k, 0.0f);
        const int64_t at = i * nano_float_bytes(type);
        s0 = nano_row_add(s0, nano_load_weights_part(type, w0 + at, k), v0, v1, v2, v3);
        s1 = nano_row_add(s1, nano_load_weights_part(type, w1 + at, k), v0, v1, v2, v3);
        s2 = nano_row_add(s2, nano_load_weights_part(type, w2 + at, k), v0, v1, v2, v3);
        s3 = nano_row_add(s3, nano_load_weights_part(type, w3 + at, k), v0, v1, v2, v3);
    }
    const float32x4_t sums[4] = {nano_sum4(s0.c0, s1.c0, s2.c0, s3.c0), nano_sum4(s0.c1, s1.c1, s2.c1, s3.c1),
                                 nano_sum4(s0.c2, s1.c2, s2.c2, s3.c2), nano_sum4(s0.c3, s1.c3, s2.c3, s3.c3)};
    for (int64_t c = 0; c < cols; c++) {
        nano_store_part(a->y + (col + c) * a->y_stride + row, sums[c], rows);
    }
}

/* Rows row.. (8) by one column. Rows beyond the last repeat it and are dropped. */
NANO_INLINE void nano_float_tile8x1(nano_type type, const nano_linear_args *a, int64_t row, int64_t col) {
    const int64_t rows = a->n_rows - row < 8 ? a->n_rows - row : 8;
    const uint8_t *w[8];
    w[0] = (const uint8_t *)a->w + (size_t)row * a->w_stride;
    w[1] = w[0] + (rows > 1 ? a->w_stride : 0);
    w[2] = w[1] + (rows > 2 ? a->w_stride : 0);
    w[3] = w[2] + (rows > 3 ? a->w_stride : 0);
    w[4] = w[3] + (rows > 4 ? a->w_stride : 0);
    w[5] = w[4] + (rows > 5 ? a->w_stride : 0);
    w[6] = w[5] + (rows > 6 ? a->w_stride : 0);
    w[7] = w[6] + (rows > 7 ? a->w_stride : 0);
    const uint8_t *x = (const uint8_t *)a->x + (size_t)col * a->x_stride;
    float32x4_t s0, s1, s2, s3, s4, s5, s6, s7;
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = vdupq_n_f32(0.0f);
    int64_t i = 0;
    for (; a->n - i >= 4; i += 4) {
        const float32x4_t v = nano_load4(x + i * 4);
        const int64_t at = i * nano_float_bytes(type);
        s0 = vfmaq_f32(s0, nano_load_weights(type, w[0] + at), v);
        s1 = vfmaq_f32(s1, nano_load_weights(type, w[1] + at), v);
        s2 = vfmaq_f32(s2, nano_load_weights(type, w[2] + at), v);
        s3 = vfmaq_f32(s3, nano_load_weights(type, w[3] + at), v);
        s4 = vfmaq_f32(s4, nano_load_weights(type, w[4] + at), v);
        s5 = vfmaq_f32(s5, nano_load_weights(type, w[5] + at), v);
        s6 = vfmaq_f32(s6, nano_load_weights(type, w[6] + at), v);
        s7 = vfmaq_f32(s7, nano_load_weights(type, w[7] + at), v);
    }
    if (i < a->n) {
        const int64_t k = a->n - i;
        const float32x4_t v = nano_load_part(x + i * 4, k, 0.0f);
        const int64_t at = i * nano_float_bytes(type);
        s0 = vfmaq_f32(s0, nano_load_weights_part(type, w[0] + at, k), v);
        s1 = vfmaq_f32(s1, nano_load_weights_part(type, w[1] + at, k), v);
        s2 = vfmaq_f32(s2, nano_load_weights_part(type, w[2] + at, k), v);
        s3 = vfmaq_f32(s3, nano_load_weights_part(type, w[3] + at, k), v);
        s4 = vfmaq_f32(s4, nano_load_weights_part(type, w[4] + at, k), v);
        s5 = vfmaq_f32(s5, nano_load_weights_part(type, w[5] + at, k), v);
        s6 = vfmaq_f32(s6, nano_load_weights_part(type, w[6] + at, k), v);
        s7 = vfmaq_f32(s7, nano_load_weights_part(type, w[7] + at, k), v);
    }
    float *y = a->y + col * a->y_stride + row;
    nano_store_part(y, nano_sum4(s0, s1, s2, s3), rows);
    if (rows > 4) {
        nano_store_part(y + 4, nano_sum4(s4, s5, s6, s7), rows - 4);
    }
}

NANO_INLINE void nano_linear_float(nano_type type, const nano_linear_args *a) {
    const int64_t tiled = a->n_cols - (a->n_cols % 4 == 1); /* two or three columns left still share the weights */
    for (int64_t row = 0; row < a->n_rows; row += 8) {
        for (int64_t half = row; half < a->n_rows && half < row + 8; half += 4) {
            for (int64_t col = 0; col < tiled; col += 4) {
                nano_float_tile4x4(type, a, half, col);
            }
        }
        if (tiled < a->n_cols) {
            nano_float_tile8x1(type, a, row, tiled);
        }
    }
}

void nano_linear_f32_neon(const nano_linear_args *args) { nano_linear_float(NANO_TYPE_F32, args); }
void nano_linear_f16_neon(const nano_linear_args *args) { nano_linear_float(NANO_TYPE_F16, args); }
void nano_linear_bf16_neon(const nano_linear_args *args) { nano_linear_float(NANO_TYPE_BF16, args); }
