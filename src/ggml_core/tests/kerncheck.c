/*
 * Every kernel of every level against the scalar reference, and how fast it is.
 *
 *   kerncheck [--seed S] [--level L] [--filter TEXT]            test; exit 1 and say what differed
 *   kerncheck --bench [TEXT] [--level L]                        time kernels whose name contains TEXT
 *
 * Inputs and outputs lie against pages that may not be touched, or between guard bytes, at any alignment that
 * the contract in cpu/kernels.h allows. Integer parts must be exact: with scales of one, results must be equal.
 * Float results must be within c * eps * (sum of |terms|) of what double precision gives.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#define _DARWIN_C_SOURCE

#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "cpu/kernels/levels.h"
#include "types/blocks.h"
#include "types/f16.h"
#include "types/unpacked.h"

enum { N_REGIONS = 8, GUARD = 128, GUARD_BYTE = 0xA5, N_ROUNDS = 200, MAX_N = 2048 };
#define EVEX "avxvnni_evex"
static const size_t region_size = (size_t)1 << 22;

static struct {
    uint64_t random;
    uint64_t seed;
    const char *level;
    char kernel[64]; /* now being tested */
    int n_failures;
    bool failed; /* this kernel */
    uint8_t *region[N_REGIONS];
    double oracle_x[MAX_N];
} state;

/* -------------------------------------------------------------- randomness */

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t next_random(void) {
    uint64_t z = (state.random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* lo .. hi, both included */
static int64_t random_int(int64_t lo, int64_t hi) { return lo + (int64_t)(next_random() % (uint64_t)(hi - lo + 1)); }
static bool one_in(int64_t k) { return random_int(1, k) == 1; }
/* Bell-shaped round 0, standard deviation 1. */
static float random_float(void) {
    double sum = 0.0;
    for (int i = 0; i < 4; i++) {
        sum += (double)(next_random() >> 40) / 16777216.0 - 0.5;
    }
    return (float)(sum * 1.7320508);
}

/* Small sizes often, vector widths and their neighbours now and then. */
static int64_t random_size(int64_t most) {
    const int64_t kind = random_int(0, 3);
    const int64_t n = kind == 0   ? random_int(1, 9)
                      : kind == 1 ? 8 * random_int(1, 20) + random_int(-1, 1)
                                  : random_int(1, most);
    return nano_min_i64(n, most);
}

/* ---------------------------------------------------------------- reports */

static void fail(const char *what, double found, double expected) {
    state.n_failures++;
    if (!state.failed) {
        state.failed = true;
        printf("FAIL %s %s: %s: found %.9g, expected %.9g (seed %llu)\n", state.level, state.kernel, what, found,
               expected, (unsigned long long)state.seed);
    }
}

static void on_fault(int number) {
    static const char text[] = "\nFAIL: touched memory outside of its rows: ";
    (void)number;
    (void)!write(1, text, sizeof text - 1);
    (void)!write(1, state.level, strlen(state.level));
    (void)!write(1, " ", 1);
    (void)!write(1, state.kernel, strlen(state.kernel));
    (void)!write(1, "\n", 1);
    _exit(1);
}

static bool same_bits(const void *a, const void *b, size_t size) { return memcmp(a, b, size) == 0; }

static void expect_same(const char *what, const float *found, const float *expected, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!same_bits(&found[i], &expected[i], sizeof *found)) {
            fail(what, (double)found[i], (double)expected[i]);
            return;
        }
    }
}

/* NaN goes with NaN, infinity with itself. */
static void expect_near(const char *what, float found, double expected, double bound) {
    const bool alike =
        isnan(expected) ? isnan(found) : (double)found == expected || fabs((double)found - expected) <= bound;
    if (!alike) {
        fail(what, (double)found, expected);
    }
}

/* ---------------------------------------------------------------- memory */

static void map_regions(void) {
    const size_t page = nano_page_size();
    for (int i = 0; i < N_REGIONS; i++) {
        uint8_t *p = mmap(NULL, region_size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + page, region_size, PROT_READ | PROT_WRITE) != 0) {
            printf("kerncheck: no memory\n");
            exit(1);
        }
        state.region[i] = p + page;
    }
}

/* `size` bytes in region i, guard bytes round them, a forbidden page right after or just before. */
static void *place(int i, size_t size, size_t align) {
    uint8_t *p = state.region[i] + align * (size_t)random_int(0, 5);
    if (one_in(2)) {
        p = state.region[i] + (region_size - size) / align * align;
    }
    uint8_t *from = p - state.region[i] < GUARD ? state.region[i] : p - GUARD;
    uint8_t *end = state.region[i] + region_size;
    uint8_t *to = end - (p + size) < GUARD ? end : p + size + GUARD;
    memset(from, GUARD_BYTE, (size_t)(to - from));
    return p;
}

