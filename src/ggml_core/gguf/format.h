/* Facts of the GGUF format that reader and writer share. */
#ifndef NANO_GGUF_FORMAT_H
#define NANO_GGUF_FORMAT_H

#include "ggml_core.h"

enum { NANO_GGUF_VERSION = 3, NANO_GGUF_OLDEST_VERSION = 2, NANO_GGUF_DEFAULT_ALIGNMENT = 32, NANO_GGUF_MAX_DIMS = 4 };

#define NANO_GGUF_MAGIC "GGUF"
#define NANO_GGUF_ALIGNMENT_KEY "general.alignment"

/* Bytes of one item: 0 for strings, arrays and unknown kinds, whose size depends on the data. */
size_t nano_gguf_kind_bytes(uint32_t kind);
/* "uint8", "string", ...; NULL for an unknown kind. */
const char *nano_gguf_kind_name(uint32_t kind);

/* A power of two and, as the specification asks, a multiple of 8. */
bool nano_gguf_is_alignment(uint64_t alignment);

/* NULL when `name` can be a key or a tensor's name (not empty, UTF-8, no NUL); otherwise what is wrong ("is empty"). */
const char *nano_gguf_bad_name(nano_str name);

/* Orders by bytes, a prefix before what it is a prefix of. */
int nano_gguf_compare(nano_str a, nano_str b);

/* `s` between double quotes for a message: control characters and ill-formed UTF-8 escaped, long ones cut.
 * Returns `out`. */
enum { NANO_GGUF_QUOTED_SIZE = 128 };
const char *nano_gguf_quote(nano_str s, char out[NANO_GGUF_QUOTED_SIZE]);

/* The bytes of a tensor of a known type and 1..4 dims ne[0..n_dims-1]. False when that is no tensor; `why` then
 * says what was found and what was expected. */
enum { NANO_GGUF_WHY_SIZE = 128 };
bool nano_gguf_tensor_bytes(nano_type type, int32_t n_dims, const int64_t *ne, uint64_t *n_bytes,
                            char why[NANO_GGUF_WHY_SIZE]);

/* Tells that a part of a tensor's data will not be read again soon: it need not stay in memory. */
void nano_gguf_forget(const nano_gguf *gguf, const void *data, size_t size);

#endif
