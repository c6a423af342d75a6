/*
 * The gradients of attention, from those of its result, d. With P the softmax of a head's scores S = q' K^T over what
 * each query sees (q' the scaled queries), and O = P V:
 *
 *     dP = d V^T      dS = P * (dP - the sum of P * dP over a row)      (times the slope of softcap)
 *     dV += P^T d     dK += dS^T q'     dq = scale * dS K
 *
 * P is not kept from the forward pass but computed again, a tile of queries at a time against all that they see, as
 * FlashAttention does (Dao et al. 2022). The keys and values are those of the step, read from the cache.
 *
 * A unit is one head of the cache and one sequence: what adds up in dK and dV stays on one thread, in order.
 */
#include "base/arith.h"
#include "cpu/exec.h"

#include <math.h>
#include <string.h>

/* Neighbouring tiles that are one sequence: rows `first` ... of the step, from `position` on. */
typedef struct sequence {
    int32_t first, n, slot, position;
} sequence;

/* Gets the sequence that starts at tile *tile, and moves on to the next. False when there is none left. */
static bool next_sequence(const nano_step *step, int32_t *tile, sequence *s) {
    if (*tile >= step->n_tiles) {
        return false;
    }
    const nano_tile *t = &step->tiles[*tile];
    *s = (sequence){t->first, 0, t->slot, t->position};
    while (*tile < step->n_tiles && t->slot == s->slot && t->position == s->position + s->n) {
        s->n += t->count;
        t++;
        ++*tile;
    }
    return true;
}

int64_t nano_units_attention_grad(const nano_step *step, const nano_node *node) {
    sequence s;
    int64_t n = 0;
    for (int32_t tile = 0; next_sequence(step, &tile, &s);) {
        n++;
    }
    return n * node->src[1].ne[1];
}

enum { QUERIES = 32 };

/* One head of the cache and one sequence, of which query head `head` at a time. Columns are positions from the
 * sequence's first on. */
typedef struct job {
    const nano_kernels *kernels;
    const nano_operand *k, *v;
    const uint8_t *k_head, *v_head;
    sequence s;
    int64_t k_dim, v_dim;
    int64_t stride; /* of scores and their gradients: room for all positions */
    int64_t window;
    float scale, softcap;
    const float *q, *d; /* (n, ..) of the query head */
    int64_t q_stride, d_stride;
    float *dq, *dk, *dv;  /* (n, ..) */
    int64_t out_stride;   /* of all three */
    float *keys;          /* (n, k_dim) */
    float *values;        /* blocks of NANO_KV_BLOCK positions, each (v_dim, NANO_KV_BLOCK) */
    float *scaled;        /* (QUERIES, k_dim) */
    float *turned;        /* (NANO_KV_BLOCK, QUERIES) */
    float *scores, *back; /* (QUERIES, stride): P and dS */
    float *slope;         /* (QUERIES, stride), with softcap */
} job;

static int64_t score_stride(int64_t n) { return (n + NANO_KV_BLOCK - 1) / NANO_KV_BLOCK * NANO_KV_BLOCK; }

uint64_t nano_attention_grad_scratch(const nano_node *node, int64_t n) {
    const uint64_t stride = (uint64_t)score_stride(n + NANO_KV_BLOCK), k_dim = (uint64_t)node->src[1].ne[0];
    const uint64_t v_dim = (uint64_t)node->src[2].ne[0], n_tables = node->params.floats[1] > 0.0 ? 3 : 2;
    return (stride * (k_dim + v_dim + n_tables * QUERIES) + QUERIES * (k_dim + NANO_KV_BLOCK)) * sizeof(float);
}

/* A run of positions within one block of the cache, as columns. */
typedef struct span {
    int64_t from, to;
    int64_t position; /* of `from` */
} span;

/* The span that starts at column `from`, up to column `end`. */
static span span_at(const job *j, int64_t from, int64_t end) {
    const int64_t position = j->s.position + from;
    return (span){from, nano_min_i64(end, from + NANO_KV_BLOCK - position % NANO_KV_BLOCK), position};
}

/* Where the transposed values of a span are. */
static float *span_values(const job *j, const span *s) {
    const int64_t first = j->s.position / NANO_KV_BLOCK;
    return j->values + (s->position / NANO_KV_BLOCK - first) * NANO_KV_BLOCK * j->v_dim + s->position % NANO_KV_BLOCK;
}

