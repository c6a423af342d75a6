/* Prompt cache files: a hit gives the same bits as evaluating, and what does not fit or is damaged is refused. */
#define _XOPEN_SOURCE 700
#include "tests/tiny_model.h"

enum { N_TOKENS = 75, N_CTX = 96, HEADER = 56 };

static int32_t tokens[N_TOKENS];
static char path[64];

static nano_limits limits_of(const char *type_k, const char *type_v, int32_t n_ctx) {
    nano_limits l = nano_limits_default();
    l.n_ctx = n_ctx;
    l.n_batch = 40;
    l.n_slots = 3;
    l.n_threads = 2;
    l.type_k = nano_type_from_name(type_k);
    l.type_v = nano_type_from_name(type_v);
    l.deterministic = true;
    return l;
}

static void eval(nano_session *s, int32_t slot, int32_t from, int32_t to) {
    for (int32_t at = from; at < to; at += 7) {
        int32_t slots[7], n = to - at < 7 ? to - at : 7;
        for (int32_t i = 0; i < n; i++) {
            slots[i] = slot;
        }
        CHECK_OK(nano_session_eval(s, n, tokens + at, slots, NULL, &check_error));
    }
}

static void keep_logits(nano_session *s, float *out) {
    int32_t n_rows = 0;
    memcpy(out, nano_session_logits(s, &n_rows), TINY_VOCAB * sizeof *out);
    CHECK(n_rows == 1);
}

/* ------------------------------------------------------------------- files */

typedef struct blob {
    uint8_t data[1 << 17];
    size_t size;
} blob;

static void read_blob(blob *b) {
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    if (f != NULL) {
        b->size = fread(b->data, 1, sizeof b->data, f);
        CHECK(b->size < sizeof b->data);
        (void)fclose(f);
    }
}

static void write_blob(const uint8_t *data, size_t size) {
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    if (f != NULL) {
        CHECK(fwrite(data, 1, size, f) == size);
        (void)fclose(f);
    }
}

/* -------------------------------------------------------------------- tests */

/* Saved in one session, loaded into another slot of another one with another context: the logits of what follows are
 * those of the session that evaluated everything. */
static void test_round_trip(const tiny_model *m, const char *type_k, const char *type_v) {
    float expected[TINY_VOCAB], found[TINY_VOCAB];
    int32_t read[N_CTX], n = -1;
    nano_session *a = tiny_session(m, limits_of(type_k, type_v, N_CTX));
    eval(a, 1, 0, 70);
    CHECK_OK(nano_session_save(a, 1, tokens, 66, path, &check_error)); /* fewer than the slot has */
    eval(a, 1, 70, N_TOKENS);
    keep_logits(a, expected);
    nano_session_free(a);

    nano_session *b = tiny_session(m, limits_of(type_k, type_v, N_CTX - 10));
    eval(b, 0, 0, 20); /* another slot's rows stay as they are */
    eval(b, 2, 0, 50);
    CHECK_OK(nano_session_load(b, 2, path, read, N_CTX, &n, &check_error));
    CHECK(n == 66 && memcmp(read, tokens, 66 * sizeof *read) == 0 && nano_session_n_past(b, 2) == 66);
    eval(b, 2, 66, N_TOKENS);
    keep_logits(b, found);
    CHECK(memcmp(found, expected, sizeof found) == 0);
    eval(b, 0, 20, N_TOKENS);
    keep_logits(b, found);
    CHECK(memcmp(found, expected, sizeof found) == 0);
    nano_session_free(b);
}

static void refused(nano_session *s, nano_status status, const char *text) {
    int32_t read[N_CTX], n = -7, before = nano_session_n_past(s, 0);
    CHECK_FAILS(status, text, nano_session_load(s, 0, path, read, N_CTX, &n, &check_error));
    CHECK(n == -7 && nano_session_n_past(s, 0) == before);
}

static void refused_by(const tiny_model *m, nano_limits l, nano_status status, const char *text) {
    nano_session *s = tiny_session(m, l);
    eval(s, 0, 0, 3);
    refused(s, status, text);
    nano_session_free(s);
}

