/* Levels with a matrix unit: the wide kernels against their reference and against the exact product, and sessions whose
 * long steps go through them. On machines without such a level the build option NANOLLM_EMULATE_TILES makes one. */
#define _XOPEN_SOURCE 700

#include "base/arith.h"
#include "cpu/kernels.h"
#include "tests/tiny_model.h"
#include "types/types.h"

enum { MAX_N = 2048, MAX_ROWS = 70, MAX_COLS = 520, N_TOKENS = 150, Y_STRIDE = MAX_ROWS + 3 };

static float x[MAX_COLS * MAX_N], w[MAX_ROWS * MAX_N], y[MAX_COLS * Y_STRIDE], y_ref[MAX_COLS * Y_STRIDE];
static NANO_ALIGNED(64) uint8_t packed[(MAX_COLS + NANO_WIDE_GROUP) * MAX_N * 2], packed_ref[sizeof packed];
static uint8_t rows[MAX_ROWS * MAX_N * 2], a8[MAX_COLS * MAX_N * 2];

typedef struct shape {
    int64_t n, n_rows, n_cols;
} shape;

static double square(double a) { return a * a; }

/* Fills w and x, packs them; returns the bytes of a row. */
static size_t prepare(const nano_kernels *k, const nano_type_traits *type, shape s) {
    static uint64_t state = 42;
    size_t row_bytes = (size_t)(s.n / type->block_size) * type->block_bytes, group = nano_wide_group_bytes(s.n);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < s.n; i++) {
            w[i] = tiny_random(&state) + tiny_random(&state);
        }
        type->from_float(w, rows + (size_t)r * row_bytes, s.n);
    }
    for (int64_t r = 0; r < s.n_rows; r++) {
        type->to_float(rows + (size_t)r * row_bytes, w + r * s.n, s.n);
    }
    for (int64_t i = 0; i < s.n * s.n_cols; i++) {
        x[i] = tiny_random(&state) + tiny_random(&state);
    }
    for (int64_t g = 0; g * NANO_WIDE_GROUP < s.n_cols; g++) {
        const float *from = x + g * NANO_WIDE_GROUP * s.n;
        int64_t n_cols = nano_min_i64(s.n_cols - g * NANO_WIDE_GROUP, NANO_WIDE_GROUP);
        k->wide_pack(from, s.n, n_cols, packed + (size_t)g * group, s.n);
        nano_wide_pack_ref(from, s.n, n_cols, packed_ref + (size_t)g * group, s.n);
        CHECK(memcmp(packed + (size_t)g * group, packed_ref + (size_t)g * group, group) == 0);
    }
    return row_bytes;
}

static nano_linear_args arguments(shape s, size_t row_bytes, const void *columns, float *out) {
    return (nano_linear_args){.n = s.n,
                              .w = rows,
                              .w_stride = row_bytes,
                              .n_rows = s.n_rows,
                              .x = columns,
                              .n_cols = s.n_cols,
                              .y = out,
                              .y_stride = Y_STRIDE};
}

/* Against the reference, and nothing written beside the outputs. */
static void test_kernel(const nano_kernels *k, const char *level, const nano_type_traits *type, shape s) {
    size_t row_bytes = prepare(k, type, s);
    for (size_t i = 0; i < sizeof y / sizeof y[0]; i++) {
        y[i] = y_ref[i] = -1234.0f;
    }
    nano_linear_args args = arguments(s, row_bytes, packed, y), ref = arguments(s, row_bytes, packed, y_ref);
    k->wide_linear(type->type, &args);
    nano_wide_linear_ref(type->type, &ref);
    double worst = 0;
    for (size_t i = 0; i < sizeof y / sizeof y[0]; i++) {
        double d = fabs((double)y[i] - (double)y_ref[i]);
        worst = d <= worst ? worst : d; /* NaN counts */
    }
    /* sums of s.n products of f32, of about 1/4 each: rounding alone; weights unpacked by fused or unfused steps may
     * round to the other neighbour in bf16 now and then */
    double limit = 4e-3 * sqrt((double)s.n / 32);
    if (!(worst <= limit)) {
        check_n_failed++;
        fprintf(stderr, "%s: %s, %d x %d by %d: off by %g, expected %g\n", level, type->name, (int)s.n_rows, (int)s.n,
                (int)s.n_cols, worst, limit);
    }
}

