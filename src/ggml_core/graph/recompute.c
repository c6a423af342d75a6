/* Activations computed again instead of kept (Chen et al., 2016, arXiv:1604.06174): of each layer only what another
 * layer reads stays; the rest is appended once more where the layer's gradients first need it, which is after the
 * layers behind it have given theirs back. The layer of the loss is kept: its gradients come at once.
 *
 * The model definitions know nothing of this: an op belongs to layer N when it reads a weight called "blk.N. ...", to
 * none when its weights are called otherwise, and to the layer at hand when it reads no weights, or nothing else. */
#include "graph/grad.h"

#include <string.h>

enum { NO_LAYER = -1 };

/* The layer of an op after ones of layer `at_hand`. */
static int32_t layer_of(const nano_graph *graph, const nano_tensor *t, int32_t at_hand) {
    int32_t layer = at_hand;
    bool has_weight = false, has_other = false;
    for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
        const nano_tensor *source = &graph->tensors[t->src[k]];
        if (source->storage == NANO_STORE_WEIGHT && !has_weight) {
            has_weight = true;
            layer = nano_weight_layer(source->name);
        }
        has_other = has_other || source->op != NANO_OP_NONE;
    }
    return has_other || layer != NO_LAYER ? layer : at_hand;
}

void nano_backward_find_layers(nano_backward *b) {
    int32_t layer = NO_LAYER, segment = 0;
    for (int32_t i = 0; i < b->n; i++) {
        const nano_tensor *t = &b->graph->tensors[i];
        if (t->op == NANO_OP_NONE) {
            continue;
        }
        const int32_t own = layer_of(b->graph, t, layer);
        segment += own != layer ? 1 : 0;
        layer = own;
        b->states[i].segment = segment;
        for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
            const nano_tensor *source = &b->graph->tensors[t->src[k]];
            if (source->op != NANO_OP_NONE && b->states[t->src[k]].segment != segment) {
                b->states[source->root].crosses = true;
            }
        }
    }
}

/* Caches and gradients hold what was written to them, leaves what they were given. */
static bool is_kept(const nano_backward *b, int32_t i) {
    const nano_tensor *t = &b->graph->tensors[i], *root = &b->graph->tensors[t->root];
    return !b->recompute || root->op == NANO_OP_NONE || b->states[t->root].crosses ||
           b->states[i].segment == b->states[b->loss].segment;
}

static void compute_again(nano_backward *b, int32_t i) {
    const nano_tensor t = b->graph->tensors[i];
    const nano_op_info *info = nano_op_by_number(t.op);
    int32_t src[NANO_MAX_SRC];
    for (int k = 0; k < NANO_MAX_SRC; k++) {
        src[k] = t.src[k] < 0 ? -1 : b->states[t.src[k]].copy;
    }
    b->status = nano_graph_op(b->graph, info->name, NANO_MAX_SRC, src, info->max_ints, t.params.ints, info->max_floats,
                              t.params.floats, &b->states[i].copy, b->err);
}

/* A source of i whose value is not at hand; -1 when all are. */
static int32_t missing(const nano_backward *b, int32_t i) {
    const nano_tensor *t = &b->graph->tensors[i];
    for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
        if (b->states[t->src[k]].copy < 0) {
            return t->src[k];
        }
    }
    return -1;
}

/* The stack holds a tensor, a source of it, a source of that, ...: never more than there are. */
int32_t nano_backward_value(nano_backward *b, int32_t i) {
    int32_t depth = 0;
    if (b->states[i].copy < 0) {
        b->stack[depth++] = i;
    }
    while (depth > 0 && b->status == NANO_OK) {
        const int32_t top = b->stack[depth - 1];
        const bool kept = is_kept(b, top);
        const int32_t source = kept ? -1 : missing(b, top);
        if (source >= 0) {
            b->stack[depth++] = source;
            continue;
        }
        if (kept) {
            b->states[top].copy = top;
        } else {
            compute_again(b, top);
        }
        depth--;
    }
    return b->states[i].copy;
}
