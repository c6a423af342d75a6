#include "cuda/backend.h"

#include "base/arith.h"
#include "cuda/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A step's inputs, in staging and on the device: offsets, each on a cache line. */
typedef struct inputs {
    uint64_t slots, wanted, tiles, end; /* positions are first */
} inputs;

static inputs lay_out_inputs(const nano_limits *limits) {
    inputs l = {0, 0, 0, 0};
    const uint64_t n_batch = (uint64_t)limits->n_batch;
    (void)nano_align_u64(n_batch * sizeof(int32_t), NANO_CACHE_LINE, &l.slots);
    l.wanted = 2 * l.slots;
    (void)nano_align_u64(l.wanted + (uint64_t)limits->n_outputs * sizeof(int32_t), NANO_CACHE_LINE, &l.tiles);
    (void)nano_align_u64(l.tiles + n_batch * sizeof(nano_cuda_tile), NANO_CACHE_LINE, &l.end);
    return l;
}

uint64_t nano_backend_inputs_bytes(const nano_limits *limits) { return lay_out_inputs(limits).end; }

nano_status nano_backend_shares_memory(int32_t device, bool *out, nano_error *err) {
    nano_cuda_info info;
    NANO_TRY(nano_cuda_describe(device, &info, err));
    *out = info.is_integrated;
    return NANO_OK;
}

struct nano_backend {
    nano_cuda_device device;
    nano_cu_address memory; /* the plan's device layout */
    uint8_t *shared;        /* the same memory as the processor sees it, where the device has none of its own */
    uint8_t *staging;       /* page-locked: inputs, then what crosses, as it is uploaded */
    size_t staging_bytes;
    inputs inputs;
    nano_cuda_tile *tiles; /* in staging, as the next */
    int32_t *positions, *slots, *wanted;
    int32_t tile_tokens;
    nano_cu_graph_exec one_token; /* a recorded step of one token with its logits wanted; NULL before */
    bool no_graphs;               /* the driver cannot */
};

/* -------------------------------------------------------------- construction */

static uint64_t region_start(const nano_device_layout *l, nano_region region) {
    switch (region) {
        case NANO_REGION_FILE: return l->weights;
        case NANO_REGION_CACHE: return l->cache;
        case NANO_REGION_OUTPUT: return l->outputs;
        default: return l->arena;
    }
}

static const uint8_t *address_of(const nano_backend *b, const nano_plan *plan, const nano_operand *o) {
    return (const uint8_t *)(uintptr_t)(b->memory + region_start(&plan->device, o->region) + o->offset);
}

/* Bytes of what crosses, at its longest. */
static uint64_t upload_bytes(const nano_plan *plan, const nano_node *node) {
    const int64_t rows = node->out.rows == NANO_DIM_T   ? plan->limits.n_batch
                         : node->out.rows == NANO_DIM_W ? plan->limits.n_outputs
                                                        : node->out.rows;
    uint64_t bytes = (uint64_t)rows * node->out.row_bytes;
    (void)nano_align_u64(bytes, NANO_CACHE_LINE, &bytes);
    return bytes;
}

static nano_status take_memory(nano_backend *b, const nano_plan *plan, nano_error *err) {
    const nano_cu *cu = b->device.cu;
    const uint64_t needed = plan->device.total;
    uint64_t available = 0, total = 0;
    NANO_TRY(nano_cuda_available(&b->device, &available, &total, err));
    if (needed > available) {
        return nano_fail(
            err, NANO_ERR_MEMORY,
            "cuda: %s has %llu MiB free of %llu, the plan needs %llu for %d layers: expected fewer (n_gpu_layers)",
            b->device.info.name, (unsigned long long)(available >> 20), (unsigned long long)(total >> 20),
            (unsigned long long)((needed + (1 << 20) - 1) >> 20), (int)plan->limits.n_gpu_layers);
    }
    if (b->device.info.is_integrated) {
        void *data = NULL;
        NANO_CU_TRY(cu, host_alloc(&data, (size_t)needed, NANO_CU_HOST_MAPPED), "taking memory", err);
        b->shared = data;
        NANO_CU_TRY(cu, host_address(&b->memory, data, 0), "taking memory", err);
        memset(b->shared + plan->device.cache, 0, (size_t)(needed - plan->device.cache));
        return NANO_OK;
    }
    NANO_CU_TRY(cu, memory_alloc(&b->memory, (size_t)needed), "taking memory", err);
    NANO_CU_TRY(cu,
                memory_set(b->memory + plan->device.cache, 0, (size_t)(needed - plan->device.cache), b->device.stream),
                "clearing memory", err);
    return NANO_OK;
}

