/* Blocks of 32: layouts, and their integers as signed bytes. */
#ifndef NANO_CPU_KERNELS_ARM_DECODE_QUANT_ARM_H
#define NANO_CPU_KERNELS_ARM_DECODE_QUANT_ARM_H

#include "cpu/kernels/arm/rows_arm.h"

NANO_INLINE size_t nano_quant_bytes(nano_type type) {
    return type == NANO_TYPE_Q4_0     ? sizeof(nano_block_q4_0)
           : type == NANO_TYPE_Q4_1   ? sizeof(nano_block_q4_1)
           : type == NANO_TYPE_Q5_0   ? sizeof(nano_block_q5_0)
           : type == NANO_TYPE_Q5_1   ? sizeof(nano_block_q5_1)
           : type == NANO_TYPE_IQ4_NL ? sizeof(nano_block_iq4_nl)
                                      : sizeof(nano_block_q8_0);
}

NANO_INLINE int nano_quant_has_min(nano_type type) { return type == NANO_TYPE_Q4_1 || type == NANO_TYPE_Q5_1; }

/* Decoded integers minus this are the type's: taken off the block sum by way of A8's sums. */
NANO_INLINE int32_t nano_quant_offset(nano_type type) {
    return type == NANO_TYPE_Q4_0 ? 8 : type == NANO_TYPE_Q5_1 ? -16 : 0;
}

/* All ones in byte i where bit i % 8 of byte i is set. */
NANO_INLINE uint8x16_t nano_spread_bits(uint8x16_t x) {
    return vtstq_u8(x, vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201))));
}

/* The integers of one block: signed bytes of Q8_0 and IQ4_NL, 0..15 of the 4-bit types, -16..15 of the 5-bit types,
 * where upper bits of ones stand for a fifth bit of zero. */
NANO_INLINE void nano_decode(nano_type type, const uint8_t *block, int8x16_t *lo, int8x16_t *hi) {
    if (type == NANO_TYPE_Q8_0) {
        const uint8_t *q = block + offsetof(nano_block_q8_0, q);
        *lo = vreinterpretq_s8_u8(vld1q_u8(q));
        *hi = vreinterpretq_s8_u8(vld1q_u8(q + 16));
        return;
    }
    /* In all of them the nibbles end the block, after the fifth bits. */
    const uint8_t *q = block + nano_quant_bytes(type) - 16;
    const uint8x16_t packed = vld1q_u8(q);
    if (type == NANO_TYPE_IQ4_NL) {
        *lo = nano_iq4_values(nano_low_nibbles(packed));
        *hi = nano_iq4_values(vshrq_n_u8(packed, 4));
        return;
    }
    if (type == NANO_TYPE_Q4_0 || type == NANO_TYPE_Q4_1) {
        *lo = vreinterpretq_s8_u8(nano_low_nibbles(packed));
        *hi = vreinterpretq_s8_u8(vshrq_n_u8(packed, 4));
        return;
    }
    const uint8x16_t first = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
    const uint8x16_t second = vcombine_u8(vdup_n_u8(2), vdup_n_u8(3));
    uint32_t fifth;
    memcpy(&fifth, q - sizeof fifth, sizeof fifth);
    const uint8x16_t zeros = vreinterpretq_u8_u32(vdupq_n_u32(~fifth));
    *lo = vreinterpretq_s8_u8(vsliq_n_u8(packed, nano_spread_bits(vqtbl1q_u8(zeros, first)), 4));
    *hi = vreinterpretq_s8_u8(vsriq_n_u8(nano_spread_bits(vqtbl1q_u8(zeros, second)), packed, 4));
}

#endif
