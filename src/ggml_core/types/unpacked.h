/*
 * What the blocks of Q2_K .. Q6_K and the IQ4 types mean, apart from how they are packed: integers in parts with a
 * float scale, and for some a minimum.
 */
#ifndef NANO_TYPES_UNPACKED_H
#define NANO_TYPES_UNPACKED_H

#include <stddef.h>

#include "types/blocks.h"

typedef struct nano_unpacked {
    int part;        /* elements of a part: 16 or 32 */
    float scale[16]; /* x[i] = scale[i / part] * q[i] - min[i / part] */
    float min[16];
    int8_t q[NANO_SUPER]; /* as many as the block has */
} nano_unpacked;

/* One block, wherever it lies. */
typedef void nano_unpack_fn(const void *block, nano_unpacked *out);
nano_unpack_fn nano_q2_k_unpack;
nano_unpack_fn nano_q3_k_unpack;
nano_unpack_fn nano_q4_k_unpack;
nano_unpack_fn nano_q5_k_unpack;
nano_unpack_fn nano_q6_k_unpack;
nano_unpack_fn nano_iq4_nl_unpack;
nano_unpack_fn nano_iq4_xs_unpack;

/* n elements of blocks of `size` elements in `bytes` bytes. */
void nano_unpacked_to_float(nano_unpack_fn *unpack, int size, size_t bytes, const void *x, float *y, int64_t n);

/* The plain conversions of such a type: there is no quantising but by search. */
#define NANO_UNPACKED_TYPE(name, size)                                                          \
    void nano_##name##_from_float(const float *x, void *y, int64_t n) {                         \
        nano_##name##_from_float_weighted(x, NULL, y, n);                                       \
    }                                                                                           \
    void nano_##name##_to_float(const void *x, float *y, int64_t n) {                           \
        nano_unpacked_to_float(nano_##name##_unpack, size, sizeof(nano_block_##name), x, y, n); \
    }

#endif
