/*
 * Encodes the input with a small vocabulary and decodes the ids. The first byte chooses the vocabulary (the last
 * choice takes it from the input, too: tokens a line, NUL, merges a line, NUL, text), the second the options.
 */
#include "tests/tiny_gguf.h"

#include "text/tokenizer.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_BPE = 5, N_BUILT_IN = 7, ADD_SPECIAL = 1, PARSE_SPECIAL = 2, SHOW_SPECIAL = 4, SPM = 8 };

static const char *const rules[N_BPE] = {"default", "gpt-2", "llama-bpe", "qwen2", "smollm"};
static const char *const words[] = {"a", "b", "ab", "aba", "the", "'s", "123", "\n\n", "aa", "aaaa"};
static const char *const merges[] = {"a b", "ab a", "t h", "th e", "' s", "a a", "aa aa", "1 2", "12 3"};
enum { N_WORDS = sizeof words / sizeof words[0], N_MERGES = sizeof merges / sizeof merges[0] };

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

static void set_count(tiny_gguf *g, size_t at, uint64_t n) { memcpy(g->bytes + at, &n, sizeof n); }

/* Begins an array of strings; returns where its count belongs. */
static size_t begin_strings(tiny_gguf *g, const char *key) {
    tiny_set_strs(g, key, NULL, 0);
    return g->size - sizeof(uint64_t);
}

static void set_types(tiny_gguf *g, const uint8_t *types, size_t n) {
    tiny_set_array(g, "tokenizer.ggml.token_type", NANO_GGUF_UINT8, types, 1, n);
}

/* 256 byte tokens, words, and special tokens. */
static void build(tiny_gguf *g, size_t choice) {
    const bool bpe = choice < N_BPE;
    uint8_t types[256 + N_WORDS + 8];
    float scores[sizeof types];
    size_t n = 0;
    char spelling[8];
    tiny_begin(g);
    tiny_set_str(g, "tokenizer.ggml.model", bpe ? "gpt2" : "llama");
    const size_t count_at = begin_strings(g, "tokenizer.ggml.tokens");
    for (; n < 256; n++) {
        if (bpe) {
            spelling[nano_utf8_encode(nano_bpe_char_of_byte((uint8_t)n), (uint8_t *)spelling)] = '\0';
        } else {
            (void)snprintf(spelling, sizeof spelling, "<0x%02X>", (unsigned)n);
        }
        tiny_string(g, spelling);
        types[n] = bpe ? NANO_TOKEN_NORMAL : NANO_TOKEN_BYTE;
    }
    static const char *const more[] = {"aaa", "\xE2\x96\x81", "th", "12", "<|end|>", "<s>", "<u>", " <u"};
    for (size_t i = 0; i < N_WORDS + 8; i++, n++) {
        tiny_string(g, i < N_WORDS ? words[i] : more[i - N_WORDS]);
        types[n] = i < N_WORDS + 4 ? NANO_TOKEN_NORMAL : i < N_WORDS + 6 ? NANO_TOKEN_CONTROL : NANO_TOKEN_USER_DEFINED;
    }
    set_count(g, count_at, n);
    set_types(g, types, n);
    for (size_t i = 0; i < n; i++) {
        scores[i] = -(float)(i % 7);
    }
    if (bpe) {
        tiny_set_str(g, "tokenizer.ggml.pre", rules[choice]);
        tiny_set_strs(g, "tokenizer.ggml.merges", merges, N_MERGES);
    } else {
        tiny_set_floats(g, "tokenizer.ggml.scores", scores, n);
        tiny_set_bool(g, "tokenizer.ggml.add_space_prefix", choice == N_BPE);
    }
    tiny_set_int(g, "tokenizer.ggml.bos_token_id", 256 + N_WORDS + 4);
}

/* Strings a line up to a NUL; returns what comes after it. */
static const uint8_t *set_lines(tiny_gguf *g, const char *key, const uint8_t *s, const uint8_t *end, uint64_t *n) {
    const size_t count_at = begin_strings(g, key);
    *n = 0;
    while (s < end && *s != '\0') {
        const uint8_t *line = s;
        while (s < end && *s != '\n' && *s != '\0') {
            s++;
        }
        tiny_u64(g, (uint64_t)(s - line));
        tiny_bytes(g, line, (size_t)(s - line));
        ++*n;
        s += s < end && *s == '\n';
    }
    set_count(g, count_at, *n);
    return s < end ? s + 1 : end;
}

