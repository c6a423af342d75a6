#include "base/arith.h"
#include "base/threads.h"
#include "cpu/exec.h"
#include "graph/planner.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>

nano_status nano_plan_too_large(nano_error *err) {
    return nano_fail(err, NANO_ERR_MEMORY, "plan: the limits ask for more memory than can be counted");
}

/* -------------------------------------------------------------- parameters */

bool nano_param_next(const nano_graph *graph, nano_param_place *at) {
    const int64_t line = NANO_CACHE_LINE / (int64_t)sizeof(float);
    for (int32_t i = at->tensor + 1; i < graph->n_tensors; i++) {
        if (graph->tensors[i].is_param) {
            /* 2^14 tensors of 2^40 elements at most: nothing overflows. */
            at->tensor = i;
            at->n = nano_tensor_row_size(&graph->tensors[i]);
            at->offset = at->end;
            at->end += (at->n + line - 1) / line * line;
            return true;
        }
    }
    return false;
}

/* Takes the weights that become parameters out of the file: f32, one after the other. Gradients lie likewise. */
static nano_status describe_params(nano_planner *p) {
    nano_param_place at = NANO_PARAM_START;
    p->plan->memory.weights = p->model->weight_bytes;
    while (nano_param_next(p->graph, &at)) {
        const nano_gguf_tensor *have = p->model->weights[at.tensor];
        nano_value *v = &p->values[at.tensor];
        if (have->type != NANO_TYPE_F32 && have->type != NANO_TYPE_F16 && have->type != NANO_TYPE_BF16) {
            return nano_fail(
                p->err, NANO_ERR_UNSUPPORTED, "%s: tensor %s has type %s, only F32, F16 and BF16 can be trained",
                nano_gguf_path(nano_model_file_of(p->model, at.tensor)), have->name, nano_type_name(have->type));
        }
        v->type = NANO_TYPE_F32;
        v->row_bytes = (uint64_t)p->graph->tensors[at.tensor].ne[0] * sizeof(float);
        v->offset = (uint64_t)at.offset * sizeof(float);
        p->plan->memory.weights -= have->n_bytes;
    }
    for (int32_t i = 0; i < p->graph->n_tensors; i++) {
        if (p->graph->tensors[i].storage == NANO_STORE_GRAD) {
            p->values[i] = p->values[p->graph->tensors[i].index];
        }
    }
    p->plan->layout.parameter_bytes = (uint64_t)at.end * sizeof(float);
    return NANO_OK;
}

/* ---------------------------------------------------------------- lowering */

static bool is_transposed(const nano_tensor *cache, const nano_value *memory) {
    return nano_cache_is_keys(cache) && nano_type_block_size(memory->type) == 1 && !memory->on_device;
}

/* Cache values carry the bytes of one position of one head as row_bytes. */
static nano_status describe_tensor(nano_planner *p, int32_t i) {
    const nano_tensor *t = &p->graph->tensors[i];
    nano_value *v = &p->values[i];
    v->source = -1;
    v->type = t->type;
    v->rows = nano_tensor_rows_dim(t);
    v->first = v->last = -1;
    if (t->storage == NANO_STORE_WEIGHT) {
        v->type = p->model->weights[i]->type;
        v->rows = t->n_dims == 1 ? 1 : t->ne[1];
        v->row_bytes = nano_type_row_bytes(v->type, t->ne[0]);
    } else if (t->storage == NANO_STORE_CACHE) {
        v->type = nano_cache_is_keys(t) ? p->plan->limits.type_k : p->plan->limits.type_v;
        v->rows = p->plan->limits.n_ctx;
        v->row_bytes = nano_type_row_bytes(v->type, nano_cache_row_size(v->type, t->ne[0]));
    } else if (t->storage != NANO_STORE_ALIAS && t->storage != NANO_STORE_GRAD) {
        v->rows = v->rows == 0 ? 1 : v->rows;
        v->row_bytes = (uint64_t)nano_tensor_row_size(t) * 4; /* f32 and i32 */
    }
    return NANO_OK;
}

