#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_N_CTX = 4096 };

static const char program_key[] = "nanollm.program";

double now_ms(void) {
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int failed(const nano_error *err) { return fail(EXIT_ERROR, "%s", err->message); }

/* ----------------------------------------------------------------- opening */

/* The program in `gguf`: false when there is none. */
static bool find_program(const nano_gguf *gguf, const nano_gguf_value **out) {
    *out = nano_gguf_find(gguf, program_key);
    return *out != NULL;
}

/* Opens FILE.nanollm beside a file without a program. */
static int open_sidecar(engine *e) {
    text path = {NULL, 0, 0};
    nano_error err = {NANO_OK, ""};
    int code = EXIT_OK;
    text_addf(&path, "%s.nanollm", e->path);
    if (access(path.data, F_OK) != 0) {
        code =
            fail(EXIT_ERROR,
                 "%s: %s: not found, nor is %s there: `nanollm export` writes the program into the file, or beside it",
                 e->path, program_key, path.data);
    } else if (nano_gguf_open(path.data, &e->sidecar, &err) != NANO_OK) {
        code = failed(&err);
    }
    text_free(&path);
    return code;
}

/* The program in the file, or in the one beside it. */
static int open_program(engine *e, const nano_gguf_value **program) {
    if (!find_program(e->gguf, program)) {
        const int code = open_sidecar(e);
        if (code != EXIT_OK) {
            return code;
        }
        if (!find_program(e->sidecar, program)) {
            return fail(EXIT_ERROR, "%s: %s: not found", nano_gguf_path(e->sidecar), program_key);
        }
    }
    if ((*program)->kind != NANO_GGUF_ARRAY || (*program)->item_kind != NANO_GGUF_UINT8) {
        return fail(EXIT_ERROR, "%s: %s: found another kind, expected an array of uint8",
                    nano_gguf_path(e->sidecar != NULL ? e->sidecar : e->gguf), program_key);
    }
    return EXIT_OK;
}

/* The model's graph with every adapter in it, each a file more. */
static nano_status adapt(engine *e, nano_graph **graph, nano_error *err) {
    for (int i = 0; i < e->adapters->n; i++) {
        nano_graph *next = NULL;
        nano_status status = nano_gguf_open(e->adapters->paths[i], &e->files[e->n_files], err);
        if (status == NANO_OK) {
            status = nano_adapter_check(e->files[e->n_files++], e->gguf, err);
        }
        if (status == NANO_OK) {
            status =
                nano_graph_adapt(*graph, e->files[e->n_files - 1], e->n_files - 1, e->adapters->scales[i], &next, err);
        }
        if (status != NANO_OK) {
            return status;
        }
        nano_graph_free(*graph);
        *graph = next;
    }
    return NANO_OK;
}

static nano_status bind_adapted(engine *e, const nano_gguf_value *program, nano_error *err) {
    nano_graph *graph = NULL;
    void *bytes = NULL;
    size_t size = 0;
    e->files = allocate((size_t)e->adapters->n + 1, sizeof *e->files);
    e->files[e->n_files++] = e->gguf;
    nano_status status = nano_graph_load(program->data, program->n_bytes, &graph, err);
    if (status == NANO_OK) {
        status = adapt(e, &graph, err);
    }
    if (status == NANO_OK) {
        status = nano_graph_save(graph, NULL, 0, &size, err);
    }
    if (status == NANO_OK) {
        bytes = allocate(size, 1);
        status = nano_graph_save(graph, bytes, size, &size, err);
    }
    if (status == NANO_OK) {
        status = nano_model_create_with((const nano_gguf *const *)e->files, e->n_files, bytes, size, &e->model, err);
    }
    free(bytes);
    nano_graph_free(graph);
    return status;
}

int engine_open(engine *e, const char *path, const adapters *adapted) {
    nano_error err = {NANO_OK, ""};
    const nano_gguf_value *program = NULL;
    nano_str kind = {"", 0};
    *e = (engine){.path = path, .adapters = adapted, .first_row = INT32_MAX};
    if (nano_gguf_open(path, &e->gguf, &err) != NANO_OK) {
        return failed(&err);
    }
    if (nano_gguf_get_str(e->gguf, "general.type", &kind, NULL) == NANO_OK && kind.size == 7 &&
        memcmp(kind.data, "adapter", kind.size) == 0) {
        return fail(EXIT_ERROR,
                    "%s: general.type: found 'adapter', expected a model: an adapter is applied to one (--lora)", path);
    }
    const int code = open_program(e, &program);
    if (code != EXIT_OK) {
        return code;
    }
    const nano_status status = adapted->n > 0
                                   ? bind_adapted(e, program, &err)
                                   : nano_model_create(e->gguf, program->data, program->n_bytes, &e->model, &err);
    return status == NANO_OK ? EXIT_OK : failed(&err);
}

/* ---------------------------------------------------------------- planning */

/* Hexadecimal digits, the last one for CPUs 0 to 3. */
static bool read_mask(const char *s, uint64_t *mask) {
    s += s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 2 : 0;
    const size_t n = strspn(s, "0123456789abcdefABCDEF");
    if (n == 0 || n > 64 || s[n] != '\0') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const char digit[2] = {s[n - 1 - i], '\0'};
        const uint64_t value = strtoul(digit, NULL, 16);
        mask[i / 16] |= value << (4 * (i % 16));
    }
    return true;
}

