/*
 * Programs that load must run: graphs drawn from the input, over a small file with weights of every type, are planned
 * and evaluated three times:
 *
 *   as planned, with some threads;
 *   on one thread, every buffer moved to a place of its own with (under AddressSanitizer) forbidden bytes around it;
 *   where the graph treats its caches as a model does, token by token in a session that has been used before.
 *
 * Each must give the same bits. Nothing may be read or written outside its buffer.
 */
#include "base/arith.h"
#include "cpu/kernels.h"
#include "graph/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define WITH_ASAN 1
#  endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#  define WITH_ASAN 1
#endif
#if defined(WITH_ASAN)
#  include <sanitizer/asan_interface.h>
#else
#  define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#  define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MAX_WEIGHTS = 128,
    FILE_BYTES = 1 << 20,
    GAP = 128, /* forbidden bytes after a buffer, at least; a multiple of NANO_CACHE_LINE */
    MAX_OPS = 32,
    MAX_STEPS = 3,
    MAX_BATCH = 80,
    MAX_PLANNED = 32 << 20 /* larger plans are not run */
};

static void require(bool condition, const char *what, const nano_error *err) {
    if (!condition) {
        fprintf(stderr, "fuzz_graph: %s: %s\n", what, err != NULL ? err->message : "");
        abort();
    }
}

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
    snprintf(w->name, sizeof w->name, "w%d", n_weights++);
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

