/* Small GGUF files built in memory, for tests that need odd or broken metadata. */
#ifndef NANO_TESTS_TINY_GGUF_H
#define NANO_TESTS_TINY_GGUF_H

#include "ggml_core.h"

#include <string.h>

enum { TINY_CAPACITY = 1 << 16 };

typedef struct tiny_gguf {
    uint8_t bytes[TINY_CAPACITY];
    size_t size;
    uint64_t n_values;
} tiny_gguf;

static inline void tiny_bytes(tiny_gguf *g, const void *data, size_t size) {
    if (size > 0 && size <= TINY_CAPACITY - g->size) {
        memcpy(g->bytes + g->size, data, size);
        g->size += size;
    }
}

static inline void tiny_u32(tiny_gguf *g, uint32_t v) { tiny_bytes(g, &v, sizeof v); }
static inline void tiny_u64(tiny_gguf *g, uint64_t v) { tiny_bytes(g, &v, sizeof v); }

static inline void tiny_string(tiny_gguf *g, const char *s) {
    tiny_u64(g, strlen(s));
    tiny_bytes(g, s, strlen(s));
}

static inline void tiny_begin(tiny_gguf *g) {
    memset(g, 0, sizeof *g);
    tiny_bytes(g, "GGUF", 4);
    tiny_u32(g, 3);
    tiny_u64(g, 0); /* tensors */
    tiny_u64(g, 0); /* values: known at the end */
}

static inline void tiny_key(tiny_gguf *g, const char *key, nano_gguf_kind kind) {
    tiny_string(g, key);
    tiny_u32(g, (uint32_t)kind);
    g->n_values++;
}

static inline void tiny_set_str(tiny_gguf *g, const char *key, const char *value) {
    tiny_key(g, key, NANO_GGUF_STRING);
    tiny_string(g, value);
}

static inline void tiny_set_int(tiny_gguf *g, const char *key, int64_t value) {
    tiny_key(g, key, NANO_GGUF_INT64);
    tiny_u64(g, (uint64_t)value);
}

static inline void tiny_set_bool(tiny_gguf *g, const char *key, bool value) {
    const uint8_t byte = value ? 1 : 0;
    tiny_key(g, key, NANO_GGUF_BOOL);
    tiny_bytes(g, &byte, 1);
}

static inline void tiny_set_array(tiny_gguf *g, const char *key, nano_gguf_kind kind, const void *items,
                                  size_t item_bytes, size_t n) {
    tiny_key(g, key, NANO_GGUF_ARRAY);
    tiny_u32(g, (uint32_t)kind);
    tiny_u64(g, n);
    tiny_bytes(g, items, item_bytes * n);
}

static inline void tiny_set_strs(tiny_gguf *g, const char *key, const char *const *items, size_t n) {
    tiny_set_array(g, key, NANO_GGUF_STRING, NULL, 0, n);
    for (size_t i = 0; i < n; i++) {
        tiny_string(g, items[i]);
    }
}

static inline void tiny_set_floats(tiny_gguf *g, const char *key, const float *items, size_t n) {
    tiny_set_array(g, key, NANO_GGUF_FLOAT32, items, sizeof *items, n);
}

static inline void tiny_set_ints(tiny_gguf *g, const char *key, const int32_t *items, size_t n) {
    tiny_set_array(g, key, NANO_GGUF_INT32, items, sizeof *items, n);
}

/* Opens what was built, which must stay alive and unchanged. */
static inline nano_status tiny_open(tiny_gguf *g, nano_gguf **out, nano_error *err) {
    memcpy(g->bytes + 16, &g->n_values, sizeof g->n_values);
    return nano_gguf_open_memory(g->bytes, g->size, "tiny", out, err);
}

#endif
