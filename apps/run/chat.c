/* The conversation: turns in a terminal, or one answer anywhere. */
#include "generate.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct conversation {
    const nano_chat *chat;
    generation g; /* of the last answer */
    text said;    /* everything so far, as the template has it */
    text system;
    timings timings; /* of all answers */
    bool has_answer, is_full, is_described;
} conversation;

static void add_timings(timings *sum, const timings *t) {
    sum->load_ms = t->load_ms;
    sum->sample_ms += t->sample_ms;
    sum->n_sample += t->n_sample;
    sum->prompt_ms += t->prompt_ms;
    sum->n_prompt += t->n_prompt;
    sum->n_cached += t->n_cached;
    sum->eval_ms += t->eval_ms;
    sum->n_eval += t->n_eval;
    sum->n_drafted += t->n_drafted;
    sum->n_accepted += t->n_accepted;
    sum->total_ms += t->total_ms;
}

/* --------------------------------------------------------------- questions */

/* A line from stdin without its end; false at the end of the input and after Ctrl-C. */
static bool read_line(text *line) {
    static char waiting[4096];
    static size_t n_waiting, at;
    line->size = 0;
    while (true) {
        for (; at < n_waiting; at++) {
            if (waiting[at] == '\n') {
                at++;
                while (line->size > 0 && line->data[line->size - 1] == '\r') {
                    line->size--;
                }
                return true;
            }
            text_add(line, &waiting[at], 1);
        }
        if (!interrupt_wait_stdin()) {
            return false;
        }
        const ssize_t n = read(STDIN_FILENO, waiting, sizeof waiting);
        if (n <= 0) {
            return line->size > 0;
        }
        n_waiting = (size_t)n;
        at = 0;
    }
}

/* A question of one line, or of several that end with a backslash; false when there is none. */
static bool ask(const options *o, text *question) {
    text line = {NULL, 0, 0}, raw = {NULL, 0, 0};
    bool is_going_on = true, is_there = true;
    while (is_going_on && is_there) {
        const char *prompt = raw.data == NULL ? "> " : ". ";
        if (is_terminal(STDOUT_FILENO) && !o->simple_io) {
            emit(prompt, 2);
        } else {
            log_text(prompt, 2);
        }
        is_there = read_line(&line);
        is_going_on = line.size > 0 && line.data[line.size - 1] == '\\';
        text_add(&raw, line.data, line.size - (is_going_on ? 1 : 0));
        text_add(&raw, "\n", is_going_on ? 1 : 0);
    }
    question->size = 0;
    text_add_clean(question, raw.data, raw.size);
    if (!is_there) {
        log_text("\n", 1);
    }
    text_free(&line);
    text_free(&raw);
    return is_there;
}

static bool is_blank(const text *t) { return strspn(text_str(t).data, " \t\r\n\v\f") == t->size; }

/* ----------------------------------------------------------------- answers */

/* Adds what comes before the answer to `question` to what was said; *start gets where that begins. */
static int add_turn(conversation *c, const text *question, size_t *start) {
    nano_error err = {NANO_OK, ""};
    const nano_str system = text_str(&c->system);
    const bool has_system = c->g.options->system_prompt != NULL;
    size_t n = 0;
    *start = c->said.size;
    nano_status status =
        nano_chat_turn(c->chat, !c->has_answer, has_system ? &system : NULL, text_str(question), NULL, 0, &n, &err);
    char *turn = allocate(n, 1);
    if (status == NANO_OK) {
        status =
            nano_chat_turn(c->chat, !c->has_answer, has_system ? &system : NULL, text_str(question), turn, n, &n, &err);
    }
    if (status == NANO_OK) {
        text_add(&c->said, turn, n);
    }
    free(turn);
    return status == NANO_OK ? EXIT_OK : fail(EXIT_ERROR, "%s", err.message);
}

/* The ids of the conversation. Where the model ended its last answer itself, that answer's own tokens are kept: a text
 * can be cut into tokens in many ways, and only the way it was generated is in the KV cache. */
static int conversation_ids(conversation *c, size_t turn, int32_t **ids, size_t *n) {
    const generation *g = &c->g;
    const engine *e = g->engine;
    const nano_str said = text_str(&c->said);
    if (c->has_answer && g->ended_by_model) {
        const size_t n_kept = (size_t)(g->n_prompt + g->n_ids) - 1;
        const nano_str rest = {said.data + turn, said.size - turn};
        int32_t *more = NULL;
        const int code = engine_encode(e, rest, false, &more, n);
        if (code != EXIT_OK || (*n > 0 && more[0] == g->tokens[n_kept])) {
            if (code == EXIT_OK) {
                *ids = allocate(n_kept + *n, sizeof **ids);
                memcpy(*ids, g->tokens, n_kept * sizeof **ids);
                memcpy(*ids + n_kept, more, *n * sizeof **ids);
                *n += n_kept;
            }
            free(more);
            return code;
        }
        free(more);
    }
    const nano_str bos = nano_tokenizer_spelling(e->tokenizer, nano_tokenizer_bos(e->tokenizer));
    const bool has_bos =
        nano_tokenizer_bos(e->tokenizer) >= 0 && said.size >= bos.size && memcmp(said.data, bos.data, bos.size) == 0;
    return engine_encode(e, said, !has_bos, ids, n);
}

