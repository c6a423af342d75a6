/*
 * Every CUDA kernel's values against plain computations in f64, through the driver API: on the emulated driver
 * (cuda/emulate/), or on a device when NANOLLM_CUDA_DRIVER does not name one. argv[1]: the image of the kernels, a file
 * (the emulated driver takes any).
 */
#include "check.h"
#include "cuda/driver.h"
#include "cuda/params.h"
#include "graph/graph.h"
#include "types/types.h"

#include <math.h>
#include <stdlib.h>

enum { ACT_NONE, ACT_GELU, ACT_SILU };

static const nano_cu *cu;
static nano_cu_module module;
static uint32_t seed = 1;

/* A number in -1 ... 1. */
static float draw(void) {
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

static float *draws(int64_t n, float scale) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = scale * draw();
    }
    return x;
}

static nano_cu_address device_bytes(const void *data, size_t bytes) {
    nano_cu_address address = 0;
    CHECK(cu->memory_alloc(&address, bytes) == NANO_CU_SUCCESS);
    if (data != NULL) {
        CHECK(cu->upload(address, data, bytes, NULL) == NANO_CU_SUCCESS);
    }
    return address;
}

/* An address for a structure of parameters. */
static void *at(nano_cu_address address) { return (void *)(uintptr_t)address; }

static void fetch(void *to, nano_cu_address from, size_t bytes) {
    CHECK(cu->download(to, from, bytes, NULL) == NANO_CU_SUCCESS);
    CHECK(cu->stream_wait(NULL) == NANO_CU_SUCCESS);
}

static void launch(const char *name, unsigned x, unsigned y, unsigned z, void *params) {
    nano_cu_function f = NULL;
    void *list[1];
    list[0] = params;
    int result = cu->module_function(&f, module, name);
    if (result == NANO_CU_SUCCESS) {
        result = cu->launch(f, x, y, z, NANO_CUDA_THREADS, 1, 1, 0, NULL, list, NULL);
    }
    if (result != NANO_CU_SUCCESS) {
        fprintf(stderr, "%s: %d\n", name, result);
    }
    CHECK(result == NANO_CU_SUCCESS);
}

static unsigned pieces(int64_t n, int64_t each) { return (unsigned)((n + each - 1) / each); }

static double activate(double x, int activation) {
    switch (activation) {
        case ACT_GELU: return x / (1.0 + exp(-2.0 * sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
        case ACT_SILU: return x / (1.0 + exp(-x));
        default: return x;
    }
}

/* Largest difference, relative to the largest |expected|. */
static double worst(const float *found, const double *expected, int64_t n) {
    double most = 0.0, size = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)found[i] - expected[i]);
        most = d > most || isnan(d) ? (isnan(d) ? INFINITY : d) : most;
        size = fabs(expected[i]) > size ? fabs(expected[i]) : size;
    }
    return most / size;
}

/* ------------------------------------------------------------------ linear */

typedef struct matrix {
    nano_type type;
    int64_t n, n_rows;
    size_t row_bytes;
    uint8_t *data;
    float *values; /* what the data stands for */
} matrix;

static matrix make_matrix(nano_type type, int64_t n, int64_t n_rows) {
    matrix m = {type, n, n_rows, nano_type_row_bytes(type, n), NULL, NULL};
    float *x = draws(n * n_rows, 0.1f);
    m.data = malloc(m.row_bytes * (size_t)n_rows);
    m.values = malloc((size_t)(n * n_rows) * sizeof *m.values);
    CHECK_OK(nano_type_from_float(type, x, m.data, n * n_rows, &check_error));
    CHECK_OK(nano_type_to_float(type, m.data, m.values, n * n_rows, &check_error));
    free(x);
    return m;
}

static void free_matrix(matrix *m) {
    free(m->data);
    free(m->values);
}

/* Activations as the kernels read them, and what they stand for. */
typedef struct columns {
    size_t bytes;
    uint8_t *data;
    float *values;
} columns;

