/*
 * A GGUF file, mapped. Everything in it is checked once, at open, so that look-ups afterwards trust what they find.
 *
 * Memory is bounded by the file: tables grow with what has really been read, never with what a header claims.
 * Time is O(n log n) in the number of keys and tensors whatever their names: sorted tables, because a hash table's
 * collisions would be the file's to choose.
 */
#include "base/arith.h"
#include "base/error.h"
#include "base/platform.h"
#include "gguf/format.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nano_gguf {
    nano_mapping mapping; /* empty when the memory is the caller's */
    const uint8_t *data;
    size_t size;
    char *path;
    uint32_t version;
    uint64_t alignment;
    uint64_t n_values;
    nano_gguf_value *values;        /* in file order */
    const nano_gguf_value **by_key; /* sorted by key */
    uint64_t n_tensors;
    nano_gguf_tensor *tensors;
    const nano_gguf_tensor **by_name;
    char *names; /* every tensor's name, NUL-terminated */
};

/* Where in the file the parser is, for reading and for messages. */
typedef struct parser {
    nano_gguf *gguf;
    size_t at;
    const char *section; /* "header", "key", "tensor" */
    uint64_t index;      /* of the key or tensor, */
    uint64_t count;      /* of so many; 0: not counted */
    nano_str name;       /* once it is known */
    nano_error *err;
} parser;

/* ----------------------------------------------------------------- messages */

static nano_status fail(const parser *p, nano_status status, const char *format, ...) NANO_PRINTF(3, 4);

