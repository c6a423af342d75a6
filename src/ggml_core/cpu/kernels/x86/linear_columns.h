/*
 * linear over quantised weights, V_ROWS rows side by side: what linear_quant.h and linear_k.h share. Each has defined
 *
 *   format        what is fixed for a type; among it bias, part (elements with a scale of their own: 16 or 32), has_min
 *   panel_block   32 elements of V_ROWS rows, unpacked
 *
 * and defines after it the three functions declared below. With many columns V_GROUPS * V_ROWS rows by a chunk of blocks
 * are unpacked into panels on the stack (which the second-level cache holds), and these meet every column; the partial
 * sums wait in y between chunks.
 */

/* A block of 32 of the columns of a tile. For each part, of x's q: start, -bias times the sum; sum, what the minimum is
 * multiplied with: the sum, times d where there is one part. */
typedef struct column_block {
    const int8_t *q[V_TILE];
    const float *d[V_TILE];
    const int32_t *start[V_TILE];
    const float *sum[V_TILE];
} column_block;

/* Blocks from .. from + n_blocks of the rows; from, n_blocks are whole blocks of the type. */
V_INLINE void unpack_panel(const format f, const uint8_t *const *rows, int64_t from, int64_t n_blocks,
                           panel_block *panel);
/* Adds 32 elements to the sums of the `n` columns from c on; n is V_CHAINS or 1. */
V_INLINE void add_block(const format f, const panel_block *w, const column_block *x, const int c, vf *acc, const int n);
/* V_ROWS rows (n_lanes of them real) by one column: weights are unpacked in registers as they stream by. */
V_INLINE void stream_rows(const format f, const nano_linear_args *a, const uint8_t *const *rows, float *y, int n_lanes);

/* d, start and sum of a chunk of a tile's columns, computed once with vectors for all rows. */
typedef struct tile_sums {
    float d[V_TILE][V_CHUNK];
    int32_t start[V_TILE][2 * V_CHUNK];
    float sum[V_TILE][2 * V_CHUNK];
} tile_sums;

/* Without the call or the slow start of a string instruction that memcpy of an unknown size becomes. */
V_INLINE void copy(const float *from, int64_t n, float *to) {
    for (int64_t i = 0; i < n; i += V_ROWS) {
        const int lanes = (int)(n - i < V_ROWS ? n - i : V_ROWS);
        v_store(to + i, lanes, v_load(from + i, lanes));
    }
}

V_INLINE void start_sums(const format f, const int16_t *half_sum, int64_t n_blocks, int32_t *start) {
    if (f.part == NANO_BLOCK) {
        for (int64_t b = 0; b < n_blocks; b++) {
            start[b] = -f.bias * nano_a8_block_sum(half_sum + 2 * b);
        }
    } else {
        for (int64_t k = 0; k < 2 * n_blocks; k++) {
            start[k] = -f.bias * half_sum[k];
        }
    }
}

V_INLINE void min_sums(const format f, const int16_t *half_sum, const float *d, int64_t n_blocks, float *sum) {
    if (f.part == NANO_BLOCK) {
        for (int64_t b = 0; b < n_blocks; b++) {
            sum[b] = d[b] * (float)nano_a8_block_sum(half_sum + 2 * b);
        }
    } else {
        for (int64_t k = 0; k < 2 * n_blocks; k++) {
            sum[k] = (float)half_sum[k];
        }
    }
}

/* Blocks of 32 from .. from + n_blocks of x's row c, what is prepared of it. */
V_INLINE void prepare_column(const format f, const nano_linear_args *a, const uint8_t *row, int64_t from,
                             int64_t n_blocks, int c, tile_sums *sums) {
    const int16_t *half_sum = nano_a8_sum(row, a->n) + 2 * from;
    const float *d = nano_a8_d(row, a->n) + from;
    copy(d, n_blocks, sums->d[c]);
    if (f.bias != 0) {
        start_sums(f, half_sum, n_blocks, sums->start[c]);
    }
    if (f.has_min) {
        min_sums(f, half_sum, d, n_blocks, sums->sum[c]);
    }
}

