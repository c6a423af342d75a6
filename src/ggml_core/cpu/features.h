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
    NANO_CPU_NEON = 1 << 8,
    NANO_CPU_DOTPROD = 1 << 9
};

/* Bits of the above. A bit is set only when the instructions may be executed: the operating system saves their
 * registers, too. No bit stands for another: each is asked for by itself. */
uint32_t nano_cpu_features(void);

#endif
