/* Declares nano_<kernel>_<level> of every row and level, and the init of every level: it overwrites in the table
 * what the level does better than those below it. Which are defined depends on the machine that is built for. */
#ifndef NANO_CPU_KERNELS_LEVELS_H
#define NANO_CPU_KERNELS_LEVELS_H

#include "cpu/kernels.h"

#define NANO_KERNEL(name, fn)      \
    fn nano_##name##_ref;          \
    fn nano_##name##_avx2;         \
    fn nano_##name##_avxvnni;      \
    fn nano_##name##_avxvnni_evex; \
    fn nano_##name##_avx512;       \
    fn nano_##name##_neon;         \
    fn nano_##name##_dotprod;      \
    fn nano_##name##_i8mm;
#include "cpu/kernels.inc"
#undef NANO_KERNEL

nano_wide_linear_fn nano_wide_linear_amx;
nano_wide_pack_fn nano_wide_pack_amx;

void nano_kernels_init_ref(nano_kernels *k);
void nano_kernels_init_avx2(nano_kernels *k);
void nano_kernels_init_avxvnni(nano_kernels *k);
void nano_kernels_init_avxvnni_evex(nano_kernels *k); /* for tests, see x86/lanes_avxvnni.h */
void nano_kernels_init_avx512(nano_kernels *k);
void nano_kernels_init_amx(nano_kernels *k);
void nano_kernels_init_neon(nano_kernels *k);
void nano_kernels_init_dotprod(nano_kernels *k);
void nano_kernels_init_i8mm(nano_kernels *k);

#endif
