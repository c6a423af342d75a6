#include "types/super.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "cpu/kernels.h"
#include "types/f16.h"

enum { MAX_TILES = 2, MAX_SUB = NANO_SUPER_PARTS };

typedef struct tiles {
    const nano_kernels *kernels;
    int n_tiles;
    nano_parts parts[MAX_TILES];
    nano_sums sums[MAX_TILES];
    float d[MAX_SUB];
    float m[MAX_SUB];
} tiles;

static void load(tiles *t, const float *x, const float *importance, int n) {
    t->kernels = nano_kernels_current();
    t->n_tiles = NANO_SUPER / (n * NANO_LANES);
    for (int i = 0; i < t->n_tiles; i++) {
        const int at = i * n * NANO_LANES;
        t->kernels->load_parts(&t->parts[i], x + at, importance != NULL ? importance + at : NULL, n, NANO_LANES);
    }
}

static float through_f16(float x) { return nano_f16_to_f32(nano_f32_to_f16(x)); }

static float ratio(double a, double b) { return b > 0.0 ? (float)(a / b) : 0.0f; }

static int to_int(float x, int lowest, int highest) {
    if (!(x > (float)lowest)) {
        return lowest;
    }
    return x < (float)highest ? (int)lrintf(x) : highest;
}

static void encode(tiles *t, const nano_grid *grid, bool has_m, uint8_t *code) {
    for (int i = 0; i < t->n_tiles; i++) {
        t->kernels->encode_parts(&t->parts[i], t->d + i * NANO_LANES, has_m ? t->m + i * NANO_LANES : NULL, grid,
                                 &t->sums[i], code != NULL ? code + i * NANO_LANES * t->parts[i].n : NULL);
    }
}

/* ------------------------------------------------------- x = d * scale * q */

/* Each part's integer: of the two next to its scale, that under which the error is less, codes and all. Leaves t with
 * the sums under these. */
static void choose_scales(tiles *t, const nano_grid *grid, int lowest, int highest, nano_super *out) {
    const int n_sub = t->n_tiles * NANO_LANES;
    float wanted[MAX_SUB], gain[MAX_SUB];
    memcpy(wanted, t->d, sizeof wanted);
    for (int side = 0; side < 2; side++) {
        int scale[MAX_SUB];
        for (int k = 0; k < n_sub; k++) {
            const float exact = out->d != 0.0f ? wanted[k] / out->d : 0.0f;
            scale[k] = to_int(floorf(exact) + (float)side, lowest, highest);
            t->d[k] = out->d * (float)scale[k];
        }
        encode(t, grid, false, NULL);
        for (int k = 0; k < n_sub; k++) {
            const nano_sums *s = &t->sums[k / NANO_LANES];
            const float new_gain = t->d[k] * (2.0f * s->xq[k % NANO_LANES] - t->d[k] * s->qq[k % NANO_LANES]);
            if (side == 0 || new_gain > gain[k]) {
                gain[k] = new_gain;
                out->scale[k] = scale[k];
            }
        }
    }
    for (int k = 0; k < n_sub; k++) {
        t->d[k] = out->d * (float)out->scale[k];
    }
    encode(t, grid, false, NULL);
}

void nano_super_scaled(const float *x, const float *importance, int n, const nano_grid *grid, int scale_lowest,
                       int scale_highest, nano_super *out) {
    tiles t;
    float weight[MAX_SUB];
    load(&t, x, importance, n);
    const int n_sub = t.n_tiles * NANO_LANES;
    for (int i = 0; i < t.n_tiles; i++) {
        t.kernels->search_scale(&t.parts[i], grid, t.d + i * NANO_LANES);
    }
    encode(&t, grid, false, NULL);
    for (int k = 0; k < n_sub; k++) {
        weight[k] = t.sums[k / NANO_LANES].qq[k % NANO_LANES];
        t.d[k] = ratio((double)t.sums[k / NANO_LANES].xq[k % NANO_LANES], (double)weight[k]);
    }
    out->d = t.kernels->search_step(t.d, weight, n_sub, (float)scale_lowest, (float)scale_highest);
    choose_scales(&t, grid, scale_lowest, scale_highest, out);
    double xq = 0.0;
    double qq = 0.0;
    for (int k = 0; k < n_sub; k++) {
        const double scale = (double)out->scale[k];
        xq += scale * (double)t.sums[k / NANO_LANES].xq[k % NANO_LANES];
        qq += scale * scale * (double)t.sums[k / NANO_LANES].qq[k % NANO_LANES];
    }
    out->d = through_f16(ratio(xq, qq));
    for (int k = 0; k < n_sub; k++) {
        t.d[k] = out->d * (float)out->scale[k];
    }
    encode(&t, grid, false, out->code);
}

/* -------------------------------------------- x = d * scale * q - dmin * min */

