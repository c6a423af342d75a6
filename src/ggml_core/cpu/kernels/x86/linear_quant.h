/*
 * linear over quantised weights: the tile loop that the levels share. A level's file defines the vectors, then
 * includes this one:
 *
 *   V_ROWS, V_TILE            rows side by side, one in each 32-bit lane; columns at once
 *   V_BIAS_8                  what v_flip_i8 has added to the weights of the 8-bit type
 *   vi, vf                    vectors of V_ROWS int32, float; v_set, v_and, v_mul, v_fma ... by lanes
 *   v_load, v_store           of the first n_lanes lanes
 *   v_gather_u32, _f16        of rows[i] + offset into lane i
 *   v_f16                     of the low halves of lanes whose high halves are 0
 *   v_gather_transposed       16 bytes of every row; bytes 4 k .. 4 k + 3 of row i to lane i of out[k]
 *   v_signed_byte             byte k of every lane, signed
 *   v_lookup                  byte codes below 16 become table[code]
 *   v_flip_i8                 signed bytes as v_dot wants the 8-bit type's weights
 *   v_add_high_bits           bit 4 k + j of each lane becomes bit 4 of byte j in q[k]
 *   v_dot                     start + the sum over the 4 n products of every lane, exact; codes of so many bits
 *
 * One lane is one row, so an output is one chain acc = d * dx * sum + acc over the row's blocks, in order,
 * and no lanes are ever added together: any tile makes the same bits. Weights become bytes in the order
 * [4 elements][row][element], which v_dot multiplies with 4 elements of x in every lane. With one column that
 * happens in registers as the weights stream by; with more, V_ROWS rows by a chunk of blocks are unpacked into
 * a panel on the stack, which then meets every column. The partial sums wait in y between chunks.
 */
#include "cpu/kernels/levels.h"
#include "types/blocks.h"

typedef struct format {
    int32_t bytes; /* a block */
    int32_t bits;
    int32_t bias; /* what is subtracted from the codes as unpacked */
    int32_t q_at;
    int32_t high_at;
    bool has_m; /* right behind d */
} format;

typedef struct panel_block {
    vi q[8]; /* element 4 k + j of the block in byte j of a lane of q[k] */
    vf d;
    vf m;
} panel_block;

enum { CHUNK = 32 };

V_INLINE void unpack(const format f, const uint8_t *const *rows, size_t offset, panel_block *out) {
    if (f.has_m) {
        const vi both = v_gather_u32(rows, offset);
        out->d = v_f16(v_and(both, v_set(0xffff)));
        out->m = v_f16(v_shift_right(both, 16));
    } else {
        out->d = v_gather_f16(rows, offset);
    }
    v_gather_transposed(rows, offset + (size_t)f.q_at, out->q);
    if (f.bits == 8) {
        v_gather_transposed(rows, offset + (size_t)f.q_at + 16, out->q + 4);
        for (int k = 0; k < 8; k++) {
            out->q[k] = v_flip_i8(out->q[k]);
        }
        return;
    }
    for (int k = 0; k < 4; k++) {
        out->q[k + 4] = v_and(v_shift_right(out->q[k], 4), v_set(0x0f0f0f0f));
        out->q[k] = v_and(out->q[k], v_set(0x0f0f0f0f));
    }
    if (f.bits == 5) {
        v_add_high_bits(v_gather_u32(rows, offset + (size_t)f.high_at), out->q);
    }
}

/* Adds a block to one column's sums. */
V_INLINE vf add_block(const format f, const panel_block *w, const int8_t *q, float d, int32_t sum, vf acc) {
    const vi dot = v_dot(w->q, q, 8, f.bits, -f.bias * sum);
    acc = v_fma(v_mul(w->d, v_set_f(d)), v_to_float(dot), acc);
    return f.has_m ? v_fma(w->m, v_set_f(d * (float)sum), acc) : acc;
}

