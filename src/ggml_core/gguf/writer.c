/*
 * Writes GGUF version 3. The header states both counts, so keys and tensor descriptions are gathered in memory, as
 * they will stand in the file, and written when the first data arrives; data streams through a small buffer.
 */
#include "base/arith.h"
#include "base/error.h"
#include "base/platform.h"
#include "gguf/format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    BUFFER_BYTES = 1 << 18,
    MAX_KEY_BYTES = 65535, /* the specification's limit */
    MAX_NAME_BYTES = 63    /* the specification's 64, less the NUL that readers with fixed buffers need */
};

typedef struct bytes {
    uint8_t *data;
    size_t size;
    size_t capacity;
} bytes;

/* Records that each begin with a length-prefixed name; `sorted` holds where they start, in the names' order. */
typedef struct records {
    bytes encoded;
    size_t *sorted;
    size_t n;
} records;

typedef struct pending_tensor {
    size_t name_at; /* in the encoded records */
    uint64_t n_bytes;
} pending_tensor;

typedef enum stage { STAGE_METADATA, STAGE_TENSORS, STAGE_DATA, STAGE_FINISHED, STAGE_FAILED } stage;

struct nano_gguf_writer {
    stage stage;
    char *path;
    nano_temp_file file;
    uint64_t alignment;
    records keys;
    records tensors;
    pending_tensor *pending; /* one a tensor, as declared */
    uint64_t data_bytes;     /* offset of the next tensor to declare */
    size_t current;          /* the tensor that data goes to, */
    uint64_t written;        /* and how many of its bytes came */
    uint64_t position;       /* in the file */
    size_t buffered;
    uint8_t buffer[BUFFER_BYTES];
};

/* --------------------------------------------------------- growing in memory */

static bool reserve(bytes *b, uint64_t more) {
    uint64_t needed, doubled;
    if (!nano_add_u64(b->size, more, &needed) || needed > SIZE_MAX) {
        return false;
    }
    if (needed <= b->capacity) {
        return true;
    }
    doubled = (uint64_t)b->capacity * 2;
    size_t capacity = (size_t)(doubled > needed && doubled <= SIZE_MAX ? doubled : needed);
    uint8_t *data = realloc(b->data, capacity);
    if (data == NULL) {
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

/* Appends to what `reserve` made room for. */
static void append(bytes *b, const void *data, size_t n) {
    if (n > 0) {
        memcpy(b->data + b->size, data, n);
        b->size += n;
    }
}

static void append_u32(bytes *b, uint32_t v) { append(b, &v, sizeof v); }
static void append_u64(bytes *b, uint64_t v) { append(b, &v, sizeof v); }

static void append_str(bytes *b, nano_str s) {
    append_u64(b, s.size);
    append(b, s.data, s.size);
}

static nano_str name_of(const records *r, size_t at) {
    uint64_t size;
    memcpy(&size, r->encoded.data + at, sizeof size);
    nano_str name = {(const char *)r->encoded.data + at + sizeof size, (size_t)size};
    return name;
}

/* Where `name` stands, or would stand, among the sorted; true when it is there. */
static bool search(const records *r, nano_str name, size_t *at) {
    size_t low = 0, high = r->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = nano_gguf_compare(name, name_of(r, r->sorted[middle]));
        if (order == 0) {
            *at = middle;
            return true;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    *at = low;
    return false;
}

/* Starts a record: enters and appends its name, with room for `body` more bytes, which the caller then appends.
 * On failure nothing has changed. */
static nano_status begin_record(nano_gguf_writer *w, records *r, const char *what, nano_str name, size_t max_name,
                                uint64_t body, nano_error *err) {
    char quoted[NANO_GGUF_QUOTED_SIZE];
    const char *bad = nano_gguf_bad_name(name);
    if (bad != NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %s %s: its name %s", w->path, what, nano_gguf_quote(name, quoted),
                         bad);
    }
    if (name.size > max_name) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %s %s: a name of %zu bytes, expected at most %zu", w->path, what,
                         nano_gguf_quote(name, quoted), name.size, max_name);
    }
    size_t at;
    if (search(r, name, &at)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %s %s: given before, expected once", w->path, what,
                         nano_gguf_quote(name, quoted));
    }
    uint64_t record;
    bool ok = nano_add_u64(body, sizeof(uint64_t) + name.size, &record) && reserve(&r->encoded, record);
    if (ok && (r->n & (r->n - 1)) == 0) { /* full: its capacities are the powers of two */
        size_t *sorted = realloc(r->sorted, (r->n == 0 ? 1 : 2 * r->n) * sizeof *sorted);
        ok = sorted != NULL;
        r->sorted = ok ? sorted : r->sorted;
    }
    if (!ok) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: %s %s: no memory for %" PRIu64 " bytes", w->path, what,
                         nano_gguf_quote(name, quoted), body);
    }
    memmove(r->sorted + at + 1, r->sorted + at, (r->n - at) * sizeof *r->sorted);
    r->sorted[at] = r->encoded.size;
    r->n++;
    append_str(&r->encoded, name);
    return NANO_OK;
}

