#include "text/merge.h"

/* Children of a heap's entry: four lie in one cache line, and the heap is half as deep as with two. */
enum { ARITY = 4 };

static void push(nano_merger *m, uint64_t entry) {
    size_t at = m->n_heap++;
    while (at > 0 && entry < m->heap[(at - 1) / ARITY]) {
        m->heap[at] = m->heap[(at - 1) / ARITY];
        at = (at - 1) / ARITY;
    }
    m->heap[at] = entry;
}

static uint64_t pop(nano_merger *m) {
    uint64_t *heap = m->heap;
    const uint64_t top = heap[0], entry = heap[--m->n_heap];
    size_t at = 0;
    for (size_t child; (child = at * ARITY + 1) < m->n_heap;) {
        const size_t end = child + ARITY < m->n_heap ? child + ARITY : m->n_heap;
        size_t least = child;
        while (++child < end) {
            least = heap[child] < heap[least] ? child : least;
        }
        if (entry <= heap[least]) {
            break;
        }
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = entry;
    return top;
}

/* Looks up the pair that begins at `symbol`. */
static void update_pair(nano_merger *m, int32_t symbol) {
    nano_symbol *s = &m->symbols[symbol];
    if (s->next < 0 || !m->pair(m, symbol, s->next, &s->order, &s->merged)) {
        s->order = NANO_NO_PAIR;
        return;
    }
    push(m, (uint64_t)s->order << 32 | (uint32_t)symbol);
}

void nano_merger_run(nano_merger *m) {
    m->n_heap = 0;
    for (int32_t i = 0; i < m->n_symbols; i++) {
        update_pair(m, i);
    }
    while (m->n_heap > 0) {
        const uint64_t entry = pop(m);
        const int32_t left = (int32_t)(entry & UINT32_MAX);
        nano_symbol *s = &m->symbols[left];
        if (s->order != (uint32_t)(entry >> 32)) {
            continue; /* merged since, or its neighbour was */
        }
        nano_symbol *right = &m->symbols[s->next];
        right->order = NANO_NO_PAIR;
        s->id = s->merged;
        s->next = right->next;
        if (s->next >= 0) {
            m->symbols[s->next].prev = left;
        }
        update_pair(m, left);
        if (s->prev >= 0) {
            update_pair(m, s->prev);
        }
    }
}
