#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/error.h"
#include "gguf/format.h"

/* Control tokens that end generation by how they are spelt: files name one of them, chat models use several. */
static const char *const end_spellings[] = {
    "</s>",
    "<eos>",
    "[EOS]",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_utterance>",
    "<EOT>",
    "<|EOT|>",
    ("<\xEF\xBD\x9C"
     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"),
};

/* ----------------------------------------------------------------- loading */

/* An array of n items (any number when n is 0) of strings or of numbers; *out is NULL when it is absent and not
 * `required`. */
static nano_status find_array(const nano_gguf *gguf, const char *key, bool strings, uint64_t n, bool required,
                              const nano_gguf_value **out, nano_error *err) {
    const char *path = nano_gguf_path(gguf);
    const nano_gguf_value *value = nano_gguf_find(gguf, key);
    *out = value;
    if (value == NULL) {
        return required ? nano_fail(err, NANO_ERR_NOT_FOUND, "%s: %s: not found, expected an array", path, key)
                        : NANO_OK;
    }
    if (value->kind != NANO_GGUF_ARRAY || (value->item_kind == NANO_GGUF_STRING) != strings) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: %s: found %s%s, expected an array of %s", path, key,
                         value->kind == NANO_GGUF_ARRAY ? "an array of " : "",
                         nano_gguf_kind_name((uint32_t)value->item_kind), strings ? "strings" : "numbers");
    }
    if (n != 0 && value->n_items != n) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: %s: found %llu items, expected %llu, one a token", path, key,
                         (unsigned long long)value->n_items, (unsigned long long)n);
    }
    return NANO_OK;
}

static nano_status load_types(nano_tokenizer *t, const nano_gguf *gguf, nano_error *err) {
    const size_t n = (size_t)t->vocab.n_tokens;
    const nano_gguf_value *value;
    NANO_TRY(find_array(gguf, "tokenizer.ggml.token_type", false, n, false, &value, err));
    t->types = malloc(n);
    t->ends = calloc(n, 1);
    if (t->types == NULL || t->ends == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory for the types of %zu tokens", nano_gguf_path(gguf), n);
    }
    memset(t->types, NANO_TOKEN_NORMAL, n);
    for (size_t i = 0; i < n && value != NULL; i++) {
        int64_t type;
        if (!nano_gguf_item_int(value, i, &type) || type < NANO_TOKEN_UNDEFINED || type > NANO_TOKEN_BYTE) {
            return nano_fail(err, NANO_ERR_FORMAT, "%s: tokenizer.ggml.token_type: item %zu is not from 0 to 6",
                             nano_gguf_path(gguf), i);
        }
        t->types[i] = type == NANO_TOKEN_UNDEFINED ? NANO_TOKEN_NORMAL : (uint8_t)type;
    }
    return NANO_OK;
}

/* A token's id: *out is left alone when the key is absent, and -1 when it holds -1 in 32 bits or more. */
static nano_status read_id(const nano_tokenizer *t, const nano_gguf *gguf, const char *key, int32_t *out,
                           nano_error *err) {
    int64_t id;
    if (nano_gguf_find(gguf, key) == NULL) {
        return NANO_OK;
    }
    NANO_TRY(nano_gguf_get_int(gguf, key, &id, err));
    if (id == -1 || id == UINT32_MAX) {
        *out = -1;
        return NANO_OK;
    }
    if (id < 0 || id >= t->vocab.n_tokens) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: %s: found %lld, expected one of the %d tokens",
                         nano_gguf_path(gguf), key, (long long)id, (int)t->vocab.n_tokens);
    }
    *out = (int32_t)id;
    return NANO_OK;
}

static nano_status read_flag(const nano_gguf *gguf, const char *key, bool *out, nano_error *err) {
    int64_t flag;
    if (nano_gguf_find(gguf, key) != NULL) {
        NANO_TRY(nano_gguf_get_int(gguf, key, &flag, err));
        *out = flag != 0;
    }
    return NANO_OK;
}

/* SentencePiece puts <unk>, <s> and </s> first, and files that do not name them mean these. */
static int32_t customary_id(const nano_tokenizer *t, int32_t id, nano_token_type type) {
    return t->model == NANO_TOKENIZER_SPM && id < t->vocab.n_tokens && t->types[id] == type ? id : -1;
}

