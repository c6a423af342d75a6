/*
 * Causal attention over a slot's cache, with the online softmax of Milakov & Gimelshein 2018 (arXiv:1805.02867) as in
 * FlashAttention (Dao et al. 2022).
 *
 * A query's keys are visited in blocks that start at multiples of NANO_KV_BLOCK. Each block's scores, its softmax
 * update and its weighted values are computed with kernels whose results for one query do not depend on the other
 * queries in the call, so a token's output is the same bits alone or in any batch.
 *
 * Keys of a float type lie transposed in their block, so that scores are a weighted sum of rows, as the values' sum
 * is: one kernel serves both, without sums across a vector. Quantised keys lie in rows, for integer dots.
 */
#include "base/arith.h"
#include "cpu/exec.h"

#include <math.h>
#include <string.h>

int64_t nano_units_kv_write(const nano_step *step, const nano_node *node) {
    return nano_step_rows(step, &node->src[0]);
}

static void store(const nano_kernels *k, nano_type type, const float *x, void *y, int64_t n) {
    switch (type) {
        case NANO_TYPE_F16: k->f32_to_f16(x, y, n); break;
        case NANO_TYPE_Q8_0: k->quantize_q8_0(x, y, n); break;
        default: nano_type_find(type)->from_float(x, y, n); break;
    }
}

/* A row, whose last block is filled up with zeros. */
static void store_row(const nano_kernels *k, nano_type type, const float *x, uint8_t *y, int64_t n) {
    int64_t rest = n % nano_type_block_size(type), whole = n - rest;
    store(k, type, x, y, whole);
    if (rest > 0) {
        float block[NANO_CACHE_BLOCK] = {0};
        memcpy(block, x + whole, (size_t)rest * sizeof *x);
        store(k, type, block, y + nano_type_row_bytes(type, whole), NANO_CACHE_BLOCK);
    }
}

/* A column of a block whose first row's element is y. */
static void store_column(const nano_kernels *k, nano_type type, const float *x, uint8_t *y, int64_t n) {
    size_t bytes = nano_type_block_bytes(type);
    for (int64_t i = 0; i < n; i += NANO_KV_BLOCK) {
        float piece[NANO_KV_BLOCK];
        int64_t count = nano_min_i64(NANO_KV_BLOCK, n - i);
        store(k, type, x + i, piece, count);
        for (int64_t r = 0; r < count; r++, y += bytes * NANO_KV_BLOCK) {
            memcpy(y, (const uint8_t *)piece + (size_t)r * bytes, bytes);
        }
    }
}

void nano_forward_kv_write(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const nano_operand *x = &node->src[0], *cache = &node->out;
    size_t head = nano_cache_head_bytes(cache, step->n_ctx), slot = nano_cache_slot_bytes(cache, step->n_ctx);
    for (int64_t t = first; t < last; t++) {
        uint8_t *at = node->out_data + (size_t)step->slots[t] * slot + nano_cache_at(cache, step->positions[t]);
        for (int64_t h = 0; h < x->ne[1]; h++, at += head) {
            const float *from = nano_row(x, t) + h * x->ne[0];
            if (cache->transposed) {
                store_column(step->kernels, cache->type, from, at, x->ne[0]);
            } else {
                store_row(step->kernels, cache->type, from, at, x->ne[0]);
            }
        }
    }
}

/* One head's (or, for a single token, one group of heads') queries against one head of the cache. */
typedef struct job {
    const nano_kernels *kernels;
    nano_linear_fn *dot;              /* with keys in rows */
    nano_convert_fn *quantise;        /* queries for `dot`; NULL when keys are transposed */
    nano_weigh_fn *weigh_k, *weigh_v; /* transposed keys, values */
    const nano_operand *k, *v;
    const uint8_t *k_head, *v_head;
    int64_t head_dim;
    int64_t n_dot; /* head_dim in whole blocks of the keys' type */
    float *out;    /* n rows of value head_dim, out_stride elements apart */
    int64_t out_stride;
    int64_t n;
    bool same_position; /* all queries at `position` (heads of one token) or one after the other (tokens) */
    int32_t position;
    int32_t window;
    float scale;
    float softcap;
    float *max, *sum; /* (n) running maximum and sum of exponentials */
    float *scores;    /* (n, NANO_KV_BLOCK) */
    float *q;         /* (n, n_dot) scaled queries, filled up with zeros */
    uint8_t *q_a8;    /* (n) the same in A8 */
} job;

