/*
 * Ops of losses and gradients that are not products of matrices: each at every level against the same in double, over
 * random shapes with odd ends, rows apart and side by side, several groups; in pieces in any order with the same bits;
 * over a source where the op's row says that it may lie there. Nothing between rows is touched.
 */
#include "cpu/exec.h"

#include <math.h>
#include <stdlib.h>

#include "base/arith.h"
#include "tests/check.h"

enum { POOL = 1 << 21, MAX_ROWS = 70, MAX_N = 700, N_ROUNDS = 40, MAX_UNITS = 256 };

static const struct {
    nano_units_fn *units;
    nano_forward_fn *forward;
} table[] = {
#define NANO_OP(NAME, name, number, min_src, max_src, n_ints, n_floats, in_place) \
    [number] = {nano_units_##name, nano_forward_##name},
#include "graph/ops.inc"
#undef NANO_OP
};

static float pool[POOL];
static size_t pool_used;
static uint8_t scratch[1 << 16];
static uint64_t random_state = 1;
static const nano_kernels *kernels;

static uint32_t next_random(void) {
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(random_state >> 33);
}
static int64_t pick(int64_t lo, int64_t hi) { return lo + (int64_t)(next_random() % (uint32_t)(hi - lo + 1)); }
static float number(void) { return ((float)next_random() / 1073741824.0f - 1.0f) * 2.0f; }

/* ---------------------------------------------------------------- operands */

static float *row_of(const nano_operand *o, int64_t row) {
    return pool + o->offset + (size_t)row * o->row_bytes / sizeof(float);
}

/* f32 rows of groups of n, some elements apart. */
static nano_operand rows(int64_t symbol, int64_t n_rows, int64_t groups, int64_t n, bool apart) {
    const int64_t stride = groups * n + (apart ? pick(1, 9) : 0);
    nano_operand o = {.region = NANO_REGION_ARENA,
                      .type = NANO_TYPE_F32,
                      .rows = symbol,
                      .ne = {n, groups},
                      .row_bytes = (size_t)stride * sizeof(float),
                      .offset = pool_used};
    for (int64_t i = 0; i < n_rows * stride; i++) {
        pool[pool_used + (size_t)i] = number();
    }
    pool_used += (size_t)(n_rows * stride);
    if (pool_used > POOL) {
        fprintf(stderr, "the pool is too small\n");
        abort();
    }
    o.data = (const uint8_t *)row_of(&o, 0);
    return o;
}

static nano_operand vector(int64_t n) {
    nano_operand o = rows(1, 1, 1, n, false);
    o.region = NANO_REGION_FILE;
    return o;
}

static nano_operand input(const void *data) {
    return (nano_operand){.region = NANO_REGION_INPUT, .type = NANO_TYPE_I32, .data = data};
}

static double at(const nano_operand *o, int64_t row, int64_t group, int64_t i) {
    return (double)row_of(o, row)[group * o->ne[0] + i];
}

static double near(double found, double expected, double size) {
    return fabs(found - expected) <= 1e-5 * (1.0 + size) ? 0.0 : 1.0; /* NaN is not near */
}

/* One op over some rows. */
typedef struct test {
    const char *name;
    nano_step step;
    nano_node node;
    int64_t n_rows; /* of the output */
} test;

static test make(const char *name, int32_t n_tokens, int32_t n_wanted) {
    test t = {.name = name};
    const nano_op_info *info = nano_op_by_name(name);
    CHECK(info != NULL);
    t.node.op = info != NULL ? info->op : NANO_OP_NONE;
    t.step.kernels = kernels;
    t.step.n_tokens = n_tokens;
    t.step.n_wanted = n_wanted;
    t.step.scratch = scratch;
    t.step.scratch_stride = sizeof scratch;
    return t;
}

static void set_out(test *t, nano_operand out) {
    t->node.out = out;
    t->node.out_data = (uint8_t *)row_of(&out, 0);
    t->n_rows = nano_step_rows(&t->step, &out);
}

/* All units, by the piece, the pieces in any order. */
static void run(test *t, nano_units_fn *units_fn, nano_forward_fn *forward, bool whole) {
    static const nano_plan plan; /* of no wide kernels */
    int64_t starts[MAX_UNITS + 1], n = 0;
    const int64_t units = units_fn(&t->step, &t->node);
    CHECK(units <= MAX_UNITS && nano_node_scratch(&plan, &t->node, t->n_rows) <= sizeof scratch);
    for (int64_t u = 0; u < units && n < MAX_UNITS; u += whole ? units : pick(1, 5)) {
        starts[n++] = u;
    }
    starts[n] = units;
    int64_t order[MAX_UNITS];
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = pick(0, i);
        order[i] = order[k];
        order[k] = i;
    }
    for (int64_t i = 0; i < n; i++) {
        forward(&t->step, &t->node, starts[order[i]], starts[order[i] + 1], 0);
    }
}

