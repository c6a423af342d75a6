/*
 * What linear over quantised weights is made of at this level. Products of bytes are added in pairs in 16 bits, which
 * hold one pair of 128 * 127, but two of 63 * 127 and four of 31 * 127. linear_quant.h says what each of these does.
 */
#ifndef NANO_CPU_KERNELS_X86_LANES_AVX2_H
#define NANO_CPU_KERNELS_X86_LANES_AVX2_H

#include "cpu/kernels/x86/lanes_256.h"

enum { V_CHAINS = 1, V_BIAS_8 = 0 };

/* v_dot takes them as they are. */
V_INLINE vi v_flip_i8(vi a) { return a; }

/* The 8-bit weights are made positive, their signs going to x: |w| <= 128 as unsigned, |x| <= 127. */
V_INLINE vi dot_8(const vi *w, const int8_t *x, const int n, vi sum) {
    for (int k = 0; k < n; k++) {
        const __m256i signed_x = _mm256_sign_epi8(_mm256_set1_epi32(load_i32(x + 4 * k)), w[k]);
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w[k]), signed_x);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return sum;
}

V_INLINE vi dot(const vi *w, const int8_t *x, const int n, const int bits, vi sum) {
    if (bits == 8) {
        return dot_8(w, x, n, sum);
    }
    const int together = bits == 6 ? 2 : 4;
    for (int k = 0; k < n; k += together) {
        __m256i pairs = _mm256_maddubs_epi16(w[k], _mm256_set1_epi32(load_i32(x + 4 * k)));
        for (int j = k + 1; j < k + together; j++) {
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w[j], _mm256_set1_epi32(load_i32(x + 4 * j))));
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return sum;
}

V_INLINE void v_dot(const vi *w, const int8_t *const *x, const int n, const int bits, vi *sum, const int tile) {
    for (int c = 0; c < tile; c++) {
        sum[c] = dot(w, x[c], n, bits, sum[c]);
    }
}

#define V_LEVEL(name) name##_avx2

#endif
