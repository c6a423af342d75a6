/*
 * nanollm-quantize: writes a GGUF model again with its matrices in smaller types. The whole work is
 * nano_quantize_file's; this is its command line.
 */
#if !defined(_POSIX_C_SOURCE)
#  define _POSIX_C_SOURCE 200809L /* regcomp, signals, stat */
#endif

#include "ggml_core.h"

#include <errno.h>
#include <inttypes.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { EXIT_USAGE = 2, EXIT_INTERRUPTED = 130, MAX_RULES = 64, MAX_VALUES = 64, MAX_PATH = 4096 };

/* --tensor-type REGEX=TYPE */
typedef struct type_rule {
    regex_t pattern;
    nano_type type;
} type_rule;

typedef union number {
    uint32_t u32;
    int64_t i64;
    float f32;
    uint8_t boolean;
    nano_str text;
} number;

typedef struct program {
    nano_quantize_options options;
    type_rule rules[MAX_RULES];
    int n_rules;
    nano_quantize_value values[MAX_VALUES];
    number numbers[MAX_VALUES];
    char keys[MAX_VALUES][256];
    const char *words[4]; /* IN [OUT] TYPE [THREADS] */
    int n_words;
    uint64_t n_tensors, n_fallbacks;
    double n_elements, old_bytes, new_bytes;
} program;

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

/* --------------------------------------------------------------- the core's */

static nano_type choose(void *context, const char *name, nano_type proposed) {
    const program *p = context;
    for (int i = 0; i < p->n_rules; i++) {
        if (regexec(&p->rules[i].pattern, name, 0, NULL, 0) == 0) {
            return p->rules[i].type;
        }
    }
    return proposed;
}

static void print_tensor(const program *p, const nano_quantize_step *step) {
    const nano_gguf_tensor *t = step->tensor;
    char shape[96];
    size_t n = 0;
    for (int i = t->n_dims - 1; i >= 0 && n < sizeof shape; i--) {
        n += (size_t)snprintf(shape + n, sizeof shape - n, "%" PRId64 "%s", t->ne[i], i > 0 ? " x " : "");
    }
    printf("[%4" PRIu64 "/%" PRIu64 "] %-32s %16s  %6s %10.2f KiB", step->index + 1, p->n_tensors, t->name, shape,
           nano_type_name(t->type), (double)t->n_bytes / 1024.0);
    if (step->type == t->type) {
        printf("  as it is");
    } else {
        printf("  -> %6s %10.2f KiB", nano_type_name(step->type), (double)step->n_bytes / 1024.0);
    }
    if (step->type != step->wanted) {
        printf("  FALLBACK: rows do not fill %s", nano_type_name(step->wanted));
    }
    printf("\n");
    (void)fflush(stdout);
}

static bool progress(void *context, const nano_quantize_step *step) {
    program *p = context;
    if (step->is_done) {
        const nano_gguf_tensor *t = step->tensor;
        p->n_elements += (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2] * (double)t->ne[3];
        p->old_bytes += (double)t->n_bytes;
        p->new_bytes += (double)step->n_bytes;
        p->n_fallbacks += step->type != step->wanted;
        print_tensor(p, step);
    }
    return interrupted == 0;
}

/* ---------------------------------------------------------- the command line */

static const char usage[] = "usage: nanollm-quantize [options] IN.gguf [OUT.gguf] TYPE [THREADS]\n"
                            "\n"
                            "Writes a GGUF model again as TYPE, a name in any case or its number:\n";

static const char options_help[] =
    "  --allow-requantize            take matrices that are quantised already; costs quality\n"
    "  --leave-output-tensor         keep output.weight as it is\n"
    "  --pure                        one type for all matrices, no mix\n"
    "  --output-tensor-type TYPE     type of output.weight\n"
    "  --token-embedding-type TYPE   type of token_embd.weight\n"
    "  --tensor-type REGEX=TYPE      type of tensors whose names match; the first match counts\n"
    "  --override-kv KEY=TYPE:VALUE  metadata to set; TYPE is int, float, bool or str\n"
    "  --dry-run                     print what would be done, write nothing\n"
    "  --no-fallback                 fail where a row is not whole blocks of its type\n"
    "  -h, --help                    print this and exit\n";

static void print_help(void) {
    printf("%s", usage);
    for (int32_t i = 0; nano_ftype_at(i) != -1; i++) {
        const nano_ftype ftype = nano_ftype_at(i);
        printf("  %-8s", nano_ftype_name(ftype));
        if (ftype >= 0) {
            printf(" %2d", (int)ftype);
        }
        printf("\n");
    }
    printf("\n%s", options_help);
}

