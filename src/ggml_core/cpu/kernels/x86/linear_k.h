/*
 * linear over types with parts (types/blocks.h): the tile loop that the levels share, after the manner of
 * linear_quant.h, from where the vectors' names come. One lane is one row here, too, and an output is one chain of
 * multiply-adds over its row, 32 elements after 32, so that any tile makes the same bits.
 *
 * Blocks are unpacked in groups of up to 128 elements that share bytes; what is read once a block is its head.
 */
#include "cpu/kernels/levels.h"
#include "types/blocks.h"

typedef struct format {
    nano_type type;
    int32_t bytes; /* a block */
    int32_t size;  /* its elements */
    int32_t group; /* elements unpacked together */
    int32_t part;  /* elements with a scale of their own: 16 or 32 */
    int32_t bits;  /* of the codes as unpacked, for v_dot */
    int32_t bias;  /* what is subtracted from these */
    bool has_min;
} format;

typedef struct head {
    vf d;
    vf dmin;
    vi scale[4]; /* of all parts, a byte each */
    vi min[4];
    vi high[8]; /* bits that all groups share */
} head;

typedef struct panel_block { /* 32 elements */
    vi q[8];                 /* element 4 k + j in byte j of a lane of q[k] */
    vf scale[2];             /* of the two halves; only the first where parts have 32 */
    vf min[2];               /* negative */
} panel_block;

#include "cpu/kernels/x86/linear_columns.h"

static const int8_t iq4_values[16] = {NANO_IQ4_VALUES};

V_INLINE vi low_bits(vi a, int shift, int32_t mask) { return v_and(v_shift_right(a, shift), v_set(mask)); }

/* ------------------------------------------------------------------ heads */

V_INLINE void head_q2_k(const uint8_t *const *rows, size_t offset, head *h) {
    vi bytes[4];
    v_gather_transposed(rows, offset, bytes);
    const vi both = v_gather_u32(rows, offset + offsetof(nano_block_q2_k, d));
    h->d = v_f16(v_and(both, v_set(0xffff)));
    h->dmin = v_f16(v_shift_right(both, 16));
    for (int k = 0; k < 4; k++) {
        h->scale[k] = v_and(bytes[k], v_set(0x0f0f0f0f));
        h->min[k] = low_bits(bytes[k], 4, 0x0f0f0f0f);
    }
}

V_INLINE void head_q3_k(const uint8_t *const *rows, size_t offset, head *h) {
    vi tail[4]; /* the last 16 bytes: two of q, twelve of scale, d */
    v_gather_transposed(rows, offset + sizeof(nano_block_q3_k) - 16, tail);
    h->d = v_f16(v_shift_right(tail[3], 16));
    vi bytes[3];
    for (int k = 0; k < 3; k++) {
        bytes[k] = v_or(v_shift_right(tail[k], 16), v_shift_left(tail[k + 1], 16));
    }
    for (int k = 0; k < 4; k++) {
        const vi low = low_bits(bytes[k % 2], k / 2 * 4, 0x0f0f0f0f);
        h->scale[k] = v_or(low, v_shift_left(low_bits(bytes[2], 2 * k, 0x03030303), 4));
    }
    v_gather_transposed(rows, offset, h->high);
    v_gather_transposed(rows, offset + 16, h->high + 4);
}

V_INLINE void head_q4_k(const uint8_t *const *rows, size_t offset, head *h) {
    vi bytes[4];
    v_gather_transposed(rows, offset, bytes);
    h->d = v_f16(v_and(bytes[0], v_set(0xffff)));
    h->dmin = v_f16(v_shift_right(bytes[0], 16));
    h->scale[0] = v_and(bytes[1], v_set(0x3f3f3f3f));
    h->min[0] = v_and(bytes[2], v_set(0x3f3f3f3f));
    h->scale[1] = v_or(v_and(bytes[3], v_set(0x0f0f0f0f)), low_bits(bytes[1], 2, 0x30303030));
    h->min[1] = v_or(low_bits(bytes[3], 4, 0x0f0f0f0f), low_bits(bytes[2], 2, 0x30303030));
}

V_INLINE void head_q6_k(const uint8_t *const *rows, size_t offset, head *h) {
    h->d = v_gather_f16(rows, offset + offsetof(nano_block_q6_k, d));
    v_gather_transposed(rows, offset + offsetof(nano_block_q6_k, scale), h->scale);
}

V_INLINE void head_iq4_xs(const uint8_t *const *rows, size_t offset, head *h) {
    const vi first = v_gather_u32(rows, offset);
    h->d = v_f16(v_and(first, v_set(0xffff)));
    h->high[0] = v_shift_right(first, 16);
    h->scale[0] = v_gather_u32(rows, offset + offsetof(nano_block_iq4_xs, scale));
}

