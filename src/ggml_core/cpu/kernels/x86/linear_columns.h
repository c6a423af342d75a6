/*
 * linear over quantised weights, V_ROWS rows side by side: what linear_quant.h and linear_k.h share. Each has defined
 *
 *   format        what is fixed for a type; among it bias, part (elements with a scale of their own: 16 or 32), has_min
 *   panel_block   32 elements of V_ROWS rows, unpacked
 *
 * and defines after it the functions declared below. With one column weights are unpacked in registers as they stream by.
 * With more, groups of V_ROWS rows by a chunk of blocks are unpacked into panels on the stack, and these meet every
 * column; the partial sums wait in y between chunks.
 */

enum { FEW_TILES = 16 / V_TILE };

/* A chunk of a tile of columns, computed once with vectors for all rows: block b of column c at c * V_CHUNK + b. For
 * each part, of x's q: start, -bias times the sum; sum, what the minimum is multiplied with: the sum, times d where there
 * is one part. */
typedef struct columns {
    const int8_t *q[V_TILE];
    float d[V_TILE * V_CHUNK];
    int32_t start[2 * V_TILE * V_CHUNK];
    float sum[2 * V_TILE * V_CHUNK];
} columns;

/* A block of the tile from one column on; what is not q lies V_CHUNK blocks further on for the next. */
typedef struct column_block {
    const int8_t *q[V_TILE];
    const float *d;
    const int32_t *start;
    const float *sum;
} column_block;

/* n_blocks of n_rows rows' panels (V_CHUNK blocks each) by n_cols columns, V_TILE or fewer, added to what is at y (or to
 * 0, for the first of a row). */
typedef struct panel_product {
    const panel_block *panel;
    int64_t n_blocks;
    int64_t n_rows;
    const columns *x;
    int64_t n_cols;
    float *y;
    int64_t y_stride;
    bool is_first;
} panel_product;

/* What of a type's work is done by functions, which keeps the programs small. unpack: blocks from .. from + n_blocks of
 * V_ROWS rows, whole blocks of the type; at each block of 32 `ahead` bytes from next on are prefetched. */
typedef struct panel_type {
    format f;
    void (*unpack)(const uint8_t *const *rows, int64_t from, int64_t n_blocks, panel_block *panel, const uint8_t *next,
                   int64_t ahead);
    void (*multiply)(const panel_product *p);
} panel_type;

/* Adds 32 elements to the sums of n columns, at most V_CHAINS. */
V_INLINE void add_block(const format f, const panel_block *w, const column_block *x, vf *acc, const int n);
/* V_ROWS rows (n_lanes of them real) by one column. */
V_INLINE void stream_rows(const format f, const nano_linear_args *a, const uint8_t *const *rows, float *y, int n_lanes);

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

/* Blocks of 32 from .. from + n_blocks of n_cols rows from x on; the tile's other columns are the last one again. */
static void prepare_columns(const format *f, const nano_linear_args *a, int64_t tile, int64_t from, int64_t n_blocks,
                            columns *out) {
    const uint8_t *x = (const uint8_t *)a->x + (size_t)(tile * V_TILE) * a->x_stride;
    const int64_t n_cols = a->n_cols - tile * V_TILE;
    const int64_t parts = NANO_BLOCK / f->part;
    for (int64_t c = 0; c < V_TILE; c++) {
        const uint8_t *row = x + (size_t)(c < n_cols ? c : n_cols - 1) * a->x_stride;
        const float *d = nano_a8_d(row, a->n) + from;
        const int16_t *half_sum = nano_a8_sum(row, a->n) + 2 * from;
        out->q[c] = nano_a8_q(row) + from * NANO_BLOCK;
        copy(d, n_blocks, out->d + c * V_CHUNK);
        if (f->bias != 0) {
            start_sums(*f, half_sum, n_blocks, out->start + parts * c * V_CHUNK);
        }
        if (f->has_min) {
            min_sums(*f, half_sum, d, n_blocks, out->sum + parts * c * V_CHUNK);
        }
    }
}

