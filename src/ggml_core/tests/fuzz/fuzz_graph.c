/*
 * Programs that load must run: graphs drawn from the input, over a small file with weights of every type, are planned
 * and evaluated, or, when the input's last byte says so, given a loss and gradients and trained on, three times:
 *
 *   as planned, with some threads;
 *   on one thread, every buffer moved to a place of its own with (under AddressSanitizer) forbidden bytes around it;
 *   where the graph has no loss and treats its caches as a model does, token by token in a session that has been used
 *   before; where it has gradients, with activations computed again instead of kept.
 *
 * Each must give the same bits. Nothing may be read or written outside its buffer.
 */
#include "base/arith.h"
#include "cpu/kernels.h"
#include "graph/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/graph_spread.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MAX_WEIGHTS = 128,
    FILE_BYTES = 1 << 20,
    MAX_OPS = 32,
    MAX_STEPS = 3,
    MAX_BATCH = 80,
    MAX_PARAMS = 6,
    MAX_PLANNED = 32 << 20 /* larger plans are not run */
};

/* -------------------------------------------------------------------- file */

typedef struct weight {
    char name[16];
    int32_t n_dims;
    int64_t ne[2];
    nano_type type;
    uint64_t offset;
    size_t n_bytes;
} weight;

static weight weights[MAX_WEIGHTS];
static int n_weights;
static uint8_t *file; /* allocated once, for good */
static nano_gguf *gguf;

static void put(size_t *at, const void *data, size_t n) {
    memcpy(file + *at, data, n);
    *at += n;
}
static void put_u32(size_t *at, uint32_t v) { put(at, &v, sizeof v); }
static void put_u64(size_t *at, uint64_t v) { put(at, &v, sizeof v); }

static void declare(int32_t n_dims, int64_t n_in, int64_t n_out, nano_type type) {
    weight *w = &weights[n_weights];
    *w = (weight){.n_dims = n_dims, .ne = {n_in, n_out}, .type = type};
    const int layer = (int)(n_in % 3); /* 0: of none. Ops in a row are often as wide */
    if (layer == 0) {
        snprintf(w->name, sizeof w->name, "w%d", n_weights++);
    } else {
        snprintf(w->name, sizeof w->name, "blk.%d.w%d", layer, n_weights++);
    }
    w->n_bytes = nano_type_row_bytes(type, n_in) * (size_t)n_out;
}

/* A type for rows of n, each in its turn. */
static nano_type next_type(int64_t n) {
    static nano_type last = -1;
    do {
        last = (last + 1) % NANO_TYPE_A8;
    } while (!nano_type_is_supported(last) || n % nano_type_block_size(last) != 0);
    return last;
}

static void declare_all(void) {
    static const int64_t rows[] = {1, 2, 6, 16, 32, 33, 64, 96, 160, 256}, heights[] = {1, 6, 32, 64, 77};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        declare(1, rows[i], 1, NANO_TYPE_F32);
        for (size_t k = 0; k < sizeof heights / sizeof heights[0]; k++) {
            declare(2, rows[i], heights[k], next_type(rows[i]));
        }
    }
    for (int i = 0; i < 16; i++) {
        declare(2, 256, 5 + i, next_type(256));
    }
    declare(1, 77, 1, NANO_TYPE_F32);
    declare(1, 8, 1, NANO_TYPE_F32);
}

/* Random values; whole blocks. */
static void fill(weight *w, uint64_t *state) {
    float row[256];
    for (int64_t r = 0; r < w->ne[1]; r++) {
        for (int64_t i = 0; i < w->ne[0]; i++) {
            *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
            row[i] = (float)(int32_t)(*state >> 32) / 4294967296.0f;
        }
        size_t bytes = w->n_bytes / (size_t)w->ne[1];
        require(nano_type_from_float(w->type, row, file + w->offset + (size_t)r * bytes, w->ne[0], NULL) == NANO_OK,
                "values", NULL);
    }
}

