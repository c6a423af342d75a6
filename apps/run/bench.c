/* `bench`: the speed of prompts and of decoding, with the flags and the table of llama-bench. */
#include "generate.h"
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What is timed: a prompt, tokens one by one, or first the one and then the other, after `depth` tokens. */
typedef struct test {
    int32_t n_prompt, n_gen, depth;
} test;

/* The values that an option was given, or its default. */
typedef struct values {
    const int32_t *items;
    int n;
} values;

typedef struct bench {
    const options *options;
    engine engine;
    nano_limits limits; /* of the row being measured */
    test test;
    char model_type[128], test_time[32];
    uint64_t model_size, n_params;
    const char *path;
    int32_t *ids;       /* (n_ctx) of the vocabulary, the same ones each time */
    double *samples_ns; /* (repetitions) */
    double *samples_ts; /* tokens a second */
    double avg_ns, stddev_ns, avg_ts, stddev_ts, median_ts;
    bool shows_batch, shows_type_k, shows_type_v,
        shows_deterministic; /* columns of settings that are not the default */
    int n_rows;
} bench;

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
            note("%s: pp%" PRId32 " tg%" PRId32 ": run %" PRId64 " of %" PRId64 "\n", b->model_type, t->n_prompt,
                 t->n_gen, i + 1, o->repetitions);
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

/* ------------------------------------------------------------------ output */

/* A type's name in small letters, as llama-bench has it. */
static const char *small_name(nano_type type, char out[16]) {
    (void)snprintf(out, 16, "%s", nano_type_name(type));
    for (char *c = out; *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    }
    return out;
}

static void add_test(text *t, const test *x) {
    if (x->n_prompt > 0) {
        text_addf(t, "pp%" PRId32 "%s", x->n_prompt, x->n_gen > 0 ? "+" : "");
    }
    if (x->n_gen > 0) {
        text_addf(t, "tg%" PRId32, x->n_gen);
    }
    if (x->depth > 0) {
        text_addf(t, " @ d%" PRId32, x->depth);
    }
}

/* A cell, padded to `width` characters: on the right where that is negative. */
static void add_cell(text *line, int width, const char *cell) {
    int n = 0;
    for (const char *c = cell; *c != '\0'; c++) {
        n += ((unsigned char)*c & 0xC0) != 0x80;
    }
    const int pad = abs(width) > n ? abs(width) - n : 0;
    text_addf(line, "| %*s%s%*s ", width > 0 ? pad : 0, "", cell, width > 0 ? 0 : pad, "");
}

/* One line of the table: its head, the rule below, or the row just measured. */
typedef enum line_kind { LINE_HEAD, LINE_RULE, LINE_ROW } line_kind;

static void emit_markdown(const bench *b, line_kind kind) {
    char name[16];
    text cells[11], line = {NULL, 0, 0};
    memset(cells, 0, sizeof cells);
    if (kind == LINE_ROW) {
        text_addf(&cells[0], "%s", b->model_type);
        text_add_bytes(&cells[1], b->model_size);
        text_addf(&cells[2], b->n_params >= 1000000000 ? "%.2f B" : "%.2f M",
                  (double)b->n_params / (b->n_params >= 1000000000 ? 1e9 : 1e6));
        text_addf(&cells[3], "CPU %s", nano_cpu_level());
        text_addf(&cells[4], "%" PRId32, b->limits.n_threads);
        text_addf(&cells[5], "%" PRId32, b->limits.n_batch);
        text_addf(&cells[6], "%s", small_name(b->limits.type_k, name));
        text_addf(&cells[7], "%s", small_name(b->limits.type_v, name));
        text_addf(&cells[8], "%d", b->limits.deterministic ? 1 : 0);
        add_test(&cells[9], &b->test);
        text_addf(&cells[10], "%.2f \xC2\xB1 %.2f", b->avg_ts, b->stddev_ts);
    }
    const struct {
        const char *name;
        int width;
        bool is_shown;
    } columns[] = {{"model", -24, true},
                   {"size", 10, true},
                   {"params", 9, true},
                   {"backend", -11, true},
                   {"threads", 7, true},
                   {"n_batch", 7, b->shows_batch},
                   {"type_k", 6, b->shows_type_k},
                   {"type_v", 6, b->shows_type_v},
                   {"deterministic", 13, b->shows_deterministic},
                   {"test", 15, true},
                   {"t/s", 19, true}};
    for (int i = 0; i < 11; i++) {
        const int width = columns[i].width;
        if (columns[i].is_shown && kind == LINE_RULE) {
            text_addf(&line, "|");
            for (int k = 0; k <= abs(width); k++) {
                text_addf(&line, "-");
            }
            text_addf(&line, width < 0 ? "-" : ":");
        } else if (columns[i].is_shown) {
            add_cell(&line, width, kind == LINE_HEAD ? columns[i].name : cells[i].data);
        }
        text_free(&cells[i]);
    }
    text_addf(&line, "|\n");
    emit(line.data, line.size);
    text_free(&line);
}

