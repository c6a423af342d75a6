/*
 * The searches of quantising (types/search.h): a vector has the eight parts. The arithmetic is the reference's,
 * operation by operation: the bits must be the same at every level.
 */
#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/loads.h"

typedef __m256 vf;

V_INLINE vf load(const float *p) { return _mm256_loadu_ps(p); }
V_INLINE void store(float *p, vf x) { _mm256_storeu_ps(p, x); }
V_INLINE vf all(float x) { return _mm256_set1_ps(x); }
V_INLINE vf zero(void) { return _mm256_setzero_ps(); }
V_INLINE vf add(vf a, vf b) { return _mm256_add_ps(a, b); }
V_INLINE vf sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
V_INLINE vf mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
V_INLINE vf greater(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
V_INLINE vf both(vf a, vf b) { return _mm256_and_ps(a, b); }
V_INLINE vf choose(vf mask, vf yes, vf no) { return _mm256_blendv_ps(no, yes, mask); }
V_INLINE vf magnitude(vf x) { return _mm256_andnot_ps(all(-0.0f), x); }
V_INLINE vf round_small(vf x) { return sub(add(x, all(12582912.0f)), all(12582912.0f)); }
V_INLINE vf clamp(vf x, vf lo, vf hi) { return _mm256_min_ps(_mm256_max_ps(x, lo), hi); }
V_INLINE vf finite_or_0(vf x) { return both(x, _mm256_cmp_ps(magnitude(x), all(FLT_MAX), _CMP_LE_OQ)); }
V_INLINE vf quotient(vf a, vf b) { return both(_mm256_div_ps(a, b), _mm256_cmp_ps(b, zero(), _CMP_NEQ_UQ)); }

/* ------------------------------------------------------------------ parts */

V_INLINE void transpose(vf *r) {
    vf a[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        const vf low = r[i];
        r[i] = _mm256_permute2f128_ps(low, r[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(low, r[i + 4], 0x31);
    }
}

/* Elements e .. e + 7 of all parts, an element a vector. */
V_INLINE void load_8(const float *x, int n, int n_parts, int e, vf *out) {
    for (int l = 0; l < NANO_LANES; l++) {
        out[l] = l < n_parts ? load(x + l * n + e) : zero();
    }
    transpose(out);
}

void V_LEVEL(nano_load_parts)(nano_parts *p, const float *x, const float *importance, int n, int n_parts) {
    vf v[8];
    vf total = zero();
    p->n = n;
    for (int e = 0; e < n; e += 8) {
        load_8(x, n, n_parts, e, v);
        for (int i = 0; i < 8; i++) {
            store(p->x[e + i], finite_or_0(v[i]));
        }
    }
    for (int e = 0; importance != NULL && e < n; e += 8) {
        load_8(importance, n, n_parts, e, v);
        for (int i = 0; i < 8; i++) {
            store(p->w[e + i], v[i]);
            total = add(total, v[i]);
        }
    }
    const vf sane = both(greater(total, all(1e-30f)), greater(all(1e30f), total));
    const vf scale = both(sane, _mm256_div_ps(all((float)n), total));
    const vf is_0 = _mm256_cmp_ps(scale, zero(), _CMP_EQ_OQ);
    for (int e = 0; e < n; e++) {
        const vf w = importance != NULL ? mul(load(p->w[e]), scale) : zero();
        store(p->w[e], choose(is_0, all(1.0f), w));
    }
}

V_INLINE vf at_half(vf x) {
    return clamp(add(mul(x, all(2.0f)), all((float)(NANO_BOOK_HALVES / 2))), zero(), all(NANO_BOOK_HALVES - 1));
}

/* The book's values for x. */
V_INLINE vf look_up(const nano_book *book, vf x) {
    return _mm256_i32gather_ps(book->value, _mm256_cvttps_epi32(at_half(x)), 4);
}

void V_LEVEL(nano_encode_parts)(const nano_parts *p, const float *d, const float *m, const nano_grid *grid,
                                nano_sums *sums, uint8_t *code) {
    const vf inverse = finite_or_0(quotient(all(1.0f), load(d)));
    const vf offset = m != NULL ? load(m) : zero();
    const vf lowest = all(grid->lowest);
    vf w_ = zero(), x_ = zero(), q_ = zero(), xq = zero(), qq = zero();
    for (int from = 0; from < p->n; from += 8) {
        __m256i codes[8];
        for (int i = 0; i < 8; i++) {
            const vf x = load(p->x[from + i]);
            const vf w = load(p->w[from + i]);
            vf q = mul(add(x, offset), inverse);
            if (grid->book != NULL) {
                codes[i] = _mm256_cvttps_epi32(at_half(q));
                q = _mm256_i32gather_ps(grid->book->value, codes[i], 4);
            } else {
                q = round_small(clamp(q, lowest, all(grid->highest)));
                codes[i] = _mm256_cvttps_epi32(sub(q, lowest));
            }
            const vf wq = mul(w, q);
            w_ = add(w_, w);
            x_ = add(x_, mul(w, x));
            q_ = add(q_, wq);
            xq = add(xq, mul(wq, x));
            qq = add(qq, mul(wq, q));
        }
        if (code != NULL && grid->book != NULL) {
            for (int i = 0; i < 8; i++) {
                int32_t at[NANO_LANES];
                memcpy(at, &codes[i], sizeof at);
                for (int l = 0; l < NANO_LANES; l++) {
                    code[l * p->n + from + i] = grid->book->nearest[at[l]];
                }
            }
        } else if (code != NULL) {
            /* four codes of a part side by side in its lane, then eight in a row */
            __m256i four[2];
            for (int i = 0; i < 2; i++) {
                four[i] = _mm256_or_si256(
                    _mm256_or_si256(codes[4 * i], _mm256_slli_epi32(codes[4 * i + 1], 8)),
                    _mm256_or_si256(_mm256_slli_epi32(codes[4 * i + 2], 16), _mm256_slli_epi32(codes[4 * i + 3], 24)));
            }
            uint64_t low[4], high[4]; /* of lanes 0 1 4 5, 2 3 6 7 */
            const __m256i a = _mm256_unpacklo_epi32(four[0], four[1]);
            const __m256i b = _mm256_unpackhi_epi32(four[0], four[1]);
            memcpy(low, &a, sizeof low);
            memcpy(high, &b, sizeof high);
            for (int i = 0; i < 4; i++) {
                const int l = i / 2 * 4 + i % 2;
                memcpy(code + l * p->n + from, &low[i], 8);
                memcpy(code + (l + 2) * p->n + from, &high[i], 8);
            }
        }
    }
    store(sums->w, w_);
    store(sums->x, x_);
    store(sums->q, q_);
    store(sums->xq, xq);
    store(sums->qq, qq);
}

/* ---------------------------------------------------------------- y = d q */

void V_LEVEL(nano_search_scale)(const nano_parts *p, const nano_grid *grid, float *d) {
    const vf lowest = all(grid->lowest);
    const vf highest = all(grid->highest);
    vf largest = load(p->x[0]);
    for (int e = 1; e < p->n; e++) {
        const vf x = load(p->x[e]);
        largest = choose(greater(magnitude(x), magnitude(largest)), x, largest);
    }
    largest = quotient(all(1.0f), largest);
    vf best = zero();
    vf best_d = zero();
    vf best_at = zero();
    vf middle = zero();
    for (int k = 0; k < grid->n + NANO_FINER; k++) {
        middle = k == grid->n ? best_at : middle;
        const vf at = add(middle, all(nano_grid_at(grid, k)));
        const vf inverse = mul(at, largest);
        vf xq = zero();
        vf qq = zero();
        for (int e = 0; e < p->n; e++) {
            const vf x = load(p->x[e]);
            const vf scaled = mul(x, inverse);
            const vf q = grid->book != NULL ? look_up(grid->book, scaled) : round_small(clamp(scaled, lowest, highest));
            const vf wq = mul(load(p->w[e]), q);
            xq = add(xq, mul(wq, x));
            qq = add(qq, mul(wq, q));
        }
        const vf new_d = quotient(xq, qq);
        const vf gain = mul(new_d, xq);
        const vf better = greater(gain, best);
        best_d = choose(better, new_d, best_d);
        best_at = choose(better, at, best_at);
        best = choose(better, gain, best);
    }
    store(d, best_d);
}

float V_LEVEL(nano_search_step)(const float *v, const float *w, int n, float lowest, float highest) {
    float largest = 0.0f;
    for (int i = 0; i < n; i++) {
        largest = fabsf(v[i]) > fabsf(largest) ? v[i] : largest;
    }
    const float end = -lowest > highest ? lowest : highest;
    const vf k = _mm256_setr_ps(-3.0f, -2.0f, -1.0f, 0.0f, 1.0f, 2.0f, 3.0f, 4.0f);
    const vf wider = add(all(1.0f), _mm256_div_ps(mul(all(0.03f), k), all(NANO_LANES - 1)));
    const vf inverse = quotient(mul(all(end), wider), all(largest));
    vf xq = zero();
    vf qq = zero();
    for (int i = 0; i < n; i++) {
        const vf q = round_small(clamp(mul(all(v[i]), inverse), all(lowest), all(highest)));
        const vf wq = mul(all(w[i]), q);
        xq = add(xq, mul(wq, all(v[i])));
        qq = add(qq, mul(wq, q));
    }
    float steps[NANO_LANES], gains[NANO_LANES];
    store(steps, quotient(xq, qq));
    store(gains, mul(quotient(xq, qq), xq));
    float best = 0.0f;
    float step = 0.0f;
    for (int l = 0; l < NANO_LANES; l++) {
        if (gains[l] > best) {
            best = gains[l];
            step = steps[l];
        }
    }
    return step;
}

/* ------------------------------------------------------------ y = d q - m */

void V_LEVEL(nano_search_range)(const nano_parts *p, const nano_grid *grid, bool positive, float *d, float *m) {
    const vf highest = all(grid->highest);
    vf least = positive ? zero() : load(p->x[0]);
    vf most = least;
    for (int e = 0; e < p->n; e++) {
        least = _mm256_min_ps(load(p->x[e]), least);
        most = _mm256_max_ps(load(p->x[e]), most);
    }
    float shifted[NANO_PART_MAX][NANO_LANES];
    vf sum_w = zero();
    vf sum_x = zero();
    for (int e = 0; e < p->n; e++) {
        const vf x = sub(load(p->x[e]), least);
        const vf w = load(p->w[e]);
        store(shifted[e], x);
        sum_w = add(sum_w, w);
        sum_x = add(sum_x, mul(w, x));
    }
    const vf range = quotient(all(1.0f), sub(most, least));
    const vf allowed = positive ? all(-1.0f) : zero(); /* the sign says so */
    vf best = all(-FLT_MAX);
    vf best_d = zero();
    vf best_m = _mm256_xor_ps(quotient(sum_x, sum_w), all(-0.0f));
    best_m = choose(both(allowed, greater(least, best_m)), least, best_m);
    for (int k = 0; k < grid->n + 1; k++) {
        const float phase = 0.15f * (float)(k * 5 % 7 - 3);
        const float at = grid->from + (grid->to - grid->from) * (float)k / (float)(grid->n - 1);
        vf inverse = mul(all(at), range);
        vf offset = all(0.5f * (grid->highest - at) + phase);
        if (k == grid->n) {
            inverse = quotient(all(1.0f), best_d);
            offset = mul(best_m, inverse);
        }
        vf sum_q = zero();
        vf xq = zero();
        vf qq = zero();
        for (int e = 0; e < p->n; e++) {
            const vf x = load(shifted[e]);
            const vf q = round_small(clamp(add(mul(x, inverse), offset), zero(), highest));
            const vf wq = mul(load(p->w[e]), q);
            sum_q = add(sum_q, wq);
            xq = add(xq, mul(wq, x));
            qq = add(qq, mul(wq, q));
        }
        const vf determinant = sub(mul(sum_w, qq), mul(sum_q, sum_q));
        vf new_d = _mm256_div_ps(sub(mul(sum_w, xq), mul(sum_x, sum_q)), determinant);
        new_d = both(new_d, greater(determinant, mul(all(1e-5f), mul(sum_w, qq))));
        vf new_m = _mm256_div_ps(sub(mul(new_d, sum_q), sum_x), sum_w);
        const vf out = both(allowed, greater(least, new_m));
        new_m = choose(out, least, new_m);
        new_d = choose(out, quotient(add(xq, mul(new_m, sum_q)), qq), new_d);
        const vf twice = mul(all(2.0f), add(xq, mul(new_m, sum_q)));
        const vf gain =
            sub(mul(new_d, sub(twice, mul(new_d, qq))), mul(new_m, add(mul(all(2.0f), sum_x), mul(new_m, sum_w))));
        const vf better = both(greater(gain, best), greater(new_d, zero()));
        best_d = choose(better, new_d, best_d);
        best_m = choose(better, new_m, best_m);
        best = choose(better, gain, best);
    }
    store(d, best_d);
    store(m, sub(best_m, least));
}

/* -------------------------------------------------------------- conversions */

void V_LEVEL(nano_quantize_q8_0)(const void *x, void *y, int64_t n) {
    const float *in = x;
    nano_block_q8_0 *block = y;
    for (int64_t b = 0; b < n / NANO_BLOCK; b++, in += NANO_BLOCK, block++) {
        vf v[4];
        vf most = zero();
        for (int i = 0; i < 4; i++) {
            v[i] = load(in + 8 * i);
            most = _mm256_max_ps(magnitude(v[i]), most); /* passes over NaN */
        }
        float lanes[8];
        store(lanes, most);
        float largest = 0.0f;
        for (int i = 0; i < 8; i++) {
            largest = lanes[i] > largest ? lanes[i] : largest;
        }
        const float d = largest / 127.0f;
        const vf inverse = all(d != 0.0f ? 1.0f / d : 0.0f);
        nano_store_f16(block->d, d);
        __m256i codes[4];
        for (int i = 0; i < 4; i++) {
            /* halves go away from 0, and NaN to the lowest code */
            const vf q = clamp(mul(v[i], inverse), all(-128.0f), all(127.0f));
            const vf whole = _mm256_round_ps(q, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
            const vf up = both(_mm256_cmp_ps(magnitude(sub(q, whole)), all(0.5f), _CMP_GE_OQ),
                               _mm256_or_ps(all(1.0f), both(q, all(-0.0f))));
            codes[i] = _mm256_cvttps_epi32(add(whole, up));
        }
        const __m256i packed =
            _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((__m256i *)(void *)block->q, _mm256_permutevar8x32_epi32(packed, order));
    }
}

void V_LEVEL(nano_f16_to_f32)(const void *x, void *y, int64_t n) {
    const uint8_t *in = x;
    float *out = y;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        store(out + i, _mm256_cvtph_ps(load_128(in + 2 * i)));
    }
    for (; i < n; i++) {
        out[i] = nano_load_f16(in + 2 * i);
    }
}
