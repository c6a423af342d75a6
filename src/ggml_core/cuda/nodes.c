#include "cuda/nodes.h"

#include "base/arith.h"

#include <math.h>
#include <string.h>

/* Steps of so many columns and fewer read weights once for four columns; longer ones work on tiles. */
enum { VEC_MAX = 8 };

/* A token's keys are split where fewer blocks than so many would run. */
enum { BLOCKS_WANTED = 32 };

static int64_t rows_of(const nano_cuda_step *s, const nano_operand *o) {
    return o->rows == NANO_DIM_T ? s->n_tokens : o->rows == NANO_DIM_W ? s->n_wanted : o->rows;
}

static const float *floats(const nano_operand *o) { return (const float *)(const void *)o->data; }
static float *out_floats(const nano_node *node) { return (float *)(void *)node->out_data; }
static int64_t stride(const nano_operand *o) { return (int64_t)(o->row_bytes / sizeof(float)); }
static int64_t pieces(int64_t n, int64_t each) { return (n + each - 1) / each; }
static bool is_there(const nano_operand *o) { return o->region != NANO_REGION_NONE; }

/* ------------------------------------------------------- what can be run */

static int32_t group_of(const nano_node *attention) {
    return (int32_t)(attention->src[0].ne[1] / attention->src[1].ne[1]);
}

static const char *refuse_cache(const nano_operand *cache) {
    if (cache->type != NANO_TYPE_F32 && cache->type != NANO_TYPE_F16 && cache->type != NANO_TYPE_Q8_0) {
        return "a cache type other than F32, F16 and Q8_0";
    }
    return cache->ne[0] > NANO_CUDA_HEAD_MAX || cache->ne[0] % 4 != 0
               ? "heads that are longer than 256 elements or no multiple of 4"
               : NULL;
}

const char *nano_backend_refusal(const nano_node *node) {
    switch (node->op) {
        case NANO_OP_UPLOAD:
        case NANO_OP_LINEAR:
        case NANO_OP_GATED:
        case NANO_OP_QUANTIZE:
        case NANO_OP_NORM:
        case NANO_OP_RMS_NORM:
        case NANO_OP_ROPE:
        case NANO_OP_GELU:
        case NANO_OP_SILU:
        case NANO_OP_SWIGLU:
        case NANO_OP_ADD:
        case NANO_OP_MUL:
        case NANO_OP_SCALE: return NULL;
        case NANO_OP_ROWS: return node->src[0].region == NANO_REGION_FILE ? "rows of a weight" : NULL;
        case NANO_OP_KV_WRITE: return refuse_cache(&node->out);
        case NANO_OP_ATTENTION: {
            const char *why = refuse_cache(&node->src[1]);
            why = why != NULL ? why : refuse_cache(&node->src[2]);
            return why == NULL && group_of(node) > NANO_CUDA_QUERIES ? "more than 16 heads of queries a head of keys"
                                                                     : why;
        }
        case NANO_OP_IMPORTANCE: return "sums of importance";
        default: return "an op of training";
    }
}

/* -------------------------------------------------------------- attention */

int32_t nano_cuda_tile_tokens(const nano_node *attention) { return NANO_CUDA_QUERIES / group_of(attention); }

/* Parts of the keys in a step of so many tiles: the same for every step of one token, so that it can be recorded. */
static int32_t n_split(const nano_node *node, int32_t n_ctx, int64_t n_tiles) {
    const int64_t blocks = nano_max_i64(n_tiles * node->src[1].ne[1], 1), most = pieces(n_ctx, NANO_CUDA_KEYS);
    return (int32_t)nano_max_i64(nano_min_i64(nano_min_i64(BLOCKS_WANTED / blocks, most), NANO_CUDA_SPLIT_MAX), 1);
}

uint64_t nano_backend_part_bytes(const nano_node *node, int32_t n_ctx, int64_t rows) {
    if (node->op != NANO_OP_ATTENTION) {
        return 0;
    }
    /* The more tiles the fewer parts: one of the two ends of each number of parts takes the most. */
    const int64_t each = nano_cuda_tile_tokens(node);
    uint64_t most = 0;
    for (int64_t n_tiles = 1; n_tiles <= nano_min_i64(pieces(rows, each), BLOCKS_WANTED); n_tiles++) {
        const int64_t split = n_split(node, n_ctx, n_tiles), tokens = nano_min_i64(n_tiles * each, rows);
        const uint64_t row = (uint64_t)(node->src[2].ne[0] + 2) * sizeof(float);
        most = split > 1 ? nano_max_u64(most, (uint64_t)(tokens * node->src[0].ne[1] * split) * row) : most;
    }
    return most;
}

static nano_cuda_cache cache_of(const nano_operand *o, uint8_t *data, int32_t n_ctx) {
    return (nano_cuda_cache){data, (int64_t)nano_cache_slot_bytes(o, n_ctx), (int64_t)nano_cache_head_bytes(o, n_ctx),
                             (int64_t)o->row_bytes, o->type};
}

