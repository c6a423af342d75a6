/* Integer linears for ARMv8.0, types with blocks of 32. */
#include "cpu/kernels/arm/dot_neon.h"
#include "cpu/kernels/arm/linear_quant_arm.h"

void nano_linear_q8_0_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q8_0, args); }
void nano_linear_q4_0_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q4_0, args); }
void nano_linear_q4_1_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q4_1, args); }
void nano_linear_q5_0_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q5_0, args); }
void nano_linear_q5_1_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_Q5_1, args); }
void nano_linear_iq4_nl_neon(const nano_linear_args *args) { nano_linear_quant(NANO_TYPE_IQ4_NL, args); }
