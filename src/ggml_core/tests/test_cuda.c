/* Layers on a CUDA device: logits beside the processor's for every split and type, slots, prompt caches, recorded steps,
 * and what goes wrong. With the emulated driver (cuda/emulate/), or a device where NANOLLM_CUDA_DRIVER names none. */
#define _XOPEN_SOURCE 700

#include "tests/tiny_model.h"

enum { N_TOKENS = 72, N_CTX = 160, N_ALL = TINY_LAYER + 1 };

static int32_t tokens[N_TOKENS];

static nano_limits limits_of(int32_t n_gpu_layers) {
    nano_limits l = nano_limits_default();
    l.n_ctx = N_CTX;
    l.n_threads = 2;
    l.n_batch = N_TOKENS;
    l.n_outputs = N_TOKENS;
    l.n_slots = 2;
    l.n_gpu_layers = n_gpu_layers;
    return l;
}

/* Logits of all tokens: a prompt of n_first, then steps of one, in `slot`. */
static void run(nano_session *s, int32_t slot, int32_t n_first, float *out) {
    int32_t slots[N_TOKENS], n_rows = 0;
    uint8_t wanted[N_TOKENS];
    for (int32_t i = 0; i < N_TOKENS; i++) {
        slots[i] = slot;
        wanted[i] = 1;
    }
    for (int32_t at = 0; at < N_TOKENS; at += at == 0 ? n_first : 1) {
        const int32_t n = at == 0 ? n_first : 1;
        CHECK_OK(nano_session_eval(s, n, tokens + at, slots, wanted, &check_error));
        const float *logits = nano_session_logits(s, &n_rows);
        CHECK(n_rows == n);
        memcpy(out + at * TINY_VOCAB, logits, (size_t)(n_rows * TINY_VOCAB) * sizeof *out);
    }
}

static double distance(const float *a, const float *b, int64_t n) {
    double most = 0.0, size = 1e-9;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        most = isnan(d) ? INFINITY : d > most ? d : most;
        size = fabs((double)b[i]) > size ? fabs((double)b[i]) : size;
    }
    return most / size;
}

static float expected[N_TOKENS * TINY_VOCAB], found[N_TOKENS * TINY_VOCAB];

/* The tiny model's rows have 64 elements: types of blocks of 32. Kernels' values have a test of their own. */
static void check_types(void) {
    static const struct {
        const char *name;
        double tolerance;
    } types[] = {{"F32", 2e-5}, {"F16", 5e-3}, {"BF16", 2e-5}, {"Q8_0", 5e-2}, {"Q4_0", 5e-2}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        tiny_model m;
        tiny_model_open(&m, types[i].name);
        nano_limits limits = limits_of(0);
        limits.type_k = limits.type_v = nano_type_from_name("F32");
        nano_session *s = tiny_session(&m, limits);
        run(s, 0, 68, expected);
        nano_session_free(s);
        for (int32_t layers = 1; layers <= N_ALL; layers += layers == 1 ? 1 : N_ALL) {
            limits.n_gpu_layers = layers;
            s = tiny_session(&m, limits);
            run(s, 1, 68, found);
            const double d = distance(found, expected, N_TOKENS * TINY_VOCAB);
            if (!(d <= types[i].tolerance)) {
                fprintf(stderr, "%s, %d layers on the device: distance %g\n", types[i].name, (int)layers, d);
            }
            CHECK(d <= types[i].tolerance);
            nano_session_free(s);
        }
        tiny_model_close(&m);
    }
}

/* The same steps twice, the second time recorded; a cache copied to another slot, and through a file. */
static void check_caches(const char *type_name) {
    tiny_model m;
    tiny_model_open(&m, "Q8_0");
    nano_limits limits = limits_of(N_ALL);
    limits.type_k = limits.type_v = nano_type_from_name(type_name);
    nano_session *s = tiny_session(&m, limits);
    run(s, 0, 66, expected);
    CHECK_OK(nano_session_copy_slot(s, 0, 1, 66, &check_error));
    const int32_t slots[N_TOKENS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    int32_t n_rows = 0;
    for (int32_t i = 66; i < N_TOKENS; i++) {
        CHECK_OK(nano_session_eval(s, 1, tokens + i, slots, NULL, &check_error));
        CHECK(memcmp(nano_session_logits(s, &n_rows), expected + i * TINY_VOCAB, TINY_VOCAB * sizeof(float)) == 0);
    }
    char path[] = "/tmp/nanollm-cuda-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    CHECK_OK(nano_session_save(s, 0, tokens, 66, path, &check_error));
    nano_session *other = tiny_session(&m, limits);
    int32_t loaded[N_TOKENS], n_loaded = 0;
    CHECK_OK(nano_session_load(other, 0, path, loaded, N_TOKENS, &n_loaded, &check_error));
    CHECK(n_loaded == 66 && memcmp(loaded, tokens, 66 * sizeof *tokens) == 0);
    CHECK_OK(nano_session_eval(other, 1, tokens + 66, NULL, NULL, &check_error));
    CHECK(memcmp(nano_session_logits(other, &n_rows), expected + 66 * TINY_VOCAB, TINY_VOCAB * sizeof(float)) == 0);
    nano_session_free(other);
    limits.n_gpu_layers = 0;
    other = tiny_session(&m, limits);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "n_gpu_layers",
                nano_session_load(other, 0, path, loaded, N_TOKENS, &n_loaded, &check_error));
    nano_session_free(other);
    nano_session_free(s);
    (void)close(file);
    (void)remove(path);
    tiny_model_close(&m);
}