/* Attention reads caches through sources, whose data are const for the CPU's sake. */
static uint8_t *address(const nano_operand *o) { return (uint8_t *)(uintptr_t)o->data; }

static nano_status run_attention(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                                 nano_error *err) {
    const nano_operand *q = &node->src[0], *k = &node->src[1], *v = &node->src[2];
    const double scale = node->params.floats[0];
    nano_cuda_attention p = {.q = floats(q),
                             .k = cache_of(k, address(k), s->n_ctx),
                             .v = cache_of(v, address(v), s->n_ctx),
                             .tiles = s->tiles,
                             .y = out_floats(node),
                             .part = s->part,
                             .q_stride = stride(q),
                             .y_stride = stride(&node->out),
                             .k_dim = (int32_t)k->ne[0],
                             .v_dim = (int32_t)v->ne[0],
                             .n_head = (int32_t)q->ne[1],
                             .n_group = group_of(node),
                             .n_split = n_split(node, s->n_ctx, s->n_tiles),
                             .window = (int32_t)node->params.ints[0],
                             .scale = (float)(scale == 0.0 ? 1.0 / sqrt((double)k->ne[0]) : scale),
                             .softcap = (float)node->params.floats[1]};
    NANO_TRY(nano_cuda_launch(d, NANO_CUDA_K_ATTENTION, s->n_tiles, k->ne[1], p.n_split, &p, err));
    if (p.n_split == 1) {
        return NANO_OK;
    }
    nano_cuda_attention_join join = {p.part, p.y, p.y_stride, p.v_dim, p.n_head, p.n_split};
    return nano_cuda_launch(d, NANO_CUDA_K_ATTENTION_JOIN, p.n_head, s->n_tokens, 1, &join, err);
}

static nano_status run_kv_write(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                                nano_error *err) {
    const nano_operand *x = &node->src[0];
    nano_cuda_kv_write p = {floats(x), cache_of(&node->out, node->out_data, s->n_ctx),
                            s->slots,  s->positions,
                            stride(x), (int32_t)x->ne[0]};
    return nano_cuda_launch(d, NANO_CUDA_K_KV_WRITE, x->ne[1], s->n_tokens, 1, &p, err);
}

/* ----------------------------------------------------------------- linears */

static nano_status launch_linear(const nano_cuda_device *d, nano_type type, bool is_tile, nano_cuda_linear *p,
                                 nano_error *err) {
    const int64_t r = is_tile ? NANO_CUDA_TILE : NANO_CUDA_VEC_ROWS,
                  c = is_tile ? NANO_CUDA_TILE : NANO_CUDA_VEC_COLUMNS;
    return nano_cuda_launch(d, nano_cuda_linear_kernel(type, is_tile), pieces(p->n_rows, r), pieces(p->n_columns, c), 1,
                            p, err);
}

static nano_cuda_linear linear_of(const nano_node *node, const nano_operand *w, int64_t n_columns) {
    const nano_operand *x = &node->src[0];
    return (nano_cuda_linear){.w = w->data,
                              .x = x->data,
                              .y = out_floats(node),
                              .w_bytes = (int64_t)w->row_bytes,
                              .x_bytes = (int64_t)x->row_bytes,
                              .y_stride = stride(&node->out),
                              .n = (int32_t)w->ne[0],
                              .n_rows = (int32_t)w->rows,
                              .n_columns = (int32_t)n_columns};
}

static nano_status run_linear(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                              nano_error *err) {
    const int64_t n_columns = rows_of(s, &node->out);
    nano_cuda_linear p = linear_of(node, &node->src[1], n_columns);
    p.bias = floats(&node->src[2]);
    p.activation = (int32_t)node->params.ints[0];
    if (is_there(&node->src[3])) {
        p.residual = floats(&node->src[3]);
        p.residual_stride = stride(&node->src[3]);
    }
    return launch_linear(d, node->src[1].type, n_columns > VEC_MAX, &p, err);
}

static nano_status run_gated(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                             nano_error *err) {
    const int64_t n_columns = rows_of(s, &node->out);
    const nano_operand *gate = &node->src[1], *up = &node->src[2];
    nano_cuda_linear p = linear_of(node, gate, n_columns);
    if (n_columns <= VEC_MAX && gate->type == up->type) {
        p.w2 = up->data;
        return launch_linear(d, gate->type, false, &p, err);
    }
    /* silu of the gate, then the other linear times that. */
    p.activation = NANO_ACT_SILU;
    NANO_TRY(launch_linear(d, gate->type, true, &p, err));
    nano_cuda_linear times = linear_of(node, up, n_columns);
    times.activation = NANO_CUDA_TIMES;
    return launch_linear(d, up->type, true, &times, err);
}

/* ------------------------------------------------------------------ others */

static int32_t norm_kind(nano_op op) {
    return op == NANO_OP_NORM       ? NANO_CUDA_NORM_LAYER
           : op == NANO_OP_RMS_NORM ? NANO_CUDA_NORM_RMS
                                    : NANO_CUDA_NORM_NONE;
}

