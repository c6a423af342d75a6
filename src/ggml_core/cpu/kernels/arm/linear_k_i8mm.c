/* Integer linears with smmla, types with super-blocks. */
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

LINEAR(Q2_K, q2_k)
LINEAR(Q3_K, q3_k)
LINEAR(Q4_K, q4_k)
LINEAR(Q5_K, q5_k)
LINEAR(Q6_K, q6_k)
LINEAR(IQ4_XS, iq4_xs)