static nano_status fail(const parser *p, nano_status status, const char *format, ...) {
    char detail[320], where[NANO_GGUF_QUOTED_SIZE + 64], quoted[NANO_GGUF_QUOTED_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    if (p->name.data != NULL) {
        (void)snprintf(where, sizeof where, "%s %s", p->section, nano_gguf_quote(p->name, quoted));
    } else if (p->count > 0) {
        (void)snprintf(where, sizeof where, "%s %" PRIu64 " of %" PRIu64, p->section, p->index + 1, p->count);
    } else {
        (void)snprintf(where, sizeof where, "%s", p->section);
    }
    return nano_fail(p->err, status, "%s: %s: %s", p->gguf->path, where, detail);
}

/* ------------------------------------------------------------------ reading */

static uint64_t bytes_left(const parser *p) { return p->gguf->size - p->at; }

static nano_status take(parser *p, uint64_t n, const char *what, const uint8_t **out) {
    if (n > bytes_left(p)) {
        (void)fail(p, NANO_ERR_FORMAT,
                   "%s: expected %" PRIu64 " bytes at byte %zu, found %" PRIu64 " before the end of the file", what, n,
                   p->at, bytes_left(p));
        return NANO_ERR_FORMAT; /* a constant, from which compilers see that *out is set on NANO_OK */
    }
    *out = p->gguf->data + p->at;
    p->at += (size_t)n;
    return NANO_OK;
}

static nano_status take_u32(parser *p, const char *what, uint32_t *out) {
    const uint8_t *data;
    NANO_TRY(take(p, sizeof *out, what, &data));
    memcpy(out, data, sizeof *out);
    return NANO_OK;
}

static nano_status take_u64(parser *p, const char *what, uint64_t *out) {
    const uint8_t *data;
    NANO_TRY(take(p, sizeof *out, what, &data));
    memcpy(out, data, sizeof *out);
    return NANO_OK;
}

static nano_status take_str(parser *p, const char *what, nano_str *out) {
    uint64_t size;
    const uint8_t *data;
    NANO_TRY(take_u64(p, what, &size));
    NANO_TRY(take(p, size, what, &data));
    out->data = (const char *)data;
    out->size = (size_t)size;
    return NANO_OK;
}

/* Reads a key or a tensor's name, by which messages then speak of it. */
static nano_status take_name(parser *p, nano_str *out) {
    NANO_TRY(take_str(p, "name", out));
    p->name = *out;
    const char *bad = nano_gguf_bad_name(*out);
    return bad == NULL ? NANO_OK : fail(p, NANO_ERR_FORMAT, "its name %s", bad);
}

static nano_status take_kind(parser *p, const char *what, nano_gguf_kind *out) {
    uint32_t kind;
    NANO_TRY(take_u32(p, what, &kind));
    if (nano_gguf_kind_name(kind) == NULL) {
        return fail(p, NANO_ERR_FORMAT, "%s is %" PRIu32 ", expected 0 to %d", what, kind, NANO_GGUF_FLOAT64);
    }
    *out = (nano_gguf_kind)kind;
    return NANO_OK;
}

/* Refuses a count of things, each at least `least` bytes, that the rest of the file cannot hold. */
static nano_status check_count(const parser *p, uint64_t n, uint64_t least, const char *what) {
    if (n > bytes_left(p) / least) {
        return fail(p, NANO_ERR_FORMAT,
                    "claims %" PRIu64 " %s of at least %" PRIu64 " bytes, found %" PRIu64
                    " bytes before the end of the file",
                    n, what, least, bytes_left(p));
    }
    return NANO_OK;
}

/* Makes room for one more in a table of n items of `size` bytes whose capacities are the powers of two; NULL when
 * memory is out, and the table is as it was. */
static void *grow(void *table, uint64_t n, size_t size) {
    if ((n & (n - 1)) != 0) {
        return table;
    }
    uint64_t n_bytes;
    if (!nano_mul_u64(n == 0 ? 1 : 2 * n, size, &n_bytes) || n_bytes > SIZE_MAX) {
        return NULL;
    }
    return realloc(table, (size_t)n_bytes);
}

/* ------------------------------------------------------------------- values */

static nano_status skip_strings(parser *p, uint64_t n) {
    NANO_TRY(check_count(p, n, sizeof(uint64_t), "strings"));
    for (uint64_t i = 0; i < n; i++) {
        nano_str ignored;
        NANO_TRY(take_str(p, "string", &ignored));
    }
    return NANO_OK;
}

static nano_status check_bools(const parser *p, const nano_gguf_value *value) {
    for (size_t i = 0; i < value->n_bytes; i++) {
        if (value->data[i] > 1) {
            return fail(p, NANO_ERR_FORMAT, "bool is %u, expected 0 or 1", value->data[i]);
        }
    }
    return NANO_OK;
}

static nano_status check_alignment(parser *p, const nano_gguf_value *value) {
    uint32_t alignment;
    if (value->kind != NANO_GGUF_UINT32) {
        return fail(p, NANO_ERR_FORMAT, "found %s, expected uint32", nano_gguf_kind_name(value->kind));
    }
    memcpy(&alignment, value->data, sizeof alignment);
    if (!nano_gguf_is_alignment(alignment)) {
        return fail(p, NANO_ERR_FORMAT, "found %" PRIu32 ", expected a power of two of at least 8", alignment);
    }
    p->gguf->alignment = alignment;
    return NANO_OK;
}

static nano_status parse_value(parser *p, nano_gguf_value *value) {
    NANO_TRY(take_name(p, &value->key));
    NANO_TRY(take_kind(p, "kind", &value->kind));
    value->item_kind = value->kind;
    value->n_items = 1;
    if (value->kind == NANO_GGUF_ARRAY) {
        NANO_TRY(take_kind(p, "kind of its items", &value->item_kind));
        if (value->item_kind == NANO_GGUF_ARRAY) {
            return fail(p, NANO_ERR_UNSUPPORTED, "found an array of arrays, expected an array of numbers or strings");
        }
        NANO_TRY(take_u64(p, "number of items", &value->n_items));
    }
    size_t start = p->at;
    if (value->item_kind == NANO_GGUF_STRING) {
        NANO_TRY(skip_strings(p, value->n_items));
    } else {
        size_t item_bytes = nano_gguf_kind_bytes(value->item_kind);
        const uint8_t *ignored;
        NANO_TRY(check_count(p, value->n_items, item_bytes, "items"));
        NANO_TRY(take(p, value->n_items * item_bytes, "value", &ignored));
    }
    value->data = p->gguf->data + start;
    value->n_bytes = p->at - start;
    if (value->item_kind == NANO_GGUF_BOOL) {
        NANO_TRY(check_bools(p, value));
    }
    nano_str alignment_key = {NANO_GGUF_ALIGNMENT_KEY, sizeof NANO_GGUF_ALIGNMENT_KEY - 1};
    return nano_gguf_compare(value->key, alignment_key) == 0 ? check_alignment(p, value) : NANO_OK;
}

static int order_by_key(const void *a, const void *b) {
    const nano_gguf_value *const *x = a, *const *y = b;
    return nano_gguf_compare((*x)->key, (*y)->key);
}

static nano_status index_values(parser *p) {
    nano_gguf *g = p->gguf;
    if (g->n_values == 0) {
        return NANO_OK;
    }
    g->by_key = malloc((size_t)g->n_values * sizeof *g->by_key); /* smaller than `values`: cannot overflow */
    if (g->by_key == NULL) {
        return fail(p, NANO_ERR_MEMORY, "no memory for %" PRIu64 " keys", g->n_values);
    }
    for (uint64_t i = 0; i < g->n_values; i++) {
        g->by_key[i] = &g->values[i];
    }
    qsort(g->by_key, (size_t)g->n_values, sizeof *g->by_key, order_by_key);
    for (uint64_t i = 1; i < g->n_values; i++) {
        if (order_by_key(&g->by_key[i - 1], &g->by_key[i]) == 0) {
            p->name = g->by_key[i]->key;
            return fail(p, NANO_ERR_FORMAT, "found twice, expected once");
        }
    }
    return NANO_OK;
}

static nano_status parse_values(parser *p, uint64_t n) {
    nano_gguf *g = p->gguf;
    p->section = "key";
    p->count = n;
    for (uint64_t i = 0; i < n; i++) {
        p->index = i;
        p->name.data = NULL;
        nano_gguf_value *values = grow(g->values, i, sizeof *values);
        if (values == NULL) {
            return fail(p, NANO_ERR_MEMORY, "no memory for the table of keys");
        }
        g->values = values;
        NANO_TRY(parse_value(p, &values[i]));
        g->n_values = i + 1;
    }
    return index_values(p);
}

/* ------------------------------------------------------------------ tensors */

/* Leaves in `offset` what the file says: relative to the start of the data. */
static nano_status parse_tensor(parser *p, nano_gguf_tensor *tensor, nano_str *name) {
    NANO_TRY(take_name(p, name));
    uint32_t n_dims, type;
    NANO_TRY(take_u32(p, "number of dimensions", &n_dims));
    if (n_dims < 1 || n_dims > NANO_GGUF_MAX_DIMS) {
        return fail(p, NANO_ERR_FORMAT, "%" PRIu32 " dimensions, expected 1 to %d", n_dims, NANO_GGUF_MAX_DIMS);
    }
    tensor->n_dims = (int32_t)n_dims;
    for (uint32_t i = 0; i < NANO_GGUF_MAX_DIMS; i++) {
        uint64_t n = 1;
        if (i < n_dims) {
            NANO_TRY(take_u64(p, "dimensions", &n));
            if (n > INT64_MAX) {
                return fail(p, NANO_ERR_FORMAT, "dimension %" PRIu32 " is %" PRIu64 ", expected below 2^63", i, n);
            }
        }
        tensor->ne[i] = (int64_t)n;
    }
    NANO_TRY(take_u32(p, "type", &type));
    if (type > INT32_MAX || nano_type_block_size((nano_type)type) == 0) {
        return fail(p, NANO_ERR_UNSUPPORTED, "its type has the unknown number %" PRIu32, type);
    }
    tensor->type = (nano_type)type;
    NANO_TRY(take_u64(p, "offset", &tensor->offset));
    uint64_t n_bytes;
    char why[NANO_GGUF_WHY_SIZE];
    if (!nano_gguf_tensor_bytes(tensor->type, tensor->n_dims, tensor->ne, &n_bytes, why)) {
        return fail(p, NANO_ERR_FORMAT, "%s", why);
    }
    if (n_bytes > p->gguf->size) {
        return fail(p, NANO_ERR_FORMAT, "%" PRIu64 " bytes of data, more than the whole file's %zu", n_bytes,
                    p->gguf->size);
    }
    tensor->n_bytes = (size_t)n_bytes;
    return NANO_OK;
}

/* Gives every tensor a NUL-terminated name. Until then `name` points at the bytes in the file, right after their
 * length. */
static nano_status copy_names(parser *p, size_t total_bytes) {
    nano_gguf *g = p->gguf;
    g->names = malloc(total_bytes);
    if (g->names == NULL) {
        return fail(p, NANO_ERR_MEMORY, "no memory for %" PRIu64 " names", g->n_tensors);
    }
    char *to = g->names;
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        uint64_t size;
        memcpy(&size, g->tensors[i].name - sizeof size, sizeof size);
        memcpy(to, g->tensors[i].name, (size_t)size);
        to[size] = '\0';
        g->tensors[i].name = to;
        to += size + 1;
    }
    return NANO_OK;
}

