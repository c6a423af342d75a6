/* exp and the ends of rows, over vec_<level>.h. */
#ifndef NANO_CPU_KERNELS_X86_VMATH_H
#define NANO_CPU_KERNELS_X86_VMATH_H

#include <math.h>

/* The first `left` floats at p, if they are fewer than V_LANES, then zeros. */
V_INLINE vf v_get(const float *p, int64_t left) { return left >= V_LANES ? v_f32(p) : v_f32_part(p, (int)left); }
V_INLINE void v_put(float *p, vf a, int64_t left) {
    if (left >= V_LANES) {
        v_store(p, a);
    } else {
        v_store_part(p, a, (int)left);
    }
}

V_INLINE float v_sum(vf v) {
    const __m128 quarter = v_fold(v);
    const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

/* exp(x), within 2 units in the last place; 0 from -104 down, infinity from 89 up, NaN of NaN.
 * x = n ln 2 + r, |r| <= ln 2 / 2 (Cody & Waite 1980: ln 2 in two parts, n times the first being exact);
 * exp(r) = 1 + r + r^2 q(r), q of degree 4 fitted for the least relative error, 4e-9. */
V_INLINE vf v_exp(vf x) {
    const vf clamped = v_min(v_set(89.0f), v_max(v_set(-104.0f), x));
    const vf n = v_round(v_mul(clamped, v_set(0x1.715476p+0f))); /* 1 / ln 2 */
    const vf r = v_fma(n, v_set(0x1.bd0106p-13f), v_fma(n, v_set(-0x1.63p-1f), clamped));
    vf q = v_set(0x1.6a2434p-10f);
    q = v_fma(q, r, v_set(0x1.1239e2p-7f));
    q = v_fma(q, r, v_set(0x1.5558f2p-5f));
    q = v_fma(q, r, v_set(0x1.555492p-3f));
    q = v_fma(q, r, v_set(0x1.fffffcp-2f));
    return v_times_power(v_add(v_set(1.0f), v_fma(v_mul(r, r), q, r)), n);
}

#endif
