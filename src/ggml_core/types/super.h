/*
 * Quantising super-blocks of 256 elements: each part's scale (and min) is found alone, then the step that turns these
 * into small integers, then the codes under what the integers say, then d and dmin once more for these codes by least
 * squares.
 */
#ifndef NANO_TYPES_SUPER_H
#define NANO_TYPES_SUPER_H

#include "types/blocks.h"
#include "types/search.h"

enum { NANO_SUPER_PARTS = 16 };

/* What a super-block holds, before packing. */
typedef struct nano_super {
    float d; /* these two as the f16 they are stored in */
    float dmin;
    int scale[NANO_SUPER_PARTS];
    int min[NANO_SUPER_PARTS];
    uint8_t code[NANO_SUPER]; /* from 0 */
} nano_super;

/* x, importance (or NULL): 256 elements; n: elements of a part, 16 or 32. */

/* x = d * scale * q, the scales integers scale_lowest .. scale_highest. */
void nano_super_scaled(const float *x, const float *importance, int n, const nano_grid *grid, int scale_lowest,
                       int scale_highest, nano_super *out);
/* x = d * scale * q - dmin * min, scales and mins 0 .. scale_highest. */
void nano_super_ranged(const float *x, const float *importance, int n, const nano_grid *grid, int scale_highest,
                       nano_super *out);

/* Up to eight blocks of 32 with scales of their own. */
typedef struct nano_blocks {
    int n;               /* blocks */
    float d[NANO_LANES]; /* as the f16 they are stored in */
    float m[NANO_LANES];
    uint8_t code[NANO_LANES * NANO_BLOCK]; /* from 0 */
} nano_blocks;

/* The first of n elements, at most eight blocks: x = d * q, or x = d * q - m. */
void nano_blocks_scaled(const float *x, const float *importance, int64_t n, const nano_grid *grid, nano_blocks *out);
void nano_blocks_ranged(const float *x, const float *importance, int64_t n, const nano_grid *grid, nano_blocks *out);

#endif
