/* What this machine's processor and operating system offer together. */
#ifndef NANO_CPU_FEATURES_H
#define NANO_CPU_FEATURES_H

#include <stdint.h>

enum {
    NANO_CPU_AVX2 = 1 << 0,
    NANO_CPU_FMA = 1 << 1,
    NANO_CPU_F16C = 1 << 2,
    NANO_CPU_AVX512F = 1 << 3,
    NANO_CPU_AVX512BW = 1 << 4,
    NANO_CPU_AVX512DQ = 1 << 5,
    NANO_CPU_AVX512VL = 1 << 6,
    NANO_CPU_AVX512VNNI = 1 << 7,
    NANO_CPU_AVXVNNI = 1 << 10,
    NANO_CPU_AVX512BF16 = 1 << 8,
    NANO_CPU_AMX_BF16 = 1 << 9, /* tiles and their products; the kernel was asked for its permission to use them */
    /* Arm */
    NANO_CPU_NEON = 1 << 24, /* of 32-bit processors: with fused multiply-adds and halves (VFPv4) */
    NANO_CPU_DOTPROD = 1 << 25,
    NANO_CPU_I8MM = 1 << 26
};

/* Bits of the above. A bit is set only when the instructions may be executed: the operating system saves their
 * registers, too. No bit stands for another: each is asked for by itself. */
uint32_t nano_cpu_features(void);

#endif
