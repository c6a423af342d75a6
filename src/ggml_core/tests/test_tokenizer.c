/*
 * The tokenizers. Without data: small vocabularies built here, well-formed and hostile. With the folder of real
 * vocabularies (the argument, or NANOLLM_TEST_DATA): the published ids, round trips, random bytes, and times that
 * must not grow faster than n log n.
 */
#include "tests/check.h"
#include "tests/tiny_gguf.h"

#include "text/tokenizer.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <time.h>

#define SEPARATOR "\n__ggml_vocab_test__\n"

/* Texts are put together here; ids and scratch are allocated exactly as large as the tokenizer asks, so that a
 * sanitizer sees every byte past them. */
enum { MAX_TEXT = 1 << 20 };

typedef struct encoding {
    int32_t *ids;
    size_t n;
} encoding;

static encoding encode(const nano_tokenizer *t, const char *text, size_t size, bool add_special, bool parse_special) {
    const size_t n_scratch = nano_tokenizer_scratch(t, size), n_ids = nano_tokenizer_max_ids(t, size);
    void *scratch = malloc(n_scratch);
    encoding e = {malloc(n_ids * sizeof(int32_t)), 0};
    CHECK_OK(nano_tokenizer_encode(t, text, size, add_special, parse_special, scratch, n_scratch, e.ids, n_ids, &e.n,
                                   &check_error));
    free(scratch);
    return e;
}

/* The text of ids, malloc'ed and NUL-terminated. */
static char *decode(const nano_tokenizer *t, const int32_t *ids, size_t n, bool show_special, size_t *size) {
    const size_t most = nano_decoder_max_bytes(t);
    char *text = malloc((n + 1) * most + 1);
    nano_decoder d;
    nano_decoder_init(&d, t, show_special);
    *size = 0;
    for (size_t i = 0; i < n; i++) {
        size_t added = 0;
        CHECK_OK(nano_decoder_push(&d, t, ids[i], text + *size, most, &added, &check_error));
        *size += added;
    }
    *size += nano_decoder_flush(&d, text + *size, most);
    text[*size] = '\0';
    return text;
}

static bool ids_are(encoding e, size_t n, const int32_t *ids) {
    return e.n == n && (n == 0 || memcmp(e.ids, ids, n * sizeof *ids) == 0);
}

#define CHECK_IDS(t, text, add, parse, ...)                             \
    do {                                                                \
        const int32_t want[] = {__VA_ARGS__};                           \
        const encoding got = encode(t, text, strlen(text), add, parse); \
        CHECK(ids_are(got, sizeof want / sizeof want[0], want));        \
        free(got.ids);                                                  \
    } while (0)

static bool round_trips(const nano_tokenizer *t, const char *text, size_t size, bool parse_special) {
    const encoding e = encode(t, text, size, false, parse_special);
    size_t n;
    char *back = decode(t, e.ids, e.n, true, &n);
    const bool same = n == size && memcmp(back, text, size) == 0;
    free(back);
    free(e.ids);
    return same;
}

static uint32_t random_state;

static uint32_t next_random(void) { /* xorshift32 */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* ------------------------------------------------------ small vocabularies */

typedef struct small {
    tiny_gguf file;
    nano_gguf *gguf;
    nano_tokenizer *tokenizer;
} small;

static void open_small(small *s) {
    s->tokenizer = NULL;
    CHECK_OK(tiny_open(&s->file, &s->gguf, &check_error));
    CHECK_OK(nano_tokenizer_create(s->gguf, &s->tokenizer, &check_error));
}

static void close_small(small *s) {
    nano_tokenizer_free(s->tokenizer);
    nano_gguf_free(s->gguf);
}

static nano_status try_small(tiny_gguf *file, nano_error *err) {
    nano_gguf *gguf = NULL;
    nano_tokenizer *t = NULL;
    nano_status status = tiny_open(file, &gguf, err);
    if (status == NANO_OK) {
        status = nano_tokenizer_create(gguf, &t, err);
    }
    nano_tokenizer_free(t);
    nano_gguf_free(gguf);
    return status;
}

/* clang-format off */
static const char *const spm_tokens[] = {
    "<unk>", "<s>", "</s>", "<0x41>", "\xE2\x96\x81", "a", "b", "ab", "\xE2\x96\x81\x61", "ba", "<u>", "bab", "s>", "<s",
};
/* clang-format on */
static const float spm_scores[] = {0, 0, 0, 0, -9, -9, -9, -1, -2, -3, 0, -4, -5, -5};
static const int32_t spm_types[] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 4, 1, 1, 1};
enum { N_SPM = sizeof spm_tokens / sizeof spm_tokens[0] };

