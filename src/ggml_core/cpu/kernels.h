/*
 * The kernel table: inner loops for one instruction set, behind function pointers.
 *
 * A table starts as the scalar reference; each level's init then overwrites what it does better (features and
 * levels: cpu/features.h, cpu/dispatch.c). kernels.inc has a row a kernel; the harness tests/kerncheck.c runs
 * every row of every level against the reference.
 *
 * Contract of every kernel:
 *  - pointers need no more alignment than their element type; rows of weights may start anywhere;
 *  - nothing outside the stated rows is read or written;
 *  - the order in which an output element is added up depends only on the row length and the level: not on
 *    how many rows or columns one call covers, nor on their position. So results are the same bits for any
 *    split of the work. (Integer sums are exact in any order.)
 */
#ifndef NANO_CPU_KERNELS_H
#define NANO_CPU_KERNELS_H

#include "types/search.h"
#include "types/types.h"

/* y[c * y_stride + r] = sum over i < n of w[r][i] * x[c][i], for r < n_rows, c < n_cols.
 * w: rows of the kernel's type, w_stride bytes apart. x: rows of the type's activation format (f32 or A8, see
 * types.h), x_stride bytes apart. y: f32, y_stride elements apart. n is whole blocks of w's type. */
typedef struct nano_linear_args {
    int64_t n;
    const void *w;
    size_t w_stride;
    int64_t n_rows;
    const void *x;
    size_t x_stride;
    int64_t n_cols;
    float *y;
    int64_t y_stride;
} nano_linear_args;

typedef void nano_linear_fn(const nano_linear_args *args);

/* x: f32 (n) -> y: n elements in the target format (A8: n a multiple of 32). */
typedef void nano_convert_fn(const void *x, void *y, int64_t n);

/* gelu is the tanh form of GPT-2 (Hendrycks & Gimpel, arXiv:1606.08415):
 *   x / 2 * (1 + tanh(u)) = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3),
 * computed as x * sigmoid(NANO_GELU_LINEAR * x * (1 + NANO_GELU_CUBIC * x^2)). silu(x) = x * sigmoid(x);
 * swiglu(a, b) = silu(a) * b. */
#define NANO_GELU_LINEAR 1.5957691216f /* 2 sqrt(2 / pi) */
#define NANO_GELU_CUBIC 0.044715f

/* y[i] = f(a[i]); y may be a. */
typedef void nano_unary_fn(const float *a, float *y, int64_t n);
/* y[i] = f(a[i], b[i]); y may be a or b. */
typedef void nano_binary_fn(const float *a, const float *b, float *y, int64_t n);
/* gelu_grad, silu_grad: y[i] = f'(a[i]) * b[i], with s the sigmoid and u = u(x) as above:
 *   gelu' = s(u) + x s(u) (1 - s(u)) u', u' = NANO_GELU_LINEAR * (1 + 3 NANO_GELU_CUBIC x^2)
 *   silu' = s(x) (1 + x (1 - s(x)))
 * Beyond NANO_GELU_SATURATED gelu is 0 or x, in f32, and so gelu' 0 or 1. */
#define NANO_GELU_SATURATED 16.0f

/* swiglu's: da[i] = d[i] * silu'(a[i]) * b[i], db[i] = d[i] * silu(a[i]). No two of them overlap. */
typedef void nano_gated_grad_fn(const float *a, const float *b, const float *d, float *da, float *db, int64_t n);
/* y[i] = a[i] * s; y may be a. */
typedef void nano_scale_fn(const float *a, float s, float *y, int64_t n);
/* rms_norm: y = x / sqrt(mean(x^2) + eps) * w. norm: y = (x - mean) / sqrt(var + eps) * w + b. w and b may be
 * NULL (1 and 0); rms_norm ignores b; y may be x. */
typedef void nano_norm_fn(const float *x, const float *w, const float *b, float eps, float *y, int64_t n);
/* The gradient of x, from that of the result, d: with g = w d, f = 1 / sqrt(mean(x^2) + eps), means over n,
 *   rms_norm_grad: y = f (g - x f^2 mean(g x))
 *   norm_grad:     y = f (g - mean(g) - (x - mean(x)) f^2 mean(g (x - mean(x)))), f of the variance
 * (norm: Ba, Kiros & Hinton 2016, arXiv:1607.06450). y may be x or d. */
typedef void nano_norm_grad_fn(const float *x, const float *w, const float *d, float eps, float *y, int64_t n);
/* Rotates n_rot leading elements of x by angles given as table[2*i] = cos, table[2*i+1] = sin (i < n_rot/2);
 * the rest up to n is copied. Pairs: (2i, 2i+1) in rope_pairs, (i, i + n_rot/2) in rope_halves. y may be x. */
typedef void nano_rope_fn(const float *x, const float *table, float *y, int64_t n_rot, int64_t n);
/* x[i] = exp(x[i] - max); returns the sum (in a fixed order that depends on n alone). -INFINITY gives exactly 0. */
typedef float nano_exp_sum_fn(float *x, float max, int64_t n);
typedef float nano_max_fn(const float *x, int64_t n);
/* d[i] = p[i] * (d[i] - the sum over j < n of p[j] * d[j]): with p a softmax, the gradient of what it was made of, from
 * that of p. */