/* A GGUF file in memory with forbidden bytes after every tensor. */
static void make_file(void) {
    size_t at = 0;
    nano_error err = {NANO_OK, ""};
    uint64_t end = 0, start = 0, state = 1;
    file = calloc(1, FILE_BYTES);
    require(file != NULL, "memory", NULL);
    declare_all();
    put(&at, "GGUF", 4);
    put_u32(&at, 3);
    put_u64(&at, (uint64_t)n_weights);
    put_u64(&at, 0);
    for (int i = 0; i < n_weights; i++) {
        weight *w = &weights[i];
        put_u64(&at, strlen(w->name));
        put(&at, w->name, strlen(w->name));
        put_u32(&at, (uint32_t)w->n_dims);
        for (int32_t k = 0; k < w->n_dims; k++) {
            put_u64(&at, (uint64_t)w->ne[k]);
        }
        put_u32(&at, (uint32_t)w->type);
        put_u64(&at, end);
        w->offset = end;
        end = (end + w->n_bytes + 2 * GAP - 1) / GAP * GAP;
    }
    start = (at + 31) / 32 * 32;
    require(start + end <= FILE_BYTES, "the file is too large", NULL);
    require(nano_gguf_open_memory(file, (size_t)(start + end), "weights", &gguf, &err) == NANO_OK, "file", &err);
    for (int i = 0; i < n_weights; i++) {
        weights[i].offset += start;
        fill(&weights[i], &state);
        uint64_t from = weights[i].offset + weights[i].n_bytes;
        uint64_t to = i + 1 < n_weights ? weights[i + 1].offset + start : FILE_BYTES;
        ASAN_POISON_MEMORY_REGION(file + from, (size_t)(to - from));
    }
}

/* ------------------------------------------------------------------- graph */

typedef struct input {
    const uint8_t *data;
    size_t size;
} input;

static uint32_t draw(input *in) {
    if (in->size == 0) {
        return 0;
    }
    in->size--;
    return *in->data++;
}

static int64_t draw_int(input *in) {
    static const int64_t odd[] = {-1, 33, 64, 96, 160, 1 << 20, INT32_MAX, (int64_t)1 << 40, INT64_MAX, INT64_MIN};
    uint32_t v = draw(in);
    return v < 240 ? (int64_t)(v % 40) : odd[v % (sizeof odd / sizeof odd[0])];
}

static double draw_float(input *in) {
    static const double odd[] = {0.0, 1e-5, 0.5, 1.0, 2.0, 32.0, 10000.0, -1.0, 1e300, 1e-300};
    return odd[draw(in) % (sizeof odd / sizeof odd[0])];
}

/* Any tensor, the newest the likeliest. */
static int32_t draw_tensor(input *in, const nano_graph *g) {
    int32_t n = nano_graph_n_tensors(g), v = (int32_t)draw(in);
    return v >= 192 ? v % n : n - 1 - v % (n < 8 ? n : 8);
}

/* A weight with n_dims dims, the innermost n, the other, unless that is 0, n_rows; -1 when there is none. */
static int32_t draw_rows(input *in, nano_graph *g, int32_t n_dims, int64_t n, int64_t n_rows) {
    int first = (int)draw(in);
    int32_t out = -1;
    for (int i = 0; i < n_weights && out < 0; i++) {
        const weight *w = &weights[(first + i) % n_weights];
        if (w->n_dims == n_dims && (n == 0 || w->ne[0] == n) && (n_rows == 0 || w->ne[1] == n_rows)) {
            require(nano_graph_weight(g, w->name, n_dims, w->ne, &out, NULL) == NANO_OK, "weight", NULL);
        }
    }
    return out;
}

static int32_t draw_weight(input *in, nano_graph *g, int32_t n_dims, int64_t n) {
    return draw_rows(in, g, n_dims, n, 0);
}

/* The gradient of a weight, as draw_rows draws it, now and then as it is after something was added to it; -1 when there
 * is none. */
static int32_t draw_gradient(input *in, nano_graph *g, int32_t n_dims, int64_t n, int64_t n_rows) {
    int32_t out = draw_rows(in, g, n_dims, n, n_rows);
    if (out >= 0) {
        require(nano_graph_gradient(g, out, &out, NULL) == NANO_OK, "gradient", NULL);
    }
    for (int32_t i = g->n_tensors - 1; out >= 0 && i > out && g->n_tensors % 2 == 1; i--) {
        if (g->tensors[i].root == out) {
            return i;
        }
    }
    return out;
}

