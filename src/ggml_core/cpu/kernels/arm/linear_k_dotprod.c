/* Integer linears with sdot, types with super-blocks. */
#include "cpu/kernels/arm/dot_dotprod.h"
#include "cpu/kernels/arm/linear_k_arm.h"

void nano_linear_q2_k_dotprod(const nano_linear_args *args) { nano_linear_k(NANO_TYPE_Q2_K, args); }
void nano_linear_q3_k_dotprod(const nano_linear_args *args) { nano_linear_k(NANO_TYPE_Q3_K, args); }
void nano_linear_q4_k_dotprod(const nano_linear_args *args) { nano_linear_k(NANO_TYPE_Q4_K, args); }
void nano_linear_q5_k_dotprod(const nano_linear_args *args) { nano_linear_k(NANO_TYPE_Q5_K, args); }
void nano_linear_q6_k_dotprod(const nano_linear_args *args) { nano_linear_k(NANO_TYPE_Q6_K, args); }
void nano_linear_iq4_xs_dotprod(const nano_linear_args *args) { nano_linear_k(NANO_TYPE_IQ4_XS, args); }