V_INLINE void read_head(const format f, const uint8_t *const *rows, size_t offset, head *h) {
    switch (f.type) {
        case NANO_TYPE_Q2_K: head_q2_k(rows, offset, h); break;
        case NANO_TYPE_Q3_K: head_q3_k(rows, offset, h); break;
        case NANO_TYPE_Q4_K: head_q4_k(rows, offset, h); break;
        case NANO_TYPE_Q5_K:
            head_q4_k(rows, offset, h);
            v_gather_transposed(rows, offset + offsetof(nano_block_q5_k, high), h->high);
            v_gather_transposed(rows, offset + offsetof(nano_block_q5_k, high) + 16, h->high + 4);
            break;
        case NANO_TYPE_Q6_K: head_q6_k(rows, offset, h); break;
        case NANO_TYPE_IQ4_XS: head_iq4_xs(rows, offset, h); break;
        default: h->d = v_gather_f16(rows, offset); break;
    }
}

/* Of part k. */
V_INLINE vf part_scale(const format f, const head *h, int k) {
    switch (f.type) {
        case NANO_TYPE_Q6_K: return v_mul(h->d, v_to_float(v_signed_byte(h->scale[k / 4], k % 4)));
        case NANO_TYPE_Q3_K:
            return v_mul(h->d, v_to_float(v_sub(low_bits(h->scale[k / 4], k % 4 * 8, 0xff), v_set(32))));
        case NANO_TYPE_IQ4_XS: {
            const vi code = v_or(low_bits(h->scale[0], 4 * k, 15), v_shift_left(low_bits(h->high[0], 2 * k, 3), 4));
            return v_mul(h->d, v_to_float(v_sub(code, v_set(32))));
        }
        case NANO_TYPE_IQ4_NL: return h->d;
        default: return v_mul(h->d, v_to_float(low_bits(h->scale[k / 4], k % 4 * 8, 0xff)));
    }
}

V_INLINE vf part_min(const head *h, int k) {
    return v_mul(v_sub_f(v_set_f(0.0f), h->dmin), v_to_float(low_bits(h->min[k / 4], k % 4 * 8, 0xff)));
}

/* ------------------------------------------------------------------ codes */

/* Groups of 128: two-bit fields of 32 bytes at q, with bits of h->high above them in Q3_K. */
V_INLINE void codes_2_bits(const format f, const uint8_t *const *rows, size_t q, const head *h, int g,
                           panel_block *out) {
    vi bytes[8];
    v_gather_transposed(rows, q, bytes);
    v_gather_transposed(rows, q + 16, bytes + 4);
    for (int s = 0; s < 4; s++) {
        for (int k = 0; k < 8; k++) {
            out[s].q[k] = low_bits(bytes[k], 2 * s, 0x03030303);
            if (f.type == NANO_TYPE_Q3_K) {
                const vi bit = low_bits(h->high[k], 4 * g + s, 0x01010101);
                out[s].q[k] = v_or(out[s].q[k], v_shift_left(bit, 2));
            }
        }
    }
}

/* Groups of 64: low and high nibbles of 32 bytes at q, with bits of h->high above them in Q5_K. */
V_INLINE void codes_4_bits(const format f, const uint8_t *const *rows, size_t q, const head *h, int g,
                           panel_block *out) {
    vi bytes[8];
    v_gather_transposed(rows, q, bytes);
    v_gather_transposed(rows, q + 16, bytes + 4);
    for (int s = 0; s < 2; s++) {
        for (int k = 0; k < 8; k++) {
            out[s].q[k] = low_bits(bytes[k], 4 * s, 0x0f0f0f0f);
            if (f.type == NANO_TYPE_Q5_K) {
                const vi bit = low_bits(h->high[k], 2 * g + s, 0x01010101);
                out[s].q[k] = v_or(out[s].q[k], v_shift_left(bit, 4));
            }
        }
    }
}

/* Groups of 128: nibbles of 64 bytes at q, two-bit fields of 32 at high above them. */
V_INLINE void codes_6_bits(const uint8_t *const *rows, size_t q, size_t high, panel_block *out) {
    vi top[8];
    v_gather_transposed(rows, high, top);
    v_gather_transposed(rows, high + 16, top + 4);
    for (int i = 0; i < 2; i++) {
        vi bytes[8];
        v_gather_transposed(rows, q + 32 * (size_t)i, bytes);
        v_gather_transposed(rows, q + 32 * (size_t)i + 16, bytes + 4);
        for (int k = 0; k < 8; k++) {
            const vi low = v_and(v_shift_left(top[k], 4 - 2 * i), v_set(0x30303030));
            const vi above = i == 0 ? v_and(top[k], v_set(0x30303030)) : low_bits(top[k], 2, 0x30303030);
            out[i].q[k] = v_or(v_and(bytes[k], v_set(0x0f0f0f0f)), low);
            out[i + 2].q[k] = v_or(low_bits(bytes[k], 4, 0x0f0f0f0f), above);
        }
    }
}

