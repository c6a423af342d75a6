/* Files that are damaged or lie: each gives a typed error that says what is wrong, soon, and reads nothing outside. */
#include "tests/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

enum { F32 = 0, REMOVED_TYPE = 4, Q8_0 = 8, UNKNOWN_TYPE = 77 };

/* A file under construction. */
typedef struct image {
    uint8_t *data;
    size_t size;
    size_t capacity;
} image;

static void put(image *f, const void *data, size_t n) {
    if (f->size + n > f->capacity) {
        f->capacity = (f->size + n) * 2;
        f->data = realloc(f->data, f->capacity);
        if (f->data == NULL) {
            exit(1);
        }
    }
    if (n > 0) {
        memcpy(f->data + f->size, data, n);
    }
    f->size += n;
}

static void u8(image *f, uint8_t v) { put(f, &v, sizeof v); }
static void u32(image *f, uint32_t v) { put(f, &v, sizeof v); }
static void u64(image *f, uint64_t v) { put(f, &v, sizeof v); }

static void bytes(image *f, const char *data, size_t n) {
    u64(f, n);
    put(f, data, n);
}

static void text(image *f, const char *s) { bytes(f, s, strlen(s)); }

static image header(uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    image f = {NULL, 0, 0};
    put(&f, "GGUF", 4);
    u32(&f, version);
    u64(&f, n_tensors);
    u64(&f, n_keys);
    return f;
}

static void key(image *f, const char *name, uint32_t kind) {
    text(f, name);
    u32(f, kind);
}

static void array(image *f, const char *name, uint32_t item_kind, uint64_t n) {
    key(f, name, NANO_GGUF_ARRAY);
    u32(f, item_kind);
    u64(f, n);
}

static void tensor(image *f, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset) {
    text(f, name);
    u32(f, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 8; i++) {
        u64(f, ne[i]);
    }
    u32(f, type);
    u64(f, offset);
}

/* A tensor of one dim. */
static void row(image *f, const char *name, uint64_t n, uint32_t type, uint64_t offset) {
    tensor(f, name, 1, &n, type, offset);
}

/* The padding before the data, and n bytes of data. */
static void data(image *f, size_t align, size_t n) {
    while (f->size % align != 0) {
        u8(f, 0);
    }
    for (size_t i = 0; i < n; i++) {
        u8(f, (uint8_t)i);
    }
}

/* Opens the first n bytes, in memory of exactly that size, so that a sanitizer sees a read past the end. */
static nano_status open_part(const image *f, size_t n, nano_gguf **out, uint8_t **memory, nano_error *err) {
    *memory = malloc(n > 0 ? n : 1);
    if (*memory == NULL) {
        exit(1);
    }
    if (n > 0) {
        memcpy(*memory, f->data, n);
    }
    return nano_gguf_open_memory(*memory, n, "bad.gguf", out, err);
}

/* Opens the file and throws it away. */
static nano_status try_file(image f, nano_error *err) {
    nano_gguf *g = NULL;
    uint8_t *memory;
    nano_status status = open_part(&f, f.size, &g, &memory, err);
    CHECK((status == NANO_OK) == (g != NULL));
    nano_gguf_free(g);
    free(memory);
    free(f.data);
    return status;
}

#define REFUSED(status, words, f) CHECK_FAILS(status, words, try_file(f, &check_error))
#define ACCEPTED(f) CHECK_OK(try_file(f, &check_error))

/* ------------------------------------------------------------------- header */

