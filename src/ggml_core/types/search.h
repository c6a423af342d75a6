/*
 * Looking for the scales of quantised blocks: eight parts (blocks, or sub-blocks of 16 or 32 elements that have a
 * scale of their own) side by side, part l in lane l of every array, so that plain loops over the lanes vectorise and
 * every sum is added up in one order, whatever the machine.
 *
 * The error of a part is sum w (x - y)^2. For given codes q the best y = d q, or y = d q - m, follows by least squares
 * from a few sums; what is searched is the codes: a grid of scales is tried, each giving codes by rounding.
 */
#ifndef NANO_TYPES_SEARCH_H
#define NANO_TYPES_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NANO_LANES = 8, NANO_PART_MAX = 32 };

typedef struct nano_parts {
    int n; /* elements of a part */
    float x[NANO_PART_MAX][NANO_LANES];
    float w[NANO_PART_MAX][NANO_LANES];
} nano_parts;

/* Codes that stand for other numbers than themselves. */
enum { NANO_BOOK_SIZE = 16, NANO_BOOK_HALVES = 512 };
typedef struct nano_book {
    /* entry i: the code nearest to [(i - 256) / 2, (i - 255) / 2[, and what it stands for */
    uint8_t nearest[NANO_BOOK_HALVES];
    float value[NANO_BOOK_HALVES];
} nano_book;

/* Codes lowest .. highest. The grid: the scales under which the part's largest magnitude (of y = d q) or its whole
 * range (of y = d q - m) comes to from .. to codes, in n steps. */
typedef struct nano_grid {
    float lowest;
    float highest;
    float from;
    float to;
    int n;
    const nano_book *book; /* NULL: codes stand for themselves */
} nano_grid;

/* Scales lie on the grid, with a book on both ends of the codes in turn, then in quarters of its spacing round the
 * best of them: so much is the k-th tried, from n on relative to the best. */
enum { NANO_FINER = 6 };
static inline float nano_grid_at(const nano_grid *grid, int k) {
    const float spacing = (grid->to - grid->from) / (float)(grid->n - 1);
    const int i = k - grid->n - NANO_FINER / 2; /* -3 .. 2 */
    if (k >= grid->n) {
        return spacing * 0.25f * (float)(i < 0 ? i : i + 1);
    }
    const float at = grid->from + spacing * (float)k;
    return grid->book != NULL && k % 2 != 0 ? -at : at;
}

/* Sums over a part: of w, w x, w q, w x q, w q q. */
typedef struct nano_sums {
    float w[NANO_LANES];
    float x[NANO_LANES];
    float q[NANO_LANES];
    float xq[NANO_LANES];
    float qq[NANO_LANES];
} nano_sums;

/* The searching is done by kernels (cpu/kernels.inc has their names), whose results are the same bits at every level. */

/* n_parts <= 8 parts of n <= 32 elements each, n a multiple of 8; importance as many numbers, or NULL. What is not
 * finite counts as 0; a part without importance counts as evenly important. */
typedef void nano_load_parts_fn(nano_parts *p, const float *x, const float *importance, int n, int n_parts);

/* d of y = d q, for every lane. It may be negative: the largest magnitude goes to the end that `grid` names. */
typedef void nano_search_scale_fn(const nano_parts *p, const nano_grid *grid, float *d);
/* d >= 0 and m of y = d q - m; with `positive`, m >= 0. */
typedef void nano_search_range_fn(const nano_parts *p, const nano_grid *grid, bool positive, float *d, float *m);

/* The nearest codes to (x + m) / d, m NULL for 0, counted from `lowest`, or of the book; code has 8 n elements in the
 * order of the row, or is NULL. */
typedef void nano_encode_parts_fn(const nano_parts *p, const float *d, const float *m, const nano_grid *grid,
                                  nano_sums *sums, uint8_t *code);

/* The best common step of n <= 16 numbers v, that become integers lowest .. highest times it; errors weighted by w. */
typedef float nano_search_step_fn(const float *v, const float *w, int n, float lowest, float highest);

/* The book of 16 ascending values, -127 .. 127. */
void nano_book_fill(nano_book *book, const int8_t *values);

#endif
