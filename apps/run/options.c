#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef enum kind {
    KIND_GROUP,  /* no option: a title in --help */
    KIND_SET,    /* bool: true */
    KIND_CLEAR,  /* bool: false */
    KIND_INT,    /* int64_t */
    KIND_INT32,  /* int32_t */
    KIND_FLOAT,  /* float */
    KIND_TEXT,   /* const char * */
    KIND_TEXTS,  /* words */
    KIND_TYPES,  /* words, each one or more cache types with commas between */
    KIND_LORA,   /* adapters: FILE */
    KIND_SCALED, /* adapters: FILE:SCALE */
    KIND_BIAS,   /* biases */
    KIND_LIST,   /* numbers: 512; 1,2,4; 1-8*2 */
    KIND_PAIR,   /* numbers, two at a time */
    KIND_LAYERS  /* int64_t, or auto: LAYERS_AUTO */
} kind;

typedef struct option {
    const char *names, *metavar, *help; /* names with commas between */
    kind kind;
    unsigned commands;
    size_t offset;
    double low, high;
    bool is_sampler; /* its default is the core's, and told in --help */
} option;

#define AT(field) offsetof(options, field)
#define GEN COMMAND_GENERATE
#define FIT COMMAND_FIT
#define BENCH COMMAND_BENCH
#define INFO COMMAND_INFO
#define EVERY (GEN | FIT | BENCH | INFO)
#define LEAST (-INFINITY)
#define MOST INFINITY

#define LAYERS_AUTO (-1) /* of a LIST, too: where it is the least, there may be "auto" for it */

#define CACHE_TYPES "f32, f16, q8_0, q4_0"

