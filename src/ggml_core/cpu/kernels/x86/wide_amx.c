/*
 * linear over many columns on tile registers: weights and activations rounded to bf16, sums in f32.
 *
 * 32 rows by a chunk of elements are unpacked into a panel in the first-level cache, which then meets all columns: two
 * tiles of weights by two of activations into four of sums, so that each tile loaded is used twice. The sums of 32 rows
 * wait in memory, tile by tile, between chunks. An output is added up in the order of the row's elements whatever its
 * place, so any split of rows and columns makes the same bits.
 */
#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/tiles.h"
#include "types/blocks.h"

enum {
    ROWS = 2 * TILE_ROWS,
    CHUNK = 512,
    COLUMNS = 512,
    STEP = 32,
    GROUP = NANO_WIDE_GROUP,
    N_GROUPS = COLUMNS / GROUP
};

typedef struct panel {
    uint16_t w[CHUNK / STEP][ROWS][STEP];
} panel;

/* ------------------------------------------------------------------ weights */

/* 32 elements of a row: (code * d + m), each half with its own. */
typedef struct part {
    __m256i codes;
    float d[2];
    float m[2];
} part;

V_INLINE float f16_at(const uint8_t *p) { return _cvtsh_ss((uint16_t)load_i16(p)); }

/* Nibbles of 16 bytes, the low ones first. */
V_INLINE __m256i nibbles(const uint8_t *q) {
    const __m128i both = load_128(q), mask = _mm_set1_epi8(15);
    return join_128(_mm_and_si128(both, mask), _mm_and_si128(_mm_srli_epi16(both, 4), mask));
}

/* Nibbles of 32 bytes: the low ones, or the high ones. */
V_INLINE __m256i nibbles_of_32(const uint8_t *q, int high) {
    const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)q);
    return _mm256_and_si256(high ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
}

/* Bit i of `bits` as bit 4 of byte i. */
V_INLINE __m256i fifth_bits(int32_t bits) { return _mm256_maskz_set1_epi8((__mmask32)bits, 16); }

V_INLINE part even_part(__m256i codes, float d, float m) { return (part){codes, {d, d}, {m, m}}; }

V_INLINE __m256i iq4_values(__m256i codes) {
    const __m128i values = _mm_setr_epi8(NANO_IQ4_VALUES);
    return _mm256_shuffle_epi8(join_128(values, values), codes);
}

/* Part k (32 elements) of a row of the type. */
V_INLINE part unpack(nano_type type, const uint8_t *row, int64_t k) {
    switch (type) {
        case NANO_TYPE_Q8_0: {
            const uint8_t *b = row + k * (int64_t)sizeof(nano_block_q8_0);
            return even_part(_mm256_loadu_si256((const __m256i *)(const void *)(b + 2)), f16_at(b), 0.0f);
        }
        case NANO_TYPE_Q4_0: {
            const uint8_t *b = row + k * (int64_t)sizeof(nano_block_q4_0);
            const float d = f16_at(b);
            return even_part(nibbles(b + 2), d, -8.0f * d);
        }
        case NANO_TYPE_IQ4_NL: {
            const uint8_t *b = row + k * (int64_t)sizeof(nano_block_iq4_nl);
            return even_part(iq4_values(nibbles(b + 2)), f16_at(b), 0.0f);
        }
        case NANO_TYPE_Q4_1: {
            const uint8_t *b = row + k * (int64_t)sizeof(nano_block_q4_1);
            return even_part(nibbles(b + 4), f16_at(b), f16_at(b + 2));
        }
        case NANO_TYPE_Q5_0: {
            const uint8_t *b = row + k * (int64_t)sizeof(nano_block_q5_0);
            const float d = f16_at(b);
            return even_part(_mm256_or_si256(nibbles(b + 6), fifth_bits(load_i32(b + 2))), d, -16.0f * d);
        }
        case NANO_TYPE_Q5_1: {
            const uint8_t *b = row + k * (int64_t)sizeof(nano_block_q5_1);
            return even_part(_mm256_or_si256(nibbles(b + 8), fifth_bits(load_i32(b + 4))), f16_at(b), f16_at(b + 2));
        }
        case NANO_TYPE_Q4_K: {
            const nano_block_q4_k *b = (const nano_block_q4_k *)row + k / 8;
            const int at = (int)(k % 8);
            return even_part(nibbles_of_32(b->q + at / 2 * 32, at % 2),
                             f16_at(b->d) * (float)nano_k_scale(b->scale, 0, at),
                             -f16_at(b->dmin) * (float)nano_k_scale(b->scale, 1, at));
        }
        case NANO_TYPE_Q5_K: {
            const nano_block_q5_k *b = (const nano_block_q5_k *)row + k / 8;
            const int at = (int)(k % 8);
            const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)b->high);
            const __mmask32 set = _mm256_test_epi8_mask(high, _mm256_set1_epi8((char)(1 << at)));
            return even_part(_mm256_or_si256(nibbles_of_32(b->q + at / 2 * 32, at % 2), fifth_bits((int32_t)set)),
                             f16_at(b->d) * (float)nano_k_scale(b->scale, 0, at),
                             -f16_at(b->dmin) * (float)nano_k_scale(b->scale, 1, at));
        }
        case NANO_TYPE_IQ4_XS: {
            const nano_block_iq4_xs *b = (const nano_block_iq4_xs *)row + k / 8;
            const int at = (int)(k % 8);
            return even_part(iq4_values(nibbles(b->q + 16 * at)), f16_at(b->d) * (float)nano_iq4_xs_scale(b, at), 0.0f);
        }
        default: { /* Q6_K */
            const nano_block_q6_k *b = (const nano_block_q6_k *)row + k / 8;
            const int at = (int)(k % 8), half = at / 4, s = at % 4;
            const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(b->high + 32 * half));
            const __m256i two =
                _mm256_and_si256(_mm256_srlv_epi16(high, _mm256_set1_epi16((short)(2 * s))), _mm256_set1_epi8(3));
            const __m256i low = nibbles_of_32(b->q + 64 * half + 32 * (s % 2), s / 2);
            const float d = f16_at(b->d), first = d * (float)b->scale[2 * at], second = d * (float)b->scale[2 * at + 1];
            return (part){
                _mm256_or_si256(low, _mm256_slli_epi16(two, 4)), {first, second}, {-32.0f * first, -32.0f * second}};
        }
    }
}