static nano_str tensor_name(const nano_gguf_tensor *tensor) {
    nano_str name = {tensor->name, strlen(tensor->name)};
    return name;
}

static int order_by_name(const void *a, const void *b) {
    const nano_gguf_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int order_by_offset(const void *a, const void *b) {
    const nano_gguf_tensor *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* Turns offsets into places in the file, and checks that each tensor is inside, aligned and alone. */
static nano_status place_tensors(parser *p) {
    nano_gguf *g = p->gguf;
    uint64_t start;
    if (!nano_align_u64(p->at, g->alignment, &start)) {
        return fail(p, NANO_ERR_FORMAT, "the data would start past 2^64");
    }
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        nano_gguf_tensor *t = &g->tensors[i];
        p->name = tensor_name(t);
        if ((t->offset & (g->alignment - 1)) != 0) {
            return fail(p, NANO_ERR_FORMAT, "offset %" PRIu64 ", expected a multiple of the alignment %" PRIu64,
                        t->offset, g->alignment);
        }
        uint64_t offset, end;
        if (!nano_add_u64(start, t->offset, &offset) || !nano_add_u64(offset, t->n_bytes, &end) || end > g->size) {
            return fail(p, NANO_ERR_FORMAT,
                        "%zu bytes at offset %" PRIu64 " of the data (which starts at byte %" PRIu64
                        "), expected to end within the file's %zu bytes",
                        t->n_bytes, t->offset, start, g->size);
        }
        t->offset = offset;
        t->data = g->data + (size_t)offset;
        g->by_name[i] = t;
    }
    qsort(g->by_name, (size_t)g->n_tensors, sizeof *g->by_name, order_by_offset);
    for (uint64_t i = 1; i < g->n_tensors; i++) {
        const nano_gguf_tensor *before = g->by_name[i - 1], *t = g->by_name[i];
        if (t->offset - before->offset < before->n_bytes) {
            char quoted[NANO_GGUF_QUOTED_SIZE];
            p->name = tensor_name(t);
            return fail(p, NANO_ERR_FORMAT,
                        "its data at byte %" PRIu64 " overlaps tensor %s, expected to start after it", t->offset,
                        nano_gguf_quote(tensor_name(before), quoted));
        }
    }
    return NANO_OK;
}

static nano_status index_tensors(parser *p) {
    nano_gguf *g = p->gguf;
    if (g->n_tensors == 0) {
        return NANO_OK;
    }
    if ((uintptr_t)g->data % 8 != 0) {
        return fail(p, NANO_ERR_ARGUMENT, "the file's memory starts at %p, expected a multiple of 8",
                    (const void *)g->data);
    }
    g->by_name = malloc((size_t)g->n_tensors * sizeof *g->by_name); /* smaller than `tensors`: cannot overflow */
    if (g->by_name == NULL) {
        return fail(p, NANO_ERR_MEMORY, "no memory for %" PRIu64 " tensors", g->n_tensors);
    }
    NANO_TRY(place_tensors(p));
    qsort(g->by_name, (size_t)g->n_tensors, sizeof *g->by_name, order_by_name);
    for (uint64_t i = 1; i < g->n_tensors; i++) {
        if (order_by_name(&g->by_name[i - 1], &g->by_name[i]) == 0) {
            p->name = tensor_name(g->by_name[i]);
            return fail(p, NANO_ERR_FORMAT, "found twice, expected once");
        }
    }
    return NANO_OK;
}

static nano_status parse_tensors(parser *p, uint64_t n) {
    nano_gguf *g = p->gguf;
    size_t names_bytes = 0; /* below the file's size: each name stands in it with 8 bytes of length */
    p->section = "tensor";
    p->count = n;
    for (uint64_t i = 0; i < n; i++) {
        p->index = i;
        p->name.data = NULL;
        nano_gguf_tensor *tensors = grow(g->tensors, i, sizeof *tensors);
        if (tensors == NULL) {
            return fail(p, NANO_ERR_MEMORY, "no memory for the table of tensors");
        }
        g->tensors = tensors;
        nano_str name;
        NANO_TRY(parse_tensor(p, &tensors[i], &name));
        tensors[i].name = name.data;
        names_bytes += name.size + 1;
        g->n_tensors = i + 1;
    }
    p->name.data = NULL;
    p->count = 0;
    NANO_TRY(n == 0 ? NANO_OK : copy_names(p, names_bytes));
    return index_tensors(p);
}

/* --------------------------------------------------------------------- open */

static nano_status parse_version(parser *p) {
    uint32_t version;
    NANO_TRY(take_u32(p, "version", &version));
    if (version < NANO_GGUF_OLDEST_VERSION || version > NANO_GGUF_VERSION) {
        if (version != 0 && (version & 0xffffff) == 0) {
            return fail(p, NANO_ERR_UNSUPPORTED, "a big-endian file (version %" PRIu32 "), expected little-endian",
                        version >> 24);
        }
        return fail(p, NANO_ERR_UNSUPPORTED, "GGUF version %" PRIu32 ", expected %d or %d", version,
                    NANO_GGUF_OLDEST_VERSION, NANO_GGUF_VERSION);
    }
    p->gguf->version = version;
    return NANO_OK;
}

static nano_status parse(nano_gguf *g, nano_error *err) {
    parser p = {g, 0, "header", 0, 0, {NULL, 0}, err};
    const uint8_t *magic;
    NANO_TRY(take(&p, 4, "magic", &magic));
    if (memcmp(magic, NANO_GGUF_MAGIC, 4) != 0) {
        nano_str found = {(const char *)magic, 4};
        char quoted[NANO_GGUF_QUOTED_SIZE];
        return fail(&p, NANO_ERR_FORMAT, "starts with %s, expected \"%s\": not a GGUF file",
                    nano_gguf_quote(found, quoted), NANO_GGUF_MAGIC);
    }
    NANO_TRY(parse_version(&p));
    uint64_t n_tensors, n_values;
    NANO_TRY(take_u64(&p, "number of tensors", &n_tensors));
    NANO_TRY(take_u64(&p, "number of keys", &n_values));
    /* The shortest key: length, one character, kind, one byte. Tensor: length, one character, dims, one dim, type,
     * offset. */
    NANO_TRY(check_count(&p, n_values, 8 + 1 + 4 + 1, "keys"));
    NANO_TRY(check_count(&p, n_tensors, 8 + 1 + 4 + 8 + 4 + 8, "tensors"));
    NANO_TRY(parse_values(&p, n_values));
    return parse_tensors(&p, n_tensors);
}

static nano_gguf *new_gguf(const char *path) {
    nano_gguf *g = calloc(1, sizeof *g);
    size_t n = strlen(path) + 1;
    char *copy = malloc(n);
    if (g == NULL || copy == NULL) {
        free(copy);
        free(g);
        return NULL;
    }
    memcpy(copy, path, n);
    g->path = copy;
    g->alignment = NANO_GGUF_DEFAULT_ALIGNMENT;
    return g;
}

/* Parses; owns `g` until it succeeds. */
static nano_status open_mapped(nano_gguf *g, nano_gguf **out, nano_error *err) {
    nano_status status = parse(g, err);
    if (status != NANO_OK) {
        nano_gguf_free(g);
        return status;
    }
    *out = g;
    return NANO_OK;
}

nano_status nano_gguf_open(const char *path, nano_gguf **out, nano_error *err) {
    if (path == NULL || out == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "nano_gguf_open: path or out is NULL");
    }
    nano_gguf *g = new_gguf(path);
    if (g == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory to open it", path);
    }
    const char *why = NULL;
    if (!nano_map_file(path, &g->mapping, &why)) {
        nano_gguf_free(g);
        return nano_fail(err, NANO_ERR_IO, "%s: %s", path, why);
    }
    g->data = g->mapping.data;
    g->size = g->mapping.size;
    return open_mapped(g, out, err);
}

