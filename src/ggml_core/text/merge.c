#include "text/merge.h"

static bool before(const nano_merger *m, int32_t a, int32_t b) {
    const uint32_t x = m->symbols[a].order, y = m->symbols[b].order;
    return x < y || (x == y && a < b);
}

static void place(nano_merger *m, int32_t at, int32_t symbol) {
    m->heap[at] = symbol;
    m->symbols[symbol].heap_at = at;
}

/* Moves the entry at `at` to where its order belongs. */
static void sift(nano_merger *m, int32_t at) {
    const int32_t symbol = m->heap[at];
    while (at > 0 && before(m, symbol, m->heap[(at - 1) / 2])) {
        place(m, at, m->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (int32_t child; (child = at * 2 + 1) < m->n_heap; at = child) {
        if (child + 1 < m->n_heap && before(m, m->heap[child + 1], m->heap[child])) {
            child++;
        }
        if (!before(m, m->heap[child], symbol)) {
            break;
        }
        place(m, at, m->heap[child]);
    }
    place(m, at, symbol);
}

static void remove_pair(nano_merger *m, int32_t symbol) {
    const int32_t at = m->symbols[symbol].heap_at;
    if (at < 0) {
        return;
    }
    m->symbols[symbol].heap_at = -1;
    const int32_t last = m->heap[--m->n_heap];
    if (at < m->n_heap) {
        m->heap[at] = last;
        sift(m, at);
    }
}

/* Looks up the pair that begins at `symbol` and puts the heap right. */
static void update_pair(nano_merger *m, int32_t symbol) {
    nano_symbol *s = &m->symbols[symbol];
    if (s->next < 0 || !m->pair(m, symbol, s->next, &s->order, &s->merged)) {
        remove_pair(m, symbol);
        return;
    }
    if (s->heap_at < 0) {
        s->heap_at = m->n_heap++;
        m->heap[s->heap_at] = symbol;
    }
    sift(m, s->heap_at);
}

void nano_merger_run(nano_merger *m) {
    m->n_heap = 0;
    for (int32_t i = 0; i + 1 < m->n_symbols; i++) {
        update_pair(m, i);
    }
    while (m->n_heap > 0) {
        const int32_t left = m->heap[0];
        nano_symbol *s = &m->symbols[left];
        const int32_t right = s->next;
        remove_pair(m, right);
        s->id = s->merged;
        s->next = m->symbols[right].next;
        if (s->next >= 0) {
            m->symbols[s->next].prev = left;
        }
        update_pair(m, left);
        if (s->prev >= 0) {
            update_pair(m, s->prev);
        }
    }
}
