#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1 /* syscall */
#endif

#include "cpu/features.h"

#include <stdbool.h>

static uint32_t when(bool condition, uint32_t bit) { return condition ? bit : 0; }

#if defined(__x86_64__) || defined(__i386__)
#  include <cpuid.h>
#  if defined(__linux__)
#    include <sys/syscall.h>
#    include <unistd.h>
#  endif

/* XCR0, which registers the operating system saves. Only after CPUID has said that OSXSAVE is set. As bytes,
 * for assemblers and compiler flags that do not know xgetbv. */
static uint32_t saved_registers(void) {
    uint32_t low = 0;
    uint32_t high = 0;
    __asm__ __volatile__(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Tiles: CPUID says that they and their bf16 products are there, XCR0 that they are saved, and Linux wants to be asked
 * once a process (arch_prctl ARCH_REQ_XCOMP_PERM, Documentation/arch/x86/xstate.rst). */
static bool may_use_tiles(uint32_t saved, unsigned leaf_7_edx) {
#  if defined(NANO_TILES_EMULATED)
    (void)saved;
    (void)leaf_7_edx;
    return true;
#  elif defined(__linux__) && defined(__x86_64__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, SAVED_TILES = 3 << 17, TILE_AND_BF16 = 1 << 24 | 1 << 22 };
    return (saved & SAVED_TILES) == SAVED_TILES && (leaf_7_edx & TILE_AND_BF16) == TILE_AND_BF16 &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#  else
    (void)saved;
    (void)leaf_7_edx;
    return false;
#  endif
}

/* Bit numbers: Intel's Software Developer's Manual, volume 2, CPUID; volume 1, 13.3 for XCR0. */
uint32_t nano_cpu_features(void) {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c >> 27 & 1) == 0) {
        return 0;
    }
    const uint32_t saved = saved_registers();
    const bool ymm = (saved & 0x06) == 0x06 && (c >> 28 & 1) != 0;
    const bool zmm = ymm && (saved & 0xe6) == 0xe6;
    uint32_t found = when(ymm && (c >> 12 & 1) != 0, NANO_CPU_FMA) | when(ymm && (c >> 29 & 1) != 0, NANO_CPU_F16C);
    if (__get_cpuid_max(0, 0) < 7) {
        return found;
    }
    __cpuid_count(7, 0, a, b, c, d);
    unsigned more = 0, unused[3];
    if (a >= 1) {
        __cpuid_count(7, 1, more, unused[0], unused[1], unused[2]);
    }
    return found | when(ymm && (b >> 5 & 1) != 0, NANO_CPU_AVX2) | when(zmm && (b >> 16 & 1) != 0, NANO_CPU_AVX512F) |
           when(zmm && (b >> 17 & 1) != 0, NANO_CPU_AVX512DQ) | when(zmm && (b >> 30 & 1) != 0, NANO_CPU_AVX512BW) |
           when(zmm && (b >> 31 & 1) != 0, NANO_CPU_AVX512VL) | when(zmm && (c >> 11 & 1) != 0, NANO_CPU_AVX512VNNI) |
           when(ymm && (more >> 4 & 1) != 0, NANO_CPU_AVXVNNI) |
           when(zmm && (more >> 5 & 1) != 0, NANO_CPU_AVX512BF16) |
           when(zmm && may_use_tiles(saved, d), NANO_CPU_AMX_BF16);
}

#elif defined(__linux__) && (defined(__aarch64__) || defined(__arm__))
#  include <sys/auxv.h>

/* Old headers lack the newer names; the numbers are the kernel's ABI (arch/arm*, uapi/asm/hwcap.h). */
#  if defined(__aarch64__)
#    ifndef HWCAP_ASIMD
#      define HWCAP_ASIMD (1 << 1)
#    endif
#    ifndef HWCAP_ASIMDDP
#      define HWCAP_ASIMDDP (1 << 20)
#    endif
#    ifndef HWCAP2_I8MM
#      define HWCAP2_I8MM (1 << 13)
#    endif

uint32_t nano_cpu_features(void) {
    const unsigned long caps = getauxval(AT_HWCAP);
    const unsigned long caps2 = getauxval(AT_HWCAP2);
    return when((caps & HWCAP_ASIMD) != 0, NANO_CPU_NEON) | when((caps & HWCAP_ASIMDDP) != 0, NANO_CPU_DOTPROD) |
           when((caps2 & HWCAP2_I8MM) != 0, NANO_CPU_I8MM);
}
#  else
#    ifndef HWCAP_NEON
#      define HWCAP_NEON (1 << 12)
#    endif
#    ifndef HWCAP_VFPv4
#      define HWCAP_VFPv4 (1 << 16)
#    endif

uint32_t nano_cpu_features(void) {
    const unsigned long caps = getauxval(AT_HWCAP), needed = HWCAP_NEON | HWCAP_VFPv4;
    return when((caps & needed) == needed, NANO_CPU_NEON);
}
#  endif

#else

/* Nobody to ask: what the compiler was told to take for granted. */
uint32_t nano_cpu_features(void) {
#  if defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
    const bool neon = true;
#  else
    const bool neon = false;
#  endif
#  if defined(__ARM_FEATURE_DOTPROD)
    const bool dotprod = true;
#  else
    const bool dotprod = false;
#  endif
#  if defined(__ARM_FEATURE_MATMUL_INT8)
    const bool i8mm = true;
#  else
    const bool i8mm = false;
#  endif
    return when(neon, NANO_CPU_NEON) | when(dotprod, NANO_CPU_DOTPROD) | when(i8mm, NANO_CPU_I8MM);
}

#endif