static nano_status take_staging(nano_backend *b, const nano_plan *plan, const nano_node *nodes, nano_error *err) {
    b->inputs = lay_out_inputs(&plan->limits);
    uint64_t bytes = b->inputs.end;
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes && nodes[i].op == NANO_OP_UPLOAD; i++) {
        bytes += upload_bytes(plan, &nodes[i]);
    }
    void *data = NULL;
    NANO_CU_TRY(b->device.cu, host_alloc(&data, (size_t)bytes, 0), "taking page-locked memory", err);
    b->staging = data;
    b->staging_bytes = (size_t)bytes;
    memset(b->staging, 0, b->staging_bytes);
    b->positions = (int32_t *)(void *)b->staging;
    b->slots = (int32_t *)(void *)(b->staging + b->inputs.slots);
    b->wanted = (int32_t *)(void *)(b->staging + b->inputs.wanted);
    b->tiles = (nano_cuda_tile *)(void *)(b->staging + b->inputs.tiles);
    return NANO_OK;
}

/* Weights go there once; a weight that several nodes read has one place, which is filled when first met. */
static nano_status upload_weights(nano_backend *b, const nano_plan *plan, const nano_node *nodes, nano_error *err) {
    uint64_t filled = 0;
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes; i++) {
        for (int k = 0; k < NANO_MAX_SRC; k++) {
            const nano_operand *o = &nodes[i].src[k];
            if (o->region != NANO_REGION_FILE || o->offset < filled) {
                continue;
            }
            const size_t bytes = o->row_bytes * (size_t)o->rows;
            filled = o->offset + bytes;
            if (b->shared != NULL) {
                memcpy(b->shared + plan->device.weights + o->offset, o->data, bytes);
            } else {
                NANO_CU_TRY(b->device.cu,
                            upload(b->memory + plan->device.weights + o->offset, o->data, bytes, b->device.stream),
                            "uploading weights", err);
            }
        }
    }
    NANO_CU_TRY(b->device.cu, stream_wait(b->device.stream), "uploading weights", err);
    return NANO_OK;
}

static void resolve(const nano_backend *b, const nano_plan *plan, nano_node *nodes) {
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes; i++) {
        nano_node *node = &nodes[i];
        node->out.data = address_of(b, plan, &node->out);
        node->out_data = (uint8_t *)(uintptr_t)node->out.data;
        for (int k = 0; k < NANO_MAX_SRC && node->op != NANO_OP_UPLOAD; k++) {
            nano_operand *o = &node->src[k];
            if (o->region != NANO_REGION_NONE && o->region != NANO_REGION_INPUT) {
                o->data = address_of(b, plan, o);
            }
        }
    }
}

/* Tiles suit the attention with the most heads a group. */
static int32_t tile_tokens(const nano_plan *plan, const nano_node *nodes) {
    int32_t n = NANO_CUDA_QUERIES;
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes; i++) {
        if (nodes[i].op == NANO_OP_ATTENTION && nano_cuda_tile_tokens(&nodes[i]) < n) {
            n = nano_cuda_tile_tokens(&nodes[i]);
        }
    }
    return n;
}

static nano_status build(nano_backend *b, const nano_plan *plan, nano_node *nodes, nano_error *err) {
    NANO_TRY(take_memory(b, plan, err));
    NANO_TRY(take_staging(b, plan, nodes, err));
    NANO_TRY(upload_weights(b, plan, nodes, err));
    resolve(b, plan, nodes);
    b->tile_tokens = tile_tokens(plan, nodes);
    const nano_cu *cu = b->device.cu;
    b->no_graphs = cu->capture_begin == NULL || cu->capture_end == NULL || cu->graph_instantiate == NULL ||
                   cu->graph_launch == NULL || cu->graph_exec_destroy == NULL || cu->graph_destroy == NULL;
    return NANO_OK;
}

nano_status nano_backend_create(const nano_plan *plan, nano_node *nodes, nano_backend **out, nano_error *err) {
    nano_backend *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "cuda: out of memory");
    }
    nano_status status = nano_cuda_open(plan->limits.device, &b->device, err);
    if (status == NANO_OK) {
        status = nano_cuda_enter(&b->device, err);
        if (status == NANO_OK) {
            status = build(b, plan, nodes, err);
            nano_cuda_leave(&b->device);
        }
    }
    if (status != NANO_OK) {
        nano_backend_free(b);
        return status;
    }
    *out = b;
    return NANO_OK;
}

void nano_backend_free(nano_backend *b) {
    if (b == NULL) {
        return;
    }
    const nano_cu *cu = b->device.cu;
    if (b->device.context != NULL && nano_cuda_enter(&b->device, NULL) == NANO_OK) {
        if (b->one_token != NULL) {
            (void)cu->graph_exec_destroy(b->one_token);
        }
        if (b->staging != NULL) {
            (void)cu->host_free(b->staging);
        }
        if (b->shared != NULL) {
            (void)cu->host_free(b->shared);
        } else if (b->memory != 0) {
            (void)cu->memory_free(b->memory);
        }
        nano_cuda_leave(&b->device);
    }
    nano_cuda_close(&b->device);
    free(b);
}

