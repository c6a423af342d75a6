/* The part of kerncheck.c that tells how fast the kernels are. */

typedef void bench_fn(const nano_kernels *k, const void *what);

/* Processor time, so that a busy machine does not count. */
static double now(void) { return (double)clock() / (double)CLOCKS_PER_SEC; }

static double measure(bench_fn *fn, const nano_kernels *k, const void *what, int64_t calls) {
    const double start = now();
    for (int64_t i = 0; i < calls; i++) {
        fn(k, what);
    }
    return now() - start;
}

/* Seconds a call, the least of five measurements of at least 40 ms. */
static double seconds(bench_fn *fn, const nano_kernels *k, const void *what) {
    int64_t calls = 1;
    while (measure(fn, k, what, calls) < 0.04) {
        calls *= 2;
    }
    double best = measure(fn, k, what, calls);
    for (int i = 1; i < 5; i++) {
        best = fmin(best, measure(fn, k, what, calls));
    }
    return best / (double)calls;
}

typedef struct linear_case {
    nano_linear_fn *fn;
    nano_linear_args args;
} linear_case;

static void call_linear(const nano_kernels *k, const void *what) {
    const linear_case *c = what;
    (void)k;
    c->fn(&c->args);
}

static void *allocate(size_t size) {
    void *p = nano_pages_alloc(size);
    if (p == NULL) {
        printf("kerncheck: no memory\n");
        exit(1);
    }
    return p;
}

/* Prints what 2 ... FEW_COLUMNS columns cost where one costs 1, the least of FEW_ROUNDS calls in turn. */
enum { FEW_COLUMNS = 16, FEW_ROUNDS = 15 };
static void bench_few_columns(const linear_case *decode) {
    double least[FEW_COLUMNS + 1];
    for (int round = 0; round < FEW_ROUNDS; round++) {
        for (int n = 1; n <= FEW_COLUMNS; n *= 2) {
            linear_case c = *decode;
            c.args.n_cols = n;
            const double s = measure(call_linear, NULL, &c, 1);
            least[n] = round == 0 ? s : fmin(least[n], s);
        }
    }
    printf("%29s from memory, cost of", "");
    for (int n = 2; n <= FEW_COLUMNS; n *= 2) {
        printf("  %d columns %.2f", n, least[n] / least[1]);
    }
    printf("\n");
}

/* A prompt (weights in cache) and one token, with weights from the second-level cache and from memory: what the
 * instructions allow, and what is left of it. */
static void bench_linear(const nano_kernels *k, const char *name) {
    const nano_type number = nano_type_from_name(name + strlen("linear_"));
    nano_linear_fn *fn = nano_kernels_linear(k, number);
    const nano_type_traits *type = nano_type_find(number);
    const nano_type_traits *x_type = nano_type_find(type->activation);
    const int64_t n = 2048;
    const int64_t n_cols = 512;
    const int64_t n_rows = (int64_t)((size_t)96 << 20) / (int64_t)row_bytes(type, n);
    const size_t w_size = row_bytes(type, n) * (size_t)n_rows;
    const size_t x_size = row_bytes(x_type, n) * (size_t)n_cols;
    const size_t y_size = (size_t)(n_rows * FEW_COLUMNS + n_cols * 64) * sizeof(float);
    uint8_t *w = allocate(w_size);
    void *x = allocate(x_size);
    float *y = allocate(y_size);
    fill_rows(type, FILL_BELL, w, row_bytes(type, n), 64, n);
    for (int64_t r = 64; r < n_rows; r++) {
        memcpy(w + (size_t)r * row_bytes(type, n), w + (size_t)(r % 64) * row_bytes(type, n), row_bytes(type, n));
    }
    fill_rows(x_type, FILL_BELL, x, row_bytes(x_type, n), n_cols, n);
    linear_case prompt = {fn, {n, w, row_bytes(type, n), 64, x, row_bytes(x_type, n), n_cols, y, 64}};
    linear_case decode = {fn, {n, w, row_bytes(type, n), n_rows, x, row_bytes(x_type, n), 1, y, n_rows}};
    const double prompt_s = seconds(call_linear, NULL, &prompt);
    linear_case cached = decode;
    cached.args.n_rows = nano_min_i64(n_rows, (int64_t)((size_t)256 << 10) / (int64_t)row_bytes(type, n) / 16 * 16);
    const double cached_s = seconds(call_linear, NULL, &cached);
    const double cached_size = (double)row_bytes(type, n) * (double)cached.args.n_rows;
    const double decode_s = seconds(call_linear, NULL, &decode);
    printf("%-8s %-12s prompt %7.2f GMAC/s   decode: cached %6.2f GB/s, from memory %6.2f GB/s\n", state.level, name,
           (double)(n * 64 * n_cols) / prompt_s * 1e-9, cached_size / cached_s * 1e-9,
           (double)w_size / decode_s * 1e-9);
    bench_few_columns(&decode);
    nano_pages_free(w, w_size);
    nano_pages_free(x, x_size);
    nano_pages_free(y, y_size);
}