static bool op(nano_graph *g, const char *name, int32_t a, int32_t b, int32_t c, const int64_t *ints, int32_t n_ints,
               const double *floats, int32_t n_floats, int32_t *out) {
    int32_t src[3] = {a, b, c};
    return nano_graph_op(g, name, 3, src, n_ints, ints, n_floats, floats, out, NULL) == NANO_OK;
}

/* Parameters that the op is likely to accept. */
static void tame(nano_op op, int64_t *ints, double *floats) {
    switch (op) {
        case NANO_OP_LINEAR: ints[0] = ints[0] & 1; break;
        case NANO_OP_ROPE:
            ints[0] = ints[0] & 1;
            ints[1] = ints[1] & 1;
            break;
        case NANO_OP_JOIN:
            for (int k = 0; k < 5; k++) {
                ints[k] = k == 0 ? 1100 : (k - 1) * 300 + (ints[k] & 31);
            }
            break;
        case NANO_OP_VIEW:
            ints[0] = ints[0] & 3;
            ints[1] = 1 + (ints[1] & 1);
            ints[3] = ints[1] == 1 ? 0 : 1 + (ints[3] & 7);
            break;
        case NANO_OP_ROPE_TABLE:
            ints[0] = 2 + (ints[0] & 6);
            ints[1] = ints[1] & 3;
            ints[2] = 8192;
            for (int i = 0; i < 6; i++) {
                floats[i] = 1.5 + floats[i] * floats[i];
            }
            break;
        default: break;
    }
}

enum { N_MODEL_OPS = 15, N_OPS = 34 };

/* Sources that suit a gradient's op, whose first is there. */
static void draw_gradient_sources(input *in, nano_graph *g, nano_op op, const nano_tensor *x, int32_t *src) {
    switch (op) {
        case NANO_OP_CROSS_ENTROPY:
        case NANO_OP_CROSS_ENTROPY_GRAD:
            src[1] = NANO_INPUT_TARGETS;
            src[2] = NANO_INPUT_WEIGHTS;
            break;
        case NANO_OP_SPREAD: src[1] = NANO_INPUT_WANTED; break;
        case NANO_OP_ROWS_GRAD:
            src[1] = draw(in) % 3;
            src[2] = draw_gradient(in, g, 2, x->ne[0], 0);
            break;
        case NANO_OP_LINEAR_GRAD_X: src[1] = draw_rows(in, g, 2, 0, x->ne[0]); break;
        case NANO_OP_LINEAR_GRAD_W:
            src[1] = draw_tensor(in, g);
            src[2] = draw_gradient(in, g, 2, g->tensors[src[1]].ne[0], x->ne[0]);
            break;
        case NANO_OP_SUM_ROWS: src[1] = draw_gradient(in, g, 1, x->ne[0], 0); break;
        case NANO_OP_SUM_PRODUCTS:
        case NANO_OP_NORM_GRAD_W:
        case NANO_OP_RMS_NORM_GRAD_W:
            src[1] = draw(in) % 2 == 0 ? src[0] : draw_tensor(in, g);
            src[2] = draw_gradient(in, g, 1, x->ne[0], 0);
            break;
        case NANO_OP_NORM_GRAD_X:
        case NANO_OP_RMS_NORM_GRAD_X:
            src[1] = draw_weight(in, g, 1, x->ne[0]);
            src[2] = draw(in) % 2 == 0 ? src[0] : draw_tensor(in, g);
            break;
        default: /* as many as may be, of the first's shape now and then */
            for (int k = 1; k < nano_op_by_number(op)->max_src; k++) {
                src[k] = draw(in) % 2 == 0 ? src[0] : draw_tensor(in, g);
            }
            break;
    }
}

