/*
 * The integer linears for several columns with smmla (FEAT_I8MM): only for files of the i8mm level.
 *
 * smmla multiplies two rows of 8 signed bytes by two columns of 8 and adds to a 2x2 matrix in one register:
 * (row 0, column 0), (0, 1), (1, 0), (1, 1). Everything here comes in that shape: a pair of rows by a pair of columns.
 * 256 elements of 16 rows and of 8 columns at a time are laid down as pairs and multiplied in tiles of 2 pairs by 4.
 *
 * Block sums are exact integers and the floats are added in the very steps of linear_quant_arm.h and linear_k_arm.h, so
 * an output has the bits that the dotprod level gives it, which computes single columns.
 */
#ifndef NANO_CPU_KERNELS_ARM_LINEAR_I8MM_H
#define NANO_CPU_KERNELS_ARM_LINEAR_I8MM_H

#include "cpu/kernels/arm/decode_k_arm.h"
#include "cpu/kernels/arm/decode_quant_arm.h"

enum {
    NANO_MM_BLOCKS = NANO_K_BLOCKS, /* of 32 elements that are laid down at a time */
    NANO_MM_QUADS = 4,              /* of rows */
    NANO_MM_PAIRS = 4,              /* of columns */
    NANO_MM_GROUPS = 4              /* such groups of pairs use the rows laid down */
};

/* Four rows. [0] rows 0 and 1, [1] rows 2 and 3; in vectors of numbers each row's comes twice. */
typedef struct nano_mm_rows {
    int8x16_t q[NANO_MM_BLOCKS][2][4];      /* bytes 8 g .. 8 g + 7 of both rows of the block */
    float32x4_t d[NANO_MM_BLOCKS][2];       /* of each block; of super-blocks the first */
    float32x4_t m[NANO_MM_BLOCKS][2];       /* likewise the minima; of super-blocks dmin */
    int32x4_t scale[2 * NANO_MM_BLOCKS][2]; /* of super-blocks: of every part */
    float32x4_t min[2 * NANO_MM_BLOCKS][2];
} nano_mm_rows;

/* Two columns; vectors of numbers hold both columns' twice. */
typedef struct nano_mm_columns {
    int8x16_t q[NANO_MM_BLOCKS][4];
    float32x4_t d[NANO_MM_BLOCKS];
    int32x4_t start[NANO_MM_BLOCKS];     /* what the dot products of blocks of 32 start with */
    float32x4_t sum[2 * NANO_MM_BLOCKS]; /* d * (sum of the integers) of what has a minimum of its own */
} nano_mm_columns;

NANO_INLINE int nano_mm_is_k(nano_type type) {
    return nano_k_in_16(type) || type == NANO_TYPE_Q4_K || type == NANO_TYPE_Q5_K || type == NANO_TYPE_IQ4_XS;
}

/* ----------------------------------------------------------------- laying down */

NANO_INLINE void nano_mm_join(int8x16_t a, int8x16_t b, int8x16_t out[2]) {
    const int64x2_t x = vreinterpretq_s64_s8(a), y = vreinterpretq_s64_s8(b);
    out[0] = vreinterpretq_s8_s64(vzip1q_s64(x, y));
    out[1] = vreinterpretq_s8_s64(vzip2q_s64(x, y));
}

NANO_INLINE void nano_mm_twice(float32x4_t x, float32x4_t out[2]) {
    out[0] = vzip1q_f32(x, x);
    out[1] = vzip2q_f32(x, x);
}

NANO_INLINE void nano_mm_twice_s32(int32x4_t x, int32x4_t out[2]) {
    out[0] = vzip1q_s32(x, x);
    out[1] = vzip2q_s32(x, x);
}

NANO_INLINE void nano_mm_join_rows(const nano_rows4 *w, int8x16_t q[2][4]) {
    nano_mm_join(w->lo[0], w->lo[1], q[0]);
    nano_mm_join(w->hi[0], w->hi[1], q[0] + 2);
    nano_mm_join(w->lo[2], w->lo[3], q[1]);
    nano_mm_join(w->hi[2], w->hi[3], q[1] + 2);
}

/* Four rows of n_blocks blocks of 32. */
NANO_INLINE void nano_mm_fill_quant(nano_type type, const uint8_t *const w[4], int n_blocks, nano_mm_rows *out) {
    for (int b = 0; b < n_blocks; b++) {
        const size_t at = (size_t)b * nano_quant_bytes(type);
        nano_rows4 rows;
        nano_decode(type, w[0] + at, &rows.lo[0], &rows.hi[0]);
        nano_decode(type, w[1] + at, &rows.lo[1], &rows.hi[1]);
        nano_decode(type, w[2] + at, &rows.lo[2], &rows.hi[2]);
        nano_decode(type, w[3] + at, &rows.lo[3], &rows.hi[3]);
        nano_mm_join_rows(&rows, out->q[b]);
        nano_mm_twice(nano_gather_f16(w[0] + at, w[1] + at, w[2] + at, w[3] + at), out->d[b]);
        if (nano_quant_has_min(type)) {
            const size_t m = at + 2;
            nano_mm_twice(nano_gather_f16(w[0] + m, w[1] + m, w[2] + m, w[3] + m), out->m[b]);
        }
    }
}

