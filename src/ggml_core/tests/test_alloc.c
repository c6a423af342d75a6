/* Nothing allocates after the session is made: prompt, decoding, sampling, tokenising, detokenising, training. Every
 * allocating function of the C library is replaced; the first call while armed ends the test. */
#define _GNU_SOURCE 1

#include "tests/tiny_gguf.h"
#include "tests/tiny_train.h"

#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define SANITIZED 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#    define SANITIZED 1
#  endif
#endif

#if defined(__GLIBC__) && !defined(SANITIZED)

static volatile int armed;

static void refuse(const char *name) {
    if (armed) {
        armed = 0;
        fprintf(stderr, "%s was called after the session was made\n", name);
        _Exit(1);
    }
}

#  include "tests/no_alloc.h"

static nano_tokenizer *make_tokenizer(tiny_gguf *file, nano_gguf **gguf) {
    static const char *spellings[] = {"<unk>", "a", "b", "c", "d", "ab", "cd", "abcd"};
    nano_tokenizer *tokenizer = NULL;
    tiny_begin(file);
    tiny_set_str(file, "tokenizer.ggml.model", "llama");
    tiny_set_strs(file, "tokenizer.ggml.tokens", spellings, 8);
    static const float scores[] = {0, -1, -2, -3, -4, -1, -2, -1};
    tiny_set_floats(file, "tokenizer.ggml.scores", scores, 8);
    CHECK_OK(tiny_open(file, gguf, &check_error));
    CHECK_OK(nano_tokenizer_create(*gguf, &tokenizer, &check_error));
    return tokenizer;
}

static void test_text(void) {
    static tiny_gguf file;
    nano_gguf *gguf = NULL;
    nano_tokenizer *tokenizer = make_tokenizer(&file, &gguf);
    if (tokenizer == NULL) {
        return;
    }
    static const char text[] = "abcd cdab aabb ??? \xe2\x82\xac abcd";
    size_t scratch_size = nano_tokenizer_scratch(tokenizer, sizeof text), n_ids = 0, n_bytes = 0;
    size_t capacity = nano_tokenizer_max_ids(tokenizer, sizeof text), room = nano_decoder_max_bytes(tokenizer);
    void *scratch = malloc(scratch_size);
    int32_t *ids = malloc(capacity * sizeof *ids);
    char *piece = malloc(room), turn[512];
    nano_chat *chat = NULL;
    const nano_str user = {" ab cd \n", 8}, system = {"abcd", 4};
    CHECK_OK(nano_chat_create(NULL, tokenizer, "llama3", &chat, &check_error));
    armed = 1;
    nano_status status = nano_tokenizer_encode(tokenizer, text, sizeof text - 1, true, true, scratch, scratch_size, ids,
                                               capacity, &n_ids, NULL);
    nano_decoder decoder;
    nano_decoder_init(&decoder, tokenizer, false);
    for (size_t i = 0; i < n_ids && status == NANO_OK; i++) {
        status = nano_decoder_push(&decoder, tokenizer, ids[i], piece, room, &n_bytes, NULL);
    }
    for (int i = 0; i < 2 && status == NANO_OK; i++) {
        status = nano_chat_turn(chat, i == 0, &system, user, turn, sizeof turn, &n_bytes, NULL);
    }
    armed = 0;
    CHECK(status == NANO_OK && n_ids > 4 && n_bytes > 8);
    nano_chat_free(chat);
    free(scratch);
    free(ids);
    free(piece);
    nano_tokenizer_free(tokenizer);
    nano_gguf_free(gguf);
}