static int fail_usage(const char *what, const char *found) {
    (void)fprintf(stderr, "nanollm-quantize: error: %s, found '%s' (--help lists the options)\n", what, found);
    return EXIT_USAGE;
}

static int set_type(const char *text, nano_type *out) {
    *out = nano_type_from_name(text);
    return *out >= 0 ? EXIT_SUCCESS : fail_usage("expected the name of a tensor type", text);
}

static int add_rule(program *p, char *text) {
    char *equals = strrchr(text, '=');
    if (equals == NULL || equals == text || p->n_rules == MAX_RULES) {
        return fail_usage("--tensor-type: expected REGEX=TYPE, at most 64 times", text);
    }
    *equals = '\0';
    type_rule *rule = &p->rules[p->n_rules];
    const int code = set_type(equals + 1, &rule->type);
    if (code != EXIT_SUCCESS) {
        return code;
    }
    if (regcomp(&rule->pattern, text, REG_EXTENDED | REG_NOSUB) != 0) {
        return fail_usage("--tensor-type: expected a regular expression", text);
    }
    p->n_rules++;
    return EXIT_SUCCESS;
}

/* Parses "int:7" and the like into values[n_values]; false when it is none. */
static bool parse_value(program *p, const char *typed) {
    nano_quantize_value *v = &p->values[p->options.n_values];
    number *n = &p->numbers[p->options.n_values];
    const char *text = strchr(typed, ':');
    char *end = NULL;
    if (text == NULL || text[1] == '\0') {
        return false;
    }
    text++;
    v->items = n;
    v->n_items = 1;
    if (strncmp(typed, "str:", 4) == 0) {
        v->kind = NANO_GGUF_STRING;
        n->text.data = text;
        n->text.size = strlen(text);
        return true;
    }
    if (strncmp(typed, "bool:", 5) == 0) {
        v->kind = NANO_GGUF_BOOL;
        n->boolean = strcmp(text, "true") == 0;
        return n->boolean != 0 || strcmp(text, "false") == 0;
    }
    if (strncmp(typed, "float:", 6) == 0) {
        v->kind = NANO_GGUF_FLOAT32;
        errno = 0;
        n->f32 = strtof(text, &end);
        return *end == '\0' && (errno == 0 || (n->f32 > -1.0f && n->f32 < 1.0f)); /* too small is 0 */
    }
    if (strncmp(typed, "int:", 4) == 0) {
        errno = 0;
        const long long value = strtoll(text, &end, 10);
        if (value >= 0 && value <= (long long)UINT32_MAX) {
            v->kind = NANO_GGUF_UINT32; /* what the format's keys mostly are */
            n->u32 = (uint32_t)value;
        } else {
            v->kind = NANO_GGUF_INT64;
            n->i64 = value;
        }
        return *end == '\0' && errno == 0;
    }
    return false;
}

static int add_value(program *p, const char *text) {
    const char *equals = strchr(text, '=');
    const size_t n_key = equals != NULL ? (size_t)(equals - text) : 0;
    const int32_t i = p->options.n_values;
    if (n_key == 0 || i == MAX_VALUES || n_key >= sizeof p->keys[0] || !parse_value(p, equals + 1)) {
        return fail_usage("--override-kv: expected KEY=int:N, KEY=float:X, KEY=bool:true or KEY=str:TEXT", text);
    }
    memcpy(p->keys[i], text, n_key);
    p->values[i].key = p->keys[i];
    p->options.n_values++;
    return EXIT_SUCCESS;
}

static int parse(program *p, int argc, char **argv) {
    nano_quantize_options *o = &p->options;
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--allow-requantize", &o->allow_requantize},
                 {"--leave-output-tensor", &o->leave_output},
                 {"--pure", &o->pure},
                 {"--dry-run", &o->dry_run},
                 {"--no-fallback", &o->no_fallback}};
    for (int i = 1; i < argc; i++) {
        bool is_flag = false;
        for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++) {
            if (strcmp(argv[i], flags[k].name) == 0) {
                *flags[k].flag = is_flag = true;
            }
        }
        if (is_flag) {
            continue;
        }
        if (argv[i][0] != '-') {
            if (p->n_words == 4) {
                return fail_usage("expected IN.gguf [OUT.gguf] TYPE [THREADS]", argv[i]);
            }
            p->words[p->n_words++] = argv[i];
            continue;
        }
        if (i + 1 == argc) {
            return fail_usage("expected an option, and what it takes", argv[i]);
        }
        int code = EXIT_SUCCESS;
        const char *name = argv[i++];
        if (strcmp(name, "--output-tensor-type") == 0) {
            code = set_type(argv[i], &o->output_type);
        } else if (strcmp(name, "--token-embedding-type") == 0) {
            code = set_type(argv[i], &o->token_embedding_type);
        } else if (strcmp(name, "--tensor-type") == 0) {
            code = add_rule(p, argv[i]);
        } else if (strcmp(name, "--override-kv") == 0) {
            code = add_value(p, argv[i]);
        } else {
            code = fail_usage("expected an option", name);
        }
        if (code != EXIT_SUCCESS) {
            return code;
        }
    }
    return EXIT_SUCCESS;
}

