/*
 * CUDA's execution model on the CPU, for tests: the device code, compiled as C++, runs with a fibre for each thread of
 * a block. Barriers and shuffles wait for the others; a thread that waits where another has returned, or for lanes
 * that wait elsewhere, is an error that ends the process with a message.
 *
 * __CUDA_ARCH__ chooses the code path, as a compiler for that target would.
 */
#ifndef NANO_CUDA_EMULATE_H
#define NANO_CUDA_EMULATE_H

#include <cmath>
#include <cstdint>
#include <cstring>

#ifndef __CUDA_ARCH__
#  define __CUDA_ARCH__ 530
#endif

#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __restrict__
#define NANO_UNROLL

using std::isfinite;

struct uint3 {
    unsigned x, y, z;
};

namespace nano_emulate {

struct thread {
    uint3 index, block;
    unsigned warp, lane;
};
extern thread *self; /* the running thread */

void barrier();
/* Waits for the warp; then slot(lane) holds what each lane gave. 16 bytes a lane. */
void exchange(const void *value, unsigned bytes);
const void *given(unsigned lane);
void exchange_done();

template <typename T> T shuffle(T value, unsigned from) {
    exchange(&value, sizeof value);
    T out;
    std::memcpy(&out, given(from % 32), sizeof out);
    exchange_done();
    return out;
}

/* A kernel as the module's table has it. */
typedef void run_fn(const void *params);
struct kernel {
    const char *name;
    run_fn *run;
    unsigned bytes; /* of its parameters */
    kernel *next;
    kernel(const char *name, run_fn *run, unsigned bytes);
};
const kernel *find(const char *name);
/* Runs all blocks, one after the other. */
void launch(const kernel *k, uint3 grid, unsigned threads, const void *params);

} // namespace nano_emulate

#define threadIdx (nano_emulate::self->index)
#define blockIdx (nano_emulate::self->block)

#define NANO_CUDA_KERNEL(name, params)                                         \
    static void name(params p);                                                \
    static void name##_run(const void *given) {                                \
        params p;                                                              \
        std::memcpy(&p, given, sizeof p);                                      \
        name(p);                                                               \
    }                                                                          \
    static nano_emulate::kernel name##_row(#name, name##_run, sizeof(params)); \
    static void name(params p)

inline void __syncthreads() { nano_emulate::barrier(); }
inline void __syncwarp() {
    const int nothing = 0;
    nano_emulate::exchange(&nothing, sizeof nothing);
    nano_emulate::exchange_done();
}
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return nano_emulate::shuffle(value, nano_emulate::self->lane ^ static_cast<unsigned>(mask));
}
template <typename T> T __shfl_sync(unsigned, T value, int lane) {
    return nano_emulate::shuffle(value, static_cast<unsigned>(lane));
}

inline int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 4; i++) {
        sum += static_cast<int8_t>(static_cast<unsigned>(a) >> (8 * i)) *
               static_cast<int8_t>(static_cast<unsigned>(b) >> (8 * i));
    }
    return sum;
}
/* Bytes of b:a by four selectors. */
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
    const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        out |= static_cast<unsigned>(both >> (8 * (select >> (4 * i) & 7)) & 255) << (8 * i);
    }
    return out;
}
inline float __int_as_float(int i) {
    float f;
    std::memcpy(&f, &i, sizeof f);
    return f;
}
inline int __float_as_int(float f) {
    int i;
    std::memcpy(&i, &f, sizeof i);
    return i;
}
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyintf(x)); }

/* IEEE binary16; arithmetic is rounded after every operation. */
struct __half {
    uint16_t bits;
};
struct __half2 {
    __half x, y;
};

inline float __half2float(__half h) {
    const unsigned sign = (h.bits & 0x8000u) << 16, exponent = h.bits >> 10 & 31u, fraction = h.bits & 1023u;
    if (exponent == 0) {
        const float value = std::ldexp(static_cast<float>(fraction), -24);
        return sign != 0 ? -value : value;
    }
    const unsigned rest = exponent == 31 ? 255u << 23 : (exponent + 112) << 23;
    return __int_as_float(static_cast<int>(sign | rest | fraction << 13));
}
/* To nearest, ties to even. */
inline __half __double2half(double x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const double a = std::fabs(x);
    if (std::isnan(x)) {
        return {static_cast<uint16_t>(sign | 0x7e00)};
    }
    if (a >= 65520.0) {
        return {static_cast<uint16_t>(sign | 0x7c00)};
    }
    int exponent = -13;
    if (a > 0.0) {
        (void)std::frexp(a, &exponent);
    }
    exponent = exponent < -13 ? -13 : exponent; /* subnormal numbers have the least exponent's steps */
    const double steps = std::nearbyint(std::ldexp(a, 11 - exponent));
    /* steps is in 0 .. 2048; adding it to the exponent's place carries as it should. */
    const unsigned body = (static_cast<unsigned>(exponent + 13) << 10) + static_cast<unsigned>(steps);
    return {static_cast<uint16_t>(sign | body)};
}
inline __half __float2half_rn(float x) { return __double2half(static_cast<double>(x)); }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline float __low2float(__half2 h) { return __half2float(h.x); }
inline float __high2float(__half2 h) { return __half2float(h.y); }
inline __half __hfma(__half a, __half b, __half c) {
    return __double2half(static_cast<double>(__half2float(a)) * static_cast<double>(__half2float(b)) +
                         static_cast<double>(__half2float(c)));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
inline __half2 __hadd2(__half2 a, __half2 b) {
    return {__float2half_rn(__half2float(a.x) + __half2float(b.x)),
            __float2half_rn(__half2float(a.y) + __half2float(b.y))};
}
inline __half2 __hmul2(__half2 a, __half2 b) {
    return {__float2half_rn(__half2float(a.x) * __half2float(b.x)),
            __float2half_rn(__half2float(a.y) * __half2float(b.y))};
}

#endif
