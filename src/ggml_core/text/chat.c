/*
 * Chat templates as literal pieces, built in or read from a file. The built-in ones are the templates of their names in
 * nanollm/chat.py, taken apart; a test there holds the two together.
 */
#include "ggml_core.h"

#include "base/arith.h"
#include "base/error.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

typedef enum piece { OPEN, SYSTEM_OPEN, SYSTEM_CLOSE, ANSWER, NEXT, N_PIECES } piece;

enum { MAX_PIECE = 1 << 15 }; /* bytes; real ones have a hundred */

static const char *const keys[N_PIECES] = {"nanollm.chat.open", "nanollm.chat.system_open", "nanollm.chat.system_close",
                                           "nanollm.chat.answer", "nanollm.chat.next"};

struct nano_chat {
    nano_str pieces[N_PIECES]; /* in text */
    bool has_system;
    bool trim;
    bool trim_system;
    char text[];
};

/* ---------------------------------------------------------------- built-in */

#define BOS "\001"
#define EOS "\002"

typedef struct builtin {
    const char *name;
    const char *pieces[N_PIECES];
    bool trim;
    bool trim_system;
} builtin;

static const builtin builtins[] = {
    {"chatml",
     {"<|im_start|>user\n", "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n",
      "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n"},
     false,
     false},
    {"gemma",
     {BOS "<start_of_turn>user\n", BOS "<start_of_turn>user\n", "\n\n", "<end_of_turn>\n<start_of_turn>model\n",
      "<end_of_turn>\n<start_of_turn>user\n"},
     true,
     true},
    {"llama2",
     {BOS "[INST] ", BOS "[INST] <<SYS>>\n", "\n<</SYS>>\n\n", " [/INST]", " " EOS BOS "[INST] "},
     true,
     false},
    {"llama3",
     {BOS "<|start_header_id|>user<|end_header_id|>\n\n", BOS "<|start_header_id|>system<|end_header_id|>\n\n",
      "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
      "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
      "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"},
     true,
     true},
    {"mistral", {BOS "[INST] ", BOS "[INST] ", "\n\n", " [/INST]", EOS "[INST] "}, false, false},
    {"phi3",
     {"<|user|>\n", "<|system|>\n", "<|end|>\n<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>\n<|user|>\n"},
     false,
     false},
    {"zephyr",
     {"<|user|>\n", "<|system|>\n", EOS "\n<|user|>\n", EOS "\n<|assistant|>\n", EOS "\n<|user|>\n"},
     false,
     false},
};

enum { N_BUILTINS = sizeof builtins / sizeof builtins[0] };

const char *nano_chat_name_at(int32_t i) { return i >= 0 && i < N_BUILTINS ? builtins[i].name : NULL; }

static const builtin *find_builtin(const char *name) {
    for (int32_t i = 0; i < N_BUILTINS; i++) {
        if (strcmp(builtins[i].name, name) == 0) {
            return &builtins[i];
        }
    }
    return NULL;
}

/* ------------------------------------------------------------ construction */

/* What a byte of a piece stands for: a special token's spelling, or itself. */
static nano_str meaning(const char *byte, bool is_builtin, nano_str bos, nano_str eos) {
    return is_builtin && *byte == BOS[0] ? bos : is_builtin && *byte == EOS[0] ? eos : (nano_str){byte, 1};
}

/* Copies the pieces; none has more than MAX_PIECE bytes, nor has a token of a vocabulary. */
static nano_status make(const nano_str *pieces, bool is_builtin, nano_str bos, nano_str eos, nano_chat **out,
                        nano_error *err) {
    size_t total = 0;
    for (int i = 0; i < N_PIECES; i++) {
        for (size_t k = 0; k < pieces[i].size; k++) {
            if (!nano_add_size(total, meaning(pieces[i].data + k, is_builtin, bos, eos).size, &total) ||
                total > SIZE_MAX / 2) {
                return nano_fail(err, NANO_ERR_LIMIT, "chat: the pieces of the template are too long");
            }
        }
    }
    nano_chat *chat = calloc(1, sizeof *chat + total);
    if (chat == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "chat: out of memory");
    }
    char *at = chat->text;
    for (int i = 0; i < N_PIECES; i++) {
        chat->pieces[i].data = at;
        for (size_t k = 0; k < pieces[i].size; k++) {
            nano_str text = meaning(pieces[i].data + k, is_builtin, bos, eos);
            memcpy(at, text.data, text.size);
            at += text.size;
        }
        chat->pieces[i].size = (size_t)(at - chat->pieces[i].data);
    }
    *out = chat;
    return NANO_OK;
}

static nano_status create_builtin(const nano_tokenizer *t, const char *name, nano_chat **out, nano_error *err) {
    const builtin *b = find_builtin(name);
    if (b == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "chat template %.64s: not one of chatml, gemma, llama2, llama3, mistral, phi3, zephyr", name);
    }
    nano_str pieces[N_PIECES];
    for (int i = 0; i < N_PIECES; i++) {
        pieces[i] = (nano_str){b->pieces[i], strlen(b->pieces[i])};
    }
    NANO_TRY(make(pieces, true, nano_tokenizer_spelling(t, nano_tokenizer_bos(t)),
                  nano_tokenizer_spelling(t, nano_tokenizer_eos(t)), out, err));
    (*out)->has_system = true;
    (*out)->trim = b->trim;
    (*out)->trim_system = b->trim_system;
    return NANO_OK;
}

