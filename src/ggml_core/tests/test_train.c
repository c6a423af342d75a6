/* Training sessions: parameters and their vectors, gradients against differences, sums over micro-batches, the same bits
 * for any number of threads, and what is refused. */
#define _XOPEN_SOURCE 700

#include "tests/tiny_train.h"

#include <string.h>

/* --------------------------------------------------------------- parameters */

static void check_param(nano_session *s, const tiny_train *t, int32_t i, int64_t n_before) {
    nano_param p;
    float *values = NULL, *gradients = NULL;
    CHECK_OK(nano_session_param(s, i, &p, &check_error));
    nano_session_flat(s, NULL, &values, &gradients, NULL, NULL);
    const nano_gguf_tensor *from = nano_gguf_find_tensor(t->base.gguf, p.name);
    CHECK(from != NULL && from->type == p.type && p.file == 0 && from->n_dims == p.n_dims);
    CHECK(memcmp(from->ne, p.ne, sizeof p.ne) == 0 && p.n == p.ne[0] * p.ne[1]);
    CHECK(p.offset % 16 == 0 && p.offset >= n_before && p.offset < n_before + 16);
    CHECK(p.value == values + p.offset && p.gradient == gradients + p.offset && (uintptr_t)p.value % 64 == 0);
    float *expected = malloc((size_t)p.n * sizeof *expected);
    CHECK_OK(nano_type_to_float(from->type, from->data, expected, p.n, &check_error));
    CHECK(memcmp(expected, p.value, (size_t)p.n * sizeof *expected) == 0);
    free(expected);
}

static void test_params(const char *type) {
    tiny_train t;
    tiny_train_open(&t, type, false);
    nano_session *s = tiny_train_session(&t, tiny_train_limits(1));
    nano_param p;
    int64_t n = 0, end = 0, sum = 0;
    float *values = NULL, *gradients = NULL;
    void *state = NULL;
    size_t state_bytes = 0;
    nano_session_flat(s, &n, &values, &gradients, &state, &state_bytes);
    CHECK(nano_session_n_params(s) == 2 + 9 * TINY_LAYER && state != NULL && state_bytes == (size_t)n * 8);
    for (int32_t i = 0; i < nano_session_n_params(s); i++) {
        check_param(s, &t, i, end);
        CHECK_OK(nano_session_param(s, i, &p, &check_error));
        end = p.offset + p.n;
        sum += p.n;
    }
    CHECK(n >= end && n - end < 16 && n - sum < 16 * nano_session_n_params(s));
    for (int64_t i = 0; i < n; i++) {
        CHECK(gradients[i] == 0.0f && ((float *)state)[i] == 0.0f && ((float *)state)[n + i] == 0.0f);
    }
    CHECK_FAILS(NANO_ERR_ARGUMENT, "the session has 20", nano_session_param(s, 20, &p, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "param: -1", nano_session_param(s, -1, &p, &check_error));
    nano_session_free(s);
    tiny_train_close(&t);
}

/* ------------------------------------------------------------------ memory */

static void test_memory(void) {
    tiny_train t;
    tiny_train_open(&t, "F32", false);
    nano_plan *plan = NULL;
    nano_limits l = tiny_train_limits(2);
    CHECK_OK(nano_plan_create(t.model, &l, &plan, &check_error));
    const nano_memory adam = nano_plan_memory(plan);
    nano_plan_free(plan);
    CHECK(adam.weights == 0 && adam.parameters > 0 && adam.gradients == adam.parameters);
    CHECK(adam.optimizer == 2 * adam.parameters && adam.outputs == 64);
    CHECK(adam.allocated == adam.cache + adam.activations + adam.outputs + adam.scratch + adam.parameters +
                                adam.gradients + adam.optimizer + adam.bookkeeping);
    CHECK(adam.total == adam.allocated);
    l.optimizer = NANO_OPTIMIZER_LBFGS;
    l.history = 5;
    CHECK_OK(nano_plan_create(t.model, &l, &plan, &check_error));
    CHECK(nano_plan_memory(plan).optimizer >= nano_lbfgs_flat_bytes((int64_t)(adam.parameters / 4), 5));
    nano_plan_free(plan);
    int32_t n_ctx = 0;
    CHECK_OK(nano_plan_fit(t.model, &l, adam.total, &n_ctx, &check_error));
    CHECK(n_ctx == 0); /* as L-BFGS needs more whatever the context */
    l.optimizer = NANO_OPTIMIZER_ADAM;
    CHECK_OK(nano_plan_fit(t.model, &l, adam.total, &n_ctx, &check_error));
    CHECK(n_ctx == l.n_ctx);
    l.history = -1;
    l.optimizer = NANO_OPTIMIZER_LBFGS;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "history -1", nano_plan_create(t.model, &l, &plan, &check_error));
    tiny_train_program(&t, -1, NULL, false);
    l = tiny_train_limits(1);
    CHECK_OK(nano_plan_create(t.model, &l, &plan, &check_error));
    const nano_memory loss = nano_plan_memory(plan);
    CHECK(loss.parameters == 0 && loss.optimizer == 0 && loss.activations < adam.activations);
    CHECK(loss.weights == adam.parameters);
    nano_plan_free(plan);
    tiny_train_close(&t);
}