/* The error against the exact product of the weights as the file has them is no larger than the decode kernel's. */
static void test_error(const nano_kernels *k, const char *level, const nano_type_traits *type) {
    shape s = {1024, 48, 48};
    size_t row_bytes = prepare(k, type, s), a8_bytes = (size_t)s.n / 32 * 40;
    for (int64_t c = 0; c < s.n_cols; c++) {
        k->quantize_a8(x + c * s.n, a8 + (size_t)c * a8_bytes, s.n);
    }
    nano_linear_args args = arguments(s, row_bytes, packed, y), decode = arguments(s, row_bytes, a8, y_ref);
    decode.x_stride = a8_bytes;
    k->wide_linear(type->type, &args);
    nano_kernels_linear(k, type->type)(&decode);
    double wide_error = 0, decode_error = 0;
    for (int64_t c = 0; c < s.n_cols; c++) {
        for (int64_t r = 0; r < s.n_rows; r++) {
            double exact = 0;
            for (int64_t i = 0; i < s.n; i++) {
                exact += (double)w[r * s.n + i] * (double)x[c * s.n + i];
            }
            wide_error += square((double)y[c * Y_STRIDE + r] - exact);
            decode_error += square((double)y_ref[c * Y_STRIDE + r] - exact);
        }
    }
    if (!(wide_error <= decode_error)) {
        check_n_failed++;
        fprintf(stderr, "%s: %s: squared error %g, the decode kernel's is %g\n", level, type->name, wide_error,
                decode_error);
    }
}

static void test_types(const nano_kernels *k, const char *level) {
    static const shape shapes[] = {{32, 1, 1},    {96, 17, 33},  {256, 16, 16}, {256, 33, 40},
                                   {768, 70, 47}, {2048, 31, 5}, {288, 3, 520}};
    for (nano_type t = 0; t < NANO_TYPE_A8; t++) {
        const nano_type_traits *type = nano_type_find(t);
        if (type == NULL || type->to_float == NULL || type->activation != NANO_TYPE_A8) {
            continue;
        }
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            if (shapes[i].n % type->block_size == 0) {
                test_kernel(k, level, type, shapes[i]);
            }
        }
        test_error(k, level, type);
    }
}

/* ---------------------------------------------------------------- sessions */

static int32_t tokens[N_TOKENS];

/* The logits of all tokens, n_step at a time. */
static void run(const tiny_model *m, int32_t n_threads, int32_t n_step, bool deterministic, float *out) {
    nano_limits l = nano_limits_default();
    l.n_ctx = N_TOKENS;
    l.n_batch = l.n_outputs = N_TOKENS;
    l.n_threads = n_threads;
    l.deterministic = deterministic;
    nano_session *s = tiny_session(m, l);
    uint8_t wanted[N_TOKENS];
    memset(wanted, 1, sizeof wanted);
    for (int32_t at = 0; at < N_TOKENS; at += n_step) {
        int32_t n = N_TOKENS - at < n_step ? N_TOKENS - at : n_step, n_rows = 0;
        CHECK_OK(nano_session_eval(s, n, tokens + at, NULL, wanted, &check_error));
        memcpy(out + at * TINY_VOCAB, nano_session_logits(s, &n_rows), (size_t)n * TINY_VOCAB * sizeof *out);
    }
    nano_session_free(s);
}

static void test_sessions(const char *type) {
    static float exact[N_TOKENS * TINY_VOCAB], wide[sizeof exact / sizeof *exact], again[sizeof exact / sizeof *exact];
    tiny_model m;
    tiny_model_open(&m, type);
    run(&m, 1, N_TOKENS, true, exact);
    run(&m, 1, N_TOKENS, false, wide);
    CHECK(memcmp(exact, wide, sizeof exact) != 0); /* it did go another way */
    double sum = 0, difference = 0;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        sum += square((double)exact[i]);
        difference += square((double)exact[i] - (double)wide[i]);
    }
    CHECK(difference <= square(0.05) * sum); /* activations of 8 bits are off by about half of that */
    run(&m, 3, N_TOKENS, false, again);
    CHECK(memcmp(wide, again, sizeof wide) == 0);
    run(&m, 2, 16, false, again); /* short steps, as a prompt lookup's drafts: the order of decoding */
    CHECK(memcmp(exact, again, sizeof exact) == 0);
    tiny_model_close(&m);
}

int main(void) {
    char levels[256];
    snprintf(levels, sizeof levels, "%s", nano_cpu_levels());
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = (i * 37 + i * i) % TINY_VOCAB;
    }
    for (char *level = strtok(levels, ","); level != NULL; level = strtok(NULL, ",")) {
        const nano_kernels *k = nano_kernels_at(level);
        CHECK((k->wide_linear == NULL) == (k->wide_pack == NULL));
        if (k->wide_linear != NULL) {
            printf("level %s\n", level);
            test_types(k, level);
            CHECK_OK(nano_cpu_set_level(level, &check_error));
            test_sessions("Q8_0");
            test_sessions("Q4_0");
        }
    }
    return check_result();
}