/* --------------------------------------------------------------- the order */

/* Refuses a call that comes after the stage it belongs to. */
static nano_status check_stage(const nano_gguf_writer *w, stage latest, const char *call, nano_error *err) {
    static const char *const names[] = {"", "the first tensor was declared", "the first data was written",
                                        "the file was finished", "writing failed"};
    if (w->stage > latest) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %s was called after %s", w->path, call, names[w->stage]);
    }
    return NANO_OK;
}

/* ------------------------------------------------------------------- values */

static bool is_alignment_key(nano_str key) {
    nano_str alignment_key = {NANO_GGUF_ALIGNMENT_KEY, sizeof NANO_GGUF_ALIGNMENT_KEY - 1};
    return nano_gguf_compare(key, alignment_key) == 0;
}

/* Starts a value: everything up to its items, of which there will be n_bytes. */
static nano_status begin_value(nano_gguf_writer *w, nano_str key, uint32_t kind, bool is_array, uint64_t n_items,
                               uint64_t n_bytes, nano_error *err) {
    if (is_alignment_key(key) && (kind != NANO_GGUF_UINT32 || is_array)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: key \"%s\": found %s%s, expected uint32", w->path,
                         NANO_GGUF_ALIGNMENT_KEY, is_array ? "an array of " : "", nano_gguf_kind_name(kind));
    }
    uint64_t body;
    if (!nano_add_u64(n_bytes, sizeof(uint32_t) + (is_array ? sizeof(uint32_t) + sizeof(uint64_t) : 0), &body)) {
        body = UINT64_MAX; /* more than any memory, which begin_record says */
    }
    NANO_TRY(begin_record(w, &w->keys, "key", key, MAX_KEY_BYTES, body, err));
    bytes *b = &w->keys.encoded;
    append_u32(b, is_array ? NANO_GGUF_ARRAY : kind);
    if (is_array) {
        append_u32(b, kind);
        append_u64(b, n_items);
    }
    return NANO_OK;
}

static bool are_bools(const uint8_t *items, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if (items[i] > 1) {
            return false;
        }
    }
    return true;
}

static nano_status set_numbers(nano_gguf_writer *w, nano_str key, uint32_t kind, bool is_array, const void *items,
                               uint64_t n_items, nano_error *err) {
    char quoted[NANO_GGUF_QUOTED_SIZE];
    size_t item_bytes = nano_gguf_kind_bytes(kind);
    uint64_t n_bytes;
    if (item_bytes == 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: key %s: kind %" PRIu32 ", expected a number or bool", w->path,
                         nano_gguf_quote(key, quoted), kind);
    }
    if ((!is_array && n_items != 1) || (items == NULL && n_items > 0)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: key %s: %s", w->path, nano_gguf_quote(key, quoted),
                         items == NULL ? "items is NULL" : "a scalar must have one item");
    }
    if (!nano_mul_u64(n_items, item_bytes, &n_bytes) || n_bytes > SIZE_MAX) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: key %s: %" PRIu64 " items are more than memory holds", w->path,
                         nano_gguf_quote(key, quoted), n_items);
    }
    if (kind == NANO_GGUF_BOOL && !are_bools(items, n_items)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: key %s: a bool that is neither 0 nor 1", w->path,
                         nano_gguf_quote(key, quoted));
    }
    uint64_t alignment = w->alignment;
    if (is_alignment_key(key) && kind == NANO_GGUF_UINT32 && !is_array) {
        uint32_t wanted;
        memcpy(&wanted, items, sizeof wanted);
        if (!nano_gguf_is_alignment(wanted)) {
            return nano_fail(err, NANO_ERR_ARGUMENT,
                             "%s: key \"%s\": found %" PRIu32 ", expected a power of two of at least 8", w->path,
                             NANO_GGUF_ALIGNMENT_KEY, wanted);
        }
        alignment = wanted;
    }
    NANO_TRY(begin_value(w, key, kind, is_array, n_items, n_bytes, err));
    append(&w->keys.encoded, items, (size_t)n_bytes);
    w->alignment = alignment;
    return NANO_OK;
}

