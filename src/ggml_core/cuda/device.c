#include "cuda/device.h"

#include "cuda/inflate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

nano_status nano_cuda_count(int32_t *n, nano_error *err) {
    const nano_cu *cu = NULL;
    int count = 0;
    NANO_TRY(nano_cu_load(&cu, err));
    NANO_CU_TRY(cu, device_count(&count), "counting devices", err);
    *n = count;
    return NANO_OK;
}

/* A cubin runs on its major version from its own minor one on; PTX is compiled by the driver for all devices above it.
 * NANOLLM_CUDA_IMAGE names one, for tests. */
static bool runs_on(const nano_cuda_image *image, int32_t arch) {
    const char *only = getenv("NANOLLM_CUDA_IMAGE");
    if (only != NULL && strcmp(only, image->name) != 0) {
        return false;
    }
    return image->arch <= arch && (image->is_ptx || image->arch / 10 == arch / 10);
}

/* The best image: the newest, a cubin before PTX of the same. `before`: one that is better and was no use. */
static const nano_cuda_image *choose_image(int32_t arch, const nano_cuda_image *before) {
    const nano_cuda_image *best = NULL;
    int32_t limit = before == NULL ? INT32_MAX : before->arch * 2 + !before->is_ptx, found = -1;
    for (const nano_cuda_image *image = nano_cuda_images; image->name != NULL; image++) {
        const int32_t rank = image->arch * 2 + !image->is_ptx;
        if (runs_on(image, arch) && rank < limit && rank > found) {
            best = image;
            found = rank;
        }
    }
    return best;
}

static nano_status describe(const nano_cu *cu, nano_cu_device id, nano_cuda_info *out, nano_error *err) {
    int major = 0, minor = 0, integrated = 0, multiprocessors = 0;
    memset(out, 0, sizeof *out);
    NANO_CU_TRY(cu, device_name(out->name, (int)sizeof out->name, id), "a device's name", err);
    NANO_CU_TRY(cu, device_attribute(&major, NANO_CU_MAJOR, id), "a device's version", err);
    NANO_CU_TRY(cu, device_attribute(&minor, NANO_CU_MINOR, id), "a device's version", err);
    NANO_CU_TRY(cu, device_attribute(&integrated, NANO_CU_INTEGRATED, id), "a device's memory", err);
    NANO_CU_TRY(cu, device_attribute(&multiprocessors, NANO_CU_MULTIPROCESSORS, id), "a device's size", err);
    out->arch = major * 10 + minor;
    out->is_integrated = integrated != 0;
    out->n_multiprocessors = multiprocessors;
    out->image = choose_image(out->arch, NULL);
    return NANO_OK;
}

static nano_status find_device(const nano_cu *cu, int32_t device, nano_cu_device *id, nano_error *err) {
    int32_t n = 0;
    NANO_TRY(nano_cuda_count(&n, err));
    if (device < 0 || device >= n) {
        return nano_fail(err, NANO_ERR_NOT_FOUND, "cuda: no device %d, the driver has %d", (int)device, (int)n);
    }
    NANO_CU_TRY(cu, device_get(id, device), "finding a device", err);
    return NANO_OK;
}

nano_status nano_cuda_describe(int32_t device, nano_cuda_info *out, nano_error *err) {
    const nano_cu *cu = NULL;
    nano_cu_device id = 0;
    NANO_TRY(nano_cu_load(&cu, err));
    NANO_TRY(find_device(cu, device, &id, err));
    return describe(cu, id, out, err);
}

/* ----------------------------------------------------------------- kernels */

static const struct {
    const char *name;
    nano_type type;
} types[] = {
#define NANO_TYPE(NAME, name, id, block, bytes, activation) {#name, NANO_TYPE_##NAME},
#define NANO_TYPE_SIZE_ONLY(NAME, id, block, bytes)
#include "types/types.inc"
#undef NANO_TYPE
#undef NANO_TYPE_SIZE_ONLY
};

enum { N_TYPES = sizeof types / sizeof types[0] };

/* There is room for all types. */
typedef char nano_cuda_types_fit[N_TYPES <= NANO_CUDA_K_TILE - NANO_CUDA_K_VEC ? 1 : -1];

int32_t nano_cuda_linear_kernel(nano_type type, bool is_tile) {
    for (int32_t i = 0; i < N_TYPES; i++) {
        if (types[i].type == type) {
            return (is_tile ? NANO_CUDA_K_TILE : NANO_CUDA_K_VEC) + i;
        }
    }
    return -1;
}

static nano_status find_kernel(nano_cuda_device *d, int32_t kernel, const char *name, nano_error *err) {
    NANO_CU_TRY(d->cu, module_function(&d->kernels[kernel], d->module, name), name, err);
    return NANO_OK;
}

static nano_status find_kernels(nano_cuda_device *d, nano_error *err) {
    static const char *names[] = {"norm", "quantize", "map", "rows", "rope", "kv_write", "attention", "attention_join"};
    char name[64];
    for (int32_t i = 0; i < NANO_CUDA_K_VEC; i++) {
        (void)snprintf(name, sizeof name, "nano_%s_kernel", names[i]);
        NANO_TRY(find_kernel(d, i, name, err));
    }
    for (int32_t i = 0; i < N_TYPES; i++) {
        (void)snprintf(name, sizeof name, "nano_vec_%s_kernel", types[i].name);
        NANO_TRY(find_kernel(d, NANO_CUDA_K_VEC + i, name, err));
        (void)snprintf(name, sizeof name, "nano_tile_%s_kernel", types[i].name);
        NANO_TRY(find_kernel(d, NANO_CUDA_K_TILE + i, name, err));
    }
    return NANO_OK;
}