/* --------------------------------------------------------------- gradients */

/* Against (f(x + h) - f(x - h)) / 2h, for some elements of each parameter. */
static void test_differences(bool recompute) {
    tiny_train t;
    tiny_train_open(&t, "F32", recompute);
    nano_session *s = tiny_train_session(&t, tiny_train_limits(2));
    const tiny_batch b = tiny_make_batch(1);
    double loss = 0.0, more = 0.0, less = 0.0;
    CHECK_OK(tiny_gradient(s, &b, &loss, &check_error));
    int64_t n = 0;
    float *gradients = NULL;
    nano_session_flat(s, &n, NULL, &gradients, NULL, NULL);
    float *exact = malloc((size_t)n * sizeof *exact);
    memcpy(exact, gradients, (size_t)n * sizeof *exact);
    uint64_t state = 5;
    for (int32_t i = 0; i < nano_session_n_params(s); i++) {
        nano_param p;
        double norm = 0.0;
        CHECK_OK(nano_session_param(s, i, &p, &check_error));
        for (int64_t k = 0; k < p.n; k++) {
            norm += (double)exact[p.offset + k] * (double)exact[p.offset + k];
        }
        CHECK(norm > 0.0);
        for (int round = 0; round < 3; round++) {
            const int64_t at = (int64_t)(fabsf(tiny_random(&state)) * (float)(p.n - 1));
            const float x = p.value[at], h = 0.01f;
            p.value[at] = x + h;
            CHECK_OK(tiny_gradient(s, &b, &more, &check_error));
            p.value[at] = x - h;
            CHECK_OK(tiny_gradient(s, &b, &less, &check_error));
            p.value[at] = x;
            const double found = (more - less) / (2.0 * (double)h), expected = (double)exact[p.offset + at];
            CHECK(fabs(found - expected) < 2e-3 * (sqrt(norm) + fabs(expected)) + 1e-5);
        }
    }
    free(exact);
    nano_session_free(s);
    tiny_train_close(&t);
}

