#include "generation.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_DRAFT = 15 }; /* steps of at most 16 tokens have the bits of single ones */

/* ------------------------------------------------------------ construction */

static uint64_t fresh_seed(void) {
    uint32_t seed = 0;
    const int fd = open("/dev/urandom", O_RDONLY);
    if (fd < 0 || read(fd, &seed, sizeof seed) != (ssize_t)sizeof seed) {
        seed = (uint32_t)(now_ms() * 1e6) ^ (uint32_t)getpid();
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return seed;
}

/* The bias of a token is the last one given; with --ignore-eos no end token can be drawn. */
static void collect_biases(const generation *g, biases *out) {
    const biases *given = &g->options->logit_bias;
    const nano_tokenizer *t = g->engine->tokenizer;
    const bool spares_ends = g->options->ignore_eos || g->options->n_predict == -2;
    const int32_t n_tokens = spares_ends ? nano_tokenizer_n_tokens(t) : 0;
    int n = given->n;
    for (int32_t id = 0; id < n_tokens; id++) {
        n += nano_tokenizer_is_end(t, id) ? 1 : 0;
    }
    out->ids = allocate((size_t)n, sizeof *out->ids);
    out->values = allocate((size_t)n, sizeof *out->values);
    for (int i = 0; i < given->n; i++) {
        bool is_last = !spares_ends || !nano_tokenizer_is_end(t, given->ids[i]);
        for (int k = i + 1; k < given->n; k++) {
            is_last = is_last && given->ids[k] != given->ids[i];
        }
        if (is_last) {
            out->ids[out->n] = given->ids[i];
            out->values[out->n++] = given->values[i];
        }
    }
    for (int32_t id = 0; id < n_tokens; id++) {
        if (nano_tokenizer_is_end(t, id)) {
            out->ids[out->n] = id;
            out->values[out->n++] = -INFINITY;
        }
    }
}

static void collect_stops(generation *g) {
    const words *given = &g->options->reverse_prompts;
    g->stops = allocate((size_t)given->n, sizeof *g->stops);
    for (int i = 0; i < given->n; i++) {
        options_text(g->options, given->items[i], &g->stops[g->n_stops]);
        g->n_stops += g->stops[g->n_stops].size > 0 ? 1 : 0;
    }
}

int generation_create(generation *g, engine *e, const options *o) {
    nano_error err = {NANO_OK, ""};
    biases bias = {NULL, NULL, 0};
    *g = (generation){.engine = e, .options = o, .params = o->sampler, .timings = {.load_ms = e->load_ms}};
    collect_biases(g, &bias);
    g->params.max_last_n = e->limits.n_ctx;
    g->params.bias_ids = bias.ids;
    g->params.bias_values = bias.values;
    g->params.n_bias = bias.n;
    collect_stops(g);
    stream_create(&g->stream, e->tokenizer, g->stops, g->n_stops);
    g->tokens = allocate((size_t)e->limits.n_ctx + 1, sizeof *g->tokens);
    const nano_status status =
        nano_sampler_create(&g->params, (int32_t)nano_model_n_vocab(e->model), &g->sampler, &err);
    free(bias.ids);
    free(bias.values);
    return status == NANO_OK ? EXIT_OK : fail(EXIT_ERROR, "%s", err.message);
}

void generation_free(generation *g) {
    for (int i = 0; i < g->n_stops; i++) {
        text_free(&g->stops[i]);
    }
    free(g->stops);
    free(g->tokens);
    stream_free(&g->stream);
    nano_sampler_free(g->sampler);
}

int generation_start(generation *g, const int32_t *ids, int32_t n) {
    nano_error err = {NANO_OK, ""};
    const int32_t last_n = g->params.penalty_last_n;
    memmove(g->tokens, ids, (size_t)n * sizeof *ids);
    g->n_prompt = n;
    g->n_ids = 0;
    g->reason = REASON_NONE;
    g->ended_by_model = false;
    g->timings = (timings){.load_ms = g->engine->load_ms};
    g->params.seed = g->options->seed < 0 ? fresh_seed() : (uint64_t)g->options->seed;
    interrupt_guard(g->engine->session);
    nano_sampler_reset(g->sampler, g->params.seed);
    for (int32_t i = last_n >= 0 && last_n < n ? n - last_n : 0; i < n; i++) {
        nano_sampler_accept(g->sampler, g->tokens[i]);
    }
    return stream_start(&g->stream, g->tokens, n, &err) == NANO_OK ? EXIT_OK : fail(EXIT_ERROR, "%s", err.message);
}

/* -------------------------------------------------------------------- text */

/* Evaluates what slot 0 does not have yet of the prompt. */
static nano_status evaluate_prompt(generation *g, nano_error *err) {
    engine *e = g->engine;
    const double start = now_ms();
    int32_t n_kept = 0;
    while (n_kept < e->n_seen && n_kept < g->n_prompt - 1 && e->seen[n_kept] == g->tokens[n_kept]) {
        n_kept++;
    }
    nano_status status = engine_keep(e, n_kept, err);
    while (status == NANO_OK && e->n_seen < g->n_prompt) {
        const int32_t left = g->n_prompt - e->n_seen;
        status = engine_step(e, g->tokens + e->n_seen, left < e->limits.n_batch ? left : e->limits.n_batch, false, err);
    }
    g->timings.n_cached = n_kept;
    g->timings.n_prompt += status == NANO_OK ? g->n_prompt - n_kept : 0;
    g->timings.prompt_ms += now_ms() - start;
    return status;
}

/* Evaluates the last token, and behind it a draft of those to come, which the next draws may confirm. */
static nano_status evaluate_last(generation *g, nano_error *err) {
    engine *e = g->engine;
    const int32_t n = g->n_prompt + g->n_ids;
    const int64_t n_predict = g->options->n_predict;
    int64_t most = g->options->lookup < MAX_DRAFT ? g->options->lookup : MAX_DRAFT;
    const int64_t rooms[] = {e->limits.n_outputs - 1, e->limits.n_ctx - n,
                             n_predict < 0 ? most : n_predict - g->n_ids - 1};
    int32_t step[MAX_DRAFT + 1];
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        most = rooms[i] < most ? rooms[i] : most;
    }
    step[0] = g->tokens[n - 1];
    const int32_t n_draft = most > 0 ? nano_lookup_draft(g->tokens, n, step + 1, (int32_t)most) : 0;
    const nano_status status = engine_keep(e, n - 1, err);
    g->timings.n_drafted += n_draft;
    return status == NANO_OK ? engine_step(e, step, n_draft + 1, true, err) : status;
}