/* What another session would have computed otherwise. */
static void test_origin(const tiny_model *m, const tiny_model *other_type) {
    nano_session *s = tiny_session(m, limits_of("F16", "F16", N_CTX));
    nano_limits l = limits_of("F16", "F32", N_CTX);
    int32_t read[N_CTX], n = -1;
    eval(s, 0, 0, 40);
    CHECK_OK(nano_session_save(s, 0, tokens, 40, path, &check_error));
    refused_by(m, l, NANO_ERR_ARGUMENT, "cache type of values: found F16 (1), expected F32");
    l = limits_of("F32", "F16", N_CTX);
    refused_by(m, l, NANO_ERR_ARGUMENT, "cache type of keys: found F16 (1), expected F32");
    l = limits_of("F16", "F16", 39);
    refused_by(m, l, NANO_ERR_LIMIT, "tokens: found 40, n_ctx has room for 39");
    l = limits_of("F16", "F16", N_CTX);
    refused_by(other_type, l, NANO_ERR_ARGUMENT, "another model or program");
    CHECK_FAILS(NANO_ERR_LIMIT, "room for 39", nano_session_load(s, 1, path, read, 39, &n, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "slot 3", nano_session_load(s, 3, path, read, N_CTX, &n, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "41 tokens of slot 0, it has 40",
                nano_session_save(s, 0, tokens, 41, path, &check_error));
    CHECK_FAILS(NANO_ERR_IO, "/no/such", nano_session_save(s, 0, tokens, 1, "/no/such/file", &check_error));
    CHECK_FAILS(NANO_ERR_IO, "/no/such", nano_session_load(s, 0, "/no/such/file", read, N_CTX, &n, &check_error));
    nano_session_free(s);

    /* Of a session that is not deterministic: only for its like. */
    l = limits_of("F16", "F16", N_CTX);
    l.deterministic = false;
    s = tiny_session(m, l);
    eval(s, 0, 0, 10);
    CHECK_OK(nano_session_save(s, 0, tokens, 10, path, &check_error));
    CHECK_OK(nano_session_load(s, 1, path, read, N_CTX, &n, &check_error));
    nano_session_free(s);
    refused_by(m, limits_of("F16", "F16", N_CTX), NANO_ERR_ARGUMENT, "not deterministic");
}

/* Kernels of different levels give different bits. */
static void test_levels(const tiny_model *m) {
    nano_session *s = tiny_session(m, limits_of("F16", "F16", N_CTX));
    const char *best = nano_cpu_level();
    char text[64];
    eval(s, 0, 0, 10);
    CHECK_OK(nano_session_save(s, 0, tokens, 10, path, &check_error));
    nano_session_free(s);
    if (strcmp(best, "generic") != 0) {
        snprintf(text, sizeof text, "kernel level: found %s, expected generic", best);
        CHECK_OK(nano_cpu_set_level("generic", &check_error));
        refused_by(m, limits_of("F16", "F16", N_CTX), NANO_ERR_ARGUMENT, text);
        CHECK_OK(nano_cpu_set_level(best, &check_error));
    }
}

/* No byte can change, and none can be missing or added. */
static void test_damage(const tiny_model *m) {
    static blob good, bad;
    nano_session *s = tiny_session(m, limits_of("F16", "F16", N_CTX));
    eval(s, 0, 0, 12);
    CHECK_OK(nano_session_save(s, 0, tokens, 12, path, &check_error));
    read_blob(&good);
    for (size_t i = 0; i < good.size; i += i < HEADER + 60 ? 1 : 37) {
        int32_t read[N_CTX], n = -1;
        bad = good;
        bad.data[i] ^= (uint8_t)(1 << i % 8);
        write_blob(bad.data, bad.size);
        CHECK(nano_session_load(s, 0, path, read, N_CTX, &n, NULL) != NANO_OK && n == -1);
    }
    bad = good;
    bad.data[0] = 'G';
    write_blob(bad.data, bad.size);
    refused(s, NANO_ERR_FORMAT, "does not start with NANOKV");
    bad = good;
    bad.data[8] = 9;
    write_blob(bad.data, bad.size);
    refused(s, NANO_ERR_UNSUPPORTED, "version: found 9, expected 2");
    bad = good;
    bad.data[12] = 13; /* one token more than there are */
    write_blob(bad.data, bad.size);
    refused(s, NANO_ERR_FORMAT, "for 13 tokens");
    bad = good;
    memset(bad.data + 12, 0xff, 4);
    write_blob(bad.data, bad.size);
    refused(s, NANO_ERR_LIMIT, "tokens: found 4294967295");
    bad = good;
    bad.data[good.size - 20] ^= 1;
    write_blob(bad.data, bad.size);
    refused(s, NANO_ERR_FORMAT, "damaged");
    write_blob(good.data, good.size - 1);
    refused(s, NANO_ERR_FORMAT, "expected");
    write_blob(good.data, good.size + 1);
    refused(s, NANO_ERR_FORMAT, "expected");
    write_blob(good.data, 63);
    refused(s, NANO_ERR_FORMAT, "found 63 bytes");
    write_blob(good.data, 0);
    refused(s, NANO_ERR_IO, "empty");
    nano_session_free(s);
}

/* An id that no table has, in a file whose hash is right. */
static void test_token_range(const tiny_model *m) {
    nano_session *s = tiny_session(m, limits_of("F16", "F16", N_CTX));
    int32_t wrong[12];
    eval(s, 0, 0, 12);
    memcpy(wrong, tokens, sizeof wrong);
    wrong[5] = TINY_VOCAB;
    CHECK_OK(nano_session_save(s, 0, wrong, 12, path, &check_error));
    refused(s, NANO_ERR_FORMAT, "token 5: found id 96, expected 0 to 95");
    wrong[5] = -1;
    CHECK_OK(nano_session_save(s, 0, wrong, 12, path, &check_error));
    refused(s, NANO_ERR_FORMAT, "token 5: found id -1");
    nano_session_free(s);
}

static void test_empty(const tiny_model *m) {
    nano_session *s = tiny_session(m, limits_of("F16", "F16", N_CTX));
    int32_t n = -1;
    eval(s, 0, 0, 12);
    CHECK_OK(nano_session_save(s, 1, NULL, 0, path, &check_error));
    CHECK_OK(nano_session_load(s, 0, path, NULL, 0, &n, &check_error));
    CHECK(n == 0 && nano_session_n_past(s, 0) == 0);
    nano_session_free(s);
}

int main(void) {
    tiny_model m, q8;
    tiny_model_open(&m, "F32");
    tiny_model_open(&q8, "Q8_0");
    uint64_t state = 4711;
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = (int32_t)((tiny_random(&state) + 1.0f) * 0.499f * TINY_VOCAB);
    }
    snprintf(path, sizeof path, "/tmp/nano_session_XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    static const char *const types[] = {"F32", "F16", "Q8_0", "Q4_0"};
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
        for (size_t v = 0; v < sizeof types / sizeof types[0]; v++) {
            test_round_trip(&m, types[k], types[v]);
        }
    }
    test_round_trip(&q8, "F16", "F16");
    test_origin(&m, &q8);
    test_levels(&m);
    test_damage(&m);
    test_token_range(&m);
    test_empty(&m);
    (void)remove(path);
    tiny_model_close(&m);
    tiny_model_close(&q8);
    return check_result();
}
