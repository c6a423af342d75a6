#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/error.h"

/* FNV-1a, 64 bits, its halves folded together: spellings are short. */
static uint32_t hash_bytes(const void *data, size_t size) {
    const uint8_t *s = data;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++) {
        h = (h ^ s[i]) * UINT64_C(0x100000001b3);
    }
    return (uint32_t)(h ^ h >> 32);
}

size_t nano_hash_slots(size_t n) {
    size_t slots = 16;
    while (slots / 2 < n) {
        if (slots > UINT32_MAX / 4) {
            return 0;
        }
        slots *= 2;
    }
    return slots;
}

nano_str nano_vocab_spelling(const nano_vocab *vocab, int32_t id) {
    const uint32_t start = vocab->offsets[id];
    return (nano_str){vocab->text + start, vocab->offsets[id + 1] - start};
}

/* The slot of a spelling: where it is, or the empty one where it would go. NULL after NANO_MAX_PROBES. */
static uint32_t *find_slot(const nano_vocab *vocab, const void *spelling, size_t size) {
    uint32_t at = hash_bytes(spelling, size) & vocab->slot_mask;
    for (int probe = 0; probe < NANO_MAX_PROBES; probe++) {
        if (vocab->slots[at] == 0) {
            return &vocab->slots[at];
        }
        const nano_str found = nano_vocab_spelling(vocab, (int32_t)(vocab->slots[at] - 1));
        if (found.size == size && memcmp(found.data, spelling, size) == 0) {
            return &vocab->slots[at];
        }
        at = (at + 1) & vocab->slot_mask;
    }
    return NULL;
}

int32_t nano_vocab_find(const nano_vocab *vocab, const void *spelling, size_t size) {
    if (size == 0 || size > vocab->max_bytes) {
        return -1;
    }
    const uint32_t *slot = find_slot(vocab, spelling, size);
    return slot == NULL ? -1 : (int32_t)*slot - 1;
}

nano_status nano_vocab_load(nano_vocab *vocab, const nano_gguf_value *tokens, const char *path, nano_error *err) {
    /* n_bytes holds the spellings and 8 bytes of length for each, so this bounds both. */
    if (tokens->n_items == 0 || tokens->n_bytes > INT32_MAX) {
        return nano_fail(err, NANO_ERR_FORMAT,
                         "%s: tokenizer.ggml.tokens: found %llu tokens of %llu bytes, expected "
                         "at least one and less than 2 GiB",
                         path, (unsigned long long)tokens->n_items, (unsigned long long)tokens->n_bytes);
    }
    const size_t n = (size_t)tokens->n_items;
    const size_t n_slots = nano_hash_slots(n);
    vocab->offsets = malloc((n + 1) * sizeof *vocab->offsets);
    vocab->text = malloc(tokens->n_bytes);
    vocab->slots = calloc(n_slots, sizeof *vocab->slots);
    if (vocab->offsets == NULL || vocab->text == NULL || vocab->slots == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory for a vocabulary of %zu tokens", path, n);
    }
    vocab->slot_mask = (uint32_t)(n_slots - 1);
    vocab->n_tokens = (int32_t)n;
    size_t cursor = 0;
    uint32_t used = 0;
    nano_str s;
    for (size_t i = 0; i < n; i++) {
        if (!nano_gguf_next_str(tokens, &cursor, &s)) {
            return nano_fail(err, NANO_ERR_FORMAT, "%s: tokenizer.ggml.tokens: token %zu of %zu is not there", path, i,
                             n);
        }
        vocab->offsets[i] = used;
        memcpy(vocab->text + used, s.data, s.size);
        used += (uint32_t)s.size;
        vocab->offsets[i + 1] = used;
        vocab->max_bytes = s.size > vocab->max_bytes ? (uint32_t)s.size : vocab->max_bytes;
        if (s.size == 0) {
            continue;
        }
        uint32_t *slot = find_slot(vocab, s.data, s.size);
        if (slot == NULL) {
            return nano_fail(err, NANO_ERR_FORMAT, "%s: tokenizer.ggml.tokens: token %zu collides with too many others",
                             path, i);
        }
        if (*slot == 0) {
            *slot = (uint32_t)i + 1;
        }
    }
    return NANO_OK;
}

void nano_vocab_release(nano_vocab *vocab) {
    free(vocab->offsets);
    free(vocab->text);
    free(vocab->slots);
}