/* An op, one of the first n_ops, whose sources suit it more often than chance would have it. */
static void add_op(input *in, nano_graph *g, uint32_t n_ops) {
    const nano_op_info *info = nano_op_by_number(1 + draw(in) % n_ops);
    int32_t src[NANO_MAX_SRC] = {draw_tensor(in, g), -1, -1, -1}, out = -1;
    const nano_tensor x = g->tensors[src[0]];
    int64_t ints[NANO_MAX_INTS] = {0};
    double floats[NANO_MAX_FLOATS] = {0};
    for (int32_t i = 0; i < info->max_ints; i++) {
        ints[i] = draw_int(in);
    }
    for (int32_t i = 0; i < info->max_floats; i++) {
        floats[i] = draw_float(in);
    }
    if (draw(in) < 224) {
        tame(info->op, ints, floats);
    }
    switch (info->op) {
        case NANO_OP_ROWS: src[1] = draw(in) % (n_ops == N_OPS ? 5 : 3); break; /* the inputs come first */
        case NANO_OP_LINEAR:
            src[1] = draw_weight(in, g, 2, x.ne[0]);
            src[2] = src[1] >= 0 && draw(in) % 2 == 0 ? draw_weight(in, g, 1, g->tensors[src[1]].ne[1]) : -1;
            break;
        case NANO_OP_NORM:
        case NANO_OP_RMS_NORM:
            src[1] = draw_weight(in, g, 1, x.ne[0]);
            src[2] = info->op == NANO_OP_NORM && draw(in) % 2 == 0 ? src[1] : -1;
            break;
        case NANO_OP_ROPE_TABLE:
            src[0] = NANO_INPUT_POSITIONS;
            src[1] = draw(in) % 2 == 0 ? draw_weight(in, g, 1, ints[0] / 2) : -1;
            break;
        case NANO_OP_KV_WRITE:
            if (x.n_dims == 3) {
                (void)nano_graph_cache(g, (int32_t)(draw(in) % 6), x.ne[1], x.ne[0], &src[1], NULL);
            }
            break;
        case NANO_OP_ADD:
        case NANO_OP_MUL: src[1] = draw(in) % 2 == 0 ? draw_weight(in, g, 1, x.ne[0]) : draw_tensor(in, g); break;
        default:
            if ((int)info->op > N_MODEL_OPS) {
                draw_gradient_sources(in, g, info->op, &x, src);
            } else {
                src[1] = info->max_src > 1 ? draw_tensor(in, g) : -1;
                src[2] = info->max_src > 2 ? draw_tensor(in, g) : -1;
            }
            break;
    }
    (void)nano_graph_op(g, info->name, info->max_src, src, info->max_ints, ints, info->max_floats, floats, &out, NULL);
}

/* The heads turned by their positions, now and then. */
static void turn(input *in, nano_graph *g, int64_t dim, int32_t *heads) {
    int64_t n_rot = 2 + (int64_t)(draw(in) & 14), order = draw(in) & 1;
    double freq_base = 100.0;
    int32_t table = -1;
    if (n_rot <= dim && op(g, "rope_table", NANO_INPUT_POSITIONS, -1, -1, &n_rot, 1, &freq_base, 1, &table)) {
        (void)op(g, "rope", *heads, table, -1, &order, 1, NULL, 0, heads);
    }
}

/* Heads from the newest activation, written to a pair of caches and attended to; with_gradient: and, now and then, the
 * gradient of that, given its result as that of itself. */
static void add_attention(input *in, nano_graph *g, bool with_gradient) {
    int32_t x = draw_tensor(in, g), heads = -1, q = -1, k = -1, v = -1, cache = -1;
    int64_t dim = 1 + draw(in) % 40, n_kv = 1 + draw(in) % 3, group = 1 + draw(in) % 3, layer = draw(in) % 3;
    int64_t kv[4] = {0, 2, dim, n_kv}, qs[4] = {0, 2, dim, n_kv * group}, window = draw(in) % 128;
    double floats[2] = {draw_float(in), draw(in) % 2};
    if (!op(g, "view", x, -1, -1, qs, 4, NULL, 0, &q) || !op(g, "view", x, -1, -1, kv, 4, NULL, 0, &heads)) {
        return;
    }
    turn(in, g, dim, &q);
    turn(in, g, dim, &heads);
    if (nano_graph_cache(g, (int32_t)(2 * layer), n_kv, dim, &cache, NULL) != NANO_OK ||
        !op(g, "kv_write", heads, cache, -1, NULL, 0, NULL, 0, &k) ||
        nano_graph_cache(g, (int32_t)(2 * layer + 1), n_kv, dim, &cache, NULL) != NANO_OK ||
        !op(g, "kv_write", heads, cache, -1, NULL, 0, NULL, 0, &v)) {
        return;
    }
    if (op(g, "attention", q, k, v, &window, 1, floats, 2, &x) && with_gradient && draw(in) % 2 == 0) {
        const int32_t src[NANO_MAX_SRC] = {q, k, v, x};
        (void)nano_graph_op(g, "attention_grad", NANO_MAX_SRC, src, 1, &window, 2, floats, &x, NULL);
    }
}

