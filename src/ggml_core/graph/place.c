#include "base/arith.h"
#include "cpu/kernels.h"
#include "graph/planner.h"

#include <string.h>

/* ------------------------------------------------------ stages, lifetimes */

/* A node joins the stage of the one before unless it reads or overwrites what that stage writes, or writes what it
 * reads. written, reading: the last stage that did, by root value. */
void nano_plan_stages(nano_planner *p, int32_t *work) {
    int32_t *written = work, *reading = work + p->n_values;
    for (int32_t v = 0; v < p->n_values; v++) {
        written[v] = reading[v] = -1;
    }
    int32_t stage = 0;
    for (int32_t i = 0; i < p->n_nodes; i++) {
        nano_lowered *node = &p->nodes[i];
        int32_t out = nano_node_value(p, node, node->out);
        bool conflict = written[out] == stage || reading[out] == stage;
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            conflict = conflict || (node->src[k] >= 0 && written[nano_node_value(p, node, node->src[k])] == stage);
        }
        /* A device begins a stage of its own. */
        conflict = conflict || (i == p->n_host_nodes && i > 0);
        stage += conflict ? 1 : 0;
        node->stage = stage;
        written[out] = stage;
        if (p->values[out].first < 0) {
            p->values[out].first = stage;
        }
        p->values[out].last = stage;
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            if (node->src[k] >= 0) {
                int32_t v = nano_node_value(p, node, node->src[k]);
                reading[v] = stage;
                p->values[v].last = stage;
            }
        }
    }
    p->n_stages = p->n_nodes > 0 ? stage + 1 : 0;
}

static bool in_arena(const nano_planner *p, int32_t v) {
    if (v >= p->graph->n_tensors) {
        return p->values[v].region == NANO_REGION_ARENA;
    }
    return p->graph->tensors[v].storage == NANO_STORE_TEMP && v != p->graph->output;
}

/* Free pieces of the arena below its top. */
typedef struct free_list {
    nano_piece *pieces;
    int32_t n;
    uint64_t top;
} free_list;

/* Best fit; grows the arena, from a free piece at its end if there is one, when nothing fits. */
static bool take(free_list *list, uint64_t size, uint64_t *offset) {
    int32_t best = -1;
    for (int32_t i = 0; i < list->n; i++) {
        if (list->pieces[i].size >= size && (best < 0 || list->pieces[i].size < list->pieces[best].size)) {
            best = i;
        }
    }
    if (best >= 0) {
        nano_piece *f = &list->pieces[best];
        *offset = f->offset;
        f->offset += size;
        f->size -= size;
        if (f->size == 0) {
            memmove(f, f + 1, (size_t)(list->n - best - 1) * sizeof *f);
            list->n--;
        }
        return true;
    }
    *offset = list->top;
    if (list->n > 0 && list->pieces[list->n - 1].offset + list->pieces[list->n - 1].size == list->top) {
        *offset = list->pieces[--list->n].offset;
    }
    return nano_add_u64(*offset, size, &list->top);
}

static void give(free_list *list, uint64_t offset, uint64_t size) {
    int32_t at = 0;
    while (at < list->n && list->pieces[at].offset < offset) {
        at++;
    }
    nano_piece *pieces = list->pieces;
    bool joins_before = at > 0 && pieces[at - 1].offset + pieces[at - 1].size == offset;
    bool joins_after = at < list->n && offset + size == pieces[at].offset;
    if (joins_before && joins_after) {
        pieces[at - 1].size += size + pieces[at].size;
        memmove(&pieces[at], &pieces[at + 1], (size_t)(list->n - at - 1) * sizeof *pieces);
        list->n--;
    } else if (joins_before) {
        pieces[at - 1].size += size;
    } else if (joins_after) {
        pieces[at].offset = offset;
        pieces[at].size += size;
    } else {
        memmove(&pieces[at + 1], &pieces[at], (size_t)(list->n - at) * sizeof *pieces);
        pieces[at] = (nano_piece){offset, size};
        list->n++;
    }
}

static bool value_bytes(const nano_planner *p, int32_t v, uint64_t *bytes) {
    uint64_t rows = (uint64_t)nano_rows_limit(p, p->values[v].rows);
    if (p->plan->wide && p->values[v].type == NANO_TYPE_A8) {
        (void)nano_align_u64(rows, NANO_WIDE_GROUP, &rows);
    }
    return nano_mul_u64(p->values[v].row_bytes, rows, bytes) && nano_align_u64(*bytes, NANO_CACHE_LINE, bytes);
}

