/*
 * Which nodes a device runs: those of the last layers, and all that follow. What the processor makes and the device
 * reads crosses once a step, by an UPLOAD node, and has a twin in the device's memory; every other value is on one side.
 */
#include "base/arith.h"
#include "cuda/backend.h"
#include "graph/planner.h"

#include <string.h>

/* The layer that a weight's name tells; -1 for none, and for more than a graph can have. */
static int32_t layer_of(const char *name) {
    const int32_t layer = nano_weight_layer(name);
    return layer < NANO_MAX_TENSORS ? layer : -1;
}

int32_t nano_plan_n_layers(const nano_graph *graph) {
    int32_t n = 0;
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        const int32_t layer = graph->tensors[i].storage == NANO_STORE_WEIGHT ? layer_of(graph->tensors[i].name) : -1;
        n = layer + 1 > n ? layer + 1 : n;
    }
    return n;
}

/* The layer of the weights that a node reads, the highest; -1 when it reads none of a layer. */
static int32_t node_layer(const nano_planner *p, const nano_lowered *node) {
    int32_t layer = -1;
    for (int k = 0; k < NANO_MAX_SRC; k++) {
        const int32_t v = node->src[k];
        if (v >= 0 && v < p->graph->n_tensors && p->graph->tensors[v].storage == NANO_STORE_WEIGHT) {
            const int32_t n = layer_of(p->graph->tensors[v].name);
            layer = n > layer ? n : layer;
        }
    }
    return layer;
}

/* Does a node depend on inputs and weights alone, and stay with the processor? Tables: of embeddings, of angles. */
static bool is_table(const nano_planner *p, const nano_lowered *node) {
    const int32_t first = node->src[0];
    return node->op == NANO_OP_ROPE_TABLE ||
           (node->op == NANO_OP_ROWS && p->graph->tensors[first].storage == NANO_STORE_WEIGHT);
}

/* Brings the device's nodes to the end and marks them. */
static void divide(nano_planner *p) {
    int32_t border = 0;
    const int32_t first = nano_plan_n_layers(p->graph) - p->plan->limits.n_gpu_layers;
    while (border < p->n_nodes && node_layer(p, &p->nodes[border]) < first) {
        border++;
    }
    for (int32_t i = border; i < p->n_nodes; i++) {
        if (is_table(p, &p->nodes[i])) {
            const nano_lowered table = p->nodes[i];
            memmove(&p->nodes[border + 1], &p->nodes[border], (size_t)(i - border) * sizeof table);
            p->nodes[border++] = table;
        }
    }
    for (int32_t i = border; i < p->n_nodes; i++) {
        p->nodes[i].on_device = true;
        nano_value *out = &p->values[nano_value_root(p, p->nodes[i].out)];
        out->on_device = true;
    }
    p->n_host_nodes = border;
}

/* Whether a device's node needs a twin of what it reads: an activation of the processor's. */
static bool crosses(const nano_planner *p, int32_t root) {
    if (p->values[root].on_device || p->values[root].twin >= 0) {
        return false;
    }
    return root >= p->graph->n_tensors ? p->values[root].region == NANO_REGION_ARENA
                                       : p->graph->tensors[root].storage == NANO_STORE_TEMP;
}

static void add_twin(nano_planner *p, int32_t root) {
    const nano_value *from = &p->values[root];
    const int32_t twin = p->n_values++;
    p->values[twin] = *from;
    p->values[twin].source = root < p->graph->n_tensors ? root : from->source;
    p->values[twin].region = NANO_REGION_ARENA;
    p->values[twin].on_device = true;
    p->values[twin].twin = -1;
    p->values[root].twin = twin;
    memmove(&p->nodes[p->n_host_nodes + p->n_uploads + 1], &p->nodes[p->n_host_nodes + p->n_uploads],
            (size_t)(p->n_nodes - p->n_host_nodes - p->n_uploads) * sizeof *p->nodes);
    p->nodes[p->n_host_nodes + p->n_uploads++] =
        (nano_lowered){.op = NANO_OP_UPLOAD, .tensor = -1, .out = twin, .src = {root, -1, -1, -1}, .on_device = true};
    p->n_nodes++;
}