static columns make_columns(nano_type format, int64_t n, int64_t n_columns) {
    columns c;
    float *x = draws(n * n_columns, 2.0f);
    c.bytes = format == NANO_TYPE_A8 ? (size_t)(n / 32 * 40 + 63) / 64 * 64 : (size_t)n * 4;
    c.data = calloc((size_t)n_columns, c.bytes);
    c.values = x;
    for (int64_t i = 0; i < n_columns; i++) {
        if (format == NANO_TYPE_A8) {
            nano_a8_from_float(x + i * n, c.data + (size_t)i * c.bytes, n);
            nano_a8_to_float(c.data + (size_t)i * c.bytes, x + i * n, n);
        } else {
            memcpy(c.data + (size_t)i * c.bytes, x + i * n, c.bytes);
        }
    }
    return c;
}

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

typedef struct shape {
    int64_t n, n_rows, n_columns;
    int activation;
    bool bias, residual, gate;
} shape;

static void check_linear(nano_type type, const char *kind, const shape *s, double tolerance) {
    const nano_type_traits *traits = nano_type_find(type);
    char name[64], lower[16];
    size_t length = strlen(traits->name);
    for (size_t i = 0; i <= length; i++) {
        lower[i] = (char)(traits->name[i] >= 'A' && traits->name[i] <= 'Z' ? traits->name[i] + 32 : traits->name[i]);
    }
    (void)snprintf(name, sizeof name, "nano_%s_%s_kernel", kind, lower);
    matrix w = make_matrix(type, s->n, s->n_rows), w2 = make_matrix(type, s->n, s->n_rows);
    columns x = make_columns(traits->activation, s->n, s->n_columns);
    const int64_t n_out = s->n_rows * s->n_columns;
    float *bias = draws(s->n_rows, 1.0f), *residual = draws(n_out, 1.0f), *y = malloc((size_t)n_out * sizeof *y);
    double *expected = malloc((size_t)n_out * sizeof *expected);
    for (int64_t c = 0; c < s->n_columns; c++) {
        for (int64_t r = 0; r < s->n_rows; r++) {
            double sum = dot(w.values + r * s->n, x.values + c * s->n, s->n);
            if (s->gate) {
                sum = activate(sum, ACT_SILU) * dot(w2.values + r * s->n, x.values + c * s->n, s->n);
            }
            sum = activate(sum + (s->bias ? (double)bias[r] : 0.0), s->activation);
            expected[c * s->n_rows + r] = sum + (s->residual ? (double)residual[c * s->n_rows + r] : 0.0);
        }
    }
    nano_cu_address dw = device_bytes(w.data, w.row_bytes * (size_t)s->n_rows);
    nano_cu_address dw2 = device_bytes(w2.data, w2.row_bytes * (size_t)s->n_rows);
    nano_cu_address dx = device_bytes(x.data, x.bytes * (size_t)s->n_columns);
    nano_cu_address db = device_bytes(bias, (size_t)s->n_rows * 4), dr = device_bytes(residual, (size_t)n_out * 4);
    nano_cu_address dy = device_bytes(NULL, (size_t)n_out * 4);
    nano_cuda_linear p = {.w = at(dw),
                          .w2 = s->gate ? at(dw2) : NULL,
                          .x = at(dx),
                          .bias = s->bias ? at(db) : NULL,
                          .residual = s->residual ? at(dr) : NULL,
                          .y = at(dy),
                          .w_bytes = (int64_t)w.row_bytes,
                          .x_bytes = (int64_t)x.bytes,
                          .y_stride = s->n_rows,
                          .residual_stride = s->n_rows,
                          .n = (int32_t)s->n,
                          .n_rows = (int32_t)s->n_rows,
                          .n_columns = (int32_t)s->n_columns,
                          .activation = s->activation};
    if (strcmp(kind, "vec") == 0) {
        launch(name, pieces(s->n_rows, NANO_CUDA_VEC_ROWS), pieces(s->n_columns, NANO_CUDA_VEC_COLUMNS), 1, &p);
    } else {
        launch(name, pieces(s->n_rows, NANO_CUDA_TILE), pieces(s->n_columns, NANO_CUDA_TILE), 1, &p);
    }
    fetch(y, dy, (size_t)n_out * 4);
    double error = worst(y, expected, n_out);
    if (!(error <= tolerance)) {
        fprintf(stderr, "%s n %d rows %d columns %d: error %g\n", name, (int)s->n, (int)s->n_rows, (int)s->n_columns,
                error);
    }
    CHECK(error <= tolerance);
    nano_cu_address all[] = {dw, dw2, dx, db, dr, dy};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        CHECK(cu->memory_free(all[i]) == NANO_CU_SUCCESS);
    }
    free_matrix(&w);
    free_matrix(&w2);
    free(x.data);
    free(x.values);
    free(bias);
    free(residual);
    free(y);
    free(expected);
}

