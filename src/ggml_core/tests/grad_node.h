/* What the tests of gradient ops share: a node over arrays of the test's own, run in several divisions of its units. */
#ifndef NANO_TESTS_GRAD_NODE_H
#define NANO_TESTS_GRAD_NODE_H

#include "cpu/exec.h"
#include "tests/check.h"

#include <math.h>
#include <stdlib.h>

/* xorshift64* */
static inline uint64_t grad_random(void) {
    static uint64_t state = 88172645463325252ULL;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545F4914F6CDD1DULL) >> 16;
}

/* lo .. hi, both included */
static inline int64_t grad_int(int64_t lo, int64_t hi) {
    return lo + (int64_t)(grad_random() % (uint64_t)(hi - lo + 1));
}

static inline float *grad_floats(int64_t n) {
    float *x = malloc((size_t)(n > 0 ? n : 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(grad_random() >> 8) / (float)((uint64_t)1 << 39) - 1.0f;
    }
    return x;
}

/* f32 rows of n elements, `stride` apart. */
static inline nano_operand grad_rows(const float *data, int64_t rows, int64_t n, int64_t stride) {
    return (nano_operand){.region = NANO_REGION_ARENA,
                          .type = NANO_TYPE_F32,
                          .rows = rows,
                          .ne = {n, 1},
                          .row_bytes = (size_t)stride * sizeof *data,
                          .data = (const uint8_t *)data};
}

static inline void grad_out(nano_node *node, float *data, int64_t rows, int64_t n, int64_t stride) {
    node->out = grad_rows(data, rows, n, stride);
    node->out_data = (uint8_t *)data;
}

/* The units in pieces of `each`, the last piece first: an order that threads may well make. */
static inline void grad_run(const nano_step *step, const nano_node *node, nano_units_fn *units,
                            nano_forward_fn *forward, int64_t each) {
    const int64_t n = units(step, node);
    for (int64_t last = n; last > 0; last -= each) {
        forward(step, node, last > each ? last - each : 0, last, 0);
    }
}

#endif