nano_status nano_plan_devices(nano_planner *p) {
    for (int32_t v = 0; v < p->n_values; v++) {
        p->values[v].twin = -1;
    }
    p->n_host_nodes = p->n_nodes;
    p->n_uploads = 0;
    if (p->plan->limits.n_gpu_layers <= 0) {
        return NANO_OK;
    }
    divide(p);
    for (int32_t i = p->n_host_nodes; i < p->n_nodes; i++) {
        for (int k = 0; k < NANO_MAX_SRC && p->nodes[i].op != NANO_OP_UPLOAD; k++) {
            const int32_t root = nano_value_root(p, p->nodes[i].src[k]);
            if (root >= 0 && crosses(p, root)) {
                add_twin(p, root);
                i++; /* the nodes have moved on by one */
            }
        }
    }
    return NANO_OK;
}

/* -------------------------------------------------------- what the device holds */

/* Every part on a boundary that all of the device's loads of vectors are happy with. */
enum { DEVICE_ALIGNMENT = 256 };

static bool add_bytes(uint64_t *at, uint64_t bytes) {
    return nano_add_u64(*at, bytes, at) && nano_align_u64(*at, DEVICE_ALIGNMENT, at);
}

/* A weight that one of the nodes from ... end - 1 reads; NULL when none does. */
static const nano_operand *reader(const nano_plan *plan, int32_t from, int32_t end, const uint8_t *data) {
    for (int32_t i = from; i < end; i++) {
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            const nano_operand *o = &plan->nodes[i].src[k];
            if (o->region == NANO_REGION_FILE && o->data == data) {
                return o;
            }
        }
    }
    return NULL;
}

/* Gives each weight that the device reads one place; what the processor does not read is no longer its own. */
static bool place_weights(nano_plan *plan, uint64_t *at) {
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes; i++) {
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            nano_operand *o = &plan->nodes[i].src[k];
            if (o->region != NANO_REGION_FILE) {
                continue;
            }
            const nano_operand *before = reader(plan, plan->n_host_nodes, plan->n_nodes, o->data);
            const uint64_t bytes = (uint64_t)o->row_bytes * (uint64_t)o->rows;
            if (before != o) {
                o->offset = before->offset;
                continue;
            }
            o->offset = *at;
            if (reader(plan, 0, plan->n_host_nodes, o->data) == NULL) {
                plan->memory.weights -= bytes;
            }
            if (!add_bytes(at, bytes)) {
                return false;
            }
        }
    }
    return true;
}

static nano_status refuse_nodes(const nano_planner *p) {
    const nano_plan *plan = p->plan;
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes; i++) {
        const char *why = nano_backend_refusal(&plan->nodes[i]);
        if (why != NULL) {
            return nano_fail(
                p->err, NANO_ERR_UNSUPPORTED,
                "plan: %d layers on a device: found %s, which runs on the processor alone (n_gpu_layers 0)",
                (int)plan->limits.n_gpu_layers, why);
        }
    }
    return NANO_OK;
}

nano_status nano_plan_device_layout(nano_planner *p) {
    nano_plan *plan = p->plan;
    nano_device_layout *l = &plan->device;
    const nano_limits *limits = &plan->limits;
    uint64_t at = 0, part = 0, outputs = 0;
    if (plan->n_host_nodes == plan->n_nodes) {
        return NANO_OK;
    }
    NANO_TRY(nano_backend_shares_memory(limits->device, &plan->device_is_shared, p->err));
    NANO_TRY(refuse_nodes(p));
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes; i++) {
        part = nano_max_u64(part, nano_backend_part_bytes(&plan->nodes[i], limits->n_ctx, limits->n_batch));
    }
    bool ok = place_weights(plan, &at);
    l->weights = 0;
    l->cache = at;
    ok = ok && add_bytes(&at, p->cache_bytes[1]);
    l->arena = at;
    ok = ok && add_bytes(&at, p->arena_bytes[1]);
    l->outputs = at;
    ok = ok && nano_mul_u64((uint64_t)limits->n_outputs, (uint64_t)plan->model->n_vocab * sizeof(float), &outputs) &&
         add_bytes(&at, outputs);
    l->inputs = at;
    ok = ok && add_bytes(&at, nano_backend_inputs_bytes(limits));
    l->part = at;
    ok = ok && add_bytes(&at, part);
    l->total = at;
    plan->memory.device = at;
    plan->memory.device_weights = l->cache;
    plan->memory.device_cache = l->arena - l->cache;
    return ok ? NANO_OK : nano_plan_too_large(p->err);
}
