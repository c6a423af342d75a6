/* The norms, and the rotary embedding. */
#include <math.h>

#include "cpu/kernels/arm/common_arm.h"

#if defined(__aarch64__) /* 32-bit processors have no vectors of doubles */

/* Adds four floats, or their squares, to two pairs of doubles. */
NANO_INLINE void nano_norm_add(float64x2_t s[2], float32x4_t v, int squares) {
    const float64x2_t lo = vcvt_f64_f32(vget_low_f32(v));
    const float64x2_t hi = vcvt_high_f64_f32(v);
    s[0] = squares ? vfmaq_f64(s[0], lo, lo) : vaddq_f64(s[0], lo);
    s[1] = squares ? vfmaq_f64(s[1], hi, hi) : vaddq_f64(s[1], hi);
}

/* Mean of x - mean, or of its square. A mean far from 0 asks for more than a float: it comes as two, and the sum is
 * a double, as in the reference. */
NANO_INLINE double nano_norm_mean(const float *x, float mean, float mean_rest, int squares, int64_t n) {
    const float32x4_t m = vdupq_n_f32(mean);
    const float32x4_t rest = vdupq_n_f32(mean_rest);
    float64x2_t a[2], b[2];
    a[0] = a[1] = b[0] = b[1] = vdupq_n_f64(0.0);
    int64_t i = 0;
    for (; n - i >= 8; i += 8) {
        nano_norm_add(a, vsubq_f32(vsubq_f32(nano_load4(x + i), m), rest), squares);
        nano_norm_add(b, vsubq_f32(vsubq_f32(nano_load4(x + i + 4), m), rest), squares);
    }
    for (; i < n; i++) { /* a lane at a time: 0 in the others adds nothing */
        nano_norm_add(a, vsetq_lane_f32(x[i] - mean - mean_rest, vdupq_n_f32(0.0f), 0), squares);
    }
    return vaddvq_f64(vaddq_f64(vaddq_f64(a[0], a[1]), vaddq_f64(b[0], b[1]))) / (double)n;
}

/* y = (x - mean) * factor * w + b */
NANO_INLINE void nano_norm_apply(const float *x, const float *w, const float *b, float mean, float mean_rest,
                                 float factor, float *y, int64_t n) {
    const float32x4_t m = vdupq_n_f32(mean);
    const float32x4_t rest = vdupq_n_f32(mean_rest);
    const float32x4_t f = vdupq_n_f32(factor);
    for (int64_t i = 0; i < n; i += 4) {
        const int64_t k = n - i < 4 ? n - i : 4;
        float32x4_t v = k == 4 ? nano_load4(x + i) : nano_load_part(x + i, k, 0.0f);
        v = vmulq_f32(vsubq_f32(vsubq_f32(v, m), rest), f);
        if (w != NULL) {
            v = vmulq_f32(v, k == 4 ? nano_load4(w + i) : nano_load_part(w + i, k, 0.0f));
        }
        if (b != NULL) {
            v = vaddq_f32(v, k == 4 ? nano_load4(b + i) : nano_load_part(b + i, k, 0.0f));
        }
        nano_store_part(y + i, v, k);
    }
}

void nano_rms_norm_neon(const float *x, const float *w, const float *b, float eps, float *y, int64_t n) {
    (void)b;
    const double square = nano_norm_mean(x, 0.0f, 0.0f, 1, n);
    nano_norm_apply(x, w, NULL, 0.0f, 0.0f, (float)(1.0 / sqrt(square + (double)eps)), y, n);
}

void nano_norm_neon(const float *x, const float *w, const float *b, float eps, float *y, int64_t n) {
    const double exact = nano_norm_mean(x, 0.0f, 0.0f, 0, n);
    const float mean = (float)exact;
    const float rest = (float)(exact - (double)mean);
    const double variance = nano_norm_mean(x, mean, rest, 1, n);
    nano_norm_apply(x, w, b, mean, rest, (float)(1.0 / sqrt(variance + (double)eps)), y, n);
}

#endif

/* What the gradients of norms add up over a row, of terms made of x (less its mean) and g = w d. */
typedef struct nano_norm_sums {
    float32x4_t x[2], g[2]; /* x or its square; g or x g */
} nano_norm_sums;

NANO_INLINE float32x4_t nano_row4(const float *p, int64_t k) {
    return k >= 4 ? nano_load4(p) : nano_load_part(p, k, 0.0f);
}

