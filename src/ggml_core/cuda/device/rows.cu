/* Ops on each row by itself: norms, activations' format, elementwise functions, rotary embeddings. */
#include "cuda/device/common.cuh"

/* What a norm makes of an element: (x - shift) * factor * w + b. */
struct norm_row {
    float shift, factor;
};

NANO_DEVICE norm_row measure(const float *x, int n, int kind, float eps) {
    norm_row out = {0.0f, 1.0f};
    if (kind == NANO_CUDA_NORM_NONE) {
        return out;
    }
    float sum = 0.0f;
    if (kind == NANO_CUDA_NORM_LAYER) {
        for (int i = static_cast<int>(threadIdx.x); i < n; i += NANO_CUDA_THREADS) {
            sum += x[i];
        }
        out.shift = block_sum(sum) / static_cast<float>(n);
        sum = 0.0f;
    }
    for (int i = static_cast<int>(threadIdx.x); i < n; i += NANO_CUDA_THREADS) {
        const float d = x[i] - out.shift;
        sum += d * d;
    }
    out.factor = 1.0f / sqrtf(block_sum(sum) / static_cast<float>(n) + eps);
    return out;
}

NANO_DEVICE float normed(const float *x, const float *w, const float *b, const norm_row &row, int i) {
    float y = (x[i] - row.shift) * row.factor;
    y = w != nullptr ? y * w[i] : y;
    return b != nullptr ? y + b[i] : y;
}

NANO_CUDA_KERNEL(nano_norm_kernel, nano_cuda_norm) {
    const int64_t group = static_cast<int64_t>(blockIdx.x) * p.n;
    const float *x = p.x + blockIdx.y * p.x_stride + group;
    float *y = p.y + blockIdx.y * p.y_stride + group;
    const norm_row row = measure(x, p.n, p.kind, p.eps);
    for (int i = static_cast<int>(threadIdx.x); i < p.n; i += NANO_CUDA_THREADS) {
        y[i] = normed(x, p.w, p.b, row, i);
    }
}

/* A warp makes a block of 32: the largest |x| by shuffles, an element a lane. */
NANO_CUDA_KERNEL(nano_quantize_kernel, nano_cuda_quantize) {
    const float *x = p.x + blockIdx.x * p.x_stride;
    uint8_t *y = p.y + blockIdx.x * p.y_bytes;
    const norm_row row = measure(x, p.n, p.kind, p.eps);
    int8_t *q = reinterpret_cast<int8_t *>(y);
    float *d = reinterpret_cast<float *>(y + p.n);
    int16_t *sums = reinterpret_cast<int16_t *>(y + p.n + p.n / 32 * 4);
    const int lane = lane_of();
    for (int block = warp_of(); block < p.n / 32; block += WARPS) {
        const int i = block * 32 + lane;
        const float value = p.kind == NANO_CUDA_NORM_NONE ? x[i] : normed(x, p.w, p.b, row, i);
        const float m = warp_max(fabsf(value));
        const bool tiny = m < 1e-30f;
        const bool finite = warp_max(isfinite(value) ? 0.0f : 1.0f) == 0.0f;
        const int code = tiny || !finite ? 0 : __float2int_rn(value * (127.0f / m));
        int sum = code;
        for (int step = 8; step > 0; step /= 2) {
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        }
        q[i] = static_cast<int8_t>(code);
        if (lane % 16 == 0) {
            sums[block * 2 + lane / 16] = static_cast<int16_t>(sum);
        }
        if (lane == 0) {
            d[block] = !finite ? INFINITY : tiny ? 0.0f : m / 127.0f;
        }
    }
}

NANO_CUDA_KERNEL(nano_map_kernel, nano_cuda_map) {
    const int i = static_cast<int>(blockIdx.x) * NANO_CUDA_THREADS + static_cast<int>(threadIdx.x);
    if (i >= p.n) {
        return;
    }
    const float a = p.a[blockIdx.y * p.a_stride + i];
    float b = 0.0f;
    if (p.b != nullptr) {
        b = p.b_period > 0 ? p.b[i % p.b_period] : p.b[blockIdx.y * p.b_stride + i];
    }
    float y = 0.0f;
    switch (p.kind) {
        case NANO_CUDA_GELU: y = gelu(a); break;
        case NANO_CUDA_SILU: y = silu(a); break;
        case NANO_CUDA_SCALE: y = a * p.factor; break;
        case NANO_CUDA_SWIGLU: y = silu(a) * b; break;
        case NANO_CUDA_ADD: y = a + b; break;
        default: y = a * b; break;
    }
    p.y[blockIdx.y * p.y_stride + i] = y;
}

NANO_CUDA_KERNEL(nano_rows_kernel, nano_cuda_rows) {
    const int i = static_cast<int>(blockIdx.x) * NANO_CUDA_THREADS + static_cast<int>(threadIdx.x);
    if (i < p.n) {
        p.y[blockIdx.y * p.y_stride + i] = p.x[p.index[blockIdx.y] * p.x_stride + i];
    }
}

NANO_CUDA_KERNEL(nano_rope_kernel, nano_cuda_rope) {
    const int64_t head = static_cast<int64_t>(blockIdx.x) * p.n;
    const float *x = p.x + blockIdx.y * p.x_stride + head;
    const float *table = p.table + blockIdx.y * p.table_stride;
    float *y = p.y + blockIdx.y * p.y_stride + head;
    const int half = p.n_rot / 2;
    for (int i = static_cast<int>(threadIdx.x); i < half; i += NANO_CUDA_THREADS) {
        const int a = p.order == 0 ? 2 * i : i, b = p.order == 0 ? 2 * i + 1 : i + half;
        const float c = table[2 * i], s = table[2 * i + 1], xa = x[a], xb = x[b];
        y[a] = xa * c - xb * s;
        y[b] = xa * s + xb * c;
    }
    for (int i = p.n_rot + static_cast<int>(threadIdx.x); i < p.n; i += NANO_CUDA_THREADS) {
        y[i] = x[i];
    }
}
