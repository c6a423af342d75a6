#include "cpu/product.h"

#include "base/arith.h"

#include <string.h>

/* A block's packed rows and its part of c stay in the second-level cache, the columns of a tile in the first. STRIP is
 * whole blocks of every type. A unit is a few panels of rows of a strip; neighbouring units are worked on together. */
enum { TERMS = 192, STRIP = 256, UNIT_ROWS = 4 * NANO_PANEL_ROWS, BLOCK_ROWS = 8 * UNIT_ROWS };
/* Where columns must be turned into f32 first, that is done for more rows at once. */
enum { LONG_BLOCK_ROWS = 4 * BLOCK_ROWS };

static int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

int64_t nano_product_units(const nano_product *p) { return pieces(p->n_rows, UNIT_ROWS) * pieces(p->n_cols, STRIP); }

bool nano_product_next(const nano_product *p, int64_t *first, int64_t last, nano_block *out) {
    if (*first >= last) {
        return false;
    }
    const int64_t per_strip = pieces(p->n_rows, UNIT_ROWS), strip = *first / per_strip, unit = *first % per_strip;
    const int64_t most = (p->b.type == NANO_TYPE_F32 ? BLOCK_ROWS : LONG_BLOCK_ROWS) / UNIT_ROWS;
    const int64_t n_units = nano_min_i64(nano_min_i64(last - *first, per_strip - unit), most);
    out->row = unit * UNIT_ROWS;
    out->n_rows = nano_min_i64(n_units * UNIT_ROWS, p->n_rows - out->row);
    out->col = strip * STRIP;
    out->n_cols = nano_min_i64(STRIP, p->n_cols - out->col);
    *first += n_units;
    return true;
}

static uint64_t packed_floats(int64_t n, int64_t most, int64_t panel, int64_t n_terms) {
    const int64_t n_panels = pieces(nano_min_i64(n, most), panel);
    uint64_t floats = (uint64_t)(n_panels * panel * nano_min_i64(n_terms, TERMS));
    (void)nano_align_u64(floats, 16, &floats);
    return floats;
}

/* A row of a strip, or a panel's columns, as f32. */
enum { UNPACKED = STRIP > NANO_PANEL_COLUMNS *TERMS ? STRIP : NANO_PANEL_COLUMNS *TERMS };

uint64_t nano_product_scratch(int64_t n_rows, int64_t n_cols, int64_t n_terms) {
    return (packed_floats(n_rows, BLOCK_ROWS, NANO_PANEL_ROWS, n_terms) +
            packed_floats(n_cols, STRIP, NANO_PANEL_COLUMNS, n_terms) + UNPACKED) *
           sizeof(float);
}

/* What is packed at once: terms k0 ... k0 + n_k - 1 of rows or columns i0 ... i0 + n - 1. */
typedef struct packing {
    const nano_kernels *kernels;
    const nano_factor *factor;
    int64_t i0, n, k0, n_k;
    float *out;
    float *unpacked;
} packing;

/* n elements from the i-th on of the factor's row, as f32: the row itself or in p->unpacked. i is at a block's start. */
static const float *row_part(const packing *p, int64_t row, int64_t i, int64_t n, float *unpacked) {
    const nano_factor *f = p->factor;
    const uint8_t *at = f->data + (size_t)row * f->row_bytes + nano_type_row_bytes(f->type, i);
    if (f->type == NANO_TYPE_F32) {
        return (const float *)(const void *)at;
    }
    if (f->type == NANO_TYPE_F16) {
        p->kernels->f16_to_f32(at, unpacked, n);
    } else {
        nano_type_find(f->type)->to_float(at, unpacked, n);
    }
    return unpacked;
}