static void check_linears(int arch) {
    static const nano_type types[] = {NANO_TYPE_F32,  NANO_TYPE_F16,    NANO_TYPE_BF16,  NANO_TYPE_Q8_0,
                                      NANO_TYPE_Q4_0, NANO_TYPE_Q4_1,   NANO_TYPE_Q5_0,  NANO_TYPE_Q5_1,
                                      NANO_TYPE_Q2_K, NANO_TYPE_Q3_K,   NANO_TYPE_Q4_K,  NANO_TYPE_Q5_K,
                                      NANO_TYPE_Q6_K, NANO_TYPE_IQ4_NL, NANO_TYPE_IQ4_XS};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const nano_type_traits *traits = nano_type_find(types[i]);
        const int64_t block = traits->block_size;
        /* Float rows may have any length, aligned to their elements. */
        const int64_t odd = block == 1 ? 77 : block * 3, long_row = block == 256 ? 512 : 320;
        const shape vec[] = {{odd, 5, 1, ACT_NONE, true, false, false},
                             {long_row, 9, 3, ACT_GELU, true, true, false},
                             {long_row, 6, 4, ACT_NONE, false, false, true},
                             {odd, 4, 6, ACT_SILU, false, true, false}};
        const shape tile[] = {{odd, 70, 65, ACT_NONE, true, true, false},
                              {long_row, 64, 33, ACT_GELU, false, false, false}};
        const bool halves = arch < 61 && traits->activation == NANO_TYPE_A8; /* products in halves */
        const bool rounded = arch >= 75 && types[i] == NANO_TYPE_F16;        /* activations in halves */
        for (size_t k = 0; k < sizeof vec / sizeof vec[0]; k++) {
            check_linear(types[i], "vec", &vec[k], 2e-6);
        }
        for (size_t k = 0; k < sizeof tile / sizeof tile[0]; k++) {
            check_linear(types[i], "tile", &tile[k], halves || rounded ? 1e-3 : 2e-6);
        }
    }
}

/* --------------------------------------------------------------- attention */

typedef struct scene {
    nano_type type;
    int32_t k_dim, v_dim, n_head, n_head_kv, n_ctx, n_past, n_tokens, n_split, window;
    float softcap;
} scene;