static void test_header(void) {
    image f = {NULL, 0, 0};
    REFUSED(NANO_ERR_FORMAT, "bad.gguf: header: magic: expected 4 bytes at byte 0, found 0", f);
    f = (image){NULL, 0, 0};
    put(&f, "GGU", 3);
    REFUSED(NANO_ERR_FORMAT, "found 3", f);
    f = (image){NULL, 0, 0};
    put(&f, "ggjt\1\0\0\0", 8);
    REFUSED(NANO_ERR_FORMAT, "starts with \"ggjt\", expected \"GGUF\"", f);
    REFUSED(NANO_ERR_UNSUPPORTED, "GGUF version 1, expected 2 or 3", header(1, 0, 0));
    REFUSED(NANO_ERR_UNSUPPORTED, "GGUF version 4, expected 2 or 3", header(4, 0, 0));
    REFUSED(NANO_ERR_UNSUPPORTED, "GGUF version 0", header(0, 0, 0));
    REFUSED(NANO_ERR_UNSUPPORTED, "big-endian file (version 3)", header(UINT32_C(3) << 24, 0, 0));
    ACCEPTED(header(2, 0, 0));
    ACCEPTED(header(3, 0, 0));

    const uint64_t counts[] = {1, 2, UINT32_MAX, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        char words[64];
        snprintf(words, sizeof words, "claims %" PRIu64 " keys", counts[i]);
        REFUSED(NANO_ERR_FORMAT, words, header(3, 0, counts[i]));
        snprintf(words, sizeof words, "claims %" PRIu64 " tensors", counts[i]);
        REFUSED(NANO_ERR_FORMAT, words, header(3, counts[i], 0));
    }
    /* A count that the bytes could hold, but do not. */
    f = header(3, 0, 100);
    data(&f, 1, 1400);
    REFUSED(NANO_ERR_FORMAT, "key 1 of 100", f);
}

/* --------------------------------------------------------------------- keys */

static void test_key_names(void) {
    const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } bad[] = {
        {"", 0, "key \"\": its name is empty"},
        {"a\0b", 3, "key \"a\\x00b\": its name has a NUL"},
        {"\xff", 1, "key \"\\xff\": its name is not UTF-8"},
        {"a\xc3", 2, "not UTF-8"},            /* cut short */
        {"\xc0\x80", 2, "not UTF-8"},         /* overlong */
        {"\xe0\x9f\xbf", 3, "not UTF-8"},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 4, "not UTF-8"}, /* overlong */
        {"\xed\xa0\x80", 3, "not UTF-8"},     /* a surrogate */
        {"\xf4\x90\x80\x80", 4, "not UTF-8"}, /* past U+10FFFF */
        {"\x80", 1, "not UTF-8"},             /* a continuation alone */
        {"\xe2\x82\x41", 3, "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        image f = header(3, 0, 1);
        bytes(&f, bad[i].bytes, bad[i].size);
        u32(&f, NANO_GGUF_UINT8);
        u64(&f, 0);
        REFUSED(NANO_ERR_FORMAT, bad[i].words, f);
    }
    image f = header(3, 0, 4);
    const char *const good[] = {"a", "\xc3\xa9", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf"};
    for (size_t i = 0; i < 4; i++) {
        key(&f, good[i], NANO_GGUF_UINT8);
        u8(&f, 1);
    }
    ACCEPTED(f);

    f = header(3, 0, 3);
    for (size_t i = 0; i < 3; i++) {
        key(&f, i == 1 ? "other" : "same", NANO_GGUF_UINT8);
        u8(&f, (uint8_t)i);
    }
    REFUSED(NANO_ERR_FORMAT, "key \"same\": found twice", f);

    /* A name longer than a message is cut, and cannot write over the terminal. */
    char long_name[5000];
    memset(long_name, '\n', sizeof long_name);
    f = header(3, 0, 1);
    bytes(&f, long_name, sizeof long_name);
    u32(&f, 99);
    REFUSED(NANO_ERR_FORMAT, "\\x0a...\": kind is 99", f);
    f = header(3, 0, 1);
    u64(&f, UINT64_MAX);
    u64(&f, 0);
    REFUSED(NANO_ERR_FORMAT, "key 1 of 1: name: expected 18446744073709551615 bytes", f);
}

