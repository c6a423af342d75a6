/* Products of packed matrices and transposition: the loops that the levels share, over vec_<level>.h, V_ROWS (rows of a
 * tile, a part of a panel) and V_VECTORS (vectors of columns of a tile): as many sums as the registers hold. */
#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/vmath.h"

/* Where the elements k = 0 of a tile's column vector v are. */
V_INLINE const float *column_vector(const float *b, int64_t n_k, const int v) {
    return b + v * V_LANES / NANO_PANEL_COLUMNS * NANO_PANEL_COLUMNS * n_k + v * V_LANES % NANO_PANEL_COLUMNS;
}

/* `rows` by `vectors` sums, of which n_rows and n_cols are wanted. */
V_INLINE void multiply_tile(const nano_multiply_args *args, const float *a, const float *b, float *c, int64_t n_rows,
                            int64_t n_cols, const int rows, const int vectors) {
    vf sum[V_ROWS][V_VECTORS];
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = v_zero();
        }
    }
    for (int64_t k = 0; k < args->n_k; k++, a += NANO_PANEL_ROWS, b += NANO_PANEL_COLUMNS) {
        vf column[V_VECTORS];
        for (int v = 0; v < vectors; v++) {
            column[v] = v_f32(column_vector(b, args->n_k, v));
        }
        for (int r = 0; r < rows; r++) {
            const vf row = v_set(a[r]);
            for (int v = 0; v < vectors; v++) {
                sum[r][v] = v_fma(row, column[v], sum[r][v]);
            }
        }
    }
    for (int r = 0; r < rows && r < n_rows; r++, c += args->c_stride) {
        for (int v = 0; v < vectors; v++) {
            const int64_t left = n_cols - v * V_LANES;
            if (left > 0) {
                v_put(c + v * V_LANES, args->add ? v_add(v_get(c + v * V_LANES, left), sum[r][v]) : sum[r][v], left);
            }
        }
    }
}

V_INLINE void multiply_rows(const nano_multiply_args *args, const float *b, float *c, int64_t n_cols,
                            const int vectors) {
    for (int64_t i = 0; i < args->n_rows; i += V_ROWS, c += V_ROWS * args->c_stride) {
        const float *a = args->a + i / NANO_PANEL_ROWS * NANO_PANEL_ROWS * args->n_k + i % NANO_PANEL_ROWS;
        const int64_t left = args->n_rows - i;
        if (left > V_ROWS * 2 / 3) {
            multiply_tile(args, a, b, c, left, n_cols, V_ROWS, vectors);
        } else if (left > V_ROWS / 3) {
            multiply_tile(args, a, b, c, left, n_cols, V_ROWS * 2 / 3, vectors);
        } else {
            multiply_tile(args, a, b, c, left, n_cols, V_ROWS / 3, vectors);
        }
    }
}

/* The columns of a tile stay in the first-level cache while all rows pass. */
void V_LEVEL(nano_multiply_f32)(const nano_multiply_args *args) {
    enum { TILE = V_VECTORS * V_LANES };
    for (int64_t j = 0; j < args->n_cols; j += TILE) {
        const float *b = args->b + j * args->n_k;
        const int64_t left = args->n_cols - j;
        if (left > (V_VECTORS - 1) * V_LANES) {
            multiply_rows(args, b, args->c + j, left, V_VECTORS);
        } else {
            multiply_rows(args, b, args->c + j, left, V_VECTORS - 1);
        }
    }
}

/* Four rows and four columns. */
V_INLINE void transpose_4(const float *x, int64_t x_stride, float *y, int64_t y_stride) {
    __m128 r0 = _mm_loadu_ps(x), r1 = _mm_loadu_ps(x + x_stride);
    __m128 r2 = _mm_loadu_ps(x + 2 * x_stride), r3 = _mm_loadu_ps(x + 3 * x_stride);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(y, r0);
    _mm_storeu_ps(y + y_stride, r1);
    _mm_storeu_ps(y + 2 * y_stride, r2);
    _mm_storeu_ps(y + 3 * y_stride, r3);
}

void V_LEVEL(nano_transpose_f32)(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_cols, float *y,
                                 int64_t y_stride) {
    int64_t i = 0;
    for (; i + 4 <= n_rows; i += 4) {
        int64_t j = 0;
        for (; j + 4 <= n_cols; j += 4) {
            transpose_4(x + i * x_stride + j, x_stride, y + j * y_stride + i, y_stride);
        }
        for (; j < n_cols; j++) {
            for (int64_t r = i; r < i + 4; r++) {
                y[j * y_stride + r] = x[r * x_stride + j];
            }
        }
    }
    for (; i < n_rows; i++) {
        for (int64_t j = 0; j < n_cols; j++) {
            y[j * y_stride + i] = x[i * x_stride + j];
        }
    }
}