/* Four super-blocks. */
NANO_INLINE void nano_mm_fill_k(nano_type type, const uint8_t *const w[4], nano_mm_rows *out) {
    nano_k_head head;
    nano_k_read_head(type, w, &head);
    nano_mm_twice(head.d, out->d[0]);
    const int n_parts = nano_k_in_16(type) ? 2 * NANO_K_BLOCKS : NANO_K_BLOCKS;
    for (int p = 0; p < n_parts; p++) {
        nano_mm_twice_s32(head.scale[p], out->scale[p]);
    }
    if (nano_k_has_min(type)) {
        nano_mm_twice(head.dmin, out->m[0]);
        for (int p = 0; p < n_parts; p++) {
            nano_mm_twice(head.min[p], out->min[p]);
        }
    }
    for (int half = 0; half < 2; half++) {
        int8x16_t(*q)[2][4] = out->q + 4 * half;
        nano_rows4 rows = nano_k_decode_rows(type, w, half, 0);
        nano_mm_join_rows(&rows, q[0]);
        rows = nano_k_decode_rows(type, w, half, 1);
        nano_mm_join_rows(&rows, q[1]);
        rows = nano_k_decode_rows(type, w, half, 2);
        nano_mm_join_rows(&rows, q[2]);
        rows = nano_k_decode_rows(type, w, half, 3);
        nano_mm_join_rows(&rows, q[3]);
    }
}

NANO_INLINE float32x4_t nano_mm_both(float a, float b) { return vzip1q_f32(vdupq_n_f32(a), vdupq_n_f32(b)); }

/* Blocks first .. of two columns (rows of A8) of n elements. */
NANO_INLINE void nano_mm_fill_columns(nano_type type, const uint8_t *x0, const uint8_t *x1, int64_t n, int64_t first,
                                      int n_blocks, nano_mm_columns *out) {
    const int64_t d_at = n + 4 * first, sum_at = n + n / NANO_A8_BLOCK * 4 + 4 * first;
    const int8_t *q0 = (const int8_t *)x0 + first * NANO_A8_BLOCK, *q1 = (const int8_t *)x1 + first * NANO_A8_BLOCK;
    for (int b = 0; b < n_blocks; b++) {
        nano_mm_join(vld1q_s8(q0 + 32 * b), vld1q_s8(q1 + 32 * b), out->q[b]);
        nano_mm_join(vld1q_s8(q0 + 32 * b + 16), vld1q_s8(q1 + 32 * b + 16), out->q[b] + 2);
        const float d0 = nano_load_f32(x0 + d_at + 4 * b), d1 = nano_load_f32(x1 + d_at + 4 * b);
        int16_t s0[2], s1[2]; /* of half blocks */
        memcpy(s0, x0 + sum_at + 4 * b, sizeof s0);
        memcpy(s1, x1 + sum_at + 4 * b, sizeof s1);
        out->d[b] = nano_mm_both(d0, d1);
        if (nano_k_in_16(type)) {
            out->sum[2 * b] = nano_mm_both(d0 * (float)s0[0], d1 * (float)s1[0]);
            out->sum[2 * b + 1] = nano_mm_both(d0 * (float)s0[1], d1 * (float)s1[1]);
        } else {
            const int32_t t0 = nano_a8_block_sum(s0), t1 = nano_a8_block_sum(s1), k = -nano_quant_offset(type);
            out->sum[b] = nano_mm_both(d0 * (float)t0, d1 * (float)t1);
            out->start[b] = vzip1q_s32(vdupq_n_s32(k * t0), vdupq_n_s32(k * t1));
        }
    }
}

/* ----------------------------------------------------------------- multiplying */

/* Of half a block. */
NANO_INLINE int32x4_t nano_mm_half(int32x4_t sum, const int8x16_t w[2], const int8x16_t x[2]) {
    return vmmlaq_s32(vmmlaq_s32(sum, w[0], x[0]), w[1], x[1]);
}