static void test_values(void) {
    const uint32_t kinds[] = {13, 255, UINT32_MAX, UINT32_C(1) << 31};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        image f = header(3, 0, 1);
        key(&f, "k", kinds[i]);
        u64(&f, 0);
        REFUSED(NANO_ERR_FORMAT, "key \"k\": kind is ", f);
        f = header(3, 0, 1);
        array(&f, "k", kinds[i], 0);
        REFUSED(NANO_ERR_FORMAT, "key \"k\": kind of its items is ", f);
    }
    image f = header(3, 0, 1);
    array(&f, "k", NANO_GGUF_ARRAY, 1);
    u32(&f, NANO_GGUF_UINT8);
    u64(&f, 0);
    REFUSED(NANO_ERR_UNSUPPORTED, "key \"k\": found an array of arrays", f);

    const uint64_t counts[] = {9, UINT64_C(1) << 61, (UINT64_C(1) << 61) + 1, UINT64_C(1) << 63, UINT64_MAX};
    for (uint32_t kind = 0; kind <= NANO_GGUF_FLOAT64; kind++) {
        for (size_t i = 0; i < 5 && kind != NANO_GGUF_ARRAY; i++) {
            f = header(3, 0, 1);
            array(&f, "k", kind, counts[i]);
            u64(&f, 0);
            REFUSED(NANO_ERR_FORMAT, "key \"k\": claims ", f);
        }
    }
    const uint64_t sizes[] = {1, INT64_MAX, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        f = header(3, 0, 1);
        key(&f, "k", NANO_GGUF_STRING);
        u64(&f, sizes[i]);
        REFUSED(NANO_ERR_FORMAT, "key \"k\": string: expected", f);
        f = header(3, 0, 1);
        array(&f, "k", NANO_GGUF_STRING, 2);
        text(&f, "first");
        u64(&f, sizes[i]);
        REFUSED(NANO_ERR_FORMAT, "key \"k\": string: expected", f);
    }
    f = header(3, 0, 1);
    key(&f, "flag", NANO_GGUF_BOOL);
    u8(&f, 2);
    REFUSED(NANO_ERR_FORMAT, "key \"flag\": bool is 2, expected 0 or 1", f);
    f = header(3, 0, 1);
    array(&f, "flags", NANO_GGUF_BOOL, 3);
    put(&f, "\0\1\377", 3);
    REFUSED(NANO_ERR_FORMAT, "key \"flags\": bool is 255", f);
}

static void test_alignment(void) {
    const uint32_t bad[] = {0, 1, 3, 4, 24, 48, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        image f = header(3, 0, 1);
        key(&f, "general.alignment", NANO_GGUF_UINT32);
        u32(&f, bad[i]);
        REFUSED(NANO_ERR_FORMAT, "key \"general.alignment\": found ", f);
    }
    image f = header(3, 0, 1);
    key(&f, "general.alignment", NANO_GGUF_UINT64);
    u64(&f, 32);
    REFUSED(NANO_ERR_FORMAT, "found uint64, expected uint32", f);
    f = header(3, 0, 1);
    array(&f, "general.alignment", NANO_GGUF_UINT32, 0);
    REFUSED(NANO_ERR_FORMAT, "found array, expected uint32", f);
    f = header(3, 0, 1);
    key(&f, "general.alignment", NANO_GGUF_UINT32);
    u32(&f, UINT32_C(1) << 31);
    ACCEPTED(f);
    f = header(3, 1, 1);
    key(&f, "general.alignment", NANO_GGUF_UINT32);
    u32(&f, UINT32_C(1) << 31);
    row(&f, "t", 1, F32, 0);
    data(&f, 32, 4);
    REFUSED(NANO_ERR_FORMAT, "tensor \"t\": 4 bytes at offset 0 of the data (which starts at byte 2147483648)", f);
}

/* ------------------------------------------------------------------ tensors */

/* One tensor over 256 bytes of data. */
static image one_tensor(uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset) {
    image f = header(3, 1, 0);
    tensor(&f, "t", n_dims, ne, type, offset);
    data(&f, 32, 256);
    return f;
}

