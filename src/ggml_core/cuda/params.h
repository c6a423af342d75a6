/*
 * What each CUDA kernel is given: one structure by value, the same for the host side (C) and the device side (CUDA).
 *
 * Pointers are device addresses. Strides of f32 rows are in elements, of other rows in bytes. Rows of weights lie as in
 * the file. Activations for quantised weights are rows of A8 (types/types.h).
 */
#ifndef NANO_CUDA_PARAMS_H
#define NANO_CUDA_PARAMS_H

#include <stdint.h>

/* Threads a block of each kernel has, and what else host and device must agree on. */
enum {
    NANO_CUDA_THREADS = 128,   /* of every kernel; no multiple of registers times it may pass 32,768 on sm_53 */
    NANO_CUDA_VEC_COLUMNS = 4, /* most columns of one call of a vec kernel */
    NANO_CUDA_VEC_ROWS = 4,    /* rows of a block of a vec kernel: one a warp */
    NANO_CUDA_TILE = 64,       /* rows and columns of a block of a tile kernel */
    NANO_CUDA_KEYS = 64,       /* keys that attention works on at once */
    NANO_CUDA_QUERIES = 16,    /* most rows of queries (tokens times heads of a group) of a block of attention */
    NANO_CUDA_HEAD_MAX = 256,  /* longest head */
    NANO_CUDA_SPLIT_MAX = 64   /* most parts that a token's keys are split into */
};

typedef enum nano_cuda_norm_kind { NANO_CUDA_NORM_NONE, NANO_CUDA_NORM_LAYER, NANO_CUDA_NORM_RMS } nano_cuda_norm_kind;

/* y[row] = norm(x[row]) of `groups` groups of n elements a row. Grid: (groups, rows). */
typedef struct nano_cuda_norm {
    const float *x, *w, *b; /* b NULL: 0 */
    float *y;
    int64_t x_stride, y_stride;
    int32_t n, kind;
    float eps;
} nano_cuda_norm;

/* y[row] = A8 of norm(x[row]). Grid: (rows). n is a multiple of 32. */
typedef struct nano_cuda_quantize {
    const float *x, *w, *b;
    uint8_t *y;
    int64_t x_stride, y_bytes;
    int32_t n, kind;
    float eps;
} nano_cuda_quantize;

/* An activation by the numbers of nano_activation, or: y times what it was. For gates. */
enum { NANO_CUDA_TIMES = 3 };

/* y[c][r] = activation(sum of w[r][i] * x[c][i] + bias[r]) + residual[c][r]; with w2
 * (vec kernels alone): silu(w x) * (w2 x).
 * Grid of vec: (n_rows / NANO_CUDA_VEC_ROWS, columns / NANO_CUDA_VEC_COLUMNS), of tile: (n_rows / NANO_CUDA_TILE,
 * columns / NANO_CUDA_TILE), rounded up. */
typedef struct nano_cuda_linear {
    const uint8_t *w, *w2; /* w2 NULL: none */
    const uint8_t *x;      /* rows of A8, or of f32 for float weights */
    const float *bias, *residual;
    float *y;
    int64_t w_bytes, x_bytes, y_stride, residual_stride;
    int32_t n, n_rows, n_columns, activation;
} nano_cuda_linear;

typedef enum nano_cuda_map_kind {
    NANO_CUDA_GELU,
    NANO_CUDA_SILU,
    NANO_CUDA_SCALE,
    NANO_CUDA_SWIGLU,
    NANO_CUDA_ADD,
    NANO_CUDA_MUL
} nano_cuda_map_kind;

/* y[row][i] = f(a[row][i], b[row][i]); b_period > 0: b is one vector, of b_period elements, over and over.
 * Grid: (n / NANO_CUDA_THREADS, rows), rounded up. */
typedef struct nano_cuda_map {
    const float *a, *b;
    float *y;
    int64_t a_stride, b_stride, y_stride;
    int32_t n, kind, b_period;
    float factor;
} nano_cuda_map;

/* y[i] = x[index[i]]. Grid: (n / NANO_CUDA_THREADS, rows), rounded up. */
typedef struct nano_cuda_rows {
    const float *x;
    const int32_t *index;
    float *y;
    int64_t x_stride, y_stride;
    int32_t n;
} nano_cuda_rows;

/* Turns the first n_rot of each head's n elements by table[token] (cos and sin, a pair an angle).
 * Grid: (heads, tokens). */
typedef struct nano_cuda_rope {
    const float *x, *table;
    float *y;
    int64_t x_stride, y_stride, table_stride;
    int32_t n, n_rot, order;
} nano_cuda_rope;

/* One cache of a layer: (slot, head, position) rows of row_bytes. */
typedef struct nano_cuda_cache {
    uint8_t *data;
    int64_t slot_bytes, head_bytes, row_bytes;
    int32_t type; /* F32, F16 or Q8_0 */
} nano_cuda_cache;

/* Rows (heads) of x to the cache, at each token's slot and position. Grid: (heads, tokens). */
typedef struct nano_cuda_kv_write {
    const float *x;
    nano_cuda_cache cache;
    const int32_t *slots, *positions;
    int64_t x_stride;
    int32_t n;
} nano_cuda_kv_write;

/* Tokens of one slot that follow each other, as nano_tile. */
typedef struct nano_cuda_tile {
    int32_t first, count, slot, position;
} nano_cuda_tile;

/*
 * Online softmax over a slot's cache. A block has one tile of tokens, one head of keys and its n_group heads of
 * queries (tokens times n_group at most NANO_CUDA_QUERIES), and one part of the keys. Parts: n_split; each part's
 * unnormalised sums, maximum and sum of exponentials go to `part`, which attention_join adds up; with n_split 1 the
 * result goes to y at once. Grid: (tiles, heads of keys, n_split).
 * part: (token, head, split) of (value length + 2) f32.
 */
typedef struct nano_cuda_attention {
    const float *q;
    nano_cuda_cache k, v;
    const nano_cuda_tile *tiles;
    float *y, *part;
    int64_t q_stride, y_stride;
    int32_t k_dim, v_dim, n_head, n_group, n_split, window;
    float scale, softcap;
} nano_cuda_attention;

/* Grid: (heads, tokens). */
typedef struct nano_cuda_attention_join {
    const float *part;
    float *y;
    int64_t y_stride;
    int32_t v_dim, n_head, n_split;
} nano_cuda_attention_join;

#endif
