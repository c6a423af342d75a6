/* SentencePiece's BPE (Kudo and Richardson 2018) with byte fallback: characters are merged by score. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

static const uint8_t spm_space[NANO_SPM_SPACE_BYTES + 1] = NANO_SPM_SPACE;

/* Text never becomes a control, unknown or byte token by its spelling. */
static int32_t find_text_token(const nano_tokenizer *t, const uint8_t *spelling, size_t size) {
    const int32_t id = nano_vocab_find(&t->vocab, spelling, size);
    if (id < 0) {
        return -1;
    }
    const uint8_t type = t->types[id];
    return type == NANO_TOKEN_CONTROL || type == NANO_TOKEN_UNKNOWN || type == NANO_TOKEN_BYTE ? -1 : id;
}

static int32_t hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int32_t nano_spm_byte_of_spelling(nano_str s) {
    if (s.size != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>') {
        return -1;
    }
    const int32_t high = hex_digit(s.data[3]), low = hex_digit(s.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A character of text or of a spelling. A space and what stands for it in spellings are the same. */
typedef struct spm_char {
    size_t size; /* bytes read */
    bool is_space;
    uint8_t first, last; /* bytes, for `joins` */
} spm_char;

static spm_char read_char(const uint8_t *s, const uint8_t *end) {
    uint32_t code;
    spm_char c = {.size = nano_utf8_decode(s, end, &code)};
    c.is_space = code == ' ' || (c.size == NANO_SPM_SPACE_BYTES && memcmp(s, spm_space, NANO_SPM_SPACE_BYTES) == 0);
    c.first = c.is_space ? ' ' : s[0];
    c.last = c.is_space ? ' ' : s[c.size - 1];
    return c;
}

static bool joins(const nano_spm *spm, uint8_t last, uint8_t first) {
    const uint32_t bit = (uint32_t)last << 8 | first;
    return (spm->joins[bit / 8] >> (bit % 8) & 1) != 0;
}

static void note_joins(nano_spm *spm, nano_str spelling) {
    const uint8_t *s = (const uint8_t *)spelling.data, *end = s + spelling.size;
    for (uint8_t last = 0; s < end;) {
        const spm_char c = read_char(s, end);
        if (s > (const uint8_t *)spelling.data) {
            const uint32_t bit = (uint32_t)last << 8 | c.first;
            spm->joins[bit / 8] |= (uint8_t)(1u << (bit % 8));
        }
        last = c.last;
        s += c.size;
    }
}

/* Maps scores to unsigned numbers, the largest score to the smallest: IEEE 754 orders by its bits, negative
 * numbers the other way round. */
static uint32_t order_of_score(float score) {
    uint32_t bits;
    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

nano_status nano_spm_load(nano_tokenizer *t, const nano_gguf_value *scores, const char *path, nano_error *err) {
    const int32_t n = t->vocab.n_tokens;
    nano_spm *spm = &t->spm;
    spm->order = malloc((size_t)n * sizeof *spm->order);
    if (spm->order == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory for the scores of %d tokens", path, (int)n);
    }
    for (int i = 0; i < 256; i++) {
        t->byte_ids[i] = -1;
    }
    for (int32_t id = 0; id < n; id++) {
        const nano_str spelling = nano_vocab_spelling(&t->vocab, id);
        double score;
        if (!nano_gguf_item_float(scores, (uint64_t)id, &score) || isnan(score)) {
            return nano_fail(err, NANO_ERR_FORMAT, "%s: tokenizer.ggml.scores: score %d is not a number", path,
                             (int)id);
        }
        spm->order[id] = order_of_score((float)score);
        note_joins(spm, spelling);
        const int32_t byte = t->types[id] == NANO_TOKEN_BYTE ? nano_spm_byte_of_spelling(spelling) : -1;
        if (byte >= 0 && t->byte_ids[byte] < 0) {
            t->byte_ids[byte] = id;
        }
    }
    spm->space_ids = find_text_token(t, spm_space, NANO_SPM_SPACE_BYTES) >= 0 ? 1 : NANO_SPM_SPACE_BYTES;
    return NANO_OK;
}

static bool find_pair(const nano_merger *m, int32_t left, int32_t right, uint32_t *order, int32_t *merged) {
    const nano_encoder *e = m->context;
    const nano_tokenizer *t = e->tokenizer;
    const int32_t start = m->symbols[left].start;
    const int32_t id = find_text_token(t, e->bytes + start, (size_t)(nano_merger_end(m, right) - start));
    if (id < 0) {
        return false;
    }
    *order = t->spm.order[id];
    *merged = id;
    return true;
}

/* A character that is no token: its bytes where all are tokens, or one unknown for a run of such. */
static void emit_fallback(nano_encoder *e, const uint8_t *s, size_t size, bool *after_unknown) {
    const nano_tokenizer *t = e->tokenizer;
    for (size_t i = 0; i < size; i++) {
        if (t->byte_ids[s[i]] < 0) {
            if (t->unknown >= 0 && !*after_unknown) {
                nano_encoder_emit(e, t->unknown);
            }
            *after_unknown = true;
            return;
        }
    }
    *after_unknown = false;
    for (size_t i = 0; i < size; i++) {
        nano_encoder_emit(e, t->byte_ids[s[i]]);
    }
}

/* Merges the characters gathered and emits them. */
static void finish_piece(nano_encoder *e, bool *after_unknown) {
    nano_merger *m = &e->merger;
    if (m->n_symbols == 0) {
        return;
    }
    nano_merger_run(m);
    for (int32_t i = 0; i >= 0; i = m->symbols[i].next) {
        const uint8_t *s = e->bytes + m->symbols[i].start;
        const size_t size = (size_t)(nano_merger_end(m, i) - m->symbols[i].start);
        const int32_t id = m->symbols[i].id >= 0 ? m->symbols[i].id : find_text_token(e->tokenizer, s, size);
        if (id >= 0) {
            nano_encoder_emit(e, id);
            *after_unknown = false;
        } else {
            emit_fallback(e, s, size, after_unknown);
        }
    }
    nano_merger_clear(m);
}

static void append_char(nano_encoder *e, const uint8_t *s, size_t size) {
    memcpy(e->bytes + e->merger.n_bytes, s, size);
    nano_merger_append(&e->merger, -1, (int32_t)size);
}

void nano_spm_encode(nano_encoder *e, const uint8_t *text, size_t size, bool space_prefix) {
    const nano_spm *spm = &e->tokenizer->spm;
    const uint8_t *s = text, *end = text + size;
    bool after_unknown = false;
    uint8_t last = ' ';
    e->merger.pair = find_pair;
    e->merger.context = e;
    nano_merger_clear(&e->merger);
    if (space_prefix) {
        append_char(e, spm_space, NANO_SPM_SPACE_BYTES);
    }
    while (s < end) {
        const spm_char c = read_char(s, end);
        if (!joins(spm, last, c.first)) {
            finish_piece(e, &after_unknown);
        }
        append_char(e, c.is_space ? spm_space : s, c.is_space ? NANO_SPM_SPACE_BYTES : c.size);
        last = c.last;
        s += c.size;
    }
    finish_piece(e, &after_unknown);
}
