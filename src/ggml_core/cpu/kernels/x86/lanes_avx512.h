/*
 * What linear over quantised weights is made of at this level: 16 rows side by side, one in each 32-bit lane, and
 * VNNI's dot of 4 unsigned by 4 signed bytes. linear_quant.h says what each of these does.
 */
#ifndef NANO_CPU_KERNELS_X86_LANES_AVX512_H
#define NANO_CPU_KERNELS_X86_LANES_AVX512_H

#include "cpu/kernels/x86/loads.h"

enum { V_ROWS = 16, V_TILE = 8, V_CHAINS = 8, V_CHUNK = 16, V_GROUPS = 4, V_BIAS_8 = 128 };
typedef __m512i vi;
typedef __m512 vf;

V_INLINE vi v_set(int32_t x) { return _mm512_set1_epi32(x); }
V_INLINE vf v_set_f(float x) { return _mm512_set1_ps(x); }
V_INLINE vi v_and(vi a, vi b) { return _mm512_and_si512(a, b); }
V_INLINE vi v_shift_right(vi a, unsigned n) { return _mm512_srli_epi32(a, n); }
V_INLINE vi v_shift_left(vi a, unsigned n) { return _mm512_slli_epi32(a, n); }
V_INLINE vi v_or(vi a, vi b) { return _mm512_or_si512(a, b); }
V_INLINE vi v_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
V_INLINE vi v_signed_byte(vi a, unsigned k) { return _mm512_srai_epi32(_mm512_slli_epi32(a, 24 - 8 * k), 24); }
V_INLINE vi v_lookup(const int8_t *table, vi a) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load_128(table)), a);
}
V_INLINE vf v_sub_f(vf a, vf b) { return _mm512_sub_ps(a, b); }
V_INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
V_INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
V_INLINE vf v_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
V_INLINE __mmask16 first(int n) { return (__mmask16)((1u << n) - 1); }
V_INLINE vf v_load(const float *p, int n_lanes) { return _mm512_maskz_loadu_ps(first(n_lanes), p); }
V_INLINE void v_store(float *p, int n_lanes, vf x) { _mm512_mask_storeu_ps(p, first(n_lanes), x); }

V_INLINE vf v_f16(vi a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }
/* The codes as unsigned bytes, 128 more. */
V_INLINE vi v_flip_i8(vi a) { return _mm512_xor_si512(a, _mm512_set1_epi8(-128)); }

V_INLINE __m512i join(__m128i a, __m128i b, __m128i c, __m128i d) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(join_128(a, b)), join_128(c, d), 1);
}

V_INLINE vi v_gather_u32(const uint8_t *const *rows, size_t offset) {
    return join(gather_4_i32(rows, offset), gather_4_i32(rows + 4, offset), gather_4_i32(rows + 8, offset),
                gather_4_i32(rows + 12, offset));
}

V_INLINE vf v_gather_f16(const uint8_t *const *rows, size_t offset) {
    return _mm512_cvtph_ps(join_128(gather_8_i16(rows, offset), gather_8_i16(rows + 8, offset)));
}

V_INLINE void v_gather_transposed(const uint8_t *const *rows, size_t offset, vi *out) {
    __m512i in[4]; /* in[i]: rows i, i + 4, i + 8, i + 12 */
    for (int i = 0; i < 4; i++) {
        in[i] = join(load_128(rows[i] + offset), load_128(rows[i + 4] + offset), load_128(rows[i + 8] + offset),
                     load_128(rows[i + 12] + offset));
    }
    const __m512i a = _mm512_unpacklo_epi32(in[0], in[1]);
    const __m512i b = _mm512_unpackhi_epi32(in[0], in[1]);
    const __m512i c = _mm512_unpacklo_epi32(in[2], in[3]);
    const __m512i d = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

V_INLINE void v_add_high_bits(vi high, vi *q) {
    const __m512i even = _mm512_set1_epi32(0x08040201);
    const __m512i odd = _mm512_set1_epi32((int)0x80402010u);
    for (int byte = 0; byte < 4; byte++) {
        /* that byte of every lane, four times */
        const __m512i spread = _mm512_shuffle_epi8(
            high, _mm512_broadcast_i32x4(_mm_setr_epi32(0x01010101 * byte, 0x01010101 * (byte + 4),
                                                        0x01010101 * (byte + 8), 0x01010101 * (byte + 12))));
        q[2 * byte] =
            _mm512_mask_add_epi8(q[2 * byte], _mm512_test_epi8_mask(spread, even), q[2 * byte], _mm512_set1_epi8(16));
        q[2 * byte + 1] = _mm512_mask_add_epi8(q[2 * byte + 1], _mm512_test_epi8_mask(spread, odd), q[2 * byte + 1],
                                               _mm512_set1_epi8(16));
    }
}

V_INLINE void v_dot(const vi *w, const int8_t *const *x, const int n, const int bits, vi *sum, const int tile) {
    (void)bits;
    for (int k = 0; k < n; k++) {
        for (int c = 0; c < tile; c++) {
            sum[c] = _mm512_dpbusd_epi32(sum[c], w[k], _mm512_set1_epi32(load_i32(x[c] + 4 * k)));
        }
    }
}

#define V_LEVEL(name) name##_avx512

#endif
