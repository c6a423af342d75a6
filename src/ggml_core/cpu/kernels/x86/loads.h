/* Unaligned loads that the x86 files share. */
#ifndef NANO_CPU_KERNELS_X86_LOADS_H
#define NANO_CPU_KERNELS_X86_LOADS_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* Tiles are constants of the callers: only inlined code keeps them in registers. */
#define V_INLINE static inline __attribute__((always_inline))

V_INLINE int32_t load_i32(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

V_INLINE short load_i16(const void *p) {
    short x;
    memcpy(&x, p, sizeof x);
    return x;
}

V_INLINE __m128i load_128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Nibbles of 16 bytes, the low or the high ones, less `bias`. */
V_INLINE __m128i nibbles_128(__m128i bytes, int high, int bias) {
    const __m128i codes = _mm_and_si128(high ? _mm_srli_epi16(bytes, 4) : bytes, _mm_set1_epi8(15));
    return _mm_sub_epi8(codes, _mm_set1_epi8((char)bias));
}

V_INLINE float load_f16(const void *p) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128((unsigned short)load_i16(p))));
}

/* The lines of n bytes that are wanted later, to the second-level cache: 16 rows side by side do not stay in the first,
 * and a few lines at a time, for a burst of them makes the core wait. Any address will do. */
V_INLINE void prefetch(const uint8_t *p, int64_t n) {
    for (int64_t i = 0; i < n; i += 64) {
        _mm_prefetch((const char *)(p + i), _MM_HINT_T1);
    }
}

V_INLINE __m256i join_128(__m128i low, __m128i high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* What lies at rows[i] + offset, i < 4 or 8. */
V_INLINE __m128i gather_4_i32(const uint8_t *const *rows, size_t offset) {
    return _mm_setr_epi32(load_i32(rows[0] + offset), load_i32(rows[1] + offset), load_i32(rows[2] + offset),
                          load_i32(rows[3] + offset));
}

V_INLINE __m128i gather_8_i16(const uint8_t *const *rows, size_t offset) {
    return _mm_setr_epi16(load_i16(rows[0] + offset), load_i16(rows[1] + offset), load_i16(rows[2] + offset),
                          load_i16(rows[3] + offset), load_i16(rows[4] + offset), load_i16(rows[5] + offset),
                          load_i16(rows[6] + offset), load_i16(rows[7] + offset));
}

#endif