/* "4-7" */
static bool read_range(const char *s, uint64_t *mask) {
    const size_t n = strspn(s, "0123456789"), n_last = s[n] == '-' ? strspn(s + n + 1, "0123456789") : 0;
    const unsigned long first = strtoul(s, NULL, 10), last = n_last > 0 ? strtoul(s + n + 1, NULL, 10) : 0;
    if (n == 0 || n > 3 || n_last == 0 || n_last > 3 || s[n + 1 + n_last] != '\0' || first > last || last > 255) {
        return false;
    }
    for (unsigned long cpu = first; cpu <= last; cpu++) {
        mask[cpu / 64] |= UINT64_C(1) << (cpu % 64);
    }
    return true;
}

int engine_limits(const options *o, nano_limits *out) {
    const struct {
        const char *name;
        int64_t value;
        int32_t *out;
    } sizes[] = {{"-b", o->n_batch, &out->n_batch},
                 {"-t", o->n_threads, &out->n_threads},
                 {"-tb", o->n_threads_batch, &out->n_threads_batch},
                 {"--slots", o->n_slots, &out->n_slots},
                 {"--poll", o->poll, &out->poll},
                 {"-ngl", o->n_gpu_layers, &out->n_gpu_layers},
                 {"-dev", o->device, &out->device}};
    *out = nano_limits_default();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].value > INT32_MAX) {
            return fail(EXIT_ERROR, "%s: %" PRId64 ", expected at most %d", sizes[i].name, sizes[i].value, INT32_MAX);
        }
        *sizes[i].out = (int32_t)sizes[i].value;
    }
    if (o->cpu_mask != NULL && !read_mask(o->cpu_mask, out->cpu_mask)) {
        return fail(EXIT_USAGE, "-C: expected up to 64 hexadecimal digits, found '%s'", o->cpu_mask);
    }
    if (o->cpu_range != NULL && !read_range(o->cpu_range, out->cpu_mask)) {
        return fail(EXIT_USAGE, "-Cr: expected two numbers of CPUs, 0 to 255, as in 4-7, found '%s'", o->cpu_range);
    }
    out->n_outputs = (int32_t)o->lookup + 1;
    out->type_k = o->type_k.n > 0 ? nano_type_from_name(options_last(&o->type_k)) : out->type_k;
    out->type_v = o->type_v.n > 0 ? nano_type_from_name(options_last(&o->type_v)) : out->type_v;
    out->deterministic = o->deterministic;
    return EXIT_OK;
}

/* A number of tokens the model was trained for, 0 when the file does not say. */
static int read_n_ctx_train(engine *e) {
    nano_str name;
    char key[256];
    nano_error err = {NANO_OK, ""};
    e->n_ctx_train = 0;
    if (nano_gguf_get_str(e->gguf, "general.architecture", &name, NULL) != NANO_OK || name.size > 128) {
        return EXIT_OK;
    }
    (void)snprintf(key, sizeof key, "%.*s.context_length", (int)name.size, name.data);
    const nano_status status = nano_gguf_get_int(e->gguf, key, &e->n_ctx_train, &err);
    if (status == NANO_ERR_NOT_FOUND) {
        return EXIT_OK;
    }
    if (status == NANO_OK && e->n_ctx_train < 0) {
        return fail(EXIT_ERROR, "%s: %s: found %" PRId64 ", expected a number of tokens", e->path, key, e->n_ctx_train);
    }
    e->n_ctx_train = e->n_ctx_train > INT32_MAX ? INT32_MAX : e->n_ctx_train;
    return status == NANO_OK ? EXIT_OK : failed(&err);
}

/* As many positions as the file has learned embeddings for, where it has those. */
static int64_t most_positions(const engine *e) {
    const nano_gguf_tensor *learned = nano_gguf_find_tensor(e->gguf, "position_embd.weight");
    return learned != NULL && learned->ne[1] < INT32_MAX ? learned->ne[1] : INT32_MAX;
}