static size_t out_floats(const test *t) {
    return (size_t)(t->n_rows - 1) * t->node.out.row_bytes / sizeof(float) +
           (size_t)(t->node.out.ne[0] * t->node.out.ne[1]);
}

/* Runs the op whole, in pieces, and in place wherever its row allows it: the same bits each time, and nothing changed
 * between the rows of its output. */
static void run_all_ways(test *t) {
    static float before[POOL / 8], first[POOL / 8];
    const size_t n = out_floats(t), bytes = n * sizeof(float);
    const int64_t row = t->node.out.ne[0] * t->node.out.ne[1];
    const nano_op_info *info = nano_op_by_name(t->name);
    float *out = row_of(&t->node.out, 0);
    CHECK(n <= sizeof before / sizeof before[0]);
    memcpy(before, out, bytes);
    run(t, table[t->node.op].units, table[t->node.op].forward, true);
    memcpy(first, out, bytes);
    memcpy(out, before, bytes);
    run(t, table[t->node.op].units, table[t->node.op].forward, false);
    CHECK(memcmp(first, out, bytes) == 0);
    for (size_t i = 0; i < n; i++) {
        const bool between = (int64_t)(i % (t->node.out.row_bytes / sizeof(float))) >= row;
        CHECK(!between || memcmp(&before[i], &first[i], sizeof first[i]) == 0);
    }
    for (int k = 0; k < NANO_MAX_SRC; k++) {
        nano_operand *src = &t->node.src[k];
        if ((info->in_place >> k & 1) == 0 || src->row_bytes != t->node.out.row_bytes) {
            continue;
        }
        const nano_operand apart = *src;
        memcpy(out, row_of(src, 0), bytes);
        src->data = t->node.out_data;
        run(t, table[t->node.op].units, table[t->node.op].forward, false);
        for (int64_t r = 0; r < t->n_rows; r++) {
            const size_t from = (size_t)r * t->node.out.row_bytes / sizeof(float);
            CHECK(memcmp(first + from, out + from, (size_t)row * sizeof(float)) == 0);
        }
        *src = apart;
        memcpy(out, first, bytes);
    }
}

static void report(const test *t, int n_wrong) {
    if (n_wrong > 0) {
        check_n_failed++;
        fprintf(stderr, "level %s, %s: %d elements are wrong\n", nano_kernels_name(kernels), t->name, n_wrong);
    }
}

/* The shape of a round. */
typedef struct shape {
    int32_t n_rows;
    int64_t groups, n;
    bool apart;
} shape;

static shape draw_shape(void) {
    const int64_t n = pick(0, 3) == 0 ? pick(1, MAX_N) : pick(1, 70);
    return (shape){(int32_t)pick(1, MAX_ROWS), n > 100 ? 1 : pick(1, 3), n, pick(0, 1) == 0};
}

static nano_operand activation(const shape *s) { return rows(NANO_DIM_T, s->n_rows, s->groups, s->n, s->apart); }

/* -------------------------------------------------------- element by element */

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static double gelu_slope(double x) {
    const double c = sqrt(2.0 / 3.14159265358979323846), t = tanh(c * (x + 0.044715 * x * x * x));
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x);
}

static double silu_slope(double x) { return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))); }

