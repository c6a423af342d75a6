#include "generate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

bool show_piece(nano_str piece) {
    emit(piece.data, piece.size);
    return !emit_failed();
}

bool hide_piece(nano_str piece) {
    (void)piece;
    return true;
}

void show_prompt(const char *before, const text *prompt, const char *after) {
    text t = {NULL, 0, 0};
    text_addf(&t, "%s", before);
    text_add(&t, prompt->data, prompt->size);
    text_addf(&t, "%s", after);
    if (is_terminal(STDOUT_FILENO)) {
        emit(t.data, t.size);
    } else {
        text_addf(&t, "\n");
        log_text(t.data, t.size);
    }
    text_free(&t);
}

/* The prompt from -p, -f or a pipe; *is_asked where a terminal is left to ask. */
static int read_prompt(const options *o, text *prompt, bool *is_asked) {
    text_add(prompt, "", 0);
    *is_asked = false;
    if (o->prompt != NULL) {
        options_text(o, o->prompt, prompt);
        return EXIT_OK;
    }
    if (o->file != NULL) {
        return text_read(prompt, o->file);
    }
    *is_asked = is_terminal(STDIN_FILENO);
    return *is_asked ? EXIT_OK : text_read(prompt, "-");
}

/* The chat pieces to use: *chat stays NULL for a text that is continued as it is. */
static int choose_chat(const options *o, const engine *e, nano_chat **chat) {
    nano_error err = {NANO_OK, ""};
    const bool is_wanted = o->is_conversation || o->system_prompt != NULL || o->chat_template != NULL;
    if (o->is_no_conversation || (!is_wanted && !is_terminal(STDIN_FILENO))) {
        return EXIT_OK;
    }
    nano_status status = nano_chat_create(e->gguf, e->tokenizer, o->chat_template, chat, &err);
    if (status == NANO_ERR_NOT_FOUND && e->sidecar != NULL) {
        status = nano_chat_create(e->sidecar, e->tokenizer, NULL, chat, &err);
    }
    if (status == NANO_ERR_NOT_FOUND && !is_wanted) {
        return EXIT_OK;
    }
    return status == NANO_OK          ? EXIT_OK
           : o->chat_template != NULL ? fail(EXIT_ERROR, "%s", err.message)
                                      : fail(EXIT_ERROR, "%s; --chat-template names one", err.message);
}

/* ------------------------------------------------------------ prompt cache */

int load_prompt_cache(engine *e, const options *o) {
    nano_error err = {NANO_OK, ""};
    if (o->prompt_cache == NULL || access(o->prompt_cache, F_OK) != 0) {
        return EXIT_OK;
    }
    if (nano_session_load(e->session, 0, o->prompt_cache, e->seen, e->limits.n_ctx, &e->n_seen, &err) != NANO_OK) {
        e->n_seen = 0;
        return fail(EXIT_ERROR, "%s", err.message);
    }
    e->n_loaded = e->n_seen;
    if (!o->json) {
        note("prompt cache: %" PRId32 " tokens from %s\n", e->n_loaded, o->prompt_cache);
    }
    return EXIT_OK;
}

int save_prompt_cache(const generation *g) {
    const options *o = g->options;
    const engine *e = g->engine;
    nano_error err = {NANO_OK, ""};
    const int32_t n = o->prompt_cache_all ? e->n_seen : g->n_prompt;
    const bool has_all = e->n_loaded >= n && g->timings.n_prompt <= 1; /* the file has it already */
    if (o->prompt_cache == NULL || o->prompt_cache_ro || n == 0 || n > e->n_seen || has_all) {
        return EXIT_OK;
    }
    return nano_session_save(e->session, 0, e->seen, n, o->prompt_cache, &err) == NANO_OK
               ? EXIT_OK
               : fail(EXIT_ERROR, "%s", err.message);
}

/* -------------------------------------------------------------------- text */

/* The ids of a text to be continued. */
static int prompt_ids(const engine *e, nano_str prompt, int32_t **ids, size_t *n) {
    const nano_tokenizer *t = e->tokenizer;
    const int code = engine_encode(e, prompt, true, ids, n);
    if (code != EXIT_OK) {
        return code;
    }
    if (*n > 0 && nano_tokenizer_adds_eos(t) && (*ids)[*n - 1] == nano_tokenizer_eos(t)) {
        --*n; /* it would end the text that is to be continued */
    }
    if (*n == 0) { /* a text starts somewhere even where the file asks for no start token */
        (*ids)[0] = nano_tokenizer_bos(t) >= 0 ? nano_tokenizer_bos(t) : nano_tokenizer_eos(t);
        *n = (*ids)[0] >= 0 ? 1 : 0;
    }
    if (*n == 0) {
        return fail(EXIT_ERROR, "the prompt has no tokens");
    }
    if (*n > (size_t)e->limits.n_ctx) {
        return fail(EXIT_ERROR, "the prompt has %zu tokens, the context has room for %" PRId32, *n, e->limits.n_ctx);
    }
    return EXIT_OK;
}

