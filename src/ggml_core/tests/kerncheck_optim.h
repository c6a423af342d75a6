/* The part of kerncheck.c that is about the optimisers' loops: every level must make the reference's bits. */

static float *copy_at(int i, const float *x, int64_t n) {
    float *copy = place_floats(i, n);
    memcpy(copy, x, (size_t)n * sizeof *x);
    return copy;
}

static void check_nano_adam_fn(nano_adam_fn *fn, nano_adam_fn *ref) {
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(400);
        float *w = place_floats(0, n), *g = place_floats(1, n), *m = place_floats(2, n), *v = place_floats(3, n);
        const float scale = random_scale();
        for (int64_t i = 0; i < n; i++) {
            w[i] = random_float();
            g[i] = one_in(10) ? 0.0f : scale * random_float();
            m[i] = one_in(10) ? 0.0f : scale * random_float();
            v[i] = m[i] * m[i] * (float)random_int(0, 2);
        }
        nano_adam_args a = {n,
                            w,
                            g,
                            m,
                            v,
                            one_in(2) ? 1.0f : 0.3f,
                            one_in(2) ? 0.0f : 0.1f,
                            0.9f,
                            0.1f,
                            0.999f,
                            0.001f,
                            one_in(2) ? 1.0f : 0.99f,
                            1e-2f,
                            1.0000f + 3.0f * fabsf(random_float()),
                            1e-8f};
        nano_adam_args b = a;
        b.w = copy_at(4, w, n);
        b.m = copy_at(5, m, n);
        b.v = copy_at(6, v, n);
        ref(&b);
        fn(&a);
        check_guards(0, w, (size_t)n * sizeof *w);
        check_guards(2, m, (size_t)n * sizeof *m);
        check_guards(3, v, (size_t)n * sizeof *v);
        expect_same("value", w, b.w, n);
        expect_same("m", m, b.m, n);
        expect_same("v", v, b.v, n);
    }
}

static void check_nano_sum_squares_fn(nano_sum_squares_fn *fn, nano_sum_squares_fn *ref) {
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(round % 10 == 9 ? MAX_N : 400);
        float *x = place_floats(0, n);
        double expected = 0.0;
        for (int64_t i = 0; i < n; i++) {
            x[i] = one_in(50) ? 3e38f : random_float();
            expected += (double)x[i] * (double)x[i];
        }
        const double found = fn(x, n), same = ref(x, n);
        if (!same_bits(&found, &same, sizeof same) || fabs(found - expected) > 1e-13 * expected) {
            fail("sum", found, expected);
        }
        x[random_int(0, n - 1)] = one_in(2) ? NAN : INFINITY;
        if (isfinite(fn(x, n))) {
            fail("sum of what is not finite", fn(x, n), (double)NAN);
        }
    }
}
