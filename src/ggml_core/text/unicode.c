#include "text/unicode.h"

/* Bytes of the character that `lead` begins; 0 when none does. */
static size_t char_bytes(uint8_t lead) {
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2) { /* a continuation byte, or a lead of overlong forms only */
        return 0;
    }
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

nano_utf8_state nano_utf8_check(const uint8_t *s, size_t size) {
    const size_t need = char_bytes(s[0]);
    if (need == 0 || size > need) {
        return NANO_UTF8_ILL_FORMED;
    }
    if (size > 1) {
        /* The second byte's range is what excludes overlong forms, surrogates and codes past the last. */
        const uint8_t low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
        const uint8_t high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
        if (s[1] < low || s[1] > high) {
            return NANO_UTF8_ILL_FORMED;
        }
    }
    for (size_t i = 2; i < size; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return NANO_UTF8_ILL_FORMED;
        }
    }
    return size == need ? NANO_UTF8_WHOLE : NANO_UTF8_PARTIAL;
}

size_t nano_utf8_decode(const uint8_t *s, const uint8_t *end, uint32_t *code) {
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    const size_t need = char_bytes(s[0]);
    if (need == 0 || (size_t)(end - s) < need || nano_utf8_check(s, need) != NANO_UTF8_WHOLE) {
        *code = NANO_CHAR_INVALID;
        return 1;
    }
    uint32_t value = s[0] & (0x7Fu >> need);
    for (size_t i = 1; i < need; i++) {
        value = value << 6 | (s[i] & 0x3Fu);
    }
    *code = value;
    return need;
}

size_t nano_utf8_encode(uint32_t code, uint8_t *out) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (uint8_t)((0xF00u >> n) | code);
    return n;
}
