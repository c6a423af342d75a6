#include "session.h"

#include "base/arith.h"
#include "cpu/exec.h"
#include "cpu/pace.h"
#include "cuda/backend.h"
#include "gguf/format.h"

#include <math.h>
#include <string.h>

struct nano_session {
    nano_plan plan;        /* nodes and stages in this session's own memory */
    nano_backend *backend; /* NULL: the processor runs all nodes */
    nano_pool *pool;
    nano_group *groups;
    nano_pace pace;
    nano_atomic cancel;
    nano_step step;
    int32_t *tokens;
    int32_t *positions;
    int32_t *wanted;
    int32_t *targets;
    float *weights; /* of the targets */
    int32_t *slots;
    int32_t *n_past;  /* positions filled, by slot */
    int32_t *advance; /* tokens of the running step, by slot */
    nano_tile *tiles;
    float *logits; /* or the loss */
    float *parameters, *gradients;
    void *state;
    uint8_t *importance;
    uint8_t *importance_before; /* as it was before the running step */
};

size_t nano_session_bytes(void) { return sizeof(nano_session); }

/* ------------------------------------------------------------ construction */

static void resolve(nano_operand *o, uint8_t *base, const nano_session *s) {
    const nano_layout *l = &s->plan.layout;
    if (o->on_device) {
        return; /* the backend knows */
    }
    switch (o->region) {
        case NANO_REGION_NONE:
        case NANO_REGION_FILE: break;
        case NANO_REGION_INPUT:
            switch ((nano_input)o->offset) {
                case NANO_INPUT_TOKENS: o->data = (const uint8_t *)s->tokens; break;
                case NANO_INPUT_POSITIONS: o->data = (const uint8_t *)s->positions; break;
                case NANO_INPUT_WANTED: o->data = (const uint8_t *)s->wanted; break;
                case NANO_INPUT_TARGETS: o->data = (const uint8_t *)s->targets; break;
                case NANO_INPUT_WEIGHTS: o->data = (const uint8_t *)s->weights; break;
            }
            break;
        case NANO_REGION_CACHE: o->data = base + l->cache + o->offset; break;
        case NANO_REGION_ARENA: o->data = base + l->arena + o->offset; break;
        case NANO_REGION_OUTPUT: o->data = base + l->outputs + o->offset; break;
        case NANO_REGION_PARAM: o->data = base + l->parameters + o->offset; break;
        case NANO_REGION_GRAD: o->data = base + l->gradients + o->offset; break;
        case NANO_REGION_IMPORTANCE: o->data = base + l->importance + o->offset; break;
    }
}

static uint64_t region_start(const nano_layout *l, nano_region region) {
    switch (region) {
        case NANO_REGION_CACHE: return l->cache;
        case NANO_REGION_OUTPUT: return l->outputs;
        case NANO_REGION_GRAD: return l->gradients;
        case NANO_REGION_IMPORTANCE: return l->importance;
        default: return l->arena;
    }
}

static void run_step(void *arg, int thread, uint32_t run) {
    nano_session *s = arg;
    nano_exec(&s->plan, &s->step, s->pool, s->groups, &s->cancel, thread, run);
}

/* Elements of a weight that are read from its file at once. */
enum { FILL_ELEMENTS = 1 << 18 };

/* Parameters start as their files have them, whose pages are given back: nothing reads them again. */
static void fill_parameters(nano_session *s) {
    const nano_model *model = s->plan.model;
    nano_param_place at = NANO_PARAM_START;
    while (nano_param_next(model->graph, &at)) {
        const nano_gguf_tensor *from = model->weights[at.tensor];
        const nano_type_traits *traits = nano_type_find(from->type);
        for (int64_t i = 0; i < at.n; i += FILL_ELEMENTS) {
            const int64_t n = nano_min_i64(FILL_ELEMENTS, at.n - i);
            const uint8_t *data = (const uint8_t *)from->data + (size_t)i * traits->block_bytes;
            traits->to_float(data, s->parameters + at.offset + i, n);
            nano_gguf_forget(nano_model_file_of(model, at.tensor), data, (size_t)n * traits->block_bytes);
        }
    }
    /* Reading on has brought back pages just before, as systems map a few around the one that is missed. */
    for (at = NANO_PARAM_START; nano_param_next(model->graph, &at);) {
        const nano_gguf_tensor *from = model->weights[at.tensor];
        nano_gguf_forget(nano_model_file_of(model, at.tensor), from->data, from->n_bytes);
    }
}

