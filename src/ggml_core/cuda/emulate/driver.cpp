/*
 * A CUDA driver whose one device is the CPU (emulate.h): a shared library to be named in NANOLLM_CUDA_DRIVER, so that
 * the backend's host side is tested whole on machines without a GPU.
 *
 * NANO_EMULATED_MEMORY    bytes of device memory (default 1 GiB)
 * NANO_EMULATED_FAIL      NAME:N, a function that fails from its N-th call on, with ...
 * NANO_EMULATED_RESULT    this result (default 999, unknown)
 * NANO_EMULATED_INTEGRATED  the device shares the host's memory
 *
 * Addresses are checked: what a copy or a memset touches lies in one allocation.
 */
#include "cuda/driver.h"
#include "cuda/emulate/emulate.h"

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace {

enum { INVALID_VALUE = 1, INVALID_CONTEXT = 201, UNKNOWN = 999 };

std::map<uint64_t, size_t> memory; /* device allocations and registered host memory */
std::map<uint64_t, bool> is_host;
size_t used;
std::map<std::string, int> calls;

size_t limit() {
    const char *text = std::getenv("NANO_EMULATED_MEMORY");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : size_t{1} << 30;
}

/* The result of a call that is made to fail, or success. */
int gate(const char *name) {
    const char *fail = std::getenv("NANO_EMULATED_FAIL");
    const size_t length = std::strlen(name);
    if (fail == nullptr || std::strncmp(fail, name, length) != 0 || fail[length] != ':') {
        return NANO_CU_SUCCESS;
    }
    if (++calls[name] < std::atoi(fail + length + 1)) {
        return NANO_CU_SUCCESS;
    }
    const char *result = std::getenv("NANO_EMULATED_RESULT");
    return result != nullptr ? std::atoi(result) : static_cast<int>(UNKNOWN);
}

bool inside(uint64_t address, size_t bytes) {
    auto it = memory.upper_bound(address);
    if (it == memory.begin()) {
        return false;
    }
    --it;
    return address - it->first <= it->second && bytes <= it->second - (address - it->first);
}

void *pointer(uint64_t address) { return reinterpret_cast<void *>(address); }
uint64_t address_of(const void *p) { return reinterpret_cast<uint64_t>(p); }

struct launch {
    const nano_emulate::kernel *kernel;
    uint3 grid;
    unsigned threads;
    std::vector<unsigned char> params;
    void *to; /* a copy, where there is no kernel */
    const void *from;
    size_t bytes;
    void run() const {
        if (kernel != nullptr) {
            nano_emulate::launch(kernel, grid, threads, params.data());
        } else {
            std::memmove(to, from, bytes);
        }
    }
};

typedef std::vector<launch> recording;

recording *capture; /* of the one stream that captures */

int submit(const launch &l) {
    if (capture != nullptr) {
        capture->push_back(l);
    } else {
        l.run();
    }
    return NANO_CU_SUCCESS;
}

} // namespace

#define GATE(name)                            \
    do {                                      \
        const int nano_result = gate(name);   \
        if (nano_result != NANO_CU_SUCCESS) { \
            return nano_result;               \
        }                                     \
    } while (false)