static void test_unary(const char *name, double (*slope)(double x)) {
    const shape s = draw_shape();
    test t = make(name, s.n_rows, 0);
    int wrong = 0;
    t.node.src[0] = activation(&s);
    t.node.src[1] = activation(&s);
    set_out(&t, rows(NANO_DIM_T, s.n_rows, s.groups, s.n, false));
    run_all_ways(&t);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < s.groups * s.n; i++) {
            const double expected = slope(at(&t.node.src[0], r, 0, i)) * at(&t.node.src[1], r, 0, i);
            wrong += near(at(&t.node.out, r, 0, i), expected, fabs(expected)) != 0.0;
        }
    }
    report(&t, wrong);
}

static void test_swiglu(void) {
    const shape s = draw_shape();
    const int64_t n = s.groups * s.n;
    test t = make("swiglu_grad", s.n_rows, 0);
    int wrong = 0;
    for (int k = 0; k < 3; k++) {
        t.node.src[k] = activation(&s);
    }
    set_out(&t, rows(NANO_DIM_T, s.n_rows, 1, 2 * n, false));
    run_all_ways(&t);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < n; i++) {
            const double gate = at(&t.node.src[0], r, 0, i), up = at(&t.node.src[1], r, 0, i),
                         d = at(&t.node.src[2], r, 0, i);
            wrong += near(at(&t.node.out, r, 0, i), silu_slope(gate) * up * d, fabs(up * d)) != 0.0;
            wrong += near(at(&t.node.out, r, 0, n + i), gate * sigmoid(gate) * d, fabs(gate * d)) != 0.0;
        }
    }
    report(&t, wrong);
}

static void test_fill(void) {
    const shape s = draw_shape();
    test t = make("fill", s.n_rows, 0);
    int wrong = 0;
    t.node.src[0] = activation(&s);
    t.node.params.floats[0] = (double)number();
    set_out(&t, rows(NANO_DIM_T, s.n_rows, s.groups, s.n, false));
    run_all_ways(&t);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < s.groups * s.n; i++) {
            wrong += at(&t.node.out, r, 0, i) != t.node.params.floats[0];
        }
    }
    report(&t, wrong);
}

/* ------------------------------------------------------------------- norms */

/* x^ = (x - mean) factor; the mean is 0 for rms_norm. */
typedef struct normal {
    double mean, factor;
} normal;

static normal normal_of(const nano_operand *x, int64_t row, int64_t group, bool centred, double eps) {
    normal m = {0.0, 0.0};
    double squares = 0.0;
    const int64_t n = x->ne[0];
    for (int64_t i = 0; i < n && centred; i++) {
        m.mean += at(x, row, group, i) / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        squares += pow(at(x, row, group, i) - m.mean, 2.0);
    }
    m.factor = 1.0 / sqrt(squares / (double)n + eps);
    return m;
}

static void test_norm_x(const char *name, bool centred) {
    const shape s = draw_shape();
    test t = make(name, s.n_rows, 0);
    int wrong = 0;
    const double eps = t.node.params.floats[0] = pick(0, 1) == 0 ? 1e-5 : 0.125;
    t.node.src[0] = activation(&s);
    t.node.src[1] = vector(s.n);
    t.node.src[2] = activation(&s);
    set_out(&t, rows(NANO_DIM_T, s.n_rows, s.groups, s.n, false));
    run_all_ways(&t);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t g = 0; g < s.groups; g++) {
            const normal m = normal_of(&t.node.src[0], r, g, centred, eps);
            double mean_g = 0.0, dot = 0.0;
            for (int64_t i = 0; i < s.n; i++) {
                const double gi = at(&t.node.src[1], 0, 0, i) * at(&t.node.src[2], r, g, i);
                mean_g += centred ? gi / (double)s.n : 0.0;
                dot += gi * (at(&t.node.src[0], r, g, i) - m.mean) * m.factor / (double)s.n;
            }
            for (int64_t i = 0; i < s.n; i++) {
                const double gi = at(&t.node.src[1], 0, 0, i) * at(&t.node.src[2], r, g, i);
                const double x = (at(&t.node.src[0], r, g, i) - m.mean) * m.factor;
                const double expected = m.factor * (gi - mean_g - x * dot);
                wrong += near(at(&t.node.out, r, g, i), expected, 4.0 * m.factor) != 0.0;
            }
        }
    }
    report(&t, wrong);
}

