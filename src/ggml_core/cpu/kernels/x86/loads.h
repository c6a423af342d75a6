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
