/* Finds special tokens in text: the longest of those that begin leftmost. */
#ifndef NANO_TEXT_SPECIAL_H
#define NANO_TEXT_SPECIAL_H

#include "text/vocab.h"

/* A trie with a list of children a node. */
typedef struct nano_special_node {
    int32_t child, sibling; /* nodes, or -1 */
    int32_t id;             /* the token that ends here, or -1 */
    uint8_t byte;
    bool always; /* found even when only user-defined tokens are looked for */
} nano_special_node;

typedef struct nano_special {
    nano_special_node *nodes;
    int32_t n_nodes;
    int32_t roots[256]; /* by first byte: a node, or -1 */
} nano_special;

/* Indexes the control, unknown and user-defined tokens by `types`, (n_tokens). */
nano_status nano_special_load(nano_special *special, const nano_vocab *vocab, const uint8_t *types, nano_error *err);
void nano_special_release(nano_special *special);
/* The first match in s..end, of all tokens or only of the user-defined: its place (or `end`), id and size. */
const uint8_t *nano_special_find(const nano_special *special, const uint8_t *s, const uint8_t *end, bool all,
                                 int32_t *id, size_t *size);

#endif
