/*
 * The type table: a row a type in types.inc, from which the enumerators, sizes, names and reference functions
 * are derived.
 */
#ifndef NANO_TYPES_TYPES_H
#define NANO_TYPES_TYPES_H

#include "base/error.h"

/* NANO_TYPE_F32 ... by GGUF's numbers, and NANO_TYPE_A8 beyond them. */
enum {
#define NANO_TYPE(NAME, name, id, block, bytes, activation) NANO_TYPE_##NAME = id,
#define NANO_TYPE_SIZE_ONLY(NAME, id, block, bytes) NANO_TYPE_##NAME = id,
#include "types/types.inc"
#undef NANO_TYPE
#undef NANO_TYPE_SIZE_ONLY
    /* Activations quantised for integer dots; never in a file. A row of n elements (n a multiple of 32) is
     *   int8_t q[n];          x[i] ~ d[i / 32] * q[i], |q| <= 127: x[i] * (127 / m) rounded to nearest even
     *   float d[n / 32];      m / 127, m being the largest |x| of the block
     *   int16_t sum[n / 16];  sum of each half block's q: many weight types have a scale or a minimum for 16 elements
     * each part following the one before without padding: 40 bytes a block. Where m < NANO_A8_TINY, d and q
     * are 0; where an x is infinite or NaN, q is 0 and d is not finite, so that the damage stays visible.
     * Types with super-blocks of 256 use it, too: their parts of 16 or 32 never straddle its blocks, and a scale for
     * 32 activations is closer than one for 256. */
    NANO_TYPE_A8 = 1000
};

enum { NANO_A8_BLOCK = 32 };
#define NANO_A8_TINY 1e-30f

static inline const int8_t *nano_a8_q(const void *row) { return (const int8_t *)row; }
static inline const float *nano_a8_d(const void *row, int64_t n) {
    return (const float *)(const void *)((const uint8_t *)row + n);
}
static inline const int16_t *nano_a8_sum(const void *row, int64_t n) {
    return (const int16_t *)(const void *)((const uint8_t *)row + n + n / NANO_A8_BLOCK * 4);
}
/* Of the whole block whose halves' sums these are. */
static inline int32_t nano_a8_block_sum(const int16_t *halves) { return halves[0] + halves[1]; }

/* n is whole blocks. Blocks of 32 are rounded as the GGUF reference defines them: same bytes. */
typedef void nano_from_float_fn(const float *x, void *y, int64_t n);
/* The same, searching for the least squared error, each element's weighted by `importance` (n numbers >= 0, or NULL). */
typedef void nano_from_float_weighted_fn(const float *x, const float *importance, void *y, int64_t n);
typedef void nano_to_float_fn(const void *x, float *y, int64_t n);

#define NANO_TYPE(NAME, name, id, block, bytes, activation)        \
    nano_from_float_fn nano_##name##_from_float;                   \
    nano_from_float_weighted_fn nano_##name##_from_float_weighted; \
    nano_to_float_fn nano_##name##_to_float;
#define NANO_TYPE_SIZE_ONLY(NAME, id, block, bytes)
#include "types/types.inc"
#undef NANO_TYPE
#undef NANO_TYPE_SIZE_ONLY
nano_from_float_fn nano_a8_from_float;
nano_to_float_fn nano_a8_to_float;

typedef struct nano_type_traits {
    nano_type type;
    const char *name;
    int64_t block_size;
    size_t block_bytes;
    nano_type activation;           /* what linear's x is turned into: NANO_TYPE_F32 or NANO_TYPE_A8 */
    nano_from_float_fn *from_float; /* reference; NULL when only the size is known */
    nano_from_float_weighted_fn *from_float_weighted;
    nano_to_float_fn *to_float;
} nano_type_traits;

/* NULL when unknown. NANO_TYPE_A8 is known here, though not to the public functions. */
const nano_type_traits *nano_type_find(nano_type type);

/* Equal but for the case of ASCII letters. */
bool nano_same_name(const char *a, const char *b);

#endif