/* A step's gradients add up over its micro-batches; without weights each target counts the same. */
static void test_accumulation(void) {
    tiny_train t;
    tiny_train_open(&t, "F32", false);
    nano_session *s = tiny_train_session(&t, tiny_train_limits(2));
    tiny_batch b = tiny_make_batch(2);
    double whole = 0.0, part = 0.0, sum = 0.0;
    int64_t n = 0;
    float *gradients = NULL;
    nano_session_flat(s, &n, NULL, &gradients, NULL, NULL);
    float *kept = malloc((size_t)n * sizeof *kept);
    CHECK_OK(tiny_gradient(s, &b, &whole, &check_error));
    memcpy(kept, gradients, (size_t)n * sizeof *kept);
    nano_session_zero_gradients(s);
    static const int32_t starts[] = {0, 40, 57, 80};
    for (int i = 0; i < 3; i++) {
        const int32_t at = starts[i], count = starts[i + 1] - at;
        CHECK_OK(
            nano_session_gradient(s, count, b.tokens + at, NULL, b.targets + at, b.weights + at, &part, &check_error));
        sum += part;
    }
    CHECK(fabs(sum - whole) < 1e-5 * fabs(whole));
    double error = 0.0, norm = 0.0;
    for (int64_t i = 0; i < n; i++) {
        error += pow((double)gradients[i] - (double)kept[i], 2.0);
        norm += pow((double)kept[i], 2.0);
    }
    CHECK(error < 1e-8 * norm); /* shorter steps may add up in another order */

    nano_session_zero_gradients(s);
    CHECK_OK(nano_session_gradient(s, b.n_tokens, b.tokens, b.slots, b.targets, NULL, &whole, &check_error));
    int32_t n_targets = 0;
    for (int32_t i = 0; i < b.n_tokens; i++) {
        n_targets += b.targets[i] >= 0 ? 1 : 0;
    }
    for (int32_t i = 0; i < b.n_tokens; i++) {
        b.weights[i] = 1.0f / (float)n_targets;
    }
    memcpy(kept, gradients, (size_t)n * sizeof *kept);
    nano_session_zero_gradients(s);
    CHECK_OK(tiny_gradient(s, &b, &part, &check_error));
    CHECK(part == whole && memcmp(kept, gradients, (size_t)n * sizeof *kept) == 0);
    CHECK(whole > 3.0 && whole < 8.0); /* random weights know nothing: about ln 96 */
    part = 0.0;                        /* the loss alone leaves gradients as they are */
    CHECK_OK(nano_session_loss(s, b.n_tokens, b.tokens, b.slots, b.targets, b.weights, &part, &check_error));
    CHECK(part == whole && memcmp(kept, gradients, (size_t)n * sizeof *kept) == 0);

    for (int32_t i = 0; i < b.n_tokens; i++) {
        b.targets[i] = -1;
    }
    CHECK_OK(tiny_gradient(s, &b, &part, &check_error));
    CHECK(part == 0.0 && memcmp(kept, gradients, (size_t)n * sizeof *kept) == 0);
    free(kept);
    nano_session_free(s);
    tiny_train_close(&t);
}

/* Three steps of training: all parameters, gradients and losses. */
static void run_steps(const tiny_train *t, int32_t n_threads, float *out, int64_t n, double *losses) {
    nano_session *s = tiny_train_session(t, tiny_train_limits(n_threads));
    float *values = NULL, *gradients = NULL;
    int64_t found = 0;
    nano_session_flat(s, &found, &values, &gradients, NULL, NULL);
    CHECK(found == n);
    for (int step = 0; step < 3; step++) {
        const tiny_batch first = tiny_make_batch(10 + (uint64_t)step), second = tiny_make_batch(20 + (uint64_t)step);
        double loss = 0.0;
        nano_session_zero_gradients(s);
        CHECK_OK(tiny_gradient(s, &first, &losses[step], &check_error));
        CHECK_OK(tiny_gradient(s, &second, &loss, &check_error));
        losses[step] += loss;
        CHECK_OK(tiny_adam(s, step + 1, NULL, &check_error));
    }
    memcpy(out, values, (size_t)n * sizeof *out);
    memcpy(out + n, gradients, (size_t)n * sizeof *out);
    nano_session_free(s);
}

static void test_same_bits(const char *type, const char *const *names, int32_t n_names) {
    tiny_train t;
    tiny_train_open(&t, "F32", false);
    if (names != NULL) { /* frozen weights may be of any type */
        tiny_train_close(&t);
        t.model = NULL;
        tiny_model_open(&t.base, type);
        tiny_train_program(&t, n_names, names, false);
    }
    nano_session *s = tiny_train_session(&t, tiny_train_limits(1));
    int64_t n = 0;
    nano_session_flat(s, &n, NULL, NULL, NULL, NULL);
    nano_session_free(s);
    float *expected = malloc((size_t)n * 2 * sizeof *expected), *found = malloc((size_t)n * 2 * sizeof *found);
    double losses[3], found_losses[3];
    run_steps(&t, 1, expected, n, losses);
    CHECK(losses[0] > 0.0 && losses[1] > 0.0 && losses[2] > 0.0);
    for (int32_t n_threads = 2; n_threads <= 4; n_threads++) {
        run_steps(&t, n_threads, found, n, found_losses);
        CHECK(memcmp(losses, found_losses, sizeof losses) == 0);
        CHECK(memcmp(expected, found, (size_t)n * 2 * sizeof *found) == 0);
    }
    if (names == NULL) { /* nor does computing activations again change a bit */
        tiny_train_program(&t, 0, NULL, true);
        run_steps(&t, 2, found, n, found_losses);
        CHECK(memcmp(losses, found_losses, sizeof losses) == 0);
        CHECK(memcmp(expected, found, (size_t)n * 2 * sizeof *found) == 0);
    }
    free(expected);
    free(found);
    tiny_train_close(&t);
}

