/* The part of kerncheck.c that checks what matrices and attention in training need. */

/* How many rows or columns, with those that fill up the last panel. */
static int64_t in_panels(int64_t n, int64_t panel) { return (n + panel - 1) / panel * panel; }

/* Element k of row or column i of a packed matrix. */
static float *packed_at(float *m, int64_t panel, int64_t n_k, int64_t i, int64_t k) {
    return &m[(i / panel * n_k + k) * panel + i % panel];
}

static void check_nano_multiply_fn(nano_multiply_fn *fn, nano_multiply_fn *ref) {
    (void)ref; /* the oracle serves the reference, too */
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n_k = random_size(150), n_rows = random_size(60), n_cols = random_size(80);
        const int64_t a_size = in_panels(n_rows, NANO_PANEL_ROWS) * n_k;
        const int64_t b_size = in_panels(n_cols, NANO_PANEL_COLUMNS) * n_k;
        const int64_t c_stride = n_cols + random_int(0, 5), c_size = (n_rows - 1) * c_stride + n_cols;
        const bool exact = one_in(4);
        float *a = place_floats(0, a_size), *b = place_floats(1, b_size), *before = place_floats(2, c_size);
        float *c = place_floats(3, c_size);
        for (int64_t i = 0; i < a_size; i++) {
            a[i] = exact ? (float)random_int(-8, 8) : random_float();
        }
        for (int64_t i = 0; i < b_size; i++) {
            b[i] = exact ? (float)random_int(-8, 8) : random_float();
        }
        for (int64_t i = n_rows; i < in_panels(n_rows, NANO_PANEL_ROWS); i++) {
            *packed_at(a, NANO_PANEL_ROWS, n_k, i, random_int(0, n_k - 1)) = NAN;
        }
        for (int64_t i = 0; i < c_size; i++) {
            before[i] = (float)random_int(-100, 100);
        }
        memcpy(c, before, (size_t)c_size * sizeof(float));
        const nano_multiply_args args = {n_k, a, n_rows, b, n_cols, c, c_stride, one_in(2)};
        fn(&args);
        check_guards(3, c, (size_t)c_size * sizeof(float));
        for (int64_t i = 0; i < n_rows; i++) {
            for (int64_t j = 0; j < c_stride && i * c_stride + j < c_size; j++) {
                const int64_t at = i * c_stride + j;
                double sum = args.add || j >= n_cols ? (double)before[at] : 0.0, bound = fabs(sum);
                for (int64_t k = 0; k < n_k && j < n_cols; k++) {
                    const double term = (double)*packed_at(a, NANO_PANEL_ROWS, n_k, i, k) *
                                        (double)*packed_at(b, NANO_PANEL_COLUMNS, n_k, j, k);
                    sum += term;
                    bound += fabs(term);
                }
                const double slack = exact || j >= n_cols ? 0.0 : (2.0 + (double)n_k / 4.0) * (double)FLT_EPSILON;
                expect_near("element", c[at], sum, slack * bound);
            }
        }
    }
}

static void check_nano_transpose_fn(nano_transpose_fn *fn, nano_transpose_fn *ref) {
    (void)ref;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n_rows = random_size(40), n_cols = random_size(90);
        const int64_t x_stride = n_cols + random_int(0, 5), y_stride = n_rows + random_int(0, 5);
        const int64_t x_size = (n_rows - 1) * x_stride + n_cols, y_size = (n_cols - 1) * y_stride + n_rows;
        float *x = place_floats(0, x_size), *y = place_floats(1, y_size);
        for (int64_t i = 0; i < x_size; i++) {
            x[i] = (float)i;
        }
        for (int64_t i = 0; i < y_size; i++) {
            y[i] = -1.0f;
        }
        fn(x, x_stride, n_rows, n_cols, y, y_stride);
        check_guards(1, y, (size_t)y_size * sizeof(float));
        for (int64_t i = 0; i < y_size; i++) {
            const int64_t row = i % y_stride, col = i / y_stride;
            expect_near("element", y[i], row < n_rows ? (double)x[row * x_stride + col] : -1.0, 0.0);
        }
    }
}

static void check_nano_softmax_grad_fn(nano_softmax_grad_fn *fn, nano_softmax_grad_fn *ref) {
    (void)ref;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(300);
        float *p = place_floats(0, n), *before = place_floats(1, n), *d = place_floats(2, n);
        double sum = 0.0, sum_bound = 0.0;
        for (int64_t i = 0; i < n; i++) {
            p[i] = fabsf(random_float()) / (float)n;
            before[i] = d[i] = random_float();
            sum += (double)p[i] * (double)d[i];
            sum_bound += fabs((double)p[i] * (double)d[i]);
        }
        fn(p, d, n);
        check_guards(2, d, (size_t)n * sizeof(float));
        for (int64_t i = 0; i < n; i++) {
            const double slack = (4.0 + (double)n / 4.0) * (double)FLT_EPSILON;
            expect_near("element", d[i], (double)p[i] * ((double)before[i] - sum),
                        slack * (double)p[i] * (fabs((double)before[i]) + sum_bound));
        }
    }
}
