/* Integer linears with smmla. */
#include "cpu/kernels/arm/linear_i8mm.h"

/* One column is for sdot: with smmla half of the work would be for nothing. */
#define LINEAR(NAME, name)                                         \
    void nano_linear_##name##_i8mm(const nano_linear_args *args) { \
        if (args->n_cols == 1) {                                   \
            nano_linear_##name##_dotprod(args);                    \
        } else {                                                   \
            nano_linear_mm(NANO_TYPE_##NAME, args);                \
        }                                                          \
    }

LINEAR(Q8_0, q8_0)
LINEAR(Q4_0, q4_0)
LINEAR(Q4_1, q4_1)
LINEAR(Q5_0, q5_0)
LINEAR(Q5_1, q5_1)
LINEAR(IQ4_NL, iq4_nl)
LINEAR(Q2_K, q2_k)
LINEAR(Q3_K, q3_k)
LINEAR(Q4_K, q4_k)
LINEAR(Q5_K, q5_k)
LINEAR(Q6_K, q6_k)
LINEAR(IQ4_XS, iq4_xs)

void nano_kernels_init_i8mm(nano_kernels *k) {
    k->linear_q8_0 = nano_linear_q8_0_i8mm;
    k->linear_q4_0 = nano_linear_q4_0_i8mm;
    k->linear_q4_1 = nano_linear_q4_1_i8mm;
    k->linear_q5_0 = nano_linear_q5_0_i8mm;
    k->linear_q5_1 = nano_linear_q5_1_i8mm;
    k->linear_iq4_nl = nano_linear_iq4_nl_i8mm;
    k->linear_q2_k = nano_linear_q2_k_i8mm;
    k->linear_q3_k = nano_linear_q3_k_i8mm;
    k->linear_q4_k = nano_linear_q4_k_i8mm;
    k->linear_q5_k = nano_linear_q5_k_i8mm;
    k->linear_q6_k = nano_linear_q6_k_i8mm;
    k->linear_iq4_xs = nano_linear_iq4_xs_i8mm;
}
