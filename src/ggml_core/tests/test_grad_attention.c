/* The gradients of attention against a plain computation in double: windows, softcap, grouped heads, values of another
 * size than keys, several sequences of any length; the same bits however the units are divided. */
#include "tests/grad_node.h"

enum { MAX_TOKENS = 400, MAX_SEQUENCES = 3 };

typedef struct problem {
    int64_t n_head, n_head_kv, k_dim, v_dim, window;
    double scale, softcap;
    int32_t n_sequences, n[MAX_SEQUENCES]; /* tokens of each */
    int32_t n_ctx;
} problem;

/* One head's gradients of one sequence, in double, of rows q, k, v, d: added to dk and dv, set in dq. */
static void reference(const problem *p, int32_t n, const float *const rows[4], const int64_t stride[4], double *dq,
                      double *dk, double *dv) {
    const double scale = p->scale == 0.0 ? 1.0 / sqrt((double)p->k_dim) : p->scale;
    double weight[MAX_TOKENS], slope[MAX_TOKENS], back[MAX_TOKENS];
    for (int32_t i = 0; i < n; i++) {
        const int32_t from = p->window > 0 && i + 1 > p->window ? i + 1 - (int32_t)p->window : 0;
        double sum = 0.0, mean = 0.0;
        for (int32_t j = from; j <= i; j++) {
            double s = 0.0;
            for (int64_t c = 0; c < p->k_dim; c++) {
                s += scale * (double)rows[0][i * stride[0] + c] * (double)rows[1][j * stride[1] + c];
            }
            const double t = p->softcap > 0.0 ? tanh(s / p->softcap) : 0.0;
            weight[j] = exp(p->softcap > 0.0 ? p->softcap * t : s);
            slope[j] = 1.0 - t * t;
            sum += weight[j];
        }
        for (int32_t j = from; j <= i; j++) {
            weight[j] /= sum;
            back[j] = 0.0;
            for (int64_t c = 0; c < p->v_dim; c++) {
                back[j] += (double)rows[3][i * stride[3] + c] * (double)rows[2][j * stride[2] + c];
                dv[j * p->v_dim + c] += weight[j] * (double)rows[3][i * stride[3] + c];
            }
            mean += weight[j] * back[j];
        }
        memset(dq + i * p->k_dim, 0, (size_t)p->k_dim * sizeof *dq);
        for (int32_t j = from; j <= i; j++) {
            const double ds = weight[j] * (back[j] - mean) * slope[j] * scale;
            for (int64_t c = 0; c < p->k_dim; c++) {
                dq[i * p->k_dim + c] += ds * (double)rows[1][j * stride[1] + c];
                dk[j * p->k_dim + c] += ds * (double)rows[0][i * stride[0] + c];
            }
        }
    }
}

static void expect_rows(const char *what, const float *found, int64_t stride, const double *expected, int64_t n_rows,
                        int64_t n) {
    double error = 0.0, norm = 0.0;
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t c = 0; c < n; c++) {
            const double e = expected[i * n + c];
            error += ((double)found[i * stride + c] - e) * ((double)found[i * stride + c] - e);
            norm += e * e;
        }
    }
    if (!(sqrt(error) <= 3e-6 * sqrt(norm) + 1e-7)) {
        check_n_failed++;
        fprintf(stderr, "%s: off by %.3g of %.3g\n", what, sqrt(error), sqrt(norm));
    }
}

/* Caches hold numbers in every place, so that reading beyond a sequence shows. */
typedef struct setup {
    nano_step step;
    nano_node node;
    nano_tile tiles[MAX_TOKENS];
    int32_t positions[MAX_TOKENS], slots[MAX_TOKENS];
    float *q, *k, *v, *d, *k_cache, *v_cache, *out, *again;
    int64_t width;
    void *scratch;
} setup;

static void make_tiles(setup *s, const problem *p) {
    int32_t t = 0;
    for (int32_t i = 0; i < p->n_sequences; i++) {
        const int32_t slot = p->n_sequences - 1 - i; /* not in order */
        for (int32_t j = 0; j < p->n[i]; j++, t++) {
            s->positions[t] = j;
            s->slots[t] = slot;
            if (j % NANO_TILE_TOKENS == 0) {
                const int32_t left = p->n[i] - j;
                s->tiles[s->step.n_tiles++] =
                    (nano_tile){t, left < NANO_TILE_TOKENS ? left : NANO_TILE_TOKENS, slot, j};
            }
        }
    }
    s->step.n_tokens = t;
}

static nano_operand heads(const float *data, int64_t n_head, int64_t dim) {
    nano_operand o = grad_rows(data, NANO_DIM_T, dim, n_head * dim);
    o.ne[1] = n_head;
    return o;
}

static nano_operand cache(float *data, bool transposed, int64_t n_head, int64_t dim) {
    nano_operand o = grad_rows(data, 0, dim, dim);
    o.region = NANO_REGION_CACHE;
    o.ne[1] = n_head;
    o.transposed = transposed;
    return o;
}

static void write_cache(setup *s, nano_operand cache_of, float *data, nano_operand rows) {
    nano_node node = {.op = NANO_OP_KV_WRITE, .out = cache_of, .out_data = (uint8_t *)data};
    node.src[0] = rows;
    nano_forward_kv_write(&s->step, &node, 0, s->step.n_tokens, 0);
}