static int finish_answer(conversation *c) {
    const generation *g = &c->g;
    nano_error err = {NANO_OK, ""};
    text answer = {NULL, 0, 0};
    add_timings(&c->timings, &g->timings);
    if (generation_text(&c->g, &answer, &err) != NANO_OK) {
        text_free(&answer);
        return fail(EXIT_ERROR, "%s", err.message);
    }
    text_add(&c->said, answer.data, answer.size);
    if (g->options->json) {
        text t = {NULL, 0, 0};
        report_result_json(&t, g, text_str(&answer), &c->timings);
        emit(t.data, t.size);
        text_free(&t);
    } else {
        if (is_terminal(STDOUT_FILENO)) {
            emit("\n", 1);
        } else {
            log_text("\n", 1);
        }
        if (g->reason != REASON_STOP) {
            note("[%s]\n", generation_ended(g));
        }
    }
    text_free(&answer);
    const bool saves = !c->has_answer || g->options->prompt_cache_all;
    c->has_answer = true;
    c->is_full = g->reason == REASON_CONTEXT;
    return saves ? save_prompt_cache(g) : EXIT_OK;
}

/* A prompt of n tokens is longer than the context: an error at the start, the end of the conversation later. */
static int refuse_length(conversation *c, size_t n) {
    const int32_t n_ctx = c->g.engine->limits.n_ctx;
    if (!c->has_answer) {
        return fail(EXIT_ERROR, "the prompt has %zu tokens, the context has room for %" PRId32, n, n_ctx);
    }
    note("the prompt has %zu tokens, the context has room for %" PRId32
         ": the conversation ends here (-c makes the context larger)\n",
         n, n_ctx);
    c->is_full = true;
    return EXIT_OK;
}

/* Streams the answer to `question`. */
static int answer_question(conversation *c, const text *question) {
    generation *g = &c->g;
    nano_error err = {NANO_OK, ""};
    int32_t *ids = NULL;
    size_t n = 0, turn = 0;
    int code = add_turn(c, question, &turn);
    code = code == EXIT_OK ? conversation_ids(c, turn, &ids, &n) : code;
    if (code == EXIT_OK && n > (size_t)g->engine->limits.n_ctx) {
        code = refuse_length(c, n);
        free(ids);
        return code;
    }
    code = code == EXIT_OK ? generation_start(g, ids, (int32_t)n) : code;
    free(ids);
    if (code == EXIT_OK && !c->is_described) {
        text t = {NULL, 0, 0};
        report_prompt(&t, g, g->options->verbose_prompt);
        log_text(t.data, t.size);
        text_free(&t);
        c->is_described = true;
    }
    if (code == EXIT_OK) {
        code = generation_run(g, g->options->json ? hide_piece : show_piece, &err) == NANO_OK
                   ? finish_answer(c)
                   : fail(EXIT_ERROR, "%s", err.message);
    }
    return code;
}

/* ---------------------------------------------------------------- dialogue */

static int converse(conversation *c, const text *prompt, bool is_dialogue) {
    const options *o = c->g.options;
    text question = {NULL, 0, 0};
    bool is_there = true, is_interrupted = false;
    int code = EXIT_OK;
    if (prompt != NULL) {
        text_add(&question, prompt->data, prompt->size);
    } else {
        is_there = ask(o, &question);
    }
    while (is_there && code == EXIT_OK && !emit_failed()) {
        if (!is_blank(&question)) {
            code = answer_question(c, &question);
            is_interrupted = c->g.reason == REASON_CANCELLED;
        }
        is_there = code == EXIT_OK && is_dialogue && !c->is_full && !emit_failed() && ask(o, &question);
    }
    text_free(&question);
    if (code == EXIT_OK && !emit_failed()) {
        if (!o->json) {
            text t = {NULL, 0, 0};
            report_timings(&t, &c->timings);
            log_text(t.data, t.size);
            text_free(&t);
        }
    }
    return code == EXIT_OK && is_interrupted && !is_dialogue ? EXIT_INTERRUPTED : code;
}

int run_chat(engine *e, const options *o, const nano_chat *chat, const text *prompt) {
    /* With a prompt and a stdout that is no terminal, nobody waits for a second question. */
    const bool is_dialogue =
        is_terminal(STDIN_FILENO) && !o->single_turn && (prompt == NULL || is_terminal(STDOUT_FILENO));
    conversation c = {.chat = chat, .is_described = o->json, .timings = {.load_ms = e->load_ms}};
    if (o->json && is_dialogue) {
        return fail(EXIT_USAGE, "--json: one answer only: give the question with -p, and -st");
    }
    int code = generation_create(&c.g, e, o);
    if (o->system_prompt != NULL) {
        options_text(o, o->system_prompt, &c.system);
    }
    if (code == EXIT_OK) {
        if (is_dialogue) {
            note("A conversation: end a line with \\ to go on in the next one; Ctrl-C stops an answer; "
                 "Ctrl-D ends.\n\n");
        }
        if (prompt != NULL && o->display_prompt && !o->json) {
            show_prompt("> ", prompt, "\n");
        }
        code = converse(&c, prompt, is_dialogue);
    }
    generation_free(&c.g);
    text_free(&c.said);
    text_free(&c.system);
    return code;
}