static void begin_spm(tiny_gguf *g) {
    tiny_begin(g);
    tiny_set_str(g, "tokenizer.ggml.model", "llama");
    tiny_set_strs(g, "tokenizer.ggml.tokens", spm_tokens, N_SPM);
}

static void test_spm(void) {
    static small s;
    begin_spm(&s.file);
    tiny_set_floats(&s.file, "tokenizer.ggml.scores", spm_scores, N_SPM);
    tiny_set_ints(&s.file, "tokenizer.ggml.token_type", spm_types, N_SPM);
    open_small(&s);
    const nano_tokenizer *t = s.tokenizer;
    CHECK(nano_tokenizer_bos(t) == 1 && nano_tokenizer_eos(t) == 2 && nano_tokenizer_eot(t) == -1);
    CHECK(nano_tokenizer_adds_bos(t) && !nano_tokenizer_adds_eos(t));
    CHECK(nano_tokenizer_is_end(t, 2) && !nano_tokenizer_is_end(t, 1) && !nano_tokenizer_is_end(t, -1));
    CHECK(nano_tokenizer_is_special(t, 0) && nano_tokenizer_is_special(t, 1) && !nano_tokenizer_is_special(t, 10));
    CHECK(nano_tokenizer_spelling(t, N_SPM).size == 0 && nano_tokenizer_find(t, "bab", 3) == 11);
    CHECK(nano_tokenizer_find(t, "", 0) == -1 && nano_tokenizer_find(t, "zz", 2) == -1);
    CHECK_IDS(t, "", true, false, 1);
    CHECK_IDS(t, "b", false, false, 4, 6);
    CHECK_IDS(t, "ab", false, false, 4, 7);   /* "ab" has a better score than "▁a" */
    CHECK_IDS(t, "bab", false, false, 4, 11); /* any two neighbours whose text is a token: "b" and "ab" */
    CHECK_IDS(t, "aba", false, false, 4, 7, 5);
    CHECK_IDS(t, "A", true, false, 1, 4, 3);        /* byte fallback */
    CHECK_IDS(t, "CDaE", false, false, 4, 0, 5, 0); /* no bytes for these: one unknown a run */
    CHECK_IDS(t, "a<u>a", false, false, 8, 10, 8);  /* a space after a user-defined token, too */
    CHECK_IDS(t, "<s>", false, false, 4, 13, 0);    /* text is never a control token ... */
    CHECK_IDS(t, "a<s>a", false, true, 8, 1, 8);    /* ... unless asked for */
    CHECK(round_trips(t, "a<u>a b<u> a", 12, false));
    CHECK(round_trips(t, " a  ab", 6, false));
    CHECK(round_trips(t, "a<s>b</s>", 9, true));
    size_t n;
    const int32_t hidden[] = {1, 8, 2, 8};
    char *text = decode(t, hidden, 4, false, &n);
    CHECK(strcmp(text, "aa") == 0);
    free(text);
    close_small(&s);
}

/* Printable bytes stand for themselves; a space is U+0120. */
/* clang-format off */
static const char *const bpe_tokens[] = {
    "a", "b", "c", "ab", "bc", "abc", "\xC4\xA0", "\xC4\xA0\x61", "<|im_end|>", "<|im", "<t>", "1", "11", "cab",
    "\xC3\xA9", "",
};
/* clang-format on */
static const int32_t bpe_types[] = {1, 1, 1, 1, 1, 1, 1, 1, 3, 4, 4, 1, 1, 1, 1, 1};
static const char *const bpe_merges[] = {"b c", "a b", "a bc", "\xC4\xA0 a", "1 1", "a b"};
enum { N_BPE = sizeof bpe_tokens / sizeof bpe_tokens[0], N_MERGES = sizeof bpe_merges / sizeof bpe_merges[0] };

