#include "text/pretokenize.h"

#include <string.h>

#include "text/unicode.h"

/* clang-format off */
static const nano_pretokenizer_name names[] = {
    {"default", NANO_PRE_DEFAULT, false, false},
    {"gpt-2", NANO_PRE_GPT2, false, false},
    {"gpt2", NANO_PRE_GPT2, false, false},
    {"phi-2", NANO_PRE_GPT2, false, false},
    {"mpt", NANO_PRE_GPT2, false, false},
    {"olmo", NANO_PRE_GPT2, false, false},
    {"jais", NANO_PRE_GPT2, false, false},
    {"gigachat", NANO_PRE_GPT2, false, false},
    {"llama-bpe", NANO_PRE_LLAMA3, true, true},
    {"llama3", NANO_PRE_LLAMA3, true, true},
    {"llama-v3", NANO_PRE_LLAMA3, true, true},
    {"falcon3", NANO_PRE_LLAMA3, true, true},
    {"falcon-h1", NANO_PRE_LLAMA3, true, true},
    {"lfm2", NANO_PRE_LLAMA3, true, true},
    {"smaug-bpe", NANO_PRE_LLAMA3, false, false},
    {"dbrx", NANO_PRE_LLAMA3, false, false},
    {"qwen2", NANO_PRE_QWEN2, false, false},
    {"deepseek-r1-qwen", NANO_PRE_QWEN2, false, false},
    {"stablelm2", NANO_PRE_QWEN2, false, false},
    {"smollm", NANO_PRE_SMOLLM, false, false},
    {"starcoder", NANO_PRE_SMOLLM, false, false},
    {"refact", NANO_PRE_SMOLLM, false, false},
    {"command-r", NANO_PRE_SMOLLM, false, false},
    {"codeshell", NANO_PRE_SMOLLM, false, false},
    {"exaone", NANO_PRE_SMOLLM, false, false},
};
/* clang-format on */

const nano_pretokenizer_name *nano_pretokenizer_find(nano_str name) {
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i].name) == name.size && memcmp(names[i].name, name.data, name.size) == 0) {
            return &names[i];
        }
    }
    return NULL;
}

/* A character and where the one after it begins. At the end of the text its class is NANO_CHAR_END. */
typedef struct text_char {
    uint32_t code;
    nano_char_class class;
    const uint8_t *next;
} text_char;

static inline text_char peek(const uint8_t *s, const uint8_t *end) {
    text_char c = {0, NANO_CHAR_END, s};
    if (s < end) {
        c.next = s + nano_utf8_decode(s, end, &c.code);
        c.class = nano_unicode_class(c.code);
    }
    return c;
}

/* [^\s\p{L}\p{N}] */
static inline bool is_symbol(nano_char_class class) {
    return class == NANO_CHAR_OTHER || class == NANO_CHAR_PUNCTUATION;
}

static inline bool is_line_end(uint32_t code) { return code == '\n' || code == '\r'; }

static const uint8_t *skip_class(const uint8_t *s, const uint8_t *end, nano_char_class class) {
    for (text_char c = peek(s, end); c.class == class; c = peek(s, end)) {
        s = c.next;
    }
    return s;
}

static const uint8_t *skip_symbols(const uint8_t *s, const uint8_t *end) {
    for (text_char c = peek(s, end); is_symbol(c.class); c = peek(s, end)) {
        s = c.next;
    }
    return s;
}

