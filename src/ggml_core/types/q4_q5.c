/*
 * Q4_0, Q4_1, Q5_0, Q5_1. The _0 types are symmetric: the element of largest magnitude becomes the lowest code
 * exactly (-8 or -16 times the scale). The _1 types spread the codes from the block's least element to its largest.
 */
#include <math.h>

#include "types/blocks.h"
#include "types/f16.h"
#include "types/super.h"
#include "types/types.h"

/* floor(x) for 0 <= x < top + 1, else the nearer end; NaN gives 0. */
static uint8_t to_code(float x, uint8_t top) {
    if (!(x > 0.0f)) {
        return 0;
    }
    return x < (float)top ? (uint8_t)x : top;
}

/* Codes 0 .. top of a block, where code stands for (code - lowest) times the scale, which is returned. */
static float symmetric(const float *x, float lowest, uint8_t top, uint8_t *code) {
    float largest = x[0];
    for (int i = 0; i < NANO_BLOCK; i++) {
        if (fabsf(x[i]) > fabsf(largest)) {
            largest = x[i];
        }
    }
    const float d = largest / -lowest;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    for (int i = 0; i < NANO_BLOCK; i++) {
        code[i] = to_code(x[i] * inverse + (lowest + 0.5f), top);
    }
    return d;
}

/* Codes 0 .. top over the block's range, whose least element goes to *least. */
static float ranged(const float *x, uint8_t top, uint8_t *code, float *least) {
    float lo = x[0];
    float hi = x[0];
    for (int i = 1; i < NANO_BLOCK; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    const float d = (hi - lo) / (float)top;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    for (int i = 0; i < NANO_BLOCK; i++) {
        code[i] = to_code((x[i] - lo) * inverse + 0.5f, top);
    }
    *least = lo;
    return d;
}

static void pack_low(const uint8_t *code, uint8_t *q) {
    for (int i = 0; i < 16; i++) {
        q[i] = (uint8_t)((code[i] & 15) | ((code[i + 16] & 15) << 4));
    }
}

static void pack_high(const uint8_t *code, uint8_t *high) {
    memset(high, 0, 4);
    for (int i = 0; i < NANO_BLOCK; i++) {
        high[i / 8] = (uint8_t)(high[i / 8] | ((code[i] >> 4) << (i % 8)));
    }
}

static void unpack_low(const uint8_t *q, uint8_t *code) {
    for (int i = 0; i < 16; i++) {
        code[i] = q[i] & 15;
        code[i + 16] = q[i] >> 4;
    }
}

static void unpack_high(const uint8_t *high, uint8_t *code) {
    for (int i = 0; i < NANO_BLOCK; i++) {
        code[i] = (uint8_t)(code[i] | (((high[i / 8] >> (i % 8)) & 1) << 4));
    }
}

/* y[i] = d * (code[i] - offset) + m, the difference taken in integers. */
static void expand(const uint8_t *code, float d, int offset, float m, float *y) {
    for (int i = 0; i < NANO_BLOCK; i++) {
        y[i] = d * (float)(code[i] - offset) + m;
    }
}

void nano_q4_0_from_float(const float *x, void *y, int64_t n) {
    nano_block_q4_0 *block = y;
    uint8_t code[NANO_BLOCK];
    for (const float *end = x + n; x < end; x += NANO_BLOCK, block++) {
        nano_store_f16(block->d, symmetric(x, 8.0f, 15, code));
        pack_low(code, block->q);
    }
}

void nano_q4_0_to_float(const void *x, float *y, int64_t n) {
    const nano_block_q4_0 *block = x;
    uint8_t code[NANO_BLOCK];
    for (const float *end = y + n; y < end; y += NANO_BLOCK, block++) {
        unpack_low(block->q, code);
        expand(code, nano_load_f16(block->d), 8, -0.0f, y);
    }
}

void nano_q4_1_from_float(const float *x, void *y, int64_t n) {
    nano_block_q4_1 *block = y;
    uint8_t code[NANO_BLOCK];
    float least = 0.0f;
    for (const float *end = x + n; x < end; x += NANO_BLOCK, block++) {
        nano_store_f16(block->d, ranged(x, 15, code, &least));
        nano_store_f16(block->m, least);
        pack_low(code, block->q);
    }
}

void nano_q4_1_to_float(const void *x, float *y, int64_t n) {
    const nano_block_q4_1 *block = x;
    uint8_t code[NANO_BLOCK];
    for (const float *end = y + n; y < end; y += NANO_BLOCK, block++) {
        unpack_low(block->q, code);
        expand(code, nano_load_f16(block->d), 0, nano_load_f16(block->m), y);
    }
}

void nano_q5_0_from_float(const float *x, void *y, int64_t n) {
    nano_block_q5_0 *block = y;
    uint8_t code[NANO_BLOCK];
    for (const float *end = x + n; x < end; x += NANO_BLOCK, block++) {
        nano_store_f16(block->d, symmetric(x, 16.0f, 31, code));
        pack_low(code, block->q);
        pack_high(code, block->high);
    }
}

void nano_q5_0_to_float(const void *x, float *y, int64_t n) {
    const nano_block_q5_0 *block = x;
    uint8_t code[NANO_BLOCK];
    for (const float *end = y + n; y < end; y += NANO_BLOCK, block++) {
        unpack_low(block->q, code);
        unpack_high(block->high, code);
        expand(code, nano_load_f16(block->d), 16, -0.0f, y);
    }
}

void nano_q5_1_from_float(const float *x, void *y, int64_t n) {
    nano_block_q5_1 *block = y;
    uint8_t code[NANO_BLOCK];
    float least = 0.0f;
    for (const float *end = x + n; x < end; x += NANO_BLOCK, block++) {
        nano_store_f16(block->d, ranged(x, 31, code, &least));
        nano_store_f16(block->m, least);
        pack_low(code, block->q);
        pack_high(code, block->high);
    }
}

void nano_q5_1_to_float(const void *x, float *y, int64_t n) {
    const nano_block_q5_1 *block = x;
    uint8_t code[NANO_BLOCK];
    for (const float *end = y + n; y < end; y += NANO_BLOCK, block++) {
        unpack_low(block->q, code);
        unpack_high(block->high, code);
        expand(code, nano_load_f16(block->d), 0, nano_load_f16(block->m), y);
    }
}

/* ------------------------------------------------------------- searching */

#define WEIGHTED(name, search, ...)                                                                       \
    void nano_##name##_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) { \
        static const nano_grid grid = __VA_ARGS__;                                                        \
        nano_block_##name *block = y;                                                                     \
        nano_blocks blocks;                                                                               \
        for (int64_t i = 0; i < n; i += blocks.n * NANO_BLOCK) {                                          \
            search(x + i, importance != NULL ? importance + i : NULL, n - i, &grid, &blocks);             \
            for (int k = 0; k < blocks.n; k++, block++) {                                                 \
                store_##name(&blocks, k, block);                                                          \
            }                                                                                             \
        }                                                                                                 \
    }