/* Places every cache in the memory of those who write it. */
static nano_status place_caches(nano_planner *p) {
    for (int32_t i = 0; i < p->graph->n_tensors; i++) {
        const nano_tensor *t = &p->graph->tensors[i];
        nano_value *v = &p->values[i];
        if (t->storage != NANO_STORE_CACHE) {
            continue;
        }
        uint64_t bytes = v->row_bytes, *total = &p->cache_bytes[v->on_device];
        const uint64_t positions = (uint64_t)nano_cache_positions(is_transposed(t, v), v->rows);
        v->offset = *total;
        if (bytes == 0 || !nano_mul_u64(bytes, (uint64_t)t->ne[1], &bytes) || !nano_mul_u64(bytes, positions, &bytes) ||
            !nano_mul_u64(bytes, (uint64_t)p->plan->limits.n_slots, &bytes) ||
            !nano_align_u64(bytes, NANO_CACHE_LINE, &bytes) || !nano_add_u64(*total, bytes, total)) {
            return nano_plan_too_large(p->err);
        }
    }
    return NANO_OK;
}

/* The activation `x` in `format`: made by a QUANTIZE node unless one of the last few did the same. */
static int32_t quantised(nano_planner *p, int32_t x, nano_type format) {
    for (int32_t v = p->n_values - 1; v >= p->graph->n_tensors && v >= p->n_values - 8; v--) {
        if (p->values[v].source == x && p->values[v].type == format) {
            return v;
        }
    }
    int64_t n = nano_tensor_row_size(&p->graph->tensors[x]);
    const nano_type_traits *traits = nano_type_find(format);
    nano_value *v = &p->values[p->n_values];
    v->source = x;
    v->region = NANO_REGION_ARENA;
    v->type = format;
    v->rows = nano_tensor_rows_dim(&p->graph->tensors[x]);
    /* Rows start on cache lines, so that kernels may load them in whole vectors. */
    (void)nano_align_u64((uint64_t)(n / traits->block_size) * traits->block_bytes, NANO_CACHE_LINE, &v->row_bytes);
    if (p->plan->wide) { /* a long step writes groups of columns instead */
        v->row_bytes = nano_max_u64(v->row_bytes, nano_wide_group_bytes(n) / NANO_WIDE_GROUP);
    }
    v->first = v->last = -1;
    nano_lowered *node = &p->nodes[p->n_nodes++];
    *node = (nano_lowered){.op = NANO_OP_QUANTIZE, .tensor = -1, .out = p->n_values, .src = {x, -1, -1, -1}};
    return p->n_values++;
}

/* Adds up the squares of `x` for `weight`, in the same sums for every linear that reads it. */
static void sum_importance(nano_planner *p, int32_t x, int32_t weight) {
    int32_t sums = p->graph->n_tensors;
    while (sums < p->n_values &&
           (p->values[sums].source != weight || p->values[sums].region != NANO_REGION_IMPORTANCE)) {
        sums++;
    }
    if (sums == p->n_values) {
        nano_value *v = &p->values[p->n_values++];
        v->source = weight;
        v->region = NANO_REGION_IMPORTANCE;
        v->type = NANO_TYPE_F64;
        v->rows = 1;
        v->row_bytes = (uint64_t)(1 + p->graph->tensors[weight].ne[0]) * sizeof(double);
        v->offset = p->importance_bytes;
        v->first = v->last = -1;
        p->importance_bytes += v->row_bytes;
    }
    nano_lowered *node = &p->nodes[p->n_nodes++];
    *node = (nano_lowered){.op = NANO_OP_IMPORTANCE, .tensor = -1, .out = sums, .src = {x, weight, -1, -1}};
}

/* f64, one a row of the op's first source: what `node`, a sum, then adds up. Rows take as many threads as there are. */
static int32_t row_parts(nano_planner *p, const nano_lowered *node) {
    const int32_t x = node->src[0];
    nano_value *v = &p->values[p->n_values];
    v->source = x;
    v->region = NANO_REGION_ARENA;
    v->type = NANO_TYPE_F64;
    v->rows = nano_tensor_rows_dim(&p->graph->tensors[x]);
    v->row_bytes = sizeof(double);
    v->first = v->last = -1;
    nano_lowered *parts = &p->nodes[p->n_nodes++];
    *parts = *node;
    parts->op = node->op == NANO_OP_SUM ? NANO_OP_ROW_SUMS : NANO_OP_ROW_LOSSES;
    parts->out = p->n_values;
    return p->n_values++;
}

