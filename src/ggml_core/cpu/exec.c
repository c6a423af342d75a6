#include "cpu/exec.h"

#include "base/arith.h"

/* Work is handed out in chunks of units, about this many a thread and node: enough that a slow core of an unequal
 * set takes fewer, few enough that the shared counter does not matter. */
enum { CHUNKS_PER_THREAD = 4 };

typedef struct op_row {
    nano_units_fn *units;
    nano_forward_fn *forward;
} op_row;

/* By op number. */
static const op_row table[] = {
#define NANO_OP(NAME, name, number, min_src, max_src, n_ints, n_floats) \
    [number] = {nano_units_##name, nano_forward_##name},
#include "graph/ops.inc"
#undef NANO_OP
};

static const op_row quantize_row = {nano_units_quantize, nano_forward_quantize};
static const op_row importance_row = {nano_units_importance, nano_forward_importance};

static const op_row *row_of(const nano_node *node) {
    switch (node->op) {
        case NANO_OP_QUANTIZE: return &quantize_row;
        case NANO_OP_IMPORTANCE: return &importance_row;
        default: return &table[node->op];
    }
}

static int64_t chunk_units(const nano_step *step, int64_t units) {
    int64_t chunks = (int64_t)CHUNKS_PER_THREAD * step->n_threads;
    return step->n_threads == 1 ? nano_max_i64(units, 1) : nano_max_i64((units + chunks - 1) / chunks, 1);
}

static int64_t node_chunks(const nano_step *step, const nano_node *node) {
    int64_t units = row_of(node)->units(step, node);
    int64_t each = chunk_units(step, units);
    return (units + each - 1) / each;
}

/* Runs chunk `chunk` of the stage's nodes, counted through all of them. */
static void run_chunk(const nano_step *step, const nano_node *node, int64_t chunk, int thread) {
    for (;; node++) {
        int64_t units = row_of(node)->units(step, node);
        int64_t each = chunk_units(step, units);
        int64_t chunks = (units + each - 1) / each;
        if (chunk < chunks) {
            row_of(node)->forward(step, node, chunk * each, nano_min_i64((chunk + 1) * each, units), thread);
            return;
        }
        chunk -= chunks;
    }
}

void nano_exec(const nano_plan *plan, const nano_step *step, nano_pool *pool, nano_atomic *counters,
               const nano_atomic *cancel, int thread) {
    bool behind = false; /* thread 0 has run stages that the others have not waited for */
    for (int32_t s = 0; s < plan->n_stages; s++) {
        const nano_node *first = &plan->nodes[plan->stages[s]];
        const nano_node *end = &plan->nodes[plan->stages[s + 1]];
        int64_t total = 0;
        for (const nano_node *node = first; node < end; node++) {
            total += node_chunks(step, node);
        }
        /* A stage of one chunk is thread 0's, without a barrier on either side while such stages follow each other. */
        if (total <= 1) {
            if (thread == 0 && total == 1 && nano_atomic_load(cancel) == 0) {
                run_chunk(step, first, 0, thread);
            }
            behind = true;
            continue;
        }
        if (behind) {
            nano_pool_barrier(pool);
            behind = false;
        }
        for (;;) {
            int64_t chunk = nano_atomic_add(&counters[s], 1);
            if (chunk >= total) {
                break;
            }
            if (nano_atomic_load(cancel) == 0) {
                run_chunk(step, first, chunk, thread);
            }
        }
        nano_pool_barrier(pool);
    }
}