nano_status nano_gguf_open_memory(const void *data, size_t size, const char *name, nano_gguf **out, nano_error *err) {
    if ((data == NULL && size > 0) || name == NULL || out == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "nano_gguf_open_memory: data, name or out is NULL");
    }
    nano_gguf *g = new_gguf(name);
    if (g == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory to open it", name);
    }
    g->data = data;
    g->size = size;
    return open_mapped(g, out, err);
}

void nano_gguf_free(nano_gguf *g) {
    if (g == NULL) {
        return;
    }
    nano_unmap_file(&g->mapping);
    free(g->names);
    free(g->by_name);
    free(g->tensors);
    free(g->by_key);
    free(g->values);
    free(g->path);
    free(g);
}

void nano_gguf_forget(const nano_gguf *g, const void *data, size_t size) {
    if (g->mapping.data != NULL && size > 0) {
        nano_forget_pages(data, size);
    }
}

/* ----------------------------------------------------------------- look-ups */

const char *nano_gguf_path(const nano_gguf *g) { return g->path; }
uint32_t nano_gguf_version(const nano_gguf *g) { return g->version; }
uint64_t nano_gguf_file_size(const nano_gguf *g) { return g->size; }
uint64_t nano_gguf_alignment(const nano_gguf *g) { return g->alignment; }
uint64_t nano_gguf_n_values(const nano_gguf *g) { return g->n_values; }
uint64_t nano_gguf_n_tensors(const nano_gguf *g) { return g->n_tensors; }

