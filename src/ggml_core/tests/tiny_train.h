/* The small model of tiny_model.h being trained: its program with a loss and the gradients of its weights. */
#ifndef NANO_TESTS_TINY_TRAIN_H
#define NANO_TESTS_TINY_TRAIN_H

#include "tests/tiny_model.h"

typedef struct tiny_train {
    tiny_model base;
    nano_model *model;
    uint8_t program[65536];
    size_t program_size;
} tiny_train;

/* The weights `names` (n; NULL: all) of the model become parameters. With gradients, or the loss alone (n < 0). */
static inline void tiny_train_program(tiny_train *t, int32_t n, const char *const *names, bool recompute) {
    nano_graph *graph = NULL;
    tiny_weight weights[2 + 9 * TINY_LAYER];
    int32_t params[2 + 9 * TINY_LAYER], loss = -1, n_params = names == NULL ? tiny_weights(weights) : n;
    CHECK_OK(nano_graph_load(t->base.program, t->base.program_size, &graph, &check_error));
    CHECK_OK(nano_graph_loss(graph, &loss, &check_error));
    for (int32_t i = 0; i < n_params; i++) {
        params[i] = nano_graph_find_weight(graph, 0, names == NULL ? weights[i].name : names[i]);
        CHECK(params[i] >= 0);
    }
    if (n < 0) {
        CHECK_OK(nano_graph_set_output(graph, loss, &check_error));
    } else {
        CHECK_OK(nano_graph_backward(graph, loss, n_params, params, recompute, &check_error));
    }
    CHECK_OK(nano_graph_save(graph, t->program, sizeof t->program, &t->program_size, &check_error));
    nano_graph_free(graph);
    nano_model_free(t->model);
    t->model = NULL;
    CHECK_OK(nano_model_create(t->base.gguf, t->program, t->program_size, &t->model, &check_error));
    if (check_n_failed > 0) {
        exit(check_result()); /* nothing else can work */
    }
}

static inline void tiny_train_open(tiny_train *t, const char *type_name, bool recompute) {
    t->model = NULL;
    tiny_model_open(&t->base, type_name);
    tiny_train_program(t, 0, NULL, recompute);
}

static inline void tiny_train_close(tiny_train *t) {
    nano_model_free(t->model);
    tiny_model_close(&t->base);
}

enum { TINY_SEQUENCES = 3, TINY_BATCH = 80 };

static inline nano_limits tiny_train_limits(int32_t n_threads) {
    nano_limits l = nano_limits_default();
    l.n_ctx = 40;
    l.n_slots = TINY_SEQUENCES;
    l.n_batch = l.n_outputs = TINY_BATCH;
    l.n_threads = n_threads;
    l.type_k = l.type_v = nano_type_from_name("F32");
    l.optimizer = NANO_OPTIMIZER_ADAM;
    return l;
}

static inline nano_session *tiny_train_session(const tiny_train *t, nano_limits limits) {
    const tiny_model m = {.model = t->model};
    return tiny_session(&m, limits);
}

/* Three sequences of 40, 17 and 23 tokens; every fifth token has no target. */
typedef struct tiny_batch {
    int32_t n_tokens;
    int32_t tokens[TINY_BATCH], slots[TINY_BATCH], targets[TINY_BATCH];
    float weights[TINY_BATCH];
} tiny_batch;

static inline tiny_batch tiny_make_batch(uint64_t seed) {
    static const int32_t lengths[TINY_SEQUENCES] = {40, 17, 23};
    tiny_batch b = {.n_tokens = 0};
    uint64_t state = seed * 2654435761ULL + 1;
    for (int32_t s = 0; s < TINY_SEQUENCES; s++) {
        for (int32_t i = 0; i < lengths[s]; i++, b.n_tokens++) {
            b.tokens[b.n_tokens] = (int32_t)(fabsf(tiny_random(&state)) * (TINY_VOCAB - 1));
            b.targets[b.n_tokens] = i % 5 == 4 ? -1 : (int32_t)(fabsf(tiny_random(&state)) * (TINY_VOCAB - 1));
            b.weights[b.n_tokens] = 0.01f * (1.5f + tiny_random(&state));
            b.slots[b.n_tokens] = s;
        }
    }
    return b;
}

static inline nano_status tiny_gradient(nano_session *s, const tiny_batch *b, double *loss, nano_error *err) {
    return nano_session_gradient(s, b->n_tokens, b->tokens, b->slots, b->targets, b->weights, loss, err);
}

/* One step of ADAM over all parameters. */
static inline nano_status tiny_adam(nano_session *s, int64_t step, double *norm, nano_error *err) {
    const nano_adam adam = nano_adam_default();
    float *values = NULL, *gradients = NULL;
    void *state = NULL;
    int64_t n = 0;
    nano_session_flat(s, &n, &values, &gradients, &state, NULL);
    float *m = state;
    const nano_adam_span span = {values, gradients, m, m + n, n, 0.01, 0.0};
    return nano_adam_step(&adam, step, 1, &span, norm, err);
}

#endif
