#include "cpu/kernels/levels.h"

/* Every kernel has its own; without training those that only it needs stay the level's below. */
void nano_kernels_init_avx512(nano_kernels *k) {
#define NANO_KERNEL(name, fn) k->name = nano_##name##_avx512;
#ifdef NANO_WITHOUT_TRAINING
#  define NANO_TRAINING_KERNEL(name, fn)
#endif
#include "cpu/kernels.inc"
#undef NANO_KERNEL
}
