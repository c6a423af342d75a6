/* Activations to A8: a block is two vectors. */
#include <float.h>

#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/loads.h"

V_INLINE __m512i magnitude_bits(__m512 x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

void nano_quantize_a8_avx512(const void *x, void *y, int64_t n) {
    const float *in = x;
    int8_t *q = y;
    float *d = (float *)(void *)(q + n);
    int16_t *sum = (int16_t *)(void *)(d + n / NANO_A8_BLOCK);
    for (int64_t b = 0; b < n / NANO_A8_BLOCK; b++, in += NANO_A8_BLOCK, q += NANO_A8_BLOCK, sum += 2) {
        const __m512 low = _mm512_loadu_ps(in);
        const __m512 high = _mm512_loadu_ps(in + 16);
        /* as integers, magnitudes are in order: infinity and NaN last */
        const int bits = _mm512_reduce_max_epi32(_mm512_max_epi32(magnitude_bits(low), magnitude_bits(high)));
        const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
        if (!(largest >= NANO_A8_TINY && largest <= FLT_MAX)) {
            memset(q, 0, NANO_A8_BLOCK);
            sum[0] = sum[1] = 0;
            d[b] = largest < NANO_A8_TINY ? 0.0f : largest / 127.0f;
            continue;
        }
        const __m512 inverse = _mm512_set1_ps(127.0f / largest);
        const __m512i q_low = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
        const __m512i q_high = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
        _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtepi32_epi8(q_low));
        _mm_storeu_si128((__m128i *)(void *)(q + 16), _mm512_cvtepi32_epi8(q_high));
        sum[0] = (int16_t)_mm512_reduce_add_epi32(q_low);
        sum[1] = (int16_t)_mm512_reduce_add_epi32(q_high);
        d[b] = largest / 127.0f;
    }
}
