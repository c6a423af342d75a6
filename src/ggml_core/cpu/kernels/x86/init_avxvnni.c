#include "cpu/kernels/levels.h"
#include "cpu/kernels/x86/lanes_avxvnni.h"

/* What multiplies bytes. */
void V_LEVEL(nano_kernels_init)(nano_kernels *k) {
    k->linear_q8_0 = V_LEVEL(nano_linear_q8_0);
    k->linear_q4_0 = V_LEVEL(nano_linear_q4_0);
    k->linear_q4_1 = V_LEVEL(nano_linear_q4_1);
    k->linear_q5_0 = V_LEVEL(nano_linear_q5_0);
    k->linear_q5_1 = V_LEVEL(nano_linear_q5_1);
    k->linear_q2_k = V_LEVEL(nano_linear_q2_k);
    k->linear_q3_k = V_LEVEL(nano_linear_q3_k);
    k->linear_q4_k = V_LEVEL(nano_linear_q4_k);
    k->linear_q5_k = V_LEVEL(nano_linear_q5_k);
    k->linear_q6_k = V_LEVEL(nano_linear_q6_k);
    k->linear_iq4_nl = V_LEVEL(nano_linear_iq4_nl);
    k->linear_iq4_xs = V_LEVEL(nano_linear_iq4_xs);
}
