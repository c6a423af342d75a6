#include "stream.h"

#include <stdlib.h>
#include <string.h>

void stream_create(stream *s, const nano_tokenizer *tokenizer, const text *stops, int n_stops) {
    *s = (stream){.tokenizer = tokenizer, .stops = stops, .n_stops = n_stops};
    s->capacity = 2 * nano_decoder_max_bytes(tokenizer);
    for (int i = 0; i < n_stops; i++) {
        s->capacity += stops[i].size;
    }
    s->buffer = allocate(s->capacity, 1);
}

void stream_free(stream *s) { free(s->buffer); }

nano_status stream_start(stream *s, const int32_t *prompt, int32_t n_prompt, nano_error *err) {
    size_t n = 0;
    s->n_piece = s->n_held = 0;
    s->is_stopped = false;
    nano_decoder_init(&s->decoder, s->tokenizer, false);
    for (int32_t i = n_prompt > 4 ? n_prompt - 4 : 0; i < n_prompt; i++) {
        const nano_status status =
            nano_decoder_push(&s->decoder, s->tokenizer, prompt[i], s->buffer, s->capacity, &n, err);
        if (status != NANO_OK) {
            return status;
        }
    }
    return NANO_OK;
}

/* Where `stop` first begins in the text, SIZE_MAX when it does not. */
static size_t find(const char *bytes, size_t size, const text *stop) {
    for (size_t i = 0; i + stop->size <= size; i++) {
        if (memcmp(bytes + i, stop->data, stop->size) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* The length of the longest end of the text that starts `stop`. */
static size_t overlap(const char *bytes, size_t size, const text *stop) {
    size_t n = size < stop->size ? size : stop->size - 1;
    while (n > 0 && memcmp(bytes + size - n, stop->data, n) != 0) {
        n--;
    }
    return n;
}

/* Divides `size` bytes of text into what can be shown and what is held back. */
static nano_str release(stream *s, size_t size) {
    size_t end = SIZE_MAX, n_held = 0;
    for (int i = 0; i < s->n_stops; i++) {
        const size_t at = find(s->buffer, size, &s->stops[i]), n = overlap(s->buffer, size, &s->stops[i]);
        end = at < end ? at : end;
        n_held = n > n_held ? n : n_held;
    }
    s->is_stopped = end != SIZE_MAX;
    s->n_held = s->is_stopped ? 0 : n_held;
    s->n_piece = s->is_stopped ? end : size - n_held;
    return (nano_str){s->buffer, s->n_piece};
}

/* Moves what is held back to the front. */
static void forget_piece(stream *s) {
    memmove(s->buffer, s->buffer + s->n_piece, s->n_held);
    s->n_piece = 0;
}

nano_status stream_push(stream *s, int32_t id, nano_str *piece, nano_error *err) {
    size_t n = 0;
    forget_piece(s);
    const nano_status status =
        nano_decoder_push(&s->decoder, s->tokenizer, id, s->buffer + s->n_held, s->capacity - s->n_held, &n, err);
    if (status == NANO_OK) {
        *piece = release(s, s->n_held + n);
    }
    return status;
}

nano_str stream_flush(stream *s) {
    if (s->is_stopped) {
        return (nano_str){"", 0};
    }
    forget_piece(s);
    const size_t n = nano_decoder_flush(&s->decoder, s->buffer + s->n_held, s->capacity - s->n_held);
    (void)release(s, s->n_held + n);
    return (nano_str){s->buffer, s->n_piece + s->n_held};
}