typedef void nano_softmax_grad_fn(const float *p, float *d, int64_t n);
/* out[c][i] += sum over r < n_rows of p[c][r] * v[r][i], added in the order of r (a chain of fused or unfused
 * multiply-adds, the same for every i, c). v: rows of the kernel's type, v_stride bytes apart, each of n elements and,
 * in types of blocks, the rest of the last block, which is not used; an element is what the type's to_float makes of
 * it. p, out: f32, p_stride and out_stride elements apart; i < n. A call over rows 0..k and one over k..m make the same
 * bits as one over 0..m. */
typedef struct nano_weigh_args {
    int64_t n;
    const void *v;
    size_t v_stride;
    int64_t n_rows;
    const float *p;
    int64_t p_stride;
    int64_t n_cols;
    float *out;
    int64_t out_stride;
} nano_weigh_args;

typedef void nano_weigh_fn(const nano_weigh_args *args);

/* A product of matrices whose factors were packed: c[i][j] = sum over k < n_k of a[i][k] * b[k][j], for i < n_rows,
 * j < n_cols; with `add`, that sum is added to what was there. The sum of one output is a chain of multiply-adds in the
 * order of k, whatever the tile. a: panels of NANO_PANEL_ROWS rows, one after the other, n_k times the rows' elements k in
 * each; b: panels of NANO_PANEL_COLUMNS columns likewise. Whole panels may be read; what lies in them beyond the last row
 * or column changes nothing. c: rows c_stride elements apart. */
enum { NANO_PANEL_ROWS = 12, NANO_PANEL_COLUMNS = 16 };

typedef struct nano_multiply_args {
    int64_t n_k;
    const float *a;
    int64_t n_rows;
    const float *b;
    int64_t n_cols;
    float *c;
    int64_t c_stride;
    bool add;
} nano_multiply_args;

typedef void nano_multiply_fn(const nano_multiply_args *args);

/* y[j][i] = x[i][j] for i < n_rows, j < n_cols; rows x_stride and y_stride elements apart. */
typedef void nano_transpose_fn(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_cols, float *y,
                               int64_t y_stride);

/* A step of ADAM (see ggml_core.h) over n parameters, per element, in this order, no operation fused with another:
 *   g' = g * gradient + w * into_gradient      m = m * beta1 + g' * rest1      v = v * beta2 + g' * g' * rest2
 *   w = w * keep - m * rate / (sqrt(v) * spread + eps)
 * The four vectors are apart from one another. The same bits at every level. */
typedef struct nano_adam_args {
    int64_t n;
    float *w;
    const float *g;
    float *m, *v;
    float gradient, into_gradient, beta1, rest1, beta2, rest2, keep, rate, spread, eps;
} nano_adam_args;

typedef void nano_adam_fn(const nano_adam_args *args);
/* The sum of x[i]^2 in f64, as optim/sums.h adds up: the same bits at every level. */
typedef double nano_sum_squares_fn(const float *x, int64_t n);

/* linear over many columns on a matrix unit: weights and activations rounded to bfloat16 (nearest even), sums in f32.
 * An output's order of addition is its own, not that of the type's other kernel; it depends on n alone.
 * args->x: groups of NANO_WIDE_GROUP columns on a cache line, nano_wide_group_bytes(n) each, the last filled up with
 * zeros: elements 2 i and 2 i + 1 of every column of the group, then 2 i + 2 and 2 i + 3 of every column ... x_stride
 * is not read. n is a multiple of 32, `type` one whose activation format is A8. */
enum { NANO_WIDE_GROUP = 16 };

static inline size_t nano_wide_group_bytes(int64_t n) { return (size_t)n * 2 * NANO_WIDE_GROUP; }

typedef void nano_wide_linear_fn(nano_type type, const nano_linear_args *args);
/* Makes a group from n_cols (1 ... NANO_WIDE_GROUP) rows of n f32, x_stride elements apart. */
typedef void nano_wide_pack_fn(const float *x, int64_t x_stride, int64_t n_cols, void *out, int64_t n);

nano_wide_linear_fn nano_wide_linear_ref;
nano_wide_pack_fn nano_wide_pack_ref;

typedef struct nano_kernels {
#define NANO_KERNEL(name, fn) fn *name;
#include "cpu/kernels.inc"
#undef NANO_KERNEL
    nano_wide_linear_fn *wide_linear; /* NULL, both, where the level has no matrix unit */
    nano_wide_pack_fn *wide_pack;
} nano_kernels;

/* The linear kernel for weights of `type`; NULL when the type cannot be computed with. */
nano_linear_fn *nano_kernels_linear(const nano_kernels *k, nano_type type);
/* The kernel that makes rows of an activation format from f32; NULL for F32 itself. */
nano_convert_fn *nano_kernels_quantize(const nano_kernels *k, nano_type activation);
/* attention's sums over a cache of `type`, of values and of transposed keys; NULL when that cannot be a cache's. */
nano_weigh_fn *nano_kernels_weigh(const nano_kernels *k, nano_type type);

/* The table of one level ("avx2"), for tests; NULL when this machine cannot run it. */
const nano_kernels *nano_kernels_at(const char *level);
/* The table of the level now chosen (nano_cpu_set_level, NANOLLM_CPU, else the best). Never NULL. A level in
 * NANOLLM_CPU that this machine lacks is passed over here; nano_cpu_set_level(NULL) reports it. */
const nano_kernels *nano_kernels_current(void);
/* The level of a table that the two functions above gave. */
const char *nano_kernels_name(const nano_kernels *k);

#endif
