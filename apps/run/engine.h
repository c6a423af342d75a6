/* A model ready for use: file, program, plan, tokenizer, session, and the tokens that the session's slot 0 holds. */
#ifndef RUN_ENGINE_H
#define RUN_ENGINE_H

#include "options.h"

typedef struct engine {
    const char *path;
    nano_gguf *gguf, *sidecar; /* sidecar: FILE.nanollm, where the file has no program; or NULL */
    nano_gguf **files;         /* the model's and its adapters', n_files of them; adapters: what they were asked as */
    int n_files;
    const adapters *adapters;
    nano_model *model;
    nano_plan *plan;
    nano_limits limits;
    nano_memory memory;
    uint64_t available;    /* bytes this process may use, when the plan was made */
    nano_device device;    /* that runs layers, as it was then; all 0: none does */
    int64_t n_ctx_train;   /* 0: the file does not say */
    int32_t largest_n_ctx; /* that would fit; engine_plan does not ask, engine_find_largest does */
    nano_tokenizer *tokenizer;
    nano_session *session;
    int32_t *seen; /* (n_ctx) the tokens in slot 0, n_seen of them */
    int32_t n_seen;
    int32_t n_loaded;  /* tokens that the prompt cache file had */
    int32_t first_row; /* the position whose logits are the first row of the last step; INT32_MAX: none */
    double load_ms;
} engine;

double now_ms(void);

/* Opens the file and its adapters, and binds the program. Each of these prints one line and returns an exit code other than EXIT_OK when
 * it cannot; engine_free releases what there is. */
int engine_open(engine *e, const char *path, const adapters *adapted);
/* `limits` says what is wished for, its n_ctx counts as -1 for the usual one, 0 for the model's own. */
int engine_plan(engine *e, int64_t n_ctx, nano_limits limits);
int engine_find_largest(engine *e);
bool engine_fits(const engine *e);
/* Refuses what does not fit, with the plan's numbers and what would. */
int engine_check_memory(engine *e);
int engine_load_tokenizer(engine *e);
int engine_start(engine *e);
void engine_stop(engine *e); /* what engine_plan and engine_start made */
void engine_free(engine *e);

/* The limits that options ask for, each checked. */
int engine_limits(const options *o, nano_limits *out);
int engine_set_level(const char *level);

/* One step in slot 0: n <= n_batch tokens, the logits of the last one or of all. NANO_ERR_CANCELLED after Ctrl-C. */
nano_status engine_step(engine *e, const int32_t *tokens, int32_t n, bool all_rows, nano_error *err);
/* Forgets all but the first n tokens of slot 0. */
nano_status engine_keep(engine *e, int32_t n, nano_error *err);
/* Allocates *ids. parse_special is on. */
int engine_encode(const engine *e, nano_str s, bool add_special, int32_t **ids, size_t *n);

/* Ctrl-C. Until engine_guard it ends the program; from then on the first one cancels the session's step and the second
 * one ends the program. */
void interrupt_install(void);
void interrupt_guard(nano_session *session); /* NULL: no longer */
bool interrupt_came(void);                   /* since the last interrupt_guard */
/* Waits until stdin has something to read; false when Ctrl-C comes first. */
bool interrupt_wait_stdin(void);

#endif
