/* nano_quantize_file: types by recipe, bytes as of nano_type_quantize, the same for any number of threads, refusals. */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1 /* mkdtemp */
#endif

#include "check.h"

#include "text/random.h"

#include <dirent.h>
#include <float.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { N_LAYER = 12, N_EMBD = 256, N_ROWS = 96, N_ODD = 172, N_VOCAB = 3001, MAX_TENSORS = 64 };

static char folder[] = "/tmp/nano_test_quantize_XXXXXX";
static char in_path[sizeof folder + 32], out_path[sizeof folder + 32], other_path[sizeof folder + 32];

/* -------------------------------------------------------------------- files */

typedef struct shape {
    char name[48];
    int32_t n_dims;
    int64_t ne[3];
} shape;

static shape shapes[MAX_TENSORS];
static int n_shapes;

static void add_shape(const char *name, int64_t n0, int64_t n1, int64_t n2) {
    shape *s = &shapes[n_shapes++];
    snprintf(s->name, sizeof s->name, "%s", name);
    s->ne[0] = n0;
    s->ne[1] = n1;
    s->ne[2] = n2;
    s->n_dims = n2 > 1 ? 3 : n1 > 1 ? 2 : 1;
}

static int64_t n_elements(const shape *s) { return s->ne[0] * s->ne[1] * s->ne[2]; }

static void make_shapes(void) {
    char name[48];
    add_shape("token_embd.weight", N_EMBD, N_VOCAB, 1);
    add_shape("position_embd.weight", N_EMBD, 16, 1);
    add_shape("output_norm.weight", N_EMBD, 1, 1);
    for (int i = 0; i < N_LAYER; i++) {
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        add_shape(name, N_EMBD, N_ROWS, 1);
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", i);
        add_shape(name, N_EMBD, N_ROWS, 1);
        snprintf(name, sizeof name, "blk.%d.ffn_up.weight", i);
        add_shape(name, i == 1 ? 32 : N_EMBD, i == 0 ? 1000 : N_ROWS, 1);
    }
    add_shape("blk.0.odd.weight", N_ODD, 7, 1);
    add_shape("blk.0.ffn_down_exps.weight", N_EMBD, 5, 3);
}

/* Normal numbers are not needed: any that differ do. */
static float *make_numbers(int64_t n, uint64_t seed) {
    float *x = malloc((size_t)n * sizeof *x);
    nano_random random;
    nano_random_seed(&random, seed);
    for (int64_t i = 0; x != NULL && i < n; i++) {
        x[i] = (float)(nano_random_double(&random) - 0.5);
    }
    return x;
}