/* ------------------------------------------------------------- sums of rows */

/* What element i of a line adds to the sum. */
static double term(const test *t, int64_t row, int64_t group, int64_t i) {
    const nano_operand *a = &t->node.src[0], *b = &t->node.src[1];
    switch (t->node.op) {
        case NANO_OP_SUM_ROWS: return at(a, row, group, i);
        case NANO_OP_SUM_PRODUCTS: return at(a, row, group, i) * at(b, row, group, i);
        default: {
            const normal m = normal_of(a, row, group, t->node.op == NANO_OP_NORM_GRAD_W, t->node.params.floats[0]);
            return at(b, row, group, i) * (at(a, row, group, i) - m.mean) * m.factor;
        }
    }
}

static void test_into(const char *name) {
    const shape s = draw_shape();
    test t = make(name, s.n_rows, 0);
    int wrong = 0;
    double before[MAX_N];
    t.node.params.floats[0] = 1e-5;
    t.node.src[0] = activation(&s);
    t.node.src[1] = activation(&s);
    set_out(&t, rows(1, 1, 1, s.n, false));
    for (int64_t i = 0; i < s.n; i++) {
        before[i] = at(&t.node.out, 0, 0, i);
    }
    run_all_ways(&t);
    for (int64_t i = 0; i < s.n; i += s.n > 100 ? 7 : 1) {
        double sum = before[i], size = fabs(sum);
        for (int64_t r = 0; r < s.n_rows; r++) {
            for (int64_t g = 0; g < s.groups; g++) {
                const double x = term(&t, r, g, i);
                sum += x;
                size += fabs(x);
            }
        }
        wrong += near(at(&t.node.out, 0, 0, i), sum, size / 4.0) != 0.0;
    }
    report(&t, wrong);
}

/* ----------------------------------------------------------- rows by number */

static void test_rows_grad(void) {
    enum { N_TABLE = 11 };
    const shape s = draw_shape();
    test t = make("rows_grad", s.n_rows, 0);
    int32_t index[MAX_ROWS];
    static double expected[N_TABLE * MAX_N];
    int wrong = 0;
    for (int i = 0; i < s.n_rows; i++) {
        index[i] = (int32_t)pick(0, N_TABLE - 1);
    }
    t.node.src[0] = rows(NANO_DIM_T, s.n_rows, 1, s.n, s.apart);
    t.node.src[1] = input(index);
    set_out(&t, rows(N_TABLE, N_TABLE, 1, s.n, false));
    for (int64_t r = 0; r < N_TABLE; r++) {
        for (int64_t i = 0; i < s.n; i++) {
            expected[r * s.n + i] = at(&t.node.out, r, 0, i);
        }
    }
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < s.n; i++) {
            expected[index[r] * s.n + i] += at(&t.node.src[0], r, 0, i);
        }
    }
    run_all_ways(&t);
    for (int64_t i = 0; i < N_TABLE * s.n; i++) {
        wrong += near(at(&t.node.out, i / s.n, 0, i % s.n), expected[i], fabs(expected[i])) != 0.0;
    }
    report(&t, wrong);
}

static void test_spread(void) {
    const shape s = draw_shape();
    test t = make("spread", s.n_rows, 0);
    int32_t wanted[MAX_ROWS], place[MAX_ROWS];
    int wrong = 0;
    for (int32_t i = 0; i < s.n_rows; i++) {
        place[i] = pick(0, 2) == 0 ? -1 : t.step.n_wanted;
        if (place[i] >= 0) {
            wanted[t.step.n_wanted++] = i;
        }
    }
    t.node.src[0] = rows(NANO_DIM_W, t.step.n_wanted, 1, s.n, s.apart);
    t.node.src[1] = input(wanted);
    set_out(&t, rows(NANO_DIM_T, s.n_rows, 1, s.n, false));
    run_all_ways(&t);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < s.n; i++) {
            wrong += at(&t.node.out, r, 0, i) != (place[r] < 0 ? 0.0 : at(&t.node.src[0], place[r], 0, i));
        }
    }
    report(&t, wrong);
}

