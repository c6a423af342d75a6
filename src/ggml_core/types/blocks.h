/*
 * Block layouts of GGUF's quantised types. Bytes only, so a block may lie anywhere; scales are f16, little endian.
 *
 * Blocks of 32: in the 4- and 5-bit types byte i of `q` holds the low four bits of element i (low nibble) and of
 * element i + 16 (high nibble); bit i of `high` is the fifth bit of element i.
 *
 * Super-blocks of 256: parts of 16 or 32 elements have small integer scales (and minima) of their own, times the
 * super-block's d (and dmin). How codes and part scales lie is said at each.
 */
#ifndef NANO_TYPES_BLOCKS_H
#define NANO_TYPES_BLOCKS_H

#include <stdint.h>

enum { NANO_BLOCK = 32, NANO_SUPER = 256 };

typedef struct nano_block_q8_0 { /* x[i] = d * q[i] */
    uint8_t d[2];
    int8_t q[32];
} nano_block_q8_0;

typedef struct nano_block_q4_0 { /* x[i] = d * (q[i] - 8) */
    uint8_t d[2];
    uint8_t q[16];
} nano_block_q4_0;

typedef struct nano_block_q4_1 { /* x[i] = d * q[i] + m */
    uint8_t d[2];
    uint8_t m[2];
    uint8_t q[16];
} nano_block_q4_1;

typedef struct nano_block_q5_0 { /* x[i] = d * (q[i] - 16) */
    uint8_t d[2];
    uint8_t high[4];
    uint8_t q[16];
} nano_block_q5_0;

typedef struct nano_block_q5_1 { /* x[i] = d * q[i] + m */
    uint8_t d[2];
    uint8_t m[2];
    uint8_t high[4];
    uint8_t q[16];
} nano_block_q5_1;

typedef struct nano_block_iq4_nl { /* x[i] = d * value[q[i]], see NANO_IQ4_VALUES */
    uint8_t d[2];
    uint8_t q[16];
} nano_block_iq4_nl;

/* 16 parts of 16, x = d * scale * q - dmin * min. `scale` holds the scale in the low nibble, the min in the high one.
 * Two halves of 128 elements: bits 2 s, 2 s + 1 of q[32 h + i] are element 128 h + 32 s + i. */
typedef struct nano_block_q2_k {
    uint8_t scale[16];
    uint8_t q[64];
    uint8_t d[2];
    uint8_t dmin[2];
} nano_block_q2_k;

/* 16 parts of 16, x = d * (scale - 32) * (q - 4). The low two bits as in Q2_K; bit s of high[i] is the third bit of
 * element 32 s + i. Part k's scale has its low four bits in nibble k / 8 of scale[k % 8] and its high two in bits
 * 2 (k / 4) of scale[8 + k % 4]. */
typedef struct nano_block_q3_k {
    uint8_t high[32];
    uint8_t q[64];
    uint8_t scale[12];
    uint8_t d[2];
} nano_block_q3_k;

/* 8 parts of 32, x = d * scale * q - dmin * min. Byte 32 g + i of q holds element 64 g + i (low nibble) and
 * 64 g + 32 + i. Scales and mins have six bits: of parts k < 4 in bits 0 .. 5 of scale[k] and scale[4 + k]; of parts
 * 4 + k the low four bits in the low (scale) and high (min) nibble of scale[8 + k], the high two bits in bits 6, 7 of
 * scale[k] and scale[4 + k]. */
typedef struct nano_block_q4_k {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scale[12];
    uint8_t q[128];
} nano_block_q4_k;

/* As Q4_K; bit k of high[i] is the fifth bit of element 32 k + i. */
typedef struct nano_block_q5_k {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scale[12];
    uint8_t high[32];
    uint8_t q[128];
} nano_block_q5_k;

/* 16 parts of 16, x = d * scale * (q - 32). In each half of 128 elements, byte 64 h + i of q holds the low four bits
 * of elements i (low nibble) and 64 + i, and bits 2 s, 2 s + 1 of high[32 h + i] the high two of element 32 s + i. */
typedef struct nano_block_q6_k {
    uint8_t q[128];
    uint8_t high[64];
    int8_t scale[16];
    uint8_t d[2];
} nano_block_q6_k;

/* 8 parts of 32, x = d * (scale - 32) * value[q], see NANO_IQ4_VALUES. A part's 16 bytes of q as in the blocks of 32. Part k's
 * scale has its low four bits in nibble k % 2 of scale[k / 2] and its high two in bits 2 k of the 16-bit high. */
typedef struct nano_block_iq4_xs {
    uint8_t d[2];
    uint8_t high[2];
    uint8_t scale[4];
    uint8_t q[128];
} nano_block_iq4_xs;

/* What the 4-bit codes of the IQ4 types stand for. */
#define NANO_IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113

/* The six-bit scale (which 0) or min (1) of part k of Q4_K or Q5_K, from the 12 bytes of `scale`. */
static inline int nano_k_scale(const uint8_t *scale, int which, int k) {
    const uint8_t *first = scale + 4 * which;
    return k < 4 ? first[k] & 63 : ((scale[4 + k] >> (4 * which)) & 15) | ((first[k - 4] >> 6) << 4);
}

/* The six-bit scale of part k of Q3_K, from 12 bytes: -32 .. 31. */
static inline int nano_q3_k_scale(const uint8_t *scale, int k) {
    return (((scale[k % 8] >> (k / 8 * 4)) & 15) | (((scale[8 + k % 4] >> (k / 4 * 2)) & 3) << 4)) - 32;
}

/* The six-bit scale of part k of IQ4_XS: -32 .. 31. */
static inline int nano_iq4_xs_scale(const nano_block_iq4_xs *block, int k) {
    const int low = (block->scale[k / 2] >> (k % 2 * 4)) & 15;
    return (low | (((block->high[k / 4] >> (k % 4 * 2)) & 3) << 4)) - 32;
}

#endif
