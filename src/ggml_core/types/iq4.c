/* IQ4_NL and IQ4_XS: four-bit codes for sixteen values, denser round 0, as weights are. */
#include <stddef.h>
#include <string.h>

#include "types/blocks.h"
#include "types/f16.h"
#include "types/super.h"
#include "types/types.h"
#include "types/unpacked.h"

static const int8_t values[NANO_BOOK_SIZE] = {NANO_IQ4_VALUES};

static void pack(const uint8_t *code, uint8_t *q) {
    for (int i = 0; i < 16; i++) {
        q[i] = (uint8_t)(code[i] | code[i + 16] << 4);
    }
}

static void expand(const uint8_t *code, int8_t *q) {
    for (int i = 0; i < 16; i++) {
        q[i] = values[code[i] & 15];
        q[i + 16] = values[code[i] >> 4];
    }
}

/* The largest magnitude goes to the lower end, which reaches further. */
static nano_grid make_grid(nano_book *book) {
    nano_book_fill(book, values);
    return (nano_grid){-127.0f, 113.0f, -82.0f, -180.0f, 24, book};
}

void nano_iq4_nl_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    nano_block_iq4_nl *block = y;
    nano_book book;
    const nano_grid grid = make_grid(&book);
    nano_blocks blocks;
    for (int64_t i = 0; i < n; i += blocks.n * NANO_BLOCK) {
        nano_blocks_scaled(x + i, importance != NULL ? importance + i : NULL, n - i, &grid, &blocks);
        for (int k = 0; k < blocks.n; k++, block++) {
            nano_store_f16(block->d, blocks.d[k]);
            pack(blocks.code + k * NANO_BLOCK, block->q);
        }
    }
}

void nano_iq4_nl_unpack(const void *from, nano_unpacked *out) {
    const nano_block_iq4_nl *block = from;
    out->part = 32;
    out->scale[0] = nano_load_f16(block->d);
    out->min[0] = 0.0f;
    expand(block->q, out->q);
}

void nano_iq4_xs_from_float_weighted(const float *x, const float *importance, void *y, int64_t n) {
    nano_block_iq4_xs *block = y;
    nano_book book;
    const nano_grid grid = make_grid(&book);
    nano_super s;
    for (int64_t i = 0; i < n; i += NANO_SUPER, block++) {
        nano_super_scaled(x + i, importance != NULL ? importance + i : NULL, 32, &grid, -32, 31, &s);
        memset(block, 0, sizeof *block);
        nano_store_f16(block->d, s.d);
        for (int k = 0; k < 8; k++) {
            const int scale = s.scale[k] + 32;
            block->scale[k / 2] = (uint8_t)(block->scale[k / 2] | (scale & 15) << (k % 2 * 4));
            block->high[k / 4] = (uint8_t)(block->high[k / 4] | (scale >> 4) << (k % 4 * 2));
            pack(s.code + 32 * k, block->q + 16 * k);
        }
    }
}

void nano_iq4_xs_unpack(const void *from, nano_unpacked *out) {
    const nano_block_iq4_xs *block = from;
    out->part = 32;
    for (int k = 0; k < 8; k++) {
        out->scale[k] = nano_load_f16(block->d) * (float)nano_iq4_xs_scale(block, k);
        out->min[k] = 0.0f;
        expand(block->q + 16 * k, out->q + 32 * k);
    }
}

NANO_UNPACKED_TYPE(iq4_nl, NANO_BLOCK)
NANO_UNPACKED_TYPE(iq4_xs, NANO_SUPER)
