/* Rotary embeddings, softmax and the value sum: the loops that the levels share, over vec_<level>.h, V_VECTORS
 * (vectors of a value row at once) and V_COLUMNS. */
#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/vmath.h"
#include "types/blocks.h"

static void copy_rest(const float *x, float *y, int64_t n) {
    if (x != y && n > 0) {
        memcpy(y, x, (size_t)n * sizeof *x);
    }
}

void V_LEVEL(nano_rope_pairs)(const float *x, const float *table, float *y, int64_t n_rot, int64_t n) {
    for (int64_t i = 0; i < n_rot; i += V_LANES) {
        const vf pairs = v_get(x + i, n_rot - i);
        const vf angles = v_get(table + i, n_rot - i);
        const vf crossed = v_mul(v_swap_pairs(pairs), v_odds(angles));
        v_put(y + i, v_fma_subtract_add(pairs, v_evens(angles), crossed), n_rot - i);
    }
    copy_rest(x + n_rot, y + n_rot, n - n_rot);
}

void V_LEVEL(nano_rope_halves)(const float *x, const float *table, float *y, int64_t n_rot, int64_t n) {
    const int64_t half = n_rot / 2;
    for (int64_t i = 0; i < half; i += V_LANES) {
        const int64_t left = half - i;
        const vf low = v_get(table + 2 * i, 2 * left);
        const vf high = 2 * left > V_LANES ? v_get(table + 2 * i + V_LANES, 2 * left - V_LANES) : v_zero();
        const vf cosine = v_unzip(low, high, 0);
        const vf sine = v_unzip(low, high, 1);
        const vf re = v_get(x + i, left);
        const vf im = v_get(x + half + i, left);
        v_put(y + i, v_sub(v_mul(re, cosine), v_mul(im, sine)), left);
        v_put(y + half + i, v_add(v_mul(re, sine), v_mul(im, cosine)), left);
    }
    copy_rest(x + n_rot, y + n_rot, n - n_rot);
}

float V_LEVEL(nano_max)(const float *x, int64_t n) {
    enum { CHAINS = 4 }; /* so that long rows, of logits, do not wait for one */
    const vf none = v_set(-INFINITY);
    vf chains[CHAINS] = {none, none, none, none};
    int64_t i = 0;
    for (; n - i >= CHAINS * V_LANES; i += CHAINS * V_LANES) {
        for (int k = 0; k < CHAINS; k++) {
            chains[k] = v_max(v_f32(x + i + k * V_LANES), chains[k]);
        }
    }
    vf largest = v_max(v_max(chains[0], chains[1]), v_max(chains[2], chains[3]));
    for (; i < n; i += V_LANES) {
        const vf x_i = v_get(x + i, n - i);
        largest = v_max(n - i < V_LANES ? v_first(x_i, (int)(n - i), none) : x_i, largest);
    }
    const __m128 quarter = v_fold_max(largest);
    const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}

float V_LEVEL(nano_exp_sum)(float *x, float max, int64_t n) {
    vf sum = v_zero();
    for (int64_t i = 0; i < n; i += V_LANES) {
        vf power = v_exp(v_sub(v_get(x + i, n - i), v_set(max)));
        if (n - i < V_LANES) {
            power = v_first(power, (int)(n - i), v_zero());
        }
        v_put(x + i, power, n - i);
        sum = v_add(sum, power);
    }
    return v_sum(sum);
}

/* Two sums, whose additions do not wait for each other. */
void V_LEVEL(nano_softmax_grad)(const float *p, float *d, int64_t n) {
    vf even = v_zero(), odd = v_zero();
    for (int64_t i = 0; i < n; i += 2 * V_LANES) {
        even = v_fma(v_get(p + i, n - i), v_get(d + i, n - i), even);
        if (i + V_LANES < n) {
            odd = v_fma(v_get(p + i + V_LANES, n - i - V_LANES), v_get(d + i + V_LANES, n - i - V_LANES), odd);
        }
    }
    const vf sum = v_set(v_sum(v_add(even, odd)));
    for (int64_t i = 0; i < n; i += V_LANES) {
        v_put(d + i, v_mul(v_get(p + i, n - i), v_sub(v_get(d + i, n - i), sum)), n - i);
    }
}

