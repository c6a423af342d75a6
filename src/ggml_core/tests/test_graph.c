/* Graphs and programs: shape rules, round trips, damage; plans: no two live buffers overlap. */
#define _XOPEN_SOURCE 700

#include "cpu/kernels.h"
#include "graph/plan.h"
#include "tests/tiny_train.h"

static int32_t leaf_weight(nano_graph *g, const char *name, int64_t n, int64_t rows) {
    int64_t ne[2] = {n, rows};
    int32_t out = -1;
    CHECK_OK(nano_graph_weight(g, name, rows == 0 ? 1 : 2, ne, &out, &check_error));
    return out;
}

typedef struct leaves {
    nano_graph *g;
    int32_t tokens, positions, wanted, x, heads, table, k, v, w, bias;
} leaves;

/* x: (T, 64); heads: the same as (T, 4, 16); k, v: caches (2, 16); w: (32, 64). */
static leaves make_leaves(void) {
    leaves l;
    int64_t view[4] = {0, 2, 16, 4}, n_rot = 16;
    double base = 10000.0;
    CHECK_OK(nano_graph_create(&l.g, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_TOKENS, &l.tokens, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_POSITIONS, &l.positions, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_WANTED, &l.wanted, &check_error));
    l.x = tiny_op(l.g, "rows", leaf_weight(l.g, "embd", 64, 100), l.tokens, -1);
    CHECK_OK(nano_graph_op(l.g, "view", 1, &l.x, 4, view, 0, NULL, &l.heads, &check_error));
    CHECK_OK(nano_graph_op(l.g, "rope_table", 1, &l.positions, 1, &n_rot, 1, &base, &l.table, &check_error));
    CHECK_OK(nano_graph_cache(l.g, 0, 2, 16, &l.k, &check_error));
    CHECK_OK(nano_graph_cache(l.g, 1, 2, 16, &l.v, &check_error));
    l.w = leaf_weight(l.g, "w", 64, 32);
    l.bias = leaf_weight(l.g, "bias", 32, 0);
    return l;
}

static void refused(const leaves *l, nano_status status, const char *text, const char *op, int32_t a, int32_t b,
                    int32_t c, int64_t i0, double f0) {
    int32_t src[3] = {a, b, c}, out = -7;
    int32_t n_ints = i0 == 0 ? 0 : 1, n_floats = f0 == 0.0 ? 0 : 1, before = nano_graph_n_tensors(l->g);
    CHECK_FAILS(status, text, nano_graph_op(l->g, op, 3, src, n_ints, &i0, n_floats, &f0, &out, &check_error));
    CHECK(out == -7 && nano_graph_n_tensors(l->g) == before);
}