/* Columns beyond the last are this again, in y, too. */
V_INLINE void multiply_tile(const format f, const panel_product *p, const int tile) {
    const int parts = NANO_BLOCK / f.part, together = tile < V_CHAINS ? tile : V_CHAINS;
    const panel_block *panel = p->panel;
    for (int64_t r = 0; r < p->n_rows; r += V_ROWS, panel += V_CHUNK) {
        const int n_lanes = (int)(p->n_rows - r < V_ROWS ? p->n_rows - r : V_ROWS);
        vf acc[V_TILE];
        for (int c = 0; c < tile; c++) {
            const float *y = p->y + (c < p->n_cols ? c : p->n_cols - 1) * p->y_stride + r;
            acc[c] = p->is_first ? v_set_f(0.0f) : v_load(y, n_lanes);
        }
        for (int64_t b = 0; b < p->n_blocks; b++) {
            for (int c = 0; c < tile; c += together) {
                const int64_t at = c * V_CHUNK + b;
                column_block x = {{0}, p->x->d + at, p->x->start + parts * at, p->x->sum + parts * at};
                for (int i = 0; i < together; i++) {
                    x.q[i] = p->x->q[c + i] + b * NANO_BLOCK;
                }
                add_block(f, &panel[b], &x, acc + c, together);
            }
        }
        for (int c = 0; c < tile; c++) {
            v_store(p->y + (c < p->n_cols ? c : p->n_cols - 1) * p->y_stride + r, n_lanes, acc[c]);
        }
    }
}

V_INLINE void multiply_panel(const format f, const panel_product *p) {
    if (p->n_cols > V_TILE / 2) {
        multiply_tile(f, p, V_TILE);
    } else if (p->n_cols > 2) {
        multiply_tile(f, p, V_TILE / 2);
    } else {
        multiply_tile(f, p, 2);
    }
}

/* Row r, r + 1 ... of V_ROWS; lanes without a row read the last one again. */
V_INLINE void find_rows(const nano_linear_args *a, int64_t r, const uint8_t **rows) {
    for (int i = 0; i < V_ROWS; i++) {
        const int64_t row = r + i < a->n_rows ? r + i : a->n_rows - 1;
        rows[i] = (const uint8_t *)a->w + (size_t)row * a->w_stride;
    }
}

/* V_GROUPS * V_ROWS rows or fewer, from r on, by all columns. Few columns are prepared for all these rows, so that one
 * group's panels stay in the first-level cache, and as many rows after these are prefetched; many share what is prepared. */
static void multiply_rows(const panel_type *t, const nano_linear_args *a, int64_t r, int64_t n_rows) {
    panel_block panels[V_GROUPS][V_CHUNK];
    columns x[FEW_TILES];
    const uint8_t *rows[V_ROWS];
    const int64_t n_blocks = a->n / NANO_BLOCK;
    const int64_t n_tiles = (a->n_cols + V_TILE - 1) / V_TILE;
    const bool few = n_tiles <= FEW_TILES;
    const int64_t together = few ? V_ROWS : V_GROUPS * V_ROWS;
    const int64_t ahead = few ? V_ROWS * (int64_t)a->w_stride / n_blocks : 0;
    const uint8_t *next = (const uint8_t *)a->w + (size_t)(r + n_rows) * a->w_stride;
    for (int64_t from = 0; from < n_blocks; from += V_CHUNK) {
        const int64_t count = n_blocks - from < V_CHUNK ? n_blocks - from : V_CHUNK;
        for (int64_t i = 0; few && i < n_tiles; i++) {
            prepare_columns(&t->f, a, i, from, count, &x[i]);
        }
        for (int64_t top = 0; top < n_rows; top += together) {
            const int64_t end = top + together < n_rows ? top + together : n_rows;
            for (int64_t g = top; g < end; g += V_ROWS, next += count * ahead) {
                find_rows(a, r + g, rows);
                t->unpack(rows, from, count, panels[(g - top) / V_ROWS], next, ahead);
            }
            for (int64_t i = 0; i < n_tiles; i++) {
                if (!few) {
                    prepare_columns(&t->f, a, i, from, count, &x[0]);
                }
                const panel_product p = {panels[0],
                                         count,
                                         end - top,
                                         few ? &x[i] : &x[0],
                                         a->n_cols - i * V_TILE < V_TILE ? a->n_cols - i * V_TILE : V_TILE,
                                         a->y + i * V_TILE * a->y_stride + r + top,
                                         a->y_stride,
                                         from == 0};
                t->multiply(&p);
            }
        }
    }
}

/* All of a call. */
static void linear(const panel_type *t, const nano_linear_args *a) {
    for (int64_t r = 0; r < a->n_rows; r += V_GROUPS * V_ROWS) {
        multiply_rows(t, a, r, a->n_rows - r < V_GROUPS * V_ROWS ? a->n_rows - r : V_GROUPS * V_ROWS);
    }
}

V_INLINE void linear_one(const format f, const nano_linear_args *a) {
    for (int64_t r = 0; r < a->n_rows; r += V_ROWS) {
        const uint8_t *rows[V_ROWS];
        find_rows(a, r, rows);
        stream_rows(f, a, rows, a->y + r, (int)(a->n_rows - r < V_ROWS ? a->n_rows - r : V_ROWS));
    }
}