const nano_gguf_value *nano_gguf_value_at(const nano_gguf *g, uint64_t i) {
    return i < g->n_values ? &g->values[i] : NULL;
}

const nano_gguf_tensor *nano_gguf_tensor_at(const nano_gguf *g, uint64_t i) {
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const nano_gguf_value *nano_gguf_find(const nano_gguf *g, const char *key) {
    nano_str wanted = {key, strlen(key)};
    uint64_t low = 0, high = g->n_values;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = nano_gguf_compare(wanted, g->by_key[middle]->key);
        if (order == 0) {
            return g->by_key[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const nano_gguf_tensor *nano_gguf_find_tensor(const nano_gguf *g, const char *name) {
    uint64_t low = 0, high = g->n_tensors;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = strcmp(name, g->by_name[middle]->name);
        if (order == 0) {
            return g->by_name[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

/* -------------------------------------------------------------------- items */

/* Reads item i, an unaligned little-endian number of type `c_type`, into *out. */
#define ITEM_AS(c_type)                                            \
    do {                                                           \
        c_type item;                                               \
        memcpy(&item, value->data + i * sizeof item, sizeof item); \
        *out = item;                                               \
    } while (0)

bool nano_gguf_item_int(const nano_gguf_value *value, uint64_t i, int64_t *out) {
    if (value == NULL || i >= value->n_items) {
        return false;
    }
    switch (value->item_kind) {
        case NANO_GGUF_UINT8:
        case NANO_GGUF_BOOL: ITEM_AS(uint8_t); return true;
        case NANO_GGUF_INT8: ITEM_AS(int8_t); return true;
        case NANO_GGUF_UINT16: ITEM_AS(uint16_t); return true;
        case NANO_GGUF_INT16: ITEM_AS(int16_t); return true;
        case NANO_GGUF_UINT32: ITEM_AS(uint32_t); return true;
        case NANO_GGUF_INT32: ITEM_AS(int32_t); return true;
        case NANO_GGUF_INT64: ITEM_AS(int64_t); return true;
        case NANO_GGUF_UINT64:
            if ((value->data[i * 8 + 7] & 0x80) != 0) {
                return false; /* past INT64_MAX */
            }
            ITEM_AS(int64_t);
            return true;
        case NANO_GGUF_FLOAT32:
        case NANO_GGUF_FLOAT64:
        case NANO_GGUF_STRING:
        case NANO_GGUF_ARRAY: return false;
    }
    return false;
}

bool nano_gguf_item_float(const nano_gguf_value *value, uint64_t i, double *out) {
    if (value == NULL || i >= value->n_items) {
        return false;
    }
    switch (value->item_kind) {
        case NANO_GGUF_UINT8: ITEM_AS(uint8_t); return true;
        case NANO_GGUF_INT8: ITEM_AS(int8_t); return true;
        case NANO_GGUF_UINT16: ITEM_AS(uint16_t); return true;
        case NANO_GGUF_INT16: ITEM_AS(int16_t); return true;
        case NANO_GGUF_UINT32: ITEM_AS(uint32_t); return true;
        case NANO_GGUF_INT32: ITEM_AS(int32_t); return true;
        case NANO_GGUF_UINT64: ITEM_AS(uint64_t); return true;
        case NANO_GGUF_INT64: ITEM_AS(int64_t); return true;
        case NANO_GGUF_FLOAT32: ITEM_AS(float); return true;
        case NANO_GGUF_FLOAT64: ITEM_AS(double); return true;
        case NANO_GGUF_BOOL:
        case NANO_GGUF_STRING:
        case NANO_GGUF_ARRAY: return false;
    }
    return false;
}

bool nano_gguf_next_str(const nano_gguf_value *value, size_t *cursor, nano_str *out) {
    if (value == NULL || value->item_kind != NANO_GGUF_STRING || *cursor >= value->n_bytes) {
        return false;
    }
    uint64_t size;
    memcpy(&size, value->data + *cursor, sizeof size);
    out->data = (const char *)value->data + *cursor + sizeof size;
    out->size = (size_t)size;
    *cursor += sizeof size + (size_t)size;
    return true;
}

/* ----------------------------------------------------------- typed look-ups */

static nano_status find_value(const nano_gguf *g, const char *key, const nano_gguf_value **out, nano_error *err) {
    *out = nano_gguf_find(g, key);
    return *out != NULL ? NANO_OK : nano_fail(err, NANO_ERR_NOT_FOUND, "%s: key \"%s\" is missing", g->path, key);
}

static nano_status fail_kind(const nano_gguf *g, const nano_gguf_value *value, const char *expected, nano_error *err) {
    char quoted[NANO_GGUF_QUOTED_SIZE];
    bool is_array = value->kind == NANO_GGUF_ARRAY;
    return nano_fail(err, NANO_ERR_FORMAT, "%s: key %s: found %s%s, expected %s", g->path,
                     nano_gguf_quote(value->key, quoted), is_array ? "an array of " : "",
                     nano_gguf_kind_name(value->item_kind), expected);
}

nano_status nano_gguf_get_int(const nano_gguf *g, const char *key, int64_t *out, nano_error *err) {
    const nano_gguf_value *value;
    NANO_TRY(find_value(g, key, &value, err));
    if (value->kind == NANO_GGUF_ARRAY || !nano_gguf_item_int(value, 0, out)) {
        return fail_kind(g, value, value->kind == NANO_GGUF_UINT64 ? "a value below 2^63" : "an integer", err);
    }
    return NANO_OK;
}

nano_status nano_gguf_get_float(const nano_gguf *g, const char *key, double *out, nano_error *err) {
    const nano_gguf_value *value;
    NANO_TRY(find_value(g, key, &value, err));
    if (value->kind == NANO_GGUF_ARRAY || !nano_gguf_item_float(value, 0, out)) {
        return fail_kind(g, value, "a number", err);
    }
    return NANO_OK;
}

nano_status nano_gguf_get_str(const nano_gguf *g, const char *key, nano_str *out, nano_error *err) {
    const nano_gguf_value *value;
    size_t cursor = 0;
    NANO_TRY(find_value(g, key, &value, err));
    if (value->kind != NANO_GGUF_STRING || !nano_gguf_next_str(value, &cursor, out)) {
        return fail_kind(g, value, "a string", err);
    }
    return NANO_OK;
}
