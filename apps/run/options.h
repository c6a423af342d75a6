/* The command line: one table of options, from which --help is made. */
#ifndef RUN_OPTIONS_H
#define RUN_OPTIONS_H

#include "text.h"

typedef enum command { COMMAND_GENERATE = 1, COMMAND_FIT = 2, COMMAND_BENCH = 4, COMMAND_INFO = 8 } command;

/* What an option holds that may be given several times: pointers into argv. */
typedef struct words {
    const char **items;
    int n;
} words;

/* -l ID(+|-)X */
typedef struct biases {
    int32_t *ids;
    float *values;
    int n;
} biases;

/* --lora FILE, --lora-scaled FILE:S, in the order given */
typedef struct adapters {
    char **paths; /* owned */
    float *scales;
    int n;
} adapters;

/* Numbers of an option that takes a list, and pairs of them for -pg. */
enum { MAX_LIST = 256 };
typedef struct numbers {
    int32_t items[MAX_LIST];
    int n;
} numbers;

typedef struct options {
    command command;
    bool help, version, list_devices, verbose, json;
    /* model */
    words models; /* -m; all but bench use the last */
    adapters adapters;
    int64_t n_ctx; /* -1: not given */
    int64_t n_batch, n_threads, n_threads_batch, n_slots, poll;
    int64_t n_gpu_layers, device; /* n_gpu_layers -1: as many as fit */
    const char *cpu_mask, *cpu_range, *cpu;
    words type_k, type_v; /* all but bench use the last */
    bool deterministic;
    int64_t lookup;
    const char *prompt_cache;
    bool prompt_cache_all, prompt_cache_ro;
    /* prompt and output */
    const char *prompt, *file;
    int64_t n_predict;
    bool escape, display_prompt, verbose_prompt;
    words reverse_prompts;
    /* conversation */
    bool is_conversation, is_no_conversation; /* the last one given counts: at most one is set */
    bool single_turn, simple_io;
    const char *system_prompt, *chat_template;
    /* sampling */
    int64_t seed; /* negative: a fresh one */
    nano_sampler_params sampler;
    biases logit_bias;
    bool ignore_eos;
    /* bench */
    numbers bench_prompt, bench_gen, bench_pairs, bench_depth, bench_batch, bench_threads, bench_threads_batch,
        bench_poll, bench_layers, bench_deterministic;
    int64_t repetitions;
    bool warmup, progress;
    const char *output;
} options;

/* Fills *o from argv (after the command's name), or prints one line and returns EXIT_USAGE. What o points to lives as
 * long as argv and until options_free. */
int options_parse(options *o, command which, int argc, char **argv);
void options_free(options *o);
void options_print_help(command which);
/* The last word given, or NULL. */
const char *options_last(const words *w);
/* A text given as an option: valid UTF-8, escapes resolved unless --no-escape stands. */
void options_text(const options *o, const char *given, text *out);

#endif