/* A weight with n_dims dims, the innermost n; -1 when there is none. */
static int32_t draw_weight(input *in, nano_graph *g, int32_t n_dims, int64_t n) {
    int first = (int)draw(in);
    int32_t out = -1;
    for (int i = 0; i < n_weights && out < 0; i++) {
        const weight *w = &weights[(first + i) % n_weights];
        if (w->n_dims == n_dims && w->ne[0] == n) {
            require(nano_graph_weight(g, w->name, n_dims, w->ne, &out, NULL) == NANO_OK, "weight", NULL);
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
        case NANO_OP_ROPE: ints[0] = ints[0] & 1; break;
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

/* An op whose sources suit it more often than chance would have it. */
static void add_op(input *in, nano_graph *g) {
    const nano_op_info *info = nano_op_by_number(1 + draw(in) % 15);
    int32_t src[3] = {draw_tensor(in, g), -1, -1}, out = -1;
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
        case NANO_OP_ROWS: src[1] = draw(in) % 3; break; /* the inputs come first */
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
            src[1] = info->max_src > 1 ? draw_tensor(in, g) : -1;
            src[2] = info->max_src > 2 ? draw_tensor(in, g) : -1;
            break;
    }
    if (info->max_src < 3) {
        src[2] = -1;
    }
    (void)op(g, info->name, src[0], src[1], src[2], ints, info->max_ints, floats, info->max_floats, &out);
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

/* Heads from the newest activation, written to a pair of caches and attended to. */
static void add_attention(input *in, nano_graph *g) {
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
    (void)op(g, "attention", q, k, v, &window, 1, floats, 2, &x);
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

static nano_graph *make_graph(input *in) {
    static const nano_input kinds[] = {NANO_INPUT_TOKENS, NANO_INPUT_POSITIONS, NANO_INPUT_WANTED};
    nano_graph *g = NULL;
    int32_t at = -1;
    require(nano_graph_create(&g, NULL) == NANO_OK, "graph", NULL);
    for (int i = 0; i < 3; i++) {
        require(nano_graph_input(g, kinds[i], &at, NULL) == NANO_OK, "input", NULL);
    }
    int64_t n = (int64_t[]){32, 33, 64, 96, 160, 256}[draw(in) % 6];
    require(op(g, "rows", draw_weight(in, g, 2, n), NANO_INPUT_TOKENS, -1, NULL, 0, NULL, 0, &at), "rows", NULL);
    for (int i = 0; i < MAX_OPS && in->size > 16; i++) {
        if (draw(in) % 4 == 0) {
            add_attention(in, g);
        } else {
            add_op(in, g);
        }
    }
    if (!choose_output(g)) {
        nano_graph_free(g);
        return NULL;
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
} step;

static int draw_steps(input *in, const nano_model *model, const nano_limits *limits, step *steps) {
    int n_steps = 1 + (int)(draw(in) % MAX_STEPS);
    int64_t n_ids = model->n_token_ids < 256 ? model->n_token_ids : 256;
    for (int s = 0; s < n_steps; s++) {
        uint32_t pattern = draw(in), every = 1 + draw(in) % 8;
        steps[s].n = 1 + (int32_t)(draw(in) % (uint32_t)limits->n_batch);
        for (int32_t i = 0; i < steps[s].n; i++) {
            uint32_t mixed = (uint32_t)i * 2654435761u + pattern * 40503u;
            steps[s].tokens[i] = (int32_t)(mixed >> 16) % (int32_t)n_ids;
            steps[s].slots[i] = (int32_t)((uint32_t)i * pattern / 97u % (uint32_t)limits->n_slots);
            steps[s].wanted[i] = (uint32_t)i % every == every - 1 ? 1 : 0;
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

static result run_steps(nano_session *session, const step *steps, int n_steps, int64_t n_vocab) {
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

/* ------------------------------------------------------------------ spread */

typedef struct buffer {
    uint64_t from; /* offset in the plan */
    uint64_t to;   /* offset now */
    uint64_t size;
} buffer;

static uint64_t rows_of(const nano_plan *plan, const nano_operand *o) {
    uint64_t rows = (uint64_t)(o->rows == NANO_DIM_T   ? plan->limits.n_batch
                               : o->rows == NANO_DIM_W ? plan->limits.n_outputs
                                                       : o->rows);
    /* wide kernels fill up the last group of columns */
    return plan->wide && o->type == NANO_TYPE_A8 ? (rows + NANO_WIDE_GROUP - 1) / NANO_WIDE_GROUP * NANO_WIDE_GROUP
                                                 : rows;
}

static uint64_t cache_bytes(const nano_plan *plan, const nano_operand *o) {
    return (uint64_t)nano_cache_slot_bytes(o, plan->limits.n_ctx) * (uint64_t)plan->limits.n_slots;
}

static uint64_t after(const buffer *b) { return (b->to + b->size + 2 * GAP - 1) / GAP * GAP; }

/* Moves an operand to where its buffer now is: the newest at that place. */
static void move(nano_operand *o, const buffer *buffers, int n) {
    for (int i = n - 1; i >= 0; i--) {
        if (o->offset >= buffers[i].from && o->offset < buffers[i].from + buffers[i].size) {
            o->offset = buffers[i].to + (o->offset - buffers[i].from);
            return;
        }
    }
    require(false, "a source that no node has written", NULL);
}

static int spread_arena(nano_plan *plan, buffer *out) {
    int n = 0;
    for (int32_t i = 0; i < plan->n_nodes; i++) {
        nano_node *node = &plan->nodes[i];
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            if (node->src[k].region == NANO_REGION_ARENA) {
                move(&node->src[k], out, n);
            }
        }
        if (node->out.region == NANO_REGION_ARENA) {
            uint64_t size = node->out.row_bytes * rows_of(plan, &node->out);
            out[n] = (buffer){node->out.offset, n > 0 ? after(&out[n - 1]) : 0, size};
            node->out.offset = out[n++].to;
        }
    }
    return n;
}

static int spread_caches(nano_plan *plan, buffer *out) {
    int n = 0;
    for (int32_t i = 0; i < plan->n_nodes; i++) {
        for (int k = -1; k < NANO_MAX_SRC; k++) {
            nano_operand *o = k < 0 ? &plan->nodes[i].out : &plan->nodes[i].src[k];
            int known = 0;
            while (o->region == NANO_REGION_CACHE && known < n && out[known].from != o->offset) {
                known++;
            }
            if (o->region == NANO_REGION_CACHE) {
                if (known == n) {
                    out[n] = (buffer){o->offset, n > 0 ? after(&out[n - 1]) : 0, cache_bytes(plan, o)};
                    n++;
                }
                o->offset = out[known].to;
            }
        }
    }
    return n;
}

/* Gives a part of the one allocation its new place. */
static void place(uint64_t *part, uint64_t size, uint64_t *end, buffer *parts, int *n) {
    parts[*n] = (buffer){*part, *end, size};
    *part = *end;
    *end = after(&parts[(*n)++]);
}

static int spread_layout(nano_plan *plan, uint64_t arena, uint64_t cache, buffer *parts) {
    nano_layout *l = &plan->layout;
    const nano_layout before = *l;
    const nano_limits *limits = &plan->limits;
    uint64_t end = 0, batch = (uint64_t)limits->n_batch, slots = (uint64_t)limits->n_slots;
    uint64_t outputs = (uint64_t)limits->n_outputs;
    int n = 0;
    place(&l->session, before.nodes - before.session, &end, parts, &n);
    place(&l->nodes, (uint64_t)plan->n_nodes * sizeof(nano_node), &end, parts, &n);
    place(&l->stages, ((uint64_t)plan->n_stages + 1) * sizeof(int32_t), &end, parts, &n);
    place(&l->groups, before.tokens - before.groups, &end, parts, &n);
    place(&l->tokens, batch * sizeof(int32_t), &end, parts, &n);
    place(&l->positions, batch * sizeof(int32_t), &end, parts, &n);
    place(&l->wanted, outputs * sizeof(int32_t), &end, parts, &n);
    place(&l->slots, batch * sizeof(int32_t), &end, parts, &n);
    place(&l->n_past, slots * sizeof(int32_t), &end, parts, &n);
    place(&l->advance, slots * sizeof(int32_t), &end, parts, &n);
    place(&l->tiles, batch * sizeof(nano_tile), &end, parts, &n);
    place(&l->pool, before.cache - before.pool, &end, parts, &n);
    place(&l->cache, cache, &end, parts, &n);
    place(&l->arena, arena, &end, parts, &n);
    place(&l->outputs, outputs * (uint64_t)plan->model->n_vocab * sizeof(float), &end, parts, &n);
    place(&l->importance, l->importance_bytes, &end, parts, &n);
    place(&l->importance_before, l->importance_bytes, &end, parts, &n);
    place(&l->scratch, (uint64_t)nano_limits_most_threads(limits) * l->scratch_stride, &end, parts, &n);
    l->total = end;
    return n;
}

static void forbid_between(uint8_t *base, const buffer *buffers, int n, uint64_t end) {
    for (int i = 0; i < n; i++) {
        uint64_t from = buffers[i].to + buffers[i].size, to = i + 1 < n ? buffers[i + 1].to : end;
        ASAN_POISON_MEMORY_REGION(base + from, (size_t)(to - from));
    }
}

static result run_spread(nano_plan *plan, const step *steps, int n_steps) {
    buffer *arena = calloc((size_t)plan->n_nodes + 1, sizeof *arena);
    buffer *caches = calloc((size_t)plan->n_nodes * 3 + 1, sizeof *caches);
    buffer parts[18];
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
    result r = run_steps(session, steps, n_steps, plan->model->n_vocab);
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
    return l;
}

static void run_model(input *in, const nano_model *model) {
    step steps[MAX_STEPS];
    nano_error err = {NANO_OK, ""};
    nano_plan *plan = NULL, *apart = NULL;
    nano_session *session = NULL;
    nano_limits limits = draw_limits(in, model);
    int64_t n_vocab = model->n_vocab;
    nano_status status = nano_plan_create(model, &limits, &plan, &err);
    require(status == NANO_OK || status == NANO_ERR_MEMORY, "plan", &err);
    if (status != NANO_OK || nano_plan_memory(plan).allocated > MAX_PLANNED) {
        nano_plan_free(plan);
        return;
    }
    limits = nano_plan_limits(plan);
    int n_steps = draw_steps(in, model, &limits, steps);
    require(nano_session_create(plan, &session, &err) == NANO_OK, "session", &err);
    result first = run_steps(session, steps, n_steps, n_vocab);

    limits.n_threads = 1;
    require(nano_plan_create(model, &limits, &apart, &err) == NANO_OK, "plan", &err);
    result second = run_spread(apart, steps, n_steps);
    compare(&first, &second, n_vocab, "the plan's places or threads change the result");

    if (is_orderly(model->graph) && !plan->wide) {
        for (int32_t slot = 0; slot < limits.n_slots; slot++) {
            require(nano_session_truncate(session, slot, 0, &err) == NANO_OK, "truncate", &err);
        }
        result third = run_tokens(session, steps, n_steps, n_vocab, &first);
        compare(&first, &third, n_vocab, "the step's split or what ran before changes the result");
        free(third.rows);
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
    nano_graph *g = make_graph(&in);
    if (g != NULL) {
        nano_model *model = make_model(g);
        run_model(&in, model);
        nano_model_free(model);
        nano_graph_free(g);
    }
    return 0;
}