static void lower(nano_planner *p) {
    for (int32_t i = 0; i < p->graph->n_tensors; i++) {
        const nano_tensor *t = &p->graph->tensors[i];
        if (t->op == NANO_OP_NONE || t->op == NANO_OP_VIEW) {
            continue;
        }
        nano_lowered node = {.op = t->op, .tensor = i, .out = i};
        memcpy(node.src, t->src, sizeof node.src);
        if (t->op == NANO_OP_LINEAR && p->plan->limits.importance) {
            sum_importance(p, t->src[0], t->src[1]);
        }
        if (t->op == NANO_OP_LINEAR) {
            nano_type format = nano_type_find(p->values[t->src[1]].type)->activation;
            if (format != NANO_TYPE_F32) {
                node.src[0] = quantised(p, t->src[0], format);
            }
        }
        if (t->op == NANO_OP_CROSS_ENTROPY || t->op == NANO_OP_SUM) {
            node.src[0] = row_parts(p, &node);
            node.src[1] = node.src[2] = -1;
        }
        p->nodes[p->n_nodes++] = node;
    }
}

/* ----------------------------------------------------------------- fusion */

/* A value that only one node reads is that node's own affair: it may be made and used up in one. How often each is read,
 * and by which node it is written. */
typedef struct uses {
    int32_t *n_reads;
    int32_t *writer;
} uses;

static void count_uses(const nano_planner *p, uses *u) {
    for (int32_t v = 0; v < p->n_values; v++) {
        u->n_reads[v] = 0;
        u->writer[v] = -1;
    }
    for (int32_t i = 0; i < p->n_nodes; i++) {
        u->writer[p->nodes[i].out] = i;
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            if (p->nodes[i].src[k] >= 0) {
                u->n_reads[nano_value_root(p, p->nodes[i].src[k])]++;
            }
        }
    }
}

/* The node of op `op` that makes v for one reader alone; NULL when there is none such. */
static nano_lowered *private_maker(const nano_planner *p, const uses *u, int32_t v, nano_op op) {
    if (v < 0 || v >= p->graph->n_tensors || v == p->graph->output || u->n_reads[v] != 1 || u->writer[v] < 0 ||
        p->graph->tensors[v].n_dims != 2 || p->nodes[u->writer[v]].op != op) {
        return NULL;
    }
    return &p->nodes[u->writer[v]];
}

/* a + linear: the linear adds a to what it made. */
static bool fuse_add(nano_planner *p, const uses *u, nano_lowered *node) {
    for (int k = 0; k < 2; k++) {
        nano_lowered *linear = private_maker(p, u, node->src[k], NANO_OP_LINEAR);
        const int32_t other = node->src[1 - k];
        if (linear != NULL && linear->src[3] < 0 && p->graph->tensors[other].storage != NANO_STORE_WEIGHT) {
            const int32_t out = node->out;
            *node = *linear;
            node->out = out;
            node->src[3] = other;
            linear->op = NANO_OP_NONE;
            return true;
        }
    }
    return false;
}

static bool is_plain_linear(const nano_planner *p, const nano_lowered *linear) {
    return linear != NULL && linear->src[2] < 0 && linear->src[3] < 0 &&
           p->graph->tensors[linear->tensor].params.ints[0] == NANO_ACT_NONE;
}