static void test_shape_rules(void) {
    leaves l = make_leaves();
    int64_t ne[4] = {64, 33, 1, 1};
    int32_t out = -1, n_dims = 0;
    refused(&l, NANO_ERR_UNSUPPORTED, "softmax", "softmax", l.x, -1, -1, 0, 0);
    refused(&l, NANO_ERR_ARGUMENT, "1 sources", "linear", l.x, -1, -1, 0, 0);
    refused(&l, NANO_ERR_ARGUMENT, "tensor 99", "linear", l.x, 99, -1, 0, 0);
    refused(&l, NANO_ERR_ARGUMENT, "tensor -1", "linear", -1, l.w, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "rows of 64", "linear", tiny_op(l.g, "linear", l.x, l.w, l.bias), l.w, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "bias of weight w", "linear", l.x, l.w, l.w, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "activation", "linear", l.x, l.w, -1, 3, 0);
    refused(&l, NANO_ERR_SHAPE, "linear", "linear", l.heads, l.w, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "linear", "linear", l.w, l.w, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "rows", "rows", l.x, l.tokens, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "rows", "rows", l.w, l.wanted, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "rows", "rows", l.w, l.x, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "(64)", "rms_norm", l.x, l.bias, -1, 0, 1e-5);
    refused(&l, NANO_ERR_SHAPE, "eps", "rms_norm", l.x, leaf_weight(l.g, "n", 64, 0), -1, 0, -1.0);
    refused(&l, NANO_ERR_ARGUMENT, "not finite", "scale", l.x, -1, -1, 0, NAN);
    refused(&l, NANO_ERR_SHAPE, "view", "view", l.x, -1, -1, 60, 0);
    refused(&l, NANO_ERR_SHAPE, "n_rot is 7", "rope_table", l.positions, -1, -1, 7, 10000.0);
    refused(&l, NANO_ERR_SHAPE, "positions", "rope_table", l.tokens, -1, -1, 8, 10000.0);
    refused(&l, NANO_ERR_SHAPE, "rope", "rope", l.x, l.table, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "pair order", "rope", l.heads, l.table, -1, 2, 0);
    refused(&l, NANO_ERR_SHAPE, "kv_write", "kv_write", l.heads, l.k, -1, 0, 0); /* 4 heads into a cache of 2 */
    refused(&l, NANO_ERR_SHAPE, "attention", "attention", l.x, l.k, l.v, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "attention", "attention", l.heads, l.k, l.x, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "window", "attention", l.heads, l.k, l.v, -1, 0);
    refused(&l, NANO_ERR_SHAPE, "add", "add", l.x, l.heads, -1, 0, 0);
    refused(&l, NANO_ERR_SHAPE, "swiglu", "swiglu", l.x, l.bias, -1, 0, 0);
    CHECK_FAILS(NANO_ERR_SHAPE, "twice", nano_graph_weight(l.g, "w", 2, ne, &out, &check_error));
    ne[1] = INT64_MAX;
    CHECK_FAILS(NANO_ERR_SHAPE, "dim 1", nano_graph_weight(l.g, "huge", 2, ne, &out, &check_error));
    CHECK_FAILS(NANO_ERR_SHAPE, "(W, n_vocab)", nano_graph_set_output(l.g, l.x, &check_error));
    CHECK_OK(nano_graph_shape(l.g, l.heads, &n_dims, ne, &check_error));
    CHECK(n_dims == 3 && ne[0] == 16 && ne[1] == 4 && ne[2] == NANO_DIM_T);
    nano_graph_free(l.g);
}

/* A row of 2^32 heads with values of 2^32 elements each: counted naively, no bytes at all. */
static void test_head_limit(void) {
    leaves l = make_leaves();
    int64_t wide[2] = {64, (int64_t)1 << 32}, heads[4] = {0, 2, 1, (int64_t)1 << 32};
    int32_t w = -1, x = -1, k = -1, v = -1;
    CHECK_OK(nano_graph_weight(l.g, "wide", 2, wide, &w, &check_error));
    x = tiny_op(l.g, "linear", l.x, w, -1);
    CHECK_OK(nano_graph_op(l.g, "view", 1, &x, 4, heads, 0, NULL, &x, &check_error));
    CHECK_OK(nano_graph_cache(l.g, 2, 1, 1, &k, &check_error));
    CHECK_OK(nano_graph_cache(l.g, 3, 1, (int64_t)1 << 32, &v, &check_error));
    refused(&l, NANO_ERR_SHAPE, "4294967296 heads", "attention", x, k, v, 0, 0);
    nano_graph_free(l.g);
}

static void test_round_trip(nano_graph *g) {
    nano_graph *back = NULL;
    static uint8_t bytes[65536], second[65536];
    size_t size = 0, size2 = 0;
    CHECK_OK(nano_graph_save(g, NULL, 0, &size, &check_error));
    CHECK(size > 500 && size < sizeof bytes);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "needs", nano_graph_save(g, bytes, size - 1, &size2, &check_error));
    CHECK_OK(nano_graph_save(g, bytes, size, &size2, &check_error));
    CHECK_OK(nano_graph_load(bytes, size, &back, &check_error));
    CHECK_OK(nano_graph_save(back, second, sizeof second, &size2, &check_error));
    CHECK(size2 == size && memcmp(bytes, second, size) == 0);
    CHECK(g->n_tensors == back->n_tensors);
    for (int32_t i = 0; i < g->n_tensors; i++) {
        CHECK(g->tensors[i].is_param == back->tensors[i].is_param);
        CHECK(g->tensors[i].storage == back->tensors[i].storage && g->tensors[i].index == back->tensors[i].index);
    }
    nano_graph_free(back);
    nano_graph_free(g);
}