/* Keys in rows, values in columns: the other way round than the cache has them. */
static void turn_cache(const job *j) {
    for (int64_t c = 0; c < j->s.n;) {
        const span s = span_at(j, c, j->s.n);
        const float *keys = (const float *)(const void *)(j->k_head + nano_cache_at(j->k, s.position));
        const float *values = (const float *)(const void *)(j->v_head + nano_cache_at(j->v, s.position));
        j->kernels->transpose_f32(keys, NANO_KV_BLOCK, j->k_dim, s.to - s.from, j->keys + c * j->k_dim, j->k_dim);
        j->kernels->transpose_f32(values, (int64_t)(j->v->row_bytes / sizeof(float)), s.to - s.from, j->v_dim,
                                  span_values(j, &s), NANO_KV_BLOCK);
        c = s.to;
    }
}

static void zero_rows(float *rows, int64_t stride, int64_t n_rows, int64_t n) {
    for (int64_t i = 0; i < n_rows; i++) {
        memset(rows + i * stride, 0, (size_t)n * sizeof *rows);
    }
}

/* The first column that query i sees. */
static int64_t first_seen(const job *j, int64_t i) { return j->window > 0 ? nano_max_i64(0, i + 1 - j->window) : 0; }

/* S and dP of queries first ... first + n - 1, columns from ... to - 1. */
static void multiply(const job *j, int64_t first, int64_t n, int64_t from, int64_t to) {
    zero_rows(j->scores + from, j->stride, n, to - from);
    zero_rows(j->back + from, j->stride, n, to - from);
    for (int64_t c = from; c < to;) {
        const span s = span_at(j, c, to);
        const nano_weigh_args score = {.n = s.to - s.from,
                                       .v = j->k_head + nano_cache_at(j->k, s.position),
                                       .v_stride = NANO_KV_BLOCK * sizeof(float),
                                       .n_rows = j->k_dim,
                                       .p = j->scaled,
                                       .p_stride = j->k_dim,
                                       .n_cols = n,
                                       .out = j->scores + c,
                                       .out_stride = j->stride};
        const nano_weigh_args back = {.n = s.to - s.from,
                                      .v = span_values(j, &s),
                                      .v_stride = NANO_KV_BLOCK * sizeof(float),
                                      .n_rows = j->v_dim,
                                      .p = j->d + first * j->d_stride,
                                      .p_stride = j->d_stride,
                                      .n_cols = n,
                                      .out = j->back + c,
                                      .out_stride = j->stride};
        j->kernels->weigh_f32(&score);
        j->kernels->weigh_f32(&back);
        c = s.to;
    }
}

/* Scores become capped ones, and `slope` the derivative: 1 - tanh^2. */
static void cap(const job *j, float *scores, float *slope, int64_t n) {
    for (int64_t c = 0; c < n; c++) {
        const float t = tanhf(scores[c] / j->softcap);
        scores[c] = j->softcap * t;
        slope[c] = 1.0f - t * t;
    }
}

/* P and dS of query i from S and dP; 0 where it does not see. */
static void soften(const job *j, int64_t row, int64_t i, int64_t from, int64_t to) {
    float *p = j->scores + row * j->stride, *d = j->back + row * j->stride;
    const int64_t first = first_seen(j, i), n = i + 1 - first;
    if (j->softcap > 0.0f) {
        cap(j, p + first, j->slope + row * j->stride + first, n);
    }
    const float sum = j->kernels->exp_sum(p + first, j->kernels->max(p + first, n), n);
    j->kernels->scale(p + first, 1.0f / sum, p + first, n);
    j->kernels->softmax_grad(p + first, d + first, n);
    if (j->softcap > 0.0f) {
        j->kernels->mul(d + first, j->slope + row * j->stride + first, d + first, n);
    }
    memset(p + from, 0, (size_t)(first - from) * sizeof *p);
    memset(d + from, 0, (size_t)(first - from) * sizeof *d);
    memset(p + i + 1, 0, (size_t)(to - i - 1) * sizeof *p);
    memset(d + i + 1, 0, (size_t)(to - i - 1) * sizeof *d);
}

/* out (columns of s, n_out) += weights^T rows, over n queries. */
static void add_turned(const job *j, const span *s, const float *weights, int64_t n, const float *rows,
                       int64_t row_stride, float *out, int64_t n_out) {
    j->kernels->transpose_f32(weights + s->from, j->stride, n, s->to - s->from, j->turned, QUERIES);
    const nano_weigh_args add = {.n = n_out,
                                 .v = rows,
                                 .v_stride = (size_t)row_stride * sizeof(float),
                                 .n_rows = n,
                                 .p = j->turned,
                                 .p_stride = QUERIES,
                                 .n_cols = s->to - s->from,
                                 .out = out + s->from * j->out_stride,
                                 .out_stride = j->out_stride};
    j->kernels->weigh_f32(&add);
}

