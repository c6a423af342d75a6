#include "gguf/format.h"

#include "base/arith.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

size_t nano_gguf_kind_bytes(uint32_t kind) {
    switch (kind) {
        case NANO_GGUF_UINT8:
        case NANO_GGUF_INT8:
        case NANO_GGUF_BOOL: return 1;
        case NANO_GGUF_UINT16:
        case NANO_GGUF_INT16: return 2;
        case NANO_GGUF_UINT32:
        case NANO_GGUF_INT32:
        case NANO_GGUF_FLOAT32: return 4;
        case NANO_GGUF_UINT64:
        case NANO_GGUF_INT64:
        case NANO_GGUF_FLOAT64: return 8;
        default: return 0;
    }
}

const char *nano_gguf_kind_name(uint32_t kind) {
    static const char *const names[] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                        "bool",  "string", "array",  "uint64", "int64",  "float64"};
    return kind < sizeof names / sizeof names[0] ? names[kind] : NULL;
}

bool nano_gguf_is_alignment(uint64_t alignment) { return alignment >= 8 && (alignment & (alignment - 1)) == 0; }

/* Bytes of the well-formed UTF-8 character at `p` (Unicode 15, table 3-7); 0 when there is none. */
static size_t utf8_length(const char *p, size_t n) {
    uint8_t lead = (uint8_t)p[0];
    if (lead < 0x80) {
        return 1;
    }
    size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || n < length) {
        return 0;
    }
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;  /* no overlong forms */
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* no surrogates, nothing past U+10FFFF */
    for (size_t i = 1; i < length; i++) {
        uint8_t c = (uint8_t)p[i];
        if (c < low || c > high) {
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

const char *nano_gguf_bad_name(nano_str name) {
    if (name.size == 0) {
        return "is empty";
    }
    for (size_t i = 0; i < name.size;) {
        size_t length = utf8_length(name.data + i, name.size - i);
        if (length == 0) {
            return "is not UTF-8";
        }
        if (name.data[i] == '\0') {
            return "has a NUL byte inside";
        }
        i += length;
    }
    return NULL;
}

int nano_gguf_compare(nano_str a, nano_str b) {
    size_t n = a.size < b.size ? a.size : b.size;
    int order = n == 0 ? 0 : memcmp(a.data, b.data, n);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

const char *nano_gguf_quote(nano_str s, char out[NANO_GGUF_QUOTED_SIZE]) {
    static const char hex[] = "0123456789abcdef";
    const size_t room = NANO_GGUF_QUOTED_SIZE - sizeof "...\"";
    size_t n = 0, i = 0;
    out[n++] = '"';
    while (i < s.size && n + 4 <= room) { /* 4: the longest that one step can add */
        uint8_t c = (uint8_t)s.data[i];
        size_t length = utf8_length(s.data + i, s.size - i);
        if (length == 0 || c < 0x20 || c == 0x7f || c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = 'x';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
            i++;
        } else {
            memcpy(out + n, s.data + i, length);
            n += length;
            i += length;
        }
    }
    const char *end = i < s.size ? "...\"" : "\"";
    memcpy(out + n, end, strlen(end) + 1);
    return out;
}

bool nano_gguf_tensor_bytes(nano_type type, int32_t n_dims, const int64_t *ne, uint64_t *n_bytes,
                            char why[NANO_GGUF_WHY_SIZE]) {
    uint64_t n_elements = 1;
    for (int32_t i = 0; i < n_dims; i++) {
        if (ne[i] < 1) {
            (void)snprintf(why, NANO_GGUF_WHY_SIZE, "dimension %" PRId32 " is %" PRId64 ", expected at least 1", i,
                           ne[i]);
            return false;
        }
        if (!nano_mul_u64(n_elements, (uint64_t)ne[i], &n_elements) || n_elements > INT64_MAX) {
            (void)snprintf(why, NANO_GGUF_WHY_SIZE, "its dimensions multiply to more than 2^63 elements");
            return false;
        }
    }
    int64_t block = nano_type_block_size(type);
    if (ne[0] % block != 0) {
        (void)snprintf(why, NANO_GGUF_WHY_SIZE,
                       "rows of %" PRId64 " elements, expected whole blocks of %" PRId64 " (%s)", ne[0], block,
                       nano_type_name(type));
        return false;
    }
    uint64_t row_bytes = nano_type_row_bytes(type, ne[0]);
    if (row_bytes == 0 || !nano_mul_u64(row_bytes, n_elements / (uint64_t)ne[0], n_bytes)) {
        (void)snprintf(why, NANO_GGUF_WHY_SIZE, "its size in bytes is past what this machine can address");
        return false;
    }
    return true;
}
