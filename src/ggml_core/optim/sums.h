/* Long sums in an order that a compiler may keep in vectors: NANO_SUM_LANES sums side by side, folded in
 * halves at the end. */
#ifndef NANO_OPTIM_SUMS_H
#define NANO_OPTIM_SUMS_H

#include <stdint.h>

enum { NANO_SUM_LANES = 8 };

static inline double nano_fold_lanes(double *lanes) {
    for (int width = NANO_SUM_LANES / 2; width > 0; width /= 2) {
        for (int j = 0; j < width; j++) {
            lanes[j] += lanes[j + width];
        }
    }
    return lanes[0];
}

/* The sum of x[i]^2 in f64, which no finite x overflows. */
static inline double nano_sum_squares_f32(const float *x, int64_t n) {
    double lanes[NANO_SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + NANO_SUM_LANES <= n; i += NANO_SUM_LANES) {
        for (int j = 0; j < NANO_SUM_LANES; j++) {
            lanes[j] += (double)x[i + j] * (double)x[i + j];
        }
    }
    for (int j = 0; i + j < n; j++) {
        lanes[j] += (double)x[i + j] * (double)x[i + j];
    }
    return nano_fold_lanes(lanes);
}

/* a . b */
static inline double nano_dot_f64(const double *a, const double *b, int64_t n) {
    double lanes[NANO_SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + NANO_SUM_LANES <= n; i += NANO_SUM_LANES) {
        for (int j = 0; j < NANO_SUM_LANES; j++) {
            lanes[j] += a[i + j] * b[i + j];
        }
    }
    for (int j = 0; i + j < n; j++) {
        lanes[j] += a[i + j] * b[i + j];
    }
    return nano_fold_lanes(lanes);
}

#endif
