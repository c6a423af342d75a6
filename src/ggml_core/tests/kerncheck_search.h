/* The part of kerncheck.c that is about the searches of quantising: every level must make the reference's bits. */

/* Numbers such as weights are, sometimes all equal, far from 0, or with oddities. */
static void fill_weights(float *x, int64_t n) {
    static const float odd[] = {0.0f, -0.0f, 1e-38f, 1e30f, -1e30f, INFINITY, NAN};
    const float scale = random_scale();
    const float offset = one_in(4) ? 5.0f * random_float() : 0.0f;
    const int64_t kind = random_int(0, 9);
    for (int64_t i = 0; i < n; i++) {
        x[i] = scale * (offset + (kind == 0 ? 1.0f : random_float()));
        if (kind == 1 && one_in(20)) {
            x[i] = odd[random_int(0, 6)];
        }
    }
}

static void fill_parts(nano_load_parts_fn *load, nano_parts *parts) {
    const int n = one_in(2) ? 16 : 32;
    const int n_parts = one_in(3) ? (int)random_int(1, NANO_LANES) : NANO_LANES;
    float *x = place_floats(0, n * n_parts);
    float *importance = one_in(2) ? NULL : place_floats(1, n * n_parts);
    fill_weights(x, n * n_parts);
    for (int i = 0; importance != NULL && i < n * n_parts; i++) {
        importance[i] = i < n && one_in(8) ? 0.0f : fabsf(random_float()) + 0.01f;
    }
    load(parts, x, importance, n, n_parts);
}

/* The same bits, but for what a NaN holds. */
static void expect_equal(const char *what, const float *found, const float *expected, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!(isnan(found[i]) && isnan(expected[i]))) {
            expect_same(what, found + i, expected + i, 1);
        }
    }
}

static nano_grid random_grid(nano_book *book) {
    static const int8_t values[16] = {NANO_IQ4_VALUES};
    static const float tops[] = {3.0f, 7.0f, 15.0f, 31.0f};
    const float top = tops[random_int(0, 3)];
    nano_book_fill(book, values);
    if (one_in(3)) {
        return (nano_grid){-127.0f, 113.0f, -90.0f, -130.0f, (int)random_int(2, 9), book};
    }
    return (nano_grid){-top - 1.0f, top, -0.8f * top, -1.2f * top, (int)random_int(2, 9), NULL};
}

static void check_nano_load_parts_fn(nano_load_parts_fn *fn, nano_load_parts_fn *ref) {
    static nano_parts found, expected;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const uint64_t random = state.random;
        fill_parts(fn, &found);
        state.random = random;
        fill_parts(ref, &expected);
        expect_equal("x", found.x[0], expected.x[0], found.n * NANO_LANES);
        expect_equal("w", found.w[0], expected.w[0], found.n * NANO_LANES);
    }
}

static void check_nano_search_scale_fn(nano_search_scale_fn *fn, nano_search_scale_fn *ref) {
    static nano_parts parts;
    static nano_book book;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        float found[NANO_LANES], expected[NANO_LANES];
        fill_parts(nano_kernels_at("generic")->load_parts, &parts);
        const nano_grid grid = random_grid(&book);
        fn(&parts, &grid, found);
        ref(&parts, &grid, expected);
        expect_equal("scale", found, expected, NANO_LANES);
    }
}

static void check_nano_search_range_fn(nano_search_range_fn *fn, nano_search_range_fn *ref) {
    static nano_parts parts;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        float found[2 * NANO_LANES], expected[2 * NANO_LANES];
        const nano_grid grid = {0.0f, 15.0f, 12.0f, 18.0f, (int)random_int(2, 9), NULL};
        const bool positive = one_in(2);
        fill_parts(nano_kernels_at("generic")->load_parts, &parts);
        fn(&parts, &grid, positive, found, found + NANO_LANES);
        ref(&parts, &grid, positive, expected, expected + NANO_LANES);
        expect_equal("scale or minimum", found, expected, 2 * NANO_LANES);
    }
}

static void check_nano_search_step_fn(nano_search_step_fn *fn, nano_search_step_fn *ref) {
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int n = (int)random_int(1, 16);
        float *v = place_floats(0, n);
        float *w = place_floats(1, n);
        const bool scaled = one_in(2);
        for (int i = 0; i < n; i++) {
            v[i] = scaled ? random_float() : fabsf(random_float());
            w[i] = fabsf(random_float());
        }
        const float lowest = scaled ? -32.0f : 0.0f;
        const float found = fn(v, w, n, lowest, scaled ? 31.0f : 63.0f);
        const float expected = ref(v, w, n, lowest, scaled ? 31.0f : 63.0f);
        expect_equal("step", &found, &expected, 1);
    }
}

static void check_nano_encode_parts_fn(nano_encode_parts_fn *fn, nano_encode_parts_fn *ref) {
    static nano_parts parts;
    static nano_book book;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        float d[NANO_LANES], m[NANO_LANES];
        nano_sums found, expected;
        fill_parts(nano_kernels_at("generic")->load_parts, &parts);
        const nano_grid grid = random_grid(&book);
        for (int l = 0; l < NANO_LANES; l++) {
            d[l] = one_in(9) ? 0.0f : random_scale() * random_float();
            m[l] = random_scale() * random_float();
        }
        const bool has_m = one_in(2);
        const size_t size = (size_t)(parts.n * NANO_LANES);
        uint8_t *code = place(2, size, 1);
        uint8_t *expected_code = place(3, size, 1);
        fn(&parts, d, has_m ? m : NULL, &grid, &found, code);
        ref(&parts, d, has_m ? m : NULL, &grid, &expected, expected_code);
        check_guards(2, code, size);
        for (size_t i = 0; i < size; i++) {
            if (code[i] != expected_code[i]) {
                fail("code", code[i], expected_code[i]);
                break;
            }
        }
        expect_equal("sum of w", found.w, expected.w, NANO_LANES);
        expect_equal("sum of w x", found.x, expected.x, NANO_LANES);
        expect_equal("sum of w q", found.q, expected.q, NANO_LANES);
        expect_equal("sum of w x q", found.xq, expected.xq, NANO_LANES);
        expect_equal("sum of w q q", found.qq, expected.qq, NANO_LANES);
        fn(&parts, d, has_m ? m : NULL, &grid, &found, NULL);
        expect_equal("sum without codes", found.qq, expected.qq, NANO_LANES);
    }
}