nano_status nano_session_create(const nano_plan *plan, nano_session **out, nano_error *err) {
    const nano_layout *l = &plan->layout;
    uint8_t *base = nano_pages_alloc((size_t)l->total);
    if (base == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "session: the system refused %llu bytes", (unsigned long long)l->total);
    }
    nano_session *s = (nano_session *)(void *)(base + l->session);
    s->plan = *plan;
    s->plan.nodes = (nano_node *)(void *)(base + l->nodes);
    s->plan.stages = (int32_t *)(void *)(base + l->stages);
    memcpy(s->plan.nodes, plan->nodes, (size_t)plan->n_nodes * sizeof *plan->nodes);
    memcpy(s->plan.stages, plan->stages, ((size_t)plan->n_stages + 1) * sizeof *plan->stages);
    s->groups = (nano_group *)(void *)(base + l->groups);
    s->tokens = (int32_t *)(void *)(base + l->tokens);
    s->positions = (int32_t *)(void *)(base + l->positions);
    s->wanted = (int32_t *)(void *)(base + l->wanted);
    s->targets = (int32_t *)(void *)(base + l->targets);
    s->weights = (float *)(void *)(base + l->weights);
    s->slots = (int32_t *)(void *)(base + l->slots);
    s->n_past = (int32_t *)(void *)(base + l->n_past);
    s->advance = (int32_t *)(void *)(base + l->advance);
    s->tiles = (nano_tile *)(void *)(base + l->tiles);
    s->logits = (float *)(void *)(base + l->outputs);
    s->parameters = (float *)(void *)(base + l->parameters);
    s->gradients = (float *)(void *)(base + l->gradients);
    s->state = base + l->state;
    s->importance = base + l->importance;
    s->importance_before = base + l->importance_before;
    nano_pace_start(&s->pace, plan->limits.n_threads);
    for (int32_t i = 0; i < plan->n_nodes; i++) {
        nano_node *node = &s->plan.nodes[i];
        resolve(&node->out, base, s);
        node->out_data = node->on_device ? NULL : base + region_start(l, node->out.region) + node->out.offset;
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            resolve(&node->src[k], base, s);
        }
    }
    const nano_kernels *kernels = nano_kernels_current();
    s->step = (nano_step){.kernels = kernels,
                          .wide = plan->wide && kernels->wide_linear != NULL,
                          .trains = plan->model->has_gradients,
                          .n_ctx = plan->limits.n_ctx,
                          .positions = s->positions,
                          .slots = s->slots,
                          .tiles = s->tiles,
                          .scratch = base + l->scratch,
                          .scratch_stride = (size_t)l->scratch_stride};
    const nano_pool_options options = {
        .n_threads = nano_limits_most_threads(&plan->limits),
        .poll = plan->limits.poll,
        .set = plan->placement.is_a_choice ? &plan->placement.set : NULL,
        .fn = run_step,
        .arg = s,
    };
    nano_status status = NANO_OK;
    if (plan->n_host_nodes < plan->n_nodes) {
        status = nano_backend_create(&s->plan, s->plan.nodes, &s->backend, err);
    }
    if (status == NANO_OK) {
        status = nano_pool_start(base + l->pool, &options, &s->pool, err);
    }
    if (status != NANO_OK) {
        nano_backend_free(s->backend);
        nano_pages_free(base, (size_t)l->total);
        return status;
    }
    fill_parameters(s);
    *out = s;
    return NANO_OK;
}