/* ---------------------------------------------------------------------- steps */

/* The processor's tiles cut to what a block of attention has room for. */
static int32_t make_tiles(nano_backend *b, const nano_step *step) {
    int32_t n = 0;
    for (int32_t t = 0; t < step->n_tiles; t++) {
        const nano_tile *tile = &step->tiles[t];
        for (int32_t i = 0; i < tile->count; i += b->tile_tokens) {
            const int32_t left = tile->count - i;
            b->tiles[n++] = (nano_cuda_tile){tile->first + i, left < b->tile_tokens ? left : b->tile_tokens, tile->slot,
                                             tile->position + i};
        }
    }
    return n;
}

/* Where the inputs lie on the device: as in staging, or there itself. */
static nano_cuda_step device_step(const nano_backend *b, const nano_plan *plan, const nano_step *step,
                                  int32_t n_tiles) {
    const uintptr_t at = (uintptr_t)(b->memory + plan->device.inputs);
    nano_cuda_step s = {
        .n_tokens = step->n_tokens, .n_wanted = step->n_wanted, .n_tiles = n_tiles, .n_ctx = step->n_ctx};
    s.positions = (const int32_t *)at;
    s.slots = (const int32_t *)(at + b->inputs.slots);
    s.wanted = (const int32_t *)(at + b->inputs.wanted);
    s.tiles = (const nano_cuda_tile *)(at + b->inputs.tiles);
    s.part = (float *)(uintptr_t)(b->memory + plan->device.part);
    return s;
}

/* What crosses goes to staging, from where the stream takes it: so that a recorded step finds it at the same place. */
static size_t stage(const nano_backend *b, const nano_plan *plan, const nano_node *node, const nano_step *step,
                    size_t at) {
    memcpy(b->staging + at, node->src[0].data, (size_t)nano_step_rows(step, &node->out) * node->out.row_bytes);
    return at + (size_t)upload_bytes(plan, node);
}

static void stage_all(nano_backend *b, const nano_plan *plan, const nano_step *step, const int32_t *wanted) {
    memcpy(b->positions, step->positions, (size_t)step->n_tokens * sizeof *b->positions);
    memcpy(b->slots, step->slots, (size_t)step->n_tokens * sizeof *b->slots);
    memcpy(b->wanted, wanted, (size_t)step->n_wanted * sizeof *b->wanted);
    size_t at = (size_t)b->inputs.end;
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes && plan->nodes[i].op == NANO_OP_UPLOAD; i++) {
        at = stage(b, plan, &plan->nodes[i], step, at);
    }
}

/* Starts uploads and kernels. */
static nano_status submit(const nano_backend *b, const nano_plan *plan, const nano_step *step, const nano_cuda_step *s,
                          nano_error *err) {
    const nano_cu *cu = b->device.cu;
    size_t at = (size_t)b->inputs.end;
    NANO_CU_TRY(cu, upload(b->memory + plan->device.inputs, b->staging, (size_t)b->inputs.end, b->device.stream),
                "uploading a step", err);
    for (int32_t i = plan->n_host_nodes; i < plan->n_nodes; i++) {
        const nano_node *node = &plan->nodes[i];
        if (node->op != NANO_OP_UPLOAD) {
            NANO_TRY(nano_cuda_run(&b->device, node, s, err));
            continue;
        }
        const size_t bytes = (size_t)nano_step_rows(step, &node->out) * node->out.row_bytes;
        if (bytes > 0) {
            NANO_CU_TRY(cu,
                        upload((nano_cu_address)(uintptr_t)node->out_data, b->staging + at, bytes, b->device.stream),
                        "uploading activations", err);
        }
        at += (size_t)upload_bytes(plan, node);
    }
    return NANO_OK;
}

/* Records a step of one token. A driver that refuses to record goes on without. */
static nano_status record(nano_backend *b, const nano_plan *plan, const nano_step *step, const nano_cuda_step *s,
                          nano_error *err) {
    const nano_cu *cu = b->device.cu;
    nano_cu_graph graph = NULL;
    if (cu->capture_begin(b->device.stream, NANO_CU_CAPTURE_LOCAL) != NANO_CU_SUCCESS) {
        b->no_graphs = true;
        return NANO_OK;
    }
    const nano_status status = submit(b, plan, step, s, err);
    const int ended = cu->capture_end(b->device.stream, &graph);
    NANO_TRY(status);
    if (ended != NANO_CU_SUCCESS || graph == NULL ||
        cu->graph_instantiate(&b->one_token, graph, NULL, NULL, 0) != NANO_CU_SUCCESS) {
        b->one_token = NULL;
        b->no_graphs = true;
    }
    if (graph != NULL) {
        (void)cu->graph_destroy(graph);
    }
    return NANO_OK;
}