/* Writes the model with its matrices in `type`; the number `bad`, where it is not 0, stands in the last tensor. */
static void write_model(const char *path, nano_type type, float bad) {
    nano_gguf_writer *w = NULL;
    const uint32_t old_type = 1, n_head = 4, n_head_kv = 4, number = 41;
    const nano_str architecture = {"llama", 5}, words[] = {{"a", 1}, {"", 0}, {"longer", 6}};
    CHECK_OK(nano_gguf_writer_open(path, &w, &check_error));
    CHECK_OK(nano_gguf_writer_set_str(w, "general.architecture", false, &architecture, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "general.file_type", NANO_GGUF_UINT32, false, &old_type, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "llama.attention.head_count", NANO_GGUF_UINT32, false, &n_head, 1, &check_error));
    CHECK_OK(
        nano_gguf_writer_set(w, "llama.attention.head_count_kv", NANO_GGUF_UINT32, false, &n_head_kv, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "some.number", NANO_GGUF_UINT32, false, &number, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set_str(w, "some.words", true, words, 3, &check_error));
    for (int i = 0; i < n_shapes; i++) {
        const nano_type t = shapes[i].n_dims > 1 && shapes[i].ne[0] % nano_type_block_size(type) == 0 ? type : 0;
        CHECK_OK(nano_gguf_writer_tensor(w, shapes[i].name, t, shapes[i].n_dims, shapes[i].ne, &check_error));
    }
    for (int i = 0; i < n_shapes; i++) {
        const int64_t n = n_elements(&shapes[i]);
        const nano_type t = shapes[i].n_dims > 1 && shapes[i].ne[0] % nano_type_block_size(type) == 0 ? type : 0;
        const size_t size = nano_type_row_bytes(t, n);
        float *x = make_numbers(n, (uint64_t)i + 1);
        void *data = malloc(size);
        if (bad != 0.0f && i == n_shapes - 1) {
            x[n - 1] = bad;
        }
        CHECK_OK(nano_type_from_float(t, x, data, n, &check_error));
        CHECK_OK(nano_gguf_writer_write(w, data, size, &check_error));
        free(data);
        free(x);
    }
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
}

static char *slurp(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *data = NULL;
    *size = 0;
    if (f != NULL && fseek(f, 0, SEEK_END) == 0) {
        *size = (size_t)ftell(f);
        data = malloc(*size + 1);
        rewind(f);
        *size = fread(data, 1, *size, f);
    }
    if (f != NULL) {
        fclose(f);
    }
    return data;
}

static bool same_files(const char *a, const char *b) {
    size_t n_a, n_b;
    char *data_a = slurp(a, &n_a), *data_b = slurp(b, &n_b);
    const bool same = data_a != NULL && data_b != NULL && n_a == n_b && memcmp(data_a, data_b, n_a) == 0;
    free(data_a);
    free(data_b);
    return same;
}

static int files_in_folder(void) {
    DIR *dir = opendir(folder);
    int n = 0;
    while (dir != NULL && readdir(dir) != NULL) {
        n++;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n - 2; /* . and .. */
}

static nano_gguf *open_file(const char *path) {
    nano_gguf *g = NULL;
    CHECK_OK(nano_gguf_open(path, &g, &check_error));
    return g;
}

/* ---------------------------------------------------------------- functions */

/* What the functions that nano_quantize_file calls see and say. */
typedef struct watcher {
    nano_type chosen; /* for attn_v, -1: as proposed */
    float *importance;
    int64_t n_importance;
    int stop_at; /* steps until progress says no; 0: never */
    int n_steps;
    int n_done;
    int n_fallbacks;
    int n_with_importance;
    uint64_t n_read;
    nano_type types[MAX_TENSORS];
} watcher;

static nano_type choose(void *context, const char *name, nano_type proposed) {
    const watcher *seen = context;
    return seen->chosen >= 0 && strstr(name, "attn_v") != NULL ? seen->chosen : proposed;
}

static const float *importance_of(void *context, const char *name, int64_t *n) {
    const watcher *seen = context;
    *n = seen->n_importance;
    return strstr(name, "ffn_down_exps") != NULL ? seen->importance : NULL;
}

static bool on_step(void *context, const nano_quantize_step *step) {
    watcher *seen = context;
    seen->n_steps++;
    seen->n_read = step->n_read;
    if (step->is_done) {
        CHECK((uint64_t)seen->n_done == step->index);
        seen->types[seen->n_done++] = step->type;
        seen->n_fallbacks += step->type != step->wanted;
        seen->n_with_importance += step->has_importance;
    }
    return seen->stop_at == 0 || seen->n_steps < seen->stop_at;
}

static nano_quantize_options watched(watcher *seen, const char *ftype) {
    nano_quantize_options o = nano_quantize_options_default();
    memset(seen, 0, sizeof *seen);
    seen->chosen = -1;
    o.ftype = nano_ftype_from_name(ftype);
    o.context = seen;
    o.choose = choose;
    o.progress = on_step;
    CHECK(o.ftype != -1);
    return o;
}

/* -------------------------------------------------------------------- tests */

static void test_names(void) {
    CHECK(nano_ftype_from_name("q8_0") == 7 && nano_ftype_from_name("7") == 7 && nano_ftype_from_name("Q4_k_M") == 15);
    CHECK(nano_ftype_from_name("Q4_K") == 15 && nano_ftype_from_name("q3_k") == 12 &&
          nano_ftype_from_name("q5_k") == 17);
    CHECK(nano_ftype_from_name("copy") == NANO_FTYPE_COPY && nano_ftype_from_name("-2") == -1);
    CHECK(nano_ftype_from_name("") == -1 && nano_ftype_from_name("77") == -1 && nano_ftype_from_name(NULL) == -1);
    CHECK(nano_ftype_name(99) == NULL && nano_ftype_at(-1) == -1);
    for (int32_t i = 0; nano_ftype_at(i) != -1; i++) {
        CHECK(nano_ftype_from_name(nano_ftype_name(nano_ftype_at(i))) == nano_ftype_at(i));
    }
}

/* Every tensor holds what nano_type_quantize makes of its numbers, whatever the piece or thread it went through. */
static void check_content(const nano_gguf *in, const nano_gguf *out, const watcher *seen) {
    for (uint64_t i = 0; i < nano_gguf_n_tensors(in); i++) {
        const nano_gguf_tensor *a = nano_gguf_tensor_at(in, i), *b = nano_gguf_tensor_at(out, i);
        CHECK(strcmp(a->name, b->name) == 0 && memcmp(a->ne, b->ne, sizeof a->ne) == 0 && b->type == seen->types[i]);
        const int64_t n = a->ne[0] * a->ne[1] * a->ne[2], matrix = a->ne[0] * a->ne[1];
        float *x = malloc((size_t)n * sizeof *x);
        uint8_t *expected = malloc(b->n_bytes);
        CHECK_OK(nano_type_to_float(a->type, a->data, x, n, &check_error));
        for (int64_t k = 0; k < a->ne[2]; k++) {
            const bool weighed = seen->importance != NULL && strstr(a->name, "ffn_down_exps") != NULL;
            CHECK_OK(nano_type_quantize(b->type, x + k * matrix, weighed ? seen->importance + k * a->ne[0] : NULL,
                                        expected + nano_type_row_bytes(b->type, k * matrix), a->ne[1], a->ne[0],
                                        &check_error));
        }
        CHECK(memcmp(expected, b->data, b->n_bytes) == 0);
        free(expected);
        free(x);
    }
}

static void test_content_and_threads(const char *ftype, bool with_importance) {
    watcher seen;
    nano_quantize_options o = watched(&seen, ftype);
    if (with_importance) {
        seen.n_importance = N_EMBD * 3;
        seen.importance = make_numbers(seen.n_importance, 99);
        for (int64_t i = 0; i < seen.n_importance; i++) {
            seen.importance[i] = seen.importance[i] * seen.importance[i];
        }
        o.importance = importance_of;
    }
    nano_gguf *in = open_file(in_path);
    for (int32_t n_threads = 1; n_threads <= 4; n_threads++) {
        o.n_threads = n_threads;
        seen.n_done = seen.n_fallbacks = seen.n_with_importance = 0;
        CHECK_OK(nano_quantize_file(in, n_threads == 1 ? out_path : other_path, &o, &check_error));
        CHECK(seen.n_done == n_shapes && seen.n_with_importance == (with_importance ? 1 : 0));
        CHECK(n_threads == 1 || same_files(out_path, other_path));
    }
    nano_gguf *out = open_file(out_path);
    check_content(in, out, &seen);
    int64_t value = 0;
    CHECK(nano_gguf_get_int(out, "general.file_type", &value, NULL) == NANO_OK && value == o.ftype);
    CHECK(nano_gguf_get_int(out, "general.quantization_version", &value, NULL) == NANO_OK && value == 2);
    CHECK(nano_gguf_get_int(out, "some.number", &value, NULL) == NANO_OK && value == 41);
    CHECK(nano_gguf_n_values(out) == nano_gguf_n_values(in) + 1);
    nano_gguf_free(out);
    nano_gguf_free(in);
    free(seen.importance);
    remove(out_path);
    remove(other_path);
}

static nano_type type_in(const watcher *seen, const char *name) {
    for (int i = 0; i < n_shapes; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            return seen->types[i];
        }
    }
    return -1;
}

#define CHECK_TYPE(name, type) CHECK(type_in(&seen, (name)) == nano_type_from_name(type))

static void test_types(void) {
    watcher seen;
    nano_quantize_options o = watched(&seen, "q4_k_m");
    nano_gguf *in = open_file(in_path);
    o.dry_run = true;
    CHECK_OK(nano_quantize_file(in, NULL, &o, &check_error));
    CHECK_TYPE("token_embd.weight", "Q6_K"); /* the output, as there is no other */
    CHECK_TYPE("position_embd.weight", "F16");
    CHECK_TYPE("output_norm.weight", "F32");
    CHECK_TYPE("blk.0.attn_v.weight", "Q6_K"); /* the first eighth, then every third */
    CHECK_TYPE("blk.1.attn_v.weight", "Q4_K");
    CHECK_TYPE("blk.3.ffn_down.weight", "Q6_K");
    CHECK_TYPE("blk.9.ffn_down.weight", "Q6_K");
    CHECK_TYPE("blk.2.ffn_up.weight", "Q4_K");
    CHECK_TYPE("blk.1.ffn_up.weight", "Q5_0"); /* rows of 32 */
    CHECK_TYPE("blk.0.odd.weight", "F16");
    CHECK(seen.n_fallbacks == 2 && files_in_folder() == 1);

    o = watched(&seen, "q4_k_m");
    o.dry_run = o.pure = true;
    o.token_embedding_type = nano_type_from_name("q8_0");
    seen.chosen = nano_type_from_name("q5_1");
    CHECK_OK(nano_quantize_file(in, NULL, &o, &check_error));
    CHECK_TYPE("token_embd.weight", "Q8_0");
    CHECK_TYPE("blk.0.attn_v.weight", "Q5_1");
    CHECK_TYPE("blk.0.ffn_down.weight", "Q4_K");

    o = watched(&seen, "copy");
    o.dry_run = true;
    o.choose = NULL;
    CHECK_OK(nano_quantize_file(in, NULL, &o, &check_error));
    CHECK_TYPE("token_embd.weight", "F16");
    nano_gguf_free(in);
}

static void test_metadata(void) {
    watcher seen;
    nano_quantize_options o = watched(&seen, "q8_0");
    const uint32_t file_type = 1234;
    const uint8_t bytes[] = {1, 2, 3};
    const nano_str text = {"new", 3};
    const nano_quantize_value values[] = {{"general.file_type", NANO_GGUF_UINT32, false, &file_type, 1},
                                          {"some.number", NANO_GGUF_STRING, false, &text, 1},
                                          {"some.bytes", NANO_GGUF_UINT8, true, bytes, 3}};
    nano_gguf *in = open_file(in_path);
    o.values = values;
    o.n_values = 3;
    CHECK_OK(nano_quantize_file(in, out_path, &o, &check_error));
    nano_gguf *out = open_file(out_path);
    int64_t number = 0;
    nano_str found = {NULL, 0};
    CHECK(nano_gguf_get_int(out, "general.file_type", &number, NULL) == NANO_OK && number == 1234);
    CHECK(nano_gguf_get_str(out, "some.number", &found, NULL) == NANO_OK && found.size == 3);
    CHECK(nano_gguf_find(out, "some.bytes")->n_items == 3);
    CHECK(nano_gguf_find(out, "some.words")->n_items == 3);
    nano_gguf_free(out);
    nano_gguf_free(in);

    /* COPY gives the very file. */
    in = open_file(out_path);
    o = watched(&seen, "copy");
    CHECK_OK(nano_quantize_file(in, other_path, &o, &check_error));
    CHECK(same_files(out_path, other_path) && seen.n_read > 0);
    nano_gguf_free(in);
    remove(out_path);
    remove(other_path);
}

static void test_refusals(void) {
    watcher seen;
    nano_quantize_options o = watched(&seen, "q8_0");
    nano_gguf *in = open_file(in_path);
    o.n_threads = 2;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "NULL", nano_quantize_file(in, NULL, &o, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "NULL", nano_quantize_file(NULL, out_path, &o, &check_error));
    o.n_threads = 1000;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "n_threads", nano_quantize_file(in, out_path, &o, &check_error));
    o.n_threads = 2;
    o.ftype = 5;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "ftype", nano_quantize_file(in, out_path, &o, &check_error));
    o = watched(&seen, "q8_0");
    o.no_fallback = true;
    CHECK_FAILS(NANO_ERR_SHAPE, "'blk.0.odd.weight': rows of 172", nano_quantize_file(in, out_path, &o, &check_error));
    o = watched(&seen, "q8_0");
    seen.chosen = nano_type_from_name("IQ1_S");
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "IQ1_S", nano_quantize_file(in, out_path, &o, &check_error));
    seen.chosen = 12345;
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "12345", nano_quantize_file(in, out_path, &o, &check_error));
    o = watched(&seen, "q8_0");
    o.importance = importance_of;
    seen.importance = make_numbers(N_EMBD * 3, 5);
    seen.n_importance = N_EMBD;
    CHECK_FAILS(NANO_ERR_SHAPE, "found 256 importances, expected 768",
                nano_quantize_file(in, out_path, &o, &check_error));
    seen.n_importance = N_EMBD * 3;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "importance -0", nano_quantize_file(in, out_path, &o, &check_error));
    free(seen.importance);
    for (int stop_at = 1; stop_at < 8; stop_at++) {
        o = watched(&seen, "q8_0");
        seen.stop_at = stop_at;
        CHECK_FAILS(NANO_ERR_CANCELLED, "cancelled", nano_quantize_file(in, out_path, &o, &check_error));
    }
    CHECK_FAILS(NANO_ERR_IO, "nowhere", nano_quantize_file(in, "/nowhere/out.gguf", &o, &check_error));
    nano_gguf_free(in);
    CHECK(files_in_folder() == 1);
}

