/* Gradients of elementwise kernels and norms, part of kerncheck.c: against the same in double, with bounds by the sizes
 * of the terms. */

static double oracle_silu_slope(double x) {
    const double s = oracle_sigmoid(x);
    return s * (1.0 + x * (1.0 - s));
}

/* Value and tolerance of y = f'(a) b. */
static double oracle_slope(double a, double b, double *bound) {
    double slope = oracle_silu_slope(a);
    double size = 1.0 + fmin(fabs(a), 100.0);
    if (strcmp(state.kernel, "gelu_grad") == 0) {
        const double x = fmin(fmax(a, -40.0), 40.0);
        const double u = (double)NANO_GELU_LINEAR * x * (1.0 + (double)NANO_GELU_CUBIC * x * x);
        const double s = oracle_sigmoid(u);
        const double turn = x * (double)NANO_GELU_LINEAR * (1.0 + 3.0 * (double)NANO_GELU_CUBIC * x * x);
        slope = s * (1.0 + (1.0 - s) * turn);
        size = (1.0 + fabs(u)) * fmin(1.0 + fabs(turn), 200.0); /* an error of u is one of s */
        size = fabs(x) > 8.0 ? 1.0 : size;
    }
    *bound = 4.0 * (double)FLT_EPSILON * size * fabs(b) + 1e-34;
    return slope * b;
}

static void check_nano_gated_grad_fn(nano_gated_grad_fn *fn, nano_gated_grad_fn *ref) {
    (void)ref;
    for (int round = 0; round < 2 * N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(400);
        const int64_t k = random_int(0, n);
        float *a = place_floats(0, n);
        float *b = place_floats(1, n);
        float *d = place_floats(2, n);
        float *da = place_floats(3, n);
        float *db = place_floats(4, n);
        float *again_a = place_floats(5, n);
        float *again_b = place_floats(6, n);
        fill_activations(a, n, true);
        fill_activations(b, n, false);
        fill_activations(d, n, false);
        fn(a, b, d, da, db, n);
        fn(a, b, d, again_a, again_b, k);
        fn(a + k, b + k, d + k, again_a + k, again_b + k, n - k);
        check_guards(3, da, (size_t)n * sizeof *da);
        check_guards(4, db, (size_t)n * sizeof *db);
        expect_same("two halves of a call", again_a, da, n);
        expect_same("two halves of a call", again_b, db, n);
        for (int64_t i = 0; i < n; i++) {
            double bound = 0.0;
            const double slope = oracle_slope((double)a[i], (double)b[i] * (double)d[i], &bound);
            expect_near("gradient of the gate", da[i], slope, bound);
            const double up = (double)a[i] * oracle_sigmoid((double)a[i]) * (double)d[i];
            expect_near("gradient of the rest", db[i], up, 6.0 * (double)FLT_EPSILON * fabs(up) + 1e-34);
        }
    }
}

/* The largest size of what is added up to element i: a bound of its error in units of the last place. */
static void check_nano_norm_grad_fn(nano_norm_grad_fn *fn, nano_norm_grad_fn *ref) {
    const bool centred = strcmp(state.kernel, "norm_grad") == 0;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(round % 10 == 9 ? MAX_N : 400);
        const float eps = one_in(2) ? 1e-5f : 1e-6f;
        float *x = place_floats(0, n);
        float *w = place_floats(1, n);
        float *d = place_floats(2, n);
        float *expected = place_floats(3, n);
        float *y = place_floats(4, n);
        const float scale = random_scale();
        const float shift = one_in(2) ? 0.0f : scale * random_float();
        double mean = 0.0, spread = (double)eps, mean_g = 0.0, dot = 0.0, mean_x = 0.0;
        for (int64_t i = 0; i < n; i++) {
            x[i] = random_float() * scale + shift;
            w[i] = random_float();
            d[i] = random_float();
            mean += centred ? (double)x[i] / (double)n : 0.0;
            mean_x += centred ? fabs((double)x[i]) / (double)n : 0.0;
            mean_g += fabs((double)w[i] * (double)d[i]) / (double)n;
        }
        for (int64_t i = 0; i < n; i++) {
            const double off = (double)x[i] - mean;
            spread += off * off / (double)n;
            dot += (fabs(off) + mean_x) * fabs((double)w[i] * (double)d[i]) / (double)n;
        }
        ref(x, w, d, eps, expected, n);
        const int64_t place = random_int(0, 2);
        memcpy(y, place == 1 ? x : d, (size_t)n * sizeof *y);
        fn(place == 1 ? y : x, w, place == 2 ? y : d, eps, y, n);
        check_guards(4, y, (size_t)n * sizeof *y);
        for (int64_t i = 0; i < n; i++) {
            const double size = fabs((double)w[i] * (double)d[i]) + (centred ? mean_g : 0.0) +
                                (fabs((double)x[i] - mean) + mean_x) * dot / spread;
            expect_near("value", y[i], (double)expected[i],
                        (16.0 + (double)n / 8.0) * (double)FLT_EPSILON * size / sqrt(spread));
        }
    }
}