int engine_plan(engine *e, int64_t n_ctx, nano_limits limits) {
    nano_error err = {NANO_OK, ""};
    const int code = read_n_ctx_train(e);
    if (code != EXIT_OK) {
        return code;
    }
    const int64_t trained = e->n_ctx_train;
    if (n_ctx > INT32_MAX) {
        return fail(EXIT_ERROR, "n_ctx: %" PRId64 ", expected 0 to %d", n_ctx, INT32_MAX);
    }
    if (n_ctx < 0) {
        n_ctx = trained > 0 && trained < DEFAULT_N_CTX ? trained : DEFAULT_N_CTX;
    } else if (n_ctx == 0) {
        n_ctx = trained;
        if (n_ctx == 0) {
            return fail(EXIT_ERROR, "%s: says nothing about its context: -c is needed", e->path);
        }
    }
    if (n_ctx > most_positions(e)) {
        return fail(EXIT_ERROR, "%s: n_ctx %" PRId64 ": the model has positions for %" PRId64 " tokens", e->path, n_ctx,
                    most_positions(e));
    }
    limits.n_ctx = (int32_t)n_ctx;
    limits.n_batch = limits.n_batch < limits.n_ctx ? limits.n_batch : limits.n_ctx;
    limits.n_outputs = limits.n_outputs < limits.n_batch ? limits.n_outputs : limits.n_batch;
    if (nano_plan_create(e->model, &limits, &e->plan, &err) != NANO_OK) {
        return failed(&err);
    }
    e->limits = nano_plan_limits(e->plan);
    e->memory = nano_plan_memory(e->plan);
    e->available = nano_memory_available();
    e->device = (nano_device){.image = ""};
    return e->memory.device == 0 || nano_device_at(e->limits.device, &e->device, &err) == NANO_OK ? EXIT_OK
                                                                                                  : failed(&err);
}

int engine_find_largest(engine *e) {
    nano_error err = {NANO_OK, ""};
    nano_limits limits = e->limits;
    const int64_t wished = e->n_ctx_train > limits.n_ctx ? e->n_ctx_train : limits.n_ctx, most = most_positions(e);
    limits.n_ctx = (int32_t)(wished < most ? wished : most);
    return nano_plan_fit(e->model, &limits, e->available, &e->largest_n_ctx, &err) == NANO_OK ? EXIT_OK : failed(&err);
}

static bool fits_device(const engine *e) { return e->memory.device <= e->device.memory_available; }

bool engine_fits(const engine *e) { return e->memory.total <= e->available && fits_device(e); }

/* Refuses what the device has no room for. */
static int refuse_device(const engine *e) {
    const double mib = 1048576.0;
    const nano_memory *m = &e->memory;
    nano_limits limits = e->limits;
    nano_plan *plan = NULL;
    nano_error err = {NANO_OK, ""};
    limits.n_gpu_layers = -1;
    if (nano_plan_create(e->model, &limits, &plan, &err) != NANO_OK) {
        return failed(&err);
    }
    limits = nano_plan_limits(plan);
    nano_plan_free(plan);
    return fail(EXIT_ERROR,
                "%s: does not fit into the memory of device %" PRId32 " (%s): %" PRId32
                " layers need %.1f MiB (weights "
                "%.1f MiB, KV cache %.1f MiB for a context of %" PRId32 ", rest %.1f MiB), %.1f MiB are available; "
                "%" PRId32 " layers would fit (-ngl)",
                e->path, e->limits.device, e->device.name, e->limits.n_gpu_layers, (double)m->device / mib,
                (double)m->device_weights / mib, (double)m->device_cache / mib, e->limits.n_ctx,
                (double)(m->device - m->device_weights - m->device_cache) / mib,
                (double)e->device.memory_available / mib, limits.n_gpu_layers);
}

int engine_check_memory(engine *e) {
    const double mib = 1048576.0;
    const nano_memory *m = &e->memory;
    if (!fits_device(e)) {
        return refuse_device(e);
    }
    if (engine_fits(e)) {
        return EXIT_OK;
    }
    const int code = engine_find_largest(e);
    if (code != EXIT_OK) {
        return code;
    }
    char hint[64] = "no context would fit";
    if (e->largest_n_ctx > 0) {
        (void)snprintf(hint, sizeof hint, "a context of %" PRId32 " would fit", e->largest_n_ctx);
    }
    return fail(EXIT_ERROR,
                "%s: does not fit into memory: needs %.1f MiB (weights %.1f MiB, KV cache %.1f MiB for a context of "
                "%" PRId32 ", rest %.1f MiB), %.1f MiB are available; %s",
                e->path, (double)m->total / mib, (double)m->weights / mib, (double)m->cache / mib, e->limits.n_ctx,
                (double)(m->allocated - m->cache) / mib, (double)e->available / mib, hint);
}

