/* Moves every buffer of a plan to a place of its own, with, under AddressSanitizer, forbidden bytes around it. Part of
 * fuzz_graph.c. */
#ifndef NANO_TESTS_FUZZ_GRAPH_SPREAD_H
#define NANO_TESTS_FUZZ_GRAPH_SPREAD_H

#include "cpu/exec.h"
#include "graph/plan.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define WITH_ASAN 1
#  endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#  define WITH_ASAN 1
#endif
#if defined(WITH_ASAN)
#  include <sanitizer/asan_interface.h>
#else
#  define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#  define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { GAP = 128 }; /* forbidden bytes after a buffer, at least; a multiple of NANO_CACHE_LINE */

static void require(bool condition, const char *what, const nano_error *err) {
    if (!condition) {
        fprintf(stderr, "fuzz_graph: %s: %s\n", what, err != NULL ? err->message : "");
        abort();
    }
}

typedef struct buffer {
    uint64_t from; /* offset in the plan */
    uint64_t to;   /* offset now */
    uint64_t size;
} buffer;

static uint64_t rows_of(const nano_plan *plan, const nano_operand *o) {
    uint64_t rows = (uint64_t)(o->rows == NANO_DIM_T   ? plan->limits.n_batch
                               : o->rows == NANO_DIM_W ? plan->limits.n_outputs
                                                       : o->rows);
    /* wide kernels fill up the last group of columns */
    return plan->wide && o->type == NANO_TYPE_A8 ? (rows + NANO_WIDE_GROUP - 1) / NANO_WIDE_GROUP * NANO_WIDE_GROUP
                                                 : rows;
}

static uint64_t cache_bytes(const nano_plan *plan, const nano_operand *o) {
    return (uint64_t)nano_cache_slot_bytes(o, plan->limits.n_ctx) * (uint64_t)plan->limits.n_slots;
}

static uint64_t after(const buffer *b) { return (b->to + b->size + 2 * GAP - 1) / GAP * GAP; }

/* Moves an operand to where its buffer now is: the newest at that place. */
static void move(nano_operand *o, const buffer *buffers, int n) {
    for (int i = n - 1; i >= 0; i--) {
        if (o->offset >= buffers[i].from && o->offset < buffers[i].from + buffers[i].size) {
            o->offset = buffers[i].to + (o->offset - buffers[i].from);
            return;
        }
    }
    require(false, "a source that no node has written", NULL);
}

static int spread_arena(nano_plan *plan, buffer *out) {
    int n = 0;
    for (int32_t i = 0; i < plan->n_nodes; i++) {
        nano_node *node = &plan->nodes[i];
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            if (node->src[k].region == NANO_REGION_ARENA) {
                move(&node->src[k], out, n);
            }
        }
        if (node->out.region == NANO_REGION_ARENA) {
            uint64_t size = node->out.row_bytes * rows_of(plan, &node->out);
            out[n] = (buffer){node->out.offset, n > 0 ? after(&out[n - 1]) : 0, size};
            node->out.offset = out[n++].to;
        }
    }
    return n;
}

static int spread_caches(nano_plan *plan, buffer *out) {
    int n = 0;
    for (int32_t i = 0; i < plan->n_nodes; i++) {
        for (int k = -1; k < NANO_MAX_SRC; k++) {
            nano_operand *o = k < 0 ? &plan->nodes[i].out : &plan->nodes[i].src[k];
            int known = 0;
            while (o->region == NANO_REGION_CACHE && known < n && out[known].from != o->offset) {
                known++;
            }
            if (o->region == NANO_REGION_CACHE) {
                if (known == n) {
                    out[n] = (buffer){o->offset, n > 0 ? after(&out[n - 1]) : 0, cache_bytes(plan, o)};
                    n++;
                }
                o->offset = out[known].to;
            }
        }
    }
    return n;
}

/* Gives a part of the one allocation its new place. */
static void place(uint64_t *part, uint64_t size, uint64_t *end, buffer *parts, int *n) {
    parts[*n] = (buffer){*part, *end, size};
    *part = *end;
    *end = after(&parts[(*n)++]);
}

static int spread_layout(nano_plan *plan, uint64_t arena, uint64_t cache, buffer *parts) {
    nano_layout *l = &plan->layout;
    const nano_layout before = *l;
    const nano_limits *limits = &plan->limits;
    uint64_t end = 0, batch = (uint64_t)limits->n_batch, slots = (uint64_t)limits->n_slots;
    uint64_t outputs = (uint64_t)limits->n_outputs;
    int n = 0;
    place(&l->session, before.nodes - before.session, &end, parts, &n);
    place(&l->nodes, (uint64_t)plan->n_nodes * sizeof(nano_node), &end, parts, &n);
    place(&l->stages, ((uint64_t)plan->n_stages + 1) * sizeof(int32_t), &end, parts, &n);
    place(&l->groups, before.tokens - before.groups, &end, parts, &n);
    place(&l->tokens, batch * sizeof(int32_t), &end, parts, &n);
    place(&l->positions, batch * sizeof(int32_t), &end, parts, &n);
    place(&l->wanted, outputs * sizeof(int32_t), &end, parts, &n);
    place(&l->targets, outputs * sizeof(int32_t), &end, parts, &n);
    place(&l->weights, outputs * sizeof(float), &end, parts, &n);
    place(&l->slots, batch * sizeof(int32_t), &end, parts, &n);
    place(&l->n_past, slots * sizeof(int32_t), &end, parts, &n);
    place(&l->advance, slots * sizeof(int32_t), &end, parts, &n);
    place(&l->tiles, batch * sizeof(nano_tile), &end, parts, &n);
    place(&l->pool, before.cache - before.pool, &end, parts, &n);
    place(&l->cache, cache, &end, parts, &n);
    place(&l->arena, arena, &end, parts, &n);
    outputs = plan->model->has_loss ? 1 : outputs;
    place(&l->outputs, outputs * (uint64_t)plan->model->n_vocab * sizeof(float), &end, parts, &n);
    place(&l->importance, l->importance_bytes, &end, parts, &n);
    place(&l->importance_before, l->importance_bytes, &end, parts, &n);
    place(&l->scratch, (uint64_t)nano_limits_most_threads(limits) * l->scratch_stride, &end, parts, &n);
    place(&l->parameters, l->parameter_bytes, &end, parts, &n);
    place(&l->gradients, l->parameter_bytes, &end, parts, &n);
    place(&l->state, l->state_bytes, &end, parts, &n);
    l->total = end;
    return n;
}

static void forbid_between(uint8_t *base, const buffer *buffers, int n, uint64_t end) {
    for (int i = 0; i < n; i++) {
        uint64_t from = buffers[i].to + buffers[i].size, to = i + 1 < n ? buffers[i + 1].to : end;
        ASAN_POISON_MEMORY_REGION(base + from, (size_t)(to - from));
    }
}

#endif
