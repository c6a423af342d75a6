/* All kernels, as one module. */
#include "cuda/device/attention.cu"
#include "cuda/device/linear_tile.cu"
#include "cuda/device/linear_vec.cu"
#include "cuda/device/rows.cu"
