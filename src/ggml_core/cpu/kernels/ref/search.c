/* The reference of the searches: types/search.h says what for. */
#include "cpu/kernels/levels.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* To the nearest integer, ties to even, for |x| < 2^22: the sum has no bits left for a fraction. */
static inline float round_small(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* NaN gives lo. */
static inline float clamp(float x, float lo, float hi) {
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

static inline float finite_or_0(float x) { return fabsf(x) <= FLT_MAX ? x : 0.0f; }

static inline float quotient(float a, float b) { return b != 0.0f ? a / b : 0.0f; }

void nano_load_parts_ref(nano_parts *p, const float *x, const float *importance, int n, int n_parts) {
    p->n = n;
    if (n_parts < NANO_LANES) {
        memset(p->x, 0, sizeof p->x);
    }
    for (int e = 0; e < n; e++) {
        for (int l = 0; l < n_parts; l++) {
            p->x[e][l] = finite_or_0(x[l * n + e]);
        }
    }
    float total[NANO_LANES] = {0.0f};
    if (importance != NULL) {
        for (int l = 0; l < n_parts; l++) {
            for (int e = 0; e < n; e++) {
                p->w[e][l] = importance[l * n + e];
                total[l] += p->w[e][l];
            }
        }
    }
    for (int l = 0; l < NANO_LANES; l++) {
        /* Sums of squares must stay well inside the range of floats. */
        const float scale = total[l] > 1e-30f && total[l] < 1e30f ? (float)n / total[l] : 0.0f;
        for (int e = 0; e < n; e++) {
            p->w[e][l] = scale != 0.0f ? p->w[e][l] * scale : 1.0f;
        }
    }
}

/* ---------------------------------------------------------------- y = d q */

static void largest_magnitudes(const nano_parts *p, float *largest) {
    for (int l = 0; l < NANO_LANES; l++) {
        largest[l] = p->x[0][l];
    }
    for (int e = 1; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            largest[l] = fabsf(p->x[e][l]) > fabsf(largest[l]) ? p->x[e][l] : largest[l];
        }
    }
}

static void sums_of_scale(const nano_parts *p, const float *inverse, float lowest, float highest, float *xq,
                          float *qq) {
    float sum_xq[NANO_LANES] = {0.0f};
    float sum_qq[NANO_LANES] = {0.0f};
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            const float q = round_small(clamp(p->x[e][l] * inverse[l], lowest, highest));
            const float wq = p->w[e][l] * q;
            sum_xq[l] += wq * p->x[e][l];
            sum_qq[l] += wq * q;
        }
    }
    memcpy(xq, sum_xq, sizeof sum_xq);
    memcpy(qq, sum_qq, sizeof sum_qq);
}

/* x in halves, where the book looks. */
static inline int at_half(float x) {
    return (int)clamp(x * 2.0f + (float)(NANO_BOOK_HALVES / 2), 0.0f, NANO_BOOK_HALVES - 1);
}

static void sums_of_book(const nano_parts *p, const float *inverse, const nano_book *book, float *xq, float *qq) {
    float sum_xq[NANO_LANES] = {0.0f};
    float sum_qq[NANO_LANES] = {0.0f};
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            const float q = book->value[at_half(p->x[e][l] * inverse[l])];
            const float wq = p->w[e][l] * q;
            sum_xq[l] += wq * p->x[e][l];
            sum_qq[l] += wq * q;
        }
    }
    memcpy(xq, sum_xq, sizeof sum_xq);
    memcpy(qq, sum_qq, sizeof sum_qq);
}

void nano_search_scale_ref(const nano_parts *p, const nano_grid *grid, float *d) {
    float largest[NANO_LANES];
    float best[NANO_LANES] = {0.0f};
    float best_at[NANO_LANES], middle[NANO_LANES];
    largest_magnitudes(p, largest);
    for (int l = 0; l < NANO_LANES; l++) {
        largest[l] = quotient(1.0f, largest[l]);
        d[l] = 0.0f;
        best_at[l] = middle[l] = 0.0f;
    }
    for (int k = 0; k < grid->n + NANO_FINER; k++) {
        float at[NANO_LANES], inverse[NANO_LANES], xq[NANO_LANES], qq[NANO_LANES];
        if (k == grid->n) {
            memcpy(middle, best_at, sizeof middle);
        }
        for (int l = 0; l < NANO_LANES; l++) {
            at[l] = middle[l] + nano_grid_at(grid, k);
            inverse[l] = at[l] * largest[l];
        }
        if (grid->book != NULL) {
            sums_of_book(p, inverse, grid->book, xq, qq);
        } else {
            sums_of_scale(p, inverse, grid->lowest, grid->highest, xq, qq);
        }
        for (int l = 0; l < NANO_LANES; l++) {
            /* the least error is sum w x x - d xq */
            const float new_d = quotient(xq[l], qq[l]);
            const float gain = new_d * xq[l];
            const int better = gain > best[l];
            d[l] = better ? new_d : d[l];
            best[l] = better ? gain : best[l];
            best_at[l] = better ? at[l] : best_at[l];
        }
    }
}