static nano_status run_quantize(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                                nano_error *err) {
    const nano_operand *x = &node->src[0];
    nano_cuda_quantize p = {.x = floats(x),
                            .y = node->out_data,
                            .x_stride = stride(x),
                            .y_bytes = (int64_t)node->out.row_bytes,
                            .n = (int32_t)(node->out.ne[0] * node->out.ne[1]),
                            .kind = norm_kind(node->norm)};
    if (p.kind != NANO_CUDA_NORM_NONE) {
        p.w = floats(&node->src[1]);
        p.b = floats(&node->src[2]);
        p.eps = (float)node->params.floats[0];
    }
    return nano_cuda_launch(d, NANO_CUDA_K_QUANTIZE, rows_of(s, &node->out), 1, 1, &p, err);
}

static nano_status run_norm(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                            nano_error *err) {
    nano_cuda_norm p = {.x = floats(&node->src[0]),
                        .w = floats(&node->src[1]),
                        .b = floats(&node->src[2]),
                        .y = out_floats(node),
                        .x_stride = stride(&node->src[0]),
                        .y_stride = stride(&node->out),
                        .n = (int32_t)node->out.ne[0],
                        .kind = norm_kind(node->op),
                        .eps = (float)node->params.floats[0]};
    return nano_cuda_launch(d, NANO_CUDA_K_NORM, node->out.ne[1], rows_of(s, &node->out), 1, &p, err);
}

static nano_status run_map(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s, int32_t kind,
                           nano_error *err) {
    const nano_operand *a = &node->src[0], *b = &node->src[1];
    nano_cuda_map p = {.a = floats(a),
                       .b = floats(b),
                       .y = out_floats(node),
                       .a_stride = stride(a),
                       .b_stride = stride(b),
                       .y_stride = stride(&node->out),
                       .n = (int32_t)(node->out.ne[0] * node->out.ne[1]),
                       .kind = kind,
                       .b_period = nano_region_is_weight(b->region) ? (int32_t)b->ne[0] : 0,
                       .factor = (float)node->params.floats[0]};
    return nano_cuda_launch(d, NANO_CUDA_K_MAP, pieces(p.n, NANO_CUDA_THREADS), rows_of(s, &node->out), 1, &p, err);
}

static nano_status run_rows(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                            nano_error *err) {
    const nano_operand *x = &node->src[0];
    nano_cuda_rows p = {.x = floats(x),
                        .index = s->wanted,
                        .y = out_floats(node),
                        .x_stride = stride(x),
                        .y_stride = stride(&node->out),
                        .n = (int32_t)node->out.ne[0]};
    return nano_cuda_launch(d, NANO_CUDA_K_ROWS, pieces(p.n, NANO_CUDA_THREADS), rows_of(s, &node->out), 1, &p, err);
}

static nano_status run_rope(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *s,
                            nano_error *err) {
    const nano_operand *x = &node->src[0], *table = &node->src[1];
    nano_cuda_rope p = {.x = floats(x),
                        .table = floats(table),
                        .y = out_floats(node),
                        .x_stride = stride(x),
                        .y_stride = stride(&node->out),
                        .table_stride = stride(table),
                        .n = (int32_t)x->ne[0],
                        .n_rot = (int32_t)table->ne[0],
                        .order = (int32_t)node->params.ints[0]};
    return nano_cuda_launch(d, NANO_CUDA_K_ROPE, x->ne[1], rows_of(s, &node->out), 1, &p, err);
}

nano_status nano_cuda_run(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *step,
                          nano_error *err) {
    switch (node->op) {
        case NANO_OP_LINEAR: return run_linear(d, node, step, err);
        case NANO_OP_GATED: return run_gated(d, node, step, err);
        case NANO_OP_QUANTIZE: return run_quantize(d, node, step, err);
        case NANO_OP_NORM:
        case NANO_OP_RMS_NORM: return run_norm(d, node, step, err);
        case NANO_OP_ROWS: return run_rows(d, node, step, err);
        case NANO_OP_ROPE: return run_rope(d, node, step, err);
        case NANO_OP_KV_WRITE: return run_kv_write(d, node, step, err);
        case NANO_OP_ATTENTION: return run_attention(d, node, step, err);
        case NANO_OP_GELU: return run_map(d, node, step, NANO_CUDA_GELU, err);
        case NANO_OP_SILU: return run_map(d, node, step, NANO_CUDA_SILU, err);
        case NANO_OP_SWIGLU: return run_map(d, node, step, NANO_CUDA_SWIGLU, err);
        case NANO_OP_ADD: return run_map(d, node, step, NANO_CUDA_ADD, err);
        case NANO_OP_MUL: return run_map(d, node, step, NANO_CUDA_MUL, err);
        case NANO_OP_SCALE: return run_map(d, node, step, NANO_CUDA_SCALE, err);
        default: return nano_fail(err, NANO_ERR_INTERNAL, "cuda: a node of op %d is on the device", (int)node->op);
    }
}