/* Groups of 32: 16 bytes, the nibbles looked up. */
V_INLINE void codes_iq4(const uint8_t *const *rows, size_t q, panel_block *out) {
    vi bytes[4];
    v_gather_transposed(rows, q, bytes);
    for (int k = 0; k < 4; k++) {
        out->q[k] = v_flip_i8(v_lookup(iq4_values, v_and(bytes[k], v_set(0x0f0f0f0f))));
        out->q[k + 4] = v_flip_i8(v_lookup(iq4_values, low_bits(bytes[k], 4, 0x0f0f0f0f)));
    }
}

/* Group g of the block at `offset`. */
V_INLINE void unpack_group(const format f, const uint8_t *const *rows, size_t offset, const head *h, const int g,
                           panel_block *out) {
    const size_t i = (size_t)g;
    switch (f.type) {
        case NANO_TYPE_Q2_K: codes_2_bits(f, rows, offset + offsetof(nano_block_q2_k, q) + 32 * i, h, g, out); break;
        case NANO_TYPE_Q3_K: codes_2_bits(f, rows, offset + offsetof(nano_block_q3_k, q) + 32 * i, h, g, out); break;
        case NANO_TYPE_Q4_K: codes_4_bits(f, rows, offset + offsetof(nano_block_q4_k, q) + 32 * i, h, g, out); break;
        case NANO_TYPE_Q5_K: codes_4_bits(f, rows, offset + offsetof(nano_block_q5_k, q) + 32 * i, h, g, out); break;
        case NANO_TYPE_Q6_K:
            codes_6_bits(rows, offset + 64 * i, offset + offsetof(nano_block_q6_k, high) + 32 * i, out);
            break;
        case NANO_TYPE_IQ4_XS: codes_iq4(rows, offset + offsetof(nano_block_iq4_xs, q) + 16 * i, out); break;
        default: codes_iq4(rows, offset + offsetof(nano_block_iq4_nl, q), out); break;
    }
    for (int b = 0; b < f.group / NANO_BLOCK; b++) {
        const int k = (g * f.group + b * NANO_BLOCK) / f.part;
        out[b].scale[0] = part_scale(f, h, k);
        out[b].scale[1] = f.part == 16 ? part_scale(f, h, k + 1) : out[b].scale[0];
        if (f.has_min) {
            out[b].min[0] = part_min(h, k);
            out[b].min[1] = f.part == 16 ? part_min(h, k + 1) : out[b].min[0];
        }
    }
}

/* ------------------------------------------------------------------ sums */

V_INLINE void add_block(const format f, const panel_block *w, const column_block *x, vf *acc, const int n) {
    const int parts = NANO_BLOCK / f.part;
    vi dot[2][V_CHAINS];
    const int8_t *q[V_CHAINS];
    for (int p = 0; p < parts; p++) {
        for (int i = 0; i < n; i++) {
            q[i] = x->q[i] + 16 * p;
            dot[p][i] = v_set(f.bias == 0 ? 0 : x->start[parts * i * V_CHUNK + p]);
        }
        v_dot(w->q + 4 * p, q, 8 / parts, f.bits, dot[p], n);
    }
    for (int i = 0; i < n; i++) {
        const vf d = v_set_f(x->d[i * V_CHUNK]);
        const float *sum = x->sum + parts * i * V_CHUNK;
        if (parts == 1) {
            acc[i] = v_fma(v_mul(w->scale[0], d), v_to_float(dot[0][i]), acc[i]);
            acc[i] = f.has_min ? v_fma(w->min[0], v_set_f(*sum), acc[i]) : acc[i];
            continue;
        }
        vf both = v_mul(w->scale[0], v_to_float(dot[0][i]));
        both = v_fma(w->scale[1], v_to_float(dot[1][i]), both);
        if (f.has_min) {
            both = v_fma(w->min[0], v_set_f(sum[0]), both);
            both = v_fma(w->min[1], v_set_f(sum[1]), both);
        }
        acc[i] = v_fma(both, d, acc[i]);
    }
}