static void begin_bpe(tiny_gguf *g, const char *pre) {
    tiny_begin(g);
    tiny_set_str(g, "tokenizer.ggml.model", "gpt2");
    tiny_set_str(g, "tokenizer.ggml.pre", pre);
    tiny_set_strs(g, "tokenizer.ggml.tokens", bpe_tokens, N_BPE);
    tiny_set_ints(g, "tokenizer.ggml.token_type", bpe_types, N_BPE);
}

static void test_bpe(void) {
    static small s;
    begin_bpe(&s.file, "gpt-2");
    tiny_set_strs(&s.file, "tokenizer.ggml.merges", bpe_merges, N_MERGES);
    tiny_set_int(&s.file, "tokenizer.ggml.bos_token_id", 0);
    tiny_set_int(&s.file, "tokenizer.ggml.eot_token_id", 5);
    tiny_set_int(&s.file, "tokenizer.ggml.eos_token_id", UINT32_MAX);
    tiny_set_bool(&s.file, "tokenizer.ggml.add_eos_token", true);
    open_small(&s);
    const nano_tokenizer *t = s.tokenizer;
    CHECK(nano_tokenizer_bos(t) == 0 && nano_tokenizer_eos(t) == -1 && nano_tokenizer_eot(t) == 5);
    CHECK(!nano_tokenizer_adds_bos(t) && !nano_tokenizer_adds_eos(t));
    CHECK(nano_tokenizer_is_end(t, 5) && nano_tokenizer_is_end(t, 8) && !nano_tokenizer_is_end(t, 0));
    CHECK_IDS(t, "abc", true, false, 5);
    CHECK_IDS(t, "ababc", false, false, 3, 5);
    CHECK_IDS(t, "cab", false, false, 2, 3);         /* a token that no merge makes */
    CHECK_IDS(t, "11111", false, false, 12, 12, 11); /* leftmost first */
    CHECK_IDS(t, "a a", false, false, 0, 7);
    CHECK_IDS(t, "a  a", false, false, 0, 6, 7);
    CHECK_IDS(t, "aza", false, false, 0, 0);            /* no token for z and none for the unknown */
    CHECK_IDS(t, "b<t>a", false, false, 1, 10, 0);      /* user-defined tokens are always found */
    CHECK_IDS(t, "<|im_end|>", false, false, 9);        /* no tokens for the rest */
    CHECK_IDS(t, "a<|im_end|>b", false, true, 0, 8, 1); /* the longest */
    size_t n;
    const int32_t split[] = {0, 14, 0}; /* 0xE9 begins a character that never comes */
    char *text = decode(t, split, 3, false, &n);
    CHECK(strcmp(text, "a\xEF\xBF\xBD"
                       "a") == 0);
    free(text);
    close_small(&s);
    begin_bpe(&s.file, "llama3"); /* a word that is a token is that token; BOS unless the file says otherwise */
    tiny_set_strs(&s.file, "tokenizer.ggml.merges", bpe_merges, N_MERGES);
    tiny_set_int(&s.file, "tokenizer.ggml.bos_token_id", 8);
    open_small(&s);
    CHECK(nano_tokenizer_adds_bos(s.tokenizer));
    CHECK_IDS(s.tokenizer, "cab", true, false, 8, 13);
    close_small(&s);
}

/* ---------------------------------------------------------------- hostile */