nano_status nano_gguf_writer_set(nano_gguf_writer *w, const char *key, nano_gguf_kind kind, bool is_array,
                                 const void *items, uint64_t n_items, nano_error *err) {
    NANO_TRY(check_stage(w, STAGE_METADATA, "nano_gguf_writer_set", err));
    nano_str name = {key, strlen(key)};
    return set_numbers(w, name, (uint32_t)kind, is_array, items, n_items, err);
}

nano_status nano_gguf_writer_set_str(nano_gguf_writer *w, const char *key, bool is_array, const nano_str *items,
                                     uint64_t n_items, nano_error *err) {
    NANO_TRY(check_stage(w, STAGE_METADATA, "nano_gguf_writer_set_str", err));
    char quoted[NANO_GGUF_QUOTED_SIZE];
    nano_str name = {key, strlen(key)};
    if ((!is_array && n_items != 1) || (items == NULL && n_items > 0)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: key %s: %s", w->path, nano_gguf_quote(name, quoted),
                         items == NULL ? "items is NULL" : "a scalar must have one item");
    }
    uint64_t n_bytes = 0;
    for (uint64_t i = 0; i < n_items; i++) {
        if ((items[i].data == NULL && items[i].size > 0) || !nano_add_u64(n_bytes, sizeof(uint64_t), &n_bytes) ||
            !nano_add_u64(n_bytes, items[i].size, &n_bytes)) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: key %s: string %" PRIu64 " is no string", w->path,
                             nano_gguf_quote(name, quoted), i);
        }
    }
    NANO_TRY(begin_value(w, name, NANO_GGUF_STRING, is_array, n_items, n_bytes, err));
    for (uint64_t i = 0; i < n_items; i++) {
        append_str(&w->keys.encoded, items[i]);
    }
    return NANO_OK;
}

nano_status nano_gguf_writer_copy(nano_gguf_writer *w, const nano_gguf_value *value, nano_error *err) {
    NANO_TRY(check_stage(w, STAGE_METADATA, "nano_gguf_writer_copy", err));
    bool is_array = value->kind == NANO_GGUF_ARRAY;
    if (value->item_kind != NANO_GGUF_STRING) {
        return set_numbers(w, value->key, (uint32_t)value->item_kind, is_array, value->data, value->n_items, err);
    }
    NANO_TRY(begin_value(w, value->key, NANO_GGUF_STRING, is_array, value->n_items, value->n_bytes, err));
    append(&w->keys.encoded, value->data, value->n_bytes);
    return NANO_OK;
}

/* ------------------------------------------------------------------ tensors */

