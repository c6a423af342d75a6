/*
 * The integer linears of both levels for super-blocks of 256 (Q2_K .. Q6_K, IQ4_XS), four rows at a time. The level's
 * dot_<level>.h comes before.
 *
 * Of each block the dot times the scales of its parts is an exact integer; it is added, in the order of the blocks, to
 * the super-block's sum with one fused multiply-add by the activations' d. What the minima take off is a sum of its
 * own. Only then come d and dmin: the same steps for any number of columns, so the same bits.
 *
 * One column decodes straight into its dots. For more, decoded super-blocks are laid down and used by all of them.
 */
#ifndef NANO_CPU_KERNELS_ARM_LINEAR_K_ARM_H
#define NANO_CPU_KERNELS_ARM_LINEAR_K_ARM_H

#include "cpu/kernels/arm/decode_k_arm.h"

enum { NANO_K_COLS = 32 };

/* -------------------------------------------------------------------- sums */

/* One column's super-block of A8. */
typedef struct nano_k_column {
    const uint8_t *q, *d, *sum;
} nano_k_column;

NANO_INLINE nano_k_column nano_k_column_at(const nano_linear_args *a, int64_t col, int64_t super) {
    const uint8_t *x = (const uint8_t *)a->x + (size_t)col * a->x_stride;
    const nano_k_column c = {x + super * NANO_SUPER, x + a->n + super * NANO_K_BLOCKS * 4,
                             x + a->n + a->n / NANO_A8_BLOCK * 4 + super * NANO_K_BLOCKS * 4};
    return c;
}

/* Adds block b: q and d point at the block's. */
NANO_INLINE float32x4_t nano_k_block_add(nano_type type, const nano_rows4 *w, const nano_k_head *head, int b,
                                         const uint8_t *q, const uint8_t *d, int n_cols, float32x4_t sum) {
    const int8x16_t lo = vreinterpretq_s8_u8(vld1q_u8(q));
    const int8x16_t hi = vreinterpretq_s8_u8(vld1q_u8(q + 16));
    int32x4_t dot;
    if (nano_k_in_16(type)) {
        dot = nano_dot_halves(w, lo, hi, head->scale[2 * b], head->scale[2 * b + 1], n_cols);
    } else {
        dot = vmulq_s32(nano_dot(type, w, lo, hi, vdupq_n_s32(0), n_cols), head->scale[b]);
    }
    return vfmaq_f32(sum, vcvtq_f32_s32(dot), vdupq_n_f32(nano_load_f32(d)));
}

NANO_INLINE float32x4_t nano_k_mins_4(const float32x4_t min[4], float32x4_t x, float32x4_t sum) {
    sum = vfmaq_laneq_f32(sum, min[0], x, 0);
    sum = vfmaq_laneq_f32(sum, min[1], x, 1);
    sum = vfmaq_laneq_f32(sum, min[2], x, 2);
    return vfmaq_laneq_f32(sum, min[3], x, 3);
}

/* The sum over the parts of min * (sum of the activations). */
NANO_INLINE float32x4_t nano_k_mins(nano_type type, const nano_k_head *head, nano_k_column x) {
    const float32x4_t d0 = nano_load4(x.d), d1 = nano_load4(x.d + 16);
    const int16x8_t s0 = vreinterpretq_s16_u8(vld1q_u8(x.sum)), s1 = vreinterpretq_s16_u8(vld1q_u8(x.sum + 16));
    const float32x4_t zero = vdupq_n_f32(0.0f);
    if (!nano_k_in_16(type)) {
        const float32x4_t m0 = nano_k_mins_4(head->min, vmulq_f32(vcvtq_f32_s32(vpaddlq_s16(s0)), d0), zero);
        const float32x4_t m1 = nano_k_mins_4(head->min + 4, vmulq_f32(vcvtq_f32_s32(vpaddlq_s16(s1)), d1), zero);
        return vaddq_f32(m0, m1);
    }
    const float32x4_t x0 = vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(s0))), vzip1q_f32(d0, d0));
    const float32x4_t x1 = vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(s0)), vzip2q_f32(d0, d0));
    const float32x4_t x2 = vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(s1))), vzip1q_f32(d1, d1));
    const float32x4_t x3 = vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(s1)), vzip2q_f32(d1, d1));
    const float32x4_t m0 = nano_k_mins_4(head->min + 4, x1, nano_k_mins_4(head->min, x0, zero));
    const float32x4_t m1 = nano_k_mins_4(head->min + 12, x3, nano_k_mins_4(head->min + 8, x2, zero));
    return vaddq_f32(m0, m1);
}