enum { BENCH_N = 4096, BENCH_HEAD = 64 };
static float bench_a[BENCH_N], bench_b[BENCH_N], bench_y[2 * BENCH_N];

#define BENCH(name, call)                                               \
    static void bench_##name(const nano_kernels *k, const void *what) { \
        (void)what;                                                     \
        call;                                                           \
    }
BENCH(quantize_a8, k->quantize_a8(bench_a, bench_y, BENCH_N))
BENCH(quantize_q8_0, k->quantize_q8_0(bench_a, bench_y, BENCH_N))
BENCH(f32_to_f16, k->f32_to_f16(bench_a, bench_y, BENCH_N))
BENCH(f16_to_f32, k->f16_to_f32(bench_a, bench_y, BENCH_N))
BENCH(add, k->add(bench_a, bench_b, bench_y, BENCH_N))
BENCH(mul, k->mul(bench_a, bench_b, bench_y, BENCH_N))
BENCH(swiglu, k->swiglu(bench_a, bench_b, bench_y, BENCH_N))
BENCH(gelu, k->gelu(bench_a, bench_y, BENCH_N))
BENCH(silu, k->silu(bench_a, bench_y, BENCH_N))
BENCH(gelu_grad, k->gelu_grad(bench_a, bench_b, bench_y, BENCH_N))
BENCH(silu_grad, k->silu_grad(bench_a, bench_b, bench_y, BENCH_N))
BENCH(swiglu_grad, k->swiglu_grad(bench_a, bench_b, bench_a, bench_y, bench_y + BENCH_N, BENCH_N))
BENCH(norm_grad, k->norm_grad(bench_a, bench_b, bench_b, 1e-5f, bench_y, BENCH_N))
BENCH(rms_norm_grad, k->rms_norm_grad(bench_a, bench_b, bench_b, 1e-5f, bench_y, BENCH_N))
BENCH(scale, k->scale(bench_a, 0.5f, bench_y, BENCH_N))
BENCH(norm, k->norm(bench_a, bench_b, bench_b, 1e-5f, bench_y, BENCH_N))
BENCH(rms_norm, k->rms_norm(bench_a, bench_b, NULL, 1e-5f, bench_y, BENCH_N))
BENCH(rope_pairs, k->rope_pairs(bench_a, bench_b, bench_y, BENCH_N, BENCH_N))
BENCH(rope_halves, k->rope_halves(bench_a, bench_b, bench_y, BENCH_N, BENCH_N))
BENCH(max, bench_y[0] = k->max(bench_a, BENCH_N))
BENCH(exp_sum, memcpy(bench_y, bench_a, sizeof bench_a); bench_y[0] = k->exp_sum(bench_y, 4.0f, BENCH_N))

static void adam_case(const nano_kernels *k) {
    const nano_adam_args a = {BENCH_N, bench_a, bench_b, bench_y, bench_y + BENCH_N,
                              1.0f,    0.0f,    0.9f,    0.1f,    0.999f,
                              1e-3f,   1.0f,    1e-3f,   1.0f,    1e-8f};
    memset(bench_y, 0, sizeof bench_y);
    k->adam(&a);
}

BENCH(adam, adam_case(k))
BENCH(sum_squares, bench_y[0] = (float)k->sum_squares(bench_a, BENCH_N))

/* Columns are the heads that share one key-value head. */
static void weigh_case(nano_weigh_fn *fn, nano_type type) {
    const nano_weigh_args a = {BENCH_HEAD,
                               bench_a,
                               nano_type_row_bytes(type, BENCH_HEAD),
                               BENCH_N / BENCH_HEAD,
                               bench_b,
                               BENCH_N / BENCH_HEAD,
                               4,
                               bench_y,
                               BENCH_HEAD};
    fn(&a);
}

