/* Device code inside the library: a table that build_images.py writes. */
#ifndef NANO_CUDA_IMAGES_H
#define NANO_CUDA_IMAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nano_cuda_image {
    const char *name; /* "sm_53", "compute_80"; NULL ends the table */
    int32_t arch;     /* 53: compute capability 5.3 */
    bool is_ptx;      /* runs on every device from `arch` on; else on those of its major version from `arch` on */
    const uint8_t *data;
    size_t n_bytes; /* compressed, by inflate.h */
    size_t raw_bytes;
} nano_cuda_image;

extern const nano_cuda_image nano_cuda_images[];

#endif