void nano_session_free(nano_session *session) {
    if (session != NULL) {
        nano_pool_stop(session->pool);
        nano_backend_free(session->backend);
        uint64_t at = session->plan.layout.session;
        nano_pages_free((uint8_t *)session - at, (size_t)session->plan.layout.total);
    }
}

/* -------------------------------------------------------------------- step */

/* what: the caller, in messages. */
static nano_status check_tokens(nano_session *s, const char *what, int32_t n_tokens, const int32_t *tokens,
                                const int32_t *slots, nano_error *err) {
    const nano_limits *limits = &s->plan.limits;
    if (n_tokens < 1 || n_tokens > limits->n_batch) {
        return nano_fail(err, NANO_ERR_LIMIT, "%s: %d tokens, the plan allows 1 to %d in a step", what, (int)n_tokens,
                         (int)limits->n_batch);
    }
    memset(s->advance, 0, (size_t)limits->n_slots * sizeof *s->advance);
    for (int32_t i = 0; i < n_tokens; i++) {
        int32_t slot = slots == NULL ? 0 : slots[i];
        if (tokens[i] < 0 || tokens[i] >= s->plan.model->n_token_ids) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: token %d is id %d, the model has %lld", what, (int)i,
                             (int)tokens[i], (long long)s->plan.model->n_token_ids);
        }
        if (slot < 0 || slot >= limits->n_slots) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: token %d is in slot %d, the plan has %d", what, (int)i,
                             (int)slot, (int)limits->n_slots);
        }
        int32_t position = s->n_past[slot] + s->advance[slot];
        if (position >= limits->n_ctx) {
            return nano_fail(err, NANO_ERR_LIMIT, "%s: slot %d is full, n_ctx is %d", what, (int)slot,
                             (int)limits->n_ctx);
        }
        s->tokens[i] = tokens[i];
        s->slots[i] = slot;
        s->positions[i] = position;
        s->advance[slot]++;
    }
    return NANO_OK;
}

static nano_status check_wanted(nano_session *s, int32_t n_tokens, const uint8_t *wanted, nano_error *err) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_tokens; i++) {
        if (wanted == NULL ? i == n_tokens - 1 : wanted[i] != 0) {
            if (n == s->plan.limits.n_outputs) {
                return nano_fail(err, NANO_ERR_LIMIT,
                                 "eval: logits wanted of more than %d tokens, the plan's n_outputs", (int)n);
            }
            s->wanted[n++] = i;
        }
    }
    s->step.n_wanted = n;
    return NANO_OK;
}

static void make_tiles(nano_session *s, int32_t n_tokens) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_tokens; i++) {
        nano_tile *last = n > 0 ? &s->tiles[n - 1] : NULL;
        if (last != NULL && last->slot == s->slots[i] && last->count < NANO_TILE_TOKENS) {
            last->count++;
        } else {
            s->tiles[n++] = (nano_tile){i, 1, s->slots[i], s->positions[i]};
        }
    }
    s->step.n_tiles = n;
}

static void run_stages(nano_session *s) {
    const nano_limits *limits = &s->plan.limits;
    nano_exec_prepare(&s->plan, &s->step, s->groups, nano_pool_next_run(s->pool));
    if (s->step.n_tokens > limits->n_slots) {
        nano_pool_run(s->pool, limits->n_threads_batch);
    } else if (!s->plan.paced) {
        nano_pool_run(s->pool, limits->n_threads);
    } else {
        const uint32_t n_slept = nano_pool_n_slept(s->pool);
        const double start = nano_now();
        nano_pool_run(s->pool, nano_pace_threads(&s->pace));
        nano_pace_step(&s->pace, nano_now() - start, nano_pool_n_slept(s->pool) != n_slept);
    }
}

