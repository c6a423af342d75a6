/* The limits of this machine, for comparing programs with what is possible: bandwidth of reading, and peak rates of
 * the arithmetic that matrix products are made of, with 1 to N threads. Prints one JSON object.
 *
 *     cc -O3 -march=native -pthread limits.c -o limits && ./limits [threads [MiB]]
 *
 * Each figure is the best of several rounds. Reading goes through anonymous memory of ordinary pages, as mapped files
 * have them, each thread through its own contiguous part, in 1 to 8 streams with prefetches. Arithmetic runs on
 * registers alone. An operation is a multiplication or an addition: a multiply-add counts as two. */
#define _GNU_SOURCE 1

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#  include <immintrin.h>
#  define KEEP(a) __asm__ volatile("" : "+v"(a)) /* the compiler knows no more what is in it */
#elif defined(__ARM_NEON)
#  include <arm_neon.h>
#  define KEEP(a) __asm__ volatile("" : "+w"(a))
#endif

#if defined(__AVX512F__)
enum { VECTOR = 64 };
#elif defined(__AVX__)
enum { VECTOR = 32 };
#else
enum { VECTOR = 16 };
#endif

typedef float floats __attribute__((vector_size(VECTOR)));
typedef uint64_t words __attribute__((vector_size(VECTOR)));

enum { MAX_THREADS = 256, ROUNDS = 7, CHAINS = 10 /* of RUN_CHAINS */, LINE = 64, AHEAD = 2048 };

#define EACH_CHAIN(DO) \
    DO(a0);            \
    DO(a1);            \
    DO(a2);            \
    DO(a3);            \
    DO(a4);            \
    DO(a5);            \
    DO(a6);            \
    DO(a7);            \
    DO(a8);            \
    DO(a9)

/* Ten chains of dependent operations, enough to hide the latency of each. `OP(a)` is a statement that changes a. */
#define RUN_CHAINS(type, zero, OP)                                                                              \
    do {                                                                                                        \
        type a0 = zero, a1 = zero, a2 = zero, a3 = zero, a4 = zero, a5 = zero, a6 = zero, a7 = zero, a8 = zero, \
             a9 = zero;                                                                                         \
        EACH_CHAIN(KEEP);                                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                                       \
            EACH_CHAIN(OP);                                                                                     \
        }                                                                                                       \
        EACH_CHAIN(KEEP);                                                                                       \
    } while (0)

/* ------------------------------------------------------------ what is measured: operations done in n rounds */

#if defined(KEEP)

static double f32_fma(int64_t n) {
    floats x = {0}, y = {0};
    KEEP(x);
    KEEP(y);
#  define FMA(a) a = a * x + y
    RUN_CHAINS(floats, x, FMA);
    return (double)n * CHAINS * (VECTOR / 4) * 2;
}

