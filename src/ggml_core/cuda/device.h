/* A CUDA device with the kernels loaded on it: what of the driver's API the backend works with. */
#ifndef NANO_CUDA_DEVICE_H
#define NANO_CUDA_DEVICE_H

#include "cuda/driver.h"
#include "cuda/images.h"
#include "cuda/params.h"
#include "types/types.h"

/* What is known of a device without using it. */
typedef struct nano_cuda_info {
    char name[96];
    int32_t arch; /* 53: compute capability 5.3 */
    int32_t n_multiprocessors;
    bool is_integrated;           /* its memory is the host's */
    const nano_cuda_image *image; /* the device code for it; NULL when the library has none */
} nano_cuda_info;

nano_status nano_cuda_count(int32_t *n, nano_error *err);
nano_status nano_cuda_describe(int32_t device, nano_cuda_info *out, nano_error *err);

typedef enum nano_cuda_kernel {
    NANO_CUDA_K_NORM,
    NANO_CUDA_K_QUANTIZE,
    NANO_CUDA_K_MAP,
    NANO_CUDA_K_ROWS,
    NANO_CUDA_K_ROPE,
    NANO_CUDA_K_KV_WRITE,
    NANO_CUDA_K_ATTENTION,
    NANO_CUDA_K_ATTENTION_JOIN,
    NANO_CUDA_K_VEC,                         /* and one a type, by its row in types.inc */
    NANO_CUDA_K_TILE = NANO_CUDA_K_VEC + 16, /* likewise */
    NANO_CUDA_N_KERNELS = NANO_CUDA_K_TILE + 16
} nano_cuda_kernel;

typedef struct nano_cuda_device {
    const nano_cu *cu;
    nano_cu_device id;
    nano_cu_context context;
    nano_cu_module module;
    nano_cu_stream stream;
    nano_cuda_info info;
    nano_cu_function kernels[NANO_CUDA_N_KERNELS];
} nano_cuda_device;

/* Makes the device ready: its context, the module, a stream. On failure nothing is left open. NANO_ERR_NOT_FOUND: no
 * driver or no such device; NANO_ERR_UNSUPPORTED: no device code for it, or the driver takes none of it. */
nano_status nano_cuda_open(int32_t device, nano_cuda_device *out, nano_error *err);
void nano_cuda_close(nano_cuda_device *d);

/* Every other call is made between enter and leave: the context is the thread's meanwhile. */
nano_status nano_cuda_enter(const nano_cuda_device *d, nano_error *err);
void nano_cuda_leave(const nano_cuda_device *d);

nano_status nano_cuda_available(const nano_cuda_device *d, uint64_t *available, uint64_t *total, nano_error *err);

/* The kernel for linears over weights of `type`, for few columns or many; -1 when there is none. */
int32_t nano_cuda_linear_kernel(nano_type type, bool is_tile);

nano_status nano_cuda_launch(const nano_cuda_device *d, int32_t kernel, int64_t x, int64_t y, int64_t z, void *params,
                             nano_error *err);

#endif