V_INLINE void unpack_panel(const format f, const uint8_t *const *rows, int64_t from, int64_t n_blocks,
                           panel_block *panel, const uint8_t *next, int64_t ahead) {
    for (int64_t b = 0; b < n_blocks; b += f.size / NANO_BLOCK) {
        const size_t offset = (size_t)((from + b) * NANO_BLOCK / f.size * f.bytes);
        head h;
        read_head(f, rows, offset, &h);
        for (int g = 0; g < f.size / f.group; g++) {
            prefetch(next, f.group / NANO_BLOCK * ahead);
            next += f.group / NANO_BLOCK * ahead;
            unpack_group(f, rows, offset, &h, g, panel + b + g * f.group / NANO_BLOCK);
        }
    }
}

V_INLINE void stream_rows(const format f, const nano_linear_args *a, const uint8_t *const *rows, float *y,
                          int n_lanes) {
    const int8_t *q = nano_a8_q(a->x);
    const float *d = nano_a8_d(a->x, a->n);
    const int16_t *half_sum = nano_a8_sum(a->x, a->n);
    const uint8_t *next = rows[0] + V_ROWS * a->w_stride;
    const int64_t ahead = V_ROWS * f.bytes * NANO_BLOCK / f.size;
    vf acc = v_set_f(0.0f);
    for (int64_t block = 0; block < a->n / f.size; block++) {
        const size_t offset = (size_t)(block * f.bytes);
        head h;
        read_head(f, rows, offset, &h);
        for (int g = 0; g < f.size / f.group; g++) {
            panel_block w[4];
            unpack_group(f, rows, offset, &h, g, w);
            for (int b = 0; b < f.group / NANO_BLOCK; b++) {
                prefetch(next, ahead);
                next += ahead;
                int32_t start[2];
                float sum[2];
                start_sums(f, half_sum, 1, start);
                min_sums(f, half_sum, d, 1, sum);
                const column_block x = {{q}, d, start, sum};
                add_block(f, &w[b], &x, &acc, 1);
                q += NANO_BLOCK;
                d++;
                half_sum += 2;
            }
        }
    }
    v_store(y, n_lanes, acc);
}

/* Products of panels, for codes of at most so many bits. */
#define MULTIPLY(name, part, bits, bias, has_min)                                       \
    static void multiply_##name(const panel_product *p) {                               \
        multiply_panel((format){NANO_TYPE_F32, 0, 0, 0, part, bits, bias, has_min}, p); \
    }

MULTIPLY(16_min, 16, 2, 0, true)
MULTIPLY(16, 16, 6, 32, false)
MULTIPLY(32_min, 32, 5, 0, true)
MULTIPLY(32, 32, 8, V_BIAS_8, false)

#define FORMAT(NAME, name, size, group, part, bits, bias, has_min) \
    {NANO_TYPE_##NAME, sizeof(nano_block_##name), size, group, part, bits, bias, has_min}

#define LINEAR(NAME, name, size, group, part, bits, bias, has_min, multiply)                                          \
    static void unpack_##name(const uint8_t *const *rows, int64_t from, int64_t n_blocks, panel_block *panel,         \
                              const uint8_t *next, int64_t ahead) {                                                   \
        unpack_panel((format)FORMAT(NAME, name, size, group, part, bits, bias, has_min), rows, from, n_blocks, panel, \
                     next, ahead);                                                                                    \
    }                                                                                                                 \
    void V_LEVEL(nano_linear_##name)(const nano_linear_args *a) {                                                     \
        static const panel_type type = {FORMAT(NAME, name, size, group, part, bits, bias, has_min), unpack_##name,    \
                                        multiply};                                                                    \
        if (a->n_cols == 1) {                                                                                         \
            linear_one((format)FORMAT(NAME, name, size, group, part, bits, bias, has_min), a);                        \
        } else {                                                                                                      \
            linear(&type, a);                                                                                         \
        }                                                                                                             \
    }

LINEAR(Q2_K, q2_k, 256, 128, 16, 2, 0, true, multiply_16_min)
LINEAR(Q3_K, q3_k, 256, 128, 16, 3, 4, false, multiply_16)
LINEAR(Q4_K, q4_k, 256, 64, 32, 4, 0, true, multiply_32_min)
LINEAR(Q5_K, q5_k, 256, 64, 32, 5, 0, true, multiply_32_min)
LINEAR(Q6_K, q6_k, 256, 128, 16, 6, 32, false, multiply_16)
LINEAR(IQ4_NL, iq4_nl, 32, 32, 32, 8, V_BIAS_8, false, multiply_32)
LINEAR(IQ4_XS, iq4_xs, 256, 32, 32, 8, V_BIAS_8, false, multiply_32)