/* Blocks from .. from + n_blocks of `tile` columns from c on. */
V_INLINE void multiply_panel(const format f, const nano_linear_args *a, const panel_block *panel, int64_t from,
                             int64_t n_blocks, float *y, int n_lanes, const int tile) {
    vf acc[V_TILE];
    for (int c = 0; c < tile; c++) {
        acc[c] = from == 0 ? v_set_f(0.0f) : v_load(y + c * a->y_stride, n_lanes);
    }
    const uint8_t *x = a->x;
    for (int64_t b = 0; b < n_blocks; b++) {
        const panel_block w = panel[b];
        for (int c = 0; c < tile; c++) {
            const uint8_t *row = x + (size_t)c * a->x_stride;
            acc[c] = add_block(f, &w, nano_a8_q(row) + (from + b) * NANO_BLOCK, nano_a8_d(row, a->n)[from + b],
                               nano_a8_block_sum(nano_a8_sum(row, a->n) + 2 * (from + b)), acc[c]);
        }
    }
    for (int c = 0; c < tile; c++) {
        v_store(y + c * a->y_stride, n_lanes, acc[c]);
    }
}

/* V_ROWS rows (n_lanes of them real) by all columns. */
V_INLINE void multiply_rows(const format f, const nano_linear_args *a, const uint8_t *const *rows, float *y,
                            int n_lanes) {
    panel_block panel[CHUNK];
    const int64_t n_blocks = a->n / NANO_BLOCK;
    for (int64_t from = 0; from < n_blocks; from += CHUNK) {
        const int64_t count = n_blocks - from < CHUNK ? n_blocks - from : CHUNK;
        for (int64_t b = 0; b < count; b++) {
            unpack(f, rows, (size_t)((from + b) * f.bytes), &panel[b]);
        }
        nano_linear_args part = *a;
        int64_t c = 0;
        for (; c + V_TILE <= a->n_cols; c += V_TILE) {
            part.x = (const uint8_t *)a->x + (size_t)c * a->x_stride;
            multiply_panel(f, &part, panel, from, count, y + c * a->y_stride, n_lanes, V_TILE);
        }
        for (; c < a->n_cols; c++) {
            part.x = (const uint8_t *)a->x + (size_t)c * a->x_stride;
            multiply_panel(f, &part, panel, from, count, y + c * a->y_stride, n_lanes, 1);
        }
    }
}

/* The same for one column. */
V_INLINE void stream_rows(const format f, const nano_linear_args *a, const uint8_t *const *rows, float *y,
                          int n_lanes) {
    const int8_t *q = nano_a8_q(a->x);
    const float *d = nano_a8_d(a->x, a->n);
    const int16_t *sum = nano_a8_sum(a->x, a->n);
    const uint8_t *next = rows[0] + V_ROWS * a->w_stride;
    vf acc = v_set_f(0.0f);
    for (int64_t b = 0; b < a->n / NANO_BLOCK; b++) {
        panel_block w;
        for (int i = 0; i < V_ROWS * f.bytes; i += NANO_CACHE_LINE) {
            _mm_prefetch((const char *)(next + i), _MM_HINT_T1);
        }
        next += V_ROWS * f.bytes;
        unpack(f, rows, (size_t)(b * f.bytes), &w);
        acc = add_block(f, &w, q + b * NANO_BLOCK, d[b], nano_a8_block_sum(sum + 2 * b), acc);
    }
    v_store(y, n_lanes, acc);
}

V_INLINE void linear_quant(const format f, const nano_linear_args *a) {
    for (int64_t r = 0; r < a->n_rows; r += V_ROWS) {
        const int n_lanes = (int)(a->n_rows - r < V_ROWS ? a->n_rows - r : V_ROWS);
        const uint8_t *rows[V_ROWS];
        for (int i = 0; i < V_ROWS; i++) { /* lanes without a row read the last one again */
            const int64_t row = r + (i < n_lanes ? i : n_lanes - 1);
            rows[i] = (const uint8_t *)a->w + (size_t)row * a->w_stride;
        }
        if (a->n_cols == 1) {
            stream_rows(f, a, rows, a->y + r, n_lanes);
        } else {
            multiply_rows(f, a, rows, a->y + r, n_lanes);
        }
    }
}

#define LINEAR(name, bits, bias, high_at, has_m)                                                                      \
    void V_LEVEL(nano_linear_##name)(const nano_linear_args *a) {                                                     \
        linear_quant((format){sizeof(nano_block_##name), bits, bias, offsetof(nano_block_##name, q), high_at, has_m}, \
                     a);                                                                                              \
    }

LINEAR(q8_0, 8, V_BIAS_8, 0, false)
LINEAR(q4_0, 4, 8, 0, false)
LINEAR(q4_1, 4, 0, 0, true)
LINEAR(q5_0, 5, 16, offsetof(nano_block_q5_0, high), false)
LINEAR(q5_1, 5, 0, offsetof(nano_block_q5_1, high), true)