static const uint8_t *build_from(tiny_gguf *g, const uint8_t *s, const uint8_t *end, uint8_t options) {
    uint64_t n, n_merges;
    static uint8_t types[TINY_CAPACITY];
    static float scores[TINY_CAPACITY];
    tiny_begin(g);
    tiny_set_str(g, "tokenizer.ggml.model", (options & SPM) != 0 ? "llama" : "gpt2");
    s = set_lines(g, "tokenizer.ggml.tokens", s, end, &n);
    s = set_lines(g, "tokenizer.ggml.merges", s, end, &n_merges);
    for (size_t i = 0; i < n && i < TINY_CAPACITY; i++) {
        types[i] = i % 3 == 0 ? (uint8_t)(i / 3 % 7) : NANO_TOKEN_NORMAL;
        scores[i] = (float)(i % 5);
    }
    set_types(g, types, (size_t)n);
    tiny_set_floats(g, "tokenizer.ggml.scores", scores, (size_t)n);
    return s;
}

static void decode(const nano_tokenizer *t, const int32_t *ids, size_t n, bool show, const uint8_t *text, size_t size,
                   bool exact) {
    const size_t most = nano_decoder_max_bytes(t);
    char *out = malloc(most);
    nano_decoder d;
    size_t at = 0;
    nano_decoder_init(&d, t, show);
    for (size_t i = 0; i <= n; i++) {
        size_t added = 0;
        if (i < n) {
            require(nano_decoder_push(&d, t, ids[i], out, most, &added, NULL) == NANO_OK);
        } else {
            added = nano_decoder_flush(&d, out, most);
        }
        require(added <= most);
        for (size_t j = 0; j < added && exact; j++) {
            require(at < size && (uint8_t)out[j] == text[at++]);
        }
    }
    require(!exact || at == size);
    free(out);
}

/* Well-formed, and without U+2581, which SentencePiece reads as a space. */
static bool comes_back(const uint8_t *s, size_t size) {
    uint32_t code;
    for (size_t i = 0, used; i < size; i += used) {
        used = nano_utf8_decode(s + i, s + size, &code);
        if ((code == NANO_CHAR_INVALID && used == 1) || code == 0x2581) {
            return false;
        }
    }
    return true;
}

static void encode(const nano_tokenizer *t, const uint8_t *text, size_t size, uint8_t options, bool complete) {
    const size_t n_scratch = nano_tokenizer_scratch(t, size), capacity = nano_tokenizer_max_ids(t, size);
    void *scratch = malloc(n_scratch);
    int32_t *ids = malloc(capacity * sizeof *ids);
    size_t n = 0;
    require(nano_tokenizer_encode(t, (const char *)text, size, (options & ADD_SPECIAL) != 0,
                                  (options & PARSE_SPECIAL) != 0, scratch, n_scratch, ids, capacity, &n,
                                  NULL) == NANO_OK);
    const bool show = (options & SHOW_SPECIAL) != 0 && (options & ADD_SPECIAL) == 0;
    const bool exact = complete && comes_back(text, size) && (show || (options & PARSE_SPECIAL) == 0);
    decode(t, ids, n, show, text, size, exact);
    free(scratch);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tiny_gguf file;
    static nano_tokenizer *built_in[N_BUILT_IN];
    if (size < 2) {
        return 0;
    }
    const size_t choice = data[0] % (N_BUILT_IN + 1);
    const uint8_t options = data[1], *text = data + 2, *end = data + size;
    nano_tokenizer *t = choice < N_BUILT_IN ? built_in[choice] : NULL;
    if (t == NULL) {
        nano_gguf *gguf = NULL;
        if (choice < N_BUILT_IN) {
            build(&file, choice);
        } else {
            text = build_from(&file, text, end, options);
        }
        if (tiny_open(&file, &gguf, NULL) == NANO_OK) {
            require(nano_tokenizer_create(gguf, &t, NULL) == NANO_OK || choice == N_BUILT_IN);
        }
        nano_gguf_free(gguf);
    }
    if (t != NULL) {
        encode(t, text, (size_t)(end - text), options, choice < N_BUILT_IN);
    }
    if (choice < N_BUILT_IN) {
        require((built_in[choice] = t) != NULL);
    } else {
        nano_tokenizer_free(t);
    }
    return 0;
}