extern "C" {

int cuInit(unsigned) {
    GATE("cuInit");
    return NANO_CU_SUCCESS;
}
int cuDriverGetVersion(int *version) {
    *version = 10020;
    return NANO_CU_SUCCESS;
}
int cuDeviceGetCount(int *count) {
    *count = 1;
    return NANO_CU_SUCCESS;
}
int cuDeviceGet(nano_cu_device *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? NANO_CU_SUCCESS : 101;
}
int cuDeviceGetName(char *name, int size, nano_cu_device) {
    std::strncpy(name, "Emulated device", static_cast<size_t>(size));
    name[size - 1] = '\0';
    return NANO_CU_SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, nano_cu_device) {
    switch (attribute) {
        case NANO_CU_MAJOR: *value = __CUDA_ARCH__ / 100; break;
        case NANO_CU_MINOR: *value = __CUDA_ARCH__ / 10 % 10; break;
        case NANO_CU_MULTIPROCESSORS: *value = 2; break;
        case NANO_CU_INTEGRATED: *value = std::getenv("NANO_EMULATED_INTEGRATED") != nullptr ? 1 : 0; break;
        case NANO_CU_UNIFIED_ADDRESSES: *value = 1; break;
        case NANO_CU_HOST_REGISTER: *value = 0; break;
        default: *value = 0; break;
    }
    return NANO_CU_SUCCESS;
}
int cuDevicePrimaryCtxRetain(nano_cu_context *context, nano_cu_device) {
    GATE("cuDevicePrimaryCtxRetain");
    *context = reinterpret_cast<nano_cu_context>(&memory);
    return NANO_CU_SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(nano_cu_device) { return NANO_CU_SUCCESS; }
int cuDevicePrimaryCtxRelease(nano_cu_device) { return NANO_CU_SUCCESS; }
int cuCtxPushCurrent_v2(nano_cu_context context) {
    return context != nullptr ? static_cast<int>(NANO_CU_SUCCESS) : static_cast<int>(INVALID_CONTEXT);
}
int cuCtxPopCurrent_v2(nano_cu_context *context) {
    *context = reinterpret_cast<nano_cu_context>(&memory);
    return NANO_CU_SUCCESS;
}
int cuMemGetInfo_v2(size_t *available, size_t *total) {
    *total = limit();
    *available = limit() - used;
    return NANO_CU_SUCCESS;
}
int cuModuleLoadData(nano_cu_module *module, const void *image) {
    GATE("cuModuleLoadData");
    *module = reinterpret_cast<nano_cu_module>(const_cast<void *>(image));
    return NANO_CU_SUCCESS;
}
int cuModuleUnload(nano_cu_module) { return NANO_CU_SUCCESS; }
int cuModuleGetFunction(nano_cu_function *function, nano_cu_module, const char *name) {
    GATE("cuModuleGetFunction");
    const nano_emulate::kernel *k = nano_emulate::find(name);
    *function = reinterpret_cast<nano_cu_function>(const_cast<nano_emulate::kernel *>(k));
    return k != nullptr ? NANO_CU_SUCCESS : NANO_CU_NOT_FOUND;
}

static int take(uint64_t *out, size_t bytes, bool host) {
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    if (!host && bytes > limit() - used) {
        return NANO_CU_OUT_OF_MEMORY;
    }
    void *p = nullptr;
    if (posix_memalign(&p, 256, bytes) != 0) {
        return NANO_CU_OUT_OF_MEMORY;
    }
    std::memset(p, 0xa5, bytes); /* so that reading what nobody wrote shows */
    memory[address_of(p)] = bytes;
    is_host[address_of(p)] = host;
    used += host ? 0 : bytes;
    *out = address_of(p);
    return NANO_CU_SUCCESS;
}
static int give(uint64_t address) {
    const auto it = memory.find(address);
    if (it == memory.end()) {
        return INVALID_VALUE;
    }
    used -= is_host[address] ? 0 : it->second;
    memory.erase(it);
    is_host.erase(address);
    std::free(pointer(address));
    return NANO_CU_SUCCESS;
}
int cuMemAlloc_v2(nano_cu_address *address, size_t bytes) {
    GATE("cuMemAlloc_v2");
    return take(address, bytes, false);
}
int cuMemFree_v2(nano_cu_address address) { return give(address); }
int cuMemsetD8Async(nano_cu_address address, unsigned char value, size_t bytes, nano_cu_stream) {
    if (!inside(address, bytes)) {
        return INVALID_VALUE;
    }
    std::memset(pointer(address), value, bytes);
    return NANO_CU_SUCCESS;
}
int cuMemHostAlloc(void **data, size_t bytes, unsigned) {
    GATE("cuMemHostAlloc");
    uint64_t address = 0;
    const int result = take(&address, bytes, true);
    *data = pointer(address);
    return result;
}
int cuMemFreeHost(void *data) { return give(address_of(data)); }
int cuMemHostRegister_v2(void *data, size_t bytes, unsigned) {
    GATE("cuMemHostRegister_v2");
    memory[address_of(data)] = bytes;
    is_host[address_of(data)] = true;
    return NANO_CU_SUCCESS;
}
int cuMemHostUnregister(void *data) {
    is_host.erase(address_of(data));
    return memory.erase(address_of(data)) == 1 ? static_cast<int>(NANO_CU_SUCCESS) : static_cast<int>(INVALID_VALUE);
}
int cuMemHostGetDevicePointer_v2(nano_cu_address *address, void *data, unsigned) {
    *address = address_of(data);
    return inside(*address, 1) ? static_cast<int>(NANO_CU_SUCCESS) : static_cast<int>(INVALID_VALUE);
}
static int copy(void *to, const void *from, size_t bytes) {
    return submit({nullptr, {0, 0, 0}, 0, {}, to, from, bytes});
}
int cuMemcpyHtoDAsync_v2(nano_cu_address to, const void *from, size_t bytes, nano_cu_stream) {
    GATE("cuMemcpyHtoDAsync_v2");
    return inside(to, bytes) ? copy(pointer(to), from, bytes) : static_cast<int>(INVALID_VALUE);
}
int cuMemcpyDtoHAsync_v2(void *to, nano_cu_address from, size_t bytes, nano_cu_stream) {
    GATE("cuMemcpyDtoHAsync_v2");
    return inside(from, bytes) ? copy(to, pointer(from), bytes) : static_cast<int>(INVALID_VALUE);
}
int cuMemcpyDtoDAsync_v2(nano_cu_address to, nano_cu_address from, size_t bytes, nano_cu_stream) {
    return inside(from, bytes) && inside(to, bytes) ? copy(pointer(to), pointer(from), bytes)
                                                    : static_cast<int>(INVALID_VALUE);
}
int cuStreamCreate(nano_cu_stream *stream, unsigned) {
    GATE("cuStreamCreate");
    *stream = reinterpret_cast<nano_cu_stream>(&used);
    return NANO_CU_SUCCESS;
}
int cuStreamDestroy_v2(nano_cu_stream) { return NANO_CU_SUCCESS; }
int cuStreamSynchronize(nano_cu_stream) {
    GATE("cuStreamSynchronize");
    return capture == nullptr ? static_cast<int>(NANO_CU_SUCCESS) : 900; /* not allowed while capturing */
}
int cuLaunchKernel(nano_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned shared_bytes, nano_cu_stream, void **params,
                   void **extra) {
    GATE("cuLaunchKernel");
    const nano_emulate::kernel *k = reinterpret_cast<const nano_emulate::kernel *>(function);
    if (grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_y > 65535 || grid_z > 65535 || block_x % 32 != 0 ||
        block_x == 0 || block_x > 1024 || block_y != 1 || block_z != 1 || shared_bytes != 0 || extra != nullptr) {
        return INVALID_VALUE;
    }
    const unsigned char *given = static_cast<const unsigned char *>(params[0]);
    return submit({k, {grid_x, grid_y, grid_z}, block_x, {given, given + k->bytes}, nullptr, nullptr, 0});
}
int cuGetErrorName(int error, const char **name) {
    *name = error == NANO_CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == UNKNOWN             ? "CUDA_ERROR_UNKNOWN"
                                           : nullptr;
    return *name != nullptr ? static_cast<int>(NANO_CU_SUCCESS) : static_cast<int>(INVALID_VALUE);
}
int cuStreamBeginCapture_v2(nano_cu_stream, int) {
    GATE("cuStreamBeginCapture_v2");
    capture = new recording;
    return NANO_CU_SUCCESS;
}
int cuStreamEndCapture(nano_cu_stream, nano_cu_graph *graph) {
    *graph = reinterpret_cast<nano_cu_graph>(capture);
    capture = nullptr;
    return NANO_CU_SUCCESS;
}
int cuGraphInstantiate(nano_cu_graph_exec *exec, nano_cu_graph graph, void **, char *, size_t) {
    GATE("cuGraphInstantiate");
    *exec = reinterpret_cast<nano_cu_graph_exec>(new recording(*reinterpret_cast<recording *>(graph)));
    return NANO_CU_SUCCESS;
}
int cuGraphLaunch(nano_cu_graph_exec exec, nano_cu_stream) {
    GATE("cuGraphLaunch");
    for (const launch &l : *reinterpret_cast<recording *>(exec)) {
        l.run();
    }
    return NANO_CU_SUCCESS;
}
int cuGraphExecDestroy(nano_cu_graph_exec exec) {
    delete reinterpret_cast<recording *>(exec);
    return NANO_CU_SUCCESS;
}
int cuGraphDestroy(nano_cu_graph graph) {
    delete reinterpret_cast<recording *>(graph);
    return NANO_CU_SUCCESS;
}
}