nano_status nano_gguf_writer_tensor(nano_gguf_writer *w, const char *name, nano_type type, int32_t n_dims,
                                    const int64_t *ne, nano_error *err) {
    NANO_TRY(check_stage(w, STAGE_TENSORS, "nano_gguf_writer_tensor", err));
    char quoted[NANO_GGUF_QUOTED_SIZE], why[NANO_GGUF_WHY_SIZE];
    nano_str label = {name, strlen(name)};
    if (nano_type_block_size(type) == 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: tensor %s: its type has the unknown number %" PRId32, w->path,
                         nano_gguf_quote(label, quoted), type);
    }
    if (n_dims < 1 || n_dims > NANO_GGUF_MAX_DIMS) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: tensor %s: %" PRId32 " dimensions, expected 1 to %d", w->path,
                         nano_gguf_quote(label, quoted), n_dims, NANO_GGUF_MAX_DIMS);
    }
    pending_tensor entry = {w->tensors.encoded.size, 0};
    if (!nano_gguf_tensor_bytes(type, n_dims, ne, &entry.n_bytes, why)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: tensor %s: %s", w->path, nano_gguf_quote(label, quoted), why);
    }
    uint64_t next;
    if (!nano_add_u64(w->data_bytes, entry.n_bytes, &next) || !nano_align_u64(next, w->alignment, &next)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: tensor %s: ends past 2^64 bytes", w->path,
                         nano_gguf_quote(label, quoted));
    }
    size_t n = w->tensors.n;
    if ((n & (n - 1)) == 0) { /* full: its capacities are the powers of two */
        pending_tensor *pending = realloc(w->pending, (n == 0 ? 1 : 2 * n) * sizeof *pending);
        if (pending == NULL) {
            return nano_fail(err, NANO_ERR_MEMORY, "%s: tensor %s: no memory to declare it", w->path,
                             nano_gguf_quote(label, quoted));
        }
        w->pending = pending;
    }
    uint64_t body = sizeof(uint32_t) * 2 + sizeof(uint64_t) * ((uint64_t)n_dims + 1);
    NANO_TRY(begin_record(w, &w->tensors, "tensor", label, MAX_NAME_BYTES, body, err));
    bytes *b = &w->tensors.encoded;
    append_u32(b, (uint32_t)n_dims);
    for (int32_t i = 0; i < n_dims; i++) {
        append_u64(b, (uint64_t)ne[i]);
    }
    append_u32(b, (uint32_t)type);
    append_u64(b, w->data_bytes);
    w->pending[n] = entry;
    w->data_bytes = next;
    w->stage = STAGE_TENSORS;
    return NANO_OK;
}

/* -------------------------------------------------------------- to the file */

/* After the system has refused, the file cannot become whole: its space is given back at once. */
static nano_status fail_io(nano_gguf_writer *w, const char *why, nano_error *err) {
    w->stage = STAGE_FAILED;
    nano_temp_discard(&w->file);
    return nano_fail(err, NANO_ERR_IO, "%s: cannot write at byte %" PRIu64 ": %s", w->path, w->position, why);
}

static nano_status put_through(nano_gguf_writer *w, const void *data, size_t n, nano_error *err) {
    const char *why = NULL;
    if (!nano_temp_write(&w->file, data, n, &why)) {
        return fail_io(w, why, err);
    }
    w->position += n;
    return NANO_OK;
}

static nano_status flush(nano_gguf_writer *w, nano_error *err) {
    NANO_TRY(put_through(w, w->buffer, w->buffered, err));
    w->buffered = 0;
    return NANO_OK;
}

static nano_status put(nano_gguf_writer *w, const void *data, size_t n, nano_error *err) {
    if (n > BUFFER_BYTES - w->buffered) {
        NANO_TRY(flush(w, err));
        if (n >= BUFFER_BYTES) {
            return put_through(w, data, n, err);
        }
    }
    if (n > 0) {
        memcpy(w->buffer + w->buffered, data, n);
        w->buffered += n;
    }
    return NANO_OK;
}

/* Zeros up to the next multiple of the alignment. */
static nano_status pad(nano_gguf_writer *w, nano_error *err) {
    static const uint8_t zeros[4096];
    uint64_t misfit = (w->position + w->buffered) & (w->alignment - 1);
    uint64_t left = misfit == 0 ? 0 : w->alignment - misfit;
    while (left > 0) {
        size_t piece = left < sizeof zeros ? (size_t)left : sizeof zeros;
        NANO_TRY(put(w, zeros, piece, err));
        left -= piece;
    }
    return NANO_OK;
}

