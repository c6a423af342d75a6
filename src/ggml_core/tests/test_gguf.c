/* Files written and read back: every kind of value, tensors, the order of calls, failing disks, real files. */
#define _XOPEN_SOURCE 700

#include "tests/check.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, Q4_K = 12 };

static char folder[] = "/tmp/nano_test_gguf_XXXXXX";
static char path[sizeof folder + 32];

static nano_str str(const char *s) {
    nano_str r = {s, strlen(s)};
    return r;
}

static int files_in_folder(void) {
    DIR *dir = opendir(folder);
    int n = 0;
    if (dir == NULL) {
        return -1;
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

/* A whole file; free it. */
static char *slurp(const char *name, size_t *size) {
    FILE *f = fopen(name, "rb");
    *size = 0;
    if (f == NULL) {
        return NULL;
    }
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *data = malloc((size_t)n + 1);
    *size = data == NULL ? 0 : fread(data, 1, (size_t)n, f);
    fclose(f);
    return data;
}

static void write_text(const char *name, const char *text) {
    FILE *f = fopen(name, "wb");
    CHECK(f != NULL);
    if (f != NULL) {
        CHECK(fwrite(text, 1, strlen(text), f) == strlen(text));
        CHECK(fclose(f) == 0);
    }
}

static bool file_is(const char *name, const char *text) {
    size_t size;
    char *data = slurp(name, &size);
    bool same = data != NULL && size == strlen(text) && memcmp(data, text, size) == 0;
    free(data);
    return same;
}

static nano_gguf_writer *open_writer(void) {
    nano_gguf_writer *w = NULL;
    CHECK_OK(nano_gguf_writer_open(path, &w, &check_error));
    if (w == NULL) {
        exit(check_result()); /* nothing else can work */
    }
    return w;
}

static nano_gguf *open_reader(const char *name) {
    nano_gguf *g = NULL;
    CHECK_OK(nano_gguf_open(name, &g, &check_error));
    if (g == NULL) {
        exit(check_result());
    }
    return g;
}

/* ------------------------------------------------------------------- values */

/* Keys "<kind>" and "<kind>s" of the smallest, a middle and the largest value of each kind. */
#define EACH_INTEGER(X)                                           \
    X(UINT8, uint8_t, 0, 7, UINT8_MAX)                            \
    X(INT8, int8_t, INT8_MIN, -7, INT8_MAX)                       \
    X(UINT16, uint16_t, 0, 700, UINT16_MAX)                       \
    X(INT16, int16_t, INT16_MIN, -700, INT16_MAX)                 \
    X(UINT32, uint32_t, 0, 70000, UINT32_MAX)                     \
    X(INT32, int32_t, INT32_MIN, -70000, INT32_MAX)               \
    X(UINT64, uint64_t, 0, UINT64_C(5000000000), INT64_MAX)       \
    X(INT64, int64_t, INT64_MIN, INT64_C(-5000000000), INT64_MAX) \
    X(BOOL, uint8_t, 0, 1, 1)

static void write_values(nano_gguf_writer *w) {
#define WRITE(KIND, c_type, low, middle, high)                                                         \
    {                                                                                                  \
        c_type items[3] = {low, middle, high};                                                         \
        CHECK_OK(nano_gguf_writer_set(w, #KIND, NANO_GGUF_##KIND, false, items + 1, 1, &check_error)); \
        CHECK_OK(nano_gguf_writer_set(w, #KIND "s", NANO_GGUF_##KIND, true, items, 3, &check_error));  \
    }
    EACH_INTEGER(WRITE)
#undef WRITE
    float f = 1.5f, floats[3] = {-0.25f, 1e-40f, 3e38f};
    double d = 1e300, doubles[2] = {-1e-300, 0.1};
    uint64_t large = UINT64_MAX;
    CHECK_OK(nano_gguf_writer_set(w, "FLOAT32", NANO_GGUF_FLOAT32, false, &f, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "FLOAT32s", NANO_GGUF_FLOAT32, true, floats, 3, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "FLOAT64", NANO_GGUF_FLOAT64, false, &d, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "FLOAT64s", NANO_GGUF_FLOAT64, true, doubles, 2, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "large", NANO_GGUF_UINT64, false, &large, 1, &check_error));
    nano_str text = str("gr\xc3\xbc\xc3\x9f dich"), texts[4] = {str("a"), str(""), {"\0\xff\n", 3}, str("last")};
    CHECK_OK(nano_gguf_writer_set_str(w, "STRING", false, &text, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set_str(w, "STRINGs", true, texts, 4, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "none", NANO_GGUF_INT32, true, NULL, 0, &check_error));
    CHECK_OK(nano_gguf_writer_set_str(w, "no strings", true, NULL, 0, &check_error));
    CHECK_OK(
        nano_gguf_writer_set(w, "schl\xc3\xbcssel.\xf0\x9f\x94\x91", NANO_GGUF_FLOAT32, false, &f, 1, &check_error));
}

static void check_integers(const nano_gguf *g) {
    int64_t i = 0;
#define READ(KIND, c_type, low, middle, high)                                                                  \
    {                                                                                                          \
        const nano_gguf_value *v = nano_gguf_find(g, #KIND);                                                   \
        CHECK(v != NULL && v->kind == NANO_GGUF_##KIND && v->item_kind == v->kind && v->n_items == 1);         \
        CHECK(v != NULL && v->n_bytes == sizeof(c_type));                                                      \
        CHECK_OK(nano_gguf_get_int(g, #KIND, &i, &check_error));                                               \
        CHECK(i == (int64_t)(middle));                                                                         \
        v = nano_gguf_find(g, #KIND "s");                                                                      \
        CHECK(v != NULL && v->kind == NANO_GGUF_ARRAY && v->item_kind == NANO_GGUF_##KIND && v->n_items == 3); \
        CHECK(nano_gguf_item_int(v, 0, &i) && i == (int64_t)(low));                                            \
        CHECK(nano_gguf_item_int(v, 1, &i) && i == (int64_t)(middle));                                         \
        CHECK(nano_gguf_item_int(v, 2, &i) && i == (int64_t)(high));                                           \
        CHECK(!nano_gguf_item_int(v, 3, &i) && !nano_gguf_item_int(v, UINT64_MAX, &i));                        \
        double d = 0;                                                                                          \
        bool is_number = NANO_GGUF_##KIND != NANO_GGUF_BOOL;                                                   \
        CHECK(nano_gguf_item_float(v, 0, &d) == is_number && (!is_number || d == (double)(low)));              \
        CHECK(nano_gguf_item_float(v, 2, &d) == is_number && (!is_number || d == (double)(high)));             \
        CHECK(!nano_gguf_item_float(v, 3, &d));                                                                \
    }
    EACH_INTEGER(READ)
#undef READ
}

static void check_floats_and_strings(const nano_gguf *g) {
    double d = 0;
    CHECK_OK(nano_gguf_get_float(g, "FLOAT32", &d, &check_error));
    CHECK(d == 1.5);
    CHECK(nano_gguf_item_float(nano_gguf_find(g, "FLOAT32s"), 1, &d) && d == (double)1e-40f);
    CHECK_OK(nano_gguf_get_float(g, "FLOAT64", &d, &check_error));
    CHECK(d == 1e300);
    CHECK(nano_gguf_item_float(nano_gguf_find(g, "FLOAT64s"), 1, &d) && d == 0.1);
    CHECK_OK(nano_gguf_get_float(g, "large", &d, &check_error));
    CHECK(d == 18446744073709551616.0);
    CHECK_OK(nano_gguf_get_float(g, "INT8", &d, &check_error));
    CHECK(d == -7);
    CHECK_OK(nano_gguf_get_float(g, "schl\xc3\xbcssel.\xf0\x9f\x94\x91", &d, &check_error));

    nano_str s = {NULL, 0};
    size_t cursor = 0;
    CHECK_OK(nano_gguf_get_str(g, "STRING", &s, &check_error));
    CHECK(s.size == 11 && memcmp(s.data, "gr\xc3\xbc\xc3\x9f dich", 11) == 0);
    const nano_gguf_value *v = nano_gguf_find(g, "STRINGs");
    CHECK(v != NULL && v->n_items == 4);
    CHECK(nano_gguf_next_str(v, &cursor, &s) && s.size == 1 && s.data[0] == 'a');
    CHECK(nano_gguf_next_str(v, &cursor, &s) && s.size == 0);
    CHECK(nano_gguf_next_str(v, &cursor, &s) && s.size == 3 && memcmp(s.data, "\0\xff\n", 3) == 0);
    CHECK(nano_gguf_next_str(v, &cursor, &s) && s.size == 4 && memcmp(s.data, "last", 4) == 0);
    CHECK(!nano_gguf_next_str(v, &cursor, &s));
    cursor = 0;
    CHECK(!nano_gguf_next_str(nano_gguf_find(g, "no strings"), &cursor, &s));
    CHECK(!nano_gguf_next_str(nano_gguf_find(g, "INT8"), &cursor, &s));
    CHECK(!nano_gguf_next_str(NULL, &cursor, &s));
}

static void check_wrong_kinds(const nano_gguf *g) {
    int64_t i = 0;
    double d = 0;
    nano_str s = {NULL, 0};
    CHECK(nano_gguf_find(g, "INT") == NULL && nano_gguf_find(g, "INT8ss") == NULL && nano_gguf_find(g, "") == NULL);
    CHECK(!nano_gguf_item_int(NULL, 0, &i) && !nano_gguf_item_float(NULL, 0, &d));
    CHECK(!nano_gguf_item_int(nano_gguf_find(g, "FLOAT32"), 0, &i));
    CHECK(!nano_gguf_item_int(nano_gguf_find(g, "STRING"), 0, &i));
    CHECK(!nano_gguf_item_float(nano_gguf_find(g, "STRINGs"), 0, &d));
    CHECK(!nano_gguf_item_int(nano_gguf_find(g, "none"), 0, &i));
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "\"nothing\" is missing", nano_gguf_get_int(g, "nothing", &i, &check_error));
    CHECK_FAILS(NANO_ERR_NOT_FOUND, path, nano_gguf_get_float(g, "nothing", &d, &check_error));
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "\"nothing\"", nano_gguf_get_str(g, "nothing", &s, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "key \"FLOAT32\": found float32, expected an integer",
                nano_gguf_get_int(g, "FLOAT32", &i, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "key \"INT8s\": found an array of int8, expected an integer",
                nano_gguf_get_int(g, "INT8s", &i, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "expected a value below 2^63", nano_gguf_get_int(g, "large", &i, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "key \"STRING\": found string, expected a number",
                nano_gguf_get_float(g, "STRING", &d, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "found bool", nano_gguf_get_float(g, "BOOL", &d, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "found an array of string, expected a string",
                nano_gguf_get_str(g, "STRINGs", &s, &check_error));
    CHECK_FAILS(NANO_ERR_FORMAT, "found int8, expected a string", nano_gguf_get_str(g, "INT8", &s, &check_error));
    CHECK(i == 0 && d == 0 && s.data == NULL); /* failures leave the outputs alone */
}

/* ------------------------------------------------------------------ tensors */

typedef struct example {
    const char *name;
    nano_type type;
    int32_t n_dims;
    int64_t ne[4];
    size_t n_bytes;
} example;

static const example examples[] = {
    {"token_embd.weight", Q8_0, 2, {64, 5, 1, 1}, 2 * 34 * 5},
    {"blk.0.attn_norm.weight", F32, 1, {3, 1, 1, 1}, 12},
    {"a", F16, 4, {2, 3, 4, 5}, 240},
    {"large", Q4_0, 3, {32, 300, 100, 1}, 18 * 300 * 100}, /* more than the writer's buffer */
    {"not computable", Q4_K, 1, {256, 1, 1, 1}, 144},
};
enum { N_EXAMPLES = sizeof examples / sizeof examples[0] };

static uint8_t example_byte(size_t tensor, size_t i) { return (uint8_t)(i * 7 + i / 251 + tensor * 31 + 1); }

/* Writes the data of example `e`, in pieces of at most `piece` bytes. */
static void write_example(nano_gguf_writer *w, size_t e, size_t piece) {
    uint8_t *data = malloc(examples[e].n_bytes);
    for (size_t i = 0; data != NULL && i < examples[e].n_bytes; i++) {
        data[i] = example_byte(e, i);
    }
    for (size_t at = 0; data != NULL && at < examples[e].n_bytes; at += piece) {
        size_t left = examples[e].n_bytes - at;
        CHECK_OK(nano_gguf_writer_write(w, data + at, left < piece ? left : piece, &check_error));
    }
    free(data);
}

static void check_examples(const nano_gguf *g) {
    CHECK(nano_gguf_n_tensors(g) == N_EXAMPLES && nano_gguf_tensor_at(g, N_EXAMPLES) == NULL);
    uint64_t align = nano_gguf_alignment(g);
    for (size_t e = 0; e < N_EXAMPLES; e++) {
        const nano_gguf_tensor *t = nano_gguf_find_tensor(g, examples[e].name);
        CHECK(t != NULL && t == nano_gguf_tensor_at(g, e));
        if (t == NULL) {
            continue;
        }
        CHECK(strcmp(t->name, examples[e].name) == 0 && t->type == examples[e].type);
        CHECK(t->n_dims == examples[e].n_dims && memcmp(t->ne, examples[e].ne, sizeof t->ne) == 0);
        CHECK(t->n_bytes == examples[e].n_bytes && t->offset % align == 0);
        CHECK(t->offset + t->n_bytes <= nano_gguf_file_size(g));
        size_t n_wrong = 0;
        for (size_t i = 0; i < t->n_bytes; i++) {
            n_wrong += ((const uint8_t *)t->data)[i] != example_byte(e, i);
        }
        CHECK(n_wrong == 0);
    }
    CHECK(nano_gguf_find_tensor(g, "") == NULL && nano_gguf_find_tensor(g, "token_embd.weight.") == NULL);
}

static void declare(nano_gguf_writer *w, size_t e) {
    CHECK_OK(nano_gguf_writer_tensor(w, examples[e].name, examples[e].type, examples[e].n_dims, examples[e].ne,
                                     &check_error));
}

static void test_round_trip(uint32_t alignment, size_t piece) {
    nano_gguf_writer *w = open_writer();
    write_values(w);
    if (alignment != 32) {
        CHECK_OK(nano_gguf_writer_set(w, "general.alignment", NANO_GGUF_UINT32, false, &alignment, 1, &check_error));
    }
    for (size_t e = 0; e < N_EXAMPLES; e++) {
        declare(w, e);
    }
    for (size_t e = 0; e < N_EXAMPLES; e++) {
        write_example(w, e, piece);
    }
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    CHECK(files_in_folder() == 1);

    nano_gguf *g = open_reader(path);
    CHECK(strcmp(nano_gguf_path(g), path) == 0 && nano_gguf_version(g) == 3);
    CHECK(nano_gguf_alignment(g) == alignment && nano_gguf_file_size(g) % alignment == 0);
    CHECK((nano_gguf_find(g, "general.alignment") != NULL) == (alignment != 32));
    CHECK(nano_gguf_value_at(g, nano_gguf_n_values(g)) == NULL);
    CHECK(nano_gguf_value_at(g, 0) == nano_gguf_find(g, "UINT8"));
    check_integers(g);
    check_floats_and_strings(g);
    check_wrong_kinds(g);
    check_examples(g);
    nano_gguf_free(g);
    remove(path);
}

/* Copies every value and tensor of `from` to `path`. */
static void copy_file(const nano_gguf *from) {
    nano_gguf_writer *w = open_writer();
    for (uint64_t i = 0; i < nano_gguf_n_values(from); i++) {
        CHECK_OK(nano_gguf_writer_copy(w, nano_gguf_value_at(from, i), &check_error));
    }
    for (uint64_t i = 0; i < nano_gguf_n_tensors(from); i++) {
        const nano_gguf_tensor *t = nano_gguf_tensor_at(from, i);
        CHECK_OK(nano_gguf_writer_tensor(w, t->name, t->type, t->n_dims, t->ne, &check_error));
    }
    for (uint64_t i = 0; i < nano_gguf_n_tensors(from); i++) {
        const nano_gguf_tensor *t = nano_gguf_tensor_at(from, i);
        CHECK_OK(nano_gguf_writer_write(w, t->data, t->n_bytes, &check_error));
    }
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
}

/* A file copied over itself while it is mapped: the same bytes again. */
static void test_copy(void) {
    uint32_t alignment = 64;
    nano_gguf_writer *w = open_writer();
    write_values(w);
    CHECK_OK(nano_gguf_writer_set(w, "general.alignment", NANO_GGUF_UINT32, false, &alignment, 1, &check_error));
    declare(w, 1);
    declare(w, 0);
    write_example(w, 1, 1000);
    write_example(w, 0, 1000);
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    size_t size, copy_size;
    char *data = slurp(path, &size);
    nano_gguf *g = open_reader(path);
    copy_file(g);
    nano_gguf_free(g);
    char *copy = slurp(path, &copy_size);
    CHECK(data != NULL && copy != NULL && size == copy_size && memcmp(data, copy, size) == 0);
    free(data);
    free(copy);
    remove(path);
}

static void test_empty(void) {
    nano_gguf_writer *w = open_writer();
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    nano_gguf *g = open_reader(path);
    CHECK(nano_gguf_n_values(g) == 0 && nano_gguf_n_tensors(g) == 0 && nano_gguf_file_size(g) == 24);
    CHECK(nano_gguf_find(g, "a") == NULL && nano_gguf_find_tensor(g, "a") == NULL);
    CHECK(nano_gguf_value_at(g, 0) == NULL && nano_gguf_tensor_at(g, 0) == NULL);
    nano_gguf_free(g);
    remove(path);
}

/* ------------------------------------------------------------ writer's errors */

static void test_refused_values(void) {
    nano_gguf_writer *w = open_writer();
    nano_str text = str("x"), no_text = {NULL, 3};
    uint8_t two = 2;
    uint32_t n = 32, odd = 48;
    uint64_t n64 = 32;
    char long_key[65537];
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    CHECK_FAILS(NANO_ERR_ARGUMENT, "empty", nano_gguf_writer_set(w, "", NANO_GGUF_UINT32, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "not UTF-8",
                nano_gguf_writer_set(w, "\xc3", NANO_GGUF_UINT32, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "expected at most 65535",
                nano_gguf_writer_set(w, long_key, NANO_GGUF_UINT32, false, &n, 1, &check_error));
    CHECK_OK(nano_gguf_writer_set(w, "once", NANO_GGUF_UINT32, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "key \"once\": given before",
                nano_gguf_writer_set(w, "once", NANO_GGUF_UINT32, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "given before", nano_gguf_writer_set_str(w, "once", false, &text, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "kind 8",
                nano_gguf_writer_set(w, "s", NANO_GGUF_STRING, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "kind 9", nano_gguf_writer_set(w, "s", NANO_GGUF_ARRAY, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "kind 99",
                nano_gguf_writer_set(w, "s", (nano_gguf_kind)99, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "one item",
                nano_gguf_writer_set(w, "s", NANO_GGUF_INT8, false, &n, 2, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "one item", nano_gguf_writer_set_str(w, "s", false, &text, 0, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "NULL", nano_gguf_writer_set(w, "s", NANO_GGUF_INT8, true, NULL, 2, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "NULL", nano_gguf_writer_set_str(w, "s", true, NULL, 2, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "string 0", nano_gguf_writer_set_str(w, "s", true, &no_text, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "more than memory",
                nano_gguf_writer_set(w, "s", NANO_GGUF_UINT64, true, &n64, UINT64_MAX / 4, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "neither 0 nor 1",
                nano_gguf_writer_set(w, "s", NANO_GGUF_BOOL, false, &two, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "found 48, expected a power of two",
                nano_gguf_writer_set(w, "general.alignment", NANO_GGUF_UINT32, false, &odd, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "found uint64, expected uint32",
                nano_gguf_writer_set(w, "general.alignment", NANO_GGUF_UINT64, false, &n64, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "found an array of uint32",
                nano_gguf_writer_set(w, "general.alignment", NANO_GGUF_UINT32, true, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "found string",
                nano_gguf_writer_set_str(w, "general.alignment", false, &text, 1, &check_error));
    /* None of it has left a trace. */
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    nano_gguf *g = open_reader(path);
    CHECK(nano_gguf_n_values(g) == 1 && nano_gguf_find(g, "once") != NULL);
    nano_gguf_free(g);
    remove(path);
}

static void test_refused_tensors(void) {
    nano_gguf_writer *w = open_writer();
    const int64_t one[4] = {1, 1, 1, 1}, zero[2] = {4, 0}, negative[1] = {-4}, part[1] = {33};
    const int64_t huge[4] = {INT64_C(1) << 40, INT64_C(1) << 40, 1, 1}, wide[1] = {INT64_MAX};
    char name[65];
    memset(name, 'n', 64);
    name[64] = '\0';
    CHECK_FAILS(NANO_ERR_ARGUMENT, "expected at most 63", nano_gguf_writer_tensor(w, name, F32, 1, one, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "empty", nano_gguf_writer_tensor(w, "", F32, 1, one, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "0 dimensions", nano_gguf_writer_tensor(w, "t", F32, 0, one, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "5 dimensions", nano_gguf_writer_tensor(w, "t", F32, 5, one, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "unknown number 4", nano_gguf_writer_tensor(w, "t", 4, 1, one, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "unknown number -1", nano_gguf_writer_tensor(w, "t", -1, 1, one, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "dimension 1 is 0", nano_gguf_writer_tensor(w, "t", F32, 2, zero, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "dimension 0 is -4",
                nano_gguf_writer_tensor(w, "t", F32, 1, negative, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "whole blocks of 32 (Q8_0)",
                nano_gguf_writer_tensor(w, "t", Q8_0, 1, part, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "2^63 elements", nano_gguf_writer_tensor(w, "t", F32, 2, huge, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "address", nano_gguf_writer_tensor(w, "t", F32, 1, wide, &check_error));
    name[63] = '\0';
    CHECK_OK(nano_gguf_writer_tensor(w, name, F32, 1, one, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "given before", nano_gguf_writer_tensor(w, name, F16, 1, one, &check_error));
    nano_gguf_writer_free(w);
    CHECK(files_in_folder() == 0);
}

static void test_order(void) {
    nano_gguf_writer *w = open_writer();
    const int64_t ne[1] = {3};
    const float data[4] = {1, 2, 3, 4};
    uint32_t n = 1;
    nano_str text = str("x");
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after the last of 0 tensors", nano_gguf_writer_write(w, data, 4, &check_error));
    CHECK_OK(nano_gguf_writer_tensor(w, "t", F32, 1, ne, &check_error));
    CHECK_OK(nano_gguf_writer_tensor(w, "u", F32, 1, ne, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after the first tensor was declared",
                nano_gguf_writer_set(w, "k", NANO_GGUF_UINT32, false, &n, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after the first tensor was declared",
                nano_gguf_writer_set_str(w, "k", false, &text, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "tensor \"t\": 0 of its 12 bytes", nano_gguf_writer_finish(w, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "tensor \"t\": 16 bytes of data, expected at most 12 more",
                nano_gguf_writer_write(w, data, 16, &check_error));
    CHECK_OK(nano_gguf_writer_tensor(w, "v", F32, 1, ne, &check_error)); /* a refused write has not begun the data */
    CHECK_OK(nano_gguf_writer_write(w, data, 8, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after the first data", nano_gguf_writer_tensor(w, "w", F32, 1, ne, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "expected at most 4 more", nano_gguf_writer_write(w, data, 8, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "is NULL", nano_gguf_writer_write(w, NULL, 4, &check_error));
    CHECK_OK(nano_gguf_writer_write(w, NULL, 0, &check_error));
    CHECK_OK(nano_gguf_writer_write(w, data + 2, 4, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "tensor \"u\": 0 of its 12 bytes", nano_gguf_writer_finish(w, &check_error));
    CHECK_OK(nano_gguf_writer_write(w, data, 12, &check_error));
    CHECK_OK(nano_gguf_writer_write(w, data, 12, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after the last of 3 tensors", nano_gguf_writer_write(w, data, 4, &check_error));
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after the file was finished", nano_gguf_writer_finish(w, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after the file was finished", nano_gguf_writer_write(w, data, 4, &check_error));
    nano_gguf_writer_free(w);
    nano_gguf *g = open_reader(path);
    const nano_gguf_tensor *t = nano_gguf_find_tensor(g, "t");
    CHECK(t != NULL && memcmp(t->data, data, 12) == 0);
    nano_gguf_free(g);
    remove(path);
}

static void test_abandoned(void) {
    write_text(path, "old");
    nano_gguf_writer *w = open_writer();
    declare(w, 3);
    uint8_t byte = 1;
    CHECK_OK(nano_gguf_writer_write(w, &byte, 1, &check_error));
    CHECK(files_in_folder() == 2);
    nano_gguf_writer_free(w);
    CHECK(files_in_folder() == 1 && file_is(path, "old"));
    remove(path);
    nano_gguf_writer_free(NULL);
    CHECK_FAILS(NANO_ERR_IO, "No such file", nano_gguf_writer_open("/nowhere/at/all.gguf", &w, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "NULL", nano_gguf_writer_open(NULL, &w, &check_error));
}

/* A limit on the size of files stands in for a full disk. */
static void test_full_disk(void) {
    write_text(path, "old");
    struct rlimit before, low;
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    low = before;
    low.rlim_cur = 100000;
    nano_gguf_writer *w = open_writer();
    declare(w, 3);
    uint8_t *data = calloc(1, examples[3].n_bytes);
    CHECK(data != NULL && signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &low) == 0);
    CHECK_FAILS(NANO_ERR_IO, "File too large", nano_gguf_writer_write(w, data, examples[3].n_bytes, &check_error));
    CHECK(files_in_folder() == 1); /* the space is given back at once */
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after writing failed", nano_gguf_writer_write(w, data, 1, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "after writing failed", nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);

    /* Data that stays in the buffer until the end fails in finish. */
    low.rlim_cur = 10;
    w = open_writer();
    CHECK(setrlimit(RLIMIT_FSIZE, &low) == 0);
    CHECK_FAILS(NANO_ERR_IO, path, nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0 && signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    CHECK(files_in_folder() == 1 && file_is(path, "old"));
    free(data);
    remove(path);
}

/* --------------------------------------------------------------- real files */

static void test_unreadable(void) {
    nano_gguf *g = NULL;
    CHECK_FAILS(NANO_ERR_IO, "/nowhere.gguf: No such file", nano_gguf_open("/nowhere.gguf", &g, &check_error));
    CHECK_FAILS(NANO_ERR_IO, "directory", nano_gguf_open(folder, &g, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "NULL", nano_gguf_open(NULL, &g, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "NULL", nano_gguf_open_memory(NULL, 1, "x", &g, &check_error));
    write_text(path, "");
    CHECK_FAILS(NANO_ERR_IO, "empty", nano_gguf_open(path, &g, &check_error));
    write_text(path, "PK\x03\x04 and more");
    CHECK_FAILS(NANO_ERR_FORMAT, "starts with \"PK\\x03\\x04\", expected \"GGUF\"",
                nano_gguf_open(path, &g, &check_error));
    CHECK(nano_gguf_open(path, &g, NULL) == NANO_ERR_FORMAT);
    CHECK(g == NULL);
    nano_gguf_free(NULL);
    remove(path);
}

/* Files of another writer, with real vocabularies: what they hold, and copied byte for byte. */
static void test_vocabulary(const char *data_folder, const char *name, uint64_t n_tokens, const char *model) {
    char source[4096];
    nano_str s = {NULL, 0};
    snprintf(source, sizeof source, "%s/%s", data_folder, name);
    if (access(source, R_OK) != 0) {
        printf("skipped: %s is not there (NANOLLM_TEST_DATA names the folder of test data)\n", source);
        return;
    }
    nano_gguf *g = open_reader(source);
    const nano_gguf_value *tokens = nano_gguf_find(g, "tokenizer.ggml.tokens");
    CHECK(nano_gguf_n_tensors(g) == 0 && tokens != NULL && tokens->n_items == n_tokens);
    CHECK_OK(nano_gguf_get_str(g, "tokenizer.ggml.model", &s, &check_error));
    CHECK(s.size == strlen(model) && memcmp(s.data, model, s.size) == 0);
    size_t cursor = 0, n = 0;
    while (nano_gguf_next_str(tokens, &cursor, &s)) {
        n++;
    }
    CHECK(n == n_tokens && tokens != NULL && cursor == tokens->n_bytes);
    copy_file(g);
    size_t size;
    char *copy = slurp(path, &size);
    CHECK(copy != NULL && size == nano_gguf_file_size(g));
    nano_gguf_free(g);
    size_t original_size;
    char *original = slurp(source, &original_size);
    CHECK(original != NULL && copy != NULL && size == original_size && memcmp(original, copy, size) == 0);
    free(original);
    free(copy);
    remove(path);
}

/* What is not a file is refused before anything is written; a symbolic link is written through. */
static void test_targets(void) {
    char link_path[sizeof path + 8];
    struct stat st;
    nano_gguf_writer *w = NULL;
    CHECK_FAILS(NANO_ERR_IO, "not a regular file", nano_gguf_writer_open("/dev/null", &w, &check_error));
    CHECK_FAILS(NANO_ERR_IO, "is a directory", nano_gguf_writer_open(folder, &w, &check_error));
    CHECK(mkfifo(path, 0600) == 0);
    CHECK_FAILS(NANO_ERR_IO, "not a regular file", nano_gguf_writer_open(path, &w, &check_error));
    CHECK(lstat(path, &st) == 0 && S_ISFIFO(st.st_mode));
    remove(path);
    write_text(path, "old");
    snprintf(link_path, sizeof link_path, "%s.link", path);
    CHECK(symlink(path, link_path) == 0);
    CHECK_OK(nano_gguf_writer_open(link_path, &w, &check_error));
    CHECK_OK(nano_gguf_writer_finish(w, &check_error));
    nano_gguf_writer_free(w);
    CHECK(lstat(link_path, &st) == 0 && S_ISLNK(st.st_mode));
    CHECK(!file_is(path, "old"));
    remove(link_path);
    remove(path);
}

int main(void) {
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    test_round_trip(32, SIZE_MAX);
    test_round_trip(32, 1000);
    test_round_trip(8, 77);
    test_round_trip(4096, 1 << 18);
    test_copy();
    test_empty();
    test_refused_values();
    test_refused_tensors();
    test_order();
    test_abandoned();
    test_full_disk();
    test_targets();
    test_unreadable();
    const char *data = getenv("NANOLLM_TEST_DATA");
    data = data != NULL ? data : "../shared/data";
    test_vocabulary(data, "ggml-vocab-gpt-2.gguf", 50257, "gpt2");
    test_vocabulary(data, "ggml-vocab-llama-bpe.gguf", 128256, "gpt2");
    test_vocabulary(data, "ggml-vocab-llama-spm.gguf", 32000, "llama");
    test_vocabulary(data, "ggml-vocab-qwen2.gguf", 151936, "gpt2");
    CHECK(files_in_folder() == 0);
    CHECK(rmdir(folder) == 0);
    return check_result();
}