static image one_row(uint64_t n, uint32_t type, uint64_t offset) { return one_tensor(1, &n, type, offset); }

static void test_shapes(void) {
    const uint64_t ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}, zero[2] = {4, 0}, large[1] = {UINT64_C(1) << 63};
    const uint64_t wraps[2] = {UINT64_C(1) << 32, UINT64_C(1) << 32}, wraps_in_bytes[2] = {UINT64_C(1) << 32, 1 << 30};
    const uint64_t wraps_to_little[3] = {UINT64_C(1) << 62, 4, 1}, too_many[1] = {1000};
    ACCEPTED(one_tensor(4, ones, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "tensor \"t\": 0 dimensions, expected 1 to 4", one_tensor(0, ones, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "5 dimensions", one_tensor(5, ones, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "4294967295 dimensions", one_tensor(UINT32_MAX, ones, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "dimension 1 is 0, expected at least 1", one_tensor(2, zero, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "dimension 0 is 9223372036854775808", one_tensor(1, large, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "2^63 elements", one_tensor(2, wraps, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "2^63 elements", one_tensor(3, wraps_to_little, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "address", one_tensor(2, wraps_in_bytes, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "4000 bytes of data, more than the whole file's", one_tensor(1, too_many, F32, 0));
    REFUSED(NANO_ERR_FORMAT, "rows of 33 elements, expected whole blocks of 32 (Q8_0)", one_row(33, Q8_0, 0));
    REFUSED(NANO_ERR_FORMAT, "rows of 1 elements", one_row(1, Q8_0, 0));
    ACCEPTED(one_row(224, Q8_0, 0)); /* 238 bytes */
    REFUSED(NANO_ERR_UNSUPPORTED, "tensor \"t\": its type has the unknown number 77", one_row(4, UNKNOWN_TYPE, 0));
    REFUSED(NANO_ERR_UNSUPPORTED, "unknown number 4", one_row(4, REMOVED_TYPE, 0));
    REFUSED(NANO_ERR_UNSUPPORTED, "unknown number 4294967295", one_row(4, UINT32_MAX, 0));
    REFUSED(NANO_ERR_UNSUPPORTED, "unknown number 2147483648", one_row(4, UINT32_C(1) << 31, 0));
}

static void test_places(void) {
    ACCEPTED(one_row(64, F32, 0));
    ACCEPTED(one_row(8, F32, 224));
    REFUSED(NANO_ERR_FORMAT, "tensor \"t\": offset 4, expected a multiple of the alignment 32", one_row(8, F32, 4));
    REFUSED(NANO_ERR_FORMAT, "expected to end within the file's", one_row(9, F32, 224));
    REFUSED(NANO_ERR_FORMAT, "expected to end within the file's", one_row(1, F32, 256));
    REFUSED(NANO_ERR_FORMAT, "expected to end within", one_row(8, F32, UINT64_C(1) << 63));
    REFUSED(NANO_ERR_FORMAT, "expected to end within", one_row(8, F32, UINT64_MAX - 31)); /* + start wraps round */
    REFUSED(NANO_ERR_FORMAT, "expected to end within", one_row(8, F32, UINT64_MAX - 127));
    const struct {
        uint64_t a, b;
        const char *words; /* NULL: fine */
    } pairs[] = {
        {0, 64, NULL}, {64, 0, NULL}, {0, 128, NULL}, {0, 0, "overlaps"}, {0, 32, "overlaps"}, {32, 0, "overlaps"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        image f = header(2, 2, 0);
        row(&f, "a", 16, F32, pairs[i].a);
        row(&f, "b", 16, F32, pairs[i].b);
        data(&f, 32, 256);
        if (pairs[i].words == NULL) {
            ACCEPTED(f);
        } else {
            REFUSED(NANO_ERR_FORMAT, pairs[i].words, f);
        }
    }
    image f = header(3, 2, 0);
    row(&f, "same", 8, F32, 0);
    row(&f, "same", 8, F32, 32);
    data(&f, 32, 64);
    REFUSED(NANO_ERR_FORMAT, "tensor \"same\": found twice", f);
    f = header(3, 1, 0);
    row(&f, "", 8, F32, 0);
    data(&f, 32, 32);
    REFUSED(NANO_ERR_FORMAT, "tensor \"\": its name is empty", f);
    f = header(3, 1, 0);
    row(&f, "\xfe", 8, F32, 0);
    data(&f, 32, 32);
    REFUSED(NANO_ERR_FORMAT, "tensor \"\\xfe\": its name is not UTF-8", f);

    f = one_row(8, F32, 0);
    uint64_t memory[128];
    CHECK(f.size + 4 <= sizeof memory);
    memcpy((uint8_t *)memory + 4, f.data, f.size);
    nano_gguf *g = NULL;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "expected a multiple of 8",
                nano_gguf_open_memory((uint8_t *)memory + 4, f.size, "m", &g, &check_error));
    free(f.data);
}

/* ---------------------------------------------------- truncation, mutation */

/* A small file with something of everything. */
static image sample(uint32_t version) {
    image f = header(version, 3, 6);
    key(&f, "general.architecture", NANO_GGUF_STRING);
    text(&f, "llama");
    key(&f, "general.alignment", NANO_GGUF_UINT32);
    u32(&f, 32);
    key(&f, "flag", NANO_GGUF_BOOL);
    u8(&f, 1);
    array(&f, "tokens", NANO_GGUF_STRING, 3);
    text(&f, "a");
    text(&f, "");
    text(&f, "bcd");
    array(&f, "scores", NANO_GGUF_FLOAT32, 3);
    data(&f, 1, 12);
    key(&f, "large", NANO_GGUF_UINT64);
    u64(&f, UINT64_MAX);
    const uint64_t ne[3] = {32, 2, 2};
    row(&f, "norm", 8, F32, 0);
    tensor(&f, "weight", 3, ne, Q8_0, 32);
    row(&f, "bias", 4, F32, 192);
    data(&f, 32, 208);
    return f;
}

/* Reads everything that an open file offers; returns a number that depends on all of it. */
static uint64_t use(const nano_gguf *g) {
    uint64_t sum = nano_gguf_version(g) + nano_gguf_alignment(g);
    for (uint64_t i = 0; i < nano_gguf_n_values(g); i++) {
        const nano_gguf_value *v = nano_gguf_value_at(g, i);
        int64_t number;
        double real;
        nano_str s;
        size_t cursor = 0;
        uint64_t n_strings = 0;
        char name[64];
        snprintf(name, sizeof name, "%.*s", v->key.size < 64 ? (int)v->key.size : 0, v->key.data);
        CHECK(nano_gguf_find(g, name) == (v->key.size < 64 ? v : NULL));
        for (uint64_t k = 0; k < v->n_items; k++) {
            sum += nano_gguf_item_int(v, k, &number) ? (uint64_t)number : 1;
            sum += nano_gguf_item_float(v, k, &real) && real > 0;
        }
        while (nano_gguf_next_str(v, &cursor, &s)) {
            n_strings++;
            for (size_t k = 0; k < s.size; k++) {
                sum += (uint8_t)s.data[k];
            }
        }
        CHECK(v->item_kind != NANO_GGUF_STRING || n_strings == v->n_items);
    }
    for (uint64_t i = 0; i < nano_gguf_n_tensors(g); i++) {
        const nano_gguf_tensor *t = nano_gguf_tensor_at(g, i);
        CHECK(nano_gguf_find_tensor(g, t->name) == t);
        CHECK((uint64_t)t->ne[0] * (uint64_t)t->ne[1] * (uint64_t)t->ne[2] * (uint64_t)t->ne[3] > 0);
        for (size_t k = 0; k < t->n_bytes; k++) {
            sum += ((const uint8_t *)t->data)[k];
        }
    }
    return sum;
}

/* Opens the first n bytes and reads all; whatever they are, this returns. */
static nano_status survive(const image *f, size_t n) {
    nano_gguf *g = NULL;
    uint8_t *memory;
    nano_error err = {NANO_OK, ""};
    nano_status status = open_part(f, n, &g, &memory, &err);
    if (status == NANO_OK) {
        (void)use(g);
    } else {
        CHECK(status == NANO_ERR_FORMAT || status == NANO_ERR_UNSUPPORTED);
        CHECK(err.status == status && strncmp(err.message, "bad.gguf: ", 10) == 0);
    }
    nano_gguf_free(g);
    free(memory);
    return status;
}

static void test_truncations(void) {
    for (uint32_t version = 2; version <= 3; version++) {
        image f = sample(version);
        for (size_t n = 0; n < f.size; n++) {
            CHECK(survive(&f, n) == NANO_ERR_FORMAT);
        }
        CHECK(survive(&f, f.size) == NANO_OK);
        u8(&f, 0); /* bytes after the last tensor are padding */
        CHECK(survive(&f, f.size) == NANO_OK);
        free(f.data);
    }
}

static uint64_t next_random(uint64_t *state) { /* xorshift64 (Marsaglia 2003) */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void test_mutations(void) {
    const uint64_t values[] = {0, 1, 7, 255, INT32_MAX, UINT32_MAX, UINT64_C(1) << 61, UINT64_C(1) << 63, UINT64_MAX};
    const image f = sample(3);
    image m = sample(3);
    size_t n_opened = 0, n_refused = 0;
    /* Each telling value written over each byte of the header and the descriptions, as 4 and as 8 bytes. */
    for (size_t at = 0; at + 8 <= f.size - 208; at++) {
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            for (size_t width = 4; width <= 8; width += 4) {
                memcpy(m.data + at, &values[i], width);
                *(survive(&m, m.size) == NANO_OK ? &n_opened : &n_refused) += 1;
                memcpy(m.data + at, f.data + at, width);
            }
        }
    }
    /* One to four random bytes, and now and then a cut. */
    uint64_t state = 20260101;
    for (int i = 0; i < 5000; i++) {
        for (uint64_t k = next_random(&state) % 4 + 1; k > 0; k--) {
            m.data[next_random(&state) % m.size] = (uint8_t)next_random(&state);
        }
        size_t n = next_random(&state) % 4 == 0 ? next_random(&state) % m.size : m.size;
        *(survive(&m, n) == NANO_OK ? &n_opened : &n_refused) += 1;
        memcpy(m.data, f.data, f.size);
    }
    CHECK(n_opened > 500 && n_refused > 5000); /* both ways were really gone */
    free(m.data);
    free(f.data);
}

/* -------------------------------------------------------------------- speed */

/* Many names that share a long beginning: sorted tables stay fast, comparing all pairs would not. */
static void test_many(void) {
    enum { N = 50000 };
    char name[64];
    image f = header(3, N, N);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "a.common.beginning.of.every.name.%" PRIu32, (i * 7919U) % N);
        key(&f, name, NANO_GGUF_UINT32);
        u32(&f, i);
    }
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "a.common.beginning.of.every.name.%" PRIu32, (i * 7919U) % N);
        row(&f, name, 8, F32, UINT64_C(32) * (i * UINT64_C(104729) % N));
    }
    data(&f, 32, (size_t)32 * N);
    clock_t start = clock();
    CHECK(survive(&f, f.size) == NANO_OK);        /* looks every tensor up */
    CHECK(clock() - start < 10 * CLOCKS_PER_SEC); /* some 0.1 s; over 20 s pair by pair */
    free(f.data);
}

int main(void) {
    test_header();
    test_key_names();
    test_values();
    test_alignment();
    test_shapes();
    test_places();
    test_truncations();
    test_mutations();
    test_many();
    return check_result();
}