static bool is_output(const nano_graph *g, int32_t i) {
    return g->tensors[i].storage == NANO_STORE_TEMP && g->tensors[i].n_dims == 2 && g->tensors[i].ne[1] == NANO_DIM_W;
}

/* The newest (W, n), or one made of the newest (T, n). */
static bool choose_output(nano_graph *g) {
    int32_t out = nano_graph_n_tensors(g) - 1;
    while (out >= 0 && !is_output(g, out)) {
        out--;
    }
    for (int32_t i = nano_graph_n_tensors(g) - 1; i >= 0 && out < 0; i--) {
        (void)(g->tensors[i].op != NANO_OP_NONE && op(g, "rows", i, NANO_INPUT_WANTED, -1, NULL, 0, NULL, 0, &out));
    }
    return out >= 0 && nano_graph_set_output(g, out, NULL) == NANO_OK;
}

/* Weights of types that can be trained, as many as are drawn. */
static int32_t draw_params(input *in, const nano_graph *g, int32_t *params) {
    int32_t n = 0;
    for (int32_t i = 0; i < g->n_tensors && n < MAX_PARAMS; i++) {
        const nano_tensor *t = &g->tensors[i];
        if (t->storage == NANO_STORE_WEIGHT) {
            const nano_type type = weights[atoi(strrchr(t->name, 'w') + 1)].type;
            const bool can = type == NANO_TYPE_F32 || type == NANO_TYPE_F16 || type == NANO_TYPE_BF16;
            params[n] = i;
            n += (can || draw(in) % 32 == 0) && draw(in) % 4 != 0 ? 1 : 0;
        }
    }
    return n;
}

static nano_graph *copy_of(const nano_graph *g) {
    nano_error err = {NANO_OK, ""};
    nano_graph *copy = NULL;
    size_t size = 0;
    require(nano_graph_save(g, NULL, 0, &size, &err) == NANO_OK, "save", &err);
    uint8_t *program = malloc(size);
    require(program != NULL && nano_graph_save(g, program, size, &size, &err) == NANO_OK, "save", &err);
    require(nano_graph_load(program, size, &copy, &err) == NANO_OK, "load", &err);
    free(program);
    return copy;
}

/* A loss, in place of the output, and gradients for some weights, unless it does not depend on one. twin: the same, if
 * there are gradients, with activations kept where g has them computed again, and the other way round. */
static void train(input *in, nano_graph *g, nano_graph **twin) {
    int32_t loss = -1, params[MAX_PARAMS];
    nano_error err = {NANO_OK, ""};
    if (draw(in) % 8 == 0) {
        const double factor = draw_float(in);
        require(op(g, "sum", g->output, -1, -1, NULL, 0, &factor, 1, &loss), "sum", NULL);
    } else {
        require(nano_graph_loss(g, &loss, &err) == NANO_OK, "loss", &err);
    }
    require(nano_graph_set_output(g, loss, &err) == NANO_OK, "output", &err);
    const int32_t n = draw_params(in, g, params);
    const bool recompute = n > 0 && draw(in) % 2 == 0;
    nano_graph *other = copy_of(g);
    if (n > 0 && nano_graph_backward(g, loss, n, params, recompute, NULL) == NANO_OK) {
        require(nano_graph_backward(other, loss, n, params, !recompute, &err) == NANO_OK, "backward", &err);
        *twin = other;
    } else {
        nano_graph_free(other);
    }
}

/* Ops of models alone, or, to be trained, of gradients, too. */
static nano_graph *make_graph(input *in, bool is_training, nano_graph **twin) {
    nano_graph *g = NULL;
    int32_t at = -1;
    const int last = is_training ? NANO_INPUT_WEIGHTS : NANO_INPUT_WANTED;
    const uint32_t n_ops = is_training && draw(in) % 2 == 0 ? N_OPS : N_MODEL_OPS;
    require(nano_graph_create(&g, NULL) == NANO_OK, "graph", NULL);
    for (int i = 0; i <= last; i++) {
        require(nano_graph_input(g, (nano_input)i, &at, NULL) == NANO_OK, "input", NULL);
    }
    int64_t n = (int64_t[]){32, 33, 64, 96, 160, 256}[draw(in) % 6];
    require(op(g, "rows", draw_weight(in, g, 2, n), NANO_INPUT_TOKENS, -1, NULL, 0, NULL, 0, &at), "rows", NULL);
    for (int i = 0; i < MAX_OPS && in->size > 16; i++) {
        if (draw(in) % 4 == 0) {
            add_attention(in, g, n_ops == N_OPS);
        } else {
            add_op(in, g, n_ops);
        }
    }
    if (!choose_output(g)) {
        nano_graph_free(g);
        return NULL;
    }
    if (is_training) {
        train(in, g, twin);
    }
    return g;
}