static void test_join(void) {
    const shape s = draw_shape();
    test t = make("join", s.n_rows, 0);
    const int n = (int)pick(1, NANO_MAX_SRC);
    int64_t size = pick(0, 3);
    int wrong = 0;
    for (int k = n - 1; k >= 0; k--) {
        t.node.src[k] = rows(NANO_DIM_T, s.n_rows, pick(1, 3), pick(1, 40), s.apart);
        t.node.params.ints[1 + k] = size;
        size += t.node.src[k].ne[0] * t.node.src[k].ne[1] + pick(0, 1) * pick(0, 9);
    }
    t.node.params.ints[0] = size;
    set_out(&t, rows(NANO_DIM_T, s.n_rows, 1, size, false));
    run_all_ways(&t);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < size; i++) {
            double expected = 0.0;
            for (int k = 0; k < n; k++) {
                const int64_t in = i - t.node.params.ints[1 + k];
                if (in >= 0 && in < t.node.src[k].ne[0] * t.node.src[k].ne[1]) {
                    expected = at(&t.node.src[k], r, 0, in);
                }
            }
            wrong += at(&t.node.out, r, 0, i) != expected;
        }
    }
    report(&t, wrong);
}

/* Turned and turned back is as before; a turn back is the transposed of a turn. */
static void test_rope(void) {
    const shape s = draw_shape();
    const int64_t n = s.n + 2, n_rot = 2 * pick(1, n / 2);
    test t = make("rope", s.n_rows, 0);
    int wrong = 0;
    t.node.params.ints[0] = pick(0, 1);
    t.node.params.ints[1] = 1;
    t.node.src[0] = rows(NANO_DIM_T, s.n_rows, s.groups, n, s.apart);
    t.node.src[1] = rows(NANO_DIM_T, s.n_rows, 1, n_rot, false);
    set_out(&t, rows(NANO_DIM_T, s.n_rows, s.groups, n, false));
    run_all_ways(&t);
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < s.groups * n; i++) {
            const int64_t g = i / n, k = i % n;
            const bool halves = t.node.params.ints[0] == NANO_ROPE_HALVES;
            const int64_t angle = halves ? k % (n_rot / 2) : k / 2;
            const bool is_first = halves ? k < n_rot / 2 : k % 2 == 0;
            const int64_t other = halves ? (is_first ? k + n_rot / 2 : k - n_rot / 2) : k ^ 1;
            double expected = at(&t.node.src[0], r, g, k);
            if (k < n_rot) {
                const double c = at(&t.node.src[1], r, 0, 2 * angle), sine = at(&t.node.src[1], r, 0, 2 * angle + 1);
                expected = expected * c + (is_first ? sine : -sine) * at(&t.node.src[0], r, g, other);
            }
            wrong += near(at(&t.node.out, r, g, k), expected, 4.0) != 0.0;
        }
    }
    report(&t, wrong);
}

/* ------------------------------------------------------------------ losses */

/* Runs an op that the planner splits: parts by rows, then their sum. The scalar. */
static double run_split(test *t, nano_op first, nano_units_fn *units, nano_forward_fn *forward) {
    static double parts[MAX_ROWS];
    test p = *t;
    float result[2] = {NAN, NAN};
    p.node.op = first;
    p.node.out = (nano_operand){.rows = NANO_DIM_W, .ne = {1, 1}, .row_bytes = sizeof parts[0]};
    p.node.out_data = (uint8_t *)parts;
    p.n_rows = t->step.n_wanted;
    run(&p, units, forward, false);
    t->node.src[0] = p.node.out;
    t->node.src[0].data = (const uint8_t *)parts;
    t->node.out = (nano_operand){.rows = 1, .ne = {1, 1}, .row_bytes = sizeof result[0]};
    t->node.out_data = (uint8_t *)result;
    for (int i = 0; i < 2; i++) {
        run(t, table[t->node.op].units, table[t->node.op].forward, true);
        result[1] = i == 0 ? result[0] : result[1];
    }
    CHECK(memcmp(&result[0], &result[1], sizeof result[0]) == 0);
    return (double)result[0];
}