static void test_version(const tiny_model *m) {
    uint8_t bytes[sizeof m->program];
    uint64_t version = 0;
    nano_graph *g = NULL;
    nano_model *model = NULL;
    CHECK_OK(nano_program_version(m->program, m->program_size, &version, &check_error));
    CHECK(version == NANO_PROGRAM_VERSION);
    memcpy(bytes, m->program, m->program_size);
    bytes[4] = 42; /* after the four letters */
    CHECK_OK(nano_program_version(bytes, m->program_size, &version, &check_error));
    CHECK(version == 42);
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "needs program version 42, this build has 1",
                nano_graph_load(bytes, m->program_size, &g, &check_error));
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, m->path, nano_model_create(m->gguf, bytes, 64, &model, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "NNPG", nano_program_version("GGUF1", 5, &version, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "ends too early", nano_program_version("NNPG", 4, &version, &check_error));
}

/* A fault of the program that is in the file itself is told with the key. */
static void test_program_in_file(const tiny_model *m) {
    char path[] = "/tmp/nano_program_XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    nano_gguf_writer *w = NULL;
    CHECK_OK(nano_gguf_writer_open(path, &w, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "nanollm.program", NANO_GGUF_UINT8, true, m->program, m->program_size / 2,
                                  &check_error));
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    nano_gguf *gguf = NULL;
    nano_model *model = NULL;
    char expected[128];
    snprintf(expected, sizeof expected, "%s: nanollm.program: program: ends too early", path);
    CHECK_OK(nano_gguf_open(path, &gguf, &check_error));
    const nano_gguf_value *program = nano_gguf_find(gguf, "nanollm.program");
    CHECK(program != NULL);
    CHECK_FAILS(NANO_ERR_FORMAT, expected,
                nano_model_create(gguf, program->data, program->n_bytes, &model, &check_error));
    nano_gguf_free(gguf);
    (void)remove(path);
}

/* A step of a program that may be anything that loads. */
static bool runs(const nano_model *model, const nano_limits *limits) {
    static const int32_t prompt[3] = {1, 2, 3};
    nano_plan *plan = NULL;
    nano_session *session = NULL;
    nano_error err = {NANO_OK, ""};
    double loss = 0.0;
    const bool made = nano_plan_create(model, limits, &plan, &err) == NANO_OK &&
                      nano_plan_memory(plan).allocated < ((uint64_t)1 << 30) &&
                      nano_session_create(plan, &session, &err) == NANO_OK;
    if (made && model->has_loss) {
        (void)nano_session_gradient(session, 3, prompt, NULL, prompt, NULL, &loss, &err);
    } else if (made) {
        (void)nano_session_eval(session, 3, prompt, NULL, NULL, &err);
    }
    nano_session_free(session);
    nano_plan_free(plan);
    return made;
}

/* Every truncation fails; a changed byte fails or gives a graph that plans and runs within its limits. */
static void test_damage(const nano_gguf *gguf, const uint8_t *program, size_t size, const nano_limits *limits) {
    static uint8_t bytes[65536];
    nano_graph *g = NULL;
    nano_model *model = NULL;
    int loaded = 0;
    for (size_t n = 0; n < size; n++) {
        CHECK(nano_graph_load(program, n, &g, NULL) != NANO_OK);
    }
    uint64_t state = 99;
    for (int round = 0; round < 4000; round++) {
        memcpy(bytes, program, size);
        for (int i = 0; i <= round % 3; i++) {
            size_t at = (size_t)(fabsf(tiny_random(&state)) * (float)(size - 1));
            bytes[at] = (uint8_t)(tiny_random(&state) * 128.0f + 128.0f);
        }
        nano_error err = {NANO_OK, ""};
        nano_status status = nano_model_create(gguf, bytes, size, &model, &err);
        CHECK((status == NANO_OK) == (err.message[0] == '\0'));
        if (status == NANO_OK) {
            loaded += runs(model, limits) ? 1 : 0;
            nano_model_free(model);
        }
    }
    CHECK(loaded > 0);
}

/* ------------------------------------------------------------------- plans */

/* The stages between which the bytes an operand names hold something: from the first node that writes them to the last
 * that reads them before they are written as another tensor. Two outputs whose bytes overlap must not overlap in time.
 * Found from the nodes alone, not from the planner's own lists. */
static int stage_of(const nano_plan *plan, int node) {
    int s = 0;
    while (plan->stages[s + 1] <= node) {
        s++;
    }
    return s;
}

