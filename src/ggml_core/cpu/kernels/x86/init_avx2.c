#include "cpu/kernels/levels.h"

/* Every kernel has its own. */
void nano_kernels_init_avx2(nano_kernels *k) {
#define NANO_KERNEL(name, fn) k->name = nano_##name##_avx2;
#include "cpu/kernels.inc"
#undef NANO_KERNEL
}