/* Whether `v` is all of the rows it lives in, not a piece of each. */
static bool is_whole(const nano_planner *p, int32_t v) {
    if (v >= p->graph->n_tensors) {
        return true;
    }
    const nano_tensor *t = &p->graph->tensors[v];
    return t->root_offset == 0 && nano_tensor_row_size(t) == nano_tensor_row_size(&p->graph->tensors[t->root]);
}

/* Whether node i alone touches the value `root` in its stage, and reads all of it where its op allows it to be
 * overwritten (bits: by source). */
static bool is_own(const nano_planner *p, int32_t i, int32_t root, uint32_t bits) {
    for (int k = 0; k < NANO_MAX_SRC; k++) {
        const int32_t v = p->nodes[i].src[k];
        if (nano_node_value(p, &p->nodes[i], v) == root && ((bits >> k & 1) == 0 || !is_whole(p, v))) {
            return false;
        }
    }
    const int32_t stage = p->nodes[i].stage;
    int32_t j = i;
    while (j > 0 && p->nodes[j - 1].stage == stage) {
        j--;
    }
    for (; j < p->n_nodes && p->nodes[j].stage == stage; j++) {
        const nano_lowered *node = &p->nodes[j];
        bool touches = nano_node_value(p, node, node->out) == root;
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            touches = touches || nano_node_value(p, node, node->src[k]) == root;
        }
        if (touches && j != i) {
            return false;
        }
    }
    return true;
}

/* The value whose place the output of node i takes over: a source of the same size that nothing reads later, where the
 * op's row says that its units may write there. -1: none. */
static int32_t taken_over(const nano_planner *p, int32_t i) {
    const nano_lowered *node = &p->nodes[i];
    const nano_op_info *info = nano_op_by_number(node->op);
    const nano_value *out = &p->values[node->out];
    for (int k = 0; k < NANO_MAX_SRC && info != NULL; k++) {
        const int32_t v = nano_node_value(p, node, node->src[k]);
        if ((info->in_place >> k & 1) != 0 && v >= 0 && in_arena(p, v) && p->values[v].last == node->stage &&
            p->values[v].rows == out->rows && p->values[v].row_bytes == out->row_bytes &&
            is_own(p, i, v, info->in_place)) {
            return v;
        }
    }
    return -1;
}

/* Places every arena value: a walk over the stages that takes room for what a stage makes and gives back what it was
 * the last to use. ending: head of the list of values that end in a stage. */
nano_status nano_plan_places(nano_planner *p, int32_t *ending, nano_piece *pieces) {
    free_list list = {pieces, 0, 0};
    for (int32_t s = 0; s < p->n_stages; s++) {
        ending[s] = -1;
    }
    for (int32_t v = 0; v < p->n_values; v++) {
        if (in_arena(p, v) && p->values[v].first >= 0) {
            p->values[v].next_ending = ending[p->values[v].last];
            ending[p->values[v].last] = v;
        }
    }
    for (int32_t i = 0; i < p->n_nodes; i++) {
        int32_t out = p->nodes[i].out;
        uint64_t bytes = 0;
        const bool on_device = p->nodes[i].on_device;
        if (i == p->n_host_nodes) { /* from here on places are in another memory */
            p->arena_bytes[0] = list.top;
            list = (free_list){pieces, 0, 0};
        }
        const int32_t taken = in_arena(p, out) ? taken_over(p, i) : -1;
        if (taken >= 0) {
            p->values[out].offset = p->values[taken].offset;
            p->values[taken].is_taken = true;
        } else if (in_arena(p, out)) {
            if (!value_bytes(p, out, &bytes) || !take(&list, bytes, &p->values[out].offset)) {
                return nano_plan_too_large(p->err);
            }
        }
        if (i + 1 == p->n_nodes || p->nodes[i + 1].stage != p->nodes[i].stage) {
            for (int32_t v = ending[p->nodes[i].stage]; v >= 0; v = p->values[v].next_ending) {
                if (!p->values[v].is_taken && p->values[v].on_device == on_device) {
                    (void)value_bytes(p, v, &bytes);
                    give(&list, p->values[v].offset, bytes);
                }
            }
        }
    }
    p->arena_bytes[p->n_host_nodes < p->n_nodes] = list.top;
    return NANO_OK;
}
