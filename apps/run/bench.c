/* `bench`: the speed of prompts and of decoding, with the flags and the table of llama-bench. */
#include "bench.h"
#include "generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The values that an option was given, or its default. */
typedef struct values {
    const int32_t *items;
    int n;
} values;

static values given(const numbers *n, const int32_t *fallback) {
    return n->n > 0 ? (values){n->items, n->n} : (values){fallback, 1};
}

/* --------------------------------------------------------------- measuring */

static nano_status eval_run(bench *b, int32_t start, int32_t n, int32_t most, nano_error *err) {
    nano_status status = NANO_OK;
    for (int32_t at = start; at < start + n && status == NANO_OK; at += most) {
        const int32_t left = start + n - at;
        status = engine_step(&b->engine, b->ids + at, left < most ? left : most, false, err);
    }
    return status;
}

static nano_status run_once(bench *b, nano_error *err) {
    const test *t = &b->test;
    nano_status status = engine_keep(&b->engine, t->depth, err);
    status = status == NANO_OK ? eval_run(b, t->depth, t->n_prompt, b->limits.n_batch, err) : status;
    return status == NANO_OK ? eval_run(b, t->depth + t->n_prompt, t->n_gen, 1, err) : status;
}

static nano_status measure(bench *b, nano_error *err) {
    const options *o = b->options;
    const test *t = &b->test;
    interrupt_guard(b->engine.session);
    nano_status status = eval_run(b, 0, t->depth, b->limits.n_batch, err);
    if (o->warmup && status == NANO_OK) { /* the whole prompt, or one token */
        status = eval_run(b, t->depth, t->n_prompt > 0 ? t->n_prompt : 1, b->limits.n_batch, err);
    }
    for (int64_t i = 0; i < o->repetitions && status == NANO_OK; i++) {
        if (o->progress) {
            text name = {NULL, 0, 0};
            bench_add_test(&name, t);
            note("%s: %s: run %" PRId64 " of %" PRId64 "\n", b->model_type, name.data, i + 1, o->repetitions);
            text_free(&name);
        }
        const double start = now_ms();
        status = run_once(b, err);
        b->samples_ns[i] = 1e6 * (now_ms() - start);
        b->samples_ts[i] = 1e9 * (double)(t->n_prompt + t->n_gen) / b->samples_ns[i];
    }
    interrupt_guard(NULL);
    return status;
}

static void mean(const double *x, int64_t n, double *average, double *deviation) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
    }
    *average = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        squares += (x[i] - *average) * (x[i] - *average);
    }
    *deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

/* The one of n values that as many are smaller than as are larger, or half way between two such; sorts them. */
static double median(double *x, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        for (int64_t k = i; k > 0 && x[k] < x[k - 1]; k--) {
            const double larger = x[k - 1];
            x[k - 1] = x[k];
            x[k] = larger;
        }
    }
    return 0.5 * (x[n / 2] + x[(n - 1) / 2]);
}