static nano_status load_image(nano_cuda_device *d, const nano_cuda_image *image, int *result, nano_error *err) {
    uint8_t *raw = malloc(image->raw_bytes);
    if (raw == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "cuda: out of memory for the device code");
    }
    if (!nano_inflate(image->data, image->n_bytes, raw, image->raw_bytes)) {
        free(raw);
        return nano_fail(err, NANO_ERR_INTERNAL, "cuda: image %s is damaged", image->name);
    }
    *result = d->cu->module_load(&d->module, raw);
    free(raw);
    return NANO_OK;
}

/* The best image that the driver takes: an old driver refuses PTX of a toolkit newer than itself. */
static nano_status load_module(nano_cuda_device *d, nano_error *err) {
    int result = NANO_CU_SUCCESS;
    const nano_cuda_image *image = d->info.image;
    if (image == NULL) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED,
                         "cuda: this library has no device code for %s (compute capability %d.%d)", d->info.name,
                         (int)(d->info.arch / 10), (int)(d->info.arch % 10));
    }
    for (; image != NULL; image = choose_image(d->info.arch, image)) {
        NANO_TRY(load_image(d, image, &result, err));
        if (result == NANO_CU_SUCCESS) {
            d->info.image = image;
            return NANO_OK;
        }
    }
    (void)nano_cu_check(d->cu, result, "loading the device code", err);
    return result == NANO_CU_OUT_OF_MEMORY
               ? NANO_ERR_MEMORY
               : nano_fail(err, NANO_ERR_UNSUPPORTED,
                           "cuda: the driver takes none of the device code for %s (error %d)", d->info.name, result);
}

/* ------------------------------------------------------------------ opening */

static nano_status prepare(nano_cuda_device *d, nano_error *err) {
    NANO_TRY(load_module(d, err));
    NANO_TRY(find_kernels(d, err));
    NANO_CU_TRY(d->cu, stream_create(&d->stream, NANO_CU_STREAM_NON_BLOCKING), "making a stream", err);
    return NANO_OK;
}

nano_status nano_cuda_open(int32_t device, nano_cuda_device *out, nano_error *err) {
    nano_cuda_device d;
    memset(&d, 0, sizeof d);
    NANO_TRY(nano_cu_load(&d.cu, err));
    NANO_TRY(find_device(d.cu, device, &d.id, err));
    NANO_TRY(describe(d.cu, d.id, &d.info, err));
    NANO_CU_TRY(d.cu, context_retain(&d.context, d.id), "opening the device", err);
    nano_status status = nano_cuda_enter(&d, err);
    if (status == NANO_OK) {
        status = prepare(&d, err);
        nano_cuda_leave(&d);
    }
    if (status != NANO_OK) {
        nano_cuda_close(&d);
        return status;
    }
    *out = d;
    return NANO_OK;
}

void nano_cuda_close(nano_cuda_device *d) {
    if (d->context == NULL) {
        return;
    }
    if (nano_cuda_enter(d, NULL) == NANO_OK) {
        if (d->stream != NULL) {
            (void)d->cu->stream_destroy(d->stream);
        }
        if (d->module != NULL) {
            (void)d->cu->module_unload(d->module);
        }
        nano_cuda_leave(d);
    }
    (void)d->cu->context_release(d->id);
    memset(d, 0, sizeof *d);
}

nano_status nano_cuda_enter(const nano_cuda_device *d, nano_error *err) {
    NANO_CU_TRY(d->cu, context_push(d->context), "using the device", err);
    return NANO_OK;
}

void nano_cuda_leave(const nano_cuda_device *d) {
    nano_cu_context context = NULL;
    (void)d->cu->context_pop(&context);
}

nano_status nano_cuda_available(const nano_cuda_device *d, uint64_t *available, uint64_t *total, nano_error *err) {
    size_t a = 0, t = 0;
    NANO_CU_TRY(d->cu, memory_info(&a, &t), "reading the device's memory", err);
    /* The driver does not count the page cache, which a device without memory of its own may have, too. */
    const uint64_t host = nano_memory_available();
    *available = !d->info.is_integrated ? a : host < t ? host : t;
    *total = t;
    return NANO_OK;
}

nano_status nano_cuda_launch(const nano_cuda_device *d, int32_t kernel, int64_t x, int64_t y, int64_t z, void *params,
                             nano_error *err) {
    void *list[1];
    list[0] = params;
    if (x <= 0 || y <= 0 || z <= 0) {
        return NANO_OK; /* no rows, nothing to do */
    }
    NANO_CU_TRY(d->cu,
                launch(d->kernels[kernel], (unsigned)x, (unsigned)y, (unsigned)z, NANO_CUDA_THREADS, 1, 1, 0, d->stream,
                       list, NULL),
                "starting a kernel", err);
    return NANO_OK;
}