static void check_guards(int i, const void *data, size_t size) {
    const uint8_t *p = data;
    const uint8_t *end = state.region[i] + region_size;
    for (const uint8_t *q = p; q > state.region[i] && q > p - GUARD; q--) {
        if (q[-1] != GUARD_BYTE) {
            fail("bytes before the output changed", q[-1], GUARD_BYTE);
            return;
        }
    }
    for (const uint8_t *q = p + size; q < end && q < p + size + GUARD; q++) {
        if (*q != GUARD_BYTE) {
            fail("bytes after the output changed", *q, GUARD_BYTE);
            return;
        }
    }
}

static float *place_floats(int i, int64_t n) { return place(i, (size_t)n * sizeof(float), sizeof(float)); }

/* ------------------------------------------------------------------ linear */

enum fill { FILL_EXACT, FILL_BELL, FILL_CODES, FILL_EXTREME, FILL_ZERO, N_FILLS };

static float random_scale(void) { return (float)ldexp(1.0 + 0.25 * (double)random_int(0, 3), (int)random_int(-16, 6)); }

/* Values whose sums are exact in f32, or bell-shaped ones; in float rows of the type. */
static void fill_float_row(const nano_type_traits *type, enum fill fill, uint8_t *row, int64_t n) {
    static float x[MAX_N];
    const float scale = random_scale();
    for (int64_t i = 0; i < n; i++) {
        switch (fill) {
            case FILL_EXACT: x[i] = (float)random_int(-8, 8); break;
            case FILL_ZERO: x[i] = 0.0f; break;
            case FILL_EXTREME: x[i] = one_in(2) ? 3e4f : -3e4f; break;
            default: x[i] = random_float() * scale; break;
        }
    }
    type->from_float(x, row, n);
}

/* Where a block has its d, and its m or dmin (0: none). */
static size_t d_place(nano_type type, size_t *m) {
    *m = 0;
    switch (type) {
        case NANO_TYPE_Q4_1:
        case NANO_TYPE_Q5_1:
        case NANO_TYPE_Q4_K:
        case NANO_TYPE_Q5_K: *m = 2; return 0;
        case NANO_TYPE_Q2_K: *m = offsetof(nano_block_q2_k, dmin); return offsetof(nano_block_q2_k, d);
        case NANO_TYPE_Q3_K: return offsetof(nano_block_q3_k, d);
        case NANO_TYPE_Q6_K: return offsetof(nano_block_q6_k, d);
        default: return 0;
    }
}

/* Whatever else a block holds, all bytes are legal. */
static void fill_block_row(const nano_type_traits *type, enum fill fill, uint8_t *row, int64_t n) {
    size_t m = 0;
    const size_t d = d_place(type->type, &m);
    static const uint8_t extremes[] = {0x00, 0x0f, 0x7f, 0x80, 0xf0, 0xff};
    if (fill == FILL_BELL) {
        fill_float_row(type, fill, row, n);
        return;
    }
    for (int64_t b = 0; b < n / type->block_size; b++, row += type->block_bytes) {
        const uint8_t extreme = extremes[random_int(0, 5)];
        for (size_t i = 0; i < type->block_bytes; i++) {
            row[i] = fill == FILL_EXTREME ? extreme : fill == FILL_ZERO ? 0 : (uint8_t)next_random();
        }
        nano_store_f16(row + d, fill == FILL_EXACT ? 1.0f : random_scale());
        if (m != 0) {
            nano_store_f16(row + m, fill == FILL_EXACT ? (float)random_int(-8, 8) : random_scale() * random_float());
        }
    }
}

static void fill_a8_row(enum fill fill, uint8_t *row, int64_t n) {
    int8_t *q = (int8_t *)row;
    float *d = (float *)(void *)(row + n);
    int16_t *sum = (int16_t *)(void *)(d + n / NANO_A8_BLOCK);
    for (int64_t b = 0; b < n / NANO_A8_BLOCK; b++) {
        const int8_t extreme = one_in(2) ? 127 : -127;
        const int64_t top = fill == FILL_EXACT ? 15 : 127; /* products with scales of the parts stay exact */
        d[b] = fill == FILL_EXACT ? 1.0f : fill == FILL_ZERO ? 0.0f : random_scale();
        sum[2 * b] = sum[2 * b + 1] = 0;
        for (int64_t i = b * NANO_A8_BLOCK; i < (b + 1) * NANO_A8_BLOCK; i++) {
            q[i] = (int8_t)(fill == FILL_ZERO ? 0 : fill == FILL_EXTREME ? extreme : random_int(-top, top));
            sum[i / 16] = (int16_t)(sum[i / 16] + q[i]);
        }
    }
}

