/*
 * Linears over few columns: bound by the bandwidth of weights, so each row is read once, by one warp, for all columns.
 * Quantised weights meet int8 activations; lanes take halves of parts, next to each other in memory.
 */
#include "cuda/device/types.cuh"

enum { COLUMNS = NANO_CUDA_VEC_COLUMNS };

/* Of a call's n columns from c0 on the c-th; where there are fewer, the last again, which is then not stored. */
NANO_DEVICE int column(const nano_cuda_linear &p, int c0, int c) {
    return c0 + c < p.n_columns ? c0 + c : p.n_columns - 1;
}

/* Row r of the result for the columns from c0 on, from every lane's sums. */
template <int N>
NANO_DEVICE void finish(const nano_cuda_linear &p, int r, int c0, const float *sums, const float *gates) {
    NANO_UNROLL
    for (int c = 0; c < N; c++) {
        float y = warp_sum(sums[c]);
        if (p.w2 != nullptr) {
            y *= silu(warp_sum(gates[c]));
        }
        if (lane_of() == 0 && c0 + c < p.n_columns) {
            y += p.bias != nullptr ? p.bias[r] : 0.0f;
            y = p.activation == 1 ? gelu(y) : p.activation == 2 ? silu(y) : y;
            y += p.residual != nullptr ? p.residual[(c0 + c) * p.residual_stride + r] : 0.0f;
            p.y[(c0 + c) * p.y_stride + r] = y;
        }
    }
}

template <typename Type, int N>
NANO_DEVICE void add_unit(const nano_cuda_linear &p, const uint8_t *row, int c0, int part, int sub, float *sums) {
    unit u;
    Type::load(row, part, sub, u);
    NANO_UNROLL
    for (int c = 0; c < N; c++) {
        const uint8_t *x = p.x + column(p, c0, c) * p.x_bytes;
        const int *q = reinterpret_cast<const int *>(x) + part * 8;
        const float d = reinterpret_cast<const float *>(x + p.n)[part];
        int dots[2] = {0, 0}, totals[2] = {0, 0};
        for (int k = 0; k < 4; k++) {
            const int xq = q[int_of(sub, k)];
            dots[k / 2] = dot4(u.q[k], xq, dots[k / 2]);
            if (Type::HAS_MIN) {
                totals[k / 2] = dot4(0x01010101, xq, totals[k / 2]);
            }
        }
        float sum = u.scale[0] * static_cast<float>(dots[0]) + u.scale[1] * static_cast<float>(dots[1]);
        if (Type::HAS_MIN) {
            sum -= u.min[0] * static_cast<float>(totals[0]) + u.min[1] * static_cast<float>(totals[1]);
        }
        sums[c] += d * sum;
    }
}

template <typename Type, int N> NANO_DEVICE void vec_quantised(const nano_cuda_linear &p, int r, int c0) {
    float sums[N] = {}, gates[N] = {};
    for (int i = lane_of(); i < p.n / 16; i += WARP) {
        add_unit<Type, N>(p, (p.w2 != nullptr ? p.w2 : p.w) + r * p.w_bytes, c0, i / 2, i % 2, sums);
        if (p.w2 != nullptr) {
            add_unit<Type, N>(p, p.w + r * p.w_bytes, c0, i / 2, i % 2, gates);
        }
    }
    finish<N>(p, r, c0, sums, gates);
}

template <typename Type, int N>
NANO_DEVICE void add_floats(const nano_cuda_linear &p, const uint8_t *row, int c0, int i, float *sums) {
    float w[4] = {};
    for (int k = 0; k < 4; k++) {
        w[k] = i + k < p.n ? Type::load(row, i + k) : 0.0f;
    }
    NANO_UNROLL
    for (int c = 0; c < N; c++) {
        const float *x = reinterpret_cast<const float *>(p.x + column(p, c0, c) * p.x_bytes);
        for (int k = 0; k < 4; k++) {
            sums[c] += i + k < p.n ? w[k] * x[i + k] : 0.0f;
        }
    }
}

template <typename Type, int N> NANO_DEVICE void vec_float(const nano_cuda_linear &p, int r, int c0) {
    float sums[N] = {}, gates[N] = {};
    for (int i = lane_of() * 4; i < p.n; i += WARP * 4) {
        add_floats<Type, N>(p, (p.w2 != nullptr ? p.w2 : p.w) + r * p.w_bytes, c0, i, sums);
        if (p.w2 != nullptr) {
            add_floats<Type, N>(p, p.w + r * p.w_bytes, c0, i, gates);
        }
    }
    finish<N>(p, r, c0, sums, gates);
}

#define NANO_VEC_KERNEL(name, product, type)                                         \
    NANO_CUDA_KERNEL(nano_vec_##name##_kernel, nano_cuda_linear) {                   \
        const int r = static_cast<int>(blockIdx.x) * NANO_CUDA_VEC_ROWS + warp_of(); \
        const int c0 = static_cast<int>(blockIdx.y) * COLUMNS;                       \
        if (r >= p.n_rows) {                                                         \
            return;                                                                  \
        }                                                                            \
        if (p.n_columns - c0 == 1) {                                                 \
            product<type, 1>(p, r, c0);                                              \
        } else {                                                                     \
            product<type, COLUMNS>(p, r, c0);                                        \
        }                                                                            \
    }

NANO_VEC_KERNEL(f32, vec_float, type_f32)
NANO_VEC_KERNEL(f16, vec_float, type_f16)
NANO_VEC_KERNEL(bf16, vec_float, type_bf16)
NANO_VEC_KERNEL(q8_0, vec_quantised, type_q8_0)
NANO_VEC_KERNEL(q4_0, vec_quantised, type_q4_0)
NANO_VEC_KERNEL(q4_1, vec_quantised, type_q4_1)
NANO_VEC_KERNEL(q5_0, vec_quantised, type_q5_0)
NANO_VEC_KERNEL(q5_1, vec_quantised, type_q5_1)
NANO_VEC_KERNEL(q2_k, vec_quantised, type_q2_k)
NANO_VEC_KERNEL(q3_k, vec_quantised, type_q3_k)
NANO_VEC_KERNEL(q4_k, vec_quantised, type_q4_k)
NANO_VEC_KERNEL(q5_k, vec_quantised, type_q5_k)
NANO_VEC_KERNEL(q6_k, vec_quantised, type_q6_k)
NANO_VEC_KERNEL(iq4_nl, vec_quantised, type_iq4_nl)
NANO_VEC_KERNEL(iq4_xs, vec_quantised, type_iq4_xs)