static void store_q4_0(const nano_blocks *b, int k, nano_block_q4_0 *block) {
    nano_store_f16(block->d, b->d[k]);
    pack_low(b->code + k * NANO_BLOCK, block->q);
}

static void store_q4_1(const nano_blocks *b, int k, nano_block_q4_1 *block) {
    nano_store_f16(block->d, b->d[k]);
    nano_store_f16(block->m, -b->m[k]);
    pack_low(b->code + k * NANO_BLOCK, block->q);
}

static void store_q5_0(const nano_blocks *b, int k, nano_block_q5_0 *block) {
    nano_store_f16(block->d, b->d[k]);
    pack_low(b->code + k * NANO_BLOCK, block->q);
    pack_high(b->code + k * NANO_BLOCK, block->high);
}

static void store_q5_1(const nano_blocks *b, int k, nano_block_q5_1 *block) {
    nano_store_f16(block->d, b->d[k]);
    nano_store_f16(block->m, -b->m[k]);
    pack_low(b->code + k * NANO_BLOCK, block->q);
    pack_high(b->code + k * NANO_BLOCK, block->high);
}

WEIGHTED(q4_0, nano_blocks_scaled, {-8.0f, 7.0f, -6.6f, -9.0f, 12, NULL})
WEIGHTED(q4_1, nano_blocks_ranged, {0.0f, 15.0f, 13.3f, 17.0f, 14, NULL})
WEIGHTED(q5_0, nano_blocks_scaled, {-16.0f, 15.0f, -14.0f, -17.5f, 12, NULL})
WEIGHTED(q5_1, nano_blocks_ranged, {0.0f, 31.0f, 29.0f, 33.5f, 14, NULL})