static uint64_t bytes_of(const nano_plan *plan, const nano_operand *o) {
    int64_t rows = o->rows == NANO_DIM_T   ? plan->limits.n_batch
                   : o->rows == NANO_DIM_W ? plan->limits.n_outputs
                                           : o->rows;
    if (plan->wide && o->type == NANO_TYPE_A8) { /* wide kernels fill up the last group of columns */
        rows = (rows + NANO_WIDE_GROUP - 1) / NANO_WIDE_GROUP * NANO_WIDE_GROUP;
    }
    /* A piece of each row, as a view is, ends before the last row does. */
    const size_t used =
        nano_type_block_size(o->type) == 1 ? nano_type_row_bytes(o->type, o->ne[0] * o->ne[1]) : SIZE_MAX;
    return o->row_bytes * (uint64_t)(rows - 1) + (used < o->row_bytes ? used : o->row_bytes);
}

static bool overlap(const nano_plan *plan, const nano_operand *a, const nano_operand *b) {
    return a->region == NANO_REGION_ARENA && b->region == NANO_REGION_ARENA &&
           a->offset < b->offset + bytes_of(plan, b) && b->offset < a->offset + bytes_of(plan, a);
}

/* Whether a node's output takes the place of source k, as its op's row allows: all of its bytes and no others. */
static bool is_in_place(const nano_node *node, int k) {
    const nano_op_info *info = nano_op_by_number(node->op);
    const nano_operand *src = &node->src[k];
    return info != NULL && (info->in_place >> k & 1) != 0 && src->offset == node->out.offset &&
           src->rows == node->out.rows && src->row_bytes == node->out.row_bytes &&
           src->ne[0] * src->ne[1] == node->out.ne[0] * node->out.ne[1];
}

/* A source must still hold what its writer left: no node between the two, nor in the same stage as the reader or the
 * writer, may write any of its bytes, but for the reader itself when it works in place. */
static void check_source(const nano_plan *plan, int reader, int k) {
    const nano_operand *src = &plan->nodes[reader].src[k];
    int writer = -1;
    for (int i = reader - 1; i >= 0 && writer < 0; i--) {
        const nano_operand *out = &plan->nodes[i].out;
        if (overlap(plan, out, src)) {
            writer = i;
            /* The last to touch the bytes made the whole tensor that they belong to. */
            CHECK(out->offset <= src->offset && out->row_bytes == src->row_bytes && out->type == src->type);
        }
    }
    if (src->region != NANO_REGION_ARENA) {
        return;
    }
    CHECK(writer >= 0);
    CHECK(stage_of(plan, writer) < stage_of(plan, reader));
    for (int i = plan->stages[stage_of(plan, writer)]; i < plan->stages[stage_of(plan, reader) + 1]; i++) {
        const bool is_own = i == writer || (i == reader && is_in_place(&plan->nodes[i], k));
        CHECK(is_own || !overlap(plan, &plan->nodes[i].out, src));
    }
}

/* Nodes that add to the same gradient do so one after the other. */
static void check_sums(const nano_plan *plan, int node) {
    const nano_operand *sum = &plan->nodes[node].out;
    for (int i = plan->stages[stage_of(plan, node)]; i < node && sum->region == NANO_REGION_GRAD; i++) {
        const nano_operand *other = &plan->nodes[i].out;
        CHECK(other->region != NANO_REGION_GRAD || other->offset != sum->offset);
    }
}

/* reuse: how often at least bytes are used again. */
static void test_plan(const nano_model *model, nano_limits l, uint64_t reuse) {
    nano_plan *plan = NULL;
    CHECK_OK(nano_plan_create(model, &l, &plan, &check_error));
    uint64_t top = 0, sum = 0;
    for (int i = 0; i < plan->n_nodes; i++) {
        const nano_node *node = &plan->nodes[i];
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            check_source(plan, i, k);
        }
        check_sums(plan, i);
        if (node->out.region == NANO_REGION_ARENA) {
            uint64_t end = node->out.offset + bytes_of(plan, &node->out);
            top = end > top ? end : top;
            sum += bytes_of(plan, &node->out);
            CHECK(node->out.offset % 64 == 0);
        }
    }
    CHECK(top <= plan->memory.activations && plan->memory.activations < top + 64);
    CHECK(plan->memory.activations < sum / reuse);
    nano_plan_free(plan);
}

