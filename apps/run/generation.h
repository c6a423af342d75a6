/* A text that a model is writing, token by token. */
#ifndef RUN_GENERATION_H
#define RUN_GENERATION_H

#include "engine.h"
#include "stream.h"

typedef enum reason { REASON_NONE, REASON_STOP, REASON_LENGTH, REASON_CONTEXT, REASON_CANCELLED } reason;

/* Milliseconds and tokens of each phase. */
typedef struct timings {
    double load_ms, sample_ms;
    int64_t n_sample;
    double prompt_ms;
    int64_t n_prompt; /* evaluated; those found in the KV cache are not among them */
    int64_t n_cached; /* prompt tokens found in the KV cache */
    double eval_ms;
    int64_t n_eval;     /* generated tokens evaluated */
    int64_t n_drafted;  /* tokens that steps tried out (--lookup) ... */
    int64_t n_accepted; /* ... and those of them that became text */
    double total_ms;
} timings;

typedef struct generation {
    engine *engine;
    const options *options;
    nano_sampler_params params; /* the seed that was drawn among them */
    text *stops;
    int n_stops;
    nano_sampler *sampler;
    stream stream;
    int32_t *tokens; /* (n_ctx + 1): n_prompt of the prompt, then n_ids drawn, the one that ended the text among them */
    int32_t n_prompt, n_ids;
    reason reason;
    bool ended_by_model;
    timings timings;
} generation;

/* What every text of a run has in common. Returns an exit code. */
int generation_create(generation *g, engine *e, const options *o);
void generation_free(generation *g);

/* Makes `ids` the prompt of the next text; from here on Ctrl-C ends the text and not the program. Returns an exit code;
 * what is longer than the context is the caller's to refuse. */
int generation_start(generation *g, const int32_t *ids, int32_t n);
/* Writes the text; `show` gets it piece by piece. Allocates nothing. Ends early, as cancelled, where show returns
 * false. */
nano_status generation_run(generation *g, bool (*show)(nano_str piece), nano_error *err);
/* The whole text once more. */
nano_status generation_text(generation *g, text *out, nano_error *err);
/* Why it ended, in words (to be printed at once) and as in JSON. */
const char *generation_ended(const generation *g);
const char *reason_name(reason why);

#endif
