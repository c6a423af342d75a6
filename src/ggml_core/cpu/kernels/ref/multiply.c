/* Reference of the product of packed matrices, and of transposition. */
#include "cpu/kernels/levels.h"

void nano_multiply_f32_ref(const nano_multiply_args *args) {
    for (int64_t i = 0; i < args->n_rows; i++) {
        const float *a = args->a + i / NANO_PANEL_ROWS * NANO_PANEL_ROWS * args->n_k + i % NANO_PANEL_ROWS;
        for (int64_t j = 0; j < args->n_cols; j++) {
            const float *b = args->b + j / NANO_PANEL_COLUMNS * NANO_PANEL_COLUMNS * args->n_k + j % NANO_PANEL_COLUMNS;
            float sum = 0.0f, *c = &args->c[i * args->c_stride + j];
            for (int64_t k = 0; k < args->n_k; k++) {
                sum += a[k * NANO_PANEL_ROWS] * b[k * NANO_PANEL_COLUMNS];
            }
            *c = args->add ? *c + sum : sum;
        }
    }
}

void nano_transpose_f32_ref(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_cols, float *y,
                            int64_t y_stride) {
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t j = 0; j < n_cols; j++) {
            y[j * y_stride + i] = x[i * x_stride + j];
        }
    }
}
