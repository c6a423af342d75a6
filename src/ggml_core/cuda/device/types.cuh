/*
 * Quantised weights on the device, by types/blocks.h. A part is 32 elements; it is read in two halves of 16 that suit
 * nibbles: ints 0, 1, 4, 5 of its eight (sub 0) or 2, 3, 6, 7 (sub 1), an int being four signed bytes.
 */
#ifndef NANO_CUDA_TYPES_CUH
#define NANO_CUDA_TYPES_CUH

#include "cuda/device/common.cuh"

/* value = scale[k / 2] * q - min[k / 2] for the bytes of q[k]. */
struct unit {
    int q[4];
    float scale[2], min[2];
};

/* Which of a part's ints q[k] is. */
NANO_DEVICE int int_of(int sub, int k) { return 2 * sub + k % 2 + k / 2 * 4; }

NANO_DEVICE void same_scale(unit &u, float scale, float min) {
    u.scale[0] = u.scale[1] = scale;
    u.min[0] = u.min[1] = min;
}

/* Subtracts n from each byte; no byte may pass its range. */
NANO_DEVICE int bytes_minus(int x, int n) {
    /* With the top bits set no borrow leaves a byte. */
    return static_cast<int>(((static_cast<unsigned>(x) | 0x80808080u) - 0x01010101u * static_cast<unsigned>(n)) ^
                            0x80808080u);
}

/* The low nibbles and the high ones of 4 bytes. */
NANO_DEVICE int low_nibbles(int x) { return x & 0x0f0f0f0f; }
NANO_DEVICE int high_nibbles(int x) { return (x >> 4) & 0x0f0f0f0f; }

/* Four bits, each at bit `to` of its byte. */
NANO_DEVICE int spread_bits(int bits, int to) {
    const unsigned b = static_cast<unsigned>(bits);
    return static_cast<int>(((b & 1u) | (b & 2u) << 7 | (b & 4u) << 14 | (b & 8u) << 21) << to);
}

/* The values that the 4-bit codes of the IQ4 types stand for, in order, as bytes. */
NANO_DEVICE int iq4_values(int codes) {
    /* -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113 */
    const unsigned t0 = 0xbfad9881u, t1 = 0xf6eaddcfu, t2 = 0x26190d01u, t3 = 0x71594535u;
    int out = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned code = static_cast<unsigned>(codes >> (8 * i)) & 15u;
        const unsigned word = code < 4u ? t0 : code < 8u ? t1 : code < 12u ? t2 : t3;
        out |= static_cast<int>((word >> (code % 4u * 8u) & 255u) << (8 * i));
    }
    return out;
}

/* The nibbles of a part of a block of 32, whose 16 bytes start at an even address. */
NANO_DEVICE void load_nibbles(const uint8_t *bytes, int sub, unit &u) {
    for (int k = 0; k < 2; k++) {
        const int x = load_4_at_2(bytes + 8 * sub + 4 * k);
        u.q[k] = low_nibbles(x);
        u.q[2 + k] = high_nibbles(x);
    }
}

/* The fifth bits of a part, as 32 bits in the elements' order. */
NANO_DEVICE void add_fifth_bits(unsigned high, int sub, unit &u) {
    for (int k = 0; k < 4; k++) {
        u.q[k] |= spread_bits(static_cast<int>(high >> (4 * int_of(sub, k))), 4);
    }
}

NANO_DEVICE int k_scale(const uint8_t *scale, int which, int k) {
    const uint8_t *first = scale + 4 * which;
    return k < 4 ? first[k] & 63 : ((scale[4 + k] >> (4 * which)) & 15) | (first[k - 4] >> 6) << 4;
}

struct type_q8_0 {
    enum { HAS_MIN = 0 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part * 34;
        for (int k = 0; k < 4; k++) {
            u.q[k] = load_4_at_2(block + 2 + 4 * int_of(sub, k));
        }
        same_scale(u, load_half(block), 0.0f);
    }
};

struct type_q4_0 {
    enum { HAS_MIN = 0 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part * 18;
        load_nibbles(block + 2, sub, u);
        for (int k = 0; k < 4; k++) {
            u.q[k] = bytes_minus(u.q[k], 8);
        }
        same_scale(u, load_half(block), 0.0f);
    }
};

struct type_q4_1 {
    enum { HAS_MIN = 1 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part * 20;
        load_nibbles(block + 4, sub, u);
        same_scale(u, load_half(block), -load_half(block + 2));
    }
};

struct type_q5_0 {
    enum { HAS_MIN = 0 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part * 22;
        load_nibbles(block + 6, sub, u);
        add_fifth_bits(static_cast<unsigned>(load_4_at_2(block + 2)), sub, u);
        for (int k = 0; k < 4; k++) {
            u.q[k] = bytes_minus(u.q[k], 16);
        }
        same_scale(u, load_half(block), 0.0f);
    }
};

struct type_q5_1 {
    enum { HAS_MIN = 1 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part * 24;
        load_nibbles(block + 8, sub, u);
        add_fifth_bits(static_cast<unsigned>(load_4_at_2(block + 4)), sub, u);
        same_scale(u, load_half(block), -load_half(block + 2));
    }
};

