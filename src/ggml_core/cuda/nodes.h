/* A plan's nodes as launches of kernels. Operands' data are device addresses. */
#ifndef NANO_CUDA_NODES_H
#define NANO_CUDA_NODES_H

#include "cpu/exec.h"
#include "cuda/backend.h"
#include "cuda/device.h"

/* A step, as the launches see it. Pointers are device addresses. */
typedef struct nano_cuda_step {
    int32_t n_tokens, n_wanted, n_tiles; /* rows, and tiles of nano_cuda_tile_tokens tokens at most */
    int32_t n_ctx;
    const int32_t *positions, *slots, *wanted;
    const nano_cuda_tile *tiles;
    float *part; /* nano_backend_part_bytes of it */
} nano_cuda_step;

/* Most tokens of a tile for attention with so many heads of queries a head of keys. */
int32_t nano_cuda_tile_tokens(const nano_node *attention);

/* Starts what the node asks for on the device's stream. */
nano_status nano_cuda_run(const nano_cuda_device *d, const nano_node *node, const nano_cuda_step *step,
                          nano_error *err);

#endif