#  if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#    if defined(__AVX512VNNI__)
#      define DOT(a) a = _mm512_dpbusd_epi32(a, x, y)
typedef __m512i ints;
#    else
#      define DOT(a) a = _mm256_dpbusd_avx_epi32(a, x, y)
typedef __m256i ints;
#    endif
#    define INT8_NAME "vnni"
static double int8_dot(int64_t n) {
    ints x = {0}, y = {0};
    KEEP(x);
    KEEP(y);
    RUN_CHAINS(ints, x, DOT);
    return (double)n * CHAINS * sizeof(ints) * 2;
}
#  elif defined(__AVX2__)
#    define INT8_NAME "maddubs"
/* What stands in for a dot product: multiply to pairs of 16 bits, add to 32 bits, accumulate. */
static double int8_dot(int64_t n) {
    __m256i x = _mm256_setzero_si256(), y = x, ones = x;
    KEEP(x);
    KEEP(y);
    KEEP(ones);
#    define DOT(a) \
        KEEP(x);   \
        a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones))
    RUN_CHAINS(__m256i, x, DOT);
    return (double)n * CHAINS * sizeof(__m256i) * 2;
}
#  elif defined(__ARM_FEATURE_MATMUL_INT8)
#    define INT8_NAME "smmla"
static double int8_dot(int64_t n) {
    int8x16_t x = vdupq_n_s8(0), y = x;
    KEEP(x);
    KEEP(y);
#    define DOT(a) a = vmmlaq_s32(a, x, y)
    RUN_CHAINS(int32x4_t, vreinterpretq_s32_s8(x), DOT);
    return (double)n * CHAINS * 32 * 2;
}
#  elif defined(__ARM_FEATURE_DOTPROD)
#    define INT8_NAME "sdot"
static double int8_dot(int64_t n) {
    int8x16_t x = vdupq_n_s8(0), y = x;
    KEEP(x);
    KEEP(y);
#    define DOT(a) a = vdotq_s32(a, x, y)
    RUN_CHAINS(int32x4_t, vreinterpretq_s32_s8(x), DOT);
    return (double)n * CHAINS * 16 * 2;
}
#  elif defined(__ARM_NEON)
#    define INT8_NAME "smull"
/* Two products of 8 bytes each, then pairs of 16 bits added into 32. */
static double int8_dot(int64_t n) {
    int8x8_t x = vdup_n_s8(0), y = x;
    KEEP(x);
    KEEP(y);
#    define DOT(a) \
        KEEP(x);   \
        a = vpadalq_s16(a, vmlal_s8(vmull_s8(x, y), x, y))
    RUN_CHAINS(int32x4_t, vdupq_n_s32(0), DOT);
    return (double)n * CHAINS * 16 * 2;
}
#  endif

#  if defined(__AVX512BF16__)
static double bf16_dot(int64_t n) {
    __m512i x = _mm512_setzero_si512();
    KEEP(x);
#    define DOT_BF16(a) a = _mm512_dpbf16_ps(a, (__m512bh)x, (__m512bh)x)
    RUN_CHAINS(__m512, _mm512_castsi512_ps(x), DOT_BF16);
    return (double)n * CHAINS * 32 * 2;
}
#  endif

#endif

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__linux__)
#  include <sys/syscall.h>
#  define HAVE_AMX 1

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static tile_config full_tiles; /* static: gcc 12 believes that the instruction reads 8 bytes of it */

/* Linux lets a process use tile data only after it asked to (feature 18). */
static int may_use_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static void configure_tiles(void) {
    full_tiles.palette = 1;
    for (int i = 0; i < 8; i++) {
        full_tiles.row_bytes[i] = 64;
        full_tiles.rows[i] = 16;
    }
    __asm__ volatile("" ::: "memory");
    _tile_loadconfig(&full_tiles);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
}

/* Four accumulators: a step of 16 x 16 x 64 bytes each. */
static double amx_int8(int64_t n) {
    configure_tiles();
    for (int64_t i = 0; i < n; i++) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_release();
    return (double)n * 4 * 16 * 16 * 64 * 2;
}