/* Queries first ... first + n - 1 of one head. */
static void run_queries(const job *j, int64_t first, int64_t n) {
    const int64_t from = first_seen(j, first), to = first + n;
    for (int64_t r = 0; r < n; r++) {
        j->kernels->scale(j->q + (first + r) * j->q_stride, j->scale, j->scaled + r * j->k_dim, j->k_dim);
    }
    multiply(j, first, n, from, to);
    for (int64_t r = 0; r < n; r++) {
        soften(j, r, first + r, from, to);
    }
    for (int64_t c = from; c < to;) {
        const span s = span_at(j, c, to);
        add_turned(j, &s, j->scores, n, j->d + first * j->d_stride, j->d_stride, j->dv, j->v_dim);
        add_turned(j, &s, j->back, n, j->scaled, j->k_dim, j->dk, j->k_dim);
        c = s.to;
    }
    float *dq = j->dq + first * j->out_stride;
    zero_rows(dq, j->out_stride, n, j->k_dim);
    const nano_weigh_args add = {.n = j->k_dim,
                                 .v = j->keys + from * j->k_dim,
                                 .v_stride = (size_t)j->k_dim * sizeof(float),
                                 .n_rows = to - from,
                                 .p = j->back + from,
                                 .p_stride = j->stride,
                                 .n_cols = n,
                                 .out = dq,
                                 .out_stride = j->out_stride};
    j->kernels->weigh_f32(&add);
    for (int64_t r = 0; r < n; r++) {
        j->kernels->scale(dq + r * j->out_stride, j->scale, dq + r * j->out_stride, j->k_dim);
    }
}

static void run_unit(const nano_step *step, const nano_node *node, int64_t kv_head, job *j) {
    const nano_operand *q = &node->src[0], *d = &node->src[3];
    const int64_t n_head = q->ne[1], n_head_kv = j->k->ne[1], group = n_head / n_head_kv;
    j->k_head = j->k->data + (size_t)j->s.slot * nano_cache_slot_bytes(j->k, step->n_ctx) +
                (size_t)kv_head * nano_cache_head_bytes(j->k, step->n_ctx);
    j->v_head = j->v->data + (size_t)j->s.slot * nano_cache_slot_bytes(j->v, step->n_ctx) +
                (size_t)kv_head * nano_cache_head_bytes(j->v, step->n_ctx);
    float *out = nano_out_row(node, j->s.first);
    j->dk = out + n_head * j->k_dim + kv_head * j->k_dim;
    j->dv = out + (n_head + n_head_kv) * j->k_dim + kv_head * j->v_dim;
    zero_rows(j->dk, j->out_stride, j->s.n, j->k_dim);
    zero_rows(j->dv, j->out_stride, j->s.n, j->v_dim);
    turn_cache(j);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        j->q = nano_row(q, j->s.first) + head * j->k_dim;
        j->d = nano_row(d, j->s.first) + head * j->v_dim;
        j->dq = out + head * j->k_dim;
        for (int64_t i = 0; i < j->s.n; i += QUERIES) {
            run_queries(j, i, nano_min_i64(QUERIES, j->s.n - i));
        }
    }
}

void nano_forward_attention_grad(const nano_step *step, const nano_node *node, int64_t first, int64_t last,
                                 int thread) {
    const nano_operand *k = &node->src[1], *v = &node->src[2];
    const float scale = (float)node->params.floats[0];
    job j = {.kernels = step->kernels,
             .k = k,
             .v = v,
             .k_dim = k->ne[0],
             .v_dim = v->ne[0],
             .window = node->params.ints[0],
             .scale = node->params.floats[0] == 0.0 ? 1.0f / sqrtf((float)k->ne[0]) : scale,
             .softcap = (float)node->params.floats[1],
             .q_stride = (int64_t)(node->src[0].row_bytes / sizeof(float)),
             .d_stride = (int64_t)(node->src[3].row_bytes / sizeof(float)),
             .out_stride = (int64_t)(node->out.row_bytes / sizeof(float))};
    int64_t unit = 0;
    for (int32_t tile = 0; unit < last && next_sequence(step, &tile, &j.s); unit += k->ne[1]) {
        /* Every sequence has its own division of the working space. */
        j.stride = score_stride(j.s.n);
        j.turned = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
        j.scaled = j.turned + NANO_KV_BLOCK * QUERIES;
        j.scores = j.scaled + QUERIES * j.k_dim;
        j.back = j.scores + QUERIES * j.stride;
        j.keys = j.back + QUERIES * j.stride;
        j.values = j.keys + j.s.n * j.k_dim;
        j.slope = j.values + score_stride(j.s.n + NANO_KV_BLOCK) * j.v_dim;
        for (int64_t u = nano_max_i64(first, unit); u < nano_min_i64(last, unit + k->ne[1]); u++) {
            run_unit(step, node, u - unit, &j);
        }
    }
}