static void test_sum(void) {
    const shape s = draw_shape();
    test t = make("sum", 0, s.n_rows);
    const nano_operand x = rows(NANO_DIM_W, s.n_rows, s.groups, s.n, s.apart);
    double sum = 0.0, size = 0.0;
    t.node.src[0] = x;
    t.node.params.floats[0] = 0.25;
    for (int64_t r = 0; r < s.n_rows; r++) {
        for (int64_t i = 0; i < s.groups * s.n; i++) {
            sum += 0.25 * at(&x, r, 0, i);
            size += fabs(at(&x, r, 0, i));
        }
    }
    report(&t,
           near(run_split(&t, NANO_OP_ROW_SUMS, nano_units_row_sums, nano_forward_row_sums), sum, size / 16.0) != 0.0);
}

/* Logits up to `scale`, about every fourth row without weight: such rows hold NaN and name no token. */
static void fill_examples(const nano_operand *logits, int64_t n_rows, float scale, int32_t *targets, float *weights) {
    for (int64_t r = 0; r < n_rows; r++) {
        const bool counts = pick(0, 3) != 0;
        targets[r] = counts ? (int32_t)pick(0, logits->ne[0] - 1) : INT32_MAX;
        weights[r] = counts ? number() : 0.0f;
        for (int64_t i = 0; i < logits->ne[0]; i++) {
            row_of(logits, r)[i] = counts ? number() * scale : NAN;
        }
    }
}

static double log_sum(const nano_operand *logits, int64_t row) {
    double max = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < logits->ne[0]; i++) {
        max = fmax(max, at(logits, row, 0, i));
    }
    for (int64_t i = 0; i < logits->ne[0]; i++) {
        sum += exp(at(logits, row, 0, i) - max);
    }
    return max + log(sum);
}

static void test_cross_entropy(float scale) {
    const shape s = draw_shape();
    const int64_t n = pick(0, 3) == 0 ? s.n * 3 : s.n;
    int32_t targets[MAX_ROWS];
    float weights[MAX_ROWS];
    test t = make("cross_entropy", 0, s.n_rows), grad = make("cross_entropy_grad", 0, s.n_rows);
    const nano_operand logits = rows(NANO_DIM_W, s.n_rows, 1, n, s.apart);
    double loss = 0.0, size = 0.0;
    int wrong = 0;
    fill_examples(&logits, s.n_rows, scale, targets, weights);
    grad.node.src[0] = t.node.src[0] = logits;
    grad.node.src[1] = t.node.src[1] = input(targets);
    grad.node.src[2] = t.node.src[2] = input(weights);
    set_out(&grad, rows(NANO_DIM_W, s.n_rows, 1, n, false));
    run_all_ways(&grad);
    for (int64_t r = 0; r < s.n_rows; r++) {
        const double all = weights[r] == 0.0f ? 0.0 : log_sum(&logits, r), weight = (double)weights[r];
        if (weights[r] != 0.0f) {
            const double x = at(&logits, r, 0, targets[r]);
            loss += weight * (all - x);
            size += fabs(weight) * (fabs(all) + fabs(x)) * 0.02;
        }
        for (int64_t i = 0; i < n; i++) {
            const double share =
                weights[r] == 0.0f ? 0.0 : exp(at(&logits, r, 0, i) - all) - (i == targets[r] ? 1.0 : 0.0);
            wrong += near(at(&grad.node.out, r, 0, i), weight * share, 0.0) != 0.0;
        }
    }
    report(&grad, wrong);
    const double found = run_split(&t, NANO_OP_ROW_LOSSES, nano_units_row_losses, nano_forward_row_losses);
    report(&t, near(found, loss, fabs(loss) + size) != 0.0);
}

