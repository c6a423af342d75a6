/* The float vectors of AVX2, FMA and F16C, under names that the loops in *.h share with other levels. */
#ifndef NANO_CPU_KERNELS_X86_VEC_AVX2_H
#define NANO_CPU_KERNELS_X86_VEC_AVX2_H

#include "cpu/kernels/x86/loads.h"

enum { V_LANES = 8 };
typedef __m256 vf;

V_INLINE vf v_zero(void) { return _mm256_setzero_ps(); }
V_INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
V_INLINE vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
V_INLINE vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
V_INLINE vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
V_INLINE vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
V_INLINE vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
V_INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
/* b where either is NaN */
V_INLINE vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
V_INLINE vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
V_INLINE vf v_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

V_INLINE __m256 v_power(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/* a * 2^n; n is integral, -150 .. 130: in two steps, each of which is a normal number */
V_INLINE vf v_times_power(vf a, vf n) {
    const __m256i all = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(all, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, v_power(half)), v_power(_mm256_sub_epi32(all, half)));
}

V_INLINE __m256i v_mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/* The first n lanes of a, then lanes of b. */
V_INLINE vf v_first(vf a, int n, vf b) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(v_mask(n))); }

V_INLINE __m256 v_from_bf16(__m128i a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(a), 16)); }

V_INLINE __m128i v_first_halves(const void *p, int n) {
    int16_t padded[V_LANES] = {0};
    memcpy(padded, p, (size_t)n * sizeof padded[0]);
    return load_128(padded);
}

/* V_LANES numbers as f32; ..._part: the first n, then zeros, touching no more */
V_INLINE vf v_f32(const void *p) { return _mm256_loadu_ps(p); }
V_INLINE vf v_f16(const void *p) { return _mm256_cvtph_ps(load_128(p)); }
V_INLINE vf v_bf16(const void *p) { return v_from_bf16(load_128(p)); }
V_INLINE vf v_f32_part(const void *p, int n) { return _mm256_maskload_ps(p, v_mask(n)); }
V_INLINE vf v_f16_part(const void *p, int n) { return _mm256_cvtph_ps(v_first_halves(p, n)); }
V_INLINE vf v_bf16_part(const void *p, int n) { return v_from_bf16(v_first_halves(p, n)); }

V_INLINE vf v_set_f16(const void *p) { return _mm256_set1_ps(load_f16(p)); }
/* V_LANES signed bytes, or low or high nibbles less `bias`, as f32 */
V_INLINE vf v_i8(const void *p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p))); }
V_INLINE vf v_nibbles(const void *p, int high, int bias) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(nibbles_128(_mm_loadl_epi64(p), high, bias)));
}

V_INLINE void v_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
V_INLINE void v_store_part(float *p, vf a, int n) { _mm256_maskstore_ps(p, v_mask(n), a); }
V_INLINE void v_store_f16_part(void *p, vf a, int n) {
    int16_t halves[V_LANES];
    _mm_storeu_si128((__m128i *)(void *)halves, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    memcpy(p, halves, (size_t)n * sizeof halves[0]);
}

/* Pairs of lanes (x0, x1): (x0, x0), (x1, x1), (x1, x0); and (a0 b0 - c0, a1 b1 + c1). */
V_INLINE vf v_evens(vf a) { return _mm256_moveldup_ps(a); }
V_INLINE vf v_odds(vf a) { return _mm256_movehdup_ps(a); }
V_INLINE vf v_swap_pairs(vf a) { return _mm256_permute_ps(a, 0xb1); }
V_INLINE vf v_fma_subtract_add(vf a, vf b, vf c) { return _mm256_fmaddsub_ps(a, b, c); }
/* The even, or odd, lanes of the 2 * V_LANES of a, b. */
V_INLINE vf v_unzip(vf a, vf b, int odd) {
    const __m256 mixed = odd ? _mm256_shuffle_ps(a, b, 0xdd) : _mm256_shuffle_ps(a, b, 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xd8));
}

/* Four lanes of each of four vectors to one lane: lane 4 k + i is the sum of lanes 4 k .. 4 k + 3 of v[i]. */
V_INLINE vf v_fold_4(const vf *v) {
    const __m256 a = _mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
    const __m256 b = _mm256_add_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
    const __m256d low = _mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b));
    const __m256d high = _mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b));
    return _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
}
/* Folded in halves: always the same order. */
V_INLINE __m128 v_fold(vf v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); }
V_INLINE __m128 v_fold_max(vf v) { return _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); }

#endif