static size_t row_bytes(const nano_type_traits *type, int64_t n) {
    return (size_t)(n / type->block_size) * type->block_bytes;
}

static void fill_rows(const nano_type_traits *type, enum fill fill, void *rows, size_t stride, int64_t n_rows,
                      int64_t n) {
    for (int64_t r = 0; r < n_rows; r++) {
        uint8_t *row = (uint8_t *)rows + (size_t)r * stride;
        if (type->type == NANO_TYPE_A8) {
            fill_a8_row(fill, row, n);
        } else if (type->block_size > 1) {
            fill_block_row(type, fill, row, n);
        } else {
            fill_float_row(type, fill, row, n);
        }
    }
}

/* |m| or |min| of element i, asked for in order. */
static double min_term(const nano_type_traits *type, const uint8_t *w, int64_t i) {
    static nano_unpacked u;
    const uint8_t *block = w + (size_t)(i / type->block_size) * type->block_bytes;
    if (type->type == NANO_TYPE_Q4_1 || type->type == NANO_TYPE_Q5_1) {
        return fabs((double)nano_load_f16(block + 2));
    }
    nano_unpack_fn *unpack = type->type == NANO_TYPE_Q2_K   ? nano_q2_k_unpack
                             : type->type == NANO_TYPE_Q4_K ? nano_q4_k_unpack
                             : type->type == NANO_TYPE_Q5_K ? nano_q5_k_unpack
                                                            : NULL;
    if (unpack == NULL) {
        return 0.0;
    }
    if (i % type->block_size == 0) {
        unpack(block, &u);
    }
    return fabs((double)u.min[i % type->block_size / u.part]);
}

/* The sum in double, and in *bound the sum of |terms|. With a minimum, a product is two terms. */
static double oracle_dot(const nano_type_traits *type, const uint8_t *w, int64_t n, double *bound) {
    static float values[MAX_N];
    double sum = 0.0;
    type->to_float(w, values, n);
    *bound = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)values[i] * state.oracle_x[i];
        *bound += (fabs((double)values[i]) + 2.0 * min_term(type, w, i)) * fabs(state.oracle_x[i]);
    }
    return sum;
}

static void check_linear_values(const nano_linear_args *a, const nano_type_traits *type, const nano_type_traits *x_type,
                                enum fill fill) {
    static float x[MAX_N];
    const double terms = (double)(a->n / (type->block_size > 1 ? NANO_BLOCK : 1));
    for (int64_t c = 0; c < a->n_cols; c++) {
        x_type->to_float((const uint8_t *)a->x + (size_t)c * a->x_stride, x, a->n);
        for (int64_t i = 0; i < a->n; i++) {
            state.oracle_x[i] = (double)x[i];
        }
        for (int64_t r = 0; r < a->n_rows; r++) {
            double bound = 0.0;
            const double sum = oracle_dot(type, (const uint8_t *)a->w + (size_t)r * a->w_stride, a->n, &bound);
            expect_near(fill == FILL_EXACT ? "exact sum" : "sum", a->y[c * a->y_stride + r], sum,
                        fill == FILL_EXACT ? 0.0 : (4.0 + terms / 4.0) * (double)FLT_EPSILON * bound);
        }
    }
}

/* A call over part of the rows and columns must make the same bits. */
static void check_linear_part(const nano_linear_args *all, nano_linear_fn *fn, bool single) {
    const int64_t r0 = random_int(0, all->n_rows - 1);
    const int64_t c0 = random_int(0, all->n_cols - 1);
    nano_linear_args part = *all;
    part.n_rows = single ? 1 : random_int(1, all->n_rows - r0);
    part.n_cols = single ? 1 : random_int(1, all->n_cols - c0);
    part.w = (const uint8_t *)all->w + (size_t)r0 * all->w_stride;
    part.x = (const uint8_t *)all->x + (size_t)c0 * all->x_stride;
    part.y_stride = part.n_rows;
    const size_t size = (size_t)(part.n_rows * part.n_cols) * sizeof(float);
    part.y = place(3, size, sizeof(float));
    fn(&part);
    check_guards(3, part.y, size);
    for (int64_t c = 0; c < part.n_cols; c++) {
        expect_same("part of a call", part.y + c * part.y_stride, all->y + (c0 + c) * all->y_stride + r0, part.n_rows);
    }
}