/* 's|'t|'re|'ve|'m|'ll|'d: the bytes it takes at s, or 0. */
static size_t contraction(const uint8_t *s, const uint8_t *end, bool any_case) {
    uint8_t letters[2] = {0, 0};
    if (s[0] != '\'' || end - s < 2) {
        return 0;
    }
    for (int i = 0; i < 2 && i + 1 < end - s; i++) {
        const uint8_t c = s[i + 1];
        letters[i] = any_case && c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
    }
    const uint8_t a = letters[0], b = letters[1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return 2;
    }
    if (any_case && a == 0xC5 && b == 0xBF) { /* U+017F, long s: s when case does not matter */
        return 3;
    }
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+, or with line_ends \s*[\r\n]+|\s+(?!\S)|\s+, where s is at a space. */
static const uint8_t *space_word(const uint8_t *s, const uint8_t *end, bool line_ends) {
    const uint8_t *const first = s, *last = s, *line = NULL;
    text_char c = peek(s, end);
    while (c.class == NANO_CHAR_SPACE) {
        last = s;
        s = c.next;
        if (line_ends && is_line_end(c.code)) {
            line = s;
        }
        c = peek(s, end);
    }
    if (line != NULL) {
        return line;
    }
    return c.class == NANO_CHAR_END || last == first ? s : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const uint8_t *gpt2_word(const uint8_t *s, const uint8_t *end) {
    const size_t n = contraction(s, end, false);
    if (n > 0) {
        return s + n;
    }
    const text_char c = peek(*s == ' ' ? s + 1 : s, end);
    if (c.class == NANO_CHAR_LETTER || c.class == NANO_CHAR_NUMBER) {
        return skip_class(c.next, end, c.class);
    }
    return is_symbol(c.class) ? skip_symbols(c.next, end) : space_word(s, end, false);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max_numbers}| ?[^\s\p{L}\p{N}]+[\r\n]*
 * |\s*[\r\n]+|\s+(?!\S)|\s+ */
static const uint8_t *llama3_word(const uint8_t *s, const uint8_t *end, int max_numbers) {
    const size_t n = contraction(s, end, true);
    if (n > 0) {
        return s + n;
    }
    text_char c = peek(s, end);
    if (c.class == NANO_CHAR_LETTER) {
        return skip_class(c.next, end, NANO_CHAR_LETTER);
    }
    if (c.class == NANO_CHAR_NUMBER) {
        for (int i = 0; i < max_numbers && c.class == NANO_CHAR_NUMBER; i++) {
            s = c.next;
            c = peek(s, end);
        }
        return s;
    }
    if (!is_line_end(c.code) && peek(c.next, end).class == NANO_CHAR_LETTER) {
        return skip_class(c.next, end, NANO_CHAR_LETTER);
    }
    c = peek(*s == ' ' ? s + 1 : s, end);
    if (!is_symbol(c.class)) {
        return space_word(s, end, true);
    }
    s = skip_symbols(c.next, end);
    while (s < end && is_line_end(*s)) {
        s++;
    }
    return s;
}

/* [\p{P}$+<=>^~|] */
static bool is_default_punctuation(text_char c) {
    return c.class == NANO_CHAR_PUNCTUATION ||
           (c.class == NANO_CHAR_OTHER && c.code < 128 && memchr("$+<=>^~|", (int)c.code, 8) != NULL);
}

/* A run of punctuation or of anything else. */
static const uint8_t *default_segment(const uint8_t *s, const uint8_t *end) {
    text_char c = peek(s, end);
    for (const bool first = is_default_punctuation(c); c.class != NANO_CHAR_END && is_default_punctuation(c) == first;
         c = peek(s, end)) {
        s = c.next;
    }
    return s;
}

static bool at_three_digits(const uint8_t *s, const uint8_t *end) {
    return end - s >= 3 && s[0] >= '0' && s[0] <= '9' && s[1] >= '0' && s[1] <= '9' && s[2] >= '0' && s[2] <= '9';
}

/* GPT-2's rule, then \p{N}+ and [0-9][0-9][0-9], each cutting out what it matches: a number's space, threes of
 * digits, and the other number characters between them are words. */
static const uint8_t *default_word(const uint8_t *s, const uint8_t *end) {
    text_char c = peek(s, end);
    if (c.code == ' ' && peek(c.next, end).class == NANO_CHAR_NUMBER) {
        return c.next;
    }
    if (c.class != NANO_CHAR_NUMBER) {
        return gpt2_word(s, end);
    }
    if (at_three_digits(s, end)) {
        return s + 3;
    }
    for (; c.class == NANO_CHAR_NUMBER && !at_three_digits(s, end); c = peek(s, end)) {
        s = c.next;
    }
    return s;
}

/* One number character, or what comes before the next. */
static const uint8_t *smollm_segment(const uint8_t *s, const uint8_t *end) {
    text_char c = peek(s, end);
    if (c.class == NANO_CHAR_NUMBER) {
        return c.next;
    }
    for (; c.class != NANO_CHAR_NUMBER && c.class != NANO_CHAR_END; c = peek(s, end)) {
        s = c.next;
    }
    return s;
}

nano_pretokenizer nano_pretokenizer_start(nano_pretokenizer_kind kind, const uint8_t *text, size_t size) {
    return (nano_pretokenizer){.kind = kind, .at = text, .end = text + size, .segment_end = text};
}

const uint8_t *nano_pretokenizer_next(nano_pretokenizer *p) {
    if (p->at == p->segment_end) {
        p->segment_end = p->kind == NANO_PRE_DEFAULT  ? default_segment(p->at, p->end)
                         : p->kind == NANO_PRE_SMOLLM ? smollm_segment(p->at, p->end)
                                                      : p->end;
    }
    switch (p->kind) {
        case NANO_PRE_DEFAULT: p->at = default_word(p->at, p->segment_end); break;
        case NANO_PRE_GPT2:
        case NANO_PRE_SMOLLM: p->at = gpt2_word(p->at, p->segment_end); break;
        case NANO_PRE_LLAMA3: p->at = llama3_word(p->at, p->segment_end, 3); break;
        case NANO_PRE_QWEN2: p->at = llama3_word(p->at, p->segment_end, 1); break;
    }
    return p->at;
}