/* Rows of (slot, head, position): what a cache of `type` holds of x (tokens, heads, dim) at positions 0 ... */
static void check_attention(const scene *s, double tolerance) {
    const int32_t n_all = s->n_past + s->n_tokens, n_slots = 2, slot = 1;
    const int64_t k_row = s->n_head_kv * s->k_dim, v_row = s->n_head_kv * s->v_dim, q_row = s->n_head * s->k_dim;
    float *k = draws(n_all * k_row, 1.0f), *v = draws(n_all * v_row, 1.0f), *q = draws(s->n_tokens * q_row, 1.0f);
    const size_t k_bytes = nano_type_row_bytes(s->type, (s->k_dim + 31) / 32 * 32);
    const size_t v_bytes = nano_type_row_bytes(s->type, (s->v_dim + 31) / 32 * 32);
    nano_cuda_cache kc = {NULL, 0, 0, (int64_t)k_bytes, s->type}, vc = {NULL, 0, 0, (int64_t)v_bytes, s->type};
    kc.head_bytes = kc.row_bytes * s->n_ctx, vc.head_bytes = vc.row_bytes * s->n_ctx;
    kc.slot_bytes = kc.head_bytes * s->n_head_kv, vc.slot_bytes = vc.head_bytes * s->n_head_kv;
    nano_cu_address dk = device_bytes(NULL, (size_t)(kc.slot_bytes * n_slots));
    nano_cu_address dv = device_bytes(NULL, (size_t)(vc.slot_bytes * n_slots));
    kc.data = at(dk), vc.data = at(dv);
    int32_t *slots = malloc((size_t)n_all * 4), *positions = malloc((size_t)n_all * 4);
    for (int32_t i = 0; i < n_all; i++) {
        slots[i] = slot, positions[i] = i;
    }
    nano_cu_address ds = device_bytes(slots, (size_t)n_all * 4), dp = device_bytes(positions, (size_t)n_all * 4);
    nano_cu_address dxk = device_bytes(k, (size_t)(n_all * k_row) * 4),
                    dxv = device_bytes(v, (size_t)(n_all * v_row) * 4);
    nano_cuda_kv_write wk = {at(dxk), kc, at(ds), at(dp), k_row, s->k_dim};
    nano_cuda_kv_write wv = {at(dxv), vc, at(ds), at(dp), v_row, s->v_dim};
    launch("nano_kv_write_kernel", (unsigned)s->n_head_kv, (unsigned)n_all, 1, &wk);
    launch("nano_kv_write_kernel", (unsigned)s->n_head_kv, (unsigned)n_all, 1, &wv);
    /* Tiles of tokens, as many as the heads of a group leave room for. */
    const int32_t group = s->n_head / s->n_head_kv, each = NANO_CUDA_QUERIES / group;
    const int32_t n_tiles = (s->n_tokens + each - 1) / each;
    nano_cuda_tile *tiles = malloc((size_t)n_tiles * sizeof *tiles);
    for (int32_t t = 0; t < n_tiles; t++) {
        const int32_t left = s->n_tokens - t * each;
        tiles[t] = (nano_cuda_tile){t * each, left < each ? left : each, slot, s->n_past + t * each};
    }
    const int64_t y_row = s->n_head * s->v_dim, n_out = s->n_tokens * y_row;
    nano_cu_address dt = device_bytes(tiles, (size_t)n_tiles * sizeof *tiles),
                    dq = device_bytes(q, (size_t)(s->n_tokens * q_row) * 4);
    nano_cu_address dy = device_bytes(NULL, (size_t)n_out * 4);
    nano_cu_address dpart = device_bytes(NULL, (size_t)(s->n_tokens * s->n_head * s->n_split * (s->v_dim + 2)) * 4);
    nano_cuda_attention a = {.q = at(dq),
                             .k = kc,
                             .v = vc,
                             .tiles = at(dt),
                             .y = at(dy),
                             .part = at(dpart),
                             .q_stride = q_row,
                             .y_stride = y_row,
                             .k_dim = s->k_dim,
                             .v_dim = s->v_dim,
                             .n_head = s->n_head,
                             .n_group = group,
                             .n_split = s->n_split,
                             .window = s->window,
                             .scale = 0.3f,
                             .softcap = s->softcap};
    launch("nano_attention_kernel", (unsigned)n_tiles, (unsigned)s->n_head_kv, (unsigned)s->n_split, &a);
    if (s->n_split > 1) {
        nano_cuda_attention_join j = {at(dpart), at(dy), y_row, s->v_dim, s->n_head, s->n_split};
        launch("nano_attention_join_kernel", (unsigned)s->n_head, (unsigned)s->n_tokens, 1, &j);
    }
    float *y = malloc((size_t)n_out * 4);
    fetch(y, dy, (size_t)n_out * 4);
    double *expected = calloc((size_t)n_out, sizeof *expected), *p = malloc((size_t)n_all * sizeof *p);
    for (int32_t t = 0; t < s->n_tokens; t++) {
        for (int32_t h = 0; h < s->n_head; h++) {
            const int32_t last = s->n_past + t, first = s->window > 0 && last >= s->window ? last + 1 - s->window : 0;
            double most = -INFINITY, sum = 0.0;
            for (int32_t i = first; i <= last; i++) {
                p[i] = 0.3 * dot(q + t * q_row + h * s->k_dim, k + i * k_row + h / group * s->k_dim, s->k_dim);
                p[i] = s->softcap > 0.0f ? (double)s->softcap * tanh(p[i] / (double)s->softcap) : p[i];
                most = p[i] > most ? p[i] : most;
            }
            for (int32_t i = first; i <= last; i++) {
                p[i] = exp(p[i] - most);
                sum += p[i];
            }
            for (int32_t i = first; i <= last; i++) {
                for (int32_t d = 0; d < s->v_dim; d++) {
                    expected[t * y_row + h * s->v_dim + d] +=
                        p[i] / sum * (double)v[i * v_row + h / group * s->v_dim + d];
                }
            }
        }
    }
    double error = worst(y, expected, n_out);
    if (!(error <= tolerance)) {
        fprintf(stderr, "attention type %d dims %d %d heads %d past %d tokens %d split %d: error %g\n", s->type,
                s->k_dim, s->v_dim, s->n_head, s->n_past, s->n_tokens, s->n_split, error);
    }
    CHECK(error <= tolerance);
    nano_cu_address all[] = {dk, dv, ds, dp, dxk, dxv, dt, dq, dy, dpart};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        CHECK(cu->memory_free(all[i]) == NANO_CU_SUCCESS);
    }
    free(k), free(v), free(q), free(slots), free(positions), free(tiles), free(y), free(expected), free(p);
}

