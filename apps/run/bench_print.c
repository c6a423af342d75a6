/* Rows of `bench` as llama-bench prints them: a Markdown table, CSV, JSON. */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A type's name in small letters, as llama-bench has it. */
static const char *small_name(nano_type type, char out[16]) {
    (void)snprintf(out, 16, "%s", nano_type_name(type));
    for (char *c = out; *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    }
    return out;
}

/* A mask as a hexadecimal number. */
static const char *mask_digits(const uint64_t mask[4], char out[80]) {
    int top = 3;
    while (top > 0 && mask[top] == 0) {
        top--;
    }
    int n = snprintf(out, 80, "0x%" PRIx64, mask[top]);
    while (top-- > 0) {
        n += snprintf(out + n, (size_t)(80 - n), "%016" PRIx64, mask[top]);
    }
    return out;
}

void bench_add_test(text *t, const test *x) {
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

typedef struct column {
    const char *name;
    int width; /* negative: padded on the right */
    bool is_shown;
    text cell;
} column;

enum { N_COLUMNS = 15 };

static void add_backend(text *t, const nano_limits *l) {
    text_addf(t, l->n_gpu_layers > 0 ? "CUDA" : "CPU %s", nano_cpu_level());
}

static void fill_cells(const bench *b, column *c) {
    const nano_limits *l = &b->limits;
    const bool is_large = b->n_params >= 1000000000;
    char name[16], mask[80];
    text_addf(&c[0].cell, "%s", b->model_type);
    text_add_bytes(&c[1].cell, b->model_size);
    text_addf(&c[2].cell, "%.2f %s", (double)b->n_params / (is_large ? 1e9 : 1e6), is_large ? "B" : "M");
    add_backend(&c[3].cell, l);
    text_addf(&c[4].cell, "%" PRId32, l->n_threads);
    text_addf(&c[5].cell, "%" PRId32, l->n_batch);
    text_addf(&c[6].cell, "%" PRId32, l->n_threads_batch);
    text_addf(&c[7].cell, "%s", mask_digits(l->cpu_mask, mask));
    text_addf(&c[8].cell, "%" PRId32, l->poll);
    text_addf(&c[9].cell, "%" PRId32, l->n_gpu_layers);
    text_addf(&c[10].cell, "%s", small_name(l->type_k, name));
    text_addf(&c[11].cell, "%s", small_name(l->type_v, name));
    text_addf(&c[12].cell, "%d", l->deterministic ? 1 : 0);
    bench_add_test(&c[13].cell, &b->test);
    text_addf(&c[14].cell, "%.2f \xC2\xB1 %.2f", b->avg_ts, b->stddev_ts);
}

static void emit_markdown(const bench *b, line_kind kind) {
    const bool *is_shown = b->is_shown;
    column columns[N_COLUMNS] = {{"model", -24, true, {NULL, 0, 0}},
                                 {"size", 10, true, {NULL, 0, 0}},
                                 {"params", 9, true, {NULL, 0, 0}},
                                 {"backend", -11, true, {NULL, 0, 0}},
                                 {"threads", 7, true, {NULL, 0, 0}},
                                 {"n_batch", 7, is_shown[AXIS_BATCH], {NULL, 0, 0}},
                                 {"n_threads_batch", 15, is_shown[AXIS_THREADS_BATCH], {NULL, 0, 0}},
                                 {"cpu_mask", 10, b->options->cpu_mask != NULL, {NULL, 0, 0}},
                                 {"poll", 4, is_shown[AXIS_POLL], {NULL, 0, 0}},
                                 {"ngl", 3, is_shown[AXIS_LAYERS], {NULL, 0, 0}},
                                 {"type_k", 6, is_shown[AXIS_TYPE_K], {NULL, 0, 0}},
                                 {"type_v", 6, is_shown[AXIS_TYPE_V], {NULL, 0, 0}},
                                 {"deterministic", 13, is_shown[AXIS_DETERMINISTIC], {NULL, 0, 0}},
                                 {"test", 15, true, {NULL, 0, 0}},
                                 {"t/s", 21, true, {NULL, 0, 0}}};
    text line = {NULL, 0, 0};
    if (kind == LINE_ROW) {
        fill_cells(b, columns);
    }
    for (int i = 0; i < N_COLUMNS; i++) {
        const int width = columns[i].width;
        if (columns[i].is_shown && kind == LINE_RULE) {
            text_addf(&line, "|");
            for (int k = 0; k <= abs(width); k++) {
                text_addf(&line, "-");
            }
            text_addf(&line, width < 0 ? "-" : ":");
        } else if (columns[i].is_shown) {
            add_cell(&line, width, kind == LINE_HEAD ? columns[i].name : columns[i].cell.data);
        }
        text_free(&columns[i].cell);
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
enum { N_FIELDS = 26 };

static void collect_fields(const bench *b, field out[N_FIELDS]) {
    static char backend[64], mask[80], type_k[16], type_v[16];
    const nano_limits *l = &b->limits;
    text shown = {NULL, 0, 0};
    add_backend(&shown, l);
    (void)snprintf(backend, sizeof backend, "%s", shown.data);
    text_free(&shown);
    const field fields[N_FIELDS] = {{"version", FIELD_TEXT, nano_version(), 0},
                                    {"cpu_level", FIELD_TEXT, nano_cpu_level(), 0},
                                    {"backend", FIELD_TEXT, backend, 0},
                                    {"model_filename", FIELD_TEXT, b->path, 0},
                                    {"model_type", FIELD_TEXT, b->model_type, 0},
                                    {"model_size", FIELD_INT, NULL, (double)b->model_size},
                                    {"model_n_params", FIELD_INT, NULL, (double)b->n_params},
                                    {"n_batch", FIELD_INT, NULL, l->n_batch},
                                    {"n_threads", FIELD_INT, NULL, l->n_threads},
                                    {"n_threads_batch", FIELD_INT, NULL, l->n_threads_batch},
                                    {"cpu_mask", FIELD_TEXT, mask_digits(l->cpu_mask, mask), 0},
                                    {"poll", FIELD_INT, NULL, l->poll},
                                    {"n_gpu_layers", FIELD_INT, NULL, l->n_gpu_layers},
                                    {"device", FIELD_INT, NULL, l->device},
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
        text_addf(&t, "%s\"%s\": ", i > 0 ? between : between[1] == '\n' ? between + 1 : "", fields[i].name);
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

void bench_print_row(bench *b) {
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

void bench_print_end(const bench *b) {
    if (strcmp(b->options->output, "json") == 0) {
        emit("\n]\n", 3);
    }
}