/* acc + d * sum - dmin * minima */
NANO_INLINE float32x4_t nano_k_finish(nano_type type, const nano_k_head *head, nano_k_column x, float32x4_t sum,
                                      float32x4_t acc) {
    acc = vfmaq_f32(acc, head->d, sum);
    return nano_k_has_min(type) ? vfmsq_f32(acc, head->dmin, nano_k_mins(type, head, x)) : acc;
}

/* --------------------------------------------------------------- one column */

NANO_INLINE float32x4_t nano_k_direct_add(nano_type type, const uint8_t *const w[4], const nano_k_head *head, int half,
                                          int quarter, nano_k_column x, float32x4_t sum) {
    const int b = 4 * half + quarter;
    const nano_rows4 rows = nano_prepare(nano_k_decode_rows(type, w, half, quarter), 1);
    return nano_k_block_add(type, &rows, head, b, x.q + NANO_A8_BLOCK * b, x.d + 4 * b, 1, sum);
}

/* One column with the four rows at w. */
NANO_INLINE float32x4_t nano_k_direct(nano_type type, const nano_linear_args *a, const uint8_t *w[4]) {
    float32x4_t acc = vdupq_n_f32(0.0f);
    for (int64_t i = 0; i < a->n / NANO_SUPER; i++) {
        const nano_k_column x = nano_k_column_at(a, 0, i);
        nano_k_head head;
        nano_k_read_head(type, w, &head);
        float32x4_t sum = vdupq_n_f32(0.0f);
        sum = nano_k_direct_add(type, w, &head, 0, 0, x, sum);
        sum = nano_k_direct_add(type, w, &head, 0, 1, x, sum);
        sum = nano_k_direct_add(type, w, &head, 0, 2, x, sum);
        sum = nano_k_direct_add(type, w, &head, 0, 3, x, sum);
        sum = nano_k_direct_add(type, w, &head, 1, 0, x, sum);
        sum = nano_k_direct_add(type, w, &head, 1, 1, x, sum);
        sum = nano_k_direct_add(type, w, &head, 1, 2, x, sum);
        sum = nano_k_direct_add(type, w, &head, 1, 3, x, sum);
        acc = nano_k_finish(type, &head, x, sum, acc);
        w[0] += nano_k_bytes(type);
        w[1] += nano_k_bytes(type);
        w[2] += nano_k_bytes(type);
        w[3] += nano_k_bytes(type);
    }
    return acc;
}

/* ------------------------------------------------------------- more columns */

/* A decoded super-block of four rows. */
typedef struct nano_k_panel {
    nano_k_head head;
    nano_rows4 w[NANO_K_BLOCKS];
} nano_k_panel;

NANO_INLINE void nano_k_fill_panel(nano_type type, const uint8_t *const w[4], nano_k_panel *panel) {
    nano_k_read_head(type, w, &panel->head);
    for (int half = 0; half < 2; half++) {
        nano_rows4 *out = panel->w + 4 * half;
        out[0] = nano_prepare(nano_k_decode_rows(type, w, half, 0), NANO_TILE_COLS);
        out[1] = nano_prepare(nano_k_decode_rows(type, w, half, 1), NANO_TILE_COLS);
        out[2] = nano_prepare(nano_k_decode_rows(type, w, half, 2), NANO_TILE_COLS);
        out[3] = nano_prepare(nano_k_decode_rows(type, w, half, 3), NANO_TILE_COLS);
    }
}

/* Adds super-block `super` of columns col.. (cols <= n_cols, which is 8, 4 or 1) to acc. Columns beyond the last repeat
 * it and are dropped. */
