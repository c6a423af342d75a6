/*
 * Block layouts of GGUF's quantised types, all of 32 elements. Bytes only, so a block may lie anywhere;
 * scales are f16, little endian. In the 4- and 5-bit types byte i of `q` holds the low four bits of element i
 * (low nibble) and of element i + 16 (high nibble); bit i of `high` is the fifth bit of element i.
 */
#ifndef NANO_TYPES_BLOCKS_H
#define NANO_TYPES_BLOCKS_H

#include <stdint.h>

enum { NANO_BLOCK = 32 };

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

#endif
