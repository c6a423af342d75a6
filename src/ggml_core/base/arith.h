/* Sizes from outside are added and multiplied here: each returns false instead of wrapping round. */
#ifndef NANO_BASE_ARITH_H
#define NANO_BASE_ARITH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool nano_add_size(size_t a, size_t b, size_t *out) {
    if (a > SIZE_MAX - b) {
        return false;
    }
    *out = a + b;
    return true;
}

static inline bool nano_mul_size(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) {
        return false;
    }
    *out = a * b;
    return true;
}

static inline bool nano_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    if (a > UINT64_MAX - b) {
        return false;
    }
    *out = a + b;
    return true;
}

static inline bool nano_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    if (b != 0 && a > UINT64_MAX / b) {
        return false;
    }
    *out = a * b;
    return true;
}

/* `align` is a power of two. */
static inline bool nano_align_u64(uint64_t a, uint64_t align, uint64_t *out) {
    if (!nano_add_u64(a, align - 1, out)) {
        return false;
    }
    *out &= ~(align - 1);
    return true;
}

static inline int64_t nano_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline uint64_t nano_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static inline int64_t nano_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
