/*
 * Linears over many columns: a block makes 64 rows by 64 columns of the result, part (32 elements) by part, from shared
 * memory. Quantised weights meet int8 activations: on the matrix unit from sm_75 on, by dp4a from sm_61 on, and before
 * that in pairs of halves, which sm_53 multiplies at twice the rate of f32. Sums over a part are exact but for the
 * last; over parts they are f32.
 */
#include "cuda/device/mma.cuh"
#include "cuda/device/types.cuh"

enum {
    TILE = NANO_CUDA_TILE,
    PAD = 9,       /* ints a row of a part in shared memory: eight and one against bank conflicts */
    HALF_PAD = 17, /* the same for pairs of halves */
    FLOAT_STEP = 16,
    OUT_ROWS = 4, /* of a thread: rows x, x + 16, x + 32, x + 48 of columns 8 y ... 8 y + 7 */
    OUT_COLUMNS = 8
};

NANO_DEVICE void store(const nano_cuda_linear &p, int r, int c, float y) {
    if (r >= p.n_rows || c >= p.n_columns) {
        return;
    }
    float *out = p.y + c * p.y_stride + r;
    y += p.bias != nullptr ? p.bias[r] : 0.0f;
    y = p.activation == 1 ? gelu(y) : p.activation == 2 ? silu(y) : p.activation == NANO_CUDA_TIMES ? y * *out : y;
    *out = y + (p.residual != nullptr ? p.residual[c * p.residual_stride + r] : 0.0f);
}

/* A part of 64 rows of weights and of 64 columns of activations. */
struct part_tile {
    float scale[TILE][2], min[TILE][2];
    float d[TILE];
    float sum[TILE][2]; /* of the halves' activations */
#if __CUDA_ARCH__ >= 610
    int w[TILE][PAD], x[TILE][PAD];
#else
    __half2 w[TILE][HALF_PAD], x[TILE][HALF_PAD];
#endif
};

#if __CUDA_ARCH__ < 610
/* Four bytes divided by 8 as halves, exactly: so sums of 16 products stay far below what a half can hold. */
NANO_DEVICE void to_halves(int bytes, __half2 *out) {
    float f[4];
    for (int k = 0; k < 4; k++) {
        f[k] = 0.125f * static_cast<float>(static_cast<int8_t>(static_cast<unsigned>(bytes) >> (8 * k)));
    }
    out[0] = __floats2half2_rn(f[0], f[1]);
    out[1] = __floats2half2_rn(f[2], f[3]);
}
#endif

/* Each thread brings half a part of a row and of a column. */
template <typename Type> NANO_DEVICE void load_part(const nano_cuda_linear &p, int r0, int c0, int part, part_tile &t) {
    const int i = static_cast<int>(threadIdx.x) / 2, sub = static_cast<int>(threadIdx.x) % 2;
    const int r = r0 + i < p.n_rows ? r0 + i : p.n_rows - 1, c = c0 + i < p.n_columns ? c0 + i : p.n_columns - 1;
    const uint8_t *x = p.x + c * p.x_bytes;
    const int *q = reinterpret_cast<const int *>(x) + part * 8;
    unit u;
    Type::load(p.w + r * p.w_bytes, part, sub, u);
    NANO_UNROLL
    for (int k = 0; k < 4; k++) {
        const int at = int_of(sub, k);
#if __CUDA_ARCH__ >= 610
        t.w[i][at] = u.q[k];
        t.x[i][at] = q[at];
#else
        to_halves(u.q[k], &t.w[i][2 * at]);
        to_halves(q[at], &t.x[i][2 * at]);
#endif
    }
    t.scale[i][sub] = u.scale[sub];
    t.min[i][sub] = u.min[sub];
    t.sum[i][sub] = static_cast<float>(reinterpret_cast<const int16_t *>(x + p.n + p.n / 32 * 4)[part * 2 + sub]);
    if (sub == 0) {
        t.d[i] = reinterpret_cast<const float *>(x + p.n)[part];
    }
}

/* Half h of a part adds to an output what its products' sum `dot` stands for. */
template <typename Type> NANO_DEVICE float scaled(const part_tile &t, int r, int c, int h, float dot) {
    const float y = t.scale[r][h] * dot;
    return t.d[c] * (Type::HAS_MIN ? y - t.min[r][h] * t.sum[c][h] : y);
}

#if __CUDA_ARCH__ >= 750

