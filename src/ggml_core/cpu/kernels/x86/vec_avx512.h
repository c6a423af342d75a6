/* The float vectors of AVX-512, under names that the loops in *.h share with other levels. */
#ifndef NANO_CPU_KERNELS_X86_VEC_AVX512_H
#define NANO_CPU_KERNELS_X86_VEC_AVX512_H

#include "cpu/kernels/x86/loads.h"

enum { V_LANES = 16 };
typedef __m512 vf;

V_INLINE vf v_zero(void) { return _mm512_setzero_ps(); }
V_INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
V_INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
V_INLINE vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
V_INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
V_INLINE vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
V_INLINE vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
V_INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
/* b where either is NaN */
V_INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
V_INLINE vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
V_INLINE vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* a * 2^n; n is integral, -150 .. 130 */
V_INLINE vf v_times_power(vf a, vf n) { return _mm512_scalef_ps(a, n); }

V_INLINE __mmask16 v_mask(int n) { return (__mmask16)((1u << n) - 1); }
/* The first n lanes of a, then lanes of b. */
V_INLINE vf v_first(vf a, int n, vf b) { return _mm512_mask_blend_ps(v_mask(n), b, a); }

V_INLINE __m512 v_from_bf16(__m256i a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(a), 16)); }

/* V_LANES numbers as f32; ..._part: the first n, then zeros, touching no more */
V_INLINE vf v_f32(const void *p) { return _mm512_loadu_ps(p); }
V_INLINE vf v_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
V_INLINE vf v_bf16(const void *p) { return v_from_bf16(_mm256_loadu_si256(p)); }
V_INLINE vf v_f32_part(const void *p, int n) { return _mm512_maskz_loadu_ps(v_mask(n), p); }
V_INLINE vf v_f16_part(const void *p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_mask(n), p)); }
V_INLINE vf v_bf16_part(const void *p, int n) { return v_from_bf16(_mm256_maskz_loadu_epi16(v_mask(n), p)); }

V_INLINE vf v_set_f16(const void *p) { return _mm512_set1_ps(load_f16(p)); }
/* V_LANES signed bytes, or low or high nibbles less `bias`, as f32 */
V_INLINE vf v_i8(const void *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_128(p))); }
V_INLINE vf v_nibbles(const void *p, int high, int bias) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(nibbles_128(load_128(p), high, bias)));
}

V_INLINE void v_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
V_INLINE void v_store_part(float *p, vf a, int n) { _mm512_mask_storeu_ps(p, v_mask(n), a); }
V_INLINE void v_store_f16_part(void *p, vf a, int n) {
    _mm256_mask_storeu_epi16(p, v_mask(n), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Pairs of lanes (x0, x1): (x0, x0), (x1, x1), (x1, x0); and (a0 b0 - c0, a1 b1 + c1). */
V_INLINE vf v_evens(vf a) { return _mm512_moveldup_ps(a); }
V_INLINE vf v_odds(vf a) { return _mm512_movehdup_ps(a); }
V_INLINE vf v_swap_pairs(vf a) { return _mm512_permute_ps(a, 0xb1); }
V_INLINE vf v_fma_subtract_add(vf a, vf b, vf c) { return _mm512_fmaddsub_ps(a, b, c); }
/* The even, or odd, lanes of the 2 * V_LANES of a, b. */
V_INLINE vf v_unzip(vf a, vf b, int odd) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, _mm512_add_epi32(even, _mm512_set1_epi32(odd)), b);
}

/* Four lanes of each of four vectors to one lane: lane 4 k + i is the sum of lanes 4 k .. 4 k + 3 of v[i]. */
V_INLINE vf v_fold_4(const vf *v) {
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b));
    const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}
/* Folded in halves: always the same order. */
V_INLINE __m128 v_fold(vf v) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

V_INLINE __m128 v_fold_max(vf v) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

#endif