NANO_INLINE void nano_k_tile(nano_type type, const nano_linear_args *a, const nano_k_panel *panel, int64_t super,
                             int64_t col, int64_t cols, int n_cols, float32x4_t *acc) {
    nano_k_column x[8];
    for (int c = 0; c < n_cols; c++) {
        x[c] = nano_k_column_at(a, col + (c < cols ? c : cols - 1), super);
    }
    float32x4_t s[8];
    s[0] = s[1] = s[2] = s[3] = s[4] = s[5] = s[6] = s[7] = vdupq_n_f32(0.0f);
    for (int b = 0; b < NANO_K_BLOCKS; b++) {
        const nano_rows4 w = panel->w[b];
        const int q = NANO_A8_BLOCK * b;
        const int d = 4 * b;
        s[0] = nano_k_block_add(type, &w, &panel->head, b, x[0].q + q, x[0].d + d, NANO_TILE_COLS, s[0]);
        if (n_cols > 1) {
            s[1] = nano_k_block_add(type, &w, &panel->head, b, x[1].q + q, x[1].d + d, NANO_TILE_COLS, s[1]);
            s[2] = nano_k_block_add(type, &w, &panel->head, b, x[2].q + q, x[2].d + d, NANO_TILE_COLS, s[2]);
            s[3] = nano_k_block_add(type, &w, &panel->head, b, x[3].q + q, x[3].d + d, NANO_TILE_COLS, s[3]);
        }
        if (n_cols > 4) {
            s[4] = nano_k_block_add(type, &w, &panel->head, b, x[4].q + q, x[4].d + d, NANO_TILE_COLS, s[4]);
            s[5] = nano_k_block_add(type, &w, &panel->head, b, x[5].q + q, x[5].d + d, NANO_TILE_COLS, s[5]);
            s[6] = nano_k_block_add(type, &w, &panel->head, b, x[6].q + q, x[6].d + d, NANO_TILE_COLS, s[6]);
            s[7] = nano_k_block_add(type, &w, &panel->head, b, x[7].q + q, x[7].d + d, NANO_TILE_COLS, s[7]);
        }
    }
    for (int c = 0; c < cols && c < n_cols; c++) {
        acc[c] = nano_k_finish(type, &panel->head, x[c], s[c], acc[c]);
    }
}

/* Columns col.. (cols <= NANO_K_COLS) with the four rows at w. */
NANO_INLINE void nano_k_columns(nano_type type, const nano_linear_args *a, const uint8_t *w[4], int64_t col,
                                int64_t cols, float32x4_t *acc) {
    nano_k_panel panel;
    for (int64_t i = 0; i < a->n / NANO_SUPER; i++) {
        nano_k_fill_panel(type, w, &panel);
        int64_t c = 0;
        for (; NANO_TILE_COLS == 8 && cols - c > 4; c += 8) {
            nano_k_tile(type, a, &panel, i, col + c, cols - c, 8, acc + c);
        }
        for (; cols - c > 1; c += 4) {
            nano_k_tile(type, a, &panel, i, col + c, cols - c, 4, acc + c);
        }
        if (c < cols) {
            nano_k_tile(type, a, &panel, i, col + c, 1, 1, acc + c);
        }
        w[0] += nano_k_bytes(type);
        w[1] += nano_k_bytes(type);
        w[2] += nano_k_bytes(type);
        w[3] += nano_k_bytes(type);
    }
}

NANO_INLINE void nano_linear_k(nano_type type, const nano_linear_args *a) {
    float32x4_t acc[NANO_K_COLS];
    for (int64_t row = 0; row < a->n_rows; row += 4) {
        const int64_t rows = a->n_rows - row < 4 ? a->n_rows - row : 4; /* those beyond the last repeat it */
        for (int64_t col = 0; col < a->n_cols; col += NANO_K_COLS) {
            const int64_t cols = a->n_cols - col < NANO_K_COLS ? a->n_cols - col : NANO_K_COLS;
            const uint8_t *w[4];
            w[0] = (const uint8_t *)a->w + (size_t)row * a->w_stride;
            w[1] = w[0] + (rows > 1 ? a->w_stride : 0);
            w[2] = w[1] + (rows > 2 ? a->w_stride : 0);
            w[3] = w[2] + (rows > 3 ? a->w_stride : 0);
            for (int64_t c = 0; c < cols; c++) {
                acc[c] = vdupq_n_f32(0.0f);
            }
            if (a->n_cols == 1) {
                acc[0] = nano_k_direct(type, a, w);
            } else {
                nano_k_columns(type, a, w, col, cols, acc);
            }
            for (int64_t c = 0; c < cols; c++) {
                nano_store_part(a->y + (col + c) * a->y_stride + row, acc[c], rows);
            }
        }
    }
}

#endif
