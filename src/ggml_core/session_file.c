/*
 * A slot's positions in a file. Layout, all numbers little endian:
 *
 *      0  8  "NANOKV\r\n"
 *      8  4  version
 *     12  4  n tokens
 *     16  8  the model's fingerprint
 *     24  4  type of the keys
 *     28  4  type of the values
 *     32 16  kernel level, filled up with zeros
 *     48  4  1: made by a deterministic session
 *     52  4  nodes that a device ran, 0: none
 *     56     n token ids, 4 bytes each
 *            the cache's rows of n positions, run by run as nano_session_next_run gives them
 *   last  8  hash of all bytes before, of the rows by pieces of 16 KiB of a run
 *
 * Every size follows from the plan and n, so a file has exactly one valid length. Rows are numbers and nothing else:
 * whatever they hold, no address or size comes from them.
 */
#include "session.h"

#include "base/arith.h"
#include "base/hash.h"

#include <string.h>

enum {
    FILE_VERSION = 2,
    HEADER_BYTES = 56,
    LEVEL_BYTES = 16,
    HASH_BYTES = 8,
    BUFFER_BYTES = 4096,
    PIECE_BYTES = 16384
};

static const char magic[8] = {'N', 'A', 'N', 'O', 'K', 'V', '\r', '\n'};

typedef struct header {
    char magic[8];
    uint32_t version;
    uint32_t n_tokens;
    uint64_t fingerprint;
    uint32_t type_k;
    uint32_t type_v;
    char level[LEVEL_BYTES];
    uint32_t deterministic;
    uint32_t n_device_nodes; /* whose caches lie otherwise */
} header;

/* The fields lie in memory as they do in the file, without gaps. */
typedef char header_has_no_gaps[sizeof(header) == HEADER_BYTES ? 1 : -1];

static header make_header(const nano_session *s, uint32_t n_tokens) {
    const nano_plan *plan = nano_session_plan(s);
    header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, magic, sizeof magic);
    h.version = FILE_VERSION;
    h.n_tokens = n_tokens;
    h.fingerprint = nano_model_fingerprint(plan->model);
    h.type_k = (uint32_t)plan->limits.type_k;
    h.type_v = (uint32_t)plan->limits.type_v;
    strncpy(h.level, nano_session_level(s), LEVEL_BYTES - 1);
    h.deterministic = plan->limits.deterministic ? 1 : 0;
    h.n_device_nodes = (uint32_t)(plan->n_nodes - plan->n_host_nodes);
    return h;
}

static bool is_slot(const nano_session *s, int32_t slot) {
    return slot >= 0 && slot < nano_session_plan(s)->limits.n_slots;
}

/* ------------------------------------------------------------------ saving */

typedef struct sink {
    nano_temp_file file;
    const char *error_text; /* not NULL: writing has failed */
    uint64_t hash;
    size_t n_buffered;
    uint8_t buffer[BUFFER_BYTES];
} sink;

static void flush(sink *s) {
    if (s->error_text == NULL) {
        (void)nano_temp_write(&s->file, s->buffer, s->n_buffered, &s->error_text);
    }
    s->n_buffered = 0;
}

static void put(sink *s, const void *data, size_t size) {
    s->hash = nano_hash(s->hash, data, size);
    if (size > sizeof s->buffer - s->n_buffered) {
        flush(s);
    }
    if (size == 0) {
        return; /* `data` may be NULL */
    }
    if (size <= sizeof s->buffer) {
        memcpy(s->buffer + s->n_buffered, data, size);
        s->n_buffered += size;
    } else if (s->error_text == NULL) {
        (void)nano_temp_write(&s->file, data, size, &s->error_text);
    }
}

/* A run's bytes are hashed, and come from a device, by pieces. */
static size_t piece_of(const nano_run *run, size_t at) {
    return run->size - at < PIECE_BYTES ? run->size - at : PIECE_BYTES;
}

static nano_status put_run(sink *out, const nano_session *s, const nano_run *run, nano_error *err) {
    uint8_t piece[PIECE_BYTES];
    for (size_t at = 0; at < run->size; at += PIECE_BYTES) {
        const size_t n = piece_of(run, at);
        NANO_TRY(nano_session_read_run(s, run, at, piece, n, err));
        put(out, piece, n);
    }
    return NANO_OK;
}