/* Elements i .. of a row, `left` of them if that is less than V_LANES; then anything. i is whole vectors. */
V_INLINE vf load_value(const nano_type type, const uint8_t *row, int64_t i, int64_t left) {
    if (type == NANO_TYPE_Q8_0) { /* blocks can be read beyond `left` */
        const nano_block_q8_0 *block = (const nano_block_q8_0 *)row + i / NANO_BLOCK;
        return v_mul(v_set_f16(block->d), v_i8(block->q + i % NANO_BLOCK));
    }
    if (type == NANO_TYPE_Q4_0) {
        const nano_block_q4_0 *block = (const nano_block_q4_0 *)row + i / NANO_BLOCK;
        return v_mul(v_set_f16(block->d), v_nibbles(block->q + i % 16, (int)(i % NANO_BLOCK / 16), 8));
    }
    if (type == NANO_TYPE_F16) {
        return left >= V_LANES ? v_f16(row + 2 * i) : v_f16_part(row + 2 * i, (int)left);
    }
    return left >= V_LANES ? v_f32(row + 4 * i) : v_f32_part(row + 4 * i, (int)left);
}

/* `vectors` whole vectors, or one that may be short, from element i on, of `columns` columns from c on: the sums
 * stay in registers while the rows pass. */
V_INLINE void weigh_tile(const nano_type type, const nano_weigh_args *a, int64_t c, int64_t i, const int vectors,
                         const int columns) {
    const int64_t left = vectors == 1 ? a->n - i : V_VECTORS * V_LANES;
    const uint8_t *v = a->v;
    const float *p = a->p + c * a->p_stride;
    float *out = a->out + c * a->out_stride + i;
    vf sum[V_COLUMNS][V_VECTORS];
    for (int k = 0; k < columns; k++) {
        for (int j = 0; j < vectors; j++) {
            sum[k][j] = v_get(out + k * a->out_stride + j * V_LANES, left - j * V_LANES);
        }
    }
    for (int64_t r = 0; r < a->n_rows; r++, v += a->v_stride) {
        vf value[V_VECTORS];
        for (int j = 0; j < vectors; j++) {
            value[j] = load_value(type, v, i + j * V_LANES, left - j * V_LANES);
        }
        for (int k = 0; k < columns; k++) {
            const vf weight = v_set(p[k * a->p_stride + r]);
            for (int j = 0; j < vectors; j++) {
                sum[k][j] = v_fma(weight, value[j], sum[k][j]);
            }
        }
    }
    for (int k = 0; k < columns; k++) {
        for (int j = 0; j < vectors; j++) {
            v_put(out + k * a->out_stride + j * V_LANES, sum[k][j], left - j * V_LANES);
        }
    }
}

V_INLINE void weigh_columns(const nano_type type, const nano_weigh_args *a, int64_t c, const int columns) {
    int64_t i = 0;
    for (; i + V_VECTORS * V_LANES <= a->n; i += V_VECTORS * V_LANES) {
        weigh_tile(type, a, c, i, V_VECTORS, columns);
    }
    for (; i < a->n; i += V_LANES) {
        weigh_tile(type, a, c, i, 1, columns);
    }
}

V_INLINE void weigh(const nano_type type, const nano_weigh_args *a) {
    int64_t c = 0;
    for (; c + V_COLUMNS <= a->n_cols; c += V_COLUMNS) {
        weigh_columns(type, a, c, V_COLUMNS);
    }
    switch (a->n_cols - c) {
        case 3: weigh_columns(type, a, c, 3); break;
        case 2: weigh_columns(type, a, c, 2); break;
        case 1: weigh_columns(type, a, c, 1); break;
        default: break;
    }
}

void V_LEVEL(nano_weigh_f32)(const nano_weigh_args *a) { weigh(NANO_TYPE_F32, a); }
void V_LEVEL(nano_weigh_f16)(const nano_weigh_args *a) { weigh(NANO_TYPE_F16, a); }
void V_LEVEL(nano_weigh_q8_0)(const nano_weigh_args *a) { weigh(NANO_TYPE_Q8_0, a); }
void V_LEVEL(nano_weigh_q4_0)(const nano_weigh_args *a) { weigh(NANO_TYPE_Q4_0, a); }
