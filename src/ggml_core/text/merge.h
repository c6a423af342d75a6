/*
 * Merging, for both models: a row of symbols, each adjacent pair of which may be mergeable, with an order. The pair
 * of the smallest order is merged, of equal ones the leftmost, until none is left.
 *
 * A heap of pairs, a pair being its order and its left symbol in one number. A pair that is no longer there stays in
 * the heap until it comes up, and is known by its order not being the symbol's. Each merge takes one entry out and
 * puts two in at most, so there are never more than two a symbol: O(n log n) time and a fixed number of bytes a
 * symbol, whatever the text.
 */
#ifndef NANO_TEXT_MERGE_H
#define NANO_TEXT_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nano_symbol {
    int32_t prev, next; /* symbols, or -1 */
    int32_t id;         /* the token, or -1 */
    int32_t start;      /* first byte; a symbol ends where the next begins */
    uint32_t order;     /* of the pair (this, next); NANO_NO_PAIR when there is none */
    int32_t merged;     /* the token it makes */
} nano_symbol;

#define NANO_NO_PAIR UINT32_MAX

typedef struct nano_merger nano_merger;

/* Can symbols `left` and `right`, neighbours, be merged? Into what, and when (*order < NANO_NO_PAIR)? */
typedef bool nano_pair_fn(const nano_merger *merger, int32_t left, int32_t right, uint32_t *order, int32_t *merged);

struct nano_merger {
    nano_symbol *symbols;
    uint64_t *heap; /* order << 32 | left symbol; room for two entries a symbol */
    size_t n_heap;
    int32_t n_symbols;
    int32_t n_bytes; /* where the last symbol ends */
    nano_pair_fn *pair;
    const void *context; /* for `pair` */
};

enum { NANO_MERGER_BYTES_PER_SYMBOL = sizeof(nano_symbol) + 2 * sizeof(uint64_t) };

static inline void nano_merger_clear(nano_merger *m) { m->n_symbols = m->n_bytes = 0; }

/* Appends a symbol of n_bytes. */
static inline void nano_merger_append(nano_merger *m, int32_t id, int32_t n_bytes) {
    const int32_t i = m->n_symbols++;
    m->symbols[i] = (nano_symbol){.prev = i - 1, .next = -1, .id = id, .start = m->n_bytes};
    if (i > 0) {
        m->symbols[i - 1].next = i;
    }
    m->n_bytes += n_bytes;
}

static inline int32_t nano_merger_end(const nano_merger *m, int32_t i) {
    const int32_t next = m->symbols[i].next;
    return next < 0 ? m->n_bytes : m->symbols[next].start;
}

/* Merges all that can be. The result is the list from symbol 0 along `next`. */
void nano_merger_run(nano_merger *m);

#endif