/* A warp has all rows of 16 columns. */
template <typename Type> NANO_DEVICE void tile_quantised(const nano_cuda_linear &p, int r0, int c0) {
    __shared__ part_tile t;
    float out[4][2][4] = {};
    const int row = lane_of() / 4, word = lane_of() % 4, columns = warp_of() * 16;
    for (int part = 0; part < p.n / 32; part++) {
        load_part<Type>(p, r0, c0, part, t);
        __syncthreads();
        NANO_UNROLL
        for (int h = 0; h < 2; h++) {
            NANO_UNROLL
            for (int i = 0; i < 4; i++) {
                const unsigned a[2] = {static_cast<unsigned>(t.w[16 * i + row][4 * h + word]),
                                       static_cast<unsigned>(t.w[16 * i + row + 8][4 * h + word])};
                NANO_UNROLL
                for (int j = 0; j < 2; j++) {
                    int c[4] = {0, 0, 0, 0};
                    mma_bytes(c, a, static_cast<unsigned>(t.x[columns + 8 * j + row][4 * h + word]));
                    NANO_UNROLL
                    for (int k = 0; k < 4; k++) {
                        out[i][j][k] += scaled<Type>(t, 16 * i + row + k / 2 * 8, columns + 8 * j + 2 * word + k % 2, h,
                                                     static_cast<float>(c[k]));
                    }
                }
            }
        }
        __syncthreads();
    }
    NANO_UNROLL
    for (int i = 0; i < 32; i++) {
        const int k = i % 4, j = i / 4 % 2, b = i / 8;
        store(p, r0 + 16 * b + row + k / 2 * 8, c0 + columns + 8 * j + 2 * word + k % 2, out[b][j][k]);
    }
}

#else

template <typename Type> NANO_DEVICE void tile_quantised(const nano_cuda_linear &p, int r0, int c0) {
    __shared__ part_tile t;
    float out[OUT_ROWS][OUT_COLUMNS] = {};
    const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16 * OUT_COLUMNS;
    for (int part = 0; part < p.n / 32; part++) {
        load_part<Type>(p, r0, c0, part, t);
        __syncthreads();
        NANO_UNROLL
        for (int h = 0; h < 2; h++) {
#  if __CUDA_ARCH__ >= 610
            int dots[OUT_ROWS][OUT_COLUMNS] = {};
            enum { FIRST = 0, WORDS = 4 };
#  else
            __half2 dots[OUT_ROWS][OUT_COLUMNS];
            NANO_UNROLL
            for (int i = 0; i < OUT_ROWS * OUT_COLUMNS; i++) {
                dots[i / OUT_COLUMNS][i % OUT_COLUMNS] = __floats2half2_rn(0.0f, 0.0f);
            }
            enum { FIRST = 0, WORDS = 8 };
#  endif
            NANO_UNROLL
            for (int k = FIRST; k < WORDS; k++) {
                NANO_UNROLL
                for (int i = 0; i < OUT_ROWS; i++) {
                    NANO_UNROLL
                    for (int j = 0; j < OUT_COLUMNS; j++) {
#  if __CUDA_ARCH__ >= 610
                        dots[i][j] = dot4(t.w[x + 16 * i][h * WORDS + k], t.x[y + j][h * WORDS + k], dots[i][j]);
#  else
                        dots[i][j] = __hfma2(t.w[x + 16 * i][h * WORDS + k], t.x[y + j][h * WORDS + k], dots[i][j]);
#  endif
                    }
                }
            }
            NANO_UNROLL
            for (int i = 0; i < OUT_ROWS; i++) {
                NANO_UNROLL
                for (int j = 0; j < OUT_COLUMNS; j++) {
#  if __CUDA_ARCH__ >= 610
                    const float dot = static_cast<float>(dots[i][j]);
#  else
                    const float dot = 64.0f * (__low2float(dots[i][j]) + __high2float(dots[i][j]));
#  endif
                    out[i][j] += scaled<Type>(t, x + 16 * i, y + j, h, dot);
                }
            }
        }
        __syncthreads();
    }
    NANO_UNROLL
    for (int i = 0; i < OUT_ROWS; i++) {
        NANO_UNROLL
        for (int j = 0; j < OUT_COLUMNS; j++) {
            store(p, r0 + x + 16 * i, c0 + y + j, out[i][j]);
        }
    }
}

#endif

template <typename Type> NANO_DEVICE void tile_float(const nano_cuda_linear &p, int r0, int c0) {
    __shared__ float w[TILE][FLOAT_STEP + 1], x[TILE][FLOAT_STEP + 1];
    float out[OUT_ROWS][OUT_COLUMNS] = {};
    const int tx = static_cast<int>(threadIdx.x) % 16, ty = static_cast<int>(threadIdx.x) / 16 * OUT_COLUMNS;
    for (int start = 0; start < p.n; start += FLOAT_STEP) {
        for (int e = static_cast<int>(threadIdx.x); e < TILE * FLOAT_STEP; e += NANO_CUDA_THREADS) {
            const int i = e / FLOAT_STEP, k = e % FLOAT_STEP;
            const bool inside = start + k < p.n;
            const int r = r0 + i < p.n_rows ? r0 + i : p.n_rows - 1,
                      c = c0 + i < p.n_columns ? c0 + i : p.n_columns - 1;
            w[i][k] = inside ? Type::load(p.w + r * p.w_bytes, start + k) : 0.0f;
            x[i][k] = inside ? reinterpret_cast<const float *>(p.x + c * p.x_bytes)[start + k] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < FLOAT_STEP; k++) {
            NANO_UNROLL
            for (int i = 0; i < OUT_ROWS; i++) {
                NANO_UNROLL
                for (int j = 0; j < OUT_COLUMNS; j++) {
                    out[i][j] += w[tx + 16 * i][k] * x[ty + j][k];
                }
            }
        }
        __syncthreads();
    }
    NANO_UNROLL
    for (int i = 0; i < OUT_ROWS; i++) {
        NANO_UNROLL
        for (int j = 0; j < OUT_COLUMNS; j++) {
            store(p, r0 + tx + 16 * i, c0 + ty + j, out[i][j]);
        }
    }
}