float nano_search_step_ref(const float *v, const float *w, int n, float lowest, float highest) {
    float largest = 0.0f;
    for (int i = 0; i < n; i++) {
        largest = fabsf(v[i]) > fabsf(largest) ? v[i] : largest;
    }
    const float end = -lowest > highest ? lowest : highest;
    float best = 0.0f;
    float step = 0.0f;
    float inverse[NANO_LANES], xq[NANO_LANES] = {0.0f}, qq[NANO_LANES] = {0.0f};
    for (int l = 0; l < NANO_LANES; l++) {
        inverse[l] = quotient(end * (1.0f + 0.03f * (float)(l - 3) / (float)(NANO_LANES - 1)), largest);
    }
    for (int i = 0; i < n; i++) {
        for (int l = 0; l < NANO_LANES; l++) {
            const float q = round_small(clamp(v[i] * inverse[l], lowest, highest));
            xq[l] += w[i] * q * v[i];
            qq[l] += w[i] * q * q;
        }
    }
    for (int l = 0; l < NANO_LANES; l++) {
        const float gain = quotient(xq[l], qq[l]) * xq[l];
        if (gain > best) {
            best = gain;
            step = quotient(xq[l], qq[l]);
        }
    }
    return step;
}

/* ------------------------------------------------------------ y = d q - m */

static void sums_of_range(const nano_parts *p, const float *inverse, const float *offset, float highest, float *sum_q,
                          float *sum_xq, float *sum_qq) {
    float q_[NANO_LANES] = {0.0f};
    float xq[NANO_LANES] = {0.0f};
    float qq[NANO_LANES] = {0.0f};
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            const float q = round_small(clamp(p->x[e][l] * inverse[l] + offset[l], 0.0f, highest));
            const float wq = p->w[e][l] * q;
            q_[l] += wq;
            xq[l] += wq * p->x[e][l];
            qq[l] += wq * q;
        }
    }
    memcpy(sum_q, q_, sizeof q_);
    memcpy(sum_xq, xq, sizeof xq);
    memcpy(sum_qq, qq, sizeof qq);
}

/* The least of each part, its range, and sums of w and w x; x then counts from the least, so that the sums lose
 * nothing where a part lies far from 0. With `positive` the least is at most 0. */
static void shift_parts(const nano_parts *p, bool positive, nano_parts *out, float *least, float *range, float *sum_w,
                        float *sum_x) {
    float most[NANO_LANES];
    for (int l = 0; l < NANO_LANES; l++) {
        least[l] = most[l] = positive ? 0.0f : p->x[0][l];
        sum_w[l] = sum_x[l] = 0.0f;
    }
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            least[l] = p->x[e][l] < least[l] ? p->x[e][l] : least[l];
            most[l] = p->x[e][l] > most[l] ? p->x[e][l] : most[l];
        }
    }
    out->n = p->n;
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            const float x = p->x[e][l] - least[l];
            out->x[e][l] = x;
            out->w[e][l] = p->w[e][l];
            sum_w[l] += p->w[e][l];
            sum_x[l] += p->w[e][l] * x;
        }
    }
    for (int l = 0; l < NANO_LANES; l++) {
        range[l] = most[l] - least[l];
    }
}