static bool fuse_swiglu(nano_planner *p, const uses *u, nano_lowered *node) {
    nano_lowered *gate = private_maker(p, u, node->src[0], NANO_OP_LINEAR);
    nano_lowered *up = private_maker(p, u, node->src[1], NANO_OP_LINEAR);
    if (!is_plain_linear(p, gate) || !is_plain_linear(p, up) || gate->src[0] != up->src[0]) {
        return false;
    }
    if (p->model->has_gradients && p->values[gate->src[0]].type == NANO_TYPE_F32) {
        return false; /* the two are products of packed matrices, wherever in the graph */
    }
    const int32_t src[NANO_MAX_SRC] = {gate->src[0], gate->src[1], up->src[1], -1};
    node->op = NANO_OP_GATED;
    memcpy(node->src, src, sizeof src);
    gate->op = up->op = NANO_OP_NONE;
    return true;
}

static bool fuse_norm(nano_planner *p, const uses *u, nano_lowered *node) {
    static const nano_op norms[] = {NANO_OP_NORM, NANO_OP_RMS_NORM};
    for (size_t k = 0; k < sizeof norms / sizeof norms[0]; k++) {
        nano_lowered *norm = private_maker(p, u, node->src[0], norms[k]);
        if (norm != NULL) {
            memcpy(node->src, norm->src, sizeof node->src);
            node->norm = norm->op;
            node->tensor = norm->tensor;
            norm->op = NANO_OP_NONE;
            return true;
        }
    }
    return false;
}

/* Each rule takes a node of one op, with those that made its sources. The results are the same bits: rules leave out
 * passes over memory and stages, not arithmetic. */
static const struct {
    nano_op op;
    bool (*fuse)(nano_planner *p, const uses *u, nano_lowered *node);
} rules[] = {{NANO_OP_ADD, fuse_add}, {NANO_OP_SWIGLU, fuse_swiglu}, {NANO_OP_QUANTIZE, fuse_norm}};

/* work: room for two numbers a value. */
static void fuse(nano_planner *p, int32_t *work) {
    uses u = {work, work + p->n_values};
    count_uses(p, &u);
    for (int32_t i = 0; i < p->n_nodes; i++) {
        for (size_t k = 0; k < sizeof rules / sizeof rules[0]; k++) {
            if (p->nodes[i].op == rules[k].op && rules[k].fuse(p, &u, &p->nodes[i])) {
                break;
            }
        }
    }
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_nodes; i++) {
        if (p->nodes[i].op != NANO_OP_NONE) {
            p->nodes[n++] = p->nodes[i];
        }
    }
    p->n_nodes = n;
}

/* ---------------------------------------------------------------- the plan */

static nano_operand operand(const nano_planner *p, const nano_lowered *node, int32_t v) {
    nano_operand o;
    memset(&o, 0, sizeof o);
    if (v < 0) {
        return o;
    }
    int32_t root = nano_value_root(p, v);
    const nano_value *memory = &p->values[nano_node_value(p, node, v)];
    bool is_graph = v < p->graph->n_tensors;
    const nano_tensor *shape = &p->graph->tensors[is_graph ? v : p->values[v].source];
    o.type = memory->type;
    o.rows = memory->rows;
    o.row_bytes = (size_t)memory->row_bytes;
    o.offset = memory->offset;
    o.on_device = memory->on_device;
    o.ne[0] = shape->ne[0];
    o.ne[1] = shape->n_dims == 3 ? shape->ne[1] : 1;
    if (!is_graph) {
        o.region = memory->region;
        return o;
    }
    const nano_tensor *t = &p->graph->tensors[root];
    switch (t->storage) {
        case NANO_STORE_WEIGHT:
            o.region = t->is_param ? NANO_REGION_PARAM : NANO_REGION_FILE;
            o.data = t->is_param ? NULL : p->model->weights[root]->data;
            o.on_device = node->on_device;
            break;
        case NANO_STORE_INPUT:
            o.region = NANO_REGION_INPUT;
            o.offset = (uint64_t)t->index;
            o.on_device = node->on_device;
            break;
        case NANO_STORE_CACHE:
            o.region = NANO_REGION_CACHE;
            o.ne[1] = t->ne[1];
            o.transposed = is_transposed(t, memory);
            break;
        case NANO_STORE_GRAD: o.region = NANO_REGION_GRAD; break;
        case NANO_STORE_TEMP:
        case NANO_STORE_ALIAS:
            o.region = root == p->graph->output ? NANO_REGION_OUTPUT : NANO_REGION_ARENA;
            o.offset += (uint64_t)shape->root_offset * 4;
            break;
    }
    return o;
}

