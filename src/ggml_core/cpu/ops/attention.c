/*
 * Causal attention over a slot's cache, with the online softmax of Milakov & Gimelshein 2018 (arXiv:1805.02867) as in
 * FlashAttention (Dao et al. 2022).
 *
 * A query's keys are visited in blocks that start at multiples of NANO_KV_BLOCK. Each block's scores, its softmax
 * update and its weighted values are computed with kernels whose results for one query do not depend on the other
 * queries in the call, so a token's output is the same bits alone or in any batch.
 */
#include "base/arith.h"
#include "cpu/exec.h"

#include <math.h>
#include <string.h>

int64_t nano_units_kv_write(const nano_step *step, const nano_node *node) {
    return nano_step_rows(step, &node->src[0]);
}

static void store(const nano_kernels *k, nano_type type, const float *x, uint8_t *y, int64_t n) {
    switch (type) {
        case NANO_TYPE_F16: k->f32_to_f16(x, y, n); break;
        case NANO_TYPE_Q8_0: k->quantize_q8_0(x, y, n); break;
        default: nano_type_find(type)->from_float(x, y, n); break;
    }
}

/* A head of a token to its row of the cache, whose last block is filled up with zeros. */
static void store_row(const nano_kernels *k, const nano_operand *cache, const float *x, uint8_t *y) {
    int64_t rest = cache->ne[0] % nano_type_block_size(cache->type), whole = cache->ne[0] - rest;
    store(k, cache->type, x, y, whole);
    if (rest > 0) {
        float block[NANO_CACHE_BLOCK] = {0};
        memcpy(block, x + whole, (size_t)rest * sizeof *x);
        store(k, cache->type, block, y + nano_type_row_bytes(cache->type, whole), NANO_CACHE_BLOCK);
    }
}

void nano_forward_kv_write(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const nano_operand *x = &node->src[0];
    const nano_kernels *k = step->kernels;
    size_t head = nano_cache_head_bytes(&node->out, step->n_ctx), slot = nano_cache_slot_bytes(&node->out, step->n_ctx);
    for (int64_t t = first; t < last; t++) {
        uint8_t *at = node->out_data + (size_t)step->slots[t] * slot + (size_t)step->positions[t] * node->out.row_bytes;
        for (int64_t h = 0; h < x->ne[1]; h++) {
            const float *from = nano_row(x, t) + h * x->ne[0];
            store_row(k, &node->out, from, at + (size_t)h * head);
        }
    }
}

/* One head's (or, for a single token, one group of heads') queries against one head of the cache. */
typedef struct job {
    const nano_kernels *kernels;
    nano_linear_fn *dot;
    nano_weigh_fn *weigh;
    const nano_operand *k, *v;
    const uint8_t *k_head, *v_head;
    int64_t head_dim;
    int64_t n_dot; /* head_dim in whole blocks of the keys' type */
    const void *q; /* n rows in the activation format of the keys' type, q_stride bytes apart */
    size_t q_stride;
    float *out; /* n rows of value head_dim, out_stride elements apart */
    int64_t out_stride;
    int64_t n;
    bool same_position; /* all queries at `position` (heads of one token) or one after the other (tokens) */
    int32_t position;
    int32_t window;
    float scale;
    float softcap;
    float *max, *sum;   /* (n) running maximum and sum of exponentials */
    float *scores;      /* (n, NANO_KV_BLOCK) */
    float *padded;      /* (n_dot) */
    uint8_t *quantised; /* (n) rows of n_dot in A8 */
} job;

static int64_t max_queries(const nano_node *node) {
    return nano_max_i64(NANO_TILE_TOKENS, node->src[0].ne[1] / node->src[1].ne[1]);
}

/* An A8 row of n elements, n whole blocks. */
static uint64_t a8_bytes(int64_t n) { return (uint64_t)(n / NANO_A8_BLOCK * 40); }

