/* The commands, each of which returns an exit code. */
#ifndef RUN_GENERATE_H
#define RUN_GENERATE_H

#include "generation.h"

int run_generate(const options *o);
int run_fit(const options *o);
int run_info(const options *o);
int run_bench(const options *o);

/* Part of run_generate: a conversation that starts with `prompt`, or with a question asked in the terminal where that
 * is NULL. */
int run_chat(engine *e, const options *o, const nano_chat *chat, const text *prompt);

/* Shows a piece of text; false when stdout is gone. */
bool show_piece(nano_str piece);
bool hide_piece(nano_str piece);
/* Shows the prompt as the text's own beginning. */
void show_prompt(const char *before, const text *prompt, const char *after);
/* --prompt-cache: what the file has goes into slot 0, and back after a text: the prompt, or all with
 * --prompt-cache-all. */
int load_prompt_cache(engine *e, const options *o);
int save_prompt_cache(const generation *g);

#endif
