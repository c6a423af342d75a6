/*
 * Prompt cache files from outside: refused, or loaded into a session that goes on from there. What the input lacks is
 * made up, so that the fuzzer gets behind the checks: its first byte says whether the model's fingerprint, the level and
 * the hash are put in, and whether what was loaded is saved again.
 */
#define _XOPEN_SOURCE 700
#include "tests/tiny_model.h"

#include "base/hash.h"

#include "session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_CTX = 24, HEADER = 56, MAX_FILE = 1 << 16 };

static tiny_model model;
static nano_session *session;
static char path[64];
static uint8_t file[MAX_FILE];

static void prepare(void) {
    if (session != NULL) {
        return;
    }
    nano_limits limits = nano_limits_default();
    limits.n_ctx = limits.n_batch = N_CTX;
    limits.n_threads = 1;
    tiny_model_open(&model, "F32");
    (void)remove(model.path); /* it stays mapped */
    session = tiny_session(&model, limits);
    snprintf(path, sizeof path, "/tmp/nano_fuzz_XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) {
        abort();
    }
    close(fd);
}

/* The hash of the file, in the pieces of a file of n tokens. */
static void put_hash(size_t size) {
    uint32_t n = 0;
    nano_run run = NANO_FIRST_RUN;
    memcpy(&n, file + 12, sizeof n);
    if (n > N_CTX) {
        return;
    }
    size_t at = HEADER;
    uint64_t hash = nano_hash(NANO_HASH_START, file, HEADER);
    run.size = n * sizeof(int32_t); /* the tokens come first */
    do {
        if (run.size > size - at) {
            return;
        }
        hash = nano_hash(hash, file + at, run.size);
        at += run.size;
    } while (nano_session_next_run(session, 0, (int32_t)n, &run));
    if (size - at >= sizeof hash) {
        memcpy(file + at, &hash, sizeof hash);
    }
}

static void write_file(size_t size) {
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(file, 1, size, f) != size) {
        abort();
    }
    (void)fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size - 1 > MAX_FILE) {
        return 0;
    }
    prepare();
    const uint8_t flags = data[0];
    size--;
    memcpy(file, data + 1, size);
    if ((flags & 1) != 0 && size >= HEADER) {
        const uint64_t fingerprint = nano_model_fingerprint(model.model);
        memcpy(file + 16, &fingerprint, sizeof fingerprint);
        memset(file + 32, 0, 16);
        strncpy((char *)file + 32, nano_cpu_level(), 15);
        if ((flags & 2) != 0) {
            put_hash(size);
        }
    }
    write_file(size);
    int32_t tokens[N_CTX], n = -1, past = nano_session_n_past(session, 0);
    nano_error err = {NANO_OK, ""};
    if (nano_session_load(session, 0, path, tokens, N_CTX, &n, &err) != NANO_OK) {
        if (err.message[0] == '\0' || n != -1 || nano_session_n_past(session, 0) != past) {
            abort();
        }
        return 0;
    }
    if (n < 0 || n > N_CTX || nano_session_n_past(session, 0) != n) {
        abort();
    }
    if (n < N_CTX && nano_session_eval(session, 1, &n, NULL, NULL, &err) != NANO_OK) {
        abort();
    }
    if ((flags & 4) == 0) {
        return 0; /* saving waits for the disk */
    }
    /* What loads was saved so: the same bytes come out again. */
    if (nano_session_truncate(session, 0, n, &err) != NANO_OK ||
        nano_session_save(session, 0, tokens, n, path, &err) != NANO_OK) {
        abort();
    }
    FILE *f = fopen(path, "rb");
    static uint8_t again[MAX_FILE];
    if (f == NULL || fread(again, 1, sizeof again, f) != size ||
        memcmp(file + HEADER, again + HEADER, size - HEADER - 8) != 0) {
        abort();
    }
    (void)fclose(f);
    return 0;
}