BENCH(weigh_f32, weigh_case(k->weigh_f32, NANO_TYPE_F32))
BENCH(weigh_f16, weigh_case(k->weigh_f16, NANO_TYPE_F16))
BENCH(weigh_q8_0, weigh_case(k->weigh_q8_0, NANO_TYPE_Q8_0))
BENCH(weigh_q4_0, weigh_case(k->weigh_q4_0, NANO_TYPE_Q4_0))

BENCH(transpose_f32, k->transpose_f32(bench_a, BENCH_N / NANO_PANEL_COLUMNS, NANO_PANEL_COLUMNS,
                                      BENCH_N / NANO_PANEL_COLUMNS, bench_y, NANO_PANEL_COLUMNS))

/* A block of a training step's products: all in the second-level cache. */
enum { BENCH_ROWS = 192, BENCH_COLUMNS = 128, BENCH_K = 192 };
static float bench_rows[BENCH_ROWS * BENCH_K], bench_columns[BENCH_COLUMNS * BENCH_K];
static float bench_product[BENCH_ROWS * BENCH_COLUMNS];

static void multiply_block(const nano_kernels *k, const void *what) {
    const nano_multiply_args args = {BENCH_K,       bench_rows,    BENCH_ROWS,    bench_columns,
                                     BENCH_COLUMNS, bench_product, BENCH_COLUMNS, false};
    (void)what;
    k->multiply_f32(&args);
}

static void bench_multiply(const nano_kernels *k) {
    fill_activations(bench_rows, BENCH_ROWS * BENCH_K, false);
    fill_activations(bench_columns, BENCH_COLUMNS * BENCH_K, false);
    const double s = seconds(multiply_block, k, NULL);
    printf("%-8s %-12s %7.2f GMAC/s\n", state.level, "multiply_f32",
           (double)BENCH_ROWS * BENCH_COLUMNS * BENCH_K / s * 1e-9);
}

static void bench(const nano_kernels *k, const char *filter) {
    static const struct {
        const char *name;
        bench_fn *fn;
    } cases[] = {
        {"quantize_a8", bench_quantize_a8},
        {"quantize_q8_0", bench_quantize_q8_0},
        {"f16_to_f32", bench_f16_to_f32},
        {"f32_to_f16", bench_f32_to_f16},
        {"add", bench_add},
        {"mul", bench_mul},
        {"swiglu", bench_swiglu},
        {"gelu", bench_gelu},
        {"silu", bench_silu},
        {"gelu_grad", bench_gelu_grad},
        {"silu_grad", bench_silu_grad},
        {"swiglu_grad", bench_swiglu_grad},
        {"norm_grad", bench_norm_grad},
        {"rms_norm_grad", bench_rms_norm_grad},
        {"scale", bench_scale},
        {"norm", bench_norm},
        {"rms_norm", bench_rms_norm},
        {"rope_pairs", bench_rope_pairs},
        {"rope_halves", bench_rope_halves},
        {"max", bench_max},
        {"exp_sum", bench_exp_sum},
        {"weigh_f32", bench_weigh_f32},
        {"weigh_f16", bench_weigh_f16},
        {"weigh_q8_0", bench_weigh_q8_0},
        {"weigh_q4_0", bench_weigh_q4_0},
        {"transpose_f32", bench_transpose_f32},
        {"adam", bench_adam},
        {"sum_squares", bench_sum_squares},
    };
#define NANO_KERNEL(name, fn)                                                 \
    if (strncmp(#name, "linear_", 7) == 0 && strstr(#name, filter) != NULL) { \
        bench_linear(k, #name);                                               \
    }
#include "cpu/kernels.inc"
#undef NANO_KERNEL
    if (strstr("multiply_f32", filter) != NULL) {
        bench_multiply(k);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (strstr(cases[i].name, filter) != NULL) {
            fill_activations(bench_a, BENCH_N, false);
            fill_activations(bench_b, BENCH_N, false);
            const double s = seconds(cases[i].fn, k, NULL);
            printf("%-8s %-12s %9.1f ns for %d elements, %6.3f ns each\n", state.level, cases[i].name, s * 1e9, BENCH_N,
                   s * 1e9 / BENCH_N);
        }
    }
}
