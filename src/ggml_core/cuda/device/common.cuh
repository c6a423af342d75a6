/* What the kernels share. C++14 as CUDA 10.2's front end has it: no C++17, no constexpr variables on the device. */
#ifndef NANO_CUDA_COMMON_CUH
#define NANO_CUDA_COMMON_CUH

#include "cuda/params.h"

#ifdef NANO_CUDA_EMULATE
#  include "cuda/emulate/emulate.h"
#else
#  include <cuda_fp16.h>
/* A kernel by its name in the module. Three blocks fit a multiprocessor of 65,536 registers: 168 a thread. */
#  define NANO_CUDA_KERNEL(name, params) \
      extern "C" __global__ void __launch_bounds__(NANO_CUDA_THREADS, 3) name(params p)
#  define NANO_UNROLL _Pragma("unroll")
#endif

#define NANO_DEVICE static __device__ __forceinline__

enum { WARP = 32, WARPS = NANO_CUDA_THREADS / WARP };

NANO_DEVICE int lane_of() { return static_cast<int>(threadIdx.x) % WARP; }
NANO_DEVICE int warp_of() { return static_cast<int>(threadIdx.x) / WARP; }

/* Over the lanes of a warp; every lane has the result, added up in the same order. */
NANO_DEVICE float warp_sum(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, step);
    }
    return x;
}
NANO_DEVICE float warp_max(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    }
    return x;
}

/* Over all threads of a block. */
NANO_DEVICE float block_sum(float x) {
    __shared__ float sums[WARPS];
    x = warp_sum(x);
    __syncthreads();
    if (lane_of() == 0) {
        sums[warp_of()] = x;
    }
    __syncthreads();
    x = 0.0f;
    for (int i = 0; i < WARPS; i++) {
        x += sums[i];
    }
    return x;
}

/* sum + a . b over four signed bytes. */
NANO_DEVICE int dot4(int a, int b, int sum) {
#if __CUDA_ARCH__ >= 610
    return __dp4a(a, b, sum);
#else
    for (int shift = 0; shift < 32; shift += 8) {
        sum += static_cast<int8_t>(static_cast<unsigned>(a) >> shift) *
               static_cast<int8_t>(static_cast<unsigned>(b) >> shift);
    }
    return sum;
#endif
}

/* Little-endian words that start at even, or at any, addresses. */
NANO_DEVICE int load_2(const uint8_t *p) { return *reinterpret_cast<const uint16_t *>(p); }
NANO_DEVICE int load_4_at_2(const uint8_t *p) {
    const uint16_t *half = reinterpret_cast<const uint16_t *>(p);
    return static_cast<int>(static_cast<uint32_t>(half[0]) | static_cast<uint32_t>(half[1]) << 16);
}
NANO_DEVICE int load_4(const uint8_t *p) { return *reinterpret_cast<const int *>(p); }
NANO_DEVICE float load_half(const uint8_t *p) { return __half2float(*reinterpret_cast<const __half *>(p)); }

NANO_DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }
/* In its tanh form, as x * sigmoid(2 u) (cpu/kernels.h). */
NANO_DEVICE float gelu(float x) { return x / (1.0f + expf(-1.5957691216f * x * (1.0f + 0.044715f * x * x))); }

#endif