static int64_t max_queries(const nano_node *node) {
    return nano_max_i64(NANO_TILE_TOKENS, node->src[0].ne[1] / node->src[1].ne[1]);
}

/* An A8 row of n elements, n whole blocks. */
static uint64_t a8_bytes(int64_t n) { return (uint64_t)(n / NANO_A8_BLOCK * 40); }

/* Heads and their length are so bounded (graph/shape.c) that none of this overflows 64 bits. */
uint64_t nano_attention_scratch(const nano_node *node) {
    const nano_operand *k = &node->src[1];
    int64_t n_dot = nano_cache_row_size(k->type, k->ne[0]);
    uint64_t a_query = ((uint64_t)n_dot + NANO_KV_BLOCK + 2) * sizeof(float);
    return (uint64_t)max_queries(node) * (a_query + (k->transposed ? 0 : a8_bytes(n_dot)));
}

/* Positions from ... to - 1; none when from >= to. */
typedef struct range {
    int64_t from, to;
} range;

static int64_t first_seen(const job *j, int64_t position) {
    return j->window > 0 ? nano_max_i64(0, position + 1 - j->window) : 0;
}

/* What query i sees of the block that starts at b. */
static range seen(const job *j, int64_t i, int64_t b) {
    int64_t position = j->same_position ? j->position : j->position + i;
    return (range){nano_max_i64(b, first_seen(j, position)), nano_min_i64(b + NANO_KV_BLOCK, position + 1)};
}

/* Scores of all queries for the keys of `r`, which lie in one block. */
static void score(const job *j, range r) {
    int64_t n_keys = r.to - r.from;
    const uint8_t *keys = j->k_head + nano_cache_at(j->k, r.from);
    if (!j->k->transposed) {
        nano_linear_args dot = {.n = j->n_dot,
                                .w = keys,
                                .w_stride = j->k->row_bytes,
                                .n_rows = n_keys,
                                .x = j->q_a8,
                                .x_stride = (size_t)a8_bytes(j->n_dot),
                                .n_cols = j->n,
                                .y = j->scores,
                                .y_stride = NANO_KV_BLOCK};
        j->dot(&dot);
        return;
    }
    for (int64_t i = 0; i < j->n; i++) {
        memset(j->scores + i * NANO_KV_BLOCK, 0, (size_t)n_keys * sizeof *j->scores);
    }
    nano_weigh_args weigh = {.n = n_keys,
                             .v = keys,
                             .v_stride = nano_type_block_bytes(j->k->type) * NANO_KV_BLOCK,
                             .n_rows = j->head_dim,
                             .p = j->q,
                             .p_stride = j->n_dot,
                             .n_cols = j->n,
                             .out = j->scores,
                             .out_stride = NANO_KV_BLOCK};
    j->weigh_k(&weigh);
}

/* Query i's n scores become weights; what it has summed up so far is brought to the same scale. */
static void soften(const job *j, int64_t i, float *scores, int64_t n) {
    for (int64_t r = 0; j->softcap > 0.0f && r < n; r++) {
        scores[r] = j->softcap * tanhf(scores[r] / j->softcap);
    }
    float top = j->kernels->max(scores, n);
    if (top > j->max[i]) {
        float *out = j->out + i * j->out_stride;
        float shrink = expf(j->max[i] - top); /* 0 in the first block */
        j->kernels->scale(out, shrink, out, j->v->ne[0]);
        j->sum[i] *= shrink;
        j->max[i] = top;
    }
    j->sum[i] += j->kernels->exp_sum(scores, j->max[i], n);
}

