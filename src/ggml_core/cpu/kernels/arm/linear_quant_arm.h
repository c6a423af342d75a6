/*
 * The integer linears of both levels for blocks of 32: tiles of 4 rows by NANO_TILE_COLS (8 or 4), 4 or 1 columns, with
 * one vector of sums a column, a row a lane. The level's dot_<level>.h comes before.
 *
 * Block sums are exact integers and are added in the order of the blocks, one fused multiply-add each, so an output's
 * bits depend on neither the tile nor the level.
 */
#ifndef NANO_CPU_KERNELS_ARM_LINEAR_QUANT_ARM_H
#define NANO_CPU_KERNELS_ARM_LINEAR_QUANT_ARM_H

#include "cpu/kernels/arm/decode_quant_arm.h"

typedef struct nano_block4 {
    nano_rows4 w;
    float32x4_t d; /* scales, a row a lane */
    float32x4_t m; /* minima; unused without */
} nano_block4;

/* Adds one block of one column: x_q, x_d, x_sum point at the block's parts. */
NANO_INLINE float32x4_t nano_block_add(nano_type type, const nano_block4 *b, const uint8_t *x_q, const uint8_t *x_d,
                                       const uint8_t *x_sum, int n_cols, float32x4_t acc) {
    const int8x16_t x_lo = vreinterpretq_s8_u8(vld1q_u8(x_q));
    const int8x16_t x_hi = vreinterpretq_s8_u8(vld1q_u8(x_q + 16));
    float d;
    memcpy(&d, x_d, sizeof d);
    int16_t halves[2];
    memcpy(halves, x_sum, sizeof halves);
    const int32_t sum = nano_a8_block_sum(halves);
    const int32x4_t start = vdupq_n_s32(-nano_quant_offset(type) * sum);
    const int32x4_t dot = nano_dot(type, &b->w, x_lo, x_hi, start, n_cols);
    acc = vfmaq_f32(acc, vcvtq_f32_s32(dot), vmulq_n_f32(b->d, d));
    if (nano_quant_has_min(type)) {
        acc = vfmaq_f32(acc, b->m, vdupq_n_f32(d * (float)sum));
    }
    return acc;
}

/* A tile on its way: its rows and columns, and a sum of every column. */
typedef struct nano_tile {
    const uint8_t *w[4];
    const uint8_t *x[8];
    float32x4_t sum[8];
} nano_tile;

/* Adds block i of rows of n elements; the rows move on. */
NANO_INLINE void nano_tile_add(nano_type type, nano_tile *t, int64_t i, int64_t n, int n_cols) {
    const uint8_t *w0 = t->w[0], *w1 = t->w[1], *w2 = t->w[2], *w3 = t->w[3];
    nano_block4 b;
    nano_decode(type, w0, &b.w.lo[0], &b.w.hi[0]);
    nano_decode(type, w1, &b.w.lo[1], &b.w.hi[1]);
    nano_decode(type, w2, &b.w.lo[2], &b.w.hi[2]);
    nano_decode(type, w3, &b.w.lo[3], &b.w.hi[3]);
    b.w = nano_prepare(b.w, n_cols);
    b.d = nano_gather_f16(w0, w1, w2, w3); /* every layout begins with d, then m if it has one */
    b.m = nano_quant_has_min(type) ? nano_gather_f16(w0 + 2, w1 + 2, w2 + 2, w3 + 2) : b.d;
    t->w[0] += nano_quant_bytes(type);
    t->w[1] += nano_quant_bytes(type);
    t->w[2] += nano_quant_bytes(type);
    t->w[3] += nano_quant_bytes(type);
    const int64_t q = i * NANO_A8_BLOCK;
    const int64_t d = n + i * 4;
    const int64_t s = n + n / NANO_A8_BLOCK * 4 + i * 4;
    const uint8_t *const *x = t->x;
    t->sum[0] = nano_block_add(type, &b, x[0] + q, x[0] + d, x[0] + s, n_cols, t->sum[0]);
    if (n_cols > 1) {
        t->sum[1] = nano_block_add(type, &b, x[1] + q, x[1] + d, x[1] + s, n_cols, t->sum[1]);
        t->sum[2] = nano_block_add(type, &b, x[2] + q, x[2] + d, x[2] + s, n_cols, t->sum[2]);
        t->sum[3] = nano_block_add(type, &b, x[3] + q, x[3] + d, x[3] + s, n_cols, t->sum[3]);
    }
    if (n_cols > 4) {
        t->sum[4] = nano_block_add(type, &b, x[4] + q, x[4] + d, x[4] + s, n_cols, t->sum[4]);
        t->sum[5] = nano_block_add(type, &b, x[5] + q, x[5] + d, x[5] + s, n_cols, t->sum[5]);
        t->sum[6] = nano_block_add(type, &b, x[6] + q, x[6] + d, x[6] + s, n_cols, t->sum[6]);
        t->sum[7] = nano_block_add(type, &b, x[7] + q, x[7] + d, x[7] + s, n_cols, t->sum[7]);
    }
}