static void test_generation(const char *type, int32_t mirostat, int32_t top_k) {
    tiny_model m;
    tiny_model_open(&m, type);
    nano_limits l = nano_limits_default();
    l.n_ctx = 200;
    l.n_threads = 2;
    l.n_batch = 64;
    nano_session *s = tiny_session(&m, l);
    nano_sampler *sampler = NULL;
    nano_sampler_params params = nano_sampler_params_default();
    params.mirostat = mirostat;
    params.top_k = top_k;
    params.typical_p = 0.9f;
    params.repeat_penalty = 1.1f;
    CHECK_OK(nano_sampler_create(&params, TINY_VOCAB, &sampler, &check_error));
    int32_t prompt[64], id = 1, n_rows = 0;
    for (int i = 0; i < 64; i++) {
        prompt[i] = i;
    }
    nano_error err = {NANO_OK, ""};
    armed = 1;
    nano_status status = nano_session_eval(s, 64, prompt, NULL, NULL, &err);
    for (int i = 0; i < 100 && status == NANO_OK; i++) {
        status = nano_sampler_sample(sampler, nano_session_logits(s, &n_rows), &id, &err);
        nano_sampler_accept(sampler, id);
        if (status == NANO_OK) {
            status = nano_session_eval(s, 1, &id, NULL, NULL, &err);
        }
    }
    nano_sampler_reset(sampler, 1);
    armed = 0;
    CHECK(status == NANO_OK);
    nano_sampler_free(sampler);
    nano_session_free(s);
    tiny_model_close(&m);
}

typedef struct objective {
    nano_session *session;
    const tiny_batch *batch;
} objective;

static nano_status flat_gradient(void *context, double *f, nano_error *err) {
    const objective *o = context;
    nano_session_zero_gradients(o->session);
    return tiny_gradient(o->session, o->batch, f, err);
}

/* Steps of two micro-batches with ADAM. */
static void test_adam(const tiny_train *t, const tiny_batch *first, const tiny_batch *second) {
    nano_session *s = tiny_train_session(t, tiny_train_limits(2));
    nano_error err = {NANO_OK, ""};
    nano_status status = NANO_OK;
    double loss = 0.0, norm = 0.0;
    armed = 1;
    for (int step = 1; step <= 3 && status == NANO_OK; step++) {
        nano_session_zero_gradients(s);
        status = tiny_gradient(s, first, &loss, &err);
        status = status == NANO_OK ? tiny_gradient(s, second, &loss, &err) : status;
        status = status == NANO_OK ? tiny_adam(s, step, &norm, &err) : status;
    }
    armed = 0;
    CHECK(status == NANO_OK && loss > 0.0 && norm > 0.0);
    nano_session_free(s);
}

static void test_lbfgs(const tiny_train *t, const tiny_batch *batch) {
    nano_lbfgs_options options = nano_lbfgs_options_default();
    nano_limits l = tiny_train_limits(2);
    l.optimizer = NANO_OPTIMIZER_LBFGS;
    l.history = options.history = 4;
    options.max_iterations = 3;
    objective o = {tiny_train_session(t, l), batch};
    nano_lbfgs_result result;
    nano_error err = {NANO_OK, ""};
    float *values = NULL, *gradients = NULL;
    void *state = NULL;
    int64_t n = 0;
    armed = 1;
    nano_session_flat(o.session, &n, &values, &gradients, &state, NULL);
    nano_status status = nano_lbfgs_flat(&options, n, values, gradients, flat_gradient, &o, state, &result, &err);
    armed = 0;
    CHECK(status == NANO_OK && result.iterations == 3);
    nano_session_free(o.session);
}

static void test_training(bool recompute) {
    tiny_train t;
    tiny_train_open(&t, "F16", recompute);
    const tiny_batch first = tiny_make_batch(1), second = tiny_make_batch(2);
    test_adam(&t, &first, &second);
    test_lbfgs(&t, &first);
    tiny_train_close(&t);
}

/* An allocation while armed does end a process. */
static void test_trap(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        void *volatile p;
        (void)!freopen("/dev/null", "w", stderr);
        armed = 1;
        p = malloc(1);
        _Exit(p == NULL ? 2 : 0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

int main(void) {
    test_text();
    test_generation("F32", 0, 40);
    test_generation("Q4_0", 0, 0);
    test_generation("Q8_0", 1, 40);
    test_generation("F16", 2, 40);
    test_training(false);
    test_training(true);
    test_trap();
    return check_result();
}

#else

int main(void) {
    printf("alloc: skipped, the C library is not glibc or a sanitizer replaces its allocator\n");
    return 0;
}

#endif
