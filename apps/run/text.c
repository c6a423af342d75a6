#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

void *allocate(size_t n, size_t item_size) {
    void *p = calloc(n > 0 ? n : 1, item_size);
    if (p == NULL) {
        exit(fail(EXIT_ERROR, "out of memory"));
    }
    return p;
}

void text_free(text *t) {
    free(t->data);
    *t = (text){NULL, 0, 0};
}

static void reserve(text *t, size_t more) {
    const size_t most = SIZE_MAX / 4;
    if (more < most && t->size < most && t->size + more < t->capacity) {
        return;
    }
    const size_t capacity = 2 * (t->size + more) + 64;
    char *data = more < most && t->size < most ? realloc(t->data, capacity) : NULL;
    if (data == NULL) {
        exit(fail(EXIT_ERROR, "out of memory"));
    }
    t->data = data;
    t->capacity = capacity;
}

void text_add(text *t, const char *bytes, size_t size) {
    reserve(t, size);
    if (size > 0) {
        memcpy(t->data + t->size, bytes, size);
    }
    t->size += size;
    t->data[t->size] = '\0';
}

void text_addf(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    reserve(t, (size_t)n);
    va_start(args, format);
    (void)vsnprintf(t->data + t->size, (size_t)n + 1, format, args);
    va_end(args);
    t->size += (size_t)n;
}

nano_str text_str(const text *t) { return (nano_str){t->data == NULL ? "" : t->data, t->size}; }

/* The bytes of the character at s (Unicode 15, table 3-7), or of the longest beginning of one, at least 1. */
static size_t character(const uint8_t *s, size_t size, bool *is_whole) {
    uint8_t low = 0x80, high = 0xBF;
    size_t n = 0;
    *is_whole = s[0] < 0x80;
    if (s[0] < 0xC2 || s[0] > 0xF4) {
        return 1;
    }
    n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : low;
    high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : high;
    for (size_t i = 1; i < n; i++) {
        if (i == size || s[i] < low || s[i] > high) {
            return i;
        }
        low = 0x80;
        high = 0xBF;
    }
    *is_whole = true;
    return n;
}

void text_add_clean(text *t, const char *bytes, size_t size) {
    for (size_t i = 0; i < size;) {
        bool is_whole;
        const size_t n = character((const uint8_t *)bytes + i, size - i, &is_whole);
        text_add(t, is_whole ? bytes + i : replacement, is_whole ? n : sizeof replacement - 1);
        i += n;
    }
    reserve(t, 0);
    t->data[t->size] = '\0';
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* \xHH at the start of s: the byte, or -1. */
static int hex_escape(const char *s, size_t size) {
    const bool is_one = size >= 4 && s[0] == '\\' && s[1] == 'x' && hex_digit(s[2]) >= 0 && hex_digit(s[3]) >= 0;
    return is_one ? 16 * hex_digit(s[2]) + hex_digit(s[3]) : -1;
}

void text_add_unescaped(text *t, const char *bytes, size_t size) {
    text clean = {NULL, 0, 0}, run = {NULL, 0, 0};
    text_add_clean(&clean, bytes, size);
    const char *s = clean.data, *end = s + clean.size;
    while (s < end) {
        int byte = hex_escape(s, (size_t)(end - s));
        if (byte >= 0) {
            for (run.size = 0; byte >= 0; byte = hex_escape(s, (size_t)(end - s))) {
                const char c = (char)byte;
                text_add(&run, &c, 1);
                s += 4;
            }
            text_add_clean(t, run.data, run.size);
            continue;
        }
        static const char escapes[] = "nrt\\\"'", meanings[] = "\n\r\t\\\"'";
        const char *known = s[0] == '\\' && s + 1 < end && s[1] != '\0' ? strchr(escapes, s[1]) : NULL;
        text_add(t, known != NULL ? &meanings[known - escapes] : s, 1);
        s += known != NULL ? 2 : 1;
    }
    text_add(t, "", 0);
    text_free(&clean);
    text_free(&run);
}

void text_add_json(text *t, const char *bytes, size_t size) {
    text_add(t, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        static const char escapes[] = "bfnrt\"\\", meanings[] = "\b\f\n\r\t\"\\";
        const char c = bytes[i];
        const char *known = c != '\0' ? strchr(meanings, c) : NULL;
        if (known != NULL) {
            text_addf(t, "\\%c", escapes[known - meanings]);
        } else if ((uint8_t)c < ' ') {
            text_addf(t, "\\u%04x", (unsigned)c);
        } else {
            text_add(t, &c, 1);
        }
    }
    text_add(t, "\"", 1);
}

void text_add_bytes(text *t, uint64_t n) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    double value = (double)n;
    int unit = 0;
    for (; value >= 1024 && unit < 3; unit++) {
        value /= 1024;
    }
    if (unit == 0) {
        text_addf(t, "%" PRIu64 " B", n);
    } else {
        text_addf(t, "%.2f %s", value, units[unit]);
    }
}

/* Every line end becomes \n, and the last one goes. */
static void unify_line_ends(text *t) {
    size_t n = 0;
    for (size_t i = 0; i < t->size; i++) {
        if (t->data[i] != '\r') {
            t->data[n++] = t->data[i];
        } else if (i + 1 == t->size || t->data[i + 1] != '\n') {
            t->data[n++] = '\n';
        }
    }
    t->size = n > 0 && t->data[n - 1] == '\n' ? n - 1 : n;
}

int text_read(text *t, const char *path) {
    const bool is_stdin = strcmp(path, "-") == 0;
    const int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY);
    text raw = {NULL, 0, 0};
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0) {
        char part[4096];
        n = read(fd, part, sizeof part);
        text_add(&raw, part, n > 0 ? (size_t)n : 0);
        n = n < 0 && errno == EINTR ? 1 : n;
    }
    const int code = n < 0 ? fail(EXIT_ERROR, "%s: %s", is_stdin ? "stdin" : path, strerror(errno)) : EXIT_OK;
    if (fd >= 0 && !is_stdin) {
        (void)close(fd);
    }
    if (code == EXIT_OK) {
        unify_line_ends(&raw);
        text_add_clean(t, raw.data, raw.size);
    }
    text_free(&raw);
    return code;
}