/* Rows row.. (4) by columns col.. (n_cols: 8, 4 or 1). Rows and columns beyond the last repeat it and are dropped. */
NANO_INLINE void nano_quant_tile(nano_type type, const nano_linear_args *a, int64_t row, int64_t col, int n_cols) {
    const int64_t rows = a->n_rows - row < 4 ? a->n_rows - row : 4;
    const int64_t cols = a->n_cols - col < n_cols ? a->n_cols - col : n_cols;
    nano_tile t;
    t.w[0] = (const uint8_t *)a->w + (size_t)row * a->w_stride;
    t.w[1] = t.w[0] + (rows > 1 ? a->w_stride : 0);
    t.w[2] = t.w[1] + (rows > 2 ? a->w_stride : 0);
    t.w[3] = t.w[2] + (rows > 3 ? a->w_stride : 0);
    t.x[0] = (const uint8_t *)a->x + (size_t)col * a->x_stride;
    t.x[1] = t.x[0] + (cols > 1 ? a->x_stride : 0);
    t.x[2] = t.x[1] + (cols > 2 ? a->x_stride : 0);
    t.x[3] = t.x[2] + (cols > 3 ? a->x_stride : 0);
    t.x[4] = t.x[3] + (cols > 4 ? a->x_stride : 0);
    t.x[5] = t.x[4] + (cols > 5 ? a->x_stride : 0);
    t.x[6] = t.x[5] + (cols > 6 ? a->x_stride : 0);
    t.x[7] = t.x[6] + (cols > 7 ? a->x_stride : 0);
    t.sum[0] = t.sum[1] = t.sum[2] = t.sum[3] = vdupq_n_f32(0.0f);
    t.sum[4] = t.sum[5] = t.sum[6] = t.sum[7] = t.sum[0];
    const int64_t n_blocks = a->n / NANO_A8_BLOCK;
    int64_t i = 0;
    for (; n_cols == 1 && n_blocks - i > 1; i += 2) { /* two in flight: one alone waits for its multiplies */
        nano_tile_add(type, &t, i, a->n, n_cols);
        nano_tile_add(type, &t, i + 1, a->n, n_cols);
    }
    for (; i < n_blocks; i++) {
        nano_tile_add(type, &t, i, a->n, n_cols);
    }
    for (int64_t c = 0; c < cols; c++) {
        nano_store_part(a->y + (col + c) * a->y_stride + row, t.sum[c], rows);
    }
}

NANO_INLINE void nano_linear_quant(nano_type type, const nano_linear_args *a) {
    for (int64_t row = 0; row < a->n_rows; row += 4) {
        int64_t col = 0;
        for (; NANO_TILE_COLS == 8 && a->n_cols - col > 4; col += 8) {
            nano_quant_tile(type, a, row, col, 8);
        }
        for (; a->n_cols - col > 1; col += 4) {
            nano_quant_tile(type, a, row, col, 4);
        }
        if (col < a->n_cols) {
            nano_quant_tile(type, a, row, col, 1);
        }
    }
}

#endif
