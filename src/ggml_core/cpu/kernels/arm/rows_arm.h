/*
 * What the integer linears of both levels share: four rows of weights and the numbers that go with them, a row a
 * lane. The level that includes a linear_*_arm.h has before it its dot_<level>.h, with NANO_TILE_COLS (how many
 * columns its registers hold: 8 or 4) and
 *
 *   nano_prepare     turns the rows once a block into what the others want for so many columns;
 *   nano_dot         start + the dot products of four rows of 32 small integers with one block of A8;
 *   nano_dot_halves  the same of either half of the block, times its scale. Weights are -32 .. 31.
 */
#ifndef NANO_CPU_KERNELS_ARM_ROWS_ARM_H
#define NANO_CPU_KERNELS_ARM_ROWS_ARM_H

#include "cpu/kernels/arm/common_arm.h"
#include "types/blocks.h"
#include "types/f16.h"

/* One block of each of four rows: elements 0..15 in lo[row], 16..31 in hi[row]. */
typedef struct nano_rows4 {
    int8x16_t lo[4];
    int8x16_t hi[4];
} nano_rows4;

/* The half-precision numbers at the four addresses; put together in a general register, off the vector pipes. */
NANO_INLINE float32x4_t nano_gather_f16(const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, const uint8_t *p3) {
    const uint64_t bits = (uint64_t)nano_load_u16(p0) | (uint64_t)nano_load_u16(p1) << 16 |
                          (uint64_t)nano_load_u16(p2) << 32 | (uint64_t)nano_load_u16(p3) << 48;
    return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(bits)));
}

NANO_INLINE uint8x16_t nano_low_nibbles(uint8x16_t x) { return vandq_u8(x, vdupq_n_u8(15)); }

/* What sixteen codes of the IQ4 types stand for. */
NANO_INLINE int8x16_t nano_iq4_values(uint8x16_t codes) {
    static const int8_t values[16] = {NANO_IQ4_VALUES};
    return vqtbl1q_s8(vld1q_s8(values), codes);
}

#endif
