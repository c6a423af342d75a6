/*
 * What linear over quantised weights is made of at this level: AVX-VNNI's dot of 4 unsigned by 4 signed bytes, which
 * client processors without AVX-512 have. AVX-512 has the same in another encoding: with NANO_VNNI_OF_AVX512 these
 * files become kernels ..._avxvnni_evex, which let kerncheck try the level on machines that have only that.
 */
#ifndef NANO_CPU_KERNELS_X86_LANES_AVXVNNI_H
#define NANO_CPU_KERNELS_X86_LANES_AVXVNNI_H

#include "cpu/kernels/x86/lanes_256.h"

enum { V_CHAINS = V_TILE, V_BIAS_8 = 128 };

/* The codes as unsigned bytes, 128 more. */
V_INLINE vi v_flip_i8(vi a) { return _mm256_xor_si256(a, _mm256_set1_epi8(-128)); }

V_INLINE void v_dot(const vi *w, const int8_t *const *x, const int n, const int bits, vi *sum, const int tile) {
    (void)bits;
    for (int k = 0; k < n; k++) {
        for (int c = 0; c < tile; c++) {
            const __m256i four = _mm256_set1_epi32(load_i32(x[c] + 4 * k));
#if defined(NANO_VNNI_OF_AVX512)
            sum[c] = _mm256_dpbusd_epi32(sum[c], w[k], four);
#else
            sum[c] = _mm256_dpbusd_avx_epi32(sum[c], w[k], four);
#endif
        }
    }
}

#if defined(NANO_VNNI_OF_AVX512)
#  define V_LEVEL(name) name##_avxvnni_evex
#else
#  define V_LEVEL(name) name##_avxvnni
#endif

#endif
