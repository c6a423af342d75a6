/*
 * Products of packed matrices: tiles of 12 rows (4 where registers are few) by 8 columns, each column vector times one
 * lane of a vector of rows. And transposition, four rows by four columns at a time.
 */
#include "cpu/kernels/arm/common_arm.h"

#if defined(__aarch64__)
enum { NANO_TILE_ROWS = 12 };
#else
enum { NANO_TILE_ROWS = 4 };
#endif
enum { NANO_TILE_COLUMNS = 8 };

/* The sums of one row. */
typedef struct nano_sums8 {
    float32x4_t lo, hi;
} nano_sums8;

#define NANO_ADD_PRODUCT(sum, lane)                             \
    do {                                                        \
        (sum).lo = vfmaq_laneq_f32((sum).lo, lo, rows, (lane)); \
        (sum).hi = vfmaq_laneq_f32((sum).hi, hi, rows, (lane)); \
    } while (0)

/* `n` sums (a multiple of 4, at most NANO_TILE_ROWS), of which those of n_rows rows and n_cols columns are wanted. */
NANO_INLINE void nano_multiply_tile(const nano_multiply_args *args, const float *a, const float *b, float *c,
                                    int64_t n_rows, int64_t n_cols, const int n) {
    nano_sums8 sum[NANO_TILE_ROWS];
    for (int r = 0; r < n; r++) {
        sum[r].lo = sum[r].hi = vdupq_n_f32(0.0f);
    }
    for (int64_t k = 0; k < args->n_k; k++, a += NANO_PANEL_ROWS, b += NANO_PANEL_COLUMNS) {
        const float32x4_t lo = vld1q_f32(b), hi = vld1q_f32(b + 4);
        for (int r = 0; r < n; r += 4) {
            const float32x4_t rows = vld1q_f32(a + r);
            NANO_ADD_PRODUCT(sum[r], 0);
            NANO_ADD_PRODUCT(sum[r + 1], 1);
            NANO_ADD_PRODUCT(sum[r + 2], 2);
            NANO_ADD_PRODUCT(sum[r + 3], 3);
        }
    }
    const int64_t n_lo = n_cols < 4 ? n_cols : 4, n_hi = n_cols - n_lo < 4 ? n_cols - n_lo : 4;
    for (int r = 0; r < n && r < n_rows; r++, c += args->c_stride) {
        if (args->add) {
            sum[r].lo = vaddq_f32(n_lo == 4 ? vld1q_f32(c) : nano_load_part(c, n_lo, 0.0f), sum[r].lo);
            sum[r].hi = vaddq_f32(n_hi == 4 ? vld1q_f32(c + 4) : nano_load_part(c + n_lo, n_hi, 0.0f), sum[r].hi);
        }
        nano_store_part(c, sum[r].lo, n_lo);
        nano_store_part(c + n_lo, sum[r].hi, n_hi);
    }
}

/* The columns of a tile stay in the first-level cache while all rows pass. */
void nano_multiply_f32_neon(const nano_multiply_args *args) {
    for (int64_t j = 0; j < args->n_cols; j += NANO_TILE_COLUMNS) {
        const float *b = args->b + j / NANO_PANEL_COLUMNS * NANO_PANEL_COLUMNS * args->n_k + j % NANO_PANEL_COLUMNS;
        const int64_t n_cols = args->n_cols - j < NANO_TILE_COLUMNS ? args->n_cols - j : NANO_TILE_COLUMNS;
        for (int64_t i = 0; i < args->n_rows; i += NANO_TILE_ROWS) {
            const float *a = args->a + i / NANO_PANEL_ROWS * NANO_PANEL_ROWS * args->n_k + i % NANO_PANEL_ROWS;
            float *c = args->c + i * args->c_stride + j;
            const int64_t left = args->n_rows - i;
            if (NANO_TILE_ROWS > 8 && left > 8) {
                nano_multiply_tile(args, a, b, c, left, n_cols, NANO_TILE_ROWS);
            } else if (NANO_TILE_ROWS > 4 && left > 4) {
                nano_multiply_tile(args, a, b, c, left, n_cols, NANO_TILE_ROWS > 8 ? 8 : NANO_TILE_ROWS);
            } else {
                nano_multiply_tile(args, a, b, c, left, n_cols, 4);
            }
        }
    }
}

NANO_INLINE void nano_transpose4(const float *x, int64_t x_stride, float *y, int64_t y_stride) {
    const float32x4x2_t low = vtrnq_f32(vld1q_f32(x), vld1q_f32(x + x_stride));
    const float32x4x2_t high = vtrnq_f32(vld1q_f32(x + 2 * x_stride), vld1q_f32(x + 3 * x_stride));
    vst1q_f32(y, vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0])));
    vst1q_f32(y + y_stride, vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1])));
    vst1q_f32(y + 2 * y_stride, vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0])));
    vst1q_f32(y + 3 * y_stride, vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1])));
}

void nano_transpose_f32_neon(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_cols, float *y,
                             int64_t y_stride) {
    const int64_t whole_rows = n_rows - n_rows % 4, whole_cols = n_cols - n_cols % 4;
    for (int64_t i = 0; i < whole_rows; i += 4) {
        for (int64_t j = 0; j < whole_cols; j += 4) {
            nano_transpose4(x + i * x_stride + j, x_stride, y + j * y_stride + i, y_stride);
        }
    }
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t j = i < whole_rows ? whole_cols : 0; j < n_cols; j++) {
            y[j * y_stride + i] = x[i * x_stride + j];
        }
    }
}