/* A panel by `tile` columns whose q at the panel's first block is at q, x_stride apart. */
V_INLINE void multiply_panel(const format f, const panel_block *panel, const int8_t *q, size_t x_stride,
                             const tile_sums *sums, int64_t n_blocks, vf *acc, const int tile) {
    const int parts = NANO_BLOCK / f.part;
    for (int64_t b = 0; b < n_blocks; b++) {
        column_block x;
        for (int c = 0; c < tile; c++) {
            x.q[c] = q + (size_t)c * x_stride + b * NANO_BLOCK;
            x.d[c] = sums->d[c] + b;
            x.start[c] = sums->start[c] + parts * b;
            x.sum[c] = sums->sum[c] + parts * b;
        }
        const int together = tile < V_CHAINS ? 1 : V_CHAINS;
        for (int c = 0; c < tile; c += together) {
            add_block(f, &panel[b], &x, c, acc + c, together);
        }
    }
}

/* Panels of n_rows rows by `tile` columns. */
V_INLINE void multiply_panels(const format f, const nano_linear_args *a, const panel_block *panels, const uint8_t *x,
                              int64_t from, int64_t n_blocks, float *y, int64_t n_rows, const int tile) {
    tile_sums sums;
    for (int c = 0; c < tile; c++) {
        prepare_column(f, a, x + (size_t)c * a->x_stride, from, n_blocks, c, &sums);
    }
    for (int64_t r = 0; r < n_rows; r += V_ROWS, y += V_ROWS, panels += V_CHUNK) {
        const int n_lanes = (int)(n_rows - r < V_ROWS ? n_rows - r : V_ROWS);
        vf acc[V_TILE];
        for (int c = 0; c < tile; c++) {
            acc[c] = from == 0 ? v_set_f(0.0f) : v_load(y + c * a->y_stride, n_lanes);
        }
        multiply_panel(f, panels, nano_a8_q(x) + from * NANO_BLOCK, a->x_stride, &sums, n_blocks, acc, tile);
        for (int c = 0; c < tile; c++) {
            v_store(y + c * a->y_stride, n_lanes, acc[c]);
        }
    }
}

/* Row r, r + 1 ... of V_ROWS; lanes without a row read the last one again. */
V_INLINE void find_rows(const nano_linear_args *a, int64_t r, const uint8_t **rows) {
    for (int i = 0; i < V_ROWS; i++) {
        const int64_t row = r + i < a->n_rows ? r + i : a->n_rows - 1;
        rows[i] = (const uint8_t *)a->w + (size_t)row * a->w_stride;
    }
}

/* V_GROUPS * V_ROWS rows or fewer, from r on, by all columns. */
V_INLINE void multiply_rows(const format f, const nano_linear_args *a, int64_t r, int64_t n_rows) {
    panel_block panels[V_GROUPS][V_CHUNK];
    const int64_t n_blocks = a->n / NANO_BLOCK;
    const uint8_t *rows[V_ROWS];
    for (int64_t from = 0; from < n_blocks; from += V_CHUNK) {
        const int64_t count = n_blocks - from < V_CHUNK ? n_blocks - from : V_CHUNK;
        for (int g = 0; g * V_ROWS < n_rows; g++) {
            find_rows(a, r + g * V_ROWS, rows);
            unpack_panel(f, rows, from, count, panels[g]);
        }
        int64_t c = 0;
        for (; c + V_TILE <= a->n_cols; c += V_TILE) {
            multiply_panels(f, a, panels[0], (const uint8_t *)a->x + (size_t)c * a->x_stride, from, count,
                            a->y + c * a->y_stride + r, n_rows, V_TILE);
        }
        for (; c < a->n_cols; c++) {
            multiply_panels(f, a, panels[0], (const uint8_t *)a->x + (size_t)c * a->x_stride, from, count,
                            a->y + c * a->y_stride + r, n_rows, 1);
        }
    }
}

/* All of a call. */
V_INLINE void linear(const format f, const nano_linear_args *a) {
    const int64_t step = a->n_cols == 1 ? V_ROWS : V_GROUPS * V_ROWS;
    for (int64_t r = 0; r < a->n_rows; r += step) {
        const int64_t n_rows = a->n_rows - r < step ? a->n_rows - r : step;
        if (a->n_cols == 1) {
            const uint8_t *rows[V_ROWS];
            find_rows(a, r, rows);
            stream_rows(f, a, rows, a->y + r, (int)n_rows);
        } else {
            multiply_rows(f, a, r, n_rows);
        }
    }
}