static const option table[] = {
#define GROUP(commands, title, note) {title, NULL, note, KIND_GROUP, commands, 0, 0, 0, false},
#define SET(commands, field, names, help) {names, NULL, help, KIND_SET, commands, AT(field), 0, 0, false},
#define CLEAR(commands, field, names, help) {names, NULL, help, KIND_CLEAR, commands, AT(field), 0, 0, false},
#define NUMBER(kind, commands, field, low, high, names, metavar, help) \
    {names, metavar, help, KIND_##kind, commands, AT(field), low, high, false},
#define WORD(kind, commands, field, names, metavar, help) \
    {names, metavar, help, KIND_##kind, commands, AT(field), 0, 0, false},
#define SAMPLER(kind, field, low, high, names, metavar, help) \
    {names, metavar, help, KIND_##kind, GEN, AT(sampler.field), low, high, true},
#include "options.inc"
};

enum { N_ROWS = sizeof table / sizeof table[0] };

static options defaults(command which) {
    return (options){.command = which,
                     .n_ctx = -1,
                     .n_batch = 512,
                     .n_slots = 1,
                     .poll = 50,
                     .n_predict = -1,
                     .escape = true,
                     .display_prompt = true,
                     .seed = -1,
                     .sampler = nano_sampler_params_default(),
                     .repetitions = 5,
                     .warmup = true,
                     .output = "md"};
}

const char *options_last(const words *w) { return w->n > 0 ? w->items[w->n - 1] : NULL; }

void options_text(const options *o, const char *given, text *out) {
    (o->escape ? text_add_unescaped : text_add_clean)(out, given, strlen(given));
    text_add(out, "", 0);
}

void options_free(options *o) {
    for (int i = 0; i < o->adapters.n; i++) {
        free(o->adapters.paths[i]);
    }
    free(o->adapters.paths);
    free(o->adapters.scales);
    free((void *)o->models.items);
    free((void *)o->type_k.items);
    free((void *)o->type_v.items);
    free((void *)o->reverse_prompts.items);
    free(o->logit_bias.ids);
    free(o->logit_bias.values);
}

/* ----------------------------------------------------------------- reading */

static int fail_usage(const char *name, const char *format, const char *found) {
    text message = {NULL, 0, 0};
    text_addf(&message, format, found);
    const int code = fail(EXIT_USAGE, "%s%s%s (%s --help lists the options)", name, name[0] != '\0' ? ": " : "",
                          message.data, program_name);
    text_free(&message);
    return code;
}

static int fail_range(const option *o, const char *name, const char *found) {
    char expected[96];
    if (o->low < -9e18 || o->high <= o->low) {
        return fail_usage(name, "expected a number, found '%s'", found);
    }
    if (o->high > 9e18) {
        (void)snprintf(expected, sizeof expected, "expected at least %.0f, found '%%s'", o->low);
    } else {
        (void)snprintf(expected, sizeof expected, "expected %.0f to %.0f, found '%%s'", o->low, o->high);
    }
    return fail_usage(name, expected, found);
}

static bool read_int(const option *o, const char *s, int64_t *out) {
    char *end = NULL;
    errno = 0;
    *out = strtoll(s, &end, 10);
    return end != s && *end == '\0' && errno == 0 && (double)*out >= o->low && (double)*out <= o->high;
}

static bool read_float(const option *o, const char *s, float *out) {
    char *end = NULL;
    const double value = strtod(s, &end);
    *out = (float)value;
    return end != s && *end == '\0' && !isnan(value) && value >= o->low && value <= o->high;
}

static bool read_bias(const option *o, const char *s, biases *out) {
    const size_t n_digits = strspn(s, "0123456789");
    char *end = NULL;
    errno = 0;
    const long long id = strtoll(s, &end, 10);
    const option any = {.low = -INFINITY, .high = INFINITY};
    (void)o;
    if (n_digits == 0 || errno != 0 || id > INT32_MAX || (s[n_digits] != '+' && s[n_digits] != '-') ||
        !read_float(&any, s + n_digits, &out->values[out->n])) {
        return false;
    }
    out->ids[out->n++] = (int32_t)id;
    return true;
}

/* 7, or first-last, first-last+step, first-last*factor; false when it is none or the list is full. */
static bool read_span(const option *o, const char *s, const char *end, numbers *out) {
    int32_t values[3] = {0, 0, 1}; /* first, last, step */
    char sign = '+';
    int n = 0;
    while (n < 3) {
        int32_t value = 0;
        const char *digits = s;
        for (; s < end && *s >= '0' && *s <= '9' && s - digits < 9; s++) {
            value = 10 * value + (*s - '0');
        }
        if (s == digits) {
            return false;
        }
        values[n++] = value;
        if (s == end || (n == 1 && *s != '-') || (n == 2 && *s != '+' && *s != '*')) {
            break;
        }
        sign = *s++;
    }
    const int64_t last = n == 1 ? values[0] : values[1], step = values[2];
    if (s != end || step < 1 || (sign == '*' && n == 3 && (step < 2 || values[0] < 1)) || values[0] > last) {
        return false;
    }
    for (int64_t value = values[0]; value <= last; value = n == 3 && sign == '*' ? value * step : value + step) {
        if ((double)value < o->low || (double)value > o->high || out->n == MAX_LIST) {
            return false;
        }
        out->items[out->n++] = (int32_t)value;
    }
    return true;
}

/* "auto" in a list that takes it. */
static bool read_auto(const option *o, const char *s, const char *end, numbers *out) {
    if (o->low > LAYERS_AUTO || end - s != 4 || strncmp(s, "auto", 4) != 0 || out->n == MAX_LIST) {
        return false;
    }
    out->items[out->n++] = LAYERS_AUTO;
    return true;
}

static bool read_list(const option *o, const char *s, numbers *out) {
    for (const char *comma = s; comma != NULL; s = comma + 1) {
        comma = strchr(s, ',');
        const char *end = comma != NULL ? comma : s + strlen(s);
        if (!read_auto(o, s, end, out) && !read_span(o, s, end, out)) {
            return false;
        }
        if (comma == NULL) {
            return true;
        }
    }
    return false;
}

static bool read_pair(const option *o, const char *s, numbers *out) {
    const int n = out->n;
    return strchr(s, '-') == NULL && read_list(o, s, out) && out->n == n + 2 && (out->items[n] | out->items[n + 1]) > 0;
}

static void add_word(words *w, int argc, const char *word) {
    if (w->items == NULL) {
        w->items = allocate((size_t)argc, sizeof *w->items); /* no option comes more often than there are words */
    }
    w->items[w->n++] = word;
}

static void add_adapter(adapters *a, int argc, const char *path, size_t size, float scale) {
    if (a->paths == NULL) {
        a->paths = allocate((size_t)argc, sizeof *a->paths);
        a->scales = allocate((size_t)argc, sizeof *a->scales);
    }
    a->paths[a->n] = allocate(size + 1, 1);
    memcpy(a->paths[a->n], path, size);
    a->paths[a->n][size] = '\0';
    a->scales[a->n++] = scale;
}

static bool read_scaled(adapters *a, int argc, const char *value) {
    const option finite = {.low = -1e30, .high = 1e30};
    const char *colon = strrchr(value, ':');
    float scale = 0.0f;
    if (colon == NULL || colon == value || !read_float(&finite, colon + 1, &scale)) {
        return false;
    }
    add_adapter(a, argc, value, (size_t)(colon - value), scale);
    return true;
}

static bool are_types(const char *s, bool may_be_many) {
    static const char *const known[] = {"f16", "f32", "q8_0", "q4_0"};
    for (;; s++) {
        const size_t n = strcspn(s, ",");
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            is_known = is_known || (strlen(known[i]) == n && strncasecmp(known[i], s, n) == 0);
        }
        s += n;
        if (!is_known || *s == '\0' || !may_be_many) {
            return is_known && *s == '\0';
        }
    }
}

static int take_value(options *o, const option *row, const char *name, const char *value, int argc) {
    void *at = (char *)o + row->offset;
    int64_t integer;
    switch (row->kind) {
        case KIND_LAYERS:
            if (strcmp(value, "auto") == 0) {
                *(int64_t *)at = LAYERS_AUTO;
                return EXIT_OK;
            }
            return read_int(row, value, at)
                       ? EXIT_OK
                       : fail_usage(name, "expected a number of layers or auto, found '%s'", value);
        case KIND_INT: return read_int(row, value, at) ? EXIT_OK : fail_range(row, name, value);
        case KIND_INT32:
            if (!read_int(row, value, &integer)) {
                return fail_range(row, name, value);
            }
            *(int32_t *)at = (int32_t)integer;
            return EXIT_OK;
        case KIND_FLOAT: return read_float(row, value, at) ? EXIT_OK : fail_range(row, name, value);
        case KIND_TEXT: *(const char **)at = value; return EXIT_OK;
        case KIND_TEXTS: add_word(at, argc, value); return EXIT_OK;
        case KIND_TYPES:
            if (!are_types(value, o->command == COMMAND_BENCH)) {
                return fail_usage(name, "expected one of " CACHE_TYPES ", found '%s'", value);
            }
            add_word(at, argc, value);
            return EXIT_OK;
        case KIND_LORA: add_adapter(at, argc, value, strlen(value), 1.0f); return EXIT_OK;
        case KIND_SCALED:
            return read_scaled(at, argc, value)
                       ? EXIT_OK
                       : fail_usage(name, "expected FILE:SCALE, as in adapter.gguf:0.5, found '%s'", value);
        case KIND_BIAS:
            if (o->logit_bias.ids == NULL) {
                o->logit_bias.ids = allocate((size_t)argc, sizeof *o->logit_bias.ids);
                o->logit_bias.values = allocate((size_t)argc, sizeof *o->logit_bias.values);
            }
            return read_bias(row, value, at) ? EXIT_OK
                                             : fail_usage(name, "expected ID+BIAS or ID-BIAS, found '%s'", value);
        case KIND_LIST:
            return read_list(row, value, at)
                       ? EXIT_OK
                       : fail_usage(name, "expected numbers or ranges in range, found '%s'", value);
        case KIND_PAIR:
            return read_pair(row, value, at)
                       ? EXIT_OK
                       : fail_usage(name, "expected two numbers as in 512,128, found '%s'", value);
        default: return EXIT_OK;
    }
}

/* Is `name` one of the comma-separated names? Long ones may be spelt with underscores. */
static bool has_name(const char *names, const char *name, size_t size) {
    const bool is_long = size > 2 && name[1] == '-';
    while (true) {
        const size_t n = strcspn(names, ",");
        bool is_equal = n == size;
        for (size_t i = 0; i < n && is_equal; i++) {
            is_equal = names[i] == name[i] || (is_long && names[i] == '-' && name[i] == '_');
        }
        if (is_equal || names[n] == '\0') {
            return is_equal;
        }
        names += n + 1;
    }
}

static const option *find(command which, const char *name, size_t size) {
    for (int i = 0; i < N_ROWS; i++) {
        const option *row = &table[i];
        if (row->kind != KIND_GROUP && (row->commands & (unsigned)which) != 0 && has_name(row->names, name, size)) {
            return row;
        }
    }
    return NULL;
}

static int parse_word(options *o, int argc, char **argv, int *i) {
    const char *word = argv[*i];
    const size_t size = strcspn(word, "=");
    const option *row = word[0] == '-' ? find(o->command, word, size) : NULL;
    if (row == NULL) {
        if (word[0] != '-' && (o->command == COMMAND_FIT || o->command == COMMAND_INFO) && o->models.n == 0) {
            add_word(&o->models, argc, word);
            return EXIT_OK;
        }
        return fail_usage("", "'%s' is no option", word);
    }
    const char *value = word[size] == '=' ? word + size + 1 : NULL;
    if (row->kind == KIND_SET || row->kind == KIND_CLEAR) {
        if (value != NULL) {
            return fail_usage(word, "takes no value", "");
        }
        *(bool *)((char *)o + row->offset) = row->kind == KIND_SET;
        if (row->offset == AT(is_conversation) || row->offset == AT(is_no_conversation)) {
            o->is_conversation = row->offset == AT(is_conversation);
            o->is_no_conversation = !o->is_conversation;
        }
        return EXIT_OK;
    }
    if (value == NULL && *i + 1 == argc) {
        return fail_usage(word, "expected a value after it", "");
    }
    value = value != NULL ? value : argv[++*i];
    return take_value(o, row, word, value, argc);
}

int options_parse(options *o, command which, int argc, char **argv) {
    *o = defaults(which);
    int code = EXIT_OK;
    for (int i = 0; i < argc && code == EXIT_OK && !o->help && !o->version && !o->list_devices; i++) {
        code = parse_word(o, argc, argv, &i);
    }
    if (code != EXIT_OK || o->help || o->version || o->list_devices) {
        return code;
    }
    if (o->models.n == 0) {
        return fail_usage("", "-m FILE: name a model%s", "");
    }
    if (o->prompt != NULL && o->file != NULL) {
        return fail_usage("", "-p and -f: give one of the two%s", "");
    }
    if (o->system_prompt != NULL && o->is_no_conversation) {
        return fail_usage("", "-sys and -no-cnv: a system message needs a conversation%s", "");
    }
    if (which == COMMAND_BENCH && strcmp(o->output, "md") != 0 && strcmp(o->output, "json") != 0 &&
        strcmp(o->output, "jsonl") != 0 && strcmp(o->output, "csv") != 0) {
        return fail_usage("-o", "expected md, json, jsonl or csv, found '%s'", o->output);
    }
    return EXIT_OK;
}

/* -------------------------------------------------------------------- help */

enum { HELP_COLUMN = 34, HELP_WIDTH = 100 };

/* Adds words from column `at` on, each line after the first indented. */
static void add_wrapped(text *t, const char *s, size_t at) {
    while (*s != '\0') {
        const size_t n = strcspn(s, " ");
        if (at + n > HELP_WIDTH) {
            t->size--; /* the space at the line's end */
            text_addf(t, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        text_addf(t, "%.*s ", (int)n, s);
        at += n + 1;
        s += n + (s[n] == ' ' ? 1 : 0);
    }
    t->size--; /* the last space */
}

static void add_option(text *t, const option *row, const options *usual) {
    const size_t start = t->size;
    text_addf(t, "  ");
    for (const char *name = row->names; *name != '\0';) {
        const size_t n = strcspn(name, ",");
        text_addf(t, "%.*s%s", (int)n, name, name[n] == ',' ? ", " : "");
        name += n + (name[n] == ',' ? 1 : 0);
    }
    text_addf(t, "%s%s", row->metavar != NULL ? " " : "", row->metavar != NULL ? row->metavar : "");
    const size_t used = t->size - start;
    text_addf(t, "%s%*s", used > HELP_COLUMN - 2 ? "\n" : "",
              (int)(used > HELP_COLUMN - 2 ? HELP_COLUMN : HELP_COLUMN - used), "");
    text help = {NULL, 0, 0};
    text_addf(&help, "%s", row->help);
    const void *at = (const char *)usual + row->offset;
    if (row->is_sampler) {
        text_addf(&help, " (default: %g)",
                  row->kind == KIND_FLOAT ? (double)*(const float *)at : (double)*(const int32_t *)at);
    }
    add_wrapped(t, help.data, HELP_COLUMN);
    text_addf(t, "\n");
    text_free(&help);
}

static const struct {
    command command;
    const char *text;
} introductions[] = {
    {COMMAND_GENERATE,
     "usage: nanollm-run -m FILE [-p TEXT] [options]\n"
     "       nanollm-run fit|bench|info -m FILE [options]\n"
     "\n"
     "Continues a text, or holds a conversation, with a small language model in a GGUF file that carries its\n"
     "program (`nanollm export` puts it in, or beside it in FILE.nanollm). fit tells the memory it takes, bench\n"
     "the speed, info what is in the file; each has its own --help.\n"},
    {COMMAND_FIT, "usage: nanollm-run fit -m FILE [options]\n\n"
                  "Prints the exact memory that a model needs, and whether it fits this machine. Nothing is loaded.\n"
                  "Exits with 1 where it does not fit.\n"},
    {COMMAND_BENCH,
     "usage: nanollm-run bench -m FILE [options]\n\n"
     "Measures the speed of prompts and of decoding. Flags and table are those of llama-bench.\n"
     "A LIST is numbers and ranges with commas between: 512; 1,2,4; 1-4; 1-8*2 (1, 2, 4, 8); 0-4096+1024.\n"
     "Every combination is a row. Each test runs once unmeasured, then -r times; no text is sampled.\n"},
    {COMMAND_INFO, "usage: nanollm-run info -m FILE [options]\n\n"
                   "Prints what is in a model's file, and the memory it takes to run.\n"},
};

static const char epilog[] =
    "\nexamples:\n"
    "  nanollm-run -m model.gguf -p \"How is Boston\" -n 64     at most 64 tokens\n"
    "  nanollm-run -m model.gguf --temp 0 -f story.txt        greedy, the prompt from a file\n"
    "  echo \"The sea\" | nanollm-run -m model.gguf | tee out   the prompt from a pipe; stdout holds generated text "
    "only\n"
    "  nanollm-run -m chat.gguf -cnv -sys \"Be brief.\"         a conversation; Ctrl-C stops an answer, Ctrl-D ends\n"
    "\n"
    "Long options may also be spelt with underscores. Exit codes: 0 done, 1 error, 2 usage, 130 interrupted.\n";

void options_print_help(command which) {
    const options usual = defaults(which);
    text t = {NULL, 0, 0};
    for (size_t i = 0; i < sizeof introductions / sizeof introductions[0]; i++) {
        text_addf(&t, "%s", introductions[i].command == which ? introductions[i].text : "");
    }
    for (int i = 0; i < N_ROWS; i++) {
        const option *row = &table[i];
        if ((row->commands & (unsigned)which) == 0) {
            continue;
        }
        if (row->kind == KIND_GROUP) {
            text_addf(&t, "\n%s:\n", row->names);
            if (row->help != NULL) {
                text_addf(&t, "  %s\n", row->help);
            }
        } else {
            add_option(&t, row, &usual);
        }
    }
    text_addf(&t, "%s", which == COMMAND_GENERATE ? epilog : "");
    emit(t.data, t.size);
    text_free(&t);
}