/* Heads and their length are so bounded (graph/shape.c) that none of this overflows 64 bits. */
uint64_t nano_attention_scratch(const nano_node *node) {
    const nano_operand *k = &node->src[1];
    uint64_t n = (uint64_t)max_queries(node), bytes = n * (NANO_KV_BLOCK + 2) * sizeof(float);
    if (nano_type_find(k->type)->activation == NANO_TYPE_A8) {
        int64_t n_dot = nano_cache_row_size(k->type, k->ne[0]);
        bytes += (uint64_t)n_dot * sizeof(float) + n * a8_bytes(n_dot);
    }
    return bytes;
}

/* Queries i0 ... i0 + n - 1 against positions from ... to - 1, all of which every one of them sees. */
static void visit(const job *j, int64_t i0, int64_t n, int64_t from, int64_t to) {
    int64_t n_keys = to - from;
    float *scores = j->scores + i0 * NANO_KV_BLOCK;
    nano_linear_args dot = {.n = j->n_dot,
                            .w = j->k_head + (size_t)from * j->k->row_bytes,
                            .w_stride = j->k->row_bytes,
                            .n_rows = n_keys,
                            .x = (const uint8_t *)j->q + (size_t)i0 * j->q_stride,
                            .x_stride = j->q_stride,
                            .n_cols = n,
                            .y = scores,
                            .y_stride = NANO_KV_BLOCK};
    j->dot(&dot);
    for (int64_t i = 0; i < n; i++) {
        float *s = scores + i * NANO_KV_BLOCK, *out = j->out + (i0 + i) * j->out_stride;
        j->kernels->scale(s, j->scale, s, n_keys);
        if (j->softcap > 0.0f) {
            for (int64_t r = 0; r < n_keys; r++) {
                s[r] = j->softcap * tanhf(s[r] / j->softcap);
            }
        }
        float before = j->max[i0 + i], top = j->kernels->max(s, n_keys);
        if (top > before) {
            float shrink = expf(before - top); /* 0 in the first block */
            j->kernels->scale(out, shrink, out, j->v->ne[0]);
            j->sum[i0 + i] *= shrink;
            j->max[i0 + i] = before = top;
        }
        j->sum[i0 + i] += j->kernels->exp_sum(s, before, n_keys);
    }
    nano_weigh_args weigh = {.n = j->v->ne[0],
                             .v = j->v_head + (size_t)from * j->v->row_bytes,
                             .v_stride = j->v->row_bytes,
                             .n_rows = n_keys,
                             .p = scores,
                             .p_stride = NANO_KV_BLOCK,
                             .n_cols = n,
                             .out = j->out + i0 * j->out_stride,
                             .out_stride = j->out_stride};
    j->weigh(&weigh);
}

static int64_t first_seen(const job *j, int64_t position) {
    return j->window > 0 ? nano_max_i64(0, position + 1 - j->window) : 0;
}

static void attend(const job *j) {
    for (int64_t i = 0; i < j->n; i++) {
        j->max[i] = -INFINITY;
        j->sum[i] = 0.0f;
        memset(j->out + i * j->out_stride, 0, (size_t)j->v->ne[0] * sizeof(float));
    }
    int64_t p_first = j->position, p_last = j->same_position ? p_first : p_first + j->n - 1;
    for (int64_t b = first_seen(j, p_first) / NANO_KV_BLOCK * NANO_KV_BLOCK; b <= p_last; b += NANO_KV_BLOCK) {
        int64_t end = b + NANO_KV_BLOCK;
        if (j->same_position) {
            visit(j, 0, j->n, nano_max_i64(b, first_seen(j, p_first)), nano_min_i64(end, p_first + 1));
        } else if (end <= p_first + 1 && first_seen(j, p_last) <= b) {
            visit(j, 0, j->n, b, end);
        } else {
            for (int64_t i = 0; i < j->n; i++) {
                int64_t from = nano_max_i64(b, first_seen(j, p_first + i)), to = nano_min_i64(end, p_first + i + 1);
                if (from < to) {
                    visit(j, i, 1, from, to);
                }
            }
        }
    }
    for (int64_t i = 0; i < j->n; i++) {
        float *out = j->out + i * j->out_stride;
        j->kernels->scale(out, 1.0f / j->sum[i], out, j->v->ne[0]);
    }
}