/* IN [OUT] TYPE [THREADS]: the second word is OUT unless it is a type. OUT is by default IN with the type in it. */
static int take_words(program *p, char out[MAX_PATH]) {
    const bool has_out = p->n_words > 2 && nano_ftype_from_name(p->words[1]) == -1;
    const int at = has_out ? 2 : 1;
    if (p->n_words < 2 || p->n_words > at + 2) {
        return fail_usage("expected IN.gguf [OUT.gguf] TYPE [THREADS]", p->n_words > 0 ? p->words[p->n_words - 1] : "");
    }
    p->options.ftype = nano_ftype_from_name(p->words[at]);
    if (p->options.ftype == -1) {
        return fail_usage("expected a type", p->words[at]);
    }
    if (p->n_words == at + 2) {
        char *end = NULL;
        const long n = strtol(p->words[at + 1], &end, 10);
        if (*end != '\0' || n < 0 || n > 256) {
            return fail_usage("expected a number of threads", p->words[at + 1]);
        }
        p->options.n_threads = (int32_t)n;
    }
    const size_t n_in = strlen(p->words[0]), n_stem = n_in > 5 && strcmp(p->words[0] + n_in - 5, ".gguf") == 0 ? 5 : 0;
    const int n = has_out ? snprintf(out, MAX_PATH, "%s", p->words[1])
                          : snprintf(out, MAX_PATH, "%.*s-%s.gguf", (int)(n_in - n_stem), p->words[0],
                                     nano_ftype_name(p->options.ftype));
    struct stat a, b;
    if (n < 0 || n >= MAX_PATH ||
        (stat(p->words[0], &a) == 0 && stat(out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)) {
        return fail_usage("expected another file to write than the one to read", out);
    }
    return EXIT_SUCCESS;
}

static int quantize(program *p) {
    char out[MAX_PATH];
    nano_error err = {NANO_OK, ""};
    nano_gguf *gguf = NULL;
    int code = take_words(p, out);
    if (code != EXIT_SUCCESS) {
        return code;
    }
    if (nano_gguf_open(p->words[0], &gguf, &err) == NANO_OK) {
        p->n_tensors = nano_gguf_n_tensors(gguf);
        (void)nano_quantize_file(gguf, out, &p->options, &err);
    }
    nano_gguf_free(gguf);
    if (err.status != NANO_OK) {
        (void)fprintf(stderr, "nanollm-quantize: error: %s\n", err.message);
        return err.status == NANO_ERR_CANCELLED ? EXIT_INTERRUPTED : EXIT_FAILURE;
    }
    const double n = p->n_elements > 0 ? p->n_elements : 1;
    printf("\nold  %10.2f MiB  %5.2f bits a weight  %s\n", p->old_bytes / 1048576.0, 8.0 * p->old_bytes / n,
           p->words[0]);
    printf("new  %10.2f MiB  %5.2f bits a weight  %s\n", p->new_bytes / 1048576.0, 8.0 * p->new_bytes / n,
           p->options.dry_run ? "not written" : out);
    if (p->n_fallbacks > 0) {
        (void)fprintf(stderr, "WARNING: the rows of %" PRIu64 " tensor(s) do not fill the blocks of their type\n",
                      p->n_fallbacks);
    }
    return EXIT_SUCCESS;
}

/* The exit code after `code` was reached: another one when something could not be written to stdout. */
static int end_output(int code) {
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return code;
    }
    (void)fprintf(stderr, "nanollm-quantize: error: stdout: not all of it could be written\n");
    return EXIT_FAILURE;
}

int main(int argc, char **argv) {
    static program p; /* too large for a small stack; zeroed */
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            print_help();
            return end_output(EXIT_SUCCESS);
        }
    }
    p.options = nano_quantize_options_default();
    p.options.context = &p;
    p.options.choose = choose;
    p.options.progress = progress;
    p.options.values = p.values;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN; /* a reader that went away must not leave half a file behind: end_output tells */
    (void)sigaction(SIGPIPE, &action, NULL);
    int code = parse(&p, argc, argv);
    if (code == EXIT_SUCCESS) {
        code = quantize(&p);
    }
    for (int i = 0; i < p.n_rules; i++) {
        regfree(&p.rules[i].pattern);
    }
    return end_output(code);
}