static nano_status put_all(sink *out, const nano_session *s, int32_t slot, const int32_t *tokens, int32_t n_tokens,
                           nano_error *err) {
    const header h = make_header(s, (uint32_t)n_tokens);
    put(out, &h, sizeof h);
    put(out, tokens, (size_t)n_tokens * sizeof *tokens);
    nano_run run = NANO_FIRST_RUN;
    while (nano_session_next_run(s, slot, n_tokens, &run)) {
        NANO_TRY(put_run(out, s, &run, err));
    }
    const uint64_t hash = out->hash;
    put(out, &hash, sizeof hash);
    flush(out);
    return NANO_OK;
}

nano_status nano_session_save(const nano_session *session, int32_t slot, const int32_t *tokens, int32_t n_tokens,
                              const char *path, nano_error *err) {
    if (!is_slot(session, slot) || n_tokens < 0 || n_tokens > nano_session_n_past(session, slot)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %d tokens of slot %d, it has %d", path, (int)n_tokens, (int)slot,
                         (int)nano_session_n_past(session, slot));
    }
    sink out = {.hash = NANO_HASH_START};
    if (!nano_temp_open(path, &out.file, &out.error_text)) {
        return nano_fail(err, NANO_ERR_IO, "%s: %s", path, out.error_text);
    }
    const nano_status status = put_all(&out, session, slot, tokens, n_tokens, err);
    if (status != NANO_OK) {
        nano_temp_discard(&out.file);
        return status;
    }
    if (out.error_text != NULL || !nano_temp_commit(&out.file, &out.error_text)) {
        nano_temp_discard(&out.file);
        return nano_fail(err, NANO_ERR_IO, "%s: %s", path, out.error_text);
    }
    return NANO_OK;
}

/* ----------------------------------------------------------------- loading */

static const char *type_text(uint32_t type) {
    const char *name = type <= INT32_MAX ? nano_type_name((nano_type)type) : NULL;
    return name == NULL ? "unknown" : name;
}

static nano_status check_type(const char *path, const char *field, uint32_t found, uint32_t expected, nano_error *err) {
    return found == expected ? NANO_OK
                             : nano_fail(err, NANO_ERR_ARGUMENT, "%s: cache type of %s: found %s (%u), expected %s",
                                         path, field, type_text(found), (unsigned)found, type_text(expected));
}

/* Is what the file holds what this session would have computed? */
static nano_status check_origin(const char *path, const header *found, const header *expected, nano_error *err) {
    if (found->fingerprint != expected->fingerprint) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "%s: made with another model or program: fingerprint: found %016llx, expected %016llx", path,
                         (unsigned long long)found->fingerprint, (unsigned long long)expected->fingerprint);
    }
    NANO_TRY(check_type(path, "keys", found->type_k, expected->type_k, err));
    NANO_TRY(check_type(path, "values", found->type_v, expected->type_v, err));
    if (memcmp(found->level, expected->level, LEVEL_BYTES) != 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: kernel level: found %.*s, expected %s", path, LEVEL_BYTES - 1,
                         found->level, expected->level);
    }
    if (found->n_device_nodes != expected->n_device_nodes) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: nodes on a device: found %u, expected %u (n_gpu_layers)", path,
                         (unsigned)found->n_device_nodes, (unsigned)expected->n_device_nodes);
    }
    if (found->deterministic != 1 && expected->deterministic == 1) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: made by a session that is not deterministic, this one is", path);
    }
    return NANO_OK;
}

/* The one length that a file of n tokens has. */
static nano_status check_size(const nano_session *s, const char *path, size_t found, uint32_t n_tokens,
                              nano_error *err) {
    size_t expected = HEADER_BYTES + HASH_BYTES, bytes = 0;
    bool fits = nano_mul_size(n_tokens, sizeof(int32_t), &bytes) && nano_add_size(expected, bytes, &expected);
    nano_run run = NANO_FIRST_RUN;
    while (fits && nano_session_next_run(s, 0, (int32_t)n_tokens, &run)) {
        fits = nano_add_size(expected, run.size, &expected);
    }
    if (!fits || found != expected) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: found %zu bytes, expected %zu for %u tokens", path, found, expected,
                         (unsigned)n_tokens);
    }
    return NANO_OK;
}