/* Takes n rows of queries, stride bytes apart, in the format that the keys' dot wants. */
static void set_queries(job *j, const float *q, size_t stride, int64_t n) {
    nano_convert_fn *quantise = nano_kernels_quantize(j->kernels, nano_type_find(j->k->type)->activation);
    j->n = n;
    j->q = q;
    j->q_stride = stride;
    if (quantise == NULL) {
        return;
    }
    j->q = j->quantised;
    j->q_stride = (size_t)a8_bytes(j->n_dot);
    for (int64_t i = 0; i < n; i++) {
        const float *row = (const float *)(const void *)((const uint8_t *)q + (size_t)i * stride);
        if (j->n_dot != j->head_dim) {
            memcpy(j->padded, row, (size_t)j->head_dim * sizeof *row);
            row = j->padded;
        }
        quantise(row, j->quantised + (size_t)i * j->q_stride, j->n_dot);
    }
}

/* A unit is a tile of tokens and a head of the cache (with the group of query heads that share it). */
int64_t nano_units_attention(const nano_step *step, const nano_node *node) {
    return (int64_t)step->n_tiles * node->src[1].ne[1];
}

static void run_unit(const nano_step *step, const nano_node *node, const nano_tile *tile, int64_t kv_head, job *j) {
    const nano_operand *q = &node->src[0];
    int64_t group = q->ne[1] / j->k->ne[1], v_dim = j->v->ne[0];
    j->k_head = j->k->data + (size_t)tile->slot * nano_cache_slot_bytes(j->k, step->n_ctx) +
                (size_t)kv_head * nano_cache_head_bytes(j->k, step->n_ctx);
    j->v_head = j->v->data + (size_t)tile->slot * nano_cache_slot_bytes(j->v, step->n_ctx) +
                (size_t)kv_head * nano_cache_head_bytes(j->v, step->n_ctx);
    j->position = tile->position;
    j->same_position = tile->count == 1;
    if (j->same_position) {
        set_queries(j, nano_row(q, tile->first) + kv_head * group * j->head_dim, (size_t)j->head_dim * sizeof(float),
                    group);
        j->out = nano_out_row(node, tile->first) + kv_head * group * v_dim;
        j->out_stride = v_dim;
        attend(j);
        return;
    }
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        set_queries(j, nano_row(q, tile->first) + h * j->head_dim, q->row_bytes, tile->count);
        j->out = nano_out_row(node, tile->first) + h * v_dim;
        j->out_stride = (int64_t)(node->out.row_bytes / sizeof(float));
        attend(j);
    }
}

void nano_forward_attention(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    const nano_operand *k = &node->src[1], *v = &node->src[2];
    int64_t head_dim = node->src[0].ne[0], n_queries = max_queries(node);
    int64_t n_dot = nano_cache_row_size(k->type, head_dim);
    float *scratch = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    float scale = (float)node->params.floats[0];
    job j = {.kernels = step->kernels,
             .dot = nano_kernels_linear(step->kernels, k->type),
             .weigh = nano_kernels_weigh(step->kernels, v->type),
             .k = k,
             .v = v,
             .head_dim = head_dim,
             .n_dot = n_dot,
             .window = (int32_t)node->params.ints[0],
             .scale = node->params.floats[0] == 0.0 ? 1.0f / sqrtf((float)head_dim) : scale,
             .softcap = (float)node->params.floats[1],
             .max = scratch,
             .sum = scratch + n_queries,
             .scores = scratch + 2 * n_queries,
             .padded = scratch + (2 + NANO_KV_BLOCK) * n_queries};
    if (nano_type_find(k->type)->activation == NANO_TYPE_A8) {
        j.quantised = (uint8_t *)(j.padded + n_dot);
    }
    for (int64_t i = head_dim; i < n_dot; i++) {
        j.padded[i] = 0.0f;
    }
    for (int64_t u = first; u < last; u++) {
        run_unit(step, node, &step->tiles[u / k->ne[1]], u % k->ne[1], &j);
    }
}
