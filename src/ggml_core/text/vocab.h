/* The tokens' spellings and an index of them. */
#ifndef NANO_TEXT_VOCAB_H
#define NANO_TEXT_VOCAB_H

#include "ggml_core.h"

typedef struct nano_vocab {
    int32_t n_tokens;
    uint32_t max_bytes; /* of the longest spelling */
    uint32_t *offsets;  /* (n_tokens + 1) into text */
    char *text;
    uint32_t *slots; /* open addressing by spelling: id + 1, 0 where empty */
    uint32_t slot_mask;
} nano_vocab;

/* Copies the strings of `tokens`, an array. Of equal spellings the first is found; empty ones never are. */
nano_status nano_vocab_load(nano_vocab *vocab, const nano_gguf_value *tokens, const char *path, nano_error *err);
void nano_vocab_release(nano_vocab *vocab);
/* -1 when no token is spelt so. */
int32_t nano_vocab_find(const nano_vocab *vocab, const void *spelling, size_t size);
nano_str nano_vocab_spelling(const nano_vocab *vocab, int32_t id); /* id in range */

/* Of the real vocabularies' tables no search is longer than a few dozen slots; a file whose tables need more than this
 * was made to collide, and is refused rather than searched for minutes. */
enum { NANO_MAX_PROBES = 1024 };

/* The number of slots, a power of two, of a table for n entries: at least half of them stay empty. 0: too many. */
size_t nano_hash_slots(size_t n);

#endif