static void test_level(void) {
    for (int i = 0; i < N_ROUNDS; i++) {
        pool_used = 0;
        test_unary("gelu_grad", gelu_slope);
        test_unary("silu_grad", silu_slope);
        test_swiglu();
        test_fill();
        test_norm_x("norm_grad_x", true);
        test_norm_x("rms_norm_grad_x", false);
        pool_used = 0;
        test_into("sum_rows");
        test_into("sum_products");
        test_into("norm_grad_w");
        test_into("rms_norm_grad_w");
        test_rows_grad();
        pool_used = 0;
        test_spread();
        test_join();
        test_rope();
        test_sum();
        test_cross_entropy(1.0f);
        test_cross_entropy(1e4f);
    }
}

/* ------------------------------------------------------------ shape rules */

/* A graph with one of everything that the ops take. */
typedef struct leaves {
    nano_graph *g;
    int32_t tokens, positions, wanted, targets, weights;
    int32_t w, wide, square, square_grad, w_grad; /* (8), (9), (5, 8) and the gradients of two of them */
    int32_t x, y, heads, rest;                    /* (T, 8), (W, 8), (T, 2, 4), (T, 16) */
} leaves;

static int32_t append(nano_graph *g, const char *name, int32_t a, int32_t b, int32_t c, const int64_t *ints,
                      int32_t n_ints) {
    int32_t out = -1;
    CHECK_OK(nano_graph_op(g, name, 3, (int32_t[]){a, b, c}, n_ints, ints, 0, NULL, &out, &check_error));
    return out;
}

static leaves make_leaves(void) {
    leaves l = {.g = NULL};
    int32_t table_2 = -1;
    CHECK_OK(nano_graph_create(&l.g, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_TOKENS, &l.tokens, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_POSITIONS, &l.positions, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_WANTED, &l.wanted, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_TARGETS, &l.targets, &check_error));
    CHECK_OK(nano_graph_input(l.g, NANO_INPUT_WEIGHTS, &l.weights, &check_error));
    CHECK_OK(nano_graph_weight(l.g, "w", 1, (int64_t[]){8}, &l.w, &check_error));
    CHECK_OK(nano_graph_weight(l.g, "wide", 1, (int64_t[]){9}, &l.wide, &check_error));
    CHECK_OK(nano_graph_weight(l.g, "square", 2, (int64_t[]){8, 5}, &l.square, &check_error));
    CHECK_OK(nano_graph_weight(l.g, "table_2", 2, (int64_t[]){16, 5}, &table_2, &check_error));
    CHECK_OK(nano_graph_gradient(l.g, l.square, &l.square_grad, &check_error));
    CHECK_OK(nano_graph_gradient(l.g, l.w, &l.w_grad, &check_error));
    l.x = append(l.g, "rows", l.square, l.tokens, -1, NULL, 0);
    l.y = append(l.g, "rows", l.x, l.wanted, -1, NULL, 0);
    l.heads = append(l.g, "view", l.x, -1, -1, (int64_t[]){0, 2, 4, 2}, 4);
    l.rest = append(l.g, "rows", table_2, l.positions, -1, NULL, 0);
    return l;
}

static void refused(const leaves *l, const char *name, int32_t a, int32_t b, int32_t c) {
    const nano_op_info *info = nano_op_by_name(name);
    int32_t out = -1;
    const int32_t src[3] = {a, b, c};
    CHECK(info != NULL);
    CHECK_FAILS(NANO_ERR_SHAPE, name, nano_graph_op(l->g, name, 3, src, 0, NULL, 0, NULL, &out, &check_error));
}

static void join_refused(const leaves *l, int32_t b, const int64_t *ints, const char *why) {
    int32_t out = -1;
    CHECK_FAILS(NANO_ERR_SHAPE, why,
                nano_graph_op(l->g, "join", 2, (int32_t[]){l->x, b}, 3, ints, 0, NULL, &out, &check_error));
}

