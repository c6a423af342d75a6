/*
 * What linear over quantised weights is made of with 256 bits: 8 rows side by side, one in each 32-bit lane. All but
 * the products of bytes, which lanes_avx2.h and lanes_avxvnni.h have. linear_quant.h says what each of these does.
 */
#ifndef NANO_CPU_KERNELS_X86_LANES_256_H
#define NANO_CPU_KERNELS_X86_LANES_256_H

#include "cpu/kernels/x86/loads.h"

enum { V_ROWS = 8, V_TILE = 4, V_CHUNK = 32, V_GROUPS = 8 };
typedef __m256i vi;
typedef __m256 vf;

V_INLINE vi v_set(int32_t x) { return _mm256_set1_epi32(x); }
V_INLINE vf v_set_f(float x) { return _mm256_set1_ps(x); }
V_INLINE vi v_and(vi a, vi b) { return _mm256_and_si256(a, b); }
V_INLINE vi v_shift_right(vi a, int n) { return _mm256_srli_epi32(a, n); }
V_INLINE vi v_shift_left(vi a, int n) { return _mm256_slli_epi32(a, n); }
V_INLINE vi v_or(vi a, vi b) { return _mm256_or_si256(a, b); }
V_INLINE vi v_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
V_INLINE vi v_signed_byte(vi a, int k) { return _mm256_srai_epi32(_mm256_slli_epi32(a, 24 - 8 * k), 24); }
V_INLINE vi v_lookup(const int8_t *table, vi a) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_128(table)), a);
}
V_INLINE vf v_sub_f(vf a, vf b) { return _mm256_sub_ps(a, b); }
V_INLINE vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
V_INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
V_INLINE vf v_to_float(vi a) { return _mm256_cvtepi32_ps(a); }

V_INLINE __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V_INLINE vf v_load(const float *p, int n_lanes) { return _mm256_maskload_ps(p, first(n_lanes)); }
V_INLINE void v_store(float *p, int n_lanes, vf x) { _mm256_maskstore_ps(p, first(n_lanes), x); }

V_INLINE vf v_f16(vi a) {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, a), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

V_INLINE vi v_gather_u32(const uint8_t *const *rows, size_t offset) {
    return join_128(gather_4_i32(rows, offset), gather_4_i32(rows + 4, offset));
}

V_INLINE vf v_gather_f16(const uint8_t *const *rows, size_t offset) {
    return _mm256_cvtph_ps(gather_8_i16(rows, offset));
}

V_INLINE void v_gather_transposed(const uint8_t *const *rows, size_t offset, vi *out) {
    __m256i in[4]; /* in[i]: rows i, i + 4 */
    for (int i = 0; i < 4; i++) {
        in[i] = join_128(load_128(rows[i] + offset), load_128(rows[i + 4] + offset));
    }
    const __m256i a = _mm256_unpacklo_epi32(in[0], in[1]);
    const __m256i b = _mm256_unpackhi_epi32(in[0], in[1]);
    const __m256i c = _mm256_unpacklo_epi32(in[2], in[3]);
    const __m256i d = _mm256_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[1] = _mm256_unpackhi_epi64(a, c);
    out[2] = _mm256_unpacklo_epi64(b, d);
    out[3] = _mm256_unpackhi_epi64(b, d);
}

/* 16 in the bytes where a bit of `select` is set. */
V_INLINE __m256i sixteen_where(__m256i bits, __m256i select) {
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bits, select), select), _mm256_set1_epi8(16));
}

V_INLINE void v_add_high_bits(vi high, vi *q) {
    const __m256i even = _mm256_set1_epi32(0x08040201);
    const __m256i odd = _mm256_set1_epi32((int)0x80402010u);
    for (int byte = 0; byte < 4; byte++) {
        /* that byte of every lane, four times */
        const __m256i spread = _mm256_shuffle_epi8(
            high, _mm256_broadcastsi128_si256(_mm_setr_epi32(0x01010101 * byte, 0x01010101 * (byte + 4),
                                                             0x01010101 * (byte + 8), 0x01010101 * (byte + 12))));
        q[2 * byte] = _mm256_or_si256(q[2 * byte], sixteen_where(spread, even));
        q[2 * byte + 1] = _mm256_or_si256(q[2 * byte + 1], sixteen_where(spread, odd));
    }
}

#endif
