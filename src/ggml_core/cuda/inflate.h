/* Decompression of the images of device code: DEFLATE (RFC 1951), what Python's zlib.compressobj(wbits=-15) writes. */
#ifndef NANO_CUDA_INFLATE_H
#define NANO_CUDA_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fills out with exactly `size` bytes; false when the data is damaged or stands for another number. Allocates nothing. */
bool nano_inflate(const uint8_t *data, size_t n, uint8_t *out, size_t size);

#endif
