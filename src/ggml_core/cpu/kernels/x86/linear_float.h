/*
 * linear over float weights: the tile loop that the levels share, over vec_<level>.h and V_COLUMNS, how many
 * columns fit the registers. Lane j of an output's one accumulator adds elements j, j + V_LANES, ..., in any tile.
 */
#include "cpu/kernels/levels.h"

enum { V_ROWS = 4, AHEAD = 2 * V_ROWS, ROW_BLOCK = 32, SHORT_COLUMNS = 8 };

V_INLINE vf load(const nano_type type, const void *p) {
    switch (type) {
        case NANO_TYPE_F16: return v_f16(p);
        case NANO_TYPE_BF16: return v_bf16(p);
        default: return v_f32(p);
    }
}

V_INLINE vf load_part(const nano_type type, const void *p, int n) {
    switch (type) {
        case NANO_TYPE_F16: return v_f16_part(p, n);
        case NANO_TYPE_BF16: return v_bf16_part(p, n);
        default: return v_f32_part(p, n);
    }
}

V_INLINE void store_4(float *y, __m128 sums, int n) {
    if (n == 4) {
        _mm_storeu_ps(y, sums);
        return;
    }
    float four[4];
    _mm_storeu_ps(four, sums);
    for (int i = 0; i < n; i++) {
        y[i] = four[i];
    }
}

/* V_ROWS rows (n_lanes of them real) by `tile` columns, the first of a call's or not. */
V_INLINE void multiply(const nano_type type, const nano_linear_args *a, const uint8_t *const *rows, const float *x,
                       float *y, int n_lanes, bool is_first, const int tile) {
    const int64_t bytes = type == NANO_TYPE_F32 ? 4 : 2;
    const int64_t x_stride = (int64_t)(a->x_stride / sizeof(float));
    vf acc[V_COLUMNS][V_ROWS];
    vf w[V_ROWS];
    for (int c = 0; c < tile; c++) {
        for (int r = 0; r < V_ROWS; r++) {
            acc[c][r] = v_zero();
        }
    }
    int64_t i = 0;
    const uint8_t *next = rows[0] + AHEAD * a->w_stride;
    for (; i + V_LANES <= a->n; i += V_LANES) {
        if (is_first) { /* several streams at once are more than the processor follows by itself */
            prefetch(next, V_ROWS * V_LANES * bytes);
            next += V_ROWS * V_LANES * bytes;
        }
        for (int r = 0; r < V_ROWS; r++) {
            w[r] = load(type, rows[r] + bytes * i);
        }
        for (int c = 0; c < tile; c++) {
            const vf x_i = v_f32(x + c * x_stride + i);
            for (int r = 0; r < V_ROWS; r++) {
                acc[c][r] = v_fma(w[r], x_i, acc[c][r]);
            }
        }
    }
    if (i < a->n) {
        const int rest = (int)(a->n - i);
        for (int r = 0; r < V_ROWS; r++) {
            w[r] = load_part(type, rows[r] + bytes * i, rest);
        }
        for (int c = 0; c < tile; c++) {
            const vf x_i = v_f32_part(x + c * x_stride + i, rest);
            for (int r = 0; r < V_ROWS; r++) {
                acc[c][r] = v_fma(w[r], x_i, acc[c][r]);
            }
        }
    }
    for (int c = 0; c < tile; c++) {
        store_4(y + c * a->y_stride, v_fold(v_fold_4(acc[c])), n_lanes);
    }
}

/* Rows of one vector or less, as a LoRA adapter's B has them, times many columns: V_LANES rows side by side, so that
 * nothing is added up across a vector. Element i of `sums` takes the place of lane i of an accumulator, and what `multiply`
 * folds is added in the same order, zeros where a row has no element: the same bits. */