/* `fallback` where the key is absent. */
static nano_status read_flag(const nano_gguf *gguf, const char *key, bool fallback, bool *out, nano_error *err) {
    const nano_gguf_value *value = nano_gguf_find(gguf, key);
    int64_t number = fallback ? 1 : 0;
    if (value != NULL && (value->kind != NANO_GGUF_BOOL || !nano_gguf_item_int(value, 0, &number))) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: %s: found another kind, expected a bool", nano_gguf_path(gguf),
                         key);
    }
    *out = number != 0;
    return NANO_OK;
}

static nano_status create_from_file(const nano_gguf *gguf, nano_chat **out, nano_error *err) {
    const char *path = nano_gguf_path(gguf);
    nano_str pieces[N_PIECES];
    bool has[N_PIECES], trim = false, trim_system = false;
    for (int i = 0; i < N_PIECES; i++) {
        has[i] = nano_gguf_find(gguf, keys[i]) != NULL;
        pieces[i] = (nano_str){"", 0};
        if (has[i]) {
            NANO_TRY(nano_gguf_get_str(gguf, keys[i], &pieces[i], err));
        } else if (i == OPEN) {
            return nano_fail(err, NANO_ERR_NOT_FOUND, "%s: %s: not found: the file has no chat pieces", path, keys[i]);
        }
        if (pieces[i].size > MAX_PIECE) {
            return nano_fail(err, NANO_ERR_FORMAT, "%s: %s: found %zu bytes, expected at most %d", path, keys[i],
                             pieces[i].size, MAX_PIECE);
        }
    }
    for (int i = ANSWER; i <= NEXT; i++) {
        if (!has[i]) {
            return nano_fail(err, NANO_ERR_FORMAT, "%s: %s: not found beside %s", path, keys[i], keys[OPEN]);
        }
    }
    if (has[SYSTEM_OPEN] != has[SYSTEM_CLOSE]) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: %s and %s: found one, expected both or neither", path,
                         keys[SYSTEM_OPEN], keys[SYSTEM_CLOSE]);
    }
    NANO_TRY(read_flag(gguf, "nanollm.chat.trim", false, &trim, err));
    NANO_TRY(read_flag(gguf, "nanollm.chat.trim_system", trim, &trim_system, err));
    NANO_TRY(make(pieces, false, (nano_str){"", 0}, (nano_str){"", 0}, out, err));
    (*out)->has_system = has[SYSTEM_OPEN];
    (*out)->trim = trim;
    (*out)->trim_system = trim_system;
    return NANO_OK;
}

nano_status nano_chat_create(const nano_gguf *gguf, const nano_tokenizer *tokenizer, const char *name, nano_chat **out,
                             nano_error *err) {
    return name == NULL ? create_from_file(gguf, out, err) : create_builtin(tokenizer, name, out, err);
}

void nano_chat_free(nano_chat *chat) { free(chat); }

/* -------------------------------------------------------------------- turn */

/* What Jinja's trim takes away: Unicode's white space, and the four separators that Python counts among it. */
static bool is_space(uint32_t code) {
    return (code >= 0x1c && code <= 0x1f) || nano_unicode_class(code) == NANO_CHAR_SPACE;
}

static nano_str trimmed(nano_str text) {
    if (text.size == 0) {
        return text; /* its data may be NULL */
    }
    const uint8_t *first = (const uint8_t *)text.data, *end = first + text.size, *last = first;
    uint32_t code = 0;
    while (first < end) {
        size_t n = nano_utf8_decode(first, end, &code);
        if (!is_space(code)) {
            break;
        }
        first += n;
    }
    last = first;
    for (const uint8_t *at = first; at < end;) {
        at += nano_utf8_decode(at, end, &code);
        last = is_space(code) ? last : at;
    }
    return (nano_str){(const char *)first, (size_t)(last - first)};
}

nano_status nano_chat_turn(const nano_chat *chat, bool is_first, const nano_str *system, nano_str user, char *out,
                           size_t capacity, size_t *n, nano_error *err) {
    nano_str parts[5];
    int n_parts = 0;
    if (is_first && system != NULL && system->size > 0) {
        if (!chat->has_system) {
            return nano_fail(err, NANO_ERR_UNSUPPORTED, "chat: the template has no place for a system message");
        }
        parts[n_parts++] = chat->pieces[SYSTEM_OPEN];
        parts[n_parts++] = chat->trim_system ? trimmed(*system) : *system;
        parts[n_parts++] = chat->pieces[SYSTEM_CLOSE];
    } else {
        parts[n_parts++] = chat->pieces[is_first ? OPEN : NEXT];
    }
    parts[n_parts++] = chat->trim ? trimmed(user) : user;
    parts[n_parts++] = chat->pieces[ANSWER];
    size_t total = 0;
    for (int i = 0; i < n_parts; i++) {
        if (!nano_add_size(total, parts[i].size, &total)) {
            return nano_fail(err, NANO_ERR_LIMIT, "chat: the turn is larger than the address space");
        }
    }
    *n = total;
    if (out != NULL && total > capacity) {
        return nano_fail(err, NANO_ERR_LIMIT, "chat: the turn has %zu bytes, the buffer has %zu", total, capacity);
    }
    for (int i = 0; out != NULL && i < n_parts; i++) {
        if (parts[i].size > 0) { /* the data of an empty text may be NULL */
            memcpy(out, parts[i].data, parts[i].size);
            out += parts[i].size;
        }
    }
    return NANO_OK;
}