static void test_bad_numbers(void) {
    watcher seen;
    const union {
        uint32_t bits;
        float value;
    } nan = {0x7fc00000u}, infinity = {0xff800000u};
    const struct {
        const char *ftype;
        float value;
    } bad[] = {{"q8_0", nan.value}, {"q8_0", infinity.value}, {"q8_0", 1e7f},    {"f16", 70000.0f}, {"bf16", FLT_MAX},
               {"q4_0", 1e6f},      {"q5_1", -65504.0f},      {"q4_k_m", 1e30f}, {"q3_k_s", 1e8f},  {"iq4_xs", 1e20f}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        nano_quantize_options o = watched(&seen, bad[i].ftype);
        write_model(other_path, 0, bad[i].value);
        nano_gguf *in = open_file(other_path);
        CHECK_FAILS(NANO_ERR_FORMAT, "'blk.0.ffn_down_exps.weight': a number",
                    nano_quantize_file(in, out_path, &o, &check_error));
        nano_gguf_free(in);
    }
    remove(other_path);
    CHECK(files_in_folder() == 1);
}

static void test_requantize(void) {
    watcher seen;
    nano_quantize_options o = watched(&seen, "q4_0");
    write_model(other_path, nano_type_from_name("q8_0"), 0.0f);
    nano_gguf *in = open_file(other_path);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "allow_requantize", nano_quantize_file(in, out_path, &o, &check_error));
    o.allow_requantize = true;
    CHECK_OK(nano_quantize_file(in, out_path, &o, &check_error));
    CHECK_TYPE("blk.2.ffn_up.weight", "Q4_0");
    remove(out_path);
    o = watched(&seen, "q8_0"); /* what has the type already is no reason to refuse */
    CHECK_OK(nano_quantize_file(in, out_path, &o, &check_error));
    nano_gguf_free(in);
    remove(out_path);
    remove(other_path);
}