/* Whether every cache is written once and attended to only after that: then the step's split does not matter. */
static bool is_orderly(const nano_graph *g) {
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const nano_tensor *t = &g->tensors[i];
        for (int32_t k = 0; k < i && t->op == NANO_OP_KV_WRITE; k++) {
            if (g->tensors[k].op == NANO_OP_KV_WRITE && g->tensors[k].root == t->root) {
                return false;
            }
        }
        if (t->op == NANO_OP_ATTENTION &&
            (g->tensors[t->src[1]].op != NANO_OP_KV_WRITE || g->tensors[t->src[2]].op != NANO_OP_KV_WRITE)) {
            return false;
        }
    }
    return true;
}

static nano_model *make_model(const nano_graph *g) {
    nano_error err = {NANO_OK, ""};
    nano_model *model = NULL;
    size_t size = 0;
    require(nano_graph_save(g, NULL, 0, &size, &err) == NANO_OK, "save", &err);
    uint8_t *program = malloc(size);
    require(program != NULL && nano_graph_save(g, program, size, &size, &err) == NANO_OK, "save", &err);
    require(nano_model_create(gguf, program, size, &model, &err) == NANO_OK, "model", &err);
    free(program);
    return model;
}

/* ------------------------------------------------------------------- steps */

typedef struct step {
    int32_t n;
    int32_t tokens[MAX_BATCH];
    int32_t slots[MAX_BATCH];
    uint8_t wanted[MAX_BATCH];
    int32_t targets[MAX_BATCH]; /* of wanted rows; else -1 */
    float weights[MAX_BATCH];
} step;

static int draw_steps(input *in, const nano_model *model, const nano_limits *limits, step *steps) {
    int n_steps = 1 + (int)(draw(in) % MAX_STEPS);
    int64_t n_ids = nano_min_i64(model->n_token_ids, 256), n_targets = nano_min_i64(model->n_targets, 256);
    for (int s = 0; s < n_steps; s++) {
        uint32_t pattern = draw(in), every = 1 + draw(in) % 8;
        steps[s].n = 1 + (int32_t)(draw(in) % (uint32_t)limits->n_batch);
        for (int32_t i = 0; i < steps[s].n; i++) {
            uint32_t mixed = (uint32_t)i * 2654435761u + pattern * 40503u;
            steps[s].tokens[i] = (int32_t)(mixed >> 16) % (int32_t)n_ids;
            steps[s].slots[i] = (int32_t)((uint32_t)i * pattern / 97u % (uint32_t)limits->n_slots);
            if (model->has_loss) { /* sequences */
                steps[s].slots[i] = i * limits->n_slots / steps[s].n;
            }
            steps[s].wanted[i] = (uint32_t)i % every == every - 1 ? 1 : 0;
            steps[s].targets[i] = steps[s].wanted[i] != 0 ? (int32_t)(mixed >> 8) % (int32_t)n_targets : -1;
            steps[s].weights[i] = (float)(mixed % 7) / 4.0f;
        }
    }
    return n_steps;
}

typedef struct result {
    nano_status status[MAX_STEPS];
    int32_t n_rows;
    float *rows; /* of all steps, one after the other */
} result;

static void keep(result *r, const float *logits, int32_t n_rows, int64_t n_vocab) {
    size_t row = (size_t)n_vocab * sizeof(float);
    if (n_rows == 0) {
        return;
    }
    float *rows = realloc(r->rows, (size_t)(r->n_rows + n_rows) * row);
    require(rows != NULL, "memory", NULL);
    memcpy((uint8_t *)rows + (size_t)r->n_rows * row, logits, (size_t)n_rows * row);
    r->rows = rows;
    r->n_rows += n_rows;
}

