#include "text/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer.h"

/* Longer ones are not looked for: the bound keeps a search linear in the text whatever the vocabulary. */
enum { MAX_SPECIAL_BYTES = 255 };

static bool is_indexed(uint8_t type, size_t size) {
    const bool special = type == NANO_TOKEN_CONTROL || type == NANO_TOKEN_UNKNOWN || type == NANO_TOKEN_USER_DEFINED;
    return special && size > 0 && size <= MAX_SPECIAL_BYTES;
}

static int32_t new_node(nano_special *special, uint8_t byte) {
    special->nodes[special->n_nodes] = (nano_special_node){.child = -1, .sibling = -1, .id = -1, .byte = byte};
    return special->n_nodes++;
}

static void insert(nano_special *special, nano_str spelling, int32_t id, bool always) {
    int32_t *link = &special->roots[(uint8_t)spelling.data[0]];
    int32_t at = -1;
    for (size_t i = 0; i < spelling.size; i++) {
        const uint8_t byte = (uint8_t)spelling.data[i];
        while (*link >= 0 && special->nodes[*link].byte != byte) {
            link = &special->nodes[*link].sibling;
        }
        if (*link < 0) {
            *link = new_node(special, byte);
        }
        at = *link;
        link = &special->nodes[at].child;
    }
    if (special->nodes[at].id < 0) {
        special->nodes[at].id = id;
        special->nodes[at].always = always;
    }
}

nano_status nano_special_load(nano_special *special, const nano_vocab *vocab, const uint8_t *types, nano_error *err) {
    for (int i = 0; i < 256; i++) {
        special->roots[i] = -1;
    }
    size_t n_bytes = 0;
    for (int32_t id = 0; id < vocab->n_tokens; id++) {
        const size_t size = nano_vocab_spelling(vocab, id).size;
        n_bytes += is_indexed(types[id], size) ? size : 0;
    }
    if (n_bytes == 0) {
        return NANO_OK;
    }
    if (n_bytes > SIZE_MAX / sizeof *special->nodes ||
        (special->nodes = malloc(n_bytes * sizeof *special->nodes)) == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "no memory for an index of special tokens of %zu bytes", n_bytes);
    }
    for (int32_t id = 0; id < vocab->n_tokens; id++) {
        const nano_str spelling = nano_vocab_spelling(vocab, id);
        if (is_indexed(types[id], spelling.size)) {
            insert(special, spelling, id, types[id] == NANO_TOKEN_USER_DEFINED);
        }
    }
    return NANO_OK;
}

void nano_special_release(nano_special *special) { free(special->nodes); }

/* Bytes of the longest token at s; 0 when there is none. */
static size_t match_at(const nano_special *special, const uint8_t *s, const uint8_t *end, bool all, int32_t *id) {
    size_t longest = 0;
    int32_t at = special->roots[*s];
    for (size_t i = 0; at >= 0;) {
        const nano_special_node *node = &special->nodes[at];
        if (node->byte != s[i]) {
            at = node->sibling;
            continue;
        }
        i++;
        if (node->id >= 0 && (all || node->always)) {
            *id = node->id;
            longest = i;
        }
        at = s + i < end ? node->child : -1;
    }
    return longest;
}

const uint8_t *nano_special_find(const nano_special *special, const uint8_t *s, const uint8_t *end, bool all,
                                 int32_t *id, size_t *size) {
    if (special->n_nodes == 0) {
        return end;
    }
    for (; s < end; s++) {
        if (special->roots[*s] >= 0 && (*size = match_at(special, s, end, all, id)) > 0) {
            return s;
        }
    }
    return end;
}
