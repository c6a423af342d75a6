/* A library without devices: what the planner and sessions ask for, answered with no. */
#include "cuda/backend.h"

#include <string.h>

static nano_status no_devices(nano_error *err) {
    return nano_fail(err, NANO_ERR_UNSUPPORTED, "device: this library is built without (NANOLLM_CUDA)");
}

const char *nano_backend_refusal(const nano_node *node) {
    (void)node;
    return "no device";
}

nano_status nano_backend_shares_memory(int32_t device, bool *out, nano_error *err) {
    (void)device;
    (void)out;
    return no_devices(err);
}

uint64_t nano_backend_inputs_bytes(const nano_limits *limits) {
    (void)limits;
    return 0;
}

uint64_t nano_backend_part_bytes(const nano_node *node, int32_t n_ctx, int64_t rows) {
    (void)node;
    (void)n_ctx;
    (void)rows;
    return 0;
}

nano_status nano_backend_create(const nano_plan *plan, nano_node *nodes, nano_backend **out, nano_error *err) {
    (void)plan;
    (void)nodes;
    (void)out;
    return no_devices(err);
}

void nano_backend_free(nano_backend *b) { (void)b; }

nano_status nano_backend_step(nano_backend *b, const nano_plan *plan, const nano_step *step, const int32_t *wanted,
                              float *logits, nano_error *err) {
    (void)b;
    (void)plan;
    (void)step;
    (void)wanted;
    (void)logits;
    return no_devices(err);
}

nano_status nano_backend_read(nano_backend *b, void *to, const uint8_t *from, size_t size, nano_error *err) {
    (void)b;
    (void)to;
    (void)from;
    (void)size;
    return no_devices(err);
}

nano_status nano_backend_write(nano_backend *b, uint8_t *to, const void *from, size_t size, nano_error *err) {
    return nano_backend_read(b, to, from, size, err);
}

nano_status nano_backend_copy(nano_backend *b, uint8_t *to, const uint8_t *from, size_t size, nano_error *err) {
    return nano_backend_read(b, to, from, size, err);
}

int32_t nano_device_count(void) { return 0; }

nano_status nano_device_at(int32_t i, nano_device *out, nano_error *err) {
    (void)i;
    (void)out;
    return no_devices(err);
}
