/* Byte-level BPE (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2). */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

/* Bytes that are printable in Latin-1 stand for themselves, the others are U+0100 and on, in their order:
 * 0..32 are 256..288, 127..160 are 289..322, 173 is 323. */
uint32_t nano_bpe_char_of_byte(uint8_t byte) {
    if (byte <= 32) {
        return 256u + byte;
    }
    if (byte >= 127 && byte <= 160) {
        return 289u + (byte - 127u);
    }
    return byte == 173 ? 323 : byte;
}

int32_t nano_bpe_byte_of_char(uint32_t code) {
    if (code >= 256 && code <= 323) {
        return (int32_t)(code <= 288 ? code - 256 : code <= 322 ? code - 289 + 127 : 173);
    }
    return code < 256 && nano_bpe_char_of_byte((uint8_t)code) == code ? (int32_t)code : -1;
}

/* The slot of a pair: where it is, or the empty one where it would go. NULL after NANO_MAX_PROBES. */
static inline uint32_t *find_slot(const nano_bpe *bpe, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t at = (uint32_t)(h >> 32 ^ h >> 15) & bpe->slot_mask;
    for (int probe = 0; probe < NANO_MAX_PROBES; probe++) {
        if (bpe->slots[at] == 0) {
            return &bpe->slots[at];
        }
        const nano_bpe_merge *found = &bpe->merges[bpe->slots[at] - 1];
        if (found->left == left && found->right == right) {
            return &bpe->slots[at];
        }
        at = (at + 1) & bpe->slot_mask;
    }
    return NULL;
}

static bool find_pair(const nano_merger *m, int32_t left, int32_t right, uint32_t *order, int32_t *merged) {
    const nano_bpe *bpe = m->context;
    const uint32_t *slot = find_slot(bpe, m->symbols[left].id, m->symbols[right].id);
    if (slot == NULL || *slot == 0) {
        return false;
    }
    *order = *slot - 1;
    *merged = bpe->merges[*slot - 1].merged;
    return true;
}

/* Splits "left right" at its space (a piece may begin with one) and finds both and what they make. `joined` has
 * room for the longest token. */
static nano_status read_merge(const nano_vocab *vocab, nano_str line, char *joined, nano_bpe_merge *out,
                              unsigned long long rank, const char *path, nano_error *err) {
    const char *space = line.size > 1 ? memchr(line.data + 1, ' ', line.size - 1) : NULL;
    if (space == NULL || space + 1 == line.data + line.size) {
        return nano_fail(err, NANO_ERR_FORMAT,
                         "%s: tokenizer.ggml.merges: merge %llu: found no two pieces, expected "
                         "them separated by a space",
                         path, rank);
    }
    const size_t n_left = (size_t)(space - line.data), n_right = line.size - n_left - 1;
    out->left = nano_vocab_find(vocab, line.data, n_left);
    out->right = nano_vocab_find(vocab, space + 1, n_right);
    out->merged = -1;
    if (n_left + n_right <= vocab->max_bytes) {
        memcpy(joined, line.data, n_left);
        memcpy(joined + n_left, space + 1, n_right);
        out->merged = nano_vocab_find(vocab, joined, n_left + n_right);
    }
    if (out->left < 0 || out->right < 0 || out->merged < 0) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: tokenizer.ggml.merges: merge %llu: %s is not a token", path, rank,
                         out->left < 0    ? "its left piece"
                         : out->right < 0 ? "its right piece"
                                          : "what it makes");
    }
    return NANO_OK;
}

