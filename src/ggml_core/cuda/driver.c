#include "cuda/driver.h"

#include "base/platform.h"

#include <stdlib.h>

static struct {
    nano_cu cu;
    nano_atomic claimed, done;
    nano_status status;
    nano_error error;
} driver;

/* Object and function pointers have one size wherever there is a dynamic loader (POSIX, dlsym). */
typedef union symbol {
    void *object;
    void (*function)(void);
} symbol;

static nano_status find(void *library, const char *name, bool must, void (**out)(void), nano_error *err) {
    symbol s;
    s.object = nano_library_find(library, name);
    if (s.object == NULL && must) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "cuda: the driver lacks %s: expected one of CUDA 10.2 or newer",
                         name);
    }
    *out = s.function;
    return NANO_OK;
}

static nano_status find_all(nano_cu *cu, void *library, nano_error *err) {
    void (*f)(void) = NULL;
#define NANO_CUDA_FUNCTION(name, symbol, parameters) \
    NANO_TRY(find(library, symbol, true, &f, err));  \
    cu->name = (int(*) parameters)f;
#define NANO_CUDA_OPTIONAL(name, symbol, parameters) \
    NANO_TRY(find(library, symbol, false, &f, err)); \
    cu->name = (int(*) parameters)f;
#include "cuda/driver.inc"
#undef NANO_CUDA_FUNCTION
#undef NANO_CUDA_OPTIONAL
    return NANO_OK;
}

static nano_status load(nano_cu *cu, nano_error *err) {
    const char *path = getenv("NANOLLM_CUDA_DRIVER");
    path = path != NULL ? path : "libcuda.so.1";
    void *library = nano_library_open(path);
    if (library == NULL) {
        return nano_fail(err, NANO_ERR_NOT_FOUND, "cuda: no driver: %s cannot be loaded", path);
    }
    NANO_TRY(find_all(cu, library, err));
    int n = 0;
    if (cu->init(0) != NANO_CU_SUCCESS || cu->device_count(&n) != NANO_CU_SUCCESS || n < 1) {
        return nano_fail(err, NANO_ERR_NOT_FOUND, "cuda: %s finds no device", path);
    }
    return NANO_OK;
}

nano_status nano_cu_load(const nano_cu **out, nano_error *err) {
    if (nano_atomic_load(&driver.done) == 0) {
        if (nano_atomic_exchange(&driver.claimed, 1) == 0) {
            driver.status = load(&driver.cu, &driver.error);
            nano_atomic_store(&driver.done, 1);
        }
        while (nano_atomic_load(&driver.done) == 0) {
            nano_thread_yield();
        }
    }
    if (driver.status != NANO_OK) {
        return nano_fail(err, driver.status, "%s", driver.error.message);
    }
    *out = &driver.cu;
    return NANO_OK;
}

nano_status nano_cu_check(const nano_cu *cu, int result, const char *what, nano_error *err) {
    if (result == NANO_CU_SUCCESS) {
        return NANO_OK;
    }
    const char *name = NULL;
    if (cu->error_name(result, &name) != NANO_CU_SUCCESS || name == NULL) {
        name = "an unknown error";
    }
    return nano_fail(err, result == NANO_CU_OUT_OF_MEMORY ? NANO_ERR_MEMORY : NANO_ERR_IO, "cuda: %s: %s (%d)", what,
                     name, result);
}