void nano_search_range_ref(const nano_parts *p, const nano_grid *grid, bool positive, float *d, float *m) {
    nano_parts shifted;
    float least[NANO_LANES], range[NANO_LANES], sum_w[NANO_LANES], sum_x[NANO_LANES], best[NANO_LANES];
    shift_parts(p, positive, &shifted, least, range, sum_w, sum_x);
    for (int l = 0; l < NANO_LANES; l++) {
        range[l] = quotient(1.0f, range[l]);
        best[l] = -FLT_MAX;
        d[l] = 0.0f;
        m[l] = -quotient(sum_x[l], sum_w[l]);
        m[l] = positive && m[l] < least[l] ? least[l] : m[l];
    }
    /* Where the codes' raster lies on the range matters as much as how wide it is: both vary over the grid. The last
     * round starts from the best found. */
    for (int k = 0; k < grid->n + 1; k++) {
        const float phase = 0.15f * (float)(k * 5 % 7 - 3);
        const float at = grid->from + (grid->to - grid->from) * (float)k / (float)(grid->n - 1);
        float inverse[NANO_LANES], offset[NANO_LANES], q[NANO_LANES], xq[NANO_LANES], qq[NANO_LANES];
        for (int l = 0; l < NANO_LANES; l++) { /* as much is cut off at both ends, but for the phase */
            inverse[l] = k < grid->n ? at * range[l] : quotient(1.0f, d[l]);
            offset[l] = k < grid->n ? 0.5f * (grid->highest - at) + phase : m[l] * inverse[l];
        }
        sums_of_range(&shifted, inverse, offset, grid->highest, q, xq, qq);
        for (int l = 0; l < NANO_LANES; l++) {
            /* where all codes are the same, only rounding is left of it */
            const float determinant = sum_w[l] * qq[l] - q[l] * q[l];
            float new_d =
                determinant > 1e-5f * (sum_w[l] * qq[l]) ? (sum_w[l] * xq[l] - sum_x[l] * q[l]) / determinant : 0.0f;
            float new_m = (new_d * q[l] - sum_x[l]) / sum_w[l];
            const int out = positive && new_m < least[l];
            new_m = out ? least[l] : new_m;
            new_d = out ? quotient(xq[l] + new_m * q[l], qq[l]) : new_d;
            /* the error is sum w x x less this */
            const float gain =
                new_d * (2.0f * (xq[l] + new_m * q[l]) - new_d * qq[l]) - new_m * (2.0f * sum_x[l] + new_m * sum_w[l]);
            const int better = gain > best[l] && new_d > 0.0f;
            d[l] = better ? new_d : d[l];
            m[l] = better ? new_m : m[l];
            best[l] = better ? gain : best[l];
        }
    }
    for (int l = 0; l < NANO_LANES; l++) {
        m[l] -= least[l];
    }
}

/* ------------------------------------------------------------------ codes */

static void add_sums(const nano_parts *p, float q[][NANO_LANES], nano_sums *out) {
    nano_sums s = {.w = {0.0f}};
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            const float w = p->w[e][l];
            const float x = p->x[e][l];
            s.w[l] += w;
            s.x[l] += w * x;
            s.q[l] += w * q[e][l];
            s.xq[l] += w * q[e][l] * x;
            s.qq[l] += w * q[e][l] * q[e][l];
        }
    }
    *out = s;
}

void nano_encode_parts_ref(const nano_parts *p, const float *d, const float *m, const nano_grid *grid, nano_sums *sums,
                           uint8_t *code) {
    float inverse[NANO_LANES], offset[NANO_LANES];
    float q[NANO_PART_MAX][NANO_LANES];
    for (int l = 0; l < NANO_LANES; l++) {
        inverse[l] = finite_or_0(quotient(1.0f, d[l]));
        offset[l] = m != NULL ? m[l] : 0.0f;
    }
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            q[e][l] = (p->x[e][l] + offset[l]) * inverse[l];
        }
    }
    if (grid->book != NULL) {
        for (int e = 0; e < p->n; e++) {
            for (int l = 0; l < NANO_LANES; l++) {
                const int at = at_half(q[e][l]);
                q[e][l] = grid->book->value[at];
                if (code != NULL) {
                    code[l * p->n + e] = grid->book->nearest[at];
                }
            }
        }
        add_sums(p, q, sums);
        return;
    }
    for (int e = 0; e < p->n; e++) {
        for (int l = 0; l < NANO_LANES; l++) {
            q[e][l] = round_small(clamp(q[e][l], grid->lowest, grid->highest));
        }
    }
    add_sums(p, q, sums);
    for (int l = 0; code != NULL && l < NANO_LANES; l++) {
        for (int e = 0; e < p->n; e++) {
            code[l * p->n + e] = (uint8_t)(int32_t)(q[e][l] - grid->lowest);
        }
    }
}