V_INLINE __m512i to_bf16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

/* `count` elements of row r of the panel; codes of Q8_0 and IQ4 are signed, of all others below 64. */
V_INLINE void unpack_row(nano_type type, const uint8_t *row, int64_t from, int64_t count, panel *out, int r) {
    for (int64_t k = 0; k < count / STEP; k++) {
        const part p = unpack(type, row, from / STEP + k);
        const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(p.codes)));
        const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(p.codes, 1)));
        _mm512_store_si512(out->w[k][r],
                           to_bf16(_mm512_fmadd_ps(low, _mm512_set1_ps(p.d[0]), _mm512_set1_ps(p.m[0])),
                                   _mm512_fmadd_ps(high, _mm512_set1_ps(p.d[1]), _mm512_set1_ps(p.m[1]))));
    }
}

/* The same through the type's reference. */
static void unpack_row_slowly(nano_type type, const uint8_t *row, int64_t from, int64_t count, panel *out, int r) {
    const nano_type_traits *traits = nano_type_find(type);
    float x[CHUNK];
    traits->to_float(row + (size_t)(from / traits->block_size) * traits->block_bytes, x, count);
    for (int64_t k = 0; k < count / STEP; k++) {
        _mm512_store_si512(out->w[k][r], to_bf16(_mm512_loadu_ps(x + STEP * k), _mm512_loadu_ps(x + STEP * k + 16)));
    }
}

static void unpack_rows(nano_type type, const nano_linear_args *a, int64_t first, int n_rows, int64_t from,
                        int64_t count, panel *out) {
    for (int r = 0; r < n_rows; r++) {
        const uint8_t *row = (const uint8_t *)a->w + (size_t)(first + r) * a->w_stride;
        switch (type) {
#define UNPACK(name) \
    case NANO_TYPE_##name: unpack_row(NANO_TYPE_##name, row, from, count, out, r); break;
            UNPACK(Q8_0)
            UNPACK(Q4_0)
            UNPACK(Q4_1)
            UNPACK(Q5_0)
            UNPACK(Q5_1)
            UNPACK(IQ4_NL)
            UNPACK(Q4_K)
            UNPACK(Q5_K)
            UNPACK(Q6_K)
            UNPACK(IQ4_XS)
#undef UNPACK
            default: unpack_row_slowly(type, row, from, count, out, r);
        }
    }
}

/* ----------------------------------------------------------------- products */

/* Adds a chunk's products to the sums of ROWS rows by two groups of columns (the second again the first where there is
 * no other): four tiles in `sums` and four behind `next`. */
static void multiply(const panel *w, int64_t n_steps, const uint8_t *x, const uint8_t *x_next, bool starts, float *sums,
                     float *next) {
    if (starts) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, sums, TILE_ROW_BYTES);
        TILE_LOAD(1, sums + TILE_BYTES / 4, TILE_ROW_BYTES);
        TILE_LOAD(2, next, TILE_ROW_BYTES);
        TILE_LOAD(3, next + TILE_BYTES / 4, TILE_ROW_BYTES);
    }
    for (int64_t k = 0; k < n_steps; k++) {
        TILE_LOAD(4, w->w[k][0], TILE_ROW_BYTES);
        TILE_LOAD(5, w->w[k][TILE_ROWS], TILE_ROW_BYTES);
        TILE_LOAD(6, x + k * TILE_BYTES, TILE_ROW_BYTES);
        TILE_LOAD(7, x_next + k * TILE_BYTES, TILE_ROW_BYTES);
        TILE_PRODUCT(0, 4, 6);
        TILE_PRODUCT(1, 5, 6);
        TILE_PRODUCT(2, 4, 7);
        TILE_PRODUCT(3, 5, 7);
    }
    TILE_STORE(0, sums, TILE_ROW_BYTES);
    TILE_STORE(1, sums + TILE_BYTES / 4, TILE_ROW_BYTES);
    TILE_STORE(2, next, TILE_ROW_BYTES);
    TILE_STORE(3, next + TILE_BYTES / 4, TILE_ROW_BYTES);
}