static void set_up(setup *s, const problem *p, const nano_kernels *kernels) {
    memset(s, 0, sizeof *s);
    s->step = (nano_step){.kernels = kernels, .n_ctx = p->n_ctx, .positions = s->positions, .slots = s->slots};
    s->step.tiles = s->tiles;
    make_tiles(s, p);
    const int64_t n = s->step.n_tokens;
    const int64_t n_places = (int64_t)p->n_sequences * p->n_head_kv * nano_cache_positions(true, p->n_ctx);
    s->width = (p->n_head + p->n_head_kv) * p->k_dim + p->n_head_kv * p->v_dim;
    s->q = grad_floats(n * p->n_head * p->k_dim);
    s->k = grad_floats(n * p->n_head_kv * p->k_dim);
    s->v = grad_floats(n * p->n_head_kv * p->v_dim);
    s->d = grad_floats(n * p->n_head * p->v_dim);
    s->k_cache = grad_floats(n_places * p->k_dim);
    s->v_cache = grad_floats(n_places * p->v_dim);
    s->out = grad_floats(n * s->width);
    s->again = grad_floats(n * s->width);
    memset(s->k_cache, 0xff, (size_t)(n_places * p->k_dim) * sizeof(float)); /* not numbers */
    memset(s->v_cache, 0xff, (size_t)(n_places * p->v_dim) * sizeof(float));
    s->node.op = NANO_OP_ATTENTION_GRAD;
    s->node.src[0] = heads(s->q, p->n_head, p->k_dim);
    s->node.src[1] = cache(s->k_cache, true, p->n_head_kv, p->k_dim);
    s->node.src[2] = cache(s->v_cache, false, p->n_head_kv, p->v_dim);
    s->node.src[3] = grad_rows(s->d, NANO_DIM_T, p->n_head * p->v_dim, p->n_head * p->v_dim);
    s->node.params.ints[0] = p->window;
    s->node.params.floats[0] = p->scale;
    s->node.params.floats[1] = p->softcap;
    grad_out(&s->node, s->out, NANO_DIM_T, s->width, s->width);
    write_cache(s, s->node.src[1], s->k_cache, heads(s->k, p->n_head_kv, p->k_dim));
    write_cache(s, s->node.src[2], s->v_cache, heads(s->v, p->n_head_kv, p->v_dim));
    const int64_t longest = n < p->n_ctx ? n : p->n_ctx;
    s->scratch = malloc((size_t)nano_attention_grad_scratch(&s->node, longest));
    s->step.scratch = s->scratch;
}

static void take_down(setup *s) {
    void *all[] = {s->q, s->k, s->v, s->d, s->k_cache, s->v_cache, s->out, s->again, s->scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
}

static void test_problem(const nano_kernels *kernels, const problem *p) {
    static setup s;
    set_up(&s, p, kernels);
    grad_run(&s.step, &s.node, nano_units_attention_grad, nano_forward_attention_grad, INT64_MAX);
    const int64_t group = p->n_head / p->n_head_kv;
    int64_t t = 0;
    for (int32_t i = 0; i < p->n_sequences; t += p->n[i++]) {
        for (int64_t g = 0; g < p->n_head_kv; g++) {
            double *dq = malloc((size_t)(p->n[i] * p->k_dim) * sizeof *dq);
            double *dk = calloc((size_t)(p->n[i] * p->k_dim), sizeof *dk);
            double *dv = calloc((size_t)(p->n[i] * p->v_dim), sizeof *dv);
            const float *out = s.out + t * s.width;
            for (int64_t h = g * group; h < (g + 1) * group; h++) {
                const int64_t stride[4] = {p->n_head * p->k_dim, p->n_head_kv * p->k_dim, p->n_head_kv * p->v_dim,
                                           p->n_head * p->v_dim};
                const float *const rows[4] = {s.q + t * stride[0] + h * p->k_dim, s.k + t * stride[1] + g * p->k_dim,
                                              s.v + t * stride[2] + g * p->v_dim, s.d + t * stride[3] + h * p->v_dim};
                reference(p, p->n[i], rows, stride, dq, dk, dv);
                expect_rows("dq", out + h * p->k_dim, s.width, dq, p->n[i], p->k_dim);
            }
            expect_rows("dk", out + (p->n_head + g) * p->k_dim, s.width, dk, p->n[i], p->k_dim);
            expect_rows("dv", out + (p->n_head + p->n_head_kv) * p->k_dim + g * p->v_dim, s.width, dv, p->n[i],
                        p->v_dim);
            free(dq);
            free(dk);
            free(dv);
        }
    }
    s.node.out_data = (uint8_t *)s.again;
    grad_run(&s.step, &s.node, nano_units_attention_grad, nano_forward_attention_grad, 1);
    CHECK(memcmp(s.out, s.again, (size_t)(s.step.n_tokens * s.width) * sizeof *s.out) == 0);
    take_down(&s);
}

int main(void) {
    static const problem problems[] = {
        {1, 1, 1, 1, 0, 0.0, 0.0, 1, {1, 0, 0}, 1},         {2, 1, 16, 16, 0, 0.0, 0.0, 2, {33, 5, 0}, 40},
        {4, 2, 64, 64, 0, 0.0, 0.0, 1, {150, 0, 0}, 150},   {6, 2, 20, 36, 0, 0.3, 0.0, 3, {65, 1, 64}, 100},
        {3, 3, 48, 48, 10, 0.0, 0.0, 2, {140, 70, 0}, 200}, {2, 2, 24, 8, 70, 0.0, 0.0, 1, {200, 0, 0}, 256},
        {2, 1, 33, 17, 0, 0.5, 2.0, 2, {90, 31, 0}, 90},    {4, 1, 80, 80, 40, 0.4, 1.5, 1, {130, 0, 0}, 512},
    };
    char levels[256];
    snprintf(levels, sizeof levels, "%s", nano_cpu_levels());
    for (char *level = strtok(levels, ","); level != NULL; level = strtok(NULL, ",")) {
        for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
            test_problem(nano_kernels_at(level), &problems[i]);
        }
    }
    return check_result();
}