static void check_nano_linear_fn(nano_linear_fn *fn, nano_linear_fn *ref) {
    const nano_type_traits *type = nano_type_find(nano_type_from_name(state.kernel + strlen("linear_")));
    const nano_type_traits *x_type = nano_type_find(type->activation);
    (void)ref; /* the oracle serves the reference, too */
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const enum fill fill = (enum fill)(round % N_FILLS);
        nano_linear_args a;
        const int64_t blocks = round % 13 == 12 ? 1500 / type->block_size
                                                : random_int(1, type->block_size > 32  ? 5
                                                                : type->block_size > 1 ? 14
                                                                                       : 450);
        a.n = blocks * type->block_size;
        a.n_rows = round % 13 == 12 ? 9 : random_size(round < 20 ? 40 : 9);
        a.n_cols = round % 13 == 12 ? 5 : random_size(round < 20 ? 40 : 9);
        a.w_stride = row_bytes(type, a.n) + (size_t)random_int(0, 7);
        a.x_stride = row_bytes(x_type, a.n) + 4 * (size_t)random_int(0, 3);
        a.y_stride = a.n_rows + random_int(0, 3);
        const size_t w_size = a.w_stride * (size_t)(a.n_rows - 1) + row_bytes(type, a.n);
        const size_t x_size = a.x_stride * (size_t)(a.n_cols - 1) + row_bytes(x_type, a.n);
        const size_t y_size = (size_t)(a.y_stride * (a.n_cols - 1) + a.n_rows) * sizeof(float);
        void *w = place(0, w_size, 1);
        void *x = place(1, x_size, sizeof(float));
        fill_rows(type, fill, w, a.w_stride, a.n_rows, a.n);
        fill_rows(x_type, fill, x, a.x_stride, a.n_cols, a.n);
        a.w = w;
        a.x = x;
        a.y = place(2, y_size, sizeof(float));
        memset(a.y, GUARD_BYTE, y_size);
        fn(&a);
        check_guards(2, a.y, y_size);
        for (int64_t c = 0; c + 1 < a.n_cols; c++) {
            for (int64_t r = a.n_rows; r < a.y_stride; r++) {
                if (nano_f32_bits(a.y[c * a.y_stride + r]) != 0xA5A5A5A5u) {
                    fail("wrote between rows of y", (double)r, (double)a.n_rows);
                }
            }
        }
        check_linear_values(&a, type, x_type, fill);
        for (int i = 0; i < 6; i++) {
            check_linear_part(&a, fn, i < 3);
        }
    }
}

/* ------------------------------------------------------------------- weigh */

/* Elements of whole blocks that hold n. */
static int64_t whole_blocks(const nano_type_traits *type, int64_t n) {
    return (n + type->block_size - 1) / type->block_size * type->block_size;
}

/* Rows r0 .. r1 - 1, elements i0 .. i1 - 1; i0 is whole blocks. */
static void run_weigh_part(const nano_weigh_args *all, nano_weigh_fn *fn, const nano_type_traits *type, int64_t r0,
                           int64_t r1, int64_t i0, int64_t i1) {
    nano_weigh_args part = *all;
    part.n_rows = r1 - r0;
    part.n = i1 - i0;
    part.v = (const uint8_t *)all->v + (size_t)r0 * all->v_stride + row_bytes(type, i0);
    part.p = all->p + r0;
    part.out = all->out + i0;
    fn(&part);
}

static void check_weigh_values(const nano_weigh_args *a, const nano_type_traits *type, const float *before,
                               bool exact) {
    static float v[MAX_N * 8];
    const int64_t n = whole_blocks(type, a->n);
    for (int64_t r = 0; r < a->n_rows; r++) {
        type->to_float((const uint8_t *)a->v + (size_t)r * a->v_stride, v + r * n, n);
    }
    for (int64_t c = 0; c < a->n_cols; c++) {
        for (int64_t i = 0; i < a->n; i++) {
            double sum = (double)before[c * a->out_stride + i];
            double bound = fabs(sum);
            for (int64_t r = 0; r < a->n_rows; r++) {
                const double term = (double)a->p[c * a->p_stride + r] * (double)v[r * n + i];
                sum += term;
                bound += fabs(term);
            }
            expect_near(exact ? "exact sum" : "sum", a->out[c * a->out_stride + i], sum,
                        exact ? 0.0 : (double)(4 + a->n_rows) * (double)FLT_EPSILON * bound);
        }
    }
}