/* The exact integer of block b of rows `pair`. */
NANO_INLINE int32x4_t nano_mm_dot(nano_type type, const nano_mm_rows *w, const nano_mm_columns *x, int b, int pair) {
    const int8x16_t *wq = w->q[b][pair], *xq = x->q[b];
    const int32x4_t zero = vdupq_n_s32(0);
    if (nano_k_in_16(type)) {
        const int32x4_t lo = vmulq_s32(nano_mm_half(zero, wq, xq), w->scale[2 * b][pair]);
        return vmlaq_s32(lo, nano_mm_half(zero, wq + 2, xq + 2), w->scale[2 * b + 1][pair]);
    }
    const int32x4_t start = nano_quant_offset(type) != 0 ? x->start[b] : zero;
    const int32x4_t dot = nano_mm_half(nano_mm_half(start, wq, xq), wq + 2, xq + 2);
    return nano_mm_is_k(type) ? vmulq_s32(dot, w->scale[b][pair]) : dot;
}

NANO_INLINE float32x4_t nano_mm_block_add(nano_type type, const nano_mm_rows *w, const nano_mm_columns *x, int b,
                                          int pair, float32x4_t sum) {
    const float32x4_t dot = vcvtq_f32_s32(nano_mm_dot(type, w, x, b, pair));
    if (nano_mm_is_k(type)) {
        return vfmaq_f32(sum, dot, x->d[b]);
    }
    sum = vfmaq_f32(sum, dot, vmulq_f32(w->d[b][pair], x->d[b]));
    return nano_quant_has_min(type) ? vfmaq_f32(sum, w->m[b][pair], x->sum[b]) : sum;
}

/* acc + d * sum - dmin * minima */
NANO_INLINE float32x4_t nano_mm_finish_k(nano_type type, const nano_mm_rows *w, const nano_mm_columns *x, int pair,
                                         float32x4_t sum, float32x4_t acc) {
    acc = vfmaq_f32(acc, w->d[0][pair], sum);
    if (!nano_k_has_min(type)) {
        return acc;
    }
    const int half = nano_k_in_16(type) ? NANO_K_BLOCKS : NANO_K_BLOCKS / 2;
    float32x4_t m0 = vdupq_n_f32(0.0f), m1 = m0;
    for (int p = 0; p < half; p++) {
        m0 = vfmaq_f32(m0, w->min[p][pair], x->sum[p]);
        m1 = vfmaq_f32(m1, w->min[half + p][pair], x->sum[half + p]);
    }
    return vfmsq_f32(acc, w->m[0][pair], vaddq_f32(m0, m1));
}

/* Adds n_blocks blocks of four rows and 2 n_pairs columns (n_pairs: NANO_MM_PAIRS or 1) to acc[pair of columns]. */
NANO_INLINE void nano_mm_tile(nano_type type, const nano_mm_rows *w, const nano_mm_columns *x, int n_blocks,
                              int n_pairs, float32x4_t acc[][2]) {
    float32x4_t s[NANO_MM_PAIRS][2];
    for (int p = 0; p < n_pairs; p++) {
        s[p][0] = nano_mm_is_k(type) ? vdupq_n_f32(0.0f) : acc[p][0];
        s[p][1] = nano_mm_is_k(type) ? vdupq_n_f32(0.0f) : acc[p][1];
    }
    for (int b = 0; b < n_blocks; b++) {
        s[0][0] = nano_mm_block_add(type, w, &x[0], b, 0, s[0][0]);
        s[0][1] = nano_mm_block_add(type, w, &x[0], b, 1, s[0][1]);
        if (n_pairs > 1) {
            s[1][0] = nano_mm_block_add(type, w, &x[1], b, 0, s[1][0]);
            s[1][1] = nano_mm_block_add(type, w, &x[1], b, 1, s[1][1]);
            s[2][0] = nano_mm_block_add(type, w, &x[2], b, 0, s[2][0]);
            s[2][1] = nano_mm_block_add(type, w, &x[2], b, 1, s[2][1]);
            s[3][0] = nano_mm_block_add(type, w, &x[3], b, 0, s[3][0]);
            s[3][1] = nano_mm_block_add(type, w, &x[3], b, 1, s[3][1]);
        }
    }
    for (int p = 0; p < n_pairs; p++) {
        acc[p][0] = nano_mm_is_k(type) ? nano_mm_finish_k(type, w, &x[p], 0, s[p][0], acc[p][0]) : s[p][0];
        acc[p][1] = nano_mm_is_k(type) ? nano_mm_finish_k(type, w, &x[p], 1, s[p][1], acc[p][1]) : s[p][1];
    }
}

/* ------------------------------------------------------------------- the whole */

/* Sums of 16 rows by 32 columns. */
typedef float32x4_t nano_mm_sums[NANO_MM_QUADS][NANO_MM_GROUPS * NANO_MM_PAIRS][2];

