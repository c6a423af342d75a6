/* Q2_K .. Q6_K: how super-blocks of 256 elements are packed. */
#include <stddef.h>
#include <string.h>

#include "types/blocks.h"
#include "types/f16.h"
#include "types/super.h"
#include "types/types.h"
#include "types/unpacked.h"

/* ------------------------------------------------------------- bit fields */

/* Two bits of each of 256 codes, as in Q2_K and Q3_K: 64 bytes. */
static void pack_2(const uint8_t *code, uint8_t *q) {
    for (int i = 0; i < NANO_SUPER / 4; i++) {
        const uint8_t *c = code + i / 32 * 128 + i % 32;
        q[i] = (uint8_t)((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
    }
}

static void unpack_2(const uint8_t *q, uint8_t *code) {
    for (int i = 0; i < NANO_SUPER; i++) {
        code[i] = (q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    }
}

/* Four bits of each, `half` elements of low nibbles, then as many of high ones: 128 bytes. */
static void pack_4(const uint8_t *code, int half, uint8_t *q) {
    for (int i = 0; i < NANO_SUPER / 2; i++) {
        const uint8_t *c = code + i / half * 2 * half + i % half;
        q[i] = (uint8_t)((c[0] & 15) | (c[half] & 15) << 4);
    }
}

static void unpack_4(const uint8_t *q, int half, uint8_t *code) {
    for (int i = 0; i < NANO_SUPER; i++) {
        code[i] = (q[i / (2 * half) * half + i % half] >> (i % (2 * half) / half * 4)) & 15;
    }
}

/* Bit `bit` of each, as in Q3_K and Q5_K: 32 bytes. */
static void pack_bit(const uint8_t *code, int bit, uint8_t *high) {
    memset(high, 0, 32);
    for (int i = 0; i < NANO_SUPER; i++) {
        high[i % 32] = (uint8_t)(high[i % 32] | ((code[i] >> bit) & 1) << (i / 32));
    }
}

static void add_bit(const uint8_t *high, int bit, uint8_t *code) {
    for (int i = 0; i < NANO_SUPER; i++) {
        code[i] = (uint8_t)(code[i] | ((high[i % 32] >> (i / 32)) & 1) << bit);
    }
}

/* The 12 bytes of Q4_K and Q5_K. */
static void pack_k_scales(const int *scale, const int *min, uint8_t *out) {
    for (int k = 0; k < 4; k++) {
        out[k] = (uint8_t)(scale[k] | (scale[k + 4] >> 4) << 6);
        out[k + 4] = (uint8_t)(min[k] | (min[k + 4] >> 4) << 6);
        out[k + 8] = (uint8_t)((scale[k + 4] & 15) | (min[k + 4] & 15) << 4);
    }
}

static void unpack_k_scales(const uint8_t *d, const uint8_t *dmin, const uint8_t *scale, nano_unpacked *out) {
    out->part = 32;
    for (int k = 0; k < 8; k++) {
        out->scale[k] = nano_load_f16(d) * (float)nano_k_scale(scale, 0, k);
        out->min[k] = nano_load_f16(dmin) * (float)nano_k_scale(scale, 1, k);
    }
}

static void pack_q3_k_scales(const int *scale, uint8_t *out) {
    memset(out, 0, 12);
    for (int k = 0; k < 16; k++) {
        const int s = scale[k] + 32;
        out[k % 8] = (uint8_t)(out[k % 8] | (s & 15) << (k / 8 * 4));
        out[8 + k % 4] = (uint8_t)(out[8 + k % 4] | (s >> 4) << (k / 4 * 2));
    }
}

/* q = code - offset, the same for all 256. */
static void subtract(const uint8_t *code, int offset, int8_t *q) {
    for (int i = 0; i < NANO_SUPER; i++) {
        q[i] = (int8_t)(code[i] - offset);
    }
}

/* ------------------------------------------------------------------- types */

void nano_q2_k_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    static const nano_grid grid = {0.0f, 3.0f, 2.3f, 4.2f, 14, NULL};
    nano_block_q2_k *block = y;
    nano_super s;
    for (int64_t i = 0; i < n; i += NANO_SUPER, block++) {
        nano_super_ranged(x + i, importance != NULL ? importance + i : NULL, 16, &grid, 15, &s);
        nano_store_f16(block->d, s.d);
        nano_store_f16(block->dmin, s.dmin);
        for (int k = 0; k < 16; k++) {
            block->scale[k] = (uint8_t)(s.scale[k] | s.min[k] << 4);
        }
        pack_2(s.code, block->q);
    }
}

void nano_q2_k_unpack(const void *from, nano_unpacked *out) {
    const nano_block_q2_k *block = from;
    uint8_t code[NANO_SUPER];
    out->part = 16;
    for (int k = 0; k < 16; k++) {
        out->scale[k] = nano_load_f16(block->d) * (float)(block->scale[k] & 15);
        out->min[k] = nano_load_f16(block->dmin) * (float)(block->scale[k] >> 4);
    }
    unpack_2(block->q, code);
    subtract(code, 0, out->q);
}

void nano_q3_k_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    static const nano_grid grid = {-4.0f, 3.0f, -3.0f, -7.0f, 12, NULL};
    nano_block_q3_k *block = y;
    nano_super s;
    for (int64_t i = 0; i < n; i += NANO_SUPER, block++) {
        nano_super_scaled(x + i, importance != NULL ? importance + i : NULL, 16, &grid, -32, 31, &s);
        nano_store_f16(block->d, s.d);
        pack_q3_k_scales(s.scale, block->scale);
        pack_2(s.code, block->q);
        pack_bit(s.code, 2, block->high);
    }
}

void nano_q3_k_unpack(const void *from, nano_unpacked *out) {
    const nano_block_q3_k *block = from;
    uint8_t code[NANO_SUPER];
    out->part = 16;
    for (int k = 0; k < 16; k++) {
        out->scale[k] = nano_load_f16(block->d) * (float)nano_q3_k_scale(block->scale, k);
        out->min[k] = 0.0f;
    }
    unpack_2(block->q, code);
    add_bit(block->high, 2, code);
    subtract(code, 4, out->q);
}

void nano_q4_k_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    static const nano_grid grid = {0.0f, 15.0f, 13.3f, 17.0f, 14, NULL};
    nano_block_q4_k *block = y;
    nano_super s;
    for (int64_t i = 0; i < n; i += NANO_SUPER, block++) {
        nano_super_ranged(x + i, importance != NULL ? importance + i : NULL, 32, &grid, 63, &s);
        nano_store_f16(block->d, s.d);
        nano_store_f16(block->dmin, s.dmin);
        pack_k_scales(s.scale, s.min, block->scale);
        pack_4(s.code, 32, block->q);
    }
}

