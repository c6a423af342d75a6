/* Reference of everything but linear and the value sum. Long sums are added in double: these are the values
 * that the other levels are measured against. */
#include <math.h>

#include "cpu/kernels/levels.h"
#include "types/f16.h"

void nano_quantize_a8_ref(const void *x, void *y, int64_t n) { nano_a8_from_float(x, y, n); }
void nano_f32_to_f16_ref(const void *x, void *y, int64_t n) { nano_f16_from_float(x, y, n); }
void nano_f16_to_f32_ref(const void *x, void *y, int64_t n) { nano_f16_to_float(x, y, n); }
void nano_quantize_q8_0_ref(const void *x, void *y, int64_t n) { nano_q8_0_from_float(x, y, n); }

void nano_add_ref(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}

void nano_mul_ref(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] * b[i];
    }
}

void nano_scale_ref(const float *a, float s, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] * s;
    }
}

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

void nano_silu_ref(const float *a, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] * sigmoid(a[i]);
    }
}

void nano_swiglu_ref(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = a[i] * sigmoid(a[i]) * b[i];
    }
}

/* 1 + tanh(u) = 2 sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3). */
void nano_gelu_ref(const float *a, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float x = a[i];
        y[i] = x * sigmoid(NANO_GELU_LINEAR * x * (1.0f + NANO_GELU_CUBIC * x * x));
    }
}

void nano_rms_norm_ref(const float *x, const float *w, const float *b, float eps, float *y, int64_t n) {
    double squares = 0.0;
    (void)b;
    for (int64_t i = 0; i < n; i++) {
        squares += (double)x[i] * (double)x[i];
    }
    const float factor = (float)(1.0 / sqrt(squares / (double)n + (double)eps));
    for (int64_t i = 0; i < n; i++) {
        y[i] = x[i] * factor * (w != NULL ? w[i] : 1.0f);
    }
}

void nano_norm_ref(const float *x, const float *w, const float *b, float eps, float *y, int64_t n) {
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i];
    }
    const double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double difference = (double)x[i] - mean;
        squares += difference * difference;
    }
    const double factor = 1.0 / sqrt(squares / (double)n + (double)eps);
    for (int64_t i = 0; i < n; i++) {
        const float scaled = (float)(((double)x[i] - mean) * factor) * (w != NULL ? w[i] : 1.0f);
        y[i] = b != NULL ? scaled + b[i] : scaled;
    }
}

void nano_gelu_grad_ref(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float x = a[i] < -NANO_GELU_SATURATED ? -NANO_GELU_SATURATED : a[i];
        x = x > NANO_GELU_SATURATED ? NANO_GELU_SATURATED : x;
        const float s = sigmoid(NANO_GELU_LINEAR * x * (1.0f + NANO_GELU_CUBIC * x * x));
        const float slope = NANO_GELU_LINEAR * (1.0f + 3.0f * NANO_GELU_CUBIC * x * x);
        y[i] = (s + x * s * (1.0f - s) * slope) * b[i];
    }
}

void nano_silu_grad_ref(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float s = sigmoid(a[i]);
        y[i] = s * (1.0f + a[i] * (1.0f - s)) * b[i];
    }
}

void nano_swiglu_grad_ref(const float *a, const float *b, const float *d, float *da, float *db, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float s = sigmoid(a[i]);
        da[i] = s * (1.0f + a[i] * (1.0f - s)) * b[i] * d[i];
        db[i] = a[i] * s * d[i];
    }
}

void nano_rms_norm_grad_ref(const float *x, const float *w, const float *d, float eps, float *y, int64_t n) {
    double squares = 0.0;
    double dot = 0.0;
    for (int64_t i = 0; i < n; i++) {
        squares += (double)x[i] * (double)x[i];
        dot += (double)x[i] * (double)w[i] * (double)d[i];
    }
    const double factor = 1.0 / sqrt(squares / (double)n + (double)eps);
    const double slope = factor * factor * dot / (double)n;
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)(factor * ((double)w[i] * (double)d[i] - (double)x[i] * slope));
    }
}

void nano_norm_grad_ref(const float *x, const float *w, const float *d, float eps, float *y, int64_t n) {
    double mean = 0.0;
    double mean_g = 0.0;
    double squares = 0.0;
    double dot = 0.0;
    for (int64_t i = 0; i < n; i++) {
        mean += (double)x[i] / (double)n;
        mean_g += (double)w[i] * (double)d[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        const double difference = (double)x[i] - mean;
        squares += difference * difference;
        dot += difference * (double)w[i] * (double)d[i];
    }
    const double factor = 1.0 / sqrt(squares / (double)n + (double)eps);
    const double slope = factor * factor * dot / (double)n;
    for (int64_t i = 0; i < n; i++) {
        y[i] = (float)(factor * ((double)w[i] * (double)d[i] - mean_g - ((double)x[i] - mean) * slope));
    }
}

static void copy_rest(const float *x, float *y, int64_t from, int64_t n) {
    for (int64_t i = from; i < n; i++) {
        y[i] = x[i];
    }
}

void nano_rope_pairs_ref(const float *x, const float *table, float *y, int64_t n_rot, int64_t n) {
    for (int64_t i = 0; i < n_rot / 2; i++) {
        const float cosine = table[2 * i];
        const float sine = table[2 * i + 1];
        const float re = x[2 * i];
        const float im = x[2 * i + 1];
        y[2 * i] = re * cosine - im * sine;
        y[2 * i + 1] = re * sine + im * cosine;
    }
    copy_rest(x, y, n_rot, n);
}

void nano_rope_halves_ref(const float *x, const float *table, float *y, int64_t n_rot, int64_t n) {
    const int64_t half = n_rot / 2;
    for (int64_t i = 0; i < half; i++) {
        const float cosine = table[2 * i];
        const float sine = table[2 * i + 1];
        const float re = x[i];
        const float im = x[i + half];
        y[i] = re * cosine - im * sine;
        y[i + half] = re * sine + im * cosine;
    }
    copy_rest(x, y, n_rot, n);
}
