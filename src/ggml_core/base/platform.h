/*
 * The only file pair (with platform.c) that knows the operating system and the compiler: builtins, atomics,
 * memory, files, clock. Kernel files may also use the intrinsics of their instruction set.
 */
#ifndef NANO_BASE_PLATFORM_H
#define NANO_BASE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#  error "nanollm reads little-endian files in place and needs a little-endian machine"
#endif

#if defined(__GNUC__)
#  define NANO_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#  define NANO_ALIGNED(n) __attribute__((aligned(n)))
#  define NANO_NOINLINE __attribute__((noinline))
#  define NANO_LIKELY(x) __builtin_expect(!!(x), 1)
#  define NANO_UNLIKELY(x) __builtin_expect(!!(x), 0)
#  define NANO_PREFETCH(p) __builtin_prefetch(p)
#else
#  error "nanollm needs gcc or clang"
#endif

enum { NANO_CACHE_LINE = 64 };

/* Plain 32-bit atomics. */
typedef struct nano_atomic {
    int32_t value;
} nano_atomic;

static inline int32_t nano_atomic_load(const nano_atomic *a) { return __atomic_load_n(&a->value, __ATOMIC_ACQUIRE); }
static inline int32_t nano_atomic_load_relaxed(const nano_atomic *a) {
    return __atomic_load_n(&a->value, __ATOMIC_RELAXED);
}
static inline void nano_atomic_store(nano_atomic *a, int32_t v) { __atomic_store_n(&a->value, v, __ATOMIC_RELEASE); }
/* Returns the value before. */
static inline int32_t nano_atomic_add(nano_atomic *a, int32_t v) {
    return __atomic_fetch_add(&a->value, v, __ATOMIC_ACQ_REL);
}
/* Sequentially consistent forms, for a store that must be ordered before a later load of another variable. */
static inline int32_t nano_atomic_add_seq(nano_atomic *a, int32_t v) {
    return __atomic_fetch_add(&a->value, v, __ATOMIC_SEQ_CST);
}
static inline int32_t nano_atomic_load_seq(const nano_atomic *a) {
    return __atomic_load_n(&a->value, __ATOMIC_SEQ_CST);
}
static inline void nano_atomic_store_seq(nano_atomic *a, int32_t v) {
    __atomic_store_n(&a->value, v, __ATOMIC_SEQ_CST);
}
static inline int32_t nano_atomic_exchange(nano_atomic *a, int32_t v) {
    return __atomic_exchange_n(&a->value, v, __ATOMIC_ACQ_REL);
}

typedef struct NANO_ALIGNED(8) nano_atomic64 {
    uint64_t value;
} nano_atomic64;

static inline uint64_t nano_atomic64_load(const nano_atomic64 *a) {
    return __atomic_load_n(&a->value, __ATOMIC_ACQUIRE);
}
static inline uint64_t nano_atomic64_load_seq(const nano_atomic64 *a) {
    return __atomic_load_n(&a->value, __ATOMIC_SEQ_CST);
}
static inline void nano_atomic64_store(nano_atomic64 *a, uint64_t v) {
    __atomic_store_n(&a->value, v, __ATOMIC_RELEASE);
}
static inline uint64_t nano_atomic64_add_seq(nano_atomic64 *a, uint64_t v) {
    return __atomic_fetch_add(&a->value, v, __ATOMIC_SEQ_CST);
}
/* Stores v where the value is still *expected; otherwise *expected gets the value. */
static inline bool nano_atomic64_replace(nano_atomic64 *a, uint64_t *expected, uint64_t v) {
    return __atomic_compare_exchange_n(&a->value, expected, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Tells the core that this is a spin loop. */
static inline void nano_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ __volatile__("yield");
#else
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

void nano_thread_yield(void);

#ifdef NANO_HAVE_CUDA
/* A shared library, loaded for the rest of the process; NULL when there is none. And what a name in it stands for. */
void *nano_library_open(const char *path);
void *nano_library_find(void *library, const char *name);
#endif

/* A set of CPUs, bit i % 64 of word i / 64; what is beyond the last is as if it were not there. */
enum { NANO_MAX_CPUS = 1024 };

typedef struct nano_cpus {
    uint64_t bits[NANO_MAX_CPUS / 64];
} nano_cpus;

/* Where the calling thread may run; false when the system does not say. */
bool nano_cpus_allowed(nano_cpus *out);
/* Lets the calling thread run there alone; false when the system refuses. */
bool nano_cpus_restrict_thread(const nano_cpus *cpus);

size_t nano_page_size(void);
double nano_now(void); /* seconds, monotonic */

/* Zeroed pages, committed when touched; NULL when the system refuses. `size` is rounded up to pages. */
void *nano_pages_alloc(size_t size);
void nano_pages_free(void *p, size_t size);

/* nano_memory_available with the system's files below `root`: "" but in tests. The limit on the address space is this
 * process's own in any case. */
uint64_t nano_memory_available_at(const char *root);

/* A whole file mapped read-only. On failure *error_text (static or strerror) says why. */
typedef struct nano_mapping {
    const uint8_t *data;
    size_t size;
} nano_mapping;

/* Reads a small file's first size - 1 bytes as a string; false when it is not there. */
bool nano_read_text(const char *path, char *buffer, size_t size);

bool nano_map_file(const char *path, nano_mapping *out, const char **error_text);
void nano_unmap_file(nano_mapping *mapping);
/* Takes a part of a mapping out of this process's memory; read again, it comes from the file. */
void nano_forget_pages(const void *data, size_t size);

/* A new file beside `path`, to be renamed over it. Unbuffered; callers buffer. */
typedef struct nano_temp_file {
    int fd;
    char *temp_path; /* malloc'ed */
    char *path;      /* malloc'ed */
} nano_temp_file;

bool nano_temp_open(const char *path, nano_temp_file *out, const char **error_text);
bool nano_temp_write(nano_temp_file *f, const void *data, size_t size, const char **error_text);
bool nano_temp_commit(nano_temp_file *f, const char **error_text); /* sync, rename, close */
void nano_temp_discard(nano_temp_file *f);                         /* close, remove; safe after commit */

#endif