void nano_q4_k_unpack(const void *from, nano_unpacked *out) {
    const nano_block_q4_k *block = from;
    uint8_t code[NANO_SUPER];
    unpack_k_scales(block->d, block->dmin, block->scale, out);
    unpack_4(block->q, 32, code);
    subtract(code, 0, out->q);
}

void nano_q5_k_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    static const nano_grid grid = {0.0f, 31.0f, 29.0f, 33.5f, 14, NULL};
    nano_block_q5_k *block = y;
    nano_super s;
    for (int64_t i = 0; i < n; i += NANO_SUPER, block++) {
        nano_super_ranged(x + i, importance != NULL ? importance + i : NULL, 32, &grid, 63, &s);
        nano_store_f16(block->d, s.d);
        nano_store_f16(block->dmin, s.dmin);
        pack_k_scales(s.scale, s.min, block->scale);
        pack_4(s.code, 32, block->q);
        pack_bit(s.code, 4, block->high);
    }
}

void nano_q5_k_unpack(const void *from, nano_unpacked *out) {
    const nano_block_q5_k *block = from;
    uint8_t code[NANO_SUPER];
    unpack_k_scales(block->d, block->dmin, block->scale, out);
    unpack_4(block->q, 32, code);
    add_bit(block->high, 4, code);
    subtract(code, 0, out->q);
}

void nano_q6_k_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    static const nano_grid grid = {-32.0f, 31.0f, -30.0f, -33.5f, 12, NULL};
    nano_block_q6_k *block = y;
    nano_super s;
    uint8_t high[NANO_SUPER];
    for (int64_t i = 0; i < n; i += NANO_SUPER, block++) {
        nano_super_scaled(x + i, importance != NULL ? importance + i : NULL, 16, &grid, -128, 127, &s);
        nano_store_f16(block->d, s.d);
        for (int k = 0; k < 16; k++) {
            block->scale[k] = (int8_t)s.scale[k];
        }
        pack_4(s.code, 64, block->q);
        for (int k = 0; k < NANO_SUPER; k++) {
            high[k] = s.code[k] >> 4;
        }
        pack_2(high, block->high);
    }
}

void nano_q6_k_unpack(const void *from, nano_unpacked *out) {
    const nano_block_q6_k *block = from;
    uint8_t code[NANO_SUPER];
    uint8_t high[NANO_SUPER];
    out->part = 16;
    for (int k = 0; k < 16; k++) {
        out->scale[k] = nano_load_f16(block->d) * (float)block->scale[k];
        out->min[k] = 0.0f;
    }
    unpack_4(block->q, 64, code);
    unpack_2(block->high, high);
    for (int i = 0; i < NANO_SUPER; i++) {
        code[i] = (uint8_t)(code[i] | high[i] << 4);
    }
    subtract(code, 32, out->q);
}

void nano_unpacked_to_float(nano_unpack_fn *unpack, int size, size_t bytes, const void *x, float *y, int64_t n) {
    const uint8_t *block = x;
    nano_unpacked u;
    for (const float *end = y + n; y < end; y += size, block += bytes) {
        unpack(block, &u);
        for (int i = 0; i < size; i++) {
            y[i] = u.scale[i / u.part] * (float)u.q[i] - u.min[i / u.part];
        }
    }
}

NANO_UNPACKED_TYPE(q2_k, NANO_SUPER)
NANO_UNPACKED_TYPE(q3_k, NANO_SUPER)
NANO_UNPACKED_TYPE(q4_k, NANO_SUPER)
NANO_UNPACKED_TYPE(q5_k, NANO_SUPER)
NANO_UNPACKED_TYPE(q6_k, NANO_SUPER)