/* Adds the values of `r`, weighed, to n outputs from the i-th on. first: the position of scores[0]. */
static void add_values(const job *j, int64_t i, int64_t n, range r, int64_t first) {
    if (r.from >= r.to) {
        return;
    }
    nano_weigh_args weigh = {.n = j->v->ne[0],
                             .v = j->v_head + nano_cache_at(j->v, r.from),
                             .v_stride = j->v->row_bytes,
                             .n_rows = r.to - r.from,
                             .p = j->scores + i * NANO_KV_BLOCK + (r.from - first),
                             .p_stride = NANO_KV_BLOCK,
                             .n_cols = n,
                             .out = j->out + i * j->out_stride,
                             .out_stride = j->out_stride};
    j->weigh_v(&weigh);
}

/* All queries against the block that starts at b. Scores are computed of every key that one of them sees; values are
 * added together where all see them and one by one before and after that, so in order for each. */
static void visit(const job *j, int64_t b) {
    range any = seen(j, 0, b), all = any;
    for (int64_t i = 1; i < j->n; i++) {
        range r = seen(j, i, b);
        any = (range){nano_min_i64(any.from, r.from), nano_max_i64(any.to, r.to)};
        all = (range){nano_max_i64(all.from, r.from), nano_min_i64(all.to, r.to)};
    }
    if (all.from >= all.to) {
        all = (range){any.to, any.to};
    }
    score(j, any);
    for (int64_t i = 0; i < j->n; i++) {
        range r = seen(j, i, b);
        if (r.from < r.to) {
            soften(j, i, j->scores + i * NANO_KV_BLOCK + (r.from - any.from), r.to - r.from);
            add_values(j, i, 1, (range){r.from, nano_min_i64(r.to, all.from)}, any.from);
        }
    }
    add_values(j, 0, j->n, all, any.from);
    for (int64_t i = 0; i < j->n; i++) {
        add_values(j, i, 1, (range){all.to, seen(j, i, b).to}, any.from);
    }
}

static void attend(const job *j) {
    for (int64_t i = 0; i < j->n; i++) {
        j->max[i] = -INFINITY;
        j->sum[i] = 0.0f;
        memset(j->out + i * j->out_stride, 0, (size_t)j->v->ne[0] * sizeof(float));
    }
    int64_t last = j->same_position ? j->position : j->position + j->n - 1;
    for (int64_t b = first_seen(j, j->position) / NANO_KV_BLOCK * NANO_KV_BLOCK; b <= last; b += NANO_KV_BLOCK) {
        visit(j, b);
    }
    for (int64_t i = 0; i < j->n; i++) {
        float *out = j->out + i * j->out_stride;
        j->kernels->scale(out, 1.0f / j->sum[i], out, j->v->ne[0]);
    }
}

/* Takes n queries, stride bytes apart. */
static void set_queries(job *j, const float *x, size_t stride, int64_t n) {
    j->n = n;
    for (int64_t i = 0; i < n; i++) {
        const float *row = (const float *)(const void *)((const uint8_t *)x + (size_t)i * stride);
        float *q = j->q + i * j->n_dot;
        j->kernels->scale(row, j->scale, q, j->head_dim);
        memset(q + j->head_dim, 0, (size_t)(j->n_dot - j->head_dim) * sizeof *q);
        if (j->quantise != NULL) {
            j->quantise(q, j->q_a8 + (size_t)i * a8_bytes(j->n_dot), j->n_dot);
        }
    }
}

enum { FEW_UNITS = 16, KERNEL_QUERIES = 4 };

/* Heads of the queries that one unit takes: the group that shares a head of the cache, so that keys and values are read
 * once; where that makes few units, as many of it as the kernels take at once. */