/* Writes all that stands before the data, once. */
static nano_status put_header(nano_gguf_writer *w, nano_error *err) {
    if (w->stage == STAGE_DATA) {
        return NANO_OK;
    }
    uint32_t version = NANO_GGUF_VERSION;
    uint64_t counts[2] = {w->tensors.n, w->keys.n};
    NANO_TRY(put(w, NANO_GGUF_MAGIC, 4, err));
    NANO_TRY(put(w, &version, sizeof version, err));
    NANO_TRY(put(w, counts, sizeof counts, err));
    NANO_TRY(put(w, w->keys.encoded.data, w->keys.encoded.size, err));
    NANO_TRY(put(w, w->tensors.encoded.data, w->tensors.encoded.size, err));
    if (w->tensors.n > 0) {
        NANO_TRY(pad(w, err));
    }
    w->stage = STAGE_DATA;
    return NANO_OK;
}

nano_status nano_gguf_writer_write(nano_gguf_writer *w, const void *data, size_t n_bytes, nano_error *err) {
    NANO_TRY(check_stage(w, STAGE_DATA, "nano_gguf_writer_write", err));
    if (n_bytes == 0) {
        return NANO_OK;
    }
    if (data == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: nano_gguf_writer_write: data is NULL", w->path);
    }
    if (w->current == w->tensors.n) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %zu bytes of data after the last of %zu tensors", w->path,
                         n_bytes, w->tensors.n);
    }
    const pending_tensor *t = &w->pending[w->current];
    if (n_bytes > t->n_bytes - w->written) {
        char quoted[NANO_GGUF_QUOTED_SIZE];
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: tensor %s: %zu bytes of data, expected at most %" PRIu64 " more",
                         w->path, nano_gguf_quote(name_of(&w->tensors, t->name_at), quoted), n_bytes,
                         t->n_bytes - w->written);
    }
    NANO_TRY(put_header(w, err));
    NANO_TRY(put(w, data, n_bytes, err));
    w->written += n_bytes;
    if (w->written == t->n_bytes) {
        NANO_TRY(pad(w, err)); /* after the last one too: some readers expect whole units of the alignment */
        w->current++;
        w->written = 0;
    }
    return NANO_OK;
}

nano_status nano_gguf_writer_finish(nano_gguf_writer *w, nano_error *err) {
    NANO_TRY(check_stage(w, STAGE_DATA, "nano_gguf_writer_finish", err));
    if (w->current < w->tensors.n) {
        char quoted[NANO_GGUF_QUOTED_SIZE];
        const pending_tensor *t = &w->pending[w->current];
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: tensor %s: %" PRIu64 " of its %" PRIu64 " bytes were written",
                         w->path, nano_gguf_quote(name_of(&w->tensors, t->name_at), quoted), w->written, t->n_bytes);
    }
    NANO_TRY(put_header(w, err));
    NANO_TRY(flush(w, err));
    const char *why = NULL;
    if (!nano_temp_commit(&w->file, &why)) {
        return fail_io(w, why, err);
    }
    w->stage = STAGE_FINISHED;
    return NANO_OK;
}

/* ------------------------------------------------------------- open and free */

nano_status nano_gguf_writer_open(const char *path, nano_gguf_writer **out, nano_error *err) {
    if (path == NULL || out == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "nano_gguf_writer_open: path or out is NULL");
    }
    nano_gguf_writer *w = calloc(1, sizeof *w);
    size_t n = strlen(path) + 1;
    char *copy = malloc(n);
    if (w == NULL || copy == NULL) {
        free(copy);
        free(w);
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory to write it", path);
    }
    memcpy(copy, path, n);
    w->path = copy;
    w->alignment = NANO_GGUF_DEFAULT_ALIGNMENT;
    const char *why = NULL;
    if (!nano_temp_open(path, &w->file, &why)) {
        free(w->path);
        free(w);
        return nano_fail(err, NANO_ERR_IO, "%s: cannot create a file beside it: %s", path, why);
    }
    *out = w;
    return NANO_OK;
}

void nano_gguf_writer_free(nano_gguf_writer *w) {
    if (w == NULL) {
        return;
    }
    nano_temp_discard(&w->file);
    free(w->pending);
    free(w->tensors.sorted);
    free(w->tensors.encoded.data);
    free(w->keys.sorted);
    free(w->keys.encoded.data);
    free(w->path);
    free(w);
}