static int finish(generation *g) {
    nano_error err = {NANO_OK, ""};
    text t = {NULL, 0, 0}, answer = {NULL, 0, 0};
    int code = EXIT_OK;
    if (emit_failed()) {
        return code;
    }
    if (!g->options->json) {
        if (is_terminal(STDOUT_FILENO)) {
            emit("\n", 1);
        }
        note("\nended: %s\n", generation_ended(g));
        report_timings(&t, &g->timings);
        log_text(t.data, t.size);
    } else if (generation_text(g, &answer, &err) == NANO_OK) {
        report_result_json(&t, g, text_str(&answer), &g->timings);
        emit(t.data, t.size);
    } else {
        code = fail(EXIT_ERROR, "%s", err.message);
    }
    text_free(&t);
    text_free(&answer);
    code = code == EXIT_OK ? save_prompt_cache(g) : code;
    return code == EXIT_OK && g->reason == REASON_CANCELLED ? EXIT_INTERRUPTED : code;
}

static int continue_text(engine *e, const options *o, const text *prompt) {
    generation g;
    nano_error err = {NANO_OK, ""};
    int32_t *ids = NULL;
    size_t n = 0;
    int code = prompt_ids(e, text_str(prompt), &ids, &n);
    if (code != EXIT_OK) {
        free(ids);
        return code;
    }
    code = generation_create(&g, e, o);
    code = code == EXIT_OK ? generation_start(&g, ids, (int32_t)n) : code;
    free(ids);
    if (code == EXIT_OK && !o->json) {
        text t = {NULL, 0, 0};
        report_prompt(&t, &g, o->verbose_prompt);
        log_text(t.data, t.size);
        text_free(&t);
        if (o->display_prompt) {
            show_prompt("", prompt, "");
        }
    }
    if (code == EXIT_OK) {
        code = generation_run(&g, o->json ? hide_piece : show_piece, &err) == NANO_OK
                   ? finish(&g)
                   : fail(EXIT_ERROR, "%s", err.message);
    }
    generation_free(&g);
    return code;
}

/* ----------------------------------------------------------------- command */

static int start(engine *e, const options *o) {
    nano_limits limits;
    const double start_ms = now_ms();
    int code = engine_set_level(o->cpu);
    code = code == EXIT_OK ? engine_limits(o, &limits) : code;
    code = code == EXIT_OK ? engine_open(e, options_last(&o->models), &o->adapters) : code;
    code = code == EXIT_OK ? engine_plan(e, o->n_ctx, limits) : code;
    code = code == EXIT_OK ? engine_check_memory(e) : code;
    code = code == EXIT_OK ? engine_load_tokenizer(e) : code;
    code = code == EXIT_OK ? engine_start(e) : code;
    code = code == EXIT_OK ? load_prompt_cache(e, o) : code;
    e->load_ms = now_ms() - start_ms;
    return code;
}

static int run_with(engine *e, const options *o, const text *prompt, bool is_asked) {
    nano_chat *chat = NULL;
    int code = start(e, o);
    code = code == EXIT_OK ? choose_chat(o, e, &chat) : code;
    if (code == EXIT_OK && chat == NULL && o->single_turn) {
        code = fail(EXIT_USAGE, "-st: needs a conversation (-cnv, or a terminal and a file with a chat template)");
    }
    if (code == EXIT_OK && !o->json) {
        text t = {NULL, 0, 0};
        report_model(&t, e, o->verbose);
        log_text(t.data, t.size);
        text_free(&t);
    }
    if (code == EXIT_OK) {
        code = chat != NULL ? run_chat(e, o, chat, is_asked ? NULL : prompt) : continue_text(e, o, prompt);
    }
    nano_chat_free(chat);
    return code;
}

int run_generate(const options *o) {
    engine e = {.path = NULL};
    text prompt = {NULL, 0, 0};
    bool is_asked = false;
    int code = read_prompt(o, &prompt, &is_asked);
    code = code == EXIT_OK ? run_with(&e, o, &prompt, is_asked) : code;
    engine_free(&e);
    text_free(&prompt);
    return code;
}