static nano_status check_header(const nano_session *s, const char *path, const uint8_t *data, size_t size,
                                header *found, nano_error *err) {
    if (size < HEADER_BYTES + HASH_BYTES) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: found %zu bytes, expected at least %d of a prompt cache", path,
                         size, HEADER_BYTES + HASH_BYTES);
    }
    memcpy(found, data, sizeof *found);
    if (memcmp(found->magic, magic, sizeof magic) != 0) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: does not start with NANOKV: no prompt cache", path);
    }
    if (found->version != FILE_VERSION) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "%s: version: found %u, expected %d", path,
                         (unsigned)found->version, FILE_VERSION);
    }
    const header expected = make_header(s, found->n_tokens);
    NANO_TRY(check_origin(path, found, &expected, err));
    const int32_t n_ctx = nano_session_plan(s)->limits.n_ctx;
    if (found->n_tokens > (uint32_t)n_ctx) {
        return nano_fail(err, NANO_ERR_LIMIT, "%s: tokens: found %u, n_ctx has room for %d", path,
                         (unsigned)found->n_tokens, (int)n_ctx);
    }
    return check_size(s, path, size, found->n_tokens, err);
}

/* The hash, in the pieces that it was made of. */
static uint64_t hash_of(const nano_session *s, const uint8_t *data, int32_t n_tokens) {
    uint64_t hash = nano_hash(NANO_HASH_START, data, HEADER_BYTES);
    hash = nano_hash(hash, data + HEADER_BYTES, (size_t)n_tokens * sizeof(int32_t));
    size_t at = HEADER_BYTES + (size_t)n_tokens * sizeof(int32_t);
    nano_run run = NANO_FIRST_RUN;
    while (nano_session_next_run(s, 0, n_tokens, &run)) {
        for (size_t i = 0; i < run.size; i += PIECE_BYTES) {
            hash = nano_hash(hash, data + at + i, piece_of(&run, i));
        }
        at += run.size;
    }
    return hash;
}

static nano_status check_content(const nano_session *s, const char *path, const uint8_t *data, size_t size,
                                 int32_t n_tokens, nano_error *err) {
    uint64_t found = 0, expected = hash_of(s, data, n_tokens);
    memcpy(&found, data + size - HASH_BYTES, sizeof found);
    if (found != expected) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: damaged: hash: found %016llx, expected %016llx", path,
                         (unsigned long long)found, (unsigned long long)expected);
    }
    for (int32_t i = 0; i < n_tokens; i++) {
        int32_t id = 0;
        memcpy(&id, data + HEADER_BYTES + (size_t)i * sizeof id, sizeof id);
        if (id < 0 || id >= nano_session_plan(s)->model->n_token_ids) {
            return nano_fail(err, NANO_ERR_FORMAT, "%s: token %d: found id %d, expected 0 to %lld", path, (int)i,
                             (int)id, (long long)nano_session_plan(s)->model->n_token_ids - 1);
        }
    }
    return NANO_OK;
}

static nano_status take_all(nano_session *s, int32_t slot, const uint8_t *data, int32_t *tokens, int32_t n_tokens,
                            nano_error *err) {
    size_t at = HEADER_BYTES + (size_t)n_tokens * sizeof *tokens;
    if (n_tokens > 0) { /* `tokens` may be NULL */
        memcpy(tokens, data + HEADER_BYTES, (size_t)n_tokens * sizeof *tokens);
    }
    nano_run run = NANO_FIRST_RUN;
    while (nano_session_next_run(s, slot, n_tokens, &run)) {
        NANO_TRY(nano_session_write_run(s, &run, data + at, err));
        at += run.size;
    }
    nano_session_set_past(s, slot, n_tokens);
    return NANO_OK;
}

nano_status nano_session_load(nano_session *session, int32_t slot, const char *path, int32_t *tokens, int32_t capacity,
                              int32_t *n_tokens, nano_error *err) {
    if (!is_slot(session, slot) || capacity < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: slot %d, the plan has %d; room for %d tokens", path, (int)slot,
                         (int)nano_session_plan(session)->limits.n_slots, (int)capacity);
    }
    nano_mapping file;
    const char *error_text = "";
    if (!nano_map_file(path, &file, &error_text)) {
        return nano_fail(err, NANO_ERR_IO, "%s: %s", path, error_text);
    }
    header found;
    nano_status status = check_header(session, path, file.data, file.size, &found, err);
    if (status == NANO_OK && found.n_tokens > (uint32_t)capacity) {
        status = nano_fail(err, NANO_ERR_LIMIT, "%s: tokens: found %u, the caller has room for %d", path,
                           (unsigned)found.n_tokens, (int)capacity);
    }
    if (status == NANO_OK) {
        status = check_content(session, path, file.data, file.size, (int32_t)found.n_tokens, err);
    }
    if (status == NANO_OK) {
        status = take_all(session, slot, file.data, tokens, (int32_t)found.n_tokens, err);
    }
    if (status == NANO_OK) {
        *n_tokens = (int32_t)found.n_tokens;
    }
    nano_unmap_file(&file);
    return status;
}