static void check_nano_weigh_fn(nano_weigh_fn *fn, nano_weigh_fn *ref) {
    const nano_type_traits *type = nano_type_find(nano_type_from_name(state.kernel + strlen("weigh_")));
    (void)ref;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const bool exact = round % 3 == 0;
        const enum fill fill = exact ? FILL_EXACT : FILL_BELL;
        nano_weigh_args a;
        a.n = random_size(160);
        a.n_rows = random_size(60);
        a.n_cols = random_size(9);
        const int64_t n_stored = whole_blocks(type, a.n);
        a.v_stride = row_bytes(type, n_stored) + (size_t)random_int(0, 7);
        a.p_stride = a.n_rows + random_int(0, 3);
        a.out_stride = a.n + random_int(0, 3);
        const size_t v_size = a.v_stride * (size_t)(a.n_rows - 1) + row_bytes(type, n_stored);
        const int64_t n_out = a.out_stride * (a.n_cols - 1) + a.n;
        const int64_t n_p = a.p_stride * (a.n_cols - 1) + a.n_rows;
        void *v = place(0, v_size, 1);
        float *p = place_floats(1, n_p);
        float *before = place_floats(2, n_out);
        fill_rows(type, fill, v, a.v_stride, a.n_rows, n_stored);
        for (int64_t i = 0; i < n_p; i++) {
            p[i] = exact ? (float)random_int(0, 8) : fabsf(random_float());
        }
        for (int64_t i = 0; i < n_out; i++) {
            before[i] = exact ? (float)random_int(-8, 8) : random_float();
        }
        a.v = v;
        a.p = p;
        a.out = place_floats(3, n_out);
        memcpy(a.out, before, (size_t)n_out * sizeof(float));
        fn(&a);
        check_guards(3, a.out, (size_t)n_out * sizeof(float));
        check_weigh_values(&a, type, before, exact);
        nano_weigh_args again = a;
        again.out = place_floats(4, n_out);
        memcpy(again.out, before, (size_t)n_out * sizeof(float));
        const int64_t k = random_int(0, a.n_rows);
        const int64_t i = random_int(0, a.n / type->block_size) * type->block_size;
        run_weigh_part(&again, fn, type, 0, k, 0, i);
        run_weigh_part(&again, fn, type, k, a.n_rows, 0, i);
        run_weigh_part(&again, fn, type, 0, a.n_rows, i, a.n);
        expect_same("parts of a call", again.out, a.out, n_out);
    }
}

/* -------------------------------------------------------------- conversions */

/* Any bit pattern, numbers of everyday size with blocks of oddities, or halves: ties, since the largest of each 32
 * is 127. */
static void fill_any_floats(float *x, int64_t n) {
    static const float odd[] = {0.0f, -0.0f, 1e-38f, 1e-30f, -65519.0f, 65520.0f, 6e-8f, 3e38f, INFINITY, NAN};
    const int64_t kind = random_int(0, 4);
    const float scale = random_scale();
    for (int64_t i = 0; i < n; i++) {
        x[i] = kind == 0 ? nano_bits_f32((uint32_t)next_random()) : random_float() * scale;
        if (kind == 1 && one_in(40)) {
            x[i] = odd[random_int(0, 9)];
        } else if (kind == 2 && (i / 32) % 3 == 1) {
            x[i] = odd[i / 96 % 4];
        } else if (kind == 4) {
            x[i] = i % 32 == 0 ? 127.0f : (float)random_int(-127, 126) + 0.5f;
        }
    }
}

/* Bytes must be the reference's, but for the sign and payload of a NaN that is a half or a block's scale: 32-bit Arm has
 * one NaN. */
static void check_nano_convert_fn(nano_convert_fn *fn, nano_convert_fn *ref) {
    static const struct {
        const char *name;
        int64_t block, from_bytes, bytes; /* a block: elements, bytes before and after */
    } conversions[] = {
        {"quantize_a8", 32, 128, 40}, {"quantize_q8_0", 32, 128, 34}, {"f32_to_f16", 1, 4, 2}, {"f16_to_f32", 1, 2, 4}};
    int i = 0;
    while (strcmp(conversions[i].name, state.kernel) != 0) {
        i++;
    }
    for (int round = 0; round < 4 * N_ROUNDS && !state.failed; round++) {
        const bool a8 = i == 0;
        const int64_t n = conversions[i].block > 1 ? conversions[i].block * random_int(1, 12) : random_size(300);
        const size_t size = (size_t)(n / conversions[i].block * conversions[i].bytes);
        const size_t align = i == 2 ? 2 : i == 1 ? 1 : 4;
        float *x = place(0, (size_t)(n / conversions[i].block * conversions[i].from_bytes), i == 3 ? 2 : 4);
        if (i == 3) {
            for (int64_t k = 0; k < n; k++) {
                const uint16_t half = (uint16_t)next_random();
                memcpy((uint8_t *)x + 2 * k, &half, sizeof half);
            }
        } else {
            fill_any_floats(x, n);
        }
        uint8_t *y = place(1, size, align);
        uint8_t *expected = place(2, size, align);
        fn(x, y, n);
        ref(x, expected, n);
        check_guards(1, y, size);
        for (int64_t b = 0; a8 && b < n / NANO_A8_BLOCK; b++) {
            float *d = (float *)(void *)(y + n + 4 * b);
            if (isnan(*d) && isnan(nano_a8_d(expected, n)[b])) {
                memcpy(d, expected + n + 4 * b, sizeof *d);
            }
        }
        for (size_t k = 0; i == 2 && k < size; k += 2) {
            if (isnan(nano_load_f16(y + k)) && isnan(nano_load_f16(expected + k))) {
                memcpy(y + k, expected + k, 2);
            }
        }
        for (size_t k = 0; k < size; k++) {
            if (y[k] != expected[k]) {
                fail("byte of the result", y[k], expected[k]);
                break;
            }
        }
    }
}