NANO_INLINE nano_norm_sums nano_norm_grad_sums(const float *x, const float *w, const float *d, float mean, int products,
                                               int64_t n) {
    const float32x4_t zero = vdupq_n_f32(0.0f);
    nano_norm_sums s = {{zero, zero}, {zero, zero}};
    for (int64_t i = 0; i < n; i += 4) {
        const int odd = (int)(i / 4 % 2);
        /* Lanes beyond the end hold the mean: they add nothing. */
        const float32x4_t x_i = n - i >= 4 ? nano_load4(x + i) : nano_load_part(x + i, n - i, mean);
        const float32x4_t v = vsubq_f32(x_i, vdupq_n_f32(mean));
        const float32x4_t g = vmulq_f32(nano_row4(w + i, n - i), nano_row4(d + i, n - i));
        s.x[odd] = products ? vfmaq_f32(s.x[odd], v, v) : vaddq_f32(s.x[odd], v);
        s.g[odd] = products ? vfmaq_f32(s.g[odd], v, g) : vaddq_f32(s.g[odd], g);
    }
    return s;
}

/* y = factor (g - mean_g - (x - mean) factor^2 mean(g (x - mean))) */
NANO_INLINE void nano_norm_grad_apply(const float *x, const float *w, const float *d, float mean, float mean_g,
                                      float eps, float *y, int64_t n) {
    const nano_norm_sums s = nano_norm_grad_sums(x, w, d, mean, 1, n);
    const float factor = 1.0f / sqrtf(vaddvq_f32(vaddq_f32(s.x[0], s.x[1])) / (float)n + eps);
    const float slope = factor * factor * (vaddvq_f32(vaddq_f32(s.g[0], s.g[1])) / (float)n);
    for (int64_t i = 0; i < n; i += 4) {
        const float32x4_t g = vmulq_f32(nano_row4(w + i, n - i), nano_row4(d + i, n - i));
        const float32x4_t v = vsubq_f32(nano_row4(x + i, n - i), vdupq_n_f32(mean));
        const float32x4_t sum = vfmsq_f32(vsubq_f32(g, vdupq_n_f32(mean_g)), v, vdupq_n_f32(slope));
        nano_store_part(y + i, vmulq_f32(sum, vdupq_n_f32(factor)), n - i < 4 ? n - i : 4);
    }
}

void nano_rms_norm_grad_neon(const float *x, const float *w, const float *d, float eps, float *y, int64_t n) {
    nano_norm_grad_apply(x, w, d, 0.0f, 0.0f, eps, y, n);
}

void nano_norm_grad_neon(const float *x, const float *w, const float *d, float eps, float *y, int64_t n) {
    const nano_norm_sums s = nano_norm_grad_sums(x, w, d, 0.0f, 0, n);
    const float mean = vaddvq_f32(vaddq_f32(s.x[0], s.x[1])) / (float)n;
    const float mean_g = vaddvq_f32(vaddq_f32(s.g[0], s.g[1])) / (float)n;
    nano_norm_grad_apply(x, w, d, mean, mean_g, eps, y, n);
}

/* (re + i im) * (cosine + i sine) */
NANO_INLINE float32x4x2_t nano_rotate4(float32x4_t re, float32x4_t im, float32x4x2_t t) {
    float32x4x2_t out;
    out.val[0] = vfmsq_f32(vmulq_f32(re, t.val[0]), im, t.val[1]);
    out.val[1] = vfmaq_f32(vmulq_f32(re, t.val[1]), im, t.val[0]);
    return out;
}

NANO_INLINE void nano_rotate1(const float *re, const float *im, const float *t, float *re_out, float *im_out) {
    const float a = *re;
    const float b = *im;
    *re_out = fmaf(-b, t[1], a * t[0]);
    *im_out = fmaf(b, t[0], a * t[1]);
}

NANO_INLINE void nano_rope_rest(const float *x, float *y, int64_t n_rot, int64_t n) {
    if (y != x) {
        memcpy(y + n_rot, x + n_rot, (size_t)(n - n_rot) * sizeof *x);
    }
}

void nano_rope_pairs_neon(const float *x, const float *table, float *y, int64_t n_rot, int64_t n) {
    const int64_t half = n_rot / 2;
    int64_t i = 0;
    for (; half - i >= 4; i += 4) {
        const float32x4x2_t v = vld2q_f32(x + 2 * i);
        vst2q_f32(y + 2 * i, nano_rotate4(v.val[0], v.val[1], vld2q_f32(table + 2 * i)));
    }
    for (; i < half; i++) {
        nano_rotate1(x + 2 * i, x + 2 * i + 1, table + 2 * i, y + 2 * i, y + 2 * i + 1);
    }
    nano_rope_rest(x, y, n_rot, n);
}

void nano_rope_halves_neon(const float *x, const float *table, float *y, int64_t n_rot, int64_t n) {
    const int64_t half = n_rot / 2;
    int64_t i = 0;
    for (; half - i >= 4; i += 4) {
        const float32x4x2_t v = nano_rotate4(nano_load4(x + i), nano_load4(x + half + i), vld2q_f32(table + 2 * i));
        vst1q_f32(y + i, v.val[0]);
        vst1q_f32(y + half + i, v.val[1]);
    }
    for (; i < half; i++) {
        nano_rotate1(x + i, x + half + i, table + 2 * i, y + i, y + half + i);
    }
    nano_rope_rest(x, y, n_rot, n);
}
