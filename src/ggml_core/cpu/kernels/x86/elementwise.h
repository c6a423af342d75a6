/* Elementwise kernels and norms: the loops that the levels share, over vec_<level>.h. */
#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/vmath.h"

void V_LEVEL(nano_f32_to_f16)(const void *x, void *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        const int count = (int)(n - i < V_LANES ? n - i : V_LANES);
        v_store_f16_part((uint8_t *)y + 2 * i, v_get((const float *)x + i, n - i), count);
    }
}

void V_LEVEL(nano_add)(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        v_put(y + i, v_add(v_get(a + i, n - i), v_get(b + i, n - i)), n - i);
    }
}

void V_LEVEL(nano_mul)(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        v_put(y + i, v_mul(v_get(a + i, n - i), v_get(b + i, n - i)), n - i);
    }
}

void V_LEVEL(nano_scale)(const float *a, float s, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        v_put(y + i, v_mul(v_get(a + i, n - i), v_set(s)), n - i);
    }
}

/* x * sigmoid(u) */
V_INLINE vf gate(vf x, vf u) { return v_div(x, v_add(v_set(1.0f), v_exp(v_sub(v_zero(), u)))); }

void V_LEVEL(nano_silu)(const float *a, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x = v_get(a + i, n - i);
        v_put(y + i, gate(x, x), n - i);
    }
}

void V_LEVEL(nano_swiglu)(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x = v_get(a + i, n - i);
        v_put(y + i, v_mul(gate(x, x), v_get(b + i, n - i)), n - i);
    }
}

void V_LEVEL(nano_gelu)(const float *a, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x = v_get(a + i, n - i);
        const vf factor = v_fma(v_mul(x, x), v_set(NANO_GELU_CUBIC), v_set(1.0f));
        v_put(y + i, gate(x, v_mul(v_mul(x, v_set(NANO_GELU_LINEAR)), factor)), n - i);
    }
}

void V_LEVEL(nano_rms_norm)(const float *x, const float *w, const float *b, float eps, float *y, int64_t n) {
    vf squares = v_zero();
    (void)b;
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x_i = v_get(x + i, n - i);
        squares = v_fma(x_i, x_i, squares);
    }
    const vf factor = v_set(1.0f / sqrtf(v_sum(squares) / (float)n + eps));
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf scaled = v_mul(v_get(x + i, n - i), factor);
        v_put(y + i, w != NULL ? v_mul(scaled, v_get(w + i, n - i)) : scaled, n - i);
    }
}

void V_LEVEL(nano_norm)(const float *x, const float *w, const float *b, float eps, float *y, int64_t n) {
    vf sum = v_zero();
    vf squares = v_zero();
    for (int64_t i = 0; i < n; i += V_LANES) {
        sum = v_add(sum, v_get(x + i, n - i));
    }
    const vf mean = v_set(v_sum(sum) / (float)n);
    for (int64_t i = 0; i < n; i += V_LANES) {
        vf difference = v_sub(v_get(x + i, n - i), mean);
        if (n - i < V_LANES) {
            difference = v_first(difference, (int)(n - i), v_zero());
        }
        squares = v_fma(difference, difference, squares);
    }
    const vf factor = v_set(1.0f / sqrtf(v_sum(squares) / (float)n + eps));
    for (int64_t i = 0; i < n; i += V_LANES) {
        vf scaled = v_mul(v_sub(v_get(x + i, n - i), mean), factor);
        scaled = w != NULL ? v_mul(scaled, v_get(w + i, n - i)) : scaled;
        v_put(y + i, b != NULL ? v_add(scaled, v_get(b + i, n - i)) : scaled, n - i);
    }
}

/* 1 / (1 + exp(-u)) */
V_INLINE vf sigmoid(vf u) { return gate(v_set(1.0f), u); }

/* silu'(x), s the sigmoid of x */
V_INLINE vf silu_slope(vf x, vf s) {
    const vf one = v_set(1.0f);
    return v_mul(s, v_fma(x, v_sub(one, s), one));
}