#include "tests/kerncheck_search.h"

/* ------------------------------------------------------------- elementwise */

static void fill_activations(float *x, int64_t n, bool exotic) {
    static const float odd[] = {0.0f,    -0.0f, 88.0f, -88.0f, -87.3f, 104.0f,
                                -104.0f, 1e4f,  -1e4f, 1e30f,  -1e30f, 1e-30f};
    const float scale = exotic ? (float)random_int(1, 30) : 1.0f;
    for (int64_t i = 0; i < n; i++) {
        x[i] = exotic && one_in(20) ? odd[random_int(0, 11)] : random_float() * scale;
    }
}

static double oracle_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

/* Value and tolerance of y = f(a, b). Below the normal numbers a kernel may give zero. */
static double oracle_elementwise(double a, double b, double *bound) {
    double y = 0.0;
    double ulps = 6.0;
    if (strcmp(state.kernel, "gelu") == 0) {
        const double u = (double)NANO_GELU_LINEAR * a * (1.0 + (double)NANO_GELU_CUBIC * a * a);
        y = a * oracle_sigmoid(u);
        ulps = 6.0 + 4.0 * fmin(fabs(u), 200.0);
    } else {
        y = a * oracle_sigmoid(a) * (strcmp(state.kernel, "swiglu") == 0 ? b : 1.0);
    }
    *bound = ulps * (double)FLT_EPSILON * fabs(y) + 1e-34 * (1.0 + fabs(b));
    return y;
}

/* Against exact_ref, or, where that is NULL, the oracle. */
static void check_elementwise(nano_unary_fn *unary, nano_binary_fn *binary, nano_binary_fn *exact_ref,
                              double (*oracle)(double a, double b, double *bound)) {
    for (int round = 0; round < 4 * N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(400);
        const size_t size = (size_t)n * sizeof(float);
        float *a = place_floats(0, n);
        float *b = place_floats(1, n);
        float *y = place_floats(2, n);
        float *again = place_floats(3, n);
        fill_activations(a, n, true);
        fill_activations(b, n, false);
        const bool in_place = one_in(2);
        const float *first = a;
        const float *second = b;
        if (in_place && unary == NULL && one_in(2)) {
            memcpy(y, b, size);
            second = y;
        } else if (in_place) {
            memcpy(y, a, size);
            first = y;
        }
        const int64_t k = random_int(0, n);
        if (unary != NULL) {
            unary(first, y, n);
            unary(a, again, k);
            unary(a + k, again + k, n - k);
        } else {
            binary(first, second, y, n);
            binary(a, b, again, k);
            binary(a + k, b + k, again + k, n - k);
        }
        check_guards(2, y, size);
        check_guards(3, again, size);
        expect_same("two halves of a call", again, y, n);
        if (exact_ref != NULL) {
            exact_ref(a, b, again, n);
            expect_same("value", y, again, n);
        } else {
            for (int64_t i = 0; i < n; i++) {
                double bound = 0.0;
                const double expected = oracle((double)a[i], (double)b[i], &bound);
                expect_near("value", y[i], expected, bound);
            }
        }
    }
}

#include "tests/kerncheck_grad.h"

static void check_nano_unary_fn(nano_unary_fn *fn, nano_unary_fn *ref) {
    (void)ref;
    check_elementwise(fn, NULL, NULL, oracle_elementwise);
}

static void check_nano_binary_fn(nano_binary_fn *fn, nano_binary_fn *ref) {
    if (strstr(state.kernel, "_grad") != NULL) {
        check_elementwise(NULL, fn, NULL, oracle_slope);
    } else {
        check_elementwise(NULL, fn, strcmp(state.kernel, "swiglu") == 0 ? NULL : ref, oracle_elementwise);
    }
}