static nano_status run_all(nano_session *s, const char *what, int32_t n_stages, int32_t n_tokens, nano_error *err) {
    const size_t importance_bytes = (size_t)s->plan.layout.importance_bytes;
    s->step.n_stages = n_stages;
    s->step.n_tokens = n_tokens;
    make_tiles(s, n_tokens);
    memcpy(s->importance_before, s->importance, importance_bytes);
    run_stages(s);
    if (nano_atomic_exchange(&s->cancel, 0) != 0) {
        s->step.n_wanted = 0;
        memcpy(s->importance, s->importance_before, importance_bytes);
        return nano_fail(err, NANO_ERR_CANCELLED, "%s: cancelled", what);
    }
    return NANO_OK;
}

nano_status nano_session_eval(nano_session *session, int32_t n_tokens, const int32_t *tokens, const int32_t *slots,
                              const uint8_t *wanted, nano_error *err) {
    nano_session *s = session;
    s->step.n_wanted = 0;
    if (s->plan.model->has_loss) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "eval: the program's output is a loss: nano_session_gradient runs it");
    }
    NANO_TRY(check_tokens(s, "eval", n_tokens, tokens, slots, err));
    nano_status status = check_wanted(s, n_tokens, wanted, err);
    if (status != NANO_OK) {
        s->step.n_wanted = 0;
        return status;
    }
    NANO_TRY(run_all(s, "eval", s->plan.n_host_stages, n_tokens, err));
    status =
        s->backend == NULL ? NANO_OK : nano_backend_step(s->backend, &s->plan, &s->step, s->wanted, s->logits, err);
    if (status != NANO_OK) {
        s->step.n_wanted = 0;
        return status;
    }
    for (int32_t i = 0; i < s->plan.limits.n_slots; i++) {
        s->n_past[i] += s->advance[i];
    }
    return NANO_OK;
}

float *nano_session_logits(nano_session *session, int32_t *n_rows) {
    *n_rows = session->plan.model->has_loss ? 0 : session->step.n_wanted;
    return session->logits;
}

/* ---------------------------------------------------------------- training */

/* Rows with targets are the wanted ones. */
static nano_status check_targets(nano_session *s, const char *what, int32_t n_tokens, const int32_t *targets,
                                 const float *weights, nano_error *err) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_tokens; i++) {
        if (targets[i] < 0) {
            continue;
        }
        if (n == s->plan.limits.n_outputs) {
            return nano_fail(err, NANO_ERR_LIMIT, "%s: more than %d targets, the plan's n_outputs", what, (int)n);
        }
        if (targets[i] >= s->plan.model->n_targets) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: target %d is id %d, the model has %lld", what, (int)i,
                             (int)targets[i], (long long)s->plan.model->n_targets);
        }
        if (weights != NULL && !isfinite(weights[i])) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: the weight of target %d is not finite", what, (int)i);
        }
        s->wanted[n] = i;
        s->targets[n] = targets[i];
        s->weights[n++] = weights == NULL ? 1.0f : weights[i];
    }
    for (int32_t i = 0; weights == NULL && i < n; i++) {
        s->weights[i] = 1.0f / (float)n;
    }
    s->step.n_wanted = n;
    return NANO_OK;
}

/* Each slot's tokens are one sequence. */
static nano_status check_sequences(const nano_session *s, const char *what, int32_t n_tokens, nano_error *err) {
    for (int32_t i = 1; i < n_tokens; i++) {
        if (s->slots[i] != s->slots[i - 1] && s->positions[i] != 0) {
            return nano_fail(err, NANO_ERR_ARGUMENT,
                             "%s: token %d goes on with slot %d; a slot's tokens must lie next to each other", what,
                             (int)i, (int)s->slots[i]);
        }
    }
    return NANO_OK;
}

/* Runs the first stages over a batch of sequences. */
static nano_status run_batch(nano_session *s, const char *what, int32_t n_stages, int32_t n_tokens,
                             const int32_t *tokens, const int32_t *slots, const int32_t *targets, const float *weights,
                             double *loss, nano_error *err) {
    s->step.n_wanted = 0;
    if (!s->plan.model->has_loss) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: the program's output is not a loss", what);
    }
    memset(s->n_past, 0, (size_t)s->plan.limits.n_slots * sizeof *s->n_past);
    NANO_TRY(check_tokens(s, what, n_tokens, tokens, slots, err));
    NANO_TRY(check_sequences(s, what, n_tokens, err));
    NANO_TRY(check_targets(s, what, n_tokens, targets, weights, err));
    if (s->step.n_wanted == 0) {
        *loss = 0.0;
        return NANO_OK;
    }
    NANO_TRY(run_all(s, what, n_stages, n_tokens, err));
    *loss = (double)s->logits[0];
    return NANO_OK;
}

