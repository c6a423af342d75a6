/*
 * The CUDA driver, found at run time (libcuda.so.1, or what NANOLLM_CUDA_DRIVER names): nothing to link. Types, numbers
 * and signatures are those of NVIDIA's "CUDA Driver API" reference manual.
 */
#ifndef NANO_CUDA_DRIVER_H
#define NANO_CUDA_DRIVER_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef int nano_cu_device;
typedef struct nano_cu_context_s *nano_cu_context;
typedef struct nano_cu_module_s *nano_cu_module;
typedef struct nano_cu_function_s *nano_cu_function;
typedef struct nano_cu_stream_s *nano_cu_stream;
typedef struct nano_cu_graph_s *nano_cu_graph;
typedef struct nano_cu_graph_exec_s *nano_cu_graph_exec;
typedef uint64_t nano_cu_address;

/* Results of the driver's functions that are told apart. */
enum {
    NANO_CU_SUCCESS = 0,
    NANO_CU_OUT_OF_MEMORY = 2,
    NANO_CU_NO_DEVICE = 100,
    NANO_CU_NO_BINARY = 209,
    NANO_CU_UNSUPPORTED_PTX = 222,
    NANO_CU_NOT_FOUND = 500
};

/* Attributes of a device. */
enum {
    NANO_CU_MULTIPROCESSORS = 16,
    NANO_CU_INTEGRATED = 18,
    NANO_CU_CLOCK_KHZ = 13,
    NANO_CU_MEMORY_CLOCK_KHZ = 36,
    NANO_CU_BUS_BITS = 37,
    NANO_CU_UNIFIED_ADDRESSES = 41,
    NANO_CU_MAJOR = 75,
    NANO_CU_MINOR = 76,
    NANO_CU_HOST_REGISTER = 99
};

enum {
    NANO_CU_STREAM_NON_BLOCKING = 1,
    NANO_CU_HOST_MAPPED = 2,
    NANO_CU_REGISTER_MAPPED = 2,
    NANO_CU_CAPTURE_LOCAL = 1
};

typedef struct nano_cu {
#define NANO_CUDA_FUNCTION(name, symbol, parameters) int(*name) parameters;
#define NANO_CUDA_OPTIONAL NANO_CUDA_FUNCTION
#include "cuda/driver.inc"
#undef NANO_CUDA_FUNCTION
#undef NANO_CUDA_OPTIONAL
} nano_cu;

/* The driver, loaded and initialised once a process. NANO_ERR_NOT_FOUND when the machine has none or no device,
 * NANO_ERR_UNSUPPORTED when it lacks a function that is needed. */
nano_status nano_cu_load(const nano_cu **out, nano_error *err);

/* A driver's result as a status: `what` was being done. Out of memory is NANO_ERR_MEMORY, the rest NANO_ERR_IO. */
nano_status nano_cu_check(const nano_cu *cu, int result, const char *what, nano_error *err);

#define NANO_CU_TRY(cu, call, what, err) NANO_TRY(nano_cu_check(cu, (cu)->call, what, err))

#endif
