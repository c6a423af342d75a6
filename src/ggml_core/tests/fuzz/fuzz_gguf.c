/* Opens the input as a GGUF file and reads everything that it then offers. */
#include "ggml_core.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t read_value(const nano_gguf_value *value) {
    uint64_t sum = 0, n_strings = 0;
    int64_t number;
    double real;
    nano_str s;
    size_t cursor = 0;
    for (uint64_t i = 0; i < value->n_items; i++) {
        sum += nano_gguf_item_int(value, i, &number) ? (uint64_t)number : 0;
        sum += nano_gguf_item_float(value, i, &real) && real > 0;
    }
    while (nano_gguf_next_str(value, &cursor, &s)) {
        n_strings++;
        for (size_t i = 0; i < s.size; i++) {
            sum += (uint8_t)s.data[i];
        }
    }
    if (value->item_kind == NANO_GGUF_STRING && n_strings != value->n_items) {
        abort();
    }
    return sum;
}

static uint64_t read_tensor(const nano_gguf *gguf, const nano_gguf_tensor *tensor) {
    uint64_t sum = 0;
    for (size_t i = 0; i < tensor->n_bytes; i++) {
        sum += ((const uint8_t *)tensor->data)[i];
    }
    if (nano_gguf_find_tensor(gguf, tensor->name) != tensor) {
        abort();
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nano_gguf *gguf = NULL;
    nano_error err;
    volatile uint64_t sum = 0; /* so that no read is left out */
    if (nano_gguf_open_memory(data, size, "input", &gguf, &err) != NANO_OK) {
        return 0;
    }
    for (uint64_t i = 0; i < nano_gguf_n_values(gguf); i++) {
        sum += read_value(nano_gguf_value_at(gguf, i));
    }
    for (uint64_t i = 0; i < nano_gguf_n_tensors(gguf); i++) {
        sum += read_tensor(gguf, nano_gguf_tensor_at(gguf, i));
    }
    nano_gguf_free(gguf);
    return 0;
}