static uint64_t emit_nodes(nano_planner *p) {
    nano_plan *plan = p->plan;
    uint64_t scratch = 0;
    int32_t stage = -1;
    for (int32_t i = 0; i < p->n_nodes; i++) {
        const nano_lowered *from = &p->nodes[i];
        nano_node *node = &plan->nodes[i];
        node->op = from->op;
        node->norm = from->norm;
        node->on_device = from->on_device;
        node->out = operand(p, from, from->out);
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            node->src[k] = operand(p, from, from->src[k]);
        }
        if (from->tensor >= 0) {
            node->params = p->graph->tensors[from->tensor].params;
        }
        if (from->op == NANO_OP_IMPORTANCE) {
            node->weight = p->graph->tensors[from->src[1]].name;
        }
        if (!node->on_device) {
            scratch = nano_max_u64(scratch, nano_node_scratch(plan, node, nano_rows_limit(p, node->out.rows)));
        }
        if (from->stage != stage) {
            stage = from->stage;
            plan->stages[stage] = i;
        }
        plan->n_host_stages = from->on_device ? plan->n_host_stages : stage + 1;
    }
    plan->n_host_nodes = p->n_host_nodes;
    plan->n_nodes = p->n_nodes;
    plan->n_stages = p->n_stages;
    plan->stages[plan->n_stages] = plan->n_nodes;
    return scratch;
}

/* Adds a part of count * size bytes, on a cache line; false when the sum overflows. */
static bool add_part(uint64_t *at, uint64_t *part, uint64_t count, uint64_t size) {
    uint64_t bytes = 0;
    *part = *at;
    return nano_mul_u64(count, size, &bytes) && nano_add_u64(*at, bytes, at) &&
           nano_align_u64(*at, NANO_CACHE_LINE, at);
}

/* What the optimiser keeps. */
static nano_status size_state(nano_planner *p) {
    nano_layout *l = &p->plan->layout;
    const nano_limits *limits = &p->plan->limits;
    const int64_t n = (int64_t)(l->parameter_bytes / sizeof(float));
    if (limits->optimizer == NANO_OPTIMIZER_ADAM) {
        l->state_bytes = 2 * l->parameter_bytes;
    } else if (limits->optimizer == NANO_OPTIMIZER_LBFGS && n > 0) {
        l->state_bytes = nano_lbfgs_flat_bytes(n, limits->history);
        return l->state_bytes > 0 ? NANO_OK : nano_plan_too_large(p->err);
    }
    return NANO_OK;
}