struct type_iq4_nl {
    enum { HAS_MIN = 0 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part * 18;
        load_nibbles(block + 2, sub, u);
        for (int k = 0; k < 4; k++) {
            u.q[k] = iq4_values(u.q[k]);
        }
        same_scale(u, load_half(block), 0.0f);
    }
};

struct type_iq4_xs {
    enum { HAS_MIN = 0 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part / 8 * 136;
        const int k8 = part % 8;
        load_nibbles(block + 8 + 16 * k8, sub, u);
        for (int k = 0; k < 4; k++) {
            u.q[k] = iq4_values(u.q[k]);
        }
        const int low = (block[4 + k8 / 2] >> (k8 % 2 * 4)) & 15, high = (load_2(block + 2) >> (2 * k8)) & 3;
        same_scale(u, load_half(block) * static_cast<float>((low | high << 4) - 32), 0.0f);
    }
};

/* Two bits of a part of Q2_K or Q3_K: bits 2 s, 2 s + 1 of 32 bytes. */
NANO_DEVICE int two_bits(const uint8_t *q, int part, int index) {
    return (load_4_at_2(q + part / 4 * 32 + 4 * index) >> (part % 4 * 2)) & 0x03030303;
}

struct type_q2_k {
    enum { HAS_MIN = 1 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part / 8 * 84;
        const float d = load_half(block + 80), dmin = load_half(block + 82);
        for (int k = 0; k < 4; k++) {
            u.q[k] = two_bits(block + 16, part % 8, int_of(sub, k));
        }
        for (int h = 0; h < 2; h++) {
            const int scale = block[2 * (part % 8) + h];
            u.scale[h] = d * static_cast<float>(scale & 15);
            u.min[h] = dmin * static_cast<float>(scale >> 4);
        }
    }
};

struct type_q3_k {
    enum { HAS_MIN = 0 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part / 8 * 110, *scales = block + 96;
        const float d = load_half(block + 108);
        for (int k = 0; k < 4; k++) {
            const int index = int_of(sub, k);
            const int third = (load_4_at_2(block + 4 * index) >> (part % 8)) & 0x01010101;
            u.q[k] = bytes_minus(two_bits(block + 32, part % 8, index) | third << 2, 4);
        }
        for (int h = 0; h < 2; h++) {
            const int k = 2 * (part % 8) + h;
            const int scale = ((scales[k % 8] >> (k / 8 * 4)) & 15) | ((scales[8 + k % 4] >> (k / 4 * 2)) & 3) << 4;
            u.scale[h] = d * static_cast<float>(scale - 32);
            u.min[h] = 0.0f;
        }
    }
};

NANO_DEVICE void load_k_nibbles(const uint8_t *q, int part, int sub, unit &u) {
    for (int k = 0; k < 4; k++) {
        const int x = load_4(q + part / 2 * 32 + 4 * int_of(sub, k));
        u.q[k] = part % 2 == 0 ? low_nibbles(x) : high_nibbles(x);
    }
}

NANO_DEVICE void load_k_scales(const uint8_t *block, int part, unit &u) {
    same_scale(u, load_half(block) * static_cast<float>(k_scale(block + 4, 0, part)),
               load_half(block + 2) * static_cast<float>(k_scale(block + 4, 1, part)));
}

struct type_q4_k {
    enum { HAS_MIN = 1 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part / 8 * 144;
        load_k_nibbles(block + 16, part % 8, sub, u);
        load_k_scales(block, part % 8, u);
    }
};

struct type_q5_k {
    enum { HAS_MIN = 1 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part / 8 * 176;
        load_k_nibbles(block + 48, part % 8, sub, u);
        for (int k = 0; k < 4; k++) {
            u.q[k] |= ((load_4(block + 16 + 4 * int_of(sub, k)) >> (part % 8)) & 0x01010101) << 4;
        }
        load_k_scales(block, part % 8, u);
    }
};

struct type_q6_k {
    enum { HAS_MIN = 0 };
    NANO_DEVICE void load(const uint8_t *row, int part, int sub, unit &u) {
        const uint8_t *block = row + part / 8 * 210;
        const int half = part % 8 / 4, s = part % 4;
        for (int k = 0; k < 4; k++) {
            const int index = int_of(sub, k);
            const int x = load_4_at_2(block + 64 * half + 32 * (s % 2) + 4 * index);
            const int high = (load_4_at_2(block + 128 + 32 * half + 4 * index) >> (2 * s)) & 0x03030303;
            u.q[k] = bytes_minus((s < 2 ? low_nibbles(x) : high_nibbles(x)) | high << 4, 32);
        }
        const float d = load_half(block + 208);
        for (int h = 0; h < 2; h++) {
            u.scale[h] = d * static_cast<float>(static_cast<int8_t>(block[192 + 2 * (part % 8) + h]));
            u.min[h] = 0.0f;
        }
    }
};

/* Float types: element i. */
struct type_f32 {
    NANO_DEVICE float load(const uint8_t *row, int i) { return reinterpret_cast<const float *>(row)[i]; }
};
struct type_f16 {
    NANO_DEVICE float load(const uint8_t *row, int i) { return load_half(row + 2 * i); }
};
struct type_bf16 {
    NANO_DEVICE float load(const uint8_t *row, int i) {
        return __int_as_float(static_cast<int>(static_cast<unsigned>(load_2(row + 2 * i)) << 16));
    }
};

#endif
