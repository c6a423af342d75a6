#include "cuda/inflate.h"

#include <string.h>

enum { MAX_BITS = 15, N_LITERALS = 288, N_DISTANCES = 32, END_OF_BLOCK = 256 };

typedef struct reader {
    const uint8_t *data;
    size_t n, at;
    uint32_t bits; /* read and not yet used, the next one lowest */
    int n_bits;
    bool failed; /* read past the end */
} reader;

/* A canonical Huffman code: how many codes of each length, and their symbols in the order of the codes. */
typedef struct code {
    uint16_t count[MAX_BITS + 1];
    uint16_t symbol[N_LITERALS];
} code;

typedef struct sink {
    uint8_t *out;
    size_t size, at;
} sink;

static uint32_t take(reader *r, int n) {
    while (r->n_bits < n) {
        r->failed = r->failed || r->at == r->n;
        r->bits |= (uint32_t)(r->at < r->n ? r->data[r->at++] : 0) << r->n_bits;
        r->n_bits += 8;
    }
    const uint32_t value = r->bits & ((1u << n) - 1u);
    r->bits >>= n;
    r->n_bits -= n;
    return value;
}

/* From each symbol's length; false when there are more codes than lengths leave room for. */
static bool make_code(const uint8_t *lengths, int n, code *c) {
    uint16_t at[MAX_BITS + 1] = {0};
    int left = 1;
    memset(c, 0, sizeof *c);
    for (int i = 0; i < n; i++) {
        c->count[lengths[i]]++;
    }
    c->count[0] = 0;
    for (int length = 1; length <= MAX_BITS; length++) {
        left = left * 2 - c->count[length];
        if (left < 0) {
            return false;
        }
        at[length] = (uint16_t)(at[length - 1] + c->count[length - 1]);
    }
    for (int i = 0; i < n; i++) {
        if (lengths[i] != 0) {
            c->symbol[at[lengths[i]]++] = (uint16_t)i;
        }
    }
    return true;
}

/* The next symbol; -1 when no code fits. Codes of a length follow each other, and those of the next length follow them. */
static int next_symbol(reader *r, const code *c) {
    int value = 0, first = 0, index = 0;
    for (int length = 1; length <= MAX_BITS; length++) {
        value |= (int)take(r, 1);
        const int count = c->count[length];
        if (value - first < count) {
            return c->symbol[index + value - first];
        }
        index += count;
        first = (first + count) * 2;
        value *= 2;
    }
    return -1;
}

static bool copy_stored(reader *r, sink *s) {
    r->bits = 0;
    r->n_bits = 0;
    const uint32_t length = take(r, 16), complement = take(r, 16);
    if (r->failed || length != (~complement & 0xffffu) || length > r->n - r->at || length > s->size - s->at) {
        return false;
    }
    memcpy(s->out + s->at, r->data + r->at, length);
    r->at += length;
    s->at += length;
    return true;
}

static bool copy_match(reader *r, const code *distances, int symbol, sink *s) {
    static const uint16_t length_base[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t length_extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                           2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t distance_base[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                             33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                             1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    const int l = symbol - END_OF_BLOCK - 1;
    if (l >= (int)sizeof length_extra) {
        return false;
    }
    const size_t length = length_base[l] + take(r, length_extra[l]);
    const int d = next_symbol(r, distances);
    if (d < 0 || d >= 30) {
        return false;
    }
    const size_t distance = distance_base[d] + take(r, d < 4 ? 0 : d / 2 - 1);
    if (r->failed || distance > s->at || length > s->size - s->at) {
        return false;
    }
    for (size_t i = 0; i < length; i++, s->at++) { /* may overlap: a short distance repeats what was just written */
        s->out[s->at] = s->out[s->at - distance];
    }
    return true;
}

static bool copy_block(reader *r, const code *literals, const code *distances, sink *s) {
    for (;;) {
        const int symbol = next_symbol(r, literals);
        if (symbol < 0 || r->failed) {
            return false;
        }
        if (symbol == END_OF_BLOCK) {
            return true;
        }
        if (symbol < END_OF_BLOCK) {
            if (s->at == s->size) {
                return false;
            }
            s->out[s->at++] = (uint8_t)symbol;
        } else if (!copy_match(r, distances, symbol, s)) {
            return false;
        }
    }
}

static bool fixed_codes(code *literals, code *distances) {
    uint8_t lengths[N_LITERALS];
    for (int i = 0; i < N_LITERALS; i++) {
        lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    }
    if (!make_code(lengths, N_LITERALS, literals)) {
        return false;
    }
    memset(lengths, 5, N_DISTANCES);
    return make_code(lengths, N_DISTANCES, distances);
}

/* The codes of the next block, whose lengths are themselves coded. */
static bool read_codes(reader *r, code *literals, code *distances) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[N_LITERALS + N_DISTANCES] = {0};
    const int n_literals = (int)take(r, 5) + 257, n_distances = (int)take(r, 5) + 1, n_lengths = (int)take(r, 4) + 4;
    for (int i = 0; i < n_lengths; i++) {
        lengths[order[i]] = (uint8_t)take(r, 3);
    }
    if (n_literals > N_LITERALS || !make_code(lengths, 19, literals)) {
        return false;
    }
    memset(lengths, 0, sizeof lengths);
    for (int i = 0; i < n_literals + n_distances;) {
        const int symbol = next_symbol(r, literals);
        if (symbol < 0 || r->failed) {
            return false;
        }
        if (symbol < 16) {
            lengths[i++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16 && i == 0) {
            return false;
        }
        const uint8_t value = symbol == 16 ? lengths[i - 1] : 0;
        int repeat = symbol == 16 ? 3 + (int)take(r, 2) : symbol == 17 ? 3 + (int)take(r, 3) : 11 + (int)take(r, 7);
        if (repeat > n_literals + n_distances - i) {
            return false;
        }
        while (repeat-- > 0) {
            lengths[i++] = value;
        }
    }
    return make_code(lengths, n_literals, literals) && make_code(lengths + n_literals, n_distances, distances);
}

bool nano_inflate(const uint8_t *data, size_t n, uint8_t *out, size_t size) {
    reader r = {data, n, 0, 0, 0, false};
    sink s = {out, size, 0};
    code literals, distances;
    bool last = false, ok = true;
    while (ok && !last) {
        last = take(&r, 1) != 0;
        switch (take(&r, 2)) {
            case 0: ok = copy_stored(&r, &s); break;
            case 1: ok = fixed_codes(&literals, &distances) && copy_block(&r, &literals, &distances, &s); break;
            case 2: ok = read_codes(&r, &literals, &distances) && copy_block(&r, &literals, &distances, &s); break;
            default: ok = false; break;
        }
        ok = ok && !r.failed;
    }
    return ok && s.at == size;
}
