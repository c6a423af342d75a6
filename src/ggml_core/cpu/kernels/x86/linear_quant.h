/*
 * linear over quantised weights: the tile loop that the levels share. A level's file defines the vectors, then
 * includes this one:
 *
 *   V_ROWS, V_TILE            rows side by side, one in each 32-bit lane; columns at once
 *   V_CHAINS                  of these, how many v_dot works on in turn, to hide how long one product takes
 *   V_CHUNK, V_GROUPS         size of the panels, see linear_columns.h
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
 *   v_dot                     to sum[c], c < tile, adds the 4 n products of every lane, exact; codes of so many bits
 *
 * One lane is one row, so an output is one chain acc = d * dx * sum + acc over the row's blocks, in order, and no lanes
 * are ever added together: any tile makes the same bits. Weights become bytes in the order [4 elements][row][element],
 * which v_dot multiplies with 4 elements of x in every lane. With one column that happens in registers as the weights
 * stream by; linear_columns.h has the loop over more.
 */
#include "cpu/kernels/levels.h"
#include "types/blocks.h"

typedef struct format {
    int32_t bytes; /* a block */
    int32_t bits;
    int32_t bias; /* what is subtracted from the codes as unpacked */
    int32_t part; /* elements with a scale of their own */
    int32_t q_at;
    int32_t high_at;
    bool has_min; /* right behind d */
} format;

typedef struct panel_block {
    vi q[8]; /* element 4 k + j of the block in byte j of a lane of q[k] */
    vf d;
    vf m;
} panel_block;

#include "cpu/kernels/x86/linear_columns.h"

V_INLINE void unpack(const format f, const uint8_t *const *rows, size_t offset, panel_block *out) {
    if (f.has_min) {
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

V_INLINE void unpack_panel(const format f, const uint8_t *const *rows, int64_t from, int64_t n_blocks,
                           panel_block *panel, const uint8_t *next, int64_t ahead) {
    for (int64_t b = 0; b < n_blocks; b++) {
        prefetch(next + b * ahead, ahead);
        unpack(f, rows, (size_t)((from + b) * f.bytes), &panel[b]);
    }
}

V_INLINE void add_block(const format f, const panel_block *w, const column_block *x, vf *acc, const int n) {
    vi dot[V_CHAINS];
    for (int i = 0; i < n; i++) {
        dot[i] = v_set(f.bias == 0 ? 0 : x->start[i * V_CHUNK]);
    }
    v_dot(w->q, x->q, 8, f.bits, dot, n);
    for (int i = 0; i < n; i++) {
        acc[i] = v_fma(v_mul(w->d, v_set_f(x->d[i * V_CHUNK])), v_to_float(dot[i]), acc[i]);
        acc[i] = f.has_min ? v_fma(w->m, v_set_f(x->sum[i * V_CHUNK]), acc[i]) : acc[i];
    }
}

V_INLINE void stream_rows(const format f, const nano_linear_args *a, const uint8_t *const *rows, float *y,
                          int n_lanes) {
    const int8_t *q = nano_a8_q(a->x);
    const float *d = nano_a8_d(a->x, a->n);
    const int16_t *sum = nano_a8_sum(a->x, a->n);
    const uint8_t *next = rows[0] + V_ROWS * a->w_stride;
    vf acc = v_set_f(0.0f);
    for (int64_t b = 0; b < a->n / NANO_BLOCK; b++) {
        panel_block w;
        prefetch(next, V_ROWS * f.bytes);
        next += V_ROWS * f.bytes;
        unpack(f, rows, (size_t)(b * f.bytes), &w);
        const int32_t block_sum = nano_a8_block_sum(sum + 2 * b);
        const int32_t start = -f.bias * block_sum;
        const float min_sum = d[b] * (float)block_sum;
        const column_block x = {{q + b * NANO_BLOCK}, d + b, &start, &min_sum};
        add_block(f, &w, &x, &acc, 1);
    }
    v_store(y, n_lanes, acc);
}

/* Products of panels, for codes of at most so many bits. */
#define MULTIPLY(name, bits, bias, has_min)                                    \
    static void multiply_##name(const panel_product *p) {                      \
        multiply_panel((format){0, bits, bias, NANO_BLOCK, 0, 0, has_min}, p); \
    }

MULTIPLY(8, 8, V_BIAS_8, false)
MULTIPLY(5, 5, 16, false)
MULTIPLY(5_min, 5, 0, true)

#define FORMAT(name, bits, bias, high_at, has_min) \
    {sizeof(nano_block_##name), bits, bias, NANO_BLOCK, offsetof(nano_block_##name, q), high_at, has_min}

#define LINEAR(name, bits, bias, high_at, has_min, multiply)                                                        \
    static void unpack_##name(const uint8_t *const *rows, int64_t from, int64_t n_blocks, panel_block *panel,       \
                              const uint8_t *next, int64_t ahead) {                                                 \
        unpack_panel((format)FORMAT(name, bits, bias, high_at, has_min), rows, from, n_blocks, panel, next, ahead); \
    }                                                                                                               \
    void V_LEVEL(nano_linear_##name)(const nano_linear_args *a) {                                                   \
        static const panel_type type = {FORMAT(name, bits, bias, high_at, has_min), unpack_##name, multiply};       \
        if (a->n_cols == 1) {                                                                                       \
            linear_one((format)FORMAT(name, bits, bias, high_at, has_min), a);                                      \
        } else {                                                                                                    \
            linear(&type, a);                                                                                       \
        }                                                                                                           \
    }

LINEAR(q8_0, 8, V_BIAS_8, 0, false, multiply_8)
LINEAR(q4_0, 4, 8, 0, false, multiply_5)
LINEAR(q4_1, 4, 0, 0, true, multiply_5_min)
LINEAR(q5_0, 5, 16, offsetof(nano_block_q5_0, high), false, multiply_5)
LINEAR(q5_1, 5, 0, offsetof(nano_block_q5_1, high), true, multiply_5_min)