/* Of constant size where it can be, so that it is a few moves. */
static inline void copy_panel_row(float *to, const float *from, int64_t left, const int64_t panel) {
    if (left >= panel) {
        memcpy(to, from, (size_t)panel * sizeof *to);
        return;
    }
    memcpy(to, from, (size_t)left * sizeof *to);
    memset(to + left, 0, (size_t)(panel - left) * sizeof *to);
}

/* Panel by panel where rows can be read in place: writing many panels at once is what caches take badly. */
static inline void pack_by_terms(const packing *p, const int64_t panel) {
    if (p->factor->type == NANO_TYPE_F32) {
        const float *rows = row_part(p, p->k0, p->i0, p->n, NULL);
        const int64_t stride = (int64_t)(p->factor->row_bytes / sizeof *rows);
        float *to = p->out;
        for (int64_t i = 0; i < p->n; i += panel) {
            for (int64_t k = 0; k < p->n_k; k++, to += panel) {
                copy_panel_row(to, rows + k * stride + i, p->n - i, panel);
            }
        }
        return;
    }
    for (int64_t k = 0; k < p->n_k; k++) {
        const float *row = row_part(p, p->k0 + k, p->i0, p->n, p->unpacked);
        float *to = p->out + k * panel;
        for (int64_t i = 0; i < p->n; i += panel, to += panel * p->n_k) {
            copy_panel_row(to, row + i, p->n - i, panel);
        }
    }
}

static void pack_by_rows(const packing *p, int64_t panel) {
    for (int64_t i = 0; i < p->n; i += panel) {
        const int64_t n_rows = nano_min_i64(panel, p->n - i);
        float *to = p->out + i * p->n_k;
        const float *rows = row_part(p, p->i0 + i, p->k0, p->n_k, p->unpacked);
        int64_t stride = (int64_t)(p->factor->row_bytes / sizeof(float));
        if (p->factor->type != NANO_TYPE_F32) {
            stride = p->n_k;
            for (int64_t r = 1; r < n_rows; r++) {
                (void)row_part(p, p->i0 + i + r, p->k0, p->n_k, p->unpacked + r * stride);
            }
        }
        if (n_rows < panel) {
            memset(to, 0, (size_t)(panel * p->n_k) * sizeof *to);
        }
        p->kernels->transpose_f32(rows, stride, n_rows, p->n_k, to, panel);
    }
}

static void pack(const packing *p, int64_t panel) {
    if (!p->factor->by_terms) {
        pack_by_rows(p, panel);
    } else if (panel == NANO_PANEL_ROWS) {
        pack_by_terms(p, NANO_PANEL_ROWS);
    } else {
        pack_by_terms(p, NANO_PANEL_COLUMNS);
    }
}

void nano_product_block(const nano_kernels *k, const nano_product *p, const nano_block *block, float *scratch) {
    float *a = scratch;
    float *b = a + packed_floats(block->n_rows, BLOCK_ROWS, NANO_PANEL_ROWS, p->n_terms);
    float *unpacked = b + packed_floats(block->n_cols, STRIP, NANO_PANEL_COLUMNS, p->n_terms);
    for (int64_t k0 = 0; k0 < p->n_terms; k0 += TERMS) {
        const int64_t n_k = nano_min_i64(TERMS, p->n_terms - k0);
        const packing cols = {k, &p->b, block->col, block->n_cols, k0, n_k, b, unpacked};
        pack(&cols, NANO_PANEL_COLUMNS);
        for (int64_t i = block->row; i < block->row + block->n_rows; i += BLOCK_ROWS) {
            const int64_t n_rows = nano_min_i64(BLOCK_ROWS, block->row + block->n_rows - i);
            const packing rows = {k, &p->a, i, n_rows, k0, n_k, a, unpacked};
            pack(&rows, NANO_PANEL_ROWS);
            float *c = p->c + i * p->c_stride + block->col;
            const nano_multiply_args args = {n_k, a, n_rows, b, block->n_cols, c, p->c_stride, p->add || k0 > 0};
            k->multiply_f32(&args);
        }
    }
}