static nano_status lay_out(nano_planner *p, uint64_t scratch) {
    nano_plan *plan = p->plan;
    const nano_limits *limits = &plan->limits;
    nano_layout *l = &plan->layout;
    nano_memory *m = &plan->memory;
    const nano_value *output = &p->values[p->graph->output];
    uint64_t at = 0, n_batch = (uint64_t)limits->n_batch, n_slots = (uint64_t)limits->n_slots;
    (void)nano_align_u64(scratch, NANO_CACHE_LINE, &l->scratch_stride);
    l->importance_bytes = p->importance_bytes;
    NANO_TRY(size_state(p));
    bool ok =
        add_part(&at, &l->session, 1, nano_session_bytes()) &&
        add_part(&at, &l->nodes, (uint64_t)plan->n_nodes, sizeof(nano_node)) &&
        add_part(&at, &l->stages, (uint64_t)plan->n_stages + 1, sizeof(int32_t)) &&
        add_part(&at, &l->groups, (uint64_t)plan->n_stages + 1, sizeof(nano_group)) &&
        add_part(&at, &l->tokens, n_batch, sizeof(int32_t)) && add_part(&at, &l->positions, n_batch, sizeof(int32_t)) &&
        add_part(&at, &l->wanted, (uint64_t)limits->n_outputs, sizeof(int32_t)) &&
        add_part(&at, &l->targets, (uint64_t)limits->n_outputs, sizeof(int32_t)) &&
        add_part(&at, &l->weights, (uint64_t)limits->n_outputs, sizeof(float)) &&
        add_part(&at, &l->slots, n_batch, sizeof(int32_t)) && add_part(&at, &l->n_past, n_slots, sizeof(int32_t)) &&
        add_part(&at, &l->advance, n_slots, sizeof(int32_t)) && add_part(&at, &l->tiles, n_batch, sizeof(nano_tile)) &&
        add_part(&at, &l->pool, 1, nano_pool_bytes(nano_limits_most_threads(limits))) &&
        add_part(&at, &l->cache, 1, p->cache_bytes[0]) && add_part(&at, &l->arena, 1, p->arena_bytes[0]) &&
        add_part(&at, &l->outputs, (uint64_t)nano_rows_limit(p, output->rows), output->row_bytes) &&
        add_part(&at, &l->importance, 1, p->importance_bytes) &&
        add_part(&at, &l->importance_before, 1, p->importance_bytes) &&
        add_part(&at, &l->scratch, (uint64_t)nano_limits_most_threads(limits), l->scratch_stride) &&
        add_part(&at, &l->parameters, 1, l->parameter_bytes) && add_part(&at, &l->gradients, 1, l->parameter_bytes) &&
        add_part(&at, &l->state, 1, l->state_bytes) && nano_align_u64(at, nano_page_size(), &l->total);
    if (!ok || l->total > SIZE_MAX / 2) {
        return nano_plan_too_large(p->err);
    }
    m->cache = l->arena - l->cache;
    m->activations = l->outputs - l->arena;
    m->outputs = l->scratch - l->outputs;
    m->scratch = (uint64_t)nano_limits_most_threads(limits) * l->scratch_stride;
    m->allocated = l->total;
    m->parameters = m->gradients = l->parameter_bytes;
    m->optimizer = l->state_bytes;
    m->bookkeeping = m->allocated - m->cache - m->activations - m->outputs - m->scratch - m->parameters - m->gradients -
                     m->optimizer;
    const bool fits = nano_add_u64(m->weights, m->allocated, &m->total) &&
                      nano_add_u64(m->total, plan->device_is_shared ? m->device : 0, &m->total);
    return fits ? NANO_OK : nano_plan_too_large(p->err);
}

static nano_status run_planner(nano_planner *p, int32_t *work, nano_piece *pieces) {
    p->n_values = p->graph->n_tensors;
    for (int32_t i = 0; i < p->graph->n_tensors; i++) {
        NANO_TRY(describe_tensor(p, i));
    }
    NANO_TRY(describe_params(p));
    lower(p);
    fuse(p, work);
    NANO_TRY(nano_plan_devices(p));
    NANO_TRY(place_caches(p));
    nano_plan_stages(p, work);
    NANO_TRY(nano_plan_places(p, work, pieces));
    /* +1: stages has an end mark. */
    p->plan->nodes = calloc((size_t)p->n_nodes + 1, sizeof *p->plan->nodes);
    p->plan->stages = calloc((size_t)p->n_stages + 1, sizeof *p->plan->stages);
    if (p->plan->nodes == NULL || p->plan->stages == NULL) {
        return nano_fail(p->err, NANO_ERR_MEMORY, "plan: out of memory");
    }
    const uint64_t scratch = emit_nodes(p);
    NANO_TRY(nano_plan_device_layout(p));
    return lay_out(p, scratch);
}

nano_limits nano_limits_default(void) {
    return (nano_limits){.n_ctx = 2048,
                         .n_batch = 512,
                         .n_slots = 1,
                         .n_outputs = 1,
                         .n_threads = 0,
                         .n_threads_batch = 0,
                         .poll = 50,
                         .type_k = NANO_TYPE_F16,
                         .type_v = NANO_TYPE_F16,
                         .deterministic = false,
                         .importance = false};
}

static bool is_cache_type(nano_type type) { return nano_kernels_weigh(nano_kernels_current(), type) != NULL; }

