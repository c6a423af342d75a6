/*
 * The kernel levels: names, choice, several threads at once. NANOLLM_CPU is read once a process, so the program tests
 * what the variable that it finds must lead to; ctest runs it without one, with a level and with a wrong name.
 */
#include <stdlib.h>

#include "base/threads.h"
#include "cpu/features.h"
#include "cpu/kernels.h"
#include "tests/check.h"

enum { N_THREADS = 4 };

static const nano_kernels *seen[N_THREADS];
static nano_atomic n_seen;

static void look(void *arg, int thread, uint32_t run) {
    (void)arg;
    (void)run;
    seen[thread] = nano_kernels_current();
    (void)nano_atomic_add(&n_seen, 1);
}

/* Before anything else: the tables are built by whichever thread comes first. */
static void test_many_threads(void) {
    const size_t size = nano_pool_bytes(N_THREADS);
    void *memory = nano_pages_alloc(size);
    nano_pool *pool = NULL;
    CHECK(memory != NULL);
    const nano_pool_options options = {.n_threads = N_THREADS, .poll = 50, .fn = look};
    CHECK_OK(nano_pool_start(memory, &options, &pool, &check_error));
    nano_pool_run(pool, N_THREADS);
    while (nano_atomic_load(&n_seen) < N_THREADS) {
        nano_thread_yield();
    }
    nano_pool_stop(pool);
    nano_pages_free(memory, size);
    for (int i = 0; i < N_THREADS; i++) {
        CHECK(seen[i] != NULL && seen[i] == seen[0]);
        CHECK(seen[i]->linear_q8_0 != NULL && seen[i]->weigh_f16 != NULL);
    }
}

static void test_choice(void) {
    const char *levels = nano_cpu_levels();
    const char *last = strrchr(levels, ',') != NULL ? strrchr(levels, ',') + 1 : levels;
    CHECK(strncmp(levels, "generic", 7) == 0);
    CHECK(strcmp(nano_cpu_level(), last) == 0);
    CHECK(nano_kernels_at(last) == nano_kernels_current());
    CHECK(nano_kernels_at("quantum") == NULL && nano_kernels_at("") == NULL);
    CHECK_OK(nano_cpu_set_level("generic", &check_error));
    CHECK(strcmp(nano_cpu_level(), "generic") == 0);
    CHECK(nano_kernels_current() == nano_kernels_at("generic"));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "quantum", nano_cpu_set_level("quantum", &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, levels, nano_cpu_set_level("quantum", &check_error));
    CHECK(strcmp(nano_cpu_level(), "generic") == 0); /* a failure changes nothing */
    CHECK_OK(nano_cpu_set_level(NULL, &check_error));
    CHECK(strcmp(nano_cpu_level(), last) == 0);
}

/* What a level stands on must be there. */
static void test_features(void) {
    const uint32_t found = nano_cpu_features();
    CHECK(nano_kernels_at("avx2") == NULL || (found & NANO_CPU_FMA) != 0);
    CHECK(nano_kernels_at("avx512") == NULL || nano_kernels_at("avx2") != NULL);
    CHECK(nano_kernels_at("avxvnni") == NULL || (nano_kernels_at("avx2") != NULL && (found & NANO_CPU_AVXVNNI) != 0));
#if defined(NANO_HAVE_AVX512) /* with or without avxvnni below it */
    CHECK((nano_kernels_at("avx512") != NULL) == ((found & NANO_CPU_AVX512VNNI) != 0));
#endif
    CHECK(nano_kernels_at("amx") == NULL || nano_kernels_at("avx512") != NULL);
    CHECK(nano_kernels_at("dotprod") == NULL || nano_kernels_at("neon") != NULL);
    CHECK(found == nano_cpu_features());
}

/* Every type that can be computed with has its kernels, no other has. */
static void test_lookup(void) {
    const nano_kernels *k = nano_kernels_current();
    for (nano_type type = -1; type < 2000; type++) {
        CHECK((nano_kernels_linear(k, type) != NULL) == nano_type_is_supported(type));
    }
    CHECK(nano_kernels_quantize(k, NANO_TYPE_A8) == k->quantize_a8 && nano_kernels_quantize(k, NANO_TYPE_F32) == NULL);
    CHECK(nano_kernels_weigh(k, NANO_TYPE_F16) == k->weigh_f16 && nano_kernels_weigh(k, NANO_TYPE_F32) == k->weigh_f32);
    CHECK(nano_kernels_weigh(k, NANO_TYPE_Q4_1) == NULL);
}

static void test_forced(const char *expected) {
    CHECK(strcmp(nano_cpu_level(), expected) == 0);
    CHECK_OK(nano_cpu_set_level(NULL, &check_error));
    CHECK(strcmp(nano_cpu_level(), expected) == 0);
}

static void test_forced_unknown(void) {
    CHECK(nano_kernels_current() != NULL);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "quantum", nano_cpu_set_level(NULL, &check_error));
}

int main(void) {
    const char *forced = getenv("NANOLLM_CPU");
    if (forced != NULL && strcmp(forced, "quantum") == 0) {
        test_forced_unknown();
    } else if (forced != NULL) {
        test_forced(forced);
    } else {
        test_many_threads();
        test_choice();
        test_features();
        test_lookup();
    }
    return check_result();
}