static nano_status run(nano_backend *b, const nano_plan *plan, const nano_step *step, float *logits, nano_error *err) {
    const nano_cu *cu = b->device.cu;
    const nano_cuda_step s = device_step(b, plan, step, make_tiles(b, step));
    const bool one = step->n_tokens == 1 && step->n_wanted == 1;
    if (one && !b->no_graphs && b->one_token == NULL) {
        NANO_TRY(record(b, plan, step, &s, err));
    }
    if (one && b->one_token != NULL) {
        NANO_CU_TRY(cu, graph_launch(b->one_token, b->device.stream), "running a recorded step", err);
    } else {
        NANO_TRY(submit(b, plan, step, &s, err));
    }
    if (step->n_wanted > 0) {
        const size_t bytes = (size_t)step->n_wanted * (size_t)plan->model->n_vocab * sizeof *logits;
        NANO_CU_TRY(cu, download(logits, b->memory + plan->device.outputs, bytes, b->device.stream), "fetching logits",
                    err);
    }
    NANO_CU_TRY(cu, stream_wait(b->device.stream), "running a step", err);
    return NANO_OK;
}

nano_status nano_backend_step(nano_backend *b, const nano_plan *plan, const nano_step *step, const int32_t *wanted,
                              float *logits, nano_error *err) {
    stage_all(b, plan, step, wanted);
    NANO_TRY(nano_cuda_enter(&b->device, err));
    const nano_status status = run(b, plan, step, logits, err);
    nano_cuda_leave(&b->device);
    return status;
}

/* --------------------------------------------------------------------- caches */

static nano_status wait(const nano_backend *b, int result, const char *what, nano_error *err) {
    NANO_TRY(nano_cu_check(b->device.cu, result, what, err));
    return nano_cu_check(b->device.cu, b->device.cu->stream_wait(b->device.stream), what, err);
}

static nano_cu_address address(const uint8_t *p) { return (nano_cu_address)(uintptr_t)p; }

nano_status nano_backend_read(nano_backend *b, void *to, const uint8_t *from, size_t size, nano_error *err) {
    NANO_TRY(nano_cuda_enter(&b->device, err));
    const int result = size == 0 ? NANO_CU_SUCCESS : b->device.cu->download(to, address(from), size, b->device.stream);
    const nano_status status = wait(b, result, "reading a cache", err);
    nano_cuda_leave(&b->device);
    return status;
}

nano_status nano_backend_write(nano_backend *b, uint8_t *to, const void *from, size_t size, nano_error *err) {
    NANO_TRY(nano_cuda_enter(&b->device, err));
    const int result = size == 0 ? NANO_CU_SUCCESS : b->device.cu->upload(address(to), from, size, b->device.stream);
    const nano_status status = wait(b, result, "writing a cache", err);
    nano_cuda_leave(&b->device);
    return status;
}

nano_status nano_backend_copy(nano_backend *b, uint8_t *to, const uint8_t *from, size_t size, nano_error *err) {
    NANO_TRY(nano_cuda_enter(&b->device, err));
    const int result =
        size == 0 ? NANO_CU_SUCCESS : b->device.cu->copy(address(to), address(from), size, b->device.stream);
    const nano_status status = wait(b, result, "copying a cache", err);
    nano_cuda_leave(&b->device);
    return status;
}

/* -------------------------------------------------------------------- devices */

int32_t nano_device_count(void) {
    int32_t n = 0;
    return nano_cuda_count(&n, NULL) == NANO_OK ? n : 0;
}

static nano_status measure(int32_t i, nano_device *out, nano_error *err) {
    nano_cuda_device d;
    NANO_TRY(nano_cuda_open(i, &d, err));
    nano_status status = nano_cuda_enter(&d, err);
    if (status == NANO_OK) {
        status = nano_cuda_available(&d, &out->memory_available, &out->memory_total, err);
        nano_cuda_leave(&d);
    }
    /* The image that the driver took, which need not be the one that looked best. */
    (void)snprintf(out->image, sizeof out->image, "%s", d.info.image->name);
    nano_cuda_close(&d);
    return status;
}

nano_status nano_device_at(int32_t i, nano_device *out, nano_error *err) {
    nano_cuda_info info;
    memset(out, 0, sizeof *out);
    NANO_TRY(nano_cuda_describe(i, &info, err));
    (void)snprintf(out->name, sizeof out->name, "%s", info.name);
    out->compute_capability = info.arch;
    out->shares_memory = info.is_integrated;
    const nano_status status = info.image == NULL ? NANO_OK : measure(i, out, err);
    return status == NANO_ERR_UNSUPPORTED ? NANO_OK : status; /* no code for it: the image has no name */
}