static void check_attentions(void) {
    const scene scenes[] = {{NANO_TYPE_F32, 64, 64, 4, 2, 200, 0, 1, 1, 0, 0.0f},
                            {NANO_TYPE_F32, 64, 64, 4, 2, 200, 130, 1, 3, 0, 0.0f},
                            {NANO_TYPE_F32, 48, 40, 6, 2, 200, 60, 21, 1, 0, 0.0f},
                            {NANO_TYPE_F32, 32, 160, 4, 4, 200, 70, 5, 2, 30, 5.0f},
                            {NANO_TYPE_F16, 128, 128, 8, 1, 300, 200, 3, 4, 0, 0.0f},
                            {NANO_TYPE_F16, 20, 20, 4, 2, 100, 64, 9, 1, 0, 0.0f},
                            {NANO_TYPE_Q8_0, 64, 64, 4, 2, 200, 100, 2, 2, 0, 0.0f},
                            {NANO_TYPE_Q8_0, 256, 256, 2, 1, 100, 10, 3, 1, 0, 0.0f},
                            {NANO_TYPE_Q8_0, 48, 80, 4, 2, 200, 100, 4, 1, 0, 0.0f}};
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        const nano_type type = scenes[i].type;
        check_attention(&scenes[i], type == NANO_TYPE_F32 ? 2e-6 : type == NANO_TYPE_F16 ? 1e-3 : 1e-2);
    }
}

/* ------------------------------------------------------------------ others */