/* Rows row.. and columns col.. of a call. What lies beyond the last repeats it and is dropped. */
typedef struct nano_mm_part {
    int64_t row, rows, col, cols;
} nano_mm_part;

NANO_INLINE void nano_mm_fill_rows(nano_type type, const nano_linear_args *a, const nano_mm_part *part, int64_t first,
                                   int n_blocks, nano_mm_rows w[NANO_MM_QUADS]) {
    const size_t block_bytes = nano_mm_is_k(type) ? nano_k_bytes(type) : nano_quant_bytes(type);
    const size_t at = (size_t)(nano_mm_is_k(type) ? first / NANO_K_BLOCKS : first) * block_bytes;
    for (int64_t r = 0; r < part->rows; r += 4) {
        const uint8_t *p[4];
        for (int64_t i = 0; i < 4; i++) {
            const int64_t row = part->row + (r + i < part->rows ? r + i : part->rows - 1);
            p[i] = (const uint8_t *)a->w + (size_t)row * a->w_stride + at;
        }
        if (nano_mm_is_k(type)) {
            nano_mm_fill_k(type, p, &w[r / 4]);
        } else {
            nano_mm_fill_quant(type, p, n_blocks, &w[r / 4]);
        }
    }
}

/* Lays down 2 n_pairs columns and multiplies all rows of the part by them. */
NANO_INLINE void nano_mm_group(nano_type type, const nano_linear_args *a, const nano_mm_part *part, int64_t pair,
                               int64_t first, int n_blocks, int n_pairs, const nano_mm_rows *w, nano_mm_sums acc) {
    nano_mm_columns x[NANO_MM_PAIRS];
    const uint8_t *base = (const uint8_t *)a->x + (size_t)part->col * a->x_stride;
    const int64_t last = part->cols - 1;
    for (int p = 0; p < n_pairs; p++) {
        const int64_t c = 2 * (pair + p);
        const uint8_t *x0 = base + (size_t)(c < last ? c : last) * a->x_stride;
        const uint8_t *x1 = c < last ? x0 + a->x_stride : x0;
        nano_mm_fill_columns(type, x0, x1, a->n, first, n_blocks, &x[p]);
    }
    for (int64_t r = 0; r < part->rows; r += 4) {
        nano_mm_tile(type, &w[r / 4], x, n_blocks, n_pairs, acc[r / 4] + pair);
    }
}

NANO_INLINE void nano_mm_store(const nano_linear_args *a, const nano_mm_part *part, nano_mm_sums acc) {
    for (int64_t c = 0; c < part->cols; c++) {
        float *y = a->y + (part->col + c) * a->y_stride + part->row;
        for (int64_t r = 0; r < part->rows; r += 4) {
            const float32x4_t *s = acc[r / 4][c / 2];
            nano_store_part(y + r, c % 2 == 0 ? vuzp1q_f32(s[0], s[1]) : vuzp2q_f32(s[0], s[1]), part->rows - r);
        }
    }
}

NANO_INLINE void nano_mm_multiply(nano_type type, const nano_linear_args *a, const nano_mm_part *part) {
    nano_mm_rows w[NANO_MM_QUADS];
    nano_mm_sums acc;
    memset(acc, 0, sizeof acc);
    const int64_t n_blocks = a->n / NANO_A8_BLOCK, n_pairs = (part->cols + 1) / 2;
    for (int64_t first = 0; first < n_blocks; first += NANO_MM_BLOCKS) {
        const int n = (int)(n_blocks - first < NANO_MM_BLOCKS ? n_blocks - first : NANO_MM_BLOCKS);
        nano_mm_fill_rows(type, a, part, first, n, w);
        int64_t pair = 0;
        for (; n_pairs - pair >= 3; pair += NANO_MM_PAIRS) {
            nano_mm_group(type, a, part, pair, first, n, NANO_MM_PAIRS, w, acc);
        }
        for (; pair < n_pairs; pair++) {
            nano_mm_group(type, a, part, pair, first, n, 1, w, acc);
        }
    }
    nano_mm_store(a, part, acc);
}

/* Several columns. */
NANO_INLINE void nano_linear_mm(nano_type type, const nano_linear_args *a) {
    enum { ROWS = 4 * NANO_MM_QUADS, COLS = 2 * NANO_MM_PAIRS * NANO_MM_GROUPS };
    for (int64_t row = 0; row < a->n_rows; row += ROWS) {
        for (int64_t col = 0; col < a->n_cols; col += COLS) {
            const nano_mm_part part = {row, a->n_rows - row < ROWS ? a->n_rows - row : ROWS, col,
                                       a->n_cols - col < COLS ? a->n_cols - col : COLS};
            nano_mm_multiply(type, a, &part);
        }
    }
}

#endif
