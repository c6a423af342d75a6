/*
 * Tile registers of AMX (Intel's Software Developer's Manual, volume 1, chapter 18): eight of 16 rows by 64 bytes, and
 * products of bf16 pairs into f32. Numbers of tiles are literals.
 *
 * With NANO_TILES_EMULATED the same names work on ordinary memory, so that everything around the instructions can be
 * checked on machines that lack them. The order of a product's additions is then this file's, not the processor's.
 */
#ifndef NANO_CPU_KERNELS_X86_TILES_H
#define NANO_CPU_KERNELS_X86_TILES_H

#include "cpu/kernels/x86/loads.h"
#include "types/f16.h"

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILE_BYTES = TILE_ROWS * TILE_ROW_BYTES };

#if defined(NANO_TILES_EMULATED)

static __thread uint8_t emulated[8][TILE_ROWS][TILE_ROW_BYTES];

static inline void emulate_load(int tile, const void *from, size_t stride) {
    for (size_t r = 0; r < TILE_ROWS; r++) {
        memcpy(emulated[tile][r], (const uint8_t *)from + r * stride, TILE_ROW_BYTES);
    }
}

static inline void emulate_store(int tile, void *to, size_t stride) {
    for (size_t r = 0; r < TILE_ROWS; r++) {
        memcpy((uint8_t *)to + r * stride, emulated[tile][r], TILE_ROW_BYTES);
    }
}

static inline void emulate_product(int sum, int a, int b) {
    for (int r = 0; r < TILE_ROWS; r++) {
        float row[16];
        memcpy(row, emulated[sum][r], sizeof row);
        for (int k = 0; k < 16; k++) {
            const float even = nano_load_bf16(&emulated[a][r][4 * k]), odd = nano_load_bf16(&emulated[a][r][4 * k + 2]);
            for (int c = 0; c < 16; c++) {
                row[c] += even * nano_load_bf16(&emulated[b][k][4 * c]);
                row[c] += odd * nano_load_bf16(&emulated[b][k][4 * c + 2]);
            }
        }
        memcpy(emulated[sum][r], row, sizeof row);
    }
}

#  define TILE_CONFIGURE() ((void)0)
#  define TILE_RELEASE() ((void)0)
#  define TILE_ZERO(tile) memset(emulated[tile], 0, TILE_BYTES)
#  define TILE_LOAD(tile, from, stride) emulate_load(tile, from, stride)
#  define TILE_STORE(tile, to, stride) emulate_store(tile, to, stride)
#  define TILE_PRODUCT(sum, a, b) emulate_product(sum, a, b)

#else

/* Palette 1 with all eight tiles whole: bytes a row (16 bits each) from byte 16, rows from byte 48. Static storage:
 * GCC 12 tells the optimiser of only 8 bytes that the instruction reads, so stores to a local one could be dropped. */
static const uint8_t tile_config[64] = {[0] = 1,
                                        [16] = TILE_ROW_BYTES,
                                        [18] = TILE_ROW_BYTES,
                                        [20] = TILE_ROW_BYTES,
                                        [22] = TILE_ROW_BYTES,
                                        [24] = TILE_ROW_BYTES,
                                        [26] = TILE_ROW_BYTES,
                                        [28] = TILE_ROW_BYTES,
                                        [30] = TILE_ROW_BYTES,
                                        [48] = TILE_ROWS,
                                        [49] = TILE_ROWS,
                                        [50] = TILE_ROWS,
                                        [51] = TILE_ROWS,
                                        [52] = TILE_ROWS,
                                        [53] = TILE_ROWS,
                                        [54] = TILE_ROWS,
                                        [55] = TILE_ROWS};

/* GCC's loads name no memory they read: without a barrier the stores before them could be moved behind or dropped. */
#  define TILE_BARRIER() __asm__ __volatile__("" ::: "memory")

#  define TILE_CONFIGURE() _tile_loadconfig(tile_config)
#  define TILE_RELEASE() _tile_release()
#  define TILE_ZERO(tile) _tile_zero(tile)
#  define TILE_LOAD(tile, from, stride)    \
      do {                                 \
          TILE_BARRIER();                  \
          _tile_loadd(tile, from, stride); \
      } while (0)
#  define TILE_STORE(tile, to, stride)    \
      do {                                \
          _tile_stored(tile, to, stride); \
          TILE_BARRIER();                 \
      } while (0)
#  define TILE_PRODUCT(sum, a, b) _tile_dpbf16ps(sum, a, b)

#endif

#endif
