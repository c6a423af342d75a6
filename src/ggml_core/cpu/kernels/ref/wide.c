/* What the wide kernels of a level are checked against; no level runs it. */
#include "cpu/kernels.h"
#include "types/f16.h"

static uint16_t *pair_of(void *group, int64_t i, int64_t column) {
    return (uint16_t *)group + (i / 2 * NANO_WIDE_GROUP + column) * 2 + i % 2;
}

void nano_wide_pack_ref(const float *x, int64_t x_stride, int64_t n_cols, void *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < NANO_WIDE_GROUP; c++) {
            *pair_of(out, i, c) = c < n_cols ? nano_f32_to_bf16(x[c * x_stride + i]) : 0;
        }
    }
}

void nano_wide_linear_ref(nano_type type, const nano_linear_args *a) {
    enum { PIECE = 256 }; /* whole blocks of every type */
    const nano_type_traits *traits = nano_type_find(type);
    for (int64_t r = 0; r < a->n_rows; r++) {
        const uint8_t *row = (const uint8_t *)a->w + (size_t)r * a->w_stride;
        for (int64_t c = 0; c < a->n_cols; c++) {
            const uint16_t *x =
                (const uint16_t *)(const void *)((const uint8_t *)a->x +
                                                 (size_t)(c / NANO_WIDE_GROUP) * nano_wide_group_bytes(a->n));
            double sum = 0.0;
            for (int64_t from = 0; from < a->n; from += PIECE) {
                const int64_t count = a->n - from < PIECE ? a->n - from : PIECE;
                float w[PIECE];
                traits->to_float(row + (size_t)(from / traits->block_size) * traits->block_bytes, w, count);
                for (int64_t i = 0; i < count; i++) {
                    const float rounded = nano_bf16_to_f32(nano_f32_to_bf16(w[i]));
                    const int64_t at = ((from + i) / 2 * NANO_WIDE_GROUP + c % NANO_WIDE_GROUP) * 2 + (from + i) % 2;
                    sum += (double)rounded * (double)nano_bf16_to_f32(x[at]);
                }
            }
            a->y[c * a->y_stride + r] = (float)sum;
        }
    }
}