nano_status nano_session_gradient(nano_session *session, int32_t n_tokens, const int32_t *tokens, const int32_t *slots,
                                  const int32_t *targets, const float *weights, double *loss, nano_error *err) {
    return run_batch(session, "gradient", session->plan.n_stages, n_tokens, tokens, slots, targets, weights, loss, err);
}

/* Stages up to the one that makes the program's result: what adds to gradients reads what was computed from there. */
static int32_t n_stages_forward(const nano_session *s) {
    for (int32_t stage = 0; stage < s->plan.n_stages; stage++) {
        for (int32_t i = s->plan.stages[stage]; i < s->plan.stages[stage + 1]; i++) {
            if (s->plan.nodes[i].out.region == NANO_REGION_OUTPUT) {
                return stage + 1;
            }
        }
    }
    return s->plan.n_stages;
}

nano_status nano_session_loss(nano_session *session, int32_t n_tokens, const int32_t *tokens, const int32_t *slots,
                              const int32_t *targets, const float *weights, double *loss, nano_error *err) {
    return run_batch(session, "loss", n_stages_forward(session), n_tokens, tokens, slots, targets, weights, loss, err);
}

void nano_session_zero_gradients(nano_session *session) {
    memset(session->gradients, 0, (size_t)session->plan.layout.parameter_bytes);
}

int32_t nano_session_n_params(const nano_session *session) {
    nano_param_place at = NANO_PARAM_START;
    int32_t n = 0;
    while (nano_param_next(session->plan.model->graph, &at)) {
        n++;
    }
    return n;
}

nano_status nano_session_param(nano_session *session, int32_t i, nano_param *out, nano_error *err) {
    const nano_model *model = session->plan.model;
    nano_param_place at = NANO_PARAM_START;
    for (int32_t k = 0; i >= 0 && nano_param_next(model->graph, &at); k++) {
        if (k == i) {
            const nano_tensor *t = &model->graph->tensors[at.tensor];
            *out = (nano_param){.name = t->name,
                                .file = t->index,
                                .type = model->weights[at.tensor]->type,
                                .n_dims = t->n_dims,
                                .n = at.n,
                                .offset = at.offset,
                                .value = session->parameters + at.offset,
                                .gradient = session->gradients + at.offset};
            memcpy(out->ne, t->ne, sizeof out->ne);
            return NANO_OK;
        }
    }
    return nano_fail(err, NANO_ERR_ARGUMENT, "param: %d, the session has %d", (int)i,
                     (int)nano_session_n_params(session));
}

void nano_session_flat(nano_session *session, int64_t *n, float **values, float **gradients, void **state,
                       size_t *state_bytes) {
    const nano_layout *l = &session->plan.layout;
    if (n != NULL) {
        *n = (int64_t)(l->parameter_bytes / sizeof(float));
    }
    if (values != NULL) {
        *values = session->parameters;
    }
    if (gradients != NULL) {
        *gradients = session->gradients;
    }
    if (state != NULL) {
        *state = l->state_bytes > 0 ? session->state : NULL;
    }
    if (state_bytes != NULL) {
        *state_bytes = (size_t)l->state_bytes;
    }
}

/* -------------------------------------------------------------- importance */