static void summarise(bench *b) {
    const int64_t n = b->options->repetitions;
    double *sorted = allocate((size_t)n, sizeof *sorted);
    const time_t now = time(NULL);
    struct tm utc;
    mean(b->samples_ns, n, &b->avg_ns, &b->stddev_ns);
    mean(b->samples_ts, n, &b->avg_ts, &b->stddev_ts);
    memcpy(sorted, b->samples_ts, (size_t)n * sizeof *sorted);
    b->median_ts = median(sorted, n);
    free(sorted);
    (void)strftime(b->test_time, sizeof b->test_time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

/* ----------------------------------------------------------------- command */

/* Measures and prints one row. */
static int run_test(bench *b, nano_limits limits) {
    engine *e = &b->engine;
    const int64_t n_ctx = (int64_t)b->test.depth + b->test.n_prompt + b->test.n_gen;
    nano_error err = {NANO_OK, ""};
    int code = engine_plan(e, n_ctx, limits);
    code = code == EXIT_OK ? engine_check_memory(e) : code;
    code = code == EXIT_OK ? engine_start(e) : code;
    if (code == EXIT_OK) {
        const uint64_t n_vocab = (uint64_t)nano_model_n_vocab(e->model);
        uint64_t random = 1;
        b->limits = e->limits;
        b->limits.n_batch = limits.n_batch; /* as it was asked for: no test has more tokens than its context */
        b->ids = allocate((size_t)n_ctx, sizeof *b->ids);
        for (int64_t i = 0; i < n_ctx; i++) { /* Knuth's MMIX generator */
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            b->ids[i] = (int32_t)((random >> 33) % n_vocab);
        }
        const nano_status status = measure(b, &err);
        code = status == NANO_OK              ? EXIT_OK
               : status == NANO_ERR_CANCELLED ? fail(EXIT_INTERRUPTED, "interrupted")
                                              : fail(EXIT_ERROR, "%s", err.message);
        free(b->ids);
        b->ids = NULL;
    }
    engine_stop(e);
    if (code == EXIT_OK) {
        summarise(b);
        bench_print_row(b);
    }
    return code;
}

/* All tests with one set of limits. */
static int run_tests(bench *b, nano_limits limits) {
    static const int32_t usual_prompt = 512, usual_gen = 128, usual_depth = 0;
    const options *o = b->options;
    const values depths = given(&o->bench_depth, &usual_depth), prompts = given(&o->bench_prompt, &usual_prompt),
                 gens = given(&o->bench_gen, &usual_gen);
    const int n_tests = prompts.n + gens.n + o->bench_pairs.n / 2;
    int code = EXIT_OK;
    for (int d = 0; d < depths.n; d++) {
        for (int i = 0; i < n_tests && code == EXIT_OK && !emit_failed(); i++) {
            const int pair = i - prompts.n - gens.n;
            b->test = (test){0, 0, depths.items[d]};
            if (pair >= 0) {
                b->test.n_prompt = o->bench_pairs.items[2 * pair];
                b->test.n_gen = o->bench_pairs.items[2 * pair + 1];
            } else {
                b->test.n_prompt = i < prompts.n ? prompts.items[i] : 0;
                b->test.n_gen = i < prompts.n ? 0 : gens.items[i - prompts.n];
            }
            if (b->test.n_prompt + b->test.n_gen > 0) {
                code = run_test(b, limits);
            }
        }
    }
    return code;
}

/* The cache types an option was given, each word possibly several with commas between. */
static int collect_types(const words *given_words, int32_t *out) {
    int n = 0;
    for (int i = 0; i < given_words->n; i++) {
        for (const char *at = given_words->items[i]; *at != '\0' && n < MAX_LIST; at += *at == ',' ? 1 : 0) {
            char name[16];
            const size_t size = strcspn(at, ",");
            (void)snprintf(name, sizeof name, "%.*s", (int)size, at);
            out[n++] = nano_type_from_name(name);
            at += size;
        }
    }
    return n;
}

static void set_limit(nano_limits *l, axis_name axis, int32_t value) {
    switch (axis) {
        case AXIS_BATCH: l->n_batch = value; break;
        case AXIS_TYPE_K: l->type_k = value; break;
        case AXIS_TYPE_V: l->type_v = value; break;
        case AXIS_THREADS: l->n_threads = value; break;
        case AXIS_THREADS_BATCH: l->n_threads_batch = value; break;
        case AXIS_POLL: l->poll = value; break;
        case AXIS_LAYERS: l->n_gpu_layers = value; break;
        default: l->deterministic = value != 0; break;
    }
}

/* All limits in turn, for the file that is open. */
static int run_file(bench *b, nano_limits limits) {
    static const int32_t zero = 0;
    const nano_limits usual = nano_limits_default();
    const options *o = b->options;
    numbers types_k = {.n = 0}, types_v = {.n = 0};
    types_k.n = collect_types(&o->type_k, types_k.items);
    types_v.n = collect_types(&o->type_v, types_v.items);
    const struct {
        values values;
        int32_t usual;
    } axes[N_AXES] = {{given(&o->bench_batch, &usual.n_batch), usual.n_batch},
                      {given(&types_k, &usual.type_k), usual.type_k},
                      {given(&types_v, &usual.type_v), usual.type_v},
                      {given(&o->bench_threads, &zero), 0},
                      {given(&o->bench_threads_batch, &zero), 0},
                      {given(&o->bench_poll, &usual.poll), usual.poll},
                      {given(&o->bench_layers, &zero), 0},
                      {given(&o->bench_deterministic, &zero), 0}};
    double n_all = 1;
    for (int a = 0; a < N_AXES; a++) {
        n_all *= axes[a].values.n;
        b->is_shown[a] = false;
        for (int i = 0; i < axes[a].values.n && a != AXIS_THREADS; i++) {
            b->is_shown[a] = b->is_shown[a] || axes[a].values.items[i] != axes[a].usual;
        }
    }
    int code = n_all > 1e6 ? fail(EXIT_USAGE, "%.0f combinations are too many", n_all) : EXIT_OK;
    for (int i = 0; i < (int)n_all && code == EXIT_OK && !emit_failed(); i++) {
        for (int a = N_AXES - 1, rest = i; a >= 0; a--) { /* digits of i in mixed bases: the last list turns fastest */
            set_limit(&limits, (axis_name)a, axes[a].values.items[rest % axes[a].values.n]);
            rest /= axes[a].values.n;
        }
        code = run_tests(b, limits);
    }
    return code;
}

/* Architecture, size, type, as in "llama 1.2B Q8_0", and how many adapters. */
static void describe(bench *b) {
    const contents c = report_contents(b->engine.gguf);
    nano_str architecture = {"", 0}, size = {"", 0};
    char count[32];
    int64_t number = -1;
    const double n = (double)c.n_parameters;
    (void)snprintf(count, sizeof count,
                   n >= 1e9   ? "%.1fB"
                   : n >= 1e6 ? "%.0fM"
                              : "%.0fK",
                   n / (n >= 1e9   ? 1e9
                        : n >= 1e6 ? 1e6
                                   : 1e3));
    (void)nano_gguf_get_str(b->engine.gguf, "general.architecture", &architecture, NULL);
    (void)nano_gguf_get_int(b->engine.gguf, "general.file_type", &number, NULL);
    if (nano_gguf_get_str(b->engine.gguf, "general.size_label", &size, NULL) != NANO_OK || size.size == 0) {
        size = (nano_str){count, strlen(count)};
    }
    const char *name = number >= 0 && number < 1000 ? nano_ftype_name((nano_ftype)number) : NULL;
    name = name == NULL && c.n_types > 0 ? nano_type_name(c.types[0].type) : name;
    (void)snprintf(b->model_type, sizeof b->model_type, "%.*s %.*s %s",
                   architecture.size < 48 ? (int)architecture.size : 48, architecture.data,
                   size.size < 48 ? (int)size.size : 48, size.data, name != NULL ? name : "");
    if (b->engine.adapters->n > 0) {
        const size_t used = strlen(b->model_type);
        (void)snprintf(b->model_type + used, sizeof b->model_type - used, " + %d LoRA", b->engine.adapters->n);
    }
    b->model_size = c.n_bytes;
    b->n_params = c.n_parameters;
}

int run_bench(const options *o) {
    bench b = {.options = o};
    nano_limits limits;
    int code = engine_set_level(o->cpu);
    code = code == EXIT_OK ? engine_limits(o, &limits) : code;
    b.samples_ns = allocate((size_t)o->repetitions, sizeof *b.samples_ns);
    b.samples_ts = allocate((size_t)o->repetitions, sizeof *b.samples_ts);
    for (int i = 0; i < o->models.n && code == EXIT_OK && !emit_failed(); i++) {
        b.path = o->models.items[i];
        code = engine_open(&b.engine, b.path, &o->adapters);
        if (code == EXIT_OK) {
            describe(&b);
            code = run_file(&b, limits);
        }
        engine_free(&b.engine);
    }
    if (code == EXIT_OK && b.n_rows == 0 && !emit_failed()) {
        code = fail(EXIT_USAGE, "-p, -n, -pg: nothing to measure");
    }
    if (code == EXIT_OK) {
        bench_print_end(&b);
    }
    free(b.samples_ns);
    free(b.samples_ts);
    return code;
}