V_INLINE void turn_rows(const nano_type type, const nano_linear_args *a, int64_t r0, int n_lanes, float *turned) {
    float row[V_LANES];
    for (int r = 0; r < n_lanes; r++) {
        v_store(row, load_part(type, (const uint8_t *)a->w + (size_t)(r0 + r) * a->w_stride, (int)a->n));
        for (int i = 0; i < a->n; i++) {
            turned[i * V_LANES + r] = row[i];
        }
    }
}

V_INLINE vf short_sum(const float *turned, const float *x, int n) {
    vf sums[V_LANES / 4];
    for (int i = 0; i < V_LANES; i += 4) {
        vf p[4];
        for (int k = 0; k < 4; k++) {
            p[k] = i + k < n ? v_fma(v_f32(turned + (i + k) * V_LANES), v_set(x[i + k]), v_zero()) : v_zero();
        }
        sums[i / 4] = i < n ? v_add(v_add(p[0], p[2]), v_add(p[1], p[3])) : v_zero();
    }
    return V_LANES == 16 ? v_add(v_add(sums[0], sums[2 % (V_LANES / 4)]), v_add(sums[1], sums[3 % (V_LANES / 4)]))
                         : v_add(sums[0], sums[1]);
}

V_INLINE void short_rows(const nano_type type, const nano_linear_args *a) {
    const int64_t x_stride = (int64_t)(a->x_stride / sizeof(float));
    float turned[V_LANES * V_LANES] = {0};
    for (int64_t r = 0; r < a->n_rows; r += V_LANES) {
        const int n_lanes = (int)(a->n_rows - r < V_LANES ? a->n_rows - r : V_LANES);
        turn_rows(type, a, r, n_lanes, turned);
        for (int64_t c = 0; c < a->n_cols; c++) {
            const float *x = (const float *)a->x + c * x_stride;
            float *y = a->y + c * a->y_stride + r;
            const vf sum = a->n == 8 ? short_sum(turned, x, 8) : short_sum(turned, x, (int)a->n);
            if (n_lanes == V_LANES) {
                v_store(y, sum);
            } else {
                v_store_part(y, sum, n_lanes);
            }
        }
    }
}

/* ROW_BLOCK rows stay in cache while the columns pass, so that x is read once a block. */
V_INLINE void linear_float(const nano_type type, const nano_linear_args *a) {
    if (a->n <= V_LANES && a->n_cols >= SHORT_COLUMNS) {
        short_rows(type, a);
        return;
    }
    for (int64_t from = 0; from < a->n_rows; from += ROW_BLOCK) {
        const int64_t to = from + ROW_BLOCK < a->n_rows ? from + ROW_BLOCK : a->n_rows;
        for (int64_t c = 0, step; c < a->n_cols; c += step) {
            const float *x = (const float *)a->x + (size_t)c * (a->x_stride / sizeof(float));
            step = c + V_COLUMNS <= a->n_cols ? V_COLUMNS : 1;
            for (int64_t r = from; r < to; r += V_ROWS) {
                const int n_lanes = (int)(to - r < V_ROWS ? to - r : V_ROWS);
                const uint8_t *rows[V_ROWS];
                for (int i = 0; i < V_ROWS; i++) { /* lanes without a row read the last one again */
                    const int64_t row = r + (i < n_lanes ? i : n_lanes - 1);
                    rows[i] = (const uint8_t *)a->w + (size_t)row * a->w_stride;
                }
                float *y = a->y + c * a->y_stride + r;
                if (step == 1) {
                    multiply(type, a, rows, x, y, n_lanes, c == 0, 1);
                } else {
                    multiply(type, a, rows, x, y, n_lanes, c == 0, V_COLUMNS);
                }
            }
        }
    }
}

void V_LEVEL(nano_linear_f32)(const nano_linear_args *a) { linear_float(NANO_TYPE_F32, a); }
void V_LEVEL(nano_linear_f16)(const nano_linear_args *a) { linear_float(NANO_TYPE_F16, a); }
void V_LEVEL(nano_linear_bf16)(const nano_linear_args *a) { linear_float(NANO_TYPE_BF16, a); }