/* d and dmin anew for the codes whose sums t has. */
static void refit(const tiles *t, nano_super *out) {
    double a = 0.0, b = 0.0, c = 0.0, u = 0.0, v = 0.0; /* normal equations: a d - b dmin = u, b d - c dmin = v */
    for (int k = 0; k < t->n_tiles * NANO_LANES; k++) {
        const nano_sums *s = &t->sums[k / NANO_LANES];
        const int l = k % NANO_LANES;
        const double scale = (double)out->scale[k];
        const double min = (double)out->min[k];
        a += scale * scale * (double)s->qq[l];
        b += scale * min * (double)s->q[l];
        c += min * min * (double)s->w[l];
        u += scale * (double)s->xq[l];
        v += min * (double)s->x[l];
    }
    const double determinant = a * c - b * b;
    if (determinant > 1e-6 * a * c) {
        const double d = (u * c - v * b) / determinant;
        const double dmin = (u * b - v * a) / determinant;
        if (d > 0.0 && dmin > 0.0) {
            out->d = (float)d;
            out->dmin = (float)dmin;
        }
    } else if (c == 0.0) {
        out->d = ratio(u, a);
    }
}

static void apply(tiles *t, const nano_super *s) {
    for (int k = 0; k < t->n_tiles * NANO_LANES; k++) {
        t->d[k] = s->d * (float)s->scale[k];
        t->m[k] = s->dmin * (float)s->min[k];
    }
}

void nano_super_ranged(const float *x, const float *importance, int n, const nano_grid *grid, int scale_highest,
                       nano_super *out) {
    tiles t;
    float weight[MAX_SUB];
    load(&t, x, importance, n);
    const int n_sub = t.n_tiles * NANO_LANES;
    for (int i = 0; i < t.n_tiles; i++) {
        t.kernels->search_range(&t.parts[i], grid, true, t.d + i * NANO_LANES, t.m + i * NANO_LANES);
    }
    encode(&t, grid, true, NULL);
    for (int k = 0; k < n_sub; k++) {
        const nano_sums *s = &t.sums[k / NANO_LANES];
        const int l = k % NANO_LANES;
        /* what an error in the scale costs: less where the min can follow it */
        const float shared = t.m[k] > 0.0f ? s->q[l] * s->q[l] / s->w[l] : 0.0f;
        weight[k] = s->qq[l] > shared ? s->qq[l] - shared : 0.0f;
    }
    out->d = t.kernels->search_step(t.d, weight, n_sub, 0.0f, (float)scale_highest);
    for (int k = 0; k < n_sub; k++) {
        const nano_sums *s = &t.sums[k / NANO_LANES];
        const int l = k % NANO_LANES;
        out->scale[k] = out->d != 0.0f ? to_int(t.d[k] / out->d, 0, scale_highest) : 0;
        const float m = (out->d * (float)out->scale[k] * s->q[l] - s->x[l]) / s->w[l];
        t.m[k] = m > 0.0f ? m : 0.0f;
        weight[k] = s->w[l];
    }
    out->dmin = t.kernels->search_step(t.m, weight, n_sub, 0.0f, (float)scale_highest);
    for (int k = 0; k < n_sub; k++) {
        out->min[k] = out->dmin != 0.0f ? to_int(t.m[k] / out->dmin, 0, scale_highest) : 0;
    }
    apply(&t, out);
    encode(&t, grid, true, NULL);
    refit(&t, out);
    out->d = through_f16(out->d);
    out->dmin = through_f16(out->dmin);
    apply(&t, out);
    encode(&t, grid, true, out->code);
}

/* --------------------------------------------------------- blocks alone */

static void load_blocks(nano_parts *p, const float *x, const float *importance, int64_t n, nano_blocks *out) {
    out->n = n < NANO_SUPER ? (int)(n / NANO_BLOCK) : NANO_LANES;
    nano_kernels_current()->load_parts(p, x, importance, NANO_BLOCK, out->n);
}

void nano_blocks_scaled(const float *x, const float *importance, int64_t n, const nano_grid *grid, nano_blocks *out) {
    const nano_kernels *k = nano_kernels_current();
    nano_parts p;
    nano_sums s;
    load_blocks(&p, x, importance, n, out);
    k->search_scale(&p, grid, out->d);
    k->encode_parts(&p, out->d, NULL, grid, &s, NULL);
    for (int l = 0; l < NANO_LANES; l++) {
        out->d[l] = through_f16(ratio((double)s.xq[l], (double)s.qq[l]));
    }
    k->encode_parts(&p, out->d, NULL, grid, &s, out->code);
}

void nano_blocks_ranged(const float *x, const float *importance, int64_t n, const nano_grid *grid, nano_blocks *out) {
    const nano_kernels *k = nano_kernels_current();
    nano_parts p;
    nano_sums s;
    load_blocks(&p, x, importance, n, out);
    k->search_range(&p, grid, false, out->d, out->m);
    for (int l = 0; l < NANO_LANES; l++) {
        out->d[l] = through_f16(out->d[l]);
        out->m[l] = through_f16(out->m[l]);
    }
    k->encode_parts(&p, out->d, out->m, grid, &s, out->code);
}