typedef enum field_kind { FIELD_TEXT, FIELD_INT, FIELD_FLOAT, FIELD_BOOL } field_kind;
typedef struct field {
    const char *name;
    field_kind kind;
    const char *string;
    double number;
} field;
enum { N_FIELDS = 21 };

static void collect_fields(const bench *b, field out[N_FIELDS]) {
    static char backend[64], type_k[16], type_v[16];
    (void)snprintf(backend, sizeof backend, "CPU %s", nano_cpu_level());
    const nano_limits *l = &b->limits;
    const field fields[N_FIELDS] = {{"version", FIELD_TEXT, nano_version(), 0},
                                    {"cpu_level", FIELD_TEXT, nano_cpu_level(), 0},
                                    {"backend", FIELD_TEXT, backend, 0},
                                    {"model_filename", FIELD_TEXT, b->path, 0},
                                    {"model_type", FIELD_TEXT, b->model_type, 0},
                                    {"model_size", FIELD_INT, NULL, (double)b->model_size},
                                    {"model_n_params", FIELD_INT, NULL, (double)b->n_params},
                                    {"n_batch", FIELD_INT, NULL, l->n_batch},
                                    {"n_threads", FIELD_INT, NULL, l->n_threads},
                                    {"type_k", FIELD_TEXT, small_name(l->type_k, type_k), 0},
                                    {"type_v", FIELD_TEXT, small_name(l->type_v, type_v), 0},
                                    {"deterministic", FIELD_BOOL, NULL, l->deterministic ? 1 : 0},
                                    {"n_prompt", FIELD_INT, NULL, b->test.n_prompt},
                                    {"n_gen", FIELD_INT, NULL, b->test.n_gen},
                                    {"n_depth", FIELD_INT, NULL, b->test.depth},
                                    {"test_time", FIELD_TEXT, b->test_time, 0},
                                    {"avg_ns", FIELD_INT, NULL, b->avg_ns},
                                    {"stddev_ns", FIELD_INT, NULL, b->stddev_ns},
                                    {"avg_ts", FIELD_FLOAT, NULL, b->avg_ts},
                                    {"stddev_ts", FIELD_FLOAT, NULL, b->stddev_ts},
                                    {"median_ts", FIELD_FLOAT, NULL, b->median_ts}};
    memcpy(out, fields, sizeof fields);
}

static void add_number(text *t, const field *f) { text_addf(t, "%.*f", f->kind == FIELD_FLOAT ? 6 : 0, f->number); }

static void emit_json(const bench *b, const char *before, const char *between, const char *after) {
    field fields[N_FIELDS];
    text t = {NULL, 0, 0};
    collect_fields(b, fields);
    text_addf(&t, "%s{", before);
    for (int i = 0; i < N_FIELDS; i++) {
        text_addf(&t, "%s\"%s\": ", i > 0 ? between : between + 1, fields[i].name);
        if (fields[i].kind == FIELD_TEXT) {
            text_add_json(&t, fields[i].string, strlen(fields[i].string));
        } else if (fields[i].kind == FIELD_BOOL) {
            text_addf(&t, "%s", fields[i].number != 0 ? "true" : "false");
        } else {
            add_number(&t, &fields[i]);
        }
    }
    for (int k = 0; k < 2; k++) {
        text_addf(&t, "%s\"%s\": [", between, k == 0 ? "samples_ns" : "samples_ts");
        for (int64_t i = 0; i < b->options->repetitions; i++) {
            text_addf(&t, "%s%.*f", i > 0 ? ", " : "", k == 0 ? 0 : 6, k == 0 ? b->samples_ns[i] : b->samples_ts[i]);
        }
        text_addf(&t, "]");
    }
    text_addf(&t, "%s}%s", between[1] == '\n' ? "\n  " : "", after);
    emit(t.data, t.size);
    text_free(&t);
}

static void add_csv(text *t, const char *cell) {
    if (strpbrk(cell, ",\"\r\n") == NULL) {
        text_addf(t, "%s", cell);
        return;
    }
    text_addf(t, "\"");
    for (; *cell != '\0'; cell++) {
        text_addf(t, "%s%c", *cell == '"' ? "\"" : "", *cell);
    }
    text_addf(t, "\"");
}

static void emit_csv(const bench *b, bool is_head) {
    field fields[N_FIELDS];
    text t = {NULL, 0, 0};
    collect_fields(b, fields);
    for (int i = 0; i < N_FIELDS; i++) {
        text_addf(&t, "%s", i > 0 ? "," : "");
        if (is_head || fields[i].kind == FIELD_TEXT) {
            add_csv(&t, is_head ? fields[i].name : fields[i].string);
        } else if (fields[i].kind == FIELD_BOOL) {
            text_addf(&t, "%s", fields[i].number != 0 ? "True" : "False");
        } else {
            add_number(&t, &fields[i]);
        }
    }
    text_addf(&t, "\n");
    emit(t.data, t.size);
    text_free(&t);
}