nano_status nano_session_importance(const nano_session *session, const char *weight, const double **sums, int64_t *n,
                                    int64_t *n_rows, nano_error *err) {
    const nano_plan *plan = &session->plan;
    if (!plan->limits.importance) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "importance: the plan's limits did not ask for it");
    }
    for (int32_t i = 0; i < plan->n_nodes; i++) {
        const nano_node *node = &plan->nodes[i];
        if (node->op == NANO_OP_IMPORTANCE && strcmp(node->weight, weight) == 0) {
            const double *found = (const double *)(const void *)node->out_data;
            *sums = found + 1;
            *n = node->out.ne[0];
            *n_rows = (int64_t)found[0];
            return NANO_OK;
        }
    }
    return nano_fail(err, NANO_ERR_NOT_FOUND, "importance: no linear reads a weight %s", weight);
}

void nano_session_cancel(nano_session *session) { nano_atomic_store(&session->cancel, 1); }

/* ------------------------------------------------------------------- slots */

static bool is_slot(const nano_session *s, int32_t slot) { return slot >= 0 && slot < s->plan.limits.n_slots; }

int32_t nano_session_n_past(const nano_session *session, int32_t slot) {
    return is_slot(session, slot) ? session->n_past[slot] : 0;
}

nano_status nano_session_truncate(nano_session *session, int32_t slot, int32_t n_past, nano_error *err) {
    if (!is_slot(session, slot) || n_past < 0 || n_past > session->n_past[slot]) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "truncate: slot %d to %d positions, it has %d", (int)slot, (int)n_past,
                         (int)nano_session_n_past(session, slot));
    }
    session->n_past[slot] = n_past;
    return NANO_OK;
}

bool nano_session_next_run(const nano_session *s, int32_t slot, int32_t n_past, nano_run *run) {
    for (; run->node < s->plan.n_nodes; ++run->node, run->head = 0) {
        const nano_node *n = &s->plan.nodes[run->node];
        if (n->op == NANO_OP_KV_WRITE && run->head < n->out.ne[1]) {
            run->data = n->out_data + (size_t)slot * nano_cache_slot_bytes(&n->out, s->step.n_ctx) +
                        (size_t)run->head * nano_cache_head_bytes(&n->out, s->step.n_ctx);
            run->size = nano_cache_run_bytes(&n->out, n_past);
            run->on_device = n->on_device;
            ++run->head;
            return true;
        }
    }
    return false;
}

nano_status nano_session_read_run(const nano_session *s, const nano_run *run, size_t at, void *to, size_t size,
                                  nano_error *err) {
    if (run->on_device) {
        return nano_backend_read(s->backend, to, run->data + at, size, err);
    }
    memcpy(to, run->data + at, size);
    return NANO_OK;
}

nano_status nano_session_write_run(nano_session *s, const nano_run *run, const void *from, nano_error *err) {
    if (run->on_device) {
        return nano_backend_write(s->backend, run->data, from, run->size, err);
    }
    memcpy(run->data, from, run->size);
    return NANO_OK;
}

const nano_plan *nano_session_plan(const nano_session *session) { return &session->plan; }
const char *nano_session_level(const nano_session *session) { return nano_kernels_name(session->step.kernels); }
void nano_session_set_past(nano_session *session, int32_t slot, int32_t n_past) { session->n_past[slot] = n_past; }

nano_status nano_session_copy_slot(nano_session *session, int32_t from, int32_t to, int32_t n_past, nano_error *err) {
    nano_session *s = session;
    if (!is_slot(s, from) || !is_slot(s, to) || n_past < 0 || n_past > s->n_past[from]) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "copy_slot: %d positions of slot %d (which has %d) to slot %d",
                         (int)n_past, (int)from, (int)nano_session_n_past(s, from), (int)to);
    }
    nano_run source = NANO_FIRST_RUN, target = NANO_FIRST_RUN;
    while (from != to && nano_session_next_run(s, from, n_past, &source) &&
           nano_session_next_run(s, to, n_past, &target)) {
        if (source.on_device) {
            NANO_TRY(nano_backend_copy(s->backend, target.data, source.data, source.size, err));
        } else {
            memcpy(target.data, source.data, source.size);
        }
    }
    s->n_past[to] = n_past;
    return NANO_OK;
}