/* The loss falls on a batch seen again and again, and a program of the loss alone computes it, too. */
static void test_learns(void) {
    tiny_train t;
    tiny_train_open(&t, "F32", false);
    nano_limits l = tiny_train_limits(2);
    nano_session *s = tiny_train_session(&t, l);
    const tiny_batch b = tiny_make_batch(3);
    double first = 0.0, loss = 0.0, alone = 0.0, norm = 0.0;
    for (int step = 1; step <= 30; step++) {
        nano_session_zero_gradients(s);
        CHECK_OK(tiny_gradient(s, &b, &loss, &check_error));
        first = step == 1 ? loss : first;
        CHECK_OK(tiny_adam(s, step, &norm, &check_error));
    }
    CHECK(loss < 0.5 * first && norm > 0.0);
    nano_session_free(s);
    tiny_train_program(&t, -1, NULL, false);
    s = tiny_train_session(&t, l);
    CHECK(nano_session_n_params(s) == 0);
    CHECK_OK(tiny_gradient(s, &b, &alone, &check_error));
    CHECK(fabs(alone - first) < 1e-5 * first); /* linears of a program without gradients add up in another order */
    nano_session_free(s);
    tiny_train_close(&t);
}

/* ----------------------------------------------------------------- refusals */

static void test_limits(void) {
    static const char *const names[] = {"output_norm.weight", "blk.1.ffn_down.weight"};
    tiny_train t;
    t.model = NULL;
    tiny_model_open(&t.base, "Q8_0");
    tiny_train_program(&t, 2, names, false);
    nano_plan *plan = NULL;
    nano_limits l = tiny_train_limits(1);
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "tensor blk.1.ffn_down.weight has type Q8_0",
                nano_plan_create(t.model, &l, &plan, &check_error));
    tiny_train_program(&t, 1, names, false);
    l.type_v = nano_type_from_name("F16");
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "must be F32", nano_plan_create(t.model, &l, &plan, &check_error));
    l.type_v = l.type_k;
    l.optimizer = (nano_optimizer)7;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "optimizer 7", nano_plan_create(t.model, &l, &plan, &check_error));
    tiny_train_close(&t);
}

static void refused(nano_session *s, const tiny_batch *b, nano_status status, const char *text) {
    double loss = -7.0;
    CHECK_FAILS(status, text, tiny_gradient(s, b, &loss, &check_error));
    CHECK(loss == -7.0);
}

