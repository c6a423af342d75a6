#include "types/f16.h"
#include "types/types.h"

void nano_f32_from_float(const float *x, void *y, int64_t n) { memcpy(y, x, (size_t)n * sizeof *x); }
void nano_f32_to_float(const void *x, float *y, int64_t n) { memcpy(y, x, (size_t)n * sizeof *y); }

void nano_f16_from_float(const float *x, void *y, int64_t n) {
    uint8_t *out = y;
    for (int64_t i = 0; i < n; i++) {
        nano_store_f16(out + 2 * i, x[i]);
    }
}

void nano_f16_to_float(const void *x, float *y, int64_t n) {
    const uint8_t *in = x;
    for (int64_t i = 0; i < n; i++) {
        y[i] = nano_load_f16(in + 2 * i);
    }
}

void nano_bf16_from_float(const float *x, void *y, int64_t n) {
    uint8_t *out = y;
    for (int64_t i = 0; i < n; i++) {
        const uint16_t v = nano_f32_to_bf16(x[i]);
        memcpy(out + 2 * i, &v, sizeof v);
    }
}

void nano_bf16_to_float(const void *x, float *y, int64_t n) {
    const uint8_t *in = x;
    for (int64_t i = 0; i < n; i++) {
        y[i] = nano_load_bf16(in + 2 * i);
    }
}

/* Every element is stored by itself: nothing to weigh. */
#define WEIGHTED(name)                                                                                    \
    void nano_##name##_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) { \
        (void)importance;                                                                                 \
        nano_##name##_from_float(x, y, n);                                                                \
    }
WEIGHTED(f32)
WEIGHTED(f16)
WEIGHTED(bf16)