static nano_status resolve_limits(const nano_model *model, nano_limits *l, nano_error *err) {
    if (l->n_ctx < 1 || l->n_batch < 1 || l->n_slots < 1 || l->n_outputs < 1) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "limits: n_ctx %d, n_batch %d, n_slots %d, n_outputs %d; expected at least 1 each",
                         (int)l->n_ctx, (int)l->n_batch, (int)l->n_slots, (int)l->n_outputs);
    }
    if (l->n_threads < 0 || l->n_threads > NANO_MAX_THREADS || l->n_threads_batch < 0 ||
        l->n_threads_batch > NANO_MAX_THREADS) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "limits: n_threads %d, n_threads_batch %d; expected 0 to %d each",
                         (int)l->n_threads, (int)l->n_threads_batch, (int)NANO_MAX_THREADS);
    }
    if (l->poll < 0 || l->poll > 100) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "limits: poll %d, expected 0 to 100", (int)l->poll);
    }
    if ((int)l->optimizer < NANO_OPTIMIZER_NONE || (int)l->optimizer > NANO_OPTIMIZER_LBFGS || l->history < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "limits: optimizer %d, history %d; expected 0 to 2, and 0 or more",
                         (int)l->optimizer, (int)l->history);
    }
    if (!is_cache_type(l->type_k) || !is_cache_type(l->type_v)) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "limits: the cache can be F32, F16, Q8_0 or Q4_0");
    }
    if (model->has_gradients && (l->type_k != NANO_TYPE_F32 || l->type_v != NANO_TYPE_F32)) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "limits: the cache is %s and %s, to be trained it must be F32",
                         nano_type_name(l->type_k), nano_type_name(l->type_v));
    }
    if (l->n_ctx > model->n_positions) {
        return nano_fail(err, NANO_ERR_LIMIT, "%s: n_ctx %d, the model has a position table of %lld",
                         nano_gguf_path(model->gguf), (int)l->n_ctx, (long long)model->n_positions);
    }
    if (l->n_gpu_layers < -1 || l->device < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "limits: n_gpu_layers %d, device %d; expected at least -1 and 0",
                         (int)l->n_gpu_layers, (int)l->device);
    }
    l->n_batch = (int32_t)nano_min_i64(l->n_batch, (int64_t)l->n_ctx * l->n_slots);
    l->n_outputs = (int32_t)nano_min_i64(l->n_outputs, l->n_batch);
    return NANO_OK;
}

/* Whether the device has room for this many layers and is not among those that run none of them. The driver and other
 * programs take some of what is free: a part of it is left. */
static nano_status layers_fit(const nano_model *model, const nano_limits *limits, const nano_device *device, bool *out,
                              nano_error *err) {
    nano_plan *plan = NULL;
    const nano_status status = nano_plan_create(model, limits, &plan, err);
    *out = false;
    if (status == NANO_OK) {
        const nano_memory m = plan->memory;
        *out = m.device <= device->memory_available - device->memory_available / 20 &&
               (!device->shares_memory || m.total <= nano_memory_available());
    }
    nano_plan_free(plan);
    return status == NANO_ERR_MEMORY || status == NANO_ERR_UNSUPPORTED ? NANO_OK : status;
}

static nano_status resolve_layers(const nano_model *model, nano_limits *l, nano_error *err) {
    const int32_t n_layers = nano_plan_n_layers(model->graph);
    int32_t low = 0, high = n_layers; /* low fits (none always does), above high nothing is asked for */
    nano_device device;
    if (l->n_gpu_layers >= 0) {
        l->n_gpu_layers = l->n_gpu_layers < n_layers ? l->n_gpu_layers : n_layers;
        return NANO_OK;
    }
    l->n_gpu_layers = 0;
    if (nano_device_count() == 0) {
        return NANO_OK;
    }
    NANO_TRY(nano_device_at(l->device, &device, err));
    while (low < high && device.image[0] != '\0') {
        nano_limits tried = *l;
        bool ok = false;
        tried.n_gpu_layers = high - (high - low) / 2;
        NANO_TRY(layers_fit(model, &tried, &device, &ok, err));
        low = ok ? tried.n_gpu_layers : low;
        high = ok ? high : tried.n_gpu_layers - 1;
    }
    l->n_gpu_layers = low;
    return NANO_OK;
}