/* Far more than can be counted, or than the budget, is no error: it does not fit. */
static void test_fit(const tiny_model *m) {
    nano_limits l = nano_limits_default();
    nano_plan *plan = NULL;
    int32_t n_ctx = -1;
    l.n_ctx = l.n_slots = INT32_MAX;
    CHECK_FAILS(NANO_ERR_MEMORY, "counted", nano_plan_create(m->model, &l, &plan, &check_error));
    CHECK_OK(nano_plan_fit(m->model, &l, (uint64_t)1 << 20, &n_ctx, &check_error));
    CHECK(n_ctx == 0);
    l.n_slots = 1;
    CHECK_OK(nano_plan_fit(m->model, &l, (uint64_t)1 << 22, &n_ctx, &check_error));
    CHECK(n_ctx > 1000);
    l.n_ctx = n_ctx;
    CHECK_OK(nano_plan_create(m->model, &l, &plan, &check_error));
    CHECK(nano_plan_memory(plan).total <= (uint64_t)1 << 22);
    nano_plan_free(plan);
    l.n_ctx = n_ctx + 1;
    CHECK_OK(nano_plan_create(m->model, &l, &plan, &check_error));
    CHECK(nano_plan_memory(plan).total > (uint64_t)1 << 22);
    nano_plan_free(plan);
}

/* Positions looked up in a table, as GPT-2 has: no context may be longer than the table. */
static void test_position_table(const tiny_model *m) {
    nano_graph *g = NULL;
    nano_limits limits = nano_limits_default();
    nano_model *model = NULL;
    nano_plan *plan = NULL;
    uint8_t program[1024];
    size_t size = 0;
    int32_t n_ctx = -1, positions = -1, wanted = -1, x = -1;
    CHECK_OK(nano_graph_create(&g, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_POSITIONS, &positions, &check_error));
    CHECK_OK(nano_graph_input(g, NANO_INPUT_WANTED, &wanted, &check_error));
    x = tiny_op(g, "rows", tiny_w(g, "token_embd.weight"), positions, -1);
    CHECK_OK(nano_graph_set_output(g, tiny_op(g, "rows", x, wanted, -1), &check_error));
    CHECK_OK(nano_graph_save(g, program, sizeof program, &size, &check_error));
    CHECK_OK(nano_model_create(m->gguf, program, size, &model, &check_error));
    limits.n_ctx = TINY_VOCAB + 1;
    CHECK_FAILS(NANO_ERR_LIMIT, "position table of 96", nano_plan_create(model, &limits, &plan, &check_error));
    CHECK_FAILS(NANO_ERR_LIMIT, "position table", nano_plan_fit(model, &limits, UINT64_MAX, &n_ctx, &check_error));
    limits.n_ctx = TINY_VOCAB;
    CHECK_OK(nano_plan_create(model, &limits, &plan, &check_error));
    nano_plan_free(plan);
    nano_model_free(model);
    nano_graph_free(g);
}

/* The same of programs with gradients. */
static void test_training(void) {
    tiny_train t;
    nano_graph *g = NULL;
    nano_limits l = tiny_train_limits(1);
    tiny_train_open(&t, "F32", true);
    test_plan(t.model, l, 2);
    tiny_train_program(&t, 0, NULL, false);
    test_plan(t.model, l, 1);
    CHECK_OK(nano_graph_load(t.program, t.program_size, &g, &check_error));
    test_round_trip(g);
    l.n_ctx = 8;
    test_damage(t.base.gguf, t.program, t.program_size, &l);
    tiny_train_close(&t);
}

int main(void) {
    test_shape_rules();
    test_head_limit();
    test_round_trip(tiny_graph());
    static const char *const types[] = {"F32", "Q4_0"};
    for (int i = 0; i < 2; i++) {
        tiny_model m;
        tiny_model_open(&m, types[i]);
        nano_limits l = nano_limits_default();
        l.n_ctx = 64;
        l.n_batch = 1;
        test_plan(m.model, l, 3);
        l.n_batch = 33;
        l.n_outputs = 5;
        test_plan(m.model, l, 3);
        if (i == 0) {
            test_fit(&m);
            test_position_table(&m);
            test_version(&m);
            test_program_in_file(&m);
            l.n_ctx = 8;
            l.n_threads = 1;
            test_damage(m.gguf, m.program, m.program_size, &l);
        }
        tiny_model_close(&m);
    }
    test_training();
    return check_result();
}