static void check_norms(void) {
    enum { N = 96, GROUPS = 3, ROWS = 2, STRIDE = N * GROUPS + 5, ALL = ROWS * STRIDE };
    float *x = draws(ALL, 3.0f), *w = draws(N, 1.0f), *b = draws(N, 1.0f), y[ALL];
    nano_cu_address dx = device_bytes(x, ALL * 4), dw = device_bytes(w, N * 4), db = device_bytes(b, N * 4);
    nano_cu_address dy = device_bytes(x, ALL * 4), dq = device_bytes(NULL, ROWS * 128);
    for (int kind = NANO_CUDA_NORM_LAYER; kind <= NANO_CUDA_NORM_RMS; kind++) {
        double expected[ALL];
        for (int r = 0; r < ROWS; r++) {
            for (int i = 0; i < STRIDE; i++) {
                expected[r * STRIDE + i] = (double)x[r * STRIDE + i]; /* what lies between rows stays */
            }
            for (int g = 0; g < GROUPS; g++) {
                const float *row = x + r * STRIDE + g * N;
                double mean = 0.0, square = 0.0;
                for (int i = 0; i < N; i++) {
                    mean += kind == NANO_CUDA_NORM_LAYER ? (double)row[i] / N : 0.0;
                }
                for (int i = 0; i < N; i++) {
                    square += ((double)row[i] - mean) * ((double)row[i] - mean) / N;
                }
                for (int i = 0; i < N; i++) {
                    expected[r * STRIDE + g * N + i] = ((double)row[i] - mean) / sqrt(square + 1e-5) * (double)w[i] +
                                                       (kind == NANO_CUDA_NORM_LAYER ? (double)b[i] : 0.0);
                }
            }
        }
        nano_cuda_norm p = {at(dx), at(dw), kind == NANO_CUDA_NORM_LAYER ? at(db) : NULL, at(dy), STRIDE, STRIDE, N,
                            kind,   1e-5f};
        launch("nano_norm_kernel", GROUPS, ROWS, 1, &p);
        fetch(y, dy, ALL * 4);
        CHECK(worst(y, expected, ALL) < 2e-6);
        /* The same norm of the first group on its way to A8. */
        uint8_t rows[ROWS * 128], wanted[128];
        nano_cuda_quantize quantize = {at(dx), at(dw), p.b, at(dq), STRIDE, 128, N, kind, 1e-5f};
        launch("nano_quantize_kernel", ROWS, 1, 1, &quantize);
        fetch(rows, dq, sizeof rows);
        for (int r = 0; r < ROWS; r++) {
            float exact[N], back[N], wanted_back[N];
            for (int i = 0; i < N; i++) {
                exact[i] = (float)expected[r * STRIDE + i];
            }
            nano_a8_from_float(exact, wanted, N);
            nano_a8_to_float(rows + r * 128, back, N);
            nano_a8_to_float(wanted, wanted_back, N);
            for (int i = 0; i < N; i++) { /* one step at most, where the norm's last bit decides */
                CHECK(fabs((double)back[i] - (double)wanted_back[i]) <= 1.01 * (double)nano_a8_d(wanted, N)[i / 32]);
            }
            for (int i = 0; i < N / 16; i++) {
                int sum = 0;
                for (int k = 0; k < 16; k++) {
                    sum += nano_a8_q(rows + r * 128)[i * 16 + k];
                }
                CHECK(nano_a8_sum(rows + r * 128, N)[i] == sum);
            }
        }
    }
    /* Without a norm the bytes are the reference's. */
    uint8_t found[128] = {0}, wanted[128] = {0};
    nano_cuda_quantize plain = {at(dx), NULL, NULL, at(dq), STRIDE, 128, N, NANO_CUDA_NORM_NONE, 0.0f};
    launch("nano_quantize_kernel", 1, 1, 1, &plain);
    fetch(found, dq, N / 32 * 40);
    nano_a8_from_float(x, wanted, N);
    CHECK(memcmp(found, wanted, N / 32 * 40) == 0);
    free(x), free(w), free(b);
}

static void check_maps(void) {
    enum { N = 150, PERIOD = 50, ROWS = 3, ALL = N * ROWS };
    float *a = draws(ALL, 4.0f), *b = draws(ALL, 4.0f), y[ALL];
    nano_cu_address da = device_bytes(a, ALL * 4), db = device_bytes(b, ALL * 4), dy = device_bytes(NULL, ALL * 4);
    for (int kind = NANO_CUDA_GELU; kind <= NANO_CUDA_MUL; kind++) {
        for (int period = 0; period <= (kind >= NANO_CUDA_ADD ? PERIOD : 0); period += PERIOD) {
            double expected[ALL];
            for (int i = 0; i < ALL; i++) {
                const double x = (double)a[i], z = (double)(period > 0 ? b[i % N % period] : b[i]);
                expected[i] = kind == NANO_CUDA_GELU     ? activate(x, ACT_GELU)
                              : kind == NANO_CUDA_SILU   ? activate(x, ACT_SILU)
                              : kind == NANO_CUDA_SCALE  ? x * 0.75
                              : kind == NANO_CUDA_SWIGLU ? activate(x, ACT_SILU) * z
                              : kind == NANO_CUDA_ADD    ? x + z
                                                         : x * z;
            }
            nano_cuda_map p = {at(da), kind >= NANO_CUDA_SWIGLU ? at(db) : NULL, at(dy), N, N, N, N, kind, period,
                               0.75f};
            launch("nano_map_kernel", pieces(N, NANO_CUDA_THREADS), ROWS, 1, &p);
            fetch(y, dy, ALL * 4);
            CHECK(worst(y, expected, ALL) < 1e-6);
        }
    }
    free(a), free(b);
}