/* Rows become columns: 16 by 16 words of 32 bits. */
V_INLINE void transpose(__m512i *m) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 4) { /* within 128-bit lanes */
        const __m512i a = _mm512_unpacklo_epi32(m[i], m[i + 1]), b = _mm512_unpackhi_epi32(m[i], m[i + 1]);
        const __m512i c = _mm512_unpacklo_epi32(m[i + 2], m[i + 3]), d = _mm512_unpackhi_epi32(m[i + 2], m[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) { /* lanes: column 4 l + i of rows 0 .. 15 from lane l of t[i], t[4 + i] ... */
        const __m512i a = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x44),
                      b = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x44);
        const __m512i c = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xee),
                      d = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xee);
        m[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        m[4 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
        m[8 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
        m[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
}

/* A tile of sums, (row, column), to y, (column, row). */
static void store_tile(const float *sums, float *y, int64_t y_stride, int n_rows, int64_t n_cols) {
    __m512i m[16];
    for (int i = 0; i < 16; i++) {
        m[i] = _mm512_loadu_si512(sums + 16 * i);
    }
    transpose(m);
    const __mmask16 mask = (__mmask16)((1u << n_rows) - 1);
    for (int i = 0; i < 16 && i < n_cols; i++) {
        _mm512_mask_storeu_epi32(y + i * y_stride, mask, m[i]);
    }
}

/* n_rows rows from r on by n_cols columns, at most ROWS and COLUMNS. */
static void multiply_block(nano_type type, const nano_linear_args *a, int64_t r, int n_rows, int64_t first_group,
                           int64_t n_cols) {
    NANO_ALIGNED(64) panel w;
    NANO_ALIGNED(64) float sums[N_GROUPS][2 * TILE_BYTES / sizeof(float)];
    NANO_ALIGNED(64) float spare[2 * TILE_BYTES / sizeof(float)]; /* of the group that is not there */
    const int64_t n_groups = (n_cols + GROUP - 1) / GROUP;
    const size_t group_bytes = nano_wide_group_bytes(a->n);
    const uint8_t *x = (const uint8_t *)a->x + (size_t)first_group * group_bytes;
    memset(spare, 0, sizeof spare);
    if (n_rows < ROWS) {
        memset(&w, 0, sizeof w); /* rows that are not there */
    }
    for (int64_t from = 0; from < a->n; from += CHUNK) {
        const int64_t count = a->n - from < CHUNK ? a->n - from : CHUNK;
        unpack_rows(type, a, r, n_rows, from, count, &w);
        for (int64_t g = 0; g < n_groups; g += 2) {
            const uint8_t *at = x + (size_t)g * group_bytes + (size_t)(from / STEP) * TILE_BYTES;
            const bool pair = g + 1 < n_groups;
            multiply(&w, count / STEP, at, pair ? at + group_bytes : at, from == 0, sums[g],
                     pair ? sums[g + 1] : spare);
        }
    }
    for (int64_t g = 0; g < n_groups; g++) {
        float *y = a->y + (first_group + g) * GROUP * a->y_stride + r;
        store_tile(sums[g], y, a->y_stride, n_rows < TILE_ROWS ? n_rows : TILE_ROWS, n_cols - g * GROUP);
        if (n_rows > TILE_ROWS) {
            store_tile(sums[g] + TILE_BYTES / sizeof(float), y + TILE_ROWS, a->y_stride, n_rows - TILE_ROWS,
                       n_cols - g * GROUP);
        }
    }
}

void nano_wide_linear_amx(nano_type type, const nano_linear_args *a) {
    TILE_CONFIGURE();
    for (int64_t c = 0; c < a->n_cols; c += COLUMNS) {
        const int64_t n_cols = a->n_cols - c < COLUMNS ? a->n_cols - c : COLUMNS;
        for (int64_t r = 0; r < a->n_rows; r += ROWS) {
            multiply_block(type, a, r, (int)(a->n_rows - r < ROWS ? a->n_rows - r : ROWS), c / GROUP, n_cols);
        }
    }
    TILE_RELEASE();
}

void nano_wide_pack_amx(const float *x, int64_t x_stride, int64_t n_cols, void *out, int64_t n) {
    for (int64_t k = 0; k < n; k += STEP) {
        __m512i m[GROUP];
        for (int c = 0; c < GROUP; c++) {
            const float *from = x + (c < n_cols ? c : 0) * x_stride + k;
            m[c] = c < n_cols ? to_bf16(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)) : _mm512_setzero_si512();
        }
        transpose(m);
        for (int i = 0; i < 16; i++) {
            _mm512_storeu_si512((uint8_t *)out + k / STEP * TILE_BYTES + TILE_ROW_BYTES * i, m[i]);
        }
    }
}