/* The logits after all tokens so far. */
static nano_status next_logits(generation *g, const float **logits, nano_error *err) {
    engine *e = g->engine;
    const int32_t n = g->n_prompt + g->n_ids;
    nano_status status = NANO_OK;
    if (g->n_ids == 0) {
        status = evaluate_prompt(g, err);
    } else {
        const double start = now_ms();
        const bool is_drafted = e->n_seen >= n && e->first_row < n && e->seen[n - 1] == g->tokens[n - 1];
        status = is_drafted ? NANO_OK : evaluate_last(g, err);
        g->timings.eval_ms += now_ms() - start;
        g->timings.n_eval += status == NANO_OK ? 1 : 0;
        g->timings.n_accepted += is_drafted ? 1 : 0;
    }
    int32_t n_rows = 0;
    const float *rows = nano_session_logits(e->session, &n_rows);
    *logits =
        rows + (size_t)(n - 1 - (status == NANO_OK ? e->first_row : n - 1)) * (size_t)nano_model_n_vocab(e->model);
    return status;
}

static nano_status draw(generation *g, nano_error *err) {
    const float *logits = NULL;
    int32_t id = 0;
    nano_status status = next_logits(g, &logits, err);
    if (status != NANO_OK || g->options->n_predict == 0) {
        g->reason = status == NANO_OK ? REASON_LENGTH : REASON_CANCELLED;
        return status == NANO_ERR_CANCELLED ? NANO_OK : status;
    }
    const double start = now_ms();
    status = nano_sampler_sample(g->sampler, logits, &id, err);
    if (status != NANO_OK) {
        return status;
    }
    nano_sampler_accept(g->sampler, id);
    g->timings.sample_ms += now_ms() - start;
    g->timings.n_sample++;
    g->tokens[g->n_prompt + g->n_ids++] = id;
    return NANO_OK;
}

static void judge(generation *g) {
    if (g->stream.is_stopped) {
        g->reason = REASON_STOP;
    } else if (g->n_ids == g->options->n_predict) {
        g->reason = REASON_LENGTH;
    } else if (g->n_prompt + g->n_ids > g->engine->limits.n_ctx) {
        g->reason = REASON_CONTEXT;
    }
}

nano_status generation_run(generation *g, bool (*show)(nano_str piece), nano_error *err) {
    const double start = now_ms();
    const bool spares_ends = g->options->ignore_eos || g->options->n_predict == -2;
    nano_status status = NANO_OK;
    while (g->reason == REASON_NONE && status == NANO_OK) {
        nano_str piece = {"", 0};
        status = draw(g, err);
        if (status != NANO_OK || g->reason != REASON_NONE) {
            break;
        }
        const int32_t id = g->tokens[g->n_prompt + g->n_ids - 1];
        if (!spares_ends && nano_tokenizer_is_end(g->engine->tokenizer, id)) {
            g->ended_by_model = true;
            g->reason = REASON_STOP;
            break;
        }
        status = stream_push(&g->stream, id, &piece, err);
        judge(g);
        if (piece.size > 0 && !show(piece)) {
            g->reason = REASON_CANCELLED;
        }
    }
    const nano_str rest = status == NANO_OK ? stream_flush(&g->stream) : (nano_str){"", 0};
    if (rest.size > 0) {
        (void)show(rest);
    }
    interrupt_guard(NULL);
    g->timings.total_ms = now_ms() - start;
    return status;
}

nano_status generation_text(generation *g, text *out, nano_error *err) {
    nano_str piece = {"", 0};
    nano_status status = stream_start(&g->stream, g->tokens, g->n_prompt, err);
    for (int32_t i = 0; i < g->n_ids - (g->ended_by_model ? 1 : 0) && status == NANO_OK; i++) {
        status = stream_push(&g->stream, g->tokens[g->n_prompt + i], &piece, err);
        text_add(out, piece.data, piece.size);
    }
    if (status == NANO_OK) {
        piece = stream_flush(&g->stream);
        text_add(out, piece.data, piece.size);
    }
    return status;
}

/* ------------------------------------------------------------------- words */

const char *reason_name(reason why) {
    static const char *const names[] = {"", "stop", "length", "context", "cancelled"};
    return names[why];
}

const char *generation_ended(const generation *g) {
    static char said[64];
    switch (g->reason) {
        case REASON_STOP: return g->ended_by_model ? "the model ended the text" : "at a reverse prompt";
        case REASON_LENGTH: (void)snprintf(said, sizeof said, "%" PRId32 " tokens generated", g->n_ids); return said;
        case REASON_CONTEXT:
            (void)snprintf(said, sizeof said, "the context of %" PRId32 " tokens is full", g->engine->limits.n_ctx);
            return said;
        default: return "interrupted";
    }
}