static nano_status load_special_ids(nano_tokenizer *t, const nano_gguf *gguf, nano_error *err) {
    t->unknown = customary_id(t, 0, NANO_TOKEN_UNKNOWN);
    t->bos = customary_id(t, 1, NANO_TOKEN_CONTROL);
    t->eos = customary_id(t, 2, NANO_TOKEN_CONTROL);
    t->eot = -1;
    NANO_TRY(read_id(t, gguf, "tokenizer.ggml.unknown_token_id", &t->unknown, err));
    NANO_TRY(read_id(t, gguf, "tokenizer.ggml.bos_token_id", &t->bos, err));
    NANO_TRY(read_id(t, gguf, "tokenizer.ggml.eos_token_id", &t->eos, err));
    NANO_TRY(read_id(t, gguf, "tokenizer.ggml.eot_token_id", &t->eot, err));
    NANO_TRY(read_flag(gguf, "tokenizer.ggml.add_bos_token", &t->add_bos, err));
    NANO_TRY(read_flag(gguf, "tokenizer.ggml.add_eos_token", &t->add_eos, err));
    for (size_t i = 0; i < sizeof end_spellings / sizeof end_spellings[0]; i++) {
        const int32_t id = nano_vocab_find(&t->vocab, end_spellings[i], strlen(end_spellings[i]));
        if (id >= 0 && t->types[id] == NANO_TOKEN_CONTROL) {
            t->ends[id] = 1;
        }
    }
    if (t->eos >= 0) {
        t->ends[t->eos] = 1;
    }
    if (t->eot >= 0) {
        t->ends[t->eot] = 1;
    }
    return NANO_OK;
}

static nano_status load_bpe(nano_tokenizer *t, const nano_gguf *gguf, nano_error *err) {
    const nano_gguf_value *merges;
    nano_str pre = {"default", 7};
    if (nano_gguf_find(gguf, "tokenizer.ggml.pre") != NULL) {
        NANO_TRY(nano_gguf_get_str(gguf, "tokenizer.ggml.pre", &pre, err));
    }
    const nano_pretokenizer_name *name = nano_pretokenizer_find(pre);
    if (name == NULL) {
        char quoted[NANO_GGUF_QUOTED_SIZE];
        return nano_fail(err, NANO_ERR_UNSUPPORTED,
                         "%s: tokenizer.ggml.pre: found %s, which is not known; known are "
                         "\"gpt-2\", \"llama-bpe\", \"qwen2\", \"smollm\", \"default\" and others that mean the same",
                         nano_gguf_path(gguf), nano_gguf_quote(pre, quoted));
    }
    t->pretokenizer = name->kind;
    t->bpe.whole_words = name->whole_words;
    t->add_bos = name->add_bos;
    NANO_TRY(find_array(gguf, "tokenizer.ggml.merges", true, 0, true, &merges, err));
    return nano_bpe_load(t, merges, nano_gguf_path(gguf), err);
}

static nano_status load_spm(nano_tokenizer *t, const nano_gguf *gguf, nano_error *err) {
    const nano_gguf_value *scores;
    t->add_bos = true;
    t->spm.add_space_prefix = true;
    NANO_TRY(read_flag(gguf, "tokenizer.ggml.add_space_prefix", &t->spm.add_space_prefix, err));
    NANO_TRY(find_array(gguf, "tokenizer.ggml.scores", false, (uint64_t)t->vocab.n_tokens, true, &scores, err));
    return nano_spm_load(t, scores, nano_gguf_path(gguf), err);
}

static nano_status load(nano_tokenizer *t, const nano_gguf *gguf, nano_error *err) {
    const char *path = nano_gguf_path(gguf);
    const nano_gguf_value *tokens;
    nano_str model;
    NANO_TRY(nano_gguf_get_str(gguf, "tokenizer.ggml.model", &model, err));
    const bool bpe = model.size == 4 && memcmp(model.data, "gpt2", 4) == 0;
    if (!bpe && (model.size != 5 || memcmp(model.data, "llama", 5) != 0)) {
        char quoted[NANO_GGUF_QUOTED_SIZE];
        return nano_fail(err, NANO_ERR_UNSUPPORTED,
                         "%s: tokenizer.ggml.model: found %s, expected \"gpt2\" or "
                         "\"llama\"",
                         path, nano_gguf_quote(model, quoted));
    }
    t->model = bpe ? NANO_TOKENIZER_BPE : NANO_TOKENIZER_SPM;
    NANO_TRY(find_array(gguf, "tokenizer.ggml.tokens", true, 0, true, &tokens, err));
    NANO_TRY(nano_vocab_load(&t->vocab, tokens, path, err));
    NANO_TRY(load_types(t, gguf, err));
    NANO_TRY(nano_special_load(&t->special, &t->vocab, t->types, err));
    NANO_TRY(bpe ? load_bpe(t, gguf, err) : load_spm(t, gguf, err));
    return load_special_ids(t, gguf, err);
}

nano_status nano_tokenizer_create(const nano_gguf *gguf, nano_tokenizer **out, nano_error *err) {
    nano_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory for a tokenizer", nano_gguf_path(gguf));
    }
    const nano_status status = load(t, gguf, err);
    if (status != NANO_OK) {
        nano_tokenizer_free(t);
        return status;
    }
    *out = t;
    return NANO_OK;
}

void nano_tokenizer_free(nano_tokenizer *t) {
    if (t == NULL) {
        return;
    }
    nano_vocab_release(&t->vocab);
    nano_special_release(&t->special);
    free(t->types);
    free(t->ends);
    free(t->bpe.merges);
    free(t->bpe.slots);
    free(t->spm.order);
    free(t);
}

/* ----------------------------------------------------------------- getters */

static bool in_range(const nano_tokenizer *t, int32_t id) { return id >= 0 && id < t->vocab.n_tokens; }

