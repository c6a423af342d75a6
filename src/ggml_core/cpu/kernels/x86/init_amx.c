#include "cpu/kernels/levels.h"

void nano_kernels_init_amx(nano_kernels *k) {
    k->wide_linear = nano_wide_linear_amx;
    k->wide_pack = nano_wide_pack_amx;
}