static int64_t unit_heads(const nano_step *step, const nano_node *node) {
    int64_t n_kv = node->src[1].ne[1], group = node->src[0].ne[1] / n_kv;
    return step->n_tiles * n_kv >= FEW_UNITS ? group : nano_min_i64(group, KERNEL_QUERIES);
}

static int64_t units_per_group(const nano_step *step, const nano_node *node) {
    int64_t group = node->src[0].ne[1] / node->src[1].ne[1], each = unit_heads(step, node);
    return (group + each - 1) / each;
}

/* A unit is a tile of tokens and some of the heads that share a head of the cache. */
int64_t nano_units_attention(const nano_step *step, const nano_node *node) {
    return step->n_tiles * node->src[1].ne[1] * units_per_group(step, node);
}

/* Heads first .. last - 1, which share kv_head. */
static void run_unit(const nano_step *step, const nano_node *node, const nano_tile *tile, int64_t kv_head,
                     int64_t first, int64_t last, job *j) {
    const nano_operand *q = &node->src[0];
    int64_t v_dim = j->v->ne[0];
    j->k_head = j->k->data + (size_t)tile->slot * nano_cache_slot_bytes(j->k, step->n_ctx) +
                (size_t)kv_head * nano_cache_head_bytes(j->k, step->n_ctx);
    j->v_head = j->v->data + (size_t)tile->slot * nano_cache_slot_bytes(j->v, step->n_ctx) +
                (size_t)kv_head * nano_cache_head_bytes(j->v, step->n_ctx);
    j->position = tile->position;
    j->same_position = tile->count == 1;
    if (j->same_position) {
        set_queries(j, nano_row(q, tile->first) + first * j->head_dim, (size_t)j->head_dim * sizeof(float),
                    last - first);
        j->out = nano_out_row(node, tile->first) + first * v_dim;
        j->out_stride = v_dim;
        attend(j);
        return;
    }
    for (int64_t h = first; h < last; h++) {
        set_queries(j, nano_row(q, tile->first) + h * j->head_dim, q->row_bytes, tile->count);
        j->out = nano_out_row(node, tile->first) + h * v_dim;
        j->out_stride = (int64_t)(node->out.row_bytes / sizeof(float));
        attend(j);
    }
}

void nano_forward_attention(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    const nano_operand *k = &node->src[1], *v = &node->src[2];
    int64_t head_dim = node->src[0].ne[0], n_dot = nano_cache_row_size(k->type, head_dim), n = max_queries(node);
    float *scratch = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    float scale = (float)node->params.floats[0];
    job j = {.kernels = step->kernels,
             .dot = nano_kernels_linear(step->kernels, k->type),
             .weigh_k = nano_kernels_weigh(step->kernels, k->type),
             .weigh_v = nano_kernels_weigh(step->kernels, v->type),
             .quantise = nano_kernels_quantize(step->kernels, nano_type_find(k->type)->activation),
             .k = k,
             .v = v,
             .head_dim = head_dim,
             .n_dot = n_dot,
             .window = (int32_t)node->params.ints[0],
             .scale = node->params.floats[0] == 0.0 ? 1.0f / sqrtf((float)head_dim) : scale,
             .softcap = (float)node->params.floats[1],
             .max = scratch,
             .sum = scratch + n,
             .scores = scratch + 2 * n,
             .q = scratch + (2 + NANO_KV_BLOCK) * n,
             .q_a8 = (uint8_t *)(scratch + (2 + NANO_KV_BLOCK + n_dot) * n)};
    int64_t group = node->src[0].ne[1] / k->ne[1], each = unit_heads(step, node), pieces = units_per_group(step, node);
    for (int64_t u = first; u < last; u++) {
        int64_t kv_head = u / pieces % k->ne[1], head = kv_head * group + u % pieces * each;
        run_unit(step, node, &step->tiles[u / pieces / k->ne[1]], kv_head, head,
                 nano_min_i64(head + each, (kv_head + 1) * group), &j);
    }
}