int32_t nano_tokenizer_n_tokens(const nano_tokenizer *t) { return t->vocab.n_tokens; }
int32_t nano_tokenizer_bos(const nano_tokenizer *t) { return t->bos; }
int32_t nano_tokenizer_eos(const nano_tokenizer *t) { return t->eos; }
int32_t nano_tokenizer_eot(const nano_tokenizer *t) { return t->eot; }
bool nano_tokenizer_adds_bos(const nano_tokenizer *t) { return t->add_bos && t->bos >= 0; }
bool nano_tokenizer_adds_eos(const nano_tokenizer *t) { return t->add_eos && t->eos >= 0; }
bool nano_tokenizer_is_end(const nano_tokenizer *t, int32_t id) { return in_range(t, id) && t->ends[id] != 0; }

bool nano_tokenizer_is_special(const nano_tokenizer *t, int32_t id) {
    return in_range(t, id) && (t->types[id] == NANO_TOKEN_CONTROL || t->types[id] == NANO_TOKEN_UNKNOWN);
}

nano_str nano_tokenizer_spelling(const nano_tokenizer *t, int32_t id) {
    return in_range(t, id) ? nano_vocab_spelling(&t->vocab, id) : (nano_str){"", 0};
}

int32_t nano_tokenizer_find(const nano_tokenizer *t, const char *spelling, size_t size) {
    return nano_vocab_find(&t->vocab, spelling, size);
}

/* ---------------------------------------------------------------- encoding */

/* Bytes of scratch a byte of text: a symbol with its part of the heap, and its spelling, where a space of one byte
 * takes three. One more symbol for the space that encoding adds. */
enum { SCRATCH_PER_BYTE = NANO_MERGER_BYTES_PER_SYMBOL + NANO_SPM_SPACE_BYTES };

size_t nano_tokenizer_scratch(const nano_tokenizer *t, size_t text_size) {
    size_t n;
    (void)t;
    return text_size < NANO_TEXT_MAX && nano_mul_size(text_size + 1, SCRATCH_PER_BYTE, &n) ? n : SIZE_MAX;
}

size_t nano_tokenizer_max_ids(const nano_tokenizer *t, size_t text_size) {
    if (text_size >= NANO_TEXT_MAX || text_size > SIZE_MAX / 8) {
        return SIZE_MAX;
    }
    if (t->model == NANO_TOKENIZER_BPE) {
        return text_size + 2;
    }
    /* Every second byte can be a user-defined token, after each of which a space is added. */
    return (text_size + text_size / 2 + 1) * t->spm.space_ids + 2;
}

static void encode_text(nano_encoder *e, const uint8_t *text, size_t size) {
    if (e->tokenizer->model == NANO_TOKENIZER_BPE) {
        nano_bpe_encode(e, text, size);
    } else {
        nano_spm_encode(e, text, size, e->tokenizer->spm.add_space_prefix);
    }
}

/* Special tokens, and the text between them. */
static void encode_all(nano_encoder *e, const uint8_t *text, size_t size, bool parse_special) {
    const uint8_t *const end = text + size;
    while (text < end) {
        int32_t id = -1;
        size_t id_size = 0;
        const uint8_t *at = nano_special_find(&e->tokenizer->special, text, end, parse_special, &id, &id_size);
        if (at > text) {
            encode_text(e, text, (size_t)(at - text));
        }
        if (at < end) {
            nano_encoder_emit(e, id);
        }
        text = at + id_size;
    }
}

nano_status nano_tokenizer_encode(const nano_tokenizer *t, const char *text, size_t size, bool add_special,
                                  bool parse_special, void *scratch, size_t scratch_size, int32_t *ids, size_t capacity,
                                  size_t *n_ids, nano_error *err) {
    if (size >= NANO_TEXT_MAX) {
        return nano_fail(err, NANO_ERR_LIMIT, "text of %zu bytes, expected less than %zu", size, NANO_TEXT_MAX);
    }
    if (scratch_size < nano_tokenizer_scratch(t, size) || (uintptr_t)scratch % sizeof(uint64_t) != 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "scratch of %zu bytes, expected %zu, aligned", scratch_size,
                         nano_tokenizer_scratch(t, size));
    }
    const size_t n_symbols = size + 1;
    nano_encoder e = {.tokenizer = t, .ids = ids, .capacity = capacity};
    e.merger.heap = scratch;
    e.merger.symbols = (nano_symbol *)(void *)(e.merger.heap + 2 * n_symbols);
    e.bytes = (uint8_t *)(e.merger.symbols + n_symbols);
    if (add_special && nano_tokenizer_adds_bos(t)) {
        nano_encoder_emit(&e, t->bos);
    }
    if (size > 0) {
        encode_all(&e, (const uint8_t *)text, size, parse_special);
    }
    if (add_special && nano_tokenizer_adds_eos(t)) {
        nano_encoder_emit(&e, t->eos);
    }
    if (e.n_ids > capacity) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "room for %zu ids, expected %zu", capacity, e.n_ids);
    }
    *n_ids = e.n_ids;
    return NANO_OK;
}
