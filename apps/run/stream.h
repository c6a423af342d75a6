/* From tokens to pieces of text, holding back what may turn out to be the start of a reverse prompt. */
#ifndef RUN_STREAM_H
#define RUN_STREAM_H

#include "text.h"

typedef struct stream {
    const nano_tokenizer *tokenizer;
    const text *stops; /* n_stops, none empty; the caller's */
    int n_stops;
    nano_decoder decoder;
    char *buffer; /* the last piece, and behind it what is held back */
    size_t capacity, n_piece, n_held;
    bool is_stopped; /* at a reverse prompt */
} stream;

void stream_create(stream *s, const nano_tokenizer *tokenizer, const text *stops, int n_stops);
void stream_free(stream *s);
/* Starts again behind a prompt: a text that goes on has no leading space to drop. Allocates nothing, as the next two. */
nano_status stream_start(stream *s, const int32_t *prompt, int32_t n_prompt, nano_error *err);
/* *piece is valid until the next call. */
nano_status stream_push(stream *s, int32_t id, nano_str *piece, nano_error *err);
/* What is left at the end of the text. */
nano_str stream_flush(stream *s);

#endif