/* ---------------------------------------------------------------- starting */

int engine_set_level(const char *level) {
    nano_error err = {NANO_OK, ""};
    const char *forced = getenv("NANOLLM_CPU");
    if (forced != NULL && forced[0] != '\0') { /* the core passes over a level that the machine lacks */
        const char *at = nano_cpu_levels();
        for (size_t n = strcspn(at, ","); strlen(forced) != n || strncmp(at, forced, n) != 0; n = strcspn(at, ",")) {
            if (at[n] == '\0') {
                return fail(EXIT_ERROR, "NANOLLM_CPU: found %s, this machine has %s", forced, nano_cpu_levels());
            }
            at += n + 1;
        }
    }
    return level == NULL || nano_cpu_set_level(level, &err) == NANO_OK ? EXIT_OK : failed(&err);
}

int engine_load_tokenizer(engine *e) {
    nano_error err = {NANO_OK, ""};
    return nano_tokenizer_create(e->gguf, &e->tokenizer, &err) == NANO_OK ? EXIT_OK : failed(&err);
}

int engine_start(engine *e) {
    nano_error err = {NANO_OK, ""};
    sigset_t interrupt, old;
    e->seen = allocate((size_t)e->limits.n_ctx, sizeof *e->seen);
    (void)sigemptyset(&interrupt);
    (void)sigaddset(&interrupt, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &interrupt, &old); /* for the session's threads: see interrupt.c */
    const nano_status status = nano_session_create(e->plan, &e->session, &err);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status == NANO_OK ? EXIT_OK : failed(&err);
}

void engine_stop(engine *e) {
    nano_session_free(e->session);
    nano_plan_free(e->plan);
    free(e->seen);
    e->session = NULL;
    e->plan = NULL;
    e->seen = NULL;
    e->n_seen = 0;
}

void engine_free(engine *e) {
    engine_stop(e);
    nano_tokenizer_free(e->tokenizer);
    nano_model_free(e->model);
    for (int i = 1; i < e->n_files; i++) {
        nano_gguf_free(e->files[i]);
    }
    free(e->files);
    nano_gguf_free(e->sidecar);
    nano_gguf_free(e->gguf);
    *e = (engine){.path = NULL};
}

/* ------------------------------------------------------------------- steps */

nano_status engine_step(engine *e, const int32_t *tokens, int32_t n, bool all_rows, nano_error *err) {
    static const uint8_t all[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint8_t *wanted = all_rows ? all : NULL;
    if (interrupt_came()) {
        return NANO_ERR_CANCELLED;
    }
    nano_status status = nano_session_eval(e->session, n, tokens, NULL, wanted, err);
    if (status == NANO_ERR_CANCELLED && !interrupt_came()) { /* meant for an answer that had ended already */
        status = nano_session_eval(e->session, n, tokens, NULL, wanted, err);
    }
    if (status == NANO_OK) {
        memcpy(e->seen + e->n_seen, tokens, (size_t)n * sizeof *tokens);
        e->first_row = all_rows ? e->n_seen : e->n_seen + n - 1;
        e->n_seen += n;
    }
    return status;
}

nano_status engine_keep(engine *e, int32_t n, nano_error *err) {
    const nano_status status = nano_session_truncate(e->session, 0, n, err);
    if (status == NANO_OK) {
        e->n_seen = n;
    }
    return status;
}

int engine_encode(const engine *e, nano_str s, bool add_special, int32_t **ids, size_t *n) {
    nano_error err = {NANO_OK, ""};
    const size_t scratch_size = nano_tokenizer_scratch(e->tokenizer, s.size);
    const size_t capacity = nano_tokenizer_max_ids(e->tokenizer, s.size);
    if (scratch_size == SIZE_MAX || capacity == SIZE_MAX) {
        return fail(EXIT_ERROR, "a text of %zu bytes is too long", s.size);
    }
    void *scratch = allocate(scratch_size, 1);
    int32_t *out = allocate(capacity, sizeof *out);
    const nano_status status = nano_tokenizer_encode(e->tokenizer, s.data, s.size, add_special, true, scratch,
                                                     scratch_size, out, capacity, n, &err);
    free(scratch);
    if (status != NANO_OK) {
        free(out);
        return failed(&err);
    }
    *ids = out;
    return EXIT_OK;
}