static nano_status load_merges(nano_tokenizer *t, const nano_gguf_value *merges, char *joined, const char *path,
                               nano_error *err) {
    nano_bpe *bpe = &t->bpe;
    size_t cursor = 0;
    nano_str line;
    for (uint64_t rank = 0; rank < merges->n_items && nano_gguf_next_str(merges, &cursor, &line); rank++) {
        nano_bpe_merge *merge = &bpe->merges[rank];
        NANO_TRY(read_merge(&t->vocab, line, joined, merge, rank, path, err));
        uint32_t *slot = find_slot(bpe, merge->left, merge->right);
        if (slot == NULL) {
            return nano_fail(err, NANO_ERR_FORMAT,
                             "%s: tokenizer.ggml.merges: merge %llu collides with too many others", path,
                             (unsigned long long)rank);
        }
        if (*slot == 0) { /* said twice, the first counts */
            *slot = (uint32_t)rank + 1;
        }
    }
    return NANO_OK;
}

nano_status nano_bpe_load(nano_tokenizer *t, const nano_gguf_value *merges, const char *path, nano_error *err) {
    nano_bpe *bpe = &t->bpe;
    const size_t n = merges->n_items > INT32_MAX / 8 ? 0 : (size_t)merges->n_items;
    if (n != merges->n_items) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: tokenizer.ggml.merges: found %llu, expected fewer", path,
                         (unsigned long long)merges->n_items);
    }
    const size_t n_slots = nano_hash_slots(n);
    bpe->merges = malloc((n + 1) * sizeof *bpe->merges);
    bpe->slots = calloc(n_slots, sizeof *bpe->slots);
    char *joined = malloc((size_t)t->vocab.max_bytes + 1);
    if (bpe->merges == NULL || bpe->slots == NULL || joined == NULL) {
        free(joined);
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory for %zu merges", path, n);
    }
    bpe->n_merges = (uint32_t)n;
    bpe->slot_mask = (uint32_t)(n_slots - 1);
    for (int i = 0; i < 256; i++) {
        uint8_t spelling[4];
        const size_t size = nano_utf8_encode(nano_bpe_char_of_byte((uint8_t)i), spelling);
        t->byte_ids[i] = nano_vocab_find(&t->vocab, spelling, size);
    }
    const nano_status status = load_merges(t, merges, joined, path, err);
    free(joined);
    return status;
}

/* The token that a whole word is, or -1. */
static int32_t find_word(nano_encoder *e, const uint8_t *word, size_t size) {
    const nano_tokenizer *t = e->tokenizer;
    if (size > t->vocab.max_bytes) { /* a byte becomes one character or more */
        return -1;
    }
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        used += nano_utf8_encode(nano_bpe_char_of_byte(word[i]), e->bytes + used);
    }
    const int32_t id = nano_vocab_find(&t->vocab, e->bytes, used);
    return id >= 0 && t->types[id] == NANO_TOKEN_NORMAL ? id : -1;
}

static void encode_word(nano_encoder *e, const uint8_t *word, size_t size) {
    const nano_tokenizer *t = e->tokenizer;
    nano_merger *m = &e->merger;
    const int32_t whole = t->bpe.whole_words && size > 1 ? find_word(e, word, size) : -1;
    if (whole >= 0) {
        nano_encoder_emit(e, whole);
        return;
    }
    nano_merger_clear(m);
    for (size_t i = 0; i < size; i++) {
        nano_merger_append(m, t->byte_ids[word[i]], 1);
    }
    nano_merger_run(m);
    for (int32_t i = 0; i >= 0; i = m->symbols[i].next) {
        const int32_t id = m->symbols[i].id >= 0 ? m->symbols[i].id : t->unknown;
        if (id >= 0) {
            nano_encoder_emit(e, id);
        }
    }
}

void nano_bpe_encode(nano_encoder *e, const uint8_t *text, size_t size) {
    nano_pretokenizer words = nano_pretokenizer_start(e->tokenizer->pretokenizer, text, size);
    e->merger.pair = find_pair;
    e->merger.context = &e->tokenizer->bpe;
    for (const uint8_t *word = text, *next; word < words.end; word = next) {
        next = nano_pretokenizer_next(&words);
        encode_word(e, word, (size_t)(next - word));
    }
}