void V_LEVEL(nano_silu_grad)(const float *a, const float *b, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x = v_get(a + i, n - i);
        v_put(y + i, v_mul(silu_slope(x, sigmoid(x)), v_get(b + i, n - i)), n - i);
    }
}

void V_LEVEL(nano_swiglu_grad)(const float *a, const float *b, const float *d, float *da, float *db, int64_t n) {
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x = v_get(a + i, n - i);
        const vf d_i = v_get(d + i, n - i);
        const vf s = sigmoid(x);
        v_put(da + i, v_mul(v_mul(silu_slope(x, s), v_get(b + i, n - i)), d_i), n - i);
        v_put(db + i, v_mul(v_mul(x, s), d_i), n - i);
    }
}

void V_LEVEL(nano_gelu_grad)(const float *a, const float *b, float *y, int64_t n) {
    const vf one = v_set(1.0f);
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x = v_min(v_set(NANO_GELU_SATURATED), v_max(v_set(-NANO_GELU_SATURATED), v_get(a + i, n - i)));
        const vf linear = v_mul(x, v_set(NANO_GELU_LINEAR));
        const vf cubic = v_mul(v_mul(x, x), v_set(NANO_GELU_CUBIC));
        const vf s = sigmoid(v_mul(linear, v_add(one, cubic)));
        const vf turn = v_mul(linear, v_fma(v_set(3.0f), cubic, one)); /* x u' */
        v_put(y + i, v_mul(v_mul(s, v_fma(v_sub(one, s), turn, one)), v_get(b + i, n - i)), n - i);
    }
}

void V_LEVEL(nano_rms_norm_grad)(const float *x, const float *w, const float *d, float eps, float *y, int64_t n) {
    vf squares = v_zero();
    vf dot = v_zero();
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf x_i = v_get(x + i, n - i);
        squares = v_fma(x_i, x_i, squares);
        dot = v_fma(x_i, v_mul(v_get(w + i, n - i), v_get(d + i, n - i)), dot);
    }
    const float factor = 1.0f / sqrtf(v_sum(squares) / (float)n + eps);
    const vf slope = v_set(-factor * factor * (v_sum(dot) / (float)n));
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf g = v_mul(v_get(w + i, n - i), v_get(d + i, n - i));
        v_put(y + i, v_mul(v_set(factor), v_fma(v_get(x + i, n - i), slope, g)), n - i);
    }
}

void V_LEVEL(nano_norm_grad)(const float *x, const float *w, const float *d, float eps, float *y, int64_t n) {
    vf sum = v_zero();
    vf sum_g = v_zero();
    for (int64_t i = 0; i < n; i += V_LANES) {
        sum = v_add(sum, v_get(x + i, n - i));
        sum_g = v_fma(v_get(w + i, n - i), v_get(d + i, n - i), sum_g);
    }
    const vf mean = v_set(v_sum(sum) / (float)n);
    const vf mean_g = v_set(v_sum(sum_g) / (float)n);
    vf squares = v_zero();
    vf dot = v_zero();
    for (int64_t i = 0; i < n; i += V_LANES) {
        vf difference = v_sub(v_get(x + i, n - i), mean);
        if (n - i < V_LANES) {
            difference = v_first(difference, (int)(n - i), v_zero());
        }
        squares = v_fma(difference, difference, squares);
        dot = v_fma(difference, v_mul(v_get(w + i, n - i), v_get(d + i, n - i)), dot);
    }
    const float factor = 1.0f / sqrtf(v_sum(squares) / (float)n + eps);
    const vf slope = v_set(-factor * factor * (v_sum(dot) / (float)n));
    for (int64_t i = 0; i < n; i += V_LANES) {
        const vf g = v_sub(v_mul(v_get(w + i, n - i), v_get(d + i, n - i)), mean_g);
        v_put(y + i, v_mul(v_set(factor), v_fma(v_sub(v_get(x + i, n - i), mean), slope, g)), n - i);
    }
}
