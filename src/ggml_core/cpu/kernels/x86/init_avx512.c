#include "cpu/kernels/levels.h"

/* Every kernel has its own. */
void nano_kernels_init_avx512(nano_kernels *k) {
#define NANO_KERNEL(name, fn) k->name = nano_##name##_avx512;
#include "cpu/kernels.inc"
#undef NANO_KERNEL
}
