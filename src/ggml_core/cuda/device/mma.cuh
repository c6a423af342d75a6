/*
 * Products of small matrices by a warp's matrix unit (PTX ISA, "mma"): C (16 rows, 8 columns) += A B^T with K elements
 * a row. Lane l holds, with r = l / 4 and k = l % 4: of A rows r and r + 8, of B column r, each the k-th word; of C
 * columns 2 k and 2 k + 1 of row r (0, 1) and of row r + 8 (2, 3).
 */
#ifndef NANO_CUDA_MMA_CUH
#define NANO_CUDA_MMA_CUH

#include "cuda/device/common.cuh"

#if __CUDA_ARCH__ >= 750

#  ifdef NANO_CUDA_EMULATE

template <typename Sum, typename Dot> NANO_DEVICE void emulate_mma(Sum *c, const unsigned *a, unsigned b, Dot dot) {
    const unsigned words[3] = {a[0], a[1], b};
    const int r = lane_of() / 4, column = lane_of() % 4 * 2;
    nano_emulate::exchange(words, sizeof words);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++) {
            const unsigned *of_row =
                static_cast<const unsigned *>(nano_emulate::given(static_cast<unsigned>(r * 4 + k)));
            const unsigned *of_column =
                static_cast<const unsigned *>(nano_emulate::given(static_cast<unsigned>((column + i % 2) * 4 + k)));
            c[i] = dot(of_row[i / 2], of_column[2], c[i]);
        }
    }
    nano_emulate::exchange_done();
}

NANO_DEVICE int dot_bytes(unsigned x, unsigned y, int sum) {
    return __dp4a(static_cast<int>(x), static_cast<int>(y), sum);
}
NANO_DEVICE float dot_halves(unsigned x, unsigned y, float sum) {
    for (int i = 0; i < 2; i++) {
        const __half a = {static_cast<uint16_t>(x >> (16 * i))}, b = {static_cast<uint16_t>(y >> (16 * i))};
        sum += __half2float(a) * __half2float(b);
    }
    return sum;
}

/* K = 16 signed bytes. */
NANO_DEVICE void mma_bytes(int *c, const unsigned *a, unsigned b) { emulate_mma(c, a, b, dot_bytes); }
/* K = 8 halves. */
NANO_DEVICE void mma_halves(float *c, const unsigned *a, unsigned b) { emulate_mma(c, a, b, dot_halves); }

#  else

NANO_DEVICE void mma_bytes(int *c, const unsigned *a, unsigned b) {
#    if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
#    else
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+r"(c[0]), "+r"(c[1])
        : "r"(a[0]), "r"(b));
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+r"(c[2]), "+r"(c[3])
        : "r"(a[1]), "r"(b));
#    endif
}
NANO_DEVICE void mma_halves(float *c, const unsigned *a, unsigned b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}

#  endif
#endif
#endif
