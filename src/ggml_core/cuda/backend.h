/*
 * A session's side on a CUDA device: one allocation there by the plan's layout, the device's nodes, their steps.
 *
 * A step uploads what crosses, starts the nodes' kernels on one stream, fetches the logits and waits once. Steps of one
 * token are recorded as a CUDA graph the first time, where the driver has graphs, and replayed. On a device that shares the
 * processor's memory the allocation is host memory which both see, and uploads are copies by the processor.
 */
#ifndef NANO_CUDA_BACKEND_H
#define NANO_CUDA_BACKEND_H

#include "cpu/exec.h"
#include "graph/plan.h"

typedef struct nano_backend nano_backend;

/* For the planner. Why a node cannot run on a device, as what was found; NULL when it can. */
const char *nano_backend_refusal(const nano_node *node);
/* Whether a device has no memory of its own. NANO_ERR_NOT_FOUND, NANO_ERR_UNSUPPORTED: there is no such device. */
nano_status nano_backend_shares_memory(int32_t device, bool *out, nano_error *err);
/* Bytes of a step's inputs, and that a node's working space takes in a step of at most `rows` tokens. */
uint64_t nano_backend_inputs_bytes(const nano_limits *limits);
uint64_t nano_backend_part_bytes(const nano_node *node, int32_t n_ctx, int64_t rows);

/* Takes the device's memory, which must be available whole (NANO_ERR_MEMORY with the plan's numbers), uploads the
 * weights, and gives the device's nodes of `nodes` their addresses. The last allocation. */
nano_status nano_backend_create(const nano_plan *plan, nano_node *nodes, nano_backend **out, nano_error *err);
void nano_backend_free(nano_backend *b);

/* Runs the device's nodes after the processor's; `logits`: (step->n_wanted, n_vocab). */
nano_status nano_backend_step(nano_backend *b, const nano_plan *plan, const nano_step *step, const int32_t *wanted,
                              float *logits, nano_error *err);

/* Bytes between caches on the device (addresses in nodes) and the processor's memory, or within the device. */
nano_status nano_backend_read(nano_backend *b, void *to, const uint8_t *from, size_t size, nano_error *err);
nano_status nano_backend_write(nano_backend *b, uint8_t *to, const void *from, size_t size, nano_error *err);
nano_status nano_backend_copy(nano_backend *b, uint8_t *to, const uint8_t *from, size_t size, nano_error *err);

#endif