#if __CUDA_ARCH__ >= 750

/* F16 weights on the matrix unit; activations are rounded to halves. */
template <typename Type> NANO_DEVICE void tile_halves(const nano_cuda_linear &p, int r0, int c0) {
    enum { STEP = 32, WORDS = STEP / 2 };
    __shared__ unsigned w[TILE][WORDS + 1], x[TILE][WORDS + 1];
    float out[4][2][4] = {};
    const int row = lane_of() / 4, word = lane_of() % 4, columns = warp_of() * 16;
    for (int start = 0; start < p.n; start += STEP) {
        for (int e = static_cast<int>(threadIdx.x); e < TILE * WORDS; e += NANO_CUDA_THREADS) {
            const int i = e / WORDS, k = start + e % WORDS * 2;
            const int r = r0 + i < p.n_rows ? r0 + i : p.n_rows - 1,
                      c = c0 + i < p.n_columns ? c0 + i : p.n_columns - 1;
            const uint8_t *from = p.w + r * p.w_bytes + 2 * k;
            const float *column = reinterpret_cast<const float *>(p.x + c * p.x_bytes) + k;
            const unsigned low = k < p.n ? static_cast<unsigned>(load_2(from)) : 0u;
            const unsigned high = k + 1 < p.n ? static_cast<unsigned>(load_2(from + 2)) : 0u;
            const __half2 pair = __floats2half2_rn(k < p.n ? column[0] : 0.0f, k + 1 < p.n ? column[1] : 0.0f);
            w[i][e % WORDS] = low | high << 16;
            memcpy(&x[i][e % WORDS], &pair, sizeof pair);
        }
        __syncthreads();
        NANO_UNROLL
        for (int k = 0; k < WORDS; k += 4) {
            NANO_UNROLL
            for (int i = 0; i < 4; i++) {
                const unsigned a[2] = {w[16 * i + row][k + word], w[16 * i + row + 8][k + word]};
                NANO_UNROLL
                for (int j = 0; j < 2; j++) {
                    mma_halves(out[i][j], a, x[columns + 8 * j + row][k + word]);
                }
            }
        }
        __syncthreads();
    }
    NANO_UNROLL
    for (int i = 0; i < 32; i++) {
        const int k = i % 4, j = i / 4 % 2, b = i / 8;
        store(p, r0 + 16 * b + row + k / 2 * 8, c0 + columns + 8 * j + 2 * word + k % 2, out[b][j][k]);
    }
}

#else
#  define tile_halves tile_float
#endif

#define NANO_TILE_KERNEL(name, product, type)                                                       \
    NANO_CUDA_KERNEL(nano_tile_##name##_kernel, nano_cuda_linear) {                                 \
        product<type>(p, static_cast<int>(blockIdx.x) * TILE, static_cast<int>(blockIdx.y) * TILE); \
    }

NANO_TILE_KERNEL(f32, tile_float, type_f32)
NANO_TILE_KERNEL(f16, tile_halves, type_f16)
NANO_TILE_KERNEL(bf16, tile_float, type_bf16)
NANO_TILE_KERNEL(q8_0, tile_quantised, type_q8_0)
NANO_TILE_KERNEL(q4_0, tile_quantised, type_q4_0)
NANO_TILE_KERNEL(q4_1, tile_quantised, type_q4_1)
NANO_TILE_KERNEL(q5_0, tile_quantised, type_q5_0)
NANO_TILE_KERNEL(q5_1, tile_quantised, type_q5_1)
NANO_TILE_KERNEL(q2_k, tile_quantised, type_q2_k)
NANO_TILE_KERNEL(q3_k, tile_quantised, type_q3_k)
NANO_TILE_KERNEL(q4_k, tile_quantised, type_q4_k)
NANO_TILE_KERNEL(q5_k, tile_quantised, type_q5_k)
NANO_TILE_KERNEL(q6_k, tile_quantised, type_q6_k)
NANO_TILE_KERNEL(iq4_nl, tile_quantised, type_iq4_nl)
NANO_TILE_KERNEL(iq4_xs, tile_quantised, type_iq4_xs)