static void test_hostile_bpe(void) {
    static tiny_gguf g;
    const char *const bad_merges[] = {"a b", "a zz"};
    const char *const no_space[] = {"ab"};
    const char *const no_product[] = {"c c"};
    tiny_begin(&g);
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "tokenizer.ggml.model", try_small(&g, &check_error));
    tiny_begin(&g);
    tiny_set_str(&g, "tokenizer.ggml.model", "word\npiece");
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "word", try_small(&g, &check_error));
    tiny_begin(&g);
    tiny_set_str(&g, "tokenizer.ggml.model", "gpt2");
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "tokenizer.ggml.tokens", try_small(&g, &check_error));
    tiny_set_ints(&g, "tokenizer.ggml.tokens", bpe_types, N_BPE);
    CHECK_FAILS(NANO_ERR_FORMAT, "expected an array of strings", try_small(&g, &check_error));
    begin_bpe(&g, "gpt-2");
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "tokenizer.ggml.merges", try_small(&g, &check_error));
    tiny_set_strs(&g, "tokenizer.ggml.merges", bad_merges, 2);
    CHECK_FAILS(NANO_ERR_FORMAT, "merge 1: its right piece", try_small(&g, &check_error));
    begin_bpe(&g, "gpt-2");
    tiny_set_strs(&g, "tokenizer.ggml.merges", no_space, 1);
    CHECK_FAILS(NANO_ERR_FORMAT, "two pieces", try_small(&g, &check_error));
    begin_bpe(&g, "gpt-2");
    tiny_set_strs(&g, "tokenizer.ggml.merges", no_product, 1);
    CHECK_FAILS(NANO_ERR_FORMAT, "what it makes", try_small(&g, &check_error));
    begin_bpe(&g, "no-such-rule");
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "no-such-rule", try_small(&g, &check_error));
    begin_bpe(&g, "qwen2");
    tiny_set_strs(&g, "tokenizer.ggml.merges", bpe_merges, N_MERGES);
    tiny_set_int(&g, "tokenizer.ggml.eos_token_id", N_BPE);
    CHECK_FAILS(NANO_ERR_FORMAT, "eos_token_id", try_small(&g, &check_error));
}