static nano_status plan_of(const tiny_model *m, const nano_limits *limits, nano_plan **plan, nano_error *err) {
    return nano_plan_create(m->model, limits, plan, err);
}

static void check_memory(void) {
    tiny_model m;
    nano_plan *none = NULL, *half = NULL, *all = NULL;
    tiny_model_open(&m, "F32");
    nano_limits limits = limits_of(0);
    CHECK_OK(plan_of(&m, &limits, &none, &check_error));
    limits.n_gpu_layers = 1;
    CHECK_OK(plan_of(&m, &limits, &half, &check_error));
    limits.n_gpu_layers = 99;
    CHECK_OK(plan_of(&m, &limits, &all, &check_error));
    const nano_memory a = nano_plan_memory(none), b = nano_plan_memory(half), c = nano_plan_memory(all);
    CHECK(a.device == 0 && b.device > 0 && c.device > b.device);
    /* The processor's keys lie in blocks of 64 positions, the device's position by position. */
    CHECK(2 * b.cache == a.cache && 2 * b.device_cache == c.device_cache && c.cache == 0 && c.device_cache <= a.cache);
    CHECK(b.weights < a.weights && c.weights < b.weights && c.weights > 0); /* embeddings stay */
    CHECK(c.device_weights + c.weights >= a.weights);
    nano_plan_free(none);
    nano_plan_free(half);
    nano_plan_free(all);
    /* What cannot run there is refused by the planner. */
    limits.importance = true;
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "importance", plan_of(&m, &limits, &all, &check_error));
    limits.importance = false;
    limits.type_k = limits.type_v = nano_type_from_name("Q4_0");
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "cache type", plan_of(&m, &limits, &all, &check_error));
    limits = limits_of(1);
    limits.device = 5;
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "no device 5", plan_of(&m, &limits, &all, &check_error));
    tiny_model_close(&m);
}

static void check_devices(void) {
    nano_device d;
    CHECK(nano_device_count() >= 1);
    CHECK_OK(nano_device_at(0, &d, &check_error));
    CHECK(d.name[0] != '\0' && d.image[0] != '\0' && d.compute_capability >= 50);
    CHECK(d.memory_available <= d.memory_total && d.memory_total > 0);
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "no device 77", nano_device_at(77, &d, &check_error));
}

/* What the emulated driver is told to fail (argv), the session must report, whenever it happens. */
static void check_failure(const char *text, const char *status) {
    tiny_model m;
    nano_plan *plan = NULL;
    nano_session *s = NULL;
    nano_error err = {NANO_OK, ""};
    tiny_model_open(&m, "Q8_0");
    nano_limits limits = limits_of(N_ALL);
    nano_status got = nano_plan_create(m.model, &limits, &plan, &err);
    got = got == NANO_OK ? nano_session_create(plan, &s, &err) : got;
    for (int32_t i = 0; got == NANO_OK && i < N_TOKENS; i++) {
        const int32_t before = nano_session_n_past(s, 0);
        got = nano_session_eval(s, 1, tokens + i, NULL, NULL, &err);
        CHECK(nano_session_n_past(s, 0) == before + (got == NANO_OK ? 1 : 0));
    }
    if (strcmp(nano_status_name(got), status) != 0 || strstr(err.message, text) == NULL) {
        fprintf(stderr, "got %s \"%s\", expected %s with \"%s\"\n", nano_status_name(got), err.message, status, text);
    }
    CHECK(strcmp(nano_status_name(got), status) == 0 && strstr(err.message, text) != NULL);
    nano_session_free(s);
    nano_plan_free(plan);
    tiny_model_close(&m);
}

int main(int argc, char **argv) {
    for (int32_t i = 0; i < N_TOKENS; i++) {
        tokens[i] = (i * 37 + 11) % TINY_VOCAB;
    }
    if (argc == 3) { /* TEXT STATUS: a failure that the environment asks the driver for */
        check_failure(argv[1], argv[2]);
        return check_result();
    }
    check_devices();
    check_memory();
    check_types();
    check_caches("F32");
    check_caches("F16");
    check_caches("Q8_0");
    return check_result();
}
