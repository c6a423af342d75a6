/* UTF-8 and the character classes that pre-tokenizers ask for. */
#ifndef NANO_TEXT_UNICODE_H
#define NANO_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

typedef enum nano_char_class {
    NANO_CHAR_OTHER = 0,
    NANO_CHAR_LETTER = 1,      /* \p{L} */
    NANO_CHAR_NUMBER = 2,      /* \p{N} */
    NANO_CHAR_SPACE = 3,       /* \s: White_Space */
    NANO_CHAR_PUNCTUATION = 4, /* \p{P} */
    NANO_CHAR_END = 5          /* no character: the end of the text */
} nano_char_class;

enum {
    NANO_UNICODE_BLOCK = 128,  /* characters a block of the two-stage table */
    NANO_CHAR_INVALID = 0xFFFD /* what one ill-formed byte counts as */
};

/* unicode_tables.c: code / NANO_UNICODE_BLOCK -> block; a block's classes, 4 bits each, 8 a word. */
extern const uint32_t nano_unicode_n_blocks;
extern const uint8_t nano_unicode_index[];
extern const uint32_t nano_unicode_blocks[];

static inline nano_char_class nano_unicode_class(uint32_t code) {
    const uint32_t block = code / NANO_UNICODE_BLOCK;
    if (block >= nano_unicode_n_blocks) {
        return NANO_CHAR_OTHER;
    }
    const uint32_t at = (uint32_t)nano_unicode_index[block] * NANO_UNICODE_BLOCK + code % NANO_UNICODE_BLOCK;
    return (nano_char_class)((nano_unicode_blocks[at / 8] >> (at % 8 * 4)) & 15u);
}

/* What a run of bytes is the beginning of. */
typedef enum nano_utf8_state {
    NANO_UTF8_WHOLE,     /* exactly one character */
    NANO_UTF8_PARTIAL,   /* more bytes can make it one */
    NANO_UTF8_ILL_FORMED /* nothing can */
} nano_utf8_state;

/* Judges size bytes, 1..4 (Unicode 15, table 3-7: no overlong forms, no surrogates, at most U+10FFFF). */
nano_utf8_state nano_utf8_check(const uint8_t *s, size_t size);

/* Reads the character at s < end: its code in *code, its bytes returned. An ill-formed byte is one character,
 * NANO_CHAR_INVALID, of one byte. */
size_t nano_utf8_decode(const uint8_t *s, const uint8_t *end, uint32_t *code);

/* Writes `code` (a valid one) to out[0..3]; returns the bytes used. */
size_t nano_utf8_encode(uint32_t code, uint8_t *out);

#endif
