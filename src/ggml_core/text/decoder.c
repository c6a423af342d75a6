/* Tokens back to text, whole characters at a time. */
#include <string.h>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */
enum { REPLACEMENT_BYTES = 3, MAX_PENDING = 3 };

/* One push in the making. */
typedef struct sink {
    nano_decoder *decoder;
    char *out;
    size_t n;
} sink;

static void write_bytes(sink *k, const void *bytes, size_t size) {
    memcpy(k->out + k->n, bytes, size);
    k->n += size;
}

/* Takes a byte; writes a character when it completes one, U+FFFD for what can no longer become one (the longest
 * beginning of a character, as Unicode 15 section 3.9 recommends). */
static void take_byte(sink *k, uint8_t byte) {
    nano_decoder *d = k->decoder;
    d->pending[d->n_pending++] = byte;
    nano_utf8_state state = nano_utf8_check(d->pending, (size_t)d->n_pending);
    if (state == NANO_UTF8_ILL_FORMED && d->n_pending > 1) { /* the byte may begin the next character */
        write_bytes(k, replacement, REPLACEMENT_BYTES);
        d->pending[0] = byte;
        d->n_pending = 1;
        state = nano_utf8_check(d->pending, 1);
    }
    if (state == NANO_UTF8_WHOLE) {
        write_bytes(k, d->pending, (size_t)d->n_pending);
        d->n_pending = 0;
    } else if (state == NANO_UTF8_ILL_FORMED) {
        write_bytes(k, replacement, REPLACEMENT_BYTES);
        d->n_pending = 0;
    }
}

static void take_raw(sink *k, nano_str s) {
    for (size_t i = 0; i < s.size; i++) {
        take_byte(k, (uint8_t)s.data[i]);
    }
}

static bool is_byte_level(nano_str s) {
    const uint8_t *at = (const uint8_t *)s.data, *end = at + s.size;
    for (uint32_t code; at < end;) {
        at += nano_utf8_decode(at, end, &code);
        if (nano_bpe_byte_of_char(code) < 0) {
            return false;
        }
    }
    return true;
}

static void take_bpe(sink *k, nano_str s) {
    if (!is_byte_level(s)) { /* not of this vocabulary's kind: text as it is */
        take_raw(k, s);
        return;
    }
    const uint8_t *at = (const uint8_t *)s.data, *end = at + s.size;
    for (uint32_t code; at < end;) {
        at += nano_utf8_decode(at, end, &code);
        take_byte(k, (uint8_t)nano_bpe_byte_of_char(code));
    }
}

static bool at_space(nano_str s, size_t i) {
    return s.size - i >= NANO_SPM_SPACE_BYTES && memcmp(s.data + i, NANO_SPM_SPACE, NANO_SPM_SPACE_BYTES) == 0;
}

static void take_spm(sink *k, nano_str s, bool drop_space) {
    for (size_t i = drop_space && at_space(s, 0) ? NANO_SPM_SPACE_BYTES : 0; i < s.size;) {
        if (at_space(s, i)) {
            take_byte(k, ' ');
            i += NANO_SPM_SPACE_BYTES;
        } else {
            take_byte(k, (uint8_t)s.data[i++]);
        }
    }
}

void nano_decoder_init(nano_decoder *decoder, const nano_tokenizer *tokenizer, bool show_special) {
    (void)tokenizer; /* what is dropped at the start is decided when a token comes */
    *decoder = (nano_decoder){.show_special = show_special};
}

size_t nano_decoder_max_bytes(const nano_tokenizer *tokenizer) {
    return (tokenizer->vocab.max_bytes + (size_t)MAX_PENDING) * REPLACEMENT_BYTES;
}

nano_status nano_decoder_push(nano_decoder *decoder, const nano_tokenizer *tokenizer, int32_t id, char *out,
                              size_t capacity, size_t *n_bytes, nano_error *err) {
    const nano_tokenizer *t = tokenizer;
    if (id < 0 || id >= t->vocab.n_tokens) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "token %d: expected one from 0 to %d", (int)id,
                         (int)t->vocab.n_tokens - 1);
    }
    if (decoder->n_pending < 0 || decoder->n_pending > MAX_PENDING) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "a decoder with %d pending bytes: was it initialised?",
                         (int)decoder->n_pending);
    }
    const nano_str s = nano_vocab_spelling(&t->vocab, id);
    const size_t most = (s.size + (size_t)decoder->n_pending) * REPLACEMENT_BYTES;
    if (capacity < most) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "room for %zu bytes of text, expected %zu for token %d", capacity,
                         most, (int)id);
    }
    sink k = {decoder, out, 0};
    const uint8_t type = t->types[id];
    const bool special = type == NANO_TOKEN_CONTROL || type == NANO_TOKEN_UNKNOWN;
    const int32_t byte = type == NANO_TOKEN_BYTE && t->model == NANO_TOKENIZER_SPM ? nano_spm_byte_of_spelling(s) : -1;
    if (special || type == NANO_TOKEN_USER_DEFINED) {
        if (!special || decoder->show_special) {
            take_raw(&k, s);
        }
        decoder->started = false; /* encoding adds a space after these as at the start */
    } else {
        if (byte >= 0) {
            take_byte(&k, (uint8_t)byte);
        } else if (t->model == NANO_TOKENIZER_SPM) {
            take_spm(&k, s, t->spm.add_space_prefix && !decoder->started);
        } else {
            take_bpe(&k, s);
        }
        decoder->started = true;
    }
    *n_bytes = k.n;
    return NANO_OK;
}

size_t nano_decoder_flush(nano_decoder *decoder, char *out, size_t capacity) {
    if (decoder->n_pending == 0 || capacity < REPLACEMENT_BYTES) {
        return 0;
    }
    decoder->n_pending = 0;
    memcpy(out, replacement, REPLACEMENT_BYTES);
    return REPLACEMENT_BYTES;
}
