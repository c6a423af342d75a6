/* Integer linears with sdot, types with blocks of 32. */
#include "cpu/kernels/arm/dot_dotprod.h"
#include "cpu/kernels/arm/linear_quant_arm.h"

void nano_linear_q8_0_dotprod(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q8_0, args); }
void nano_linear_q4_0_dotprod(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q4_0, args); }
void nano_linear_q4_1_dotprod(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q4_1, args); }
void nano_linear_q5_0_dotprod(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q5_0, args); }
void nano_linear_q5_1_dotprod(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q5_1, args); }
void nano_linear_iq4_nl_dotprod(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_IQ4_NL, args); }

void nano_kernels_init_dotprod(nano_kernels *k) {
    k->linear_q8_0 = nano_linear_q8_0_dotprod;
    k->linear_q4_0 = nano_linear_q4_0_dotprod;
    k->linear_q4_1 = nano_linear_q4_1_dotprod;
    k->linear_q5_0 = nano_linear_q5_0_dotprod;
    k->linear_q5_1 = nano_linear_q5_1_dotprod;
    k->linear_q2_k = nano_linear_q2_k_dotprod;
    k->linear_q3_k = nano_linear_q3_k_dotprod;
    k->linear_q4_k = nano_linear_q4_k_dotprod;
    k->linear_q5_k = nano_linear_q5_k_dotprod;
    k->linear_q6_k = nano_linear_q6_k_dotprod;
    k->linear_iq4_nl = nano_linear_iq4_nl_dotprod;
    k->linear_iq4_xs = nano_linear_iq4_xs_dotprod;
}