static nano_status resolve_threads(nano_limits *l, nano_placement *placement, nano_error *err) {
    nano_cpus mask = {{0}};
    memcpy(mask.bits, l->cpu_mask, sizeof l->cpu_mask);
    if (!nano_place_threads("", &mask, placement)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "limits: cpu_mask: this process may run on none of its CPUs");
    }
    l->n_threads = l->n_threads == 0 ? placement->n_threads : l->n_threads;
    l->n_threads_batch = l->n_threads_batch == 0 ? l->n_threads : l->n_threads_batch;
    return NANO_OK;
}

nano_status nano_plan_create(const nano_model *model, const nano_limits *limits, nano_plan **out, nano_error *err) {
    nano_limits resolved = *limits;
    nano_placement placement;
    NANO_TRY(resolve_limits(model, &resolved, err));
    NANO_TRY(resolve_layers(model, &resolved, err));
    NANO_TRY(resolve_threads(&resolved, &placement, err));
    /* Every linear may add a quantised value, sums of importance, and a node for each; each of them may have a twin. */
    size_t n = (size_t)model->graph->n_tensors * 6 + 2;
    nano_plan *plan = calloc(1, sizeof *plan);
    nano_value *values = calloc(n, sizeof *values);
    nano_lowered *nodes = calloc(n, sizeof *nodes);
    int32_t *work = calloc(n * 2, sizeof *work);
    nano_piece *pieces = calloc(n, sizeof *pieces);
    nano_status status;
    if (plan == NULL || values == NULL || nodes == NULL || work == NULL || pieces == NULL) {
        status = nano_fail(err, NANO_ERR_MEMORY, "plan: out of memory");
    } else {
        plan->model = model;
        plan->limits = resolved;
        plan->wide =
            !resolved.deterministic && resolved.n_batch >= NANO_WIDE_MIN && nano_kernels_current()->wide_linear != NULL;
        plan->placement = placement;
        plan->paced = limits->n_threads == 0;
        nano_planner p = {
            .model = model, .graph = model->graph, .plan = plan, .err = err, .values = values, .nodes = nodes};
        status = run_planner(&p, work, pieces);
    }
    free(values);
    free(nodes);
    free(work);
    free(pieces);
    if (status != NANO_OK) {
        nano_plan_free(plan);
        return status;
    }
    *out = plan;
    return NANO_OK;
}

void nano_plan_free(nano_plan *plan) {
    if (plan != NULL) {
        free(plan->nodes);
        free(plan->stages);
        free(plan);
    }
}

nano_memory nano_plan_memory(const nano_plan *plan) { return plan->memory; }

nano_limits nano_plan_limits(const nano_plan *plan) { return plan->limits; }

/* Whether `limits` with this n_ctx stay within the budgets. More than can be counted do not. */
static nano_status fits(const nano_model *model, nano_limits limits, int32_t n_ctx, uint64_t budget,
                        uint64_t device_budget, bool *out, nano_error *err) {
    nano_plan *plan = NULL;
    limits.n_ctx = n_ctx;
    nano_status status = nano_plan_create(model, &limits, &plan, err);
    *out = status == NANO_OK && plan->memory.total <= budget && plan->memory.device <= device_budget;
    nano_plan_free(plan);
    return status == NANO_ERR_MEMORY ? NANO_OK : status;
}

nano_status nano_plan_fit(const nano_model *model, const nano_limits *limits, uint64_t budget, int32_t *n_ctx,
                          nano_error *err) {
    int32_t low = 0, high = limits->n_ctx; /* low fits (0 always does), above high nothing is asked for */
    nano_device device = {.memory_available = UINT64_MAX};
    if (limits->n_gpu_layers > 0) {
        NANO_TRY(nano_device_at(limits->device, &device, err));
    }
    while (low < high) {
        int32_t middle = high - (high - low) / 2;
        bool ok = false;
        NANO_TRY(fits(model, *limits, middle, budget, device.memory_available, &ok, err));
        if (ok) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    *n_ctx = low;
    return NANO_OK;
}