/* Shapes that the forward functions could not run, and what they make of the others. */
static void test_shapes(void) {
    const leaves l = make_leaves();
    int32_t n_dims = 0, out = -1;
    int64_t ne[4];
    refused(&l, "cross_entropy", l.x, l.targets, l.weights); /* (T, n) */
    refused(&l, "cross_entropy", l.y, l.tokens, l.weights);
    refused(&l, "cross_entropy", l.y, l.weights, l.targets);
    refused(&l, "cross_entropy_grad", l.y, l.targets, l.wanted);
    refused(&l, "cross_entropy_grad", l.square, l.targets, l.weights);
    refused(&l, "sum", l.square, -1, -1);
    refused(&l, "fill", l.tokens, -1, -1);
    refused(&l, "rows_grad", l.x, l.wanted, l.square_grad);
    refused(&l, "rows_grad", l.x, l.tokens, l.square);
    refused(&l, "rows_grad", l.rest, l.tokens, l.square_grad);
    refused(&l, "rows_grad", l.heads, l.tokens, l.square_grad);
    refused(&l, "rows_grad", l.y, l.tokens, l.square_grad);
    refused(&l, "rows_grad", l.x, l.tokens, l.w_grad);
    refused(&l, "spread", l.x, l.wanted, -1);
    refused(&l, "spread", l.y, l.tokens, -1);
    refused(&l, "sum_rows", l.x, l.w, -1);
    refused(&l, "sum_rows", l.rest, l.w_grad, -1);
    refused(&l, "sum_rows", l.x, l.square_grad, -1);
    refused(&l, "sum_products", l.x, l.y, l.w_grad);
    refused(&l, "sum_products", l.x, l.w, l.w_grad);
    refused(&l, "norm_grad_x", l.x, l.wide, l.x);
    refused(&l, "norm_grad_x", l.x, l.w_grad, l.x);
    refused(&l, "norm_grad_x", l.x, l.w, l.y);
    refused(&l, "rms_norm_grad_x", l.heads, l.w, l.heads);
    refused(&l, "norm_grad_w", l.x, l.heads, l.w_grad);
    refused(&l, "rms_norm_grad_w", l.x, l.x, l.w);
    refused(&l, "gelu_grad", l.x, l.heads, -1);
    refused(&l, "silu_grad", l.x, l.w, -1);
    refused(&l, "swiglu_grad", l.x, l.x, l.y);
    join_refused(&l, -1, (int64_t[]){7, 0, 0}, "do not lie in a row");
    join_refused(&l, -1, (int64_t[]){8, 1, 0}, "do not lie in a row");
    join_refused(&l, -1, (int64_t[]){9, -1, 0}, "do not lie in a row");
    join_refused(&l, -1, (int64_t[]){20, INT64_MAX, 0}, "do not lie in a row");
    join_refused(&l, -1, (int64_t[]){0, 0, 0}, "rows of 1");
    join_refused(&l, -1, (int64_t[]){INT64_MAX, 0, 0}, "rows of 1");
    join_refused(&l, l.x, (int64_t[]){20, 0, 7}, "overlap");
    join_refused(&l, l.y, (int64_t[]){20, 0, 8}, "same rows");
    join_refused(&l, l.w, (int64_t[]){20, 0, 8}, "activations");
    out = append(l.g, "join", l.x, l.heads, -1, (int64_t[]){20, 11, 0}, 3);
    CHECK_OK(nano_graph_shape(l.g, out, &n_dims, ne, &check_error));
    CHECK(n_dims == 2 && ne[0] == 20 && ne[1] == NANO_DIM_T);
    out = append(l.g, "swiglu_grad", l.heads, l.heads, l.heads, NULL, 0);
    CHECK_OK(nano_graph_shape(l.g, out, &n_dims, ne, &check_error));
    CHECK(n_dims == 2 && ne[0] == 16 && ne[1] == NANO_DIM_T);
    out = append(l.g, "rows_grad", l.x, l.positions, l.square_grad, NULL, 0);
    CHECK_OK(nano_graph_shape(l.g, out, &n_dims, ne, &check_error));
    CHECK(n_dims == 2 && ne[0] == 8 && ne[1] == 5);
    (void)append(l.g, "rows_grad", l.x, l.tokens, out, NULL, 0); /* into what something was added to before */
    nano_graph_free(l.g);
}

int main(void) {
    char levels[128];
    snprintf(levels, sizeof levels, "%s", nano_cpu_levels());
    for (char *level = strtok(levels, ","); level != NULL; level = strtok(NULL, ",")) {
        kernels = nano_kernels_at(level);
        test_level();
    }
    test_shapes();
    return check_result();
}