/* Spellings chosen so that the table of spellings (4096 slots for so many) has to put all of them in a row. */
static void test_collisions(void) {
    enum { N = 1100, SLOTS = 4096 };
    static tiny_gguf g;
    static char spellings[N][12];
    static const char *list[N];
    int n = 0;
    for (uint32_t i = 0; n < N; i++) {
        snprintf(spellings[n], sizeof spellings[n], "%u", (unsigned)i);
        uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
        for (const char *c = spellings[n]; *c != '\0'; c++) {
            h = (h ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
        }
        if ((uint32_t)(h ^ h >> 32) % SLOTS == 0) {
            list[n] = spellings[n];
            n++;
        }
    }
    tiny_begin(&g);
    tiny_set_str(&g, "tokenizer.ggml.model", "gpt2");
    tiny_set_strs(&g, "tokenizer.ggml.tokens", list, N);
    CHECK_FAILS(NANO_ERR_FORMAT, "collides", try_small(&g, &check_error));
}

static void test_hostile_spm(void) {
    static tiny_gguf g;
    const float bad_scores[N_SPM] = {0, 0.0f / 1.0f, -1, 1e30f * 1e30f - 1e30f * 1e30f};
    const int32_t bad_types[N_SPM] = {2, 3, 7};
    begin_spm(&g);
    CHECK_FAILS(NANO_ERR_NOT_FOUND, "tokenizer.ggml.scores", try_small(&g, &check_error));
    tiny_set_floats(&g, "tokenizer.ggml.scores", spm_scores, N_SPM - 1);
    CHECK_FAILS(NANO_ERR_FORMAT, "one a token", try_small(&g, &check_error));
    begin_spm(&g);
    tiny_set_floats(&g, "tokenizer.ggml.scores", bad_scores, N_SPM);
    CHECK_FAILS(NANO_ERR_FORMAT, "score 3", try_small(&g, &check_error));
    begin_spm(&g);
    tiny_set_floats(&g, "tokenizer.ggml.scores", spm_scores, N_SPM);
    tiny_set_ints(&g, "tokenizer.ggml.token_type", bad_types, N_SPM);
    CHECK_FAILS(NANO_ERR_FORMAT, "item 2", try_small(&g, &check_error));
    begin_spm(&g);
    tiny_set_strs(&g, "tokenizer.ggml.scores", spm_tokens, N_SPM);
    CHECK_FAILS(NANO_ERR_FORMAT, "expected an array of numbers", try_small(&g, &check_error));
    begin_spm(&g);
    tiny_set_floats(&g, "tokenizer.ggml.scores", spm_scores, N_SPM);
    tiny_set_str(&g, "tokenizer.ggml.add_space_prefix", "yes");
    CHECK_FAILS(NANO_ERR_FORMAT, "add_space_prefix", try_small(&g, &check_error));
    tiny_begin(&g);
    tiny_set_str(&g, "tokenizer.ggml.model", "llama");
    tiny_set_strs(&g, "tokenizer.ggml.tokens", NULL, 0);
    CHECK_FAILS(NANO_ERR_FORMAT, "tokenizer.ggml.tokens", try_small(&g, &check_error));
}

static void test_arguments(void) {
    static small s;
    begin_spm(&s.file);
    tiny_set_floats(&s.file, "tokenizer.ggml.scores", spm_scores, N_SPM);
    open_small(&s);
    const nano_tokenizer *t = s.tokenizer;
    const size_t room = nano_tokenizer_scratch(t, 2);
    void *scratch = malloc(room);
    int32_t ids[8];
    char out[8];
    size_t n = 77;
    nano_decoder d;
    CHECK_FAILS(NANO_ERR_ARGUMENT, "scratch",
                nano_tokenizer_encode(t, "bb", 2, 0, 0, scratch, room - 1, ids, 8, &n, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "room for 2 ids, expected 3",
                nano_tokenizer_encode(t, "bb", 2, 0, 0, scratch, room, ids, 2, &n, &check_error));
    CHECK_FAILS(NANO_ERR_LIMIT, "bytes",
                nano_tokenizer_encode(t, "bb", NANO_TEXT_MAX, 0, 0, scratch, room, ids, 2, &n, &check_error));
    nano_decoder_init(&d, t, false);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "token 99", nano_decoder_push(&d, t, 99, out, 8, &n, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "token -1", nano_decoder_push(&d, t, -1, out, 8, &n, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "room", nano_decoder_push(&d, t, 7, out, 5, &n, &check_error));
    CHECK(n == 77);
    free(scratch);
    close_small(&s);
}

/* -------------------------------------------------------- real vocabularies */

static char *read_whole(const char *folder, const char *name, const char *suffix, size_t *size) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf%s", folder, name, suffix);
    FILE *f = fopen(path, "rb");
    char *text = malloc(MAX_TEXT);
    *size = f != NULL ? fread(text, 1, MAX_TEXT - 1, f) : 0;
    text[*size] = '\0';
    CHECK(*size > 0);
    if (f != NULL) {
        (void)fclose(f);
    }
    return text;
}

/* Each text's ids, as the line of the other file says. */
static void check_published(const nano_tokenizer *t, const char *folder, const char *name) {
    size_t size, n_texts = 0;
    char *texts = read_whole(folder, name, ".inp", &size), *lines = read_whole(folder, name, ".out", &size);
    const char *line = lines;
    for (char *text = texts, *end; (end = strstr(text, SEPARATOR)) != NULL; text = end + strlen(SEPARATOR)) {
        const encoding e = encode(t, text, (size_t)(end - text), false, false);
        const char *at = line;
        bool same = true;
        for (size_t i = 0; i < e.n; i++) {
            char *after = NULL;
            same = strtol(at, &after, 10) == e.ids[i] && after > at && same;
            at = after;
        }
        if (!same || *at != '\n') {
            check_n_failed++;
            fprintf(stderr, "%s: text %zu: other ids than published: %.*s\n", name, n_texts, (int)(end - text), text);
        }
        CHECK(round_trips(t, text, (size_t)(end - text), false));
        free(e.ids);
        line = strchr(line, '\n') + 1;
        n_texts++;
    }
    CHECK(n_texts > 40);
    free(texts);
    free(lines);
}

/* Any characters but U+2581, which SentencePiece cannot tell from a space. */
static size_t random_text(char *out, size_t n_chars) {
    static const char *const pieces[] = {" ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "123", "the", "\xC2\xA0", "!?"};
    size_t n = 0;
    for (size_t i = 0; i < n_chars; i++) {
        uint32_t code = next_random() % 3 == 0 ? next_random() % 0x110000 : next_random() % 0x3000;
        if (next_random() % 3 == 0) {
            const char *piece = pieces[next_random() % (sizeof pieces / sizeof pieces[0])];
            memcpy(out + n, piece, strlen(piece));
            n += strlen(piece);
        } else if ((code < 0xD800 || code > 0xDFFF) && code != 0x2581) {
            n += nano_utf8_encode(code, (uint8_t *)out + n);
        }
    }
    return n;
}

static void check_random(const nano_tokenizer *t, const char *name) {
    char text[512];
    for (uint32_t seed = 1; seed <= 300; seed++) {
        random_state = seed * 2654435761u | 1u;
        const size_t size = random_text(text, next_random() % 100);
        if (!round_trips(t, text, size, false)) {
            check_n_failed++;
            fprintf(stderr, "%s: random text %u does not round-trip\n", name, (unsigned)seed);
        }
        for (size_t i = 0; i < sizeof text; i++) { /* bytes that are rarely UTF-8 */
            text[i] = (char)(next_random() % 4 == 0 ? next_random() % 128 : 0x80 + next_random() % 128);
        }
        const encoding e = encode(t, text, next_random() % sizeof text, true, true);
        size_t n;
        char *back = decode(t, e.ids, e.n, false, &n);
        for (size_t i = 0, used; i < n; i += used) { /* what comes out always is */
            uint32_t code;
            used = nano_utf8_decode((uint8_t *)back + i, (uint8_t *)back + n, &code);
            CHECK(code != NANO_CHAR_INVALID || used == 3);
        }
        free(back);
        free(e.ids);
    }
}

/* Processor time: other programs' does not count. */
static double encode_time(const nano_tokenizer *t, const char *text, size_t size) {
    double best = 1e9;
    for (int i = 0; i < 2; i++) {
        const clock_t start = clock();
        free(encode(t, text, size, false, true).ids);
        const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        best = seconds < best ? seconds : best;
    }
    return best;
}

/* Four times the text must take about four times as long: n log n and a smaller share of cache hits make it 5 or 6,
 * n squared would make it 16. */
static void check_time(const nano_tokenizer *t, const char *name, char *text, size_t size) {
    static const char *const patterns[] = {"a", " ", "1", "\n ", "\xE4\xB8\xAD", "ab1 ", "<|", "\xFF", NULL};
    for (int p = 0; p < (int)(sizeof patterns / sizeof patterns[0]); p++) {
        const size_t n = patterns[p] != NULL ? strlen(patterns[p]) : 0;
        for (size_t i = 0; i < size; i++) {
            text[i] = n > 0 ? patterns[p][i % n] : (char)('a' + next_random() % 26);
        }
        const double quarter = encode_time(t, text, size / 4), whole = encode_time(t, text, size);
        if (whole > 8 * quarter && whole > 0.05) {
            check_n_failed++;
            fprintf(stderr, "%s: %zu bytes of \"%s\": %.4f s, a quarter of them %.4f s\n", name, size,
                    n > 0 ? patterns[p] : "random letters", whole, quarter);
        }
    }
}

static void check_vocabulary(const char *folder, const char *name, size_t time_size) {
    char path[1024];
    nano_gguf *gguf = NULL;
    nano_tokenizer *t = NULL;
    (void)snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf", folder, name);
    CHECK_OK(nano_gguf_open(path, &gguf, &check_error));
    if (gguf != NULL) {
        CHECK_OK(nano_tokenizer_create(gguf, &t, &check_error));
    }
    if (t != NULL) {
        char *text = malloc(time_size);
        check_published(t, folder, name);
        check_random(t, name);
        check_time(t, name, text, time_size);
        free(text);
    }
    nano_tokenizer_free(t);
    nano_gguf_free(gguf);
}

/* test_tokenizer [FOLDER [BYTES]]: BYTES of text for the times. */
int main(int argc, char **argv) {
    static const char *const names[] = {"gpt-2", "llama-bpe", "llama-spm", "qwen2"};
    const char *folder = argc > 1 ? argv[1] : getenv("NANOLLM_TEST_DATA");
    const size_t time_size = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : (size_t)1 << 17;
    test_spm();
    test_bpe();
    test_hostile_bpe();
    test_hostile_spm();
    test_collisions();
    test_arguments();
    if (folder == NULL) {
        puts("real vocabularies skipped: no folder given, and NANOLLM_TEST_DATA is not set");
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0] && folder != NULL; i++) {
        check_vocabulary(folder, names[i], time_size);
    }
    return check_result();
}