static void check_nano_scale_fn(nano_scale_fn *fn, nano_scale_fn *ref) {
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(400);
        const float s = random_float();
        float *a = place_floats(0, n);
        float *expected = place_floats(1, n);
        fill_activations(a, n, true);
        float *y = one_in(2) ? a : place_floats(2, n);
        ref(a, s, expected, n);
        fn(a, s, y, n);
        check_guards(y == a ? 0 : 2, y, (size_t)n * sizeof(float));
        expect_same("value", y, expected, n);
    }
}

static void check_nano_norm_fn(nano_norm_fn *fn, nano_norm_fn *ref) {
    const bool centred = strcmp(state.kernel, "norm") == 0;
    for (int round = 0; round < N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(round % 10 == 9 ? MAX_N : 400);
        const float eps = one_in(2) ? 1e-5f : 1e-6f;
        float *x = place_floats(0, n);
        float *w = one_in(4) ? NULL : place_floats(1, n);
        float *b = one_in(4) ? NULL : place_floats(2, n);
        float *expected = place_floats(3, n);
        const float scale = random_scale();
        const float shift = one_in(2) ? 0.0f : scale * random_float();
        double mean = 0.0;
        double mean_size = 0.0;
        for (int64_t i = 0; i < n; i++) {
            x[i] = random_float() * scale + shift;
            mean += (double)x[i] / (double)n;
            mean_size += fabs((double)x[i]) / (double)n;
            if (w != NULL) {
                w[i] = random_float();
            }
            if (b != NULL) {
                b[i] = random_float();
            }
        }
        double spread = (double)eps;
        for (int64_t i = 0; i < n; i++) {
            const double term = (double)x[i] - (centred ? mean : 0.0);
            spread += term * term / (double)n;
        }
        ref(x, w, b, eps, expected, n);
        float *y = place_floats(4, n);
        if (one_in(2)) {
            memcpy(y, x, (size_t)n * sizeof(float));
            fn(y, w, b, eps, y, n);
        } else {
            fn(x, w, b, eps, y, n);
        }
        check_guards(4, y, (size_t)n * sizeof(float));
        for (int64_t i = 0; i < n; i++) {
            const double size = (fabs((double)x[i]) + (centred ? mean_size : 0.0)) / sqrt(spread);
            const double weighed =
                size * (w != NULL ? fabs((double)w[i]) : 1.0) + (b != NULL ? fabs((double)b[i]) : 0.0);
            expect_near("value", y[i], (double)expected[i], (8.0 + (double)n / 16.0) * (double)FLT_EPSILON * weighed);
        }
    }
}

static void check_nano_rope_fn(nano_rope_fn *fn, nano_rope_fn *ref) {
    for (int round = 0; round < 2 * N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(260);
        const int64_t n_rot = one_in(2) ? n / 2 * 2 : 2 * random_int(0, n / 2);
        float *x = place_floats(0, n);
        float *table = place_floats(1, n_rot);
        float *expected = place_floats(2, n);
        fill_activations(x, n, false);
        for (int64_t i = 0; i < n_rot / 2; i++) {
            const double angle = (double)random_float() * 100.0;
            table[2 * i] = (float)cos(angle);
            table[2 * i + 1] = (float)sin(angle);
        }
        ref(x, table, expected, n_rot, n);
        float *y = place_floats(3, n);
        if (one_in(2)) {
            memcpy(y, x, (size_t)n * sizeof(float));
            fn(y, table, y, n_rot, n);
        } else {
            fn(x, table, y, n_rot, n);
        }
        check_guards(3, y, (size_t)n * sizeof(float));
        for (int64_t i = 0; i < n; i++) {
            const bool halves = strcmp(state.kernel, "rope_halves") == 0;
            const int64_t half = n_rot / 2;
            const int64_t pair = halves ? (i < half ? i + half : i - half) : i ^ 1;
            const double bound = i < n_rot ? fabs((double)x[i]) + fabs((double)x[pair]) : 0.0;
            expect_near("value", y[i], (double)expected[i], 2.0 * (double)FLT_EPSILON * bound);
        }
    }
}

static void fill_scores(float *x, int64_t n) {
    const float scale = (float)random_int(1, 40);
    for (int64_t i = 0; i < n; i++) {
        x[i] = one_in(12) ? -INFINITY : random_float() * scale;
    }
    x[random_int(0, n - 1)] = random_float();
}

static void check_nano_max_fn(nano_max_fn *fn, nano_max_fn *ref) {
    for (int round = 0; round < 4 * N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(500);
        float *x = place_floats(0, n);
        fill_scores(x, n);
        expect_near("value", fn(x, n), (double)ref(x, n), 0.0);
    }
}

