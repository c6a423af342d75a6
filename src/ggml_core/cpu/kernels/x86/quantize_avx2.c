/* Activations to A8: a block is four vectors. */
#include <float.h>

#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/loads.h"

/* The sum, or with `largest` the maximum, of the lanes. */
V_INLINE int32_t reduce(__m256i v, const int largest) {
    __m128i a = _mm256_castsi256_si128(v);
    __m128i b = _mm256_extracti128_si256(v, 1);
    for (int step = 0; step < 3; step++) {
        a = largest ? _mm_max_epi32(a, b) : _mm_add_epi32(a, b);
        b = step == 0 ? _mm_shuffle_epi32(a, 0x4e) : _mm_shuffle_epi32(a, 0xb1);
    }
    return _mm_cvtsi128_si32(a);
}

void nano_quantize_a8_avx2(const void *x, void *y, int64_t n) {
    const float *in = x;
    int8_t *q = y;
    float *d = (float *)(void *)(q + n);
    int16_t *sum = (int16_t *)(void *)(d + n / NANO_A8_BLOCK);
    for (int64_t b = 0; b < n / NANO_A8_BLOCK; b++, in += NANO_A8_BLOCK, q += NANO_A8_BLOCK, sum += 2) {
        __m256 v[4];
        __m256i codes[4];
        __m256i bits = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(in + 8 * i);
            /* as integers, magnitudes are in order: infinity and NaN last */
            const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7fffffff));
            bits = _mm256_max_epi32(bits, magnitude);
        }
        const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(reduce(bits, 1))));
        if (!(largest >= NANO_A8_TINY && largest <= FLT_MAX)) {
            memset(q, 0, NANO_A8_BLOCK);
            sum[0] = sum[1] = 0;
            d[b] = largest < NANO_A8_TINY ? 0.0f : largest / 127.0f;
            continue;
        }
        const __m256 inverse = _mm256_set1_ps(127.0f / largest);
        for (int i = 0; i < 4; i++) {
            codes[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
        }
        /* packing works on 128-bit halves: the dwords come out in the order 0 2 4 6 1 3 5 7 */
        const __m256i packed =
            _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((__m256i *)(void *)q, _mm256_permutevar8x32_epi32(packed, order));
        sum[0] = (int16_t)reduce(_mm256_add_epi32(codes[0], codes[1]), 0);
        sum[1] = (int16_t)reduce(_mm256_add_epi32(codes[2], codes[3]), 0);
        d[b] = largest / 127.0f;
    }
}