/* A limit on the size of files stands in for a full disk. */
static void test_full_disk(void) {
    watcher seen;
    nano_quantize_options o = watched(&seen, "q8_0");
    struct rlimit before, low;
    nano_gguf *in = open_file(in_path);
    CHECK_OK(nano_quantize_file(in, out_path, &o, &check_error));
    size_t size, size_after;
    char *old = slurp(out_path, &size);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    for (int i = 0; i < 3; i++) {
        low = before;
        low.rlim_cur = i == 0 ? 100 : i == 1 ? 1 << 20 : (rlim_t)(size - 100);
        CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &low) == 0);
        o = watched(&seen, "f32");
        CHECK_FAILS(NANO_ERR_IO, out_path, nano_quantize_file(in, out_path, &o, &check_error));
        CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0 && signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
        char *now = slurp(out_path, &size_after);
        CHECK(size == size_after && memcmp(old, now, size) == 0 && files_in_folder() == 2);
        free(now);
    }
    free(old);
    nano_gguf_free(in);
    remove(out_path);
}

int main(void) {
    CHECK(mkdtemp(folder) != NULL);
    snprintf(in_path, sizeof in_path, "%s/in.gguf", folder);
    snprintf(out_path, sizeof out_path, "%s/out.gguf", folder);
    snprintf(other_path, sizeof other_path, "%s/other.gguf", folder);
    make_shapes();
    write_model(in_path, nano_type_from_name("f16"), 0.0f);
    test_names();
    test_content_and_threads("q8_0", false);
    test_content_and_threads("q4_k_m", true);
    test_content_and_threads("f32", false);
    test_types();
    test_metadata();
    test_refusals();
    test_bad_numbers();
    test_requantize();
    test_full_disk();
    remove(in_path);
    CHECK(rmdir(folder) == 0);
    return check_result();
}