static void check_nano_exp_sum_fn(nano_exp_sum_fn *fn, nano_exp_sum_fn *ref) {
    (void)ref;
    for (int round = 0; round < 4 * N_ROUNDS && !state.failed; round++) {
        const int64_t n = random_size(500);
        float *x = place_floats(0, n);
        float *y = place_floats(1, n);
        fill_scores(x, n);
        memcpy(y, x, (size_t)n * sizeof(float));
        float max = x[0];
        for (int64_t i = 1; i < n; i++) {
            max = x[i] > max ? x[i] : max;
        }
        const float sum = fn(y, max, n);
        double expected_sum = 0.0;
        check_guards(1, y, (size_t)n * sizeof(float));
        for (int64_t i = 0; i < n; i++) {
            const double expected = exp((double)(x[i] - max));
            const double bound = isinf(x[i]) ? 0.0 : 3.0 * (double)FLT_EPSILON * expected + (double)FLT_MIN;
            expect_near("value", y[i], expected, bound);
            expected_sum += (double)y[i];
        }
        expect_near("sum", sum, expected_sum, (2.0 + (double)n / 16.0) * (double)FLT_EPSILON * expected_sum);
    }
}

#include "tests/kerncheck_multiply.h"
#include "tests/kerncheck_optim.h"

#include "tests/kerncheck_bench.h"

/* -------------------------------------------------------------------- main */

/* Kernels that this level has from the level below are tested there. */
static void check_level(const nano_kernels *k, const nano_kernels *below, const nano_kernels *ref, const char *filter) {
    int n_checked = 0;
#define NANO_KERNEL(name, fn)                                                         \
    if ((below == NULL || k->name != below->name) && strstr(#name, filter) != NULL) { \
        (void)snprintf(state.kernel, sizeof state.kernel, "%s", #name);               \
        state.failed = false;                                                         \
        check_##fn(k->name, ref->name);                                               \
        n_checked++;                                                                  \
    }
#include "cpu/kernels.inc"
#undef NANO_KERNEL
    printf("%s: %d kernels checked\n", state.level, n_checked);
}

typedef struct options {
    const char *level;
    const char *filter;
    bool bench;
} options;

static bool parse(int argc, char **argv, options *o) {
    for (int i = 1; i < argc; i++) {
        const bool has_value = i + 1 < argc && argv[i + 1][0] != '-';
        if (strcmp(argv[i], "--bench") == 0) {
            o->bench = true;
            o->filter = has_value ? argv[++i] : "";
        } else if (strcmp(argv[i], "--level") == 0 && has_value) {
            o->level = argv[++i];
        } else if (strcmp(argv[i], "--filter") == 0 && has_value) {
            o->filter = argv[++i];
        } else if (strcmp(argv[i], "--seed") == 0 && has_value) {
            state.seed = strtoull(argv[++i], NULL, 10);
        } else {
            printf("usage: kerncheck [--seed S] [--level L] [--filter TEXT] [--bench [TEXT]]\n");
            return false;
        }
    }
    return true;
}

static void run_level(const options *o, const char *name, const nano_kernels *k, const nano_kernels *below) {
    if (o->level != NULL && strcmp(o->level, name) != 0) {
        return;
    }
    state.level = name;
    state.random = state.seed;
    if (o->bench) {
        bench(k, o->filter);
    } else {
        check_level(k, below, nano_kernels_at("generic"), o->filter);
    }
}

/* avxvnni where only AVX-512 has its instructions: not a level, but the same code. */
static void run_evex(const options *o) {
#if defined(NANO_HAVE_AVX512)
    if (nano_kernels_at("avx512") != NULL) {
        nano_kernels k = *nano_kernels_at("avx2");
        nano_kernels_init_avxvnni_evex(&k);
        run_level(o, EVEX, &k, nano_kernels_at("avx2"));
    }
#else
    (void)o;
#endif
}

int main(int argc, char **argv) {
    options o = {NULL, "", false};
    state.seed = (uint64_t)(nano_now() * 1e6) % 1000000;
    if (!parse(argc, argv, &o)) {
        return 2;
    }
    if (o.level != NULL && nano_kernels_at(o.level) == NULL && strcmp(o.level, EVEX) != 0) {
        printf("kerncheck: level %s: expected one of %s\n", o.level, nano_cpu_levels());
        return 2;
    }
    map_regions();
    (void)signal(SIGSEGV, on_fault);
    (void)signal(SIGBUS, on_fault);
    printf("kerncheck: levels %s, seed %llu\n", nano_cpu_levels(), (unsigned long long)state.seed);
    const nano_kernels *below = NULL;
    char names[64];
    (void)snprintf(names, sizeof names, "%s", nano_cpu_levels());
    for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
        run_level(&o, name, nano_kernels_at(name), below);
        below = nano_kernels_at(name);
    }
    run_evex(&o);
    return state.n_failures == 0 ? 0 : 1;
}