/* The losses of all steps, and the gradients that they add up to. */
static result run_training(nano_session *session, const step *steps, int n_steps) {
    result r = {{NANO_OK}, 0, NULL};
    int64_t n = 0;
    float *gradients = NULL;
    for (int s = 0; s < n_steps; s++) {
        double loss = 0.0;
        r.status[s] = nano_session_gradient(session, steps[s].n, steps[s].tokens, steps[s].slots, steps[s].targets,
                                            steps[s].weights, &loss, NULL);
        keep(&r, &(float){(float)loss}, 1, 1);
    }
    nano_session_flat(session, &n, NULL, &gradients, NULL, NULL);
    keep(&r, gradients, (int32_t)n, 1);
    return r;
}

static result run_steps(nano_session *session, const step *steps, int n_steps, const nano_model *model) {
    if (model->has_loss) {
        return run_training(session, steps, n_steps);
    }
    const int64_t n_vocab = model->n_vocab;
    result r = {{NANO_OK}, 0, NULL};
    for (int s = 0; s < n_steps; s++) {
        int32_t n_rows = 0;
        r.status[s] = nano_session_eval(session, steps[s].n, steps[s].tokens, steps[s].slots, steps[s].wanted, NULL);
        const float *logits = nano_session_logits(session, &n_rows);
        keep(&r, logits, n_rows, n_vocab);
    }
    return r;
}

/* The steps that passed, token by token. */
static result run_tokens(nano_session *session, const step *steps, int n_steps, int64_t n_vocab, const result *before) {
    result r = *before;
    r.n_rows = 0;
    r.rows = NULL;
    for (int s = 0; s < n_steps; s++) {
        for (int32_t i = 0; i < steps[s].n && before->status[s] == NANO_OK; i++) {
            int32_t n_rows = 0;
            nano_error err = {NANO_OK, ""};
            require(nano_session_eval(session, 1, &steps[s].tokens[i], &steps[s].slots[i], &steps[s].wanted[i], &err) ==
                        NANO_OK,
                    "one token", &err);
            const float *logits = nano_session_logits(session, &n_rows);
            keep(&r, logits, n_rows, n_vocab);
        }
    }
    return r;
}

static void compare(const result *a, const result *b, int64_t n_vocab, const char *what) {
    require(a->n_rows == b->n_rows && memcmp(a->status, b->status, sizeof a->status) == 0, what, NULL);
    for (int64_t i = 0; i < (int64_t)a->n_rows * n_vocab; i++) {
        bool both_nan = a->rows[i] != a->rows[i] && b->rows[i] != b->rows[i];
        require(both_nan || memcmp(&a->rows[i], &b->rows[i], sizeof a->rows[i]) == 0, what, NULL);
    }
}

static result run_spread(nano_plan *plan, const step *steps, int n_steps) {
    buffer *arena = calloc((size_t)plan->n_nodes + 1, sizeof *arena);
    buffer *caches = calloc((size_t)plan->n_nodes * 3 + 1, sizeof *caches);
    buffer parts[23];
    nano_session *session = NULL;
    nano_error err = {NANO_OK, ""};
    require(arena != NULL && caches != NULL, "memory", NULL);
    int n_arena = spread_arena(plan, arena), n_caches = spread_caches(plan, caches);
    uint64_t arena_end = n_arena > 0 ? after(&arena[n_arena - 1]) : 0;
    uint64_t caches_end = n_caches > 0 ? after(&caches[n_caches - 1]) : 0;
    int n_parts = spread_layout(plan, arena_end, caches_end, parts);
    require(nano_session_create(plan, &session, &err) == NANO_OK, "session", &err);
    uint8_t *base = (uint8_t *)session - plan->layout.session;
    forbid_between(base, parts, n_parts, plan->layout.total);
    forbid_between(base + plan->layout.arena, arena, n_arena, arena_end);
    forbid_between(base + plan->layout.cache, caches, n_caches, caches_end);
    result r = run_steps(session, steps, n_steps, plan->model);
    ASAN_UNPOISON_MEMORY_REGION(base, (size_t)plan->layout.total);
    nano_session_free(session);
    free(arena);
    free(caches);
    return r;
}

/* --------------------------------------------------------------------- run */