static void check_ropes(void) {
    enum { N = 40, ROT = 24, HEADS = 3, ROWS = 2, ALL = ROWS * HEADS * N };
    float *x = draws(ALL, 1.0f), *table = draws(ROWS * ROT, 1.0f), y[ALL];
    nano_cu_address dx = device_bytes(x, ALL * 4), dt = device_bytes(table, ROWS * ROT * 4),
                    dy = device_bytes(NULL, ALL * 4);
    for (int order = NANO_ROPE_PAIRS; order <= NANO_ROPE_HALVES; order++) {
        double expected[ALL];
        for (int h = 0; h < ROWS * HEADS; h++) {
            for (int i = 0; i < N; i++) {
                expected[h * N + i] = (double)x[h * N + i];
            }
            for (int i = 0; i < ROT / 2; i++) {
                const int p = order == NANO_ROPE_PAIRS ? 2 * i : i,
                          q = order == NANO_ROPE_PAIRS ? 2 * i + 1 : i + ROT / 2;
                const double c = (double)table[h / HEADS * ROT + 2 * i], s = (double)table[h / HEADS * ROT + 2 * i + 1];
                expected[h * N + p] = (double)x[h * N + p] * c - (double)x[h * N + q] * s;
                expected[h * N + q] = (double)x[h * N + p] * s + (double)x[h * N + q] * c;
            }
        }
        nano_cuda_rope p = {at(dx), at(dt), at(dy), HEADS * N, HEADS * N, ROT, N, ROT, order};
        launch("nano_rope_kernel", HEADS, ROWS, 1, &p);
        fetch(y, dy, ALL * 4);
        CHECK(worst(y, expected, ALL) < 1e-6);
    }
    const int32_t index[2] = {1, 0};
    nano_cu_address di = device_bytes(index, sizeof index);
    nano_cuda_rows rows = {at(dx), at(di), at(dy), HEADS * N, HEADS * N, HEADS * N};
    launch("nano_rows_kernel", pieces(HEADS * N, NANO_CUDA_THREADS), 2, 1, &rows);
    fetch(y, dy, ALL * 4);
    CHECK(memcmp(y, x + HEADS * N, HEADS * N * 4) == 0 && memcmp(y + HEADS * N, x, HEADS * N * 4) == 0);
    free(x), free(table);
}

static void *read_image(const char *path) {
    FILE *f = fopen(path, "rb");
    char *data = calloc(1, 32 << 20);
    if (f == NULL || data == NULL || fread(data, 1, (32 << 20) - 1, f) == 0) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    (void)fclose(f);
    return data;
}

int main(int argc, char **argv) {
    nano_cu_device device = 0;
    nano_cu_context context = NULL;
    int major = 0, minor = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: test_cuda_kernels IMAGE\n");
        return 2;
    }
    CHECK_OK(nano_cu_load(&cu, &check_error));
    if (check_n_failed > 0) {
        return check_result();
    }
    void *image = read_image(argv[1]);
    CHECK(cu->device_get(&device, 0) == NANO_CU_SUCCESS);
    CHECK(cu->context_retain(&context, device) == NANO_CU_SUCCESS);
    CHECK(cu->context_push(context) == NANO_CU_SUCCESS);
    CHECK(cu->device_attribute(&major, NANO_CU_MAJOR, device) == NANO_CU_SUCCESS);
    CHECK(cu->device_attribute(&minor, NANO_CU_MINOR, device) == NANO_CU_SUCCESS);
    CHECK(cu->module_load(&module, image) == NANO_CU_SUCCESS);
    check_norms();
    check_maps();
    check_ropes();
    check_linears(major * 10 + minor);
    check_attentions();
    CHECK(cu->module_unload(module) == NANO_CU_SUCCESS);
    free(image);
    return check_result();
}
