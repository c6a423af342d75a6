/*
 * Products of large matrices, c (+)= a b, cut into units for the executor: each unit packs what it needs of the factors
 * into its thread's working space, block by block, and lets the level's multiply_f32 do the rest.
 *
 * An element of c is the sum, block after block of terms, of chains in the order of the terms: the same bits whatever
 * the units and the threads.
 */
#ifndef NANO_CPU_PRODUCT_H
#define NANO_CPU_PRODUCT_H

#include "cpu/kernels.h"

/* How a factor lies in memory, in rows of `type` row_bytes apart. by_terms: row k holds term k of every row (of a) or
 * column (of b); else row i holds all terms of row or column i. What is not F32 can be b alone, and by columns only types
 * without blocks. */
typedef struct nano_factor {
    const uint8_t *data;
    size_t row_bytes;
    nano_type type;
    bool by_terms;
} nano_factor;

typedef struct nano_product {
    int64_t n_rows, n_cols, n_terms;
    nano_factor a, b;
    float *c;
    int64_t c_stride; /* elements from one row to the next */
    bool add;         /* to what c holds */
} nano_product;

/* Rows and columns of c that are worked on at once. */
typedef struct nano_block {
    int64_t row, n_rows, col, n_cols;
} nano_block;

int64_t nano_product_units(const nano_product *p);
/* Cuts the next block off units *first ... last - 1; false when there is none left. */
bool nano_product_next(const nano_product *p, int64_t *first, int64_t last, nano_block *out);
/* Makes one block of c. scratch: nano_product_scratch bytes on a cache line. */
void nano_product_block(const nano_kernels *k, const nano_product *p, const nano_block *block, float *scratch);
/* For products of up to so many rows, columns and terms. */
uint64_t nano_product_scratch(int64_t n_rows, int64_t n_cols, int64_t n_terms);

#endif