static void emit_row(bench *b) {
    const char *format = b->options->output;
    const bool is_first = b->n_rows++ == 0;
    if (strcmp(format, "md") == 0) {
        if (is_first) {
            emit_markdown(b, LINE_HEAD);
            emit_markdown(b, LINE_RULE);
        }
        emit_markdown(b, LINE_ROW);
    } else if (strcmp(format, "csv") == 0) {
        if (is_first) {
            emit_csv(b, true);
        }
        emit_csv(b, false);
    } else if (strcmp(format, "jsonl") == 0) {
        emit_json(b, "", ", ", "\n");
    } else {
        emit_json(b, is_first ? "[\n  " : ",\n  ", ",\n    ", "");
    }
}

/* ----------------------------------------------------------------- command */

/* Measures and prints one row. */
static int run_test(bench *b, nano_limits limits) {
    engine *e = &b->engine;
    const int32_t n_ctx = b->test.depth + b->test.n_prompt + b->test.n_gen;
    nano_error err = {NANO_OK, ""};
    int code = engine_plan(e, n_ctx, limits);
    code = code == EXIT_OK ? engine_check_memory(e) : code;
    code = code == EXIT_OK ? engine_start(e) : code;
    if (code == EXIT_OK) {
        const uint64_t n_vocab = (uint64_t)nano_model_n_vocab(e->model);
        uint64_t random = 1;
        b->limits = e->limits;
        b->ids = allocate((size_t)n_ctx, sizeof *b->ids);
        for (int32_t i = 0; i < n_ctx; i++) { /* Knuth's MMIX generator */
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
        emit_row(b);
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

/* The cache types an option was given, each possibly several with commas between. */
static int collect_types(const words *given_words, nano_type *out, int most) {
    int n = 0;
    for (int i = 0; i < given_words->n; i++) {
        for (const char *at = given_words->items[i]; *at != '\0' && n < most; at += *at == ',' ? 1 : 0) {
            char name[16];
            const size_t size = strcspn(at, ",");
            (void)snprintf(name, sizeof name, "%.*s", (int)size, at);
            out[n++] = nano_type_from_name(name);
            at += size;
        }
    }
    if (n == 0) {
        out[n++] = nano_limits_default().type_k;
    }
    return n;
}

static bool differ(values v, int32_t usual) {
    bool result = false;
    for (int i = 0; i < v.n; i++) {
        result = result || v.items[i] != usual;
    }
    return result;
}

/* All limits in turn, for the file that is open. */
static int run_file(bench *b, nano_limits limits) {
    static const int32_t usual_batch = 512, usual_threads = 0, usual_deterministic = 0;
    enum { MAX_TYPES = 16 };
    const options *o = b->options;
    nano_type types_k[MAX_TYPES], types_v[MAX_TYPES];
    const int n_k = collect_types(&o->type_k, types_k, MAX_TYPES), n_v = collect_types(&o->type_v, types_v, MAX_TYPES);
    const values batches = given(&o->bench_batch, &usual_batch), threads = given(&o->bench_threads, &usual_threads),
                 modes = given(&o->bench_deterministic, &usual_deterministic);
    const nano_type usual = nano_limits_default().type_k;
    const int n_all = batches.n * n_k * n_v * threads.n * modes.n;
    int code = EXIT_OK;
    b->shows_batch = differ(batches, usual_batch);
    b->shows_type_k = differ((values){types_k, n_k}, usual);
    b->shows_type_v = differ((values){types_v, n_v}, usual);
    b->shows_deterministic = differ(modes, usual_deterministic);
    for (int i = 0; i < n_all && code == EXIT_OK && !emit_failed(); i++) {
        int rest = i; /* digits of i in mixed bases: the last list turns fastest */
        limits.deterministic = modes.items[rest % modes.n] != 0;
        rest /= modes.n;
        limits.n_threads = threads.items[rest % threads.n];
        rest /= threads.n;
        limits.type_v = types_v[rest % n_v];
        rest /= n_v;
        limits.type_k = types_k[rest % n_k];
        limits.n_batch = batches.items[rest / n_k];
        code = run_tests(b, limits);
    }
    return code;
}

/* Architecture, size, type, as in "llama 1.2B Q8_0". */
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
        code = engine_open(&b.engine, b.path);
        if (code == EXIT_OK) {
            describe(&b);
            code = run_file(&b, limits);
        }
        engine_free(&b.engine);
    }
    if (code == EXIT_OK && b.n_rows == 0 && !emit_failed()) {
        code = fail(EXIT_USAGE, "-p, -n, -pg: nothing to measure");
    }
    if (code == EXIT_OK && strcmp(o->output, "json") == 0) {
        emit("\n]\n", 3);
    }
    free(b.samples_ns);
    free(b.samples_ts);
    return code;
}