static double amx_bf16(int64_t n) {
    configure_tiles();
    for (int64_t i = 0; i < n; i++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_release();
    return (double)n * 4 * 16 * 16 * 32 * 2;
}
#endif

/* The sum of the bytes in `n_streams` neighbouring parts that are read side by side. */
static uint64_t read_streams(const uint8_t *data, size_t size, size_t n_streams) {
    enum { PER_LINE = LINE / VECTOR };
    size_t part = size / n_streams / LINE * LINE;
    words sum[PER_LINE] = {{0}};
    for (size_t at = 0; at < part; at += LINE) {
        for (size_t s = 0; s < n_streams; s++) {
            const uint8_t *line = data + s * part + at;
            __builtin_prefetch(line + AHEAD);
            for (int k = 0; k < PER_LINE; k++) {
                words loaded;
                memcpy(&loaded, line + k * VECTOR, VECTOR);
                sum[k] += loaded;
            }
        }
    }
    uint64_t all = 0;
    for (int k = 0; k < PER_LINE; k++) {
        for (int i = 0; i < VECTOR / 8; i++) {
            all += sum[k][i];
        }
    }
    return all;
}

/* ------------------------------------------------------------------ threads */

typedef struct job {
    double (*operations)(int64_t n); /* NULL: read */
    int64_t n;
    const uint8_t *data;
    size_t size, n_streams;
    pthread_barrier_t *barrier;
    double done, start, end;
    uint64_t sum;
} job;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *work(void *arg) {
    job *j = arg;
    pthread_barrier_wait(j->barrier);
    j->start = now();
    if (j->operations != NULL) {
        j->done = j->operations(j->n);
    } else {
        j->sum = read_streams(j->data, j->size, j->n_streams);
        j->done = (double)j->size;
    }
    j->end = now();
    return NULL;
}

/* What all threads together do in a second. */
static double rate(job template, int n_threads) {
    static job jobs[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    size_t part = template.size / (size_t)n_threads;
    for (int i = 0; i < n_threads; i++) {
        jobs[i] = template;
        jobs[i].barrier = &barrier;
        jobs[i].data = template.data + (size_t)i * part;
        jobs[i].size = part;
        if (pthread_create(&threads[i], NULL, work, &jobs[i]) != 0) {
            fprintf(stderr, "limits: the system refused a thread\n");
            exit(1);
        }
    }
    double start = 0, end = 0, done = 0;
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        start = i == 0 || jobs[i].start < start ? jobs[i].start : start;
        end = i == 0 || jobs[i].end > end ? jobs[i].end : end;
        done += jobs[i].done;
        __asm__ volatile("" ::"r"(jobs[i].sum)); /* somebody wants it: reading must not be optimised away */
    }
    pthread_barrier_destroy(&barrier);
    return done / (end - start);
}

static double best_read(const uint8_t *data, size_t size, int n_threads) {
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t n_streams = 1; n_streams <= 8; n_streams *= 2) {
            job j = {.data = data, .size = size, .n_streams = n_streams};
            double found = rate(j, n_threads);
            best = found > best ? found : best;
        }
    }
    return best;
}

static double best_rate(double (*operations)(int64_t n), int n_threads) {
    int64_t n = 1000;
    double best = 0;
    for (double seconds = 0; seconds < 0.03; n *= 2) { /* rounds of about 1/30 s, longer than a scheduler's whims */
        double start = now();
        operations(n);
        seconds = now() - start;
    }
    for (int round = 0; round < ROUNDS; round++) {
        job j = {.operations = operations, .n = n};
        double found = rate(j, n_threads);
        best = found > best ? found : best;
    }
    return best;
}

int main(int argc, char **argv) {
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int n_threads = argc > 1 ? atoi(argv[1]) : (int)n_cpus;
    size_t size = (size_t)(argc > 2 ? atoi(argv[2]) : 1024) << 20;
    if (n_threads < 1 || n_threads > MAX_THREADS || size == 0) {
        fprintf(stderr, "usage: limits [threads (1 to %d) [MiB]]\n", MAX_THREADS);
        return 2;
    }
    uint8_t *data = mmap(NULL, size + AHEAD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        fprintf(stderr, "limits: the system refused %zu bytes\n", size);
        return 1;
    }
    madvise(data, size, MADV_NOHUGEPAGE);
    memset(data, 1, size + AHEAD);
    printf("{\"mib\": %zu, \"limits\": [", size >> 20);
    for (int i = 1; i <= n_threads; i++) {
        printf("%s{\"threads\": %d, \"read_gb_s\": %.2f", i > 1 ? ", " : "", i, 1e-9 * best_read(data, size, i));
#if defined(KEEP)
        printf(", \"f32_gflop_s\": %.1f", 1e-9 * best_rate(f32_fma, i));
#endif
#if defined(INT8_NAME)
        printf(", \"int8\": \"%s\", \"int8_gop_s\": %.1f", INT8_NAME, 1e-9 * best_rate(int8_dot, i));
#endif
#if defined(__AVX512BF16__)
        printf(", \"bf16_gflop_s\": %.1f", 1e-9 * best_rate(bf16_dot, i));
#endif
#if defined(HAVE_AMX)
        if (may_use_tiles()) {
            printf(", \"amx_int8_gop_s\": %.1f", 1e-9 * best_rate(amx_int8, i));
            printf(", \"amx_bf16_gflop_s\": %.1f", 1e-9 * best_rate(amx_bf16, i));
        }
#endif
        printf("}");
        fflush(stdout);
    }
    printf("]}\n");
    munmap(data, size + AHEAD);
    return 0;
}