static nano_limits draw_limits(input *in, const nano_model *model) {
    static const int32_t contexts[] = {1, 2, 7, 33, 64, 65, 130, 200};
    static const nano_type cache_types[] = {NANO_TYPE_F16, NANO_TYPE_F32, NANO_TYPE_Q8_0, NANO_TYPE_Q4_0};
    nano_limits l = nano_limits_default();
    l.n_ctx = (int32_t)nano_min_i64(contexts[draw(in) % 8], model->n_positions);
    l.n_batch = 1 + (int32_t)(draw(in) % MAX_BATCH);
    l.n_slots = 1 + (int32_t)(draw(in) % 3);
    l.n_outputs = 1 + (int32_t)(draw(in) % 16);
    l.n_threads = 1 + (int32_t)(draw(in) % 3);
    const uint32_t modes = draw(in);
    l.importance = modes % 4 == 0;
    l.deterministic = modes / 4 % 2 == 0;
    l.type_k = cache_types[draw(in) % 4];
    l.type_v = cache_types[draw(in) % 4];
    if (model->has_gradients && draw(in) % 16 != 0) {
        l.type_k = l.type_v = NANO_TYPE_F32;
    }
    return l;
}

/* On one thread. */
static result run_twin(const nano_model *twin, const nano_limits *limits, const step *steps, int n_steps) {
    nano_error err = {NANO_OK, ""};
    nano_plan *plan = NULL;
    nano_session *session = NULL;
    require(nano_plan_create(twin, limits, &plan, &err) == NANO_OK, "plan of the twin", &err);
    require(nano_session_create(plan, &session, &err) == NANO_OK, "session of the twin", &err);
    result r = run_steps(session, steps, n_steps, twin);
    nano_session_free(session);
    nano_plan_free(plan);
    return r;
}

/* twin: NULL where there is none. */
static void run_model(input *in, const nano_model *model, const nano_model *twin) {
    step steps[MAX_STEPS];
    nano_error err = {NANO_OK, ""};
    nano_plan *plan = NULL, *apart = NULL;
    nano_session *session = NULL;
    nano_limits limits = draw_limits(in, model);
    int64_t n_vocab = model->n_vocab;
    nano_status status = nano_plan_create(model, &limits, &plan, &err);
    /* Weights and caches of some types cannot be trained. */
    require(status == NANO_OK || status == NANO_ERR_MEMORY || (status == NANO_ERR_UNSUPPORTED && model->has_gradients),
            "plan", &err);
    if (status != NANO_OK || nano_plan_memory(plan).allocated > MAX_PLANNED) {
        nano_plan_free(plan);
        return;
    }
    limits = nano_plan_limits(plan);
    int n_steps = draw_steps(in, model, &limits, steps);
    require(nano_session_create(plan, &session, &err) == NANO_OK, "session", &err);
    result first = run_steps(session, steps, n_steps, model);

    limits.n_threads = 1;
    require(nano_plan_create(model, &limits, &apart, &err) == NANO_OK, "plan", &err);
    result second = run_spread(apart, steps, n_steps);
    compare(&first, &second, n_vocab, "the plan's places or threads change the result");

    if (is_orderly(model->graph) && !plan->wide && !model->has_loss) {
        for (int32_t slot = 0; slot < limits.n_slots; slot++) {
            require(nano_session_truncate(session, slot, 0, &err) == NANO_OK, "truncate", &err);
        }
        result third = run_tokens(session, steps, n_steps, n_vocab, &first);
        compare(&first, &third, n_vocab, "the step's split or what ran before changes the result");
        free(third.rows);
    }
    if (twin != NULL) {
        result other = run_twin(twin, &limits, steps, n_steps);
        compare(&first, &other, n_vocab, "computing activations again changes the result");
        free(other.rows);
    }
    free(first.rows);
    free(second.rows);
    nano_session_free(session);
    nano_plan_free(plan);
    nano_plan_free(apart);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    if (gguf == NULL) {
        make_file();
    }
    nano_graph *twin_graph = NULL, *g = make_graph(&in, size > 0 && data[size - 1] % 2 == 1, &twin_graph);
    if (g != NULL) {
        nano_model *model = make_model(g), *twin = twin_graph == NULL ? NULL : make_model(twin_graph);
        run_model(&in, model, twin);
        nano_model_free(model);
        nano_model_free(twin);
        nano_graph_free(g);
        nano_graph_free(twin_graph);
    }
    return 0;
}
