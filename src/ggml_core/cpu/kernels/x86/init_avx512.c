#include "cpu/kernels/levels.h"

void nano_kernels_init_avx512(nano_kernels *k) {
    k->linear_q8_0 = nano_linear_q8_0_avx512;
    k->linear_q4_0 = nano_linear_q4_0_avx512;
    k->linear_q4_1 = nano_linear_q4_1_avx512;
    k->linear_q5_0 = nano_linear_q5_0_avx512;
    k->linear_q5_1 = nano_linear_q5_1_avx512;
}