static void test_refusals(void) {
    tiny_train t;
    tiny_train_open(&t, "F32", false);
    nano_limits l = tiny_train_limits(1);
    l.n_outputs = 65; /* as many as there are */
    nano_session *s = tiny_train_session(&t, l);
    const tiny_batch good = tiny_make_batch(4);
    tiny_batch b = good;
    int32_t n_rows = -1;
    double loss = 0.0;
    b.targets[3] = TINY_VOCAB;
    refused(s, &b, NANO_ERR_ARGUMENT, "target 3 is id 96");
    b = good;
    b.targets[4] = 1;
    refused(s, &b, NANO_ERR_LIMIT, "more than 65 targets");
    b = good;
    b.tokens[9] = -1;
    refused(s, &b, NANO_ERR_ARGUMENT, "gradient: token 9 is id -1");
    b = good;
    b.slots[79] = 0;
    b.slots[39] = 1;
    refused(s, &b, NANO_ERR_ARGUMENT, "next to each other");
    b = good;
    b.slots[40] = 0;
    refused(s, &b, NANO_ERR_LIMIT, "slot 0 is full");
    b = good;
    b.weights[7] = NAN;
    refused(s, &b, NANO_ERR_ARGUMENT, "weight of target 7");
    b = good;
    b.n_tokens = 0;
    refused(s, &b, NANO_ERR_LIMIT, "0 tokens");
    nano_session_cancel(s);
    refused(s, &good, NANO_ERR_CANCELLED, "gradient: cancelled");
    CHECK_OK(tiny_gradient(s, &good, &loss, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "is a loss", nano_session_eval(s, 1, good.tokens, NULL, NULL, &check_error));
    (void)nano_session_logits(s, &n_rows);
    CHECK(n_rows == 0 && nano_session_n_past(s, 0) == 0);
    nano_session_free(s);
    s = tiny_session(&t.base, nano_limits_default());
    refused(s, &good, NANO_ERR_ARGUMENT, "not a loss");
    CHECK(nano_session_n_params(s) == 0);
    nano_session_free(s);
    tiny_train_close(&t);
}

/* What a training step's ops rely on, nano_session_gradient alone sees to. */
static void test_output(void) {
    tiny_train t;
    tiny_train_open(&t, "F32", false);
    nano_graph *graph = NULL;
    nano_model *model = NULL;
    static uint8_t bytes[sizeof t.program];
    size_t size = 0;
    int32_t targets = -1, logits = -1;
    CHECK_OK(nano_graph_load(t.base.program, t.base.program_size, &graph, &check_error));
    CHECK_OK(nano_graph_input(graph, NANO_INPUT_TARGETS, &targets, &check_error));
    CHECK_OK(nano_graph_save(graph, bytes, sizeof bytes, &size, &check_error));
    CHECK_FAILS(NANO_ERR_SHAPE, "not a loss", nano_model_create(t.base.gguf, bytes, size, &model, &check_error));
    CHECK_FAILS(NANO_ERR_SHAPE, "rows",
                nano_graph_op(graph, "rows", 2, (int32_t[2]){0, targets}, 0, NULL, 0, NULL, &logits, &check_error));
    nano_graph_free(graph);
    tiny_train_close(&t);
}

/* Token ids stay within a gradient's rows, too, where rows_grad names it after something was added to it. */
static void test_row_limit(void) {
    tiny_train t;
    tiny_train_open(&t, "F32", false);
    nano_graph *graph = NULL;
    int32_t tokens = -1, loss = -1;
    size_t size = 0;
    CHECK_OK(nano_graph_create(&graph, &check_error));
    CHECK_OK(nano_graph_input(graph, NANO_INPUT_TOKENS, &tokens, &check_error));
    const int32_t x = tiny_op(graph, "rows", tiny_w(graph, "token_embd.weight"), tokens, -1);
    const int32_t few = tiny_layer_w(graph, 0, "attn_k"), y = tiny_op(graph, "linear", x, few, -1);
    const double factor = 1.0;
    CHECK_OK(nano_graph_op(graph, "sum", 1, &y, 0, NULL, 1, &factor, &loss, &check_error));
    CHECK_OK(nano_graph_backward(graph, loss, 1, &few, false, &check_error));
    (void)tiny_op(graph, "rows_grad", x, tokens, nano_graph_n_tensors(graph) - 1);
    CHECK_OK(nano_graph_save(graph, t.program, sizeof t.program, &size, &check_error));
    nano_graph_free(graph);
    nano_model_free(t.model);
    CHECK_OK(nano_model_create(t.base.gguf, t.program, size, &t.model, &check_error));
    nano_session *s = tiny_train_session(&t, tiny_train_limits(1));
    tiny_batch b = tiny_make_batch(6);
    double value = 0.0;
    b.n_tokens = 2;
    b.tokens[0] = TINY_HEAD_KV * TINY_HEAD_DIM - 1;
    b.tokens[1] = TINY_HEAD_KV * TINY_HEAD_DIM;
    refused(s, &b, NANO_ERR_ARGUMENT, "token 1 is id 32, the model has 32");
    b.tokens[1] = 0;
    CHECK_OK(tiny_gradient(s, &b, &value, &check_error));
    nano_session_free(s);
    tiny_train_close(&t);
}

int main(void) {
    static const char *const vectors[] = {"output_norm.weight", "blk.0.attn_norm.weight", "blk.1.ffn_norm.weight"};
    test_params("F32");
    test_params("F16");
    test_params("BF16");
    test_memory();
    test_differences(false);
    test_differences(true);
    test_accumulation();
    test_same_bits("F32", NULL, 0);
    test_same_bits("Q4_0", vectors, 3);
    test_same_bits("F16", vectors, 3);
    test_learns();
    test_limits();
    test_refusals();
    test_output();
    test_row_limit();
    return check_result();
}
