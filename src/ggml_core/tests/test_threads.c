/*
 * The pool and its piles, the choice of CPUs in made-up systems, the pace of decoding.
 */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1 /* mkdtemp under -std=c99 */
#endif

#include "base/cpus.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/threads.h"
#include "cpu/pace.h"
#include "tests/check.h"

/* -------------------------------------------------------------------- piles */

enum { N_THREADS = 4, N_PILES = 5, MOST_PIECES = 300 };

typedef struct work {
    nano_pool *pool;
    nano_pile piles[N_PILES + 1]; /* the last is never filled */
    uint32_t n_pieces[N_PILES];
    int32_t order[N_PILES];              /* plain memory: which pile was done before */
    int32_t done[N_PILES][MOST_PIECES];  /* plain memory: how often each piece ran */
    int32_t highest_thread[MOST_PIECES]; /* of the first pile */
    nano_atomic n_wrong;
} work;

/* Every piece of a pile relies on all of the pile before. */
static void run_pieces(work *w, int pile, uint32_t first, uint32_t n, int thread) {
    for (uint32_t i = first; i < first + n; i++) {
        for (uint32_t k = 0; pile > 0 && k < w->n_pieces[pile - 1]; k++) {
            if (w->done[pile - 1][k] != 1) {
                (void)nano_atomic_add(&w->n_wrong, 1);
            }
        }
        w->done[pile][i]++;
        if (pile == 0) {
            w->highest_thread[i] = thread;
        }
    }
}

static void work_on(void *arg, int thread, uint32_t run) {
    work *w = arg;
    uint32_t n_left = 0, n = 0;
    for (int pile = 0; nano_pile_take(w->pool, &w->piles[pile], run, &n_left, &n);) {
        if (n > 0) {
            run_pieces(w, pile, w->n_pieces[pile] - n_left, n, thread);
            nano_pile_done(w->pool, &w->piles[pile], n);
        } else if (nano_pile_wait(w->pool, &w->piles[pile], run)) {
            pile++;
        }
    }
}

static void check_run(work *w, int n_threads, uint32_t seed) {
    memset(w->done, 0, sizeof w->done);
    const uint32_t run = nano_pool_next_run(w->pool);
    for (int pile = 0; pile < N_PILES; pile++) {
        seed = seed * 1664525u + 1013904223u;
        w->n_pieces[pile] = (seed >> 16) % (pile % 2 == 0 ? MOST_PIECES : 2); /* many, then one or none */
        nano_pile_fill(&w->piles[pile], run, w->n_pieces[pile]);
    }
    nano_pool_run(w->pool, n_threads);
    for (int pile = 0; pile < N_PILES; pile++) {
        for (uint32_t i = 0; i < w->n_pieces[pile]; i++) {
            CHECK(w->done[pile][i] == 1);
        }
    }
    for (uint32_t i = 0; i < w->n_pieces[0]; i++) {
        CHECK(w->highest_thread[i] < n_threads);
    }
}

static void *start_pool(work *w, int n_threads, int poll) {
    void *memory = nano_pages_alloc(nano_pool_bytes(n_threads));
    memset(w, 0, sizeof *w);
    const nano_pool_options options = {.n_threads = n_threads, .poll = poll, .fn = work_on, .arg = w};
    CHECK_OK(nano_pool_start(memory, &options, &w->pool, &check_error));
    return memory;
}

static void stop_pool(const work *w, void *memory, int n_threads) {
    CHECK(nano_atomic_load(&w->n_wrong) == 0);
    nano_pool_stop(w->pool);
    nano_pages_free(memory, nano_pool_bytes(n_threads));
}

static void test_piles(int n_threads, int poll) {
    static work w;
    void *memory = start_pool(&w, n_threads, poll);
    for (uint32_t i = 0; i < 400; i++) {
        check_run(&w, 1 + (int)(i * 7 / 3) % n_threads, i);
        if (i % 100 == 0) {
            (void)usleep(2000); /* all asleep */
        }
    }
    stop_pool(&w, memory, n_threads);
}

static void test_restart(void) {
    for (int i = 0; i < 20; i++) {
        test_piles(1 + i % N_THREADS, i * 5);
    }
}

/* Run numbers come round after 2^24 runs, which the other threads sleep through: nothing is special about the last. */
static void test_last_run(void) {
    static work w;
    void *memory = start_pool(&w, N_THREADS, 0);
    check_run(&w, N_THREADS, 1);
    uint32_t n = 1;
    while (nano_pool_next_run(w.pool) < ((uint32_t)1 << 24) - 100) {
        nano_pool_run(w.pool, 1);
        n++;
    }
    for (uint32_t i = 0; i < 200; i++) {
        check_run(&w, 1 + (int)i % N_THREADS, i);
    }
    CHECK(n > 1000000 && nano_pool_next_run(w.pool) > 0 && nano_pool_next_run(w.pool) < 200);
    stop_pool(&w, memory, N_THREADS);
}

static void test_refused_threads(void) {
    nano_cpus here, nowhere = {{0}};
    CHECK(!nano_cpus_restrict_thread(&nowhere)); /* the system refuses an empty set, and that is all */
    CHECK(nano_cpus_allowed(&here) && !nano_cpus_is_empty(&here));
    CHECK(nano_cpus_restrict_thread(&here));
}

/* A pool that is bound to one CPU: the caller is, too, in a run, and no longer after. */
static void look(void *arg, int thread, uint32_t run) {
    (void)run;
    if (thread == 0) {
        CHECK(nano_cpus_allowed(arg));
    }
}

static void test_bound_pool(void) {
    nano_cpus here, one = {{0}}, in_run = {{0}}, after;
    CHECK(nano_cpus_allowed(&here));
    int cpu = 0;
    while ((here.bits[cpu / 64] >> (cpu % 64) & 1) == 0) {
        cpu++;
    }
    one.bits[cpu / 64] = (uint64_t)1 << (cpu % 64);
    const size_t size = nano_pool_bytes(2);
    void *memory = nano_pages_alloc(size);
    nano_pool *pool = NULL;
    const nano_pool_options options = {.n_threads = 2, .poll = 50, .set = &one, .fn = look, .arg = &in_run};
    CHECK_OK(nano_pool_start(memory, &options, &pool, &check_error));
    nano_pool_run(pool, 2);
    CHECK(nano_cpus_is_equal(&in_run, &one));
    CHECK(nano_cpus_allowed(&after) && nano_cpus_is_equal(&after, &here));
    nano_pool_stop(pool);
    nano_pages_free(memory, size);
}

/* --------------------------------------------------------------------- CPUs */

typedef struct fake_file {
    const char *path;
    const char *text;
} fake_file;

static char root[64];

static void write_file(const fake_file *f) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s%s", root, f->path);
    for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        CHECK(mkdir(path, 0700) == 0 || errno == EEXIST);
        *at = '/';
    }
    FILE *out = fopen(path, "w");
    CHECK(out != NULL);
    if (out != NULL) {
        (void)fputs(f->text, out);
        (void)fclose(out);
    }
}

static void remove_tree(void) {
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    CHECK(system(command) == 0);
}

/* Writes the files below a new root. */
static void make_system(const fake_file *files, size_t n) {
    (void)snprintf(root, sizeof root, "/tmp/nano_system_XXXXXX");
    CHECK(mkdtemp(root) != NULL);
    for (size_t i = 0; i < n; i++) {
        write_file(&files[i]);
    }
}

static uint64_t fast_of(uint64_t allowed) {
    const nano_cpus set = {{allowed}};
    return nano_cpus_fast(root, &set).bits[0];
}

#define CPU_DIR "/sys/devices/system/cpu/cpu"

/* Four little, three big, one prime, as phones have them. */
static void test_phone(void) {
    static const fake_file files[] = {
        {CPU_DIR "0/cpu_capacity", "250\n"}, {CPU_DIR "1/cpu_capacity", "250\n"},  {CPU_DIR "2/cpu_capacity", "250\n"},
        {CPU_DIR "3/cpu_capacity", "250\n"}, {CPU_DIR "4/cpu_capacity", "830\n"},  {CPU_DIR "5/cpu_capacity", "830\n"},
        {CPU_DIR "6/cpu_capacity", "830\n"}, {CPU_DIR "7/cpu_capacity", "1024\n"},
    };
    make_system(files, sizeof files / sizeof files[0]);
    CHECK(fast_of(0xff) == 0xf0);
    CHECK(fast_of(0x1f) == 0x10);
    CHECK(fast_of(0x0f) == 0x0f); /* all that is left is as fast as the rest */
    const nano_cpus big = {{0xf0}};
    CHECK(nano_cpus_cores(root, &big) == 4);
    remove_tree();
}

/* Frequencies where there are no capacities; hyper-threads; a CPU that says nothing. */
static void test_frequencies(void) {
    static const fake_file files[] = {
        {CPU_DIR "0/cpufreq/cpuinfo_max_freq", "1400000\n"},  {CPU_DIR "1/cpufreq/cpuinfo_max_freq", "2000000\n"},
        {CPU_DIR "2/cpufreq/cpuinfo_max_freq", "1399999\n"},  {CPU_DIR "0/topology/thread_siblings_list", "0-1\n"},
        {CPU_DIR "1/topology/thread_siblings_list", "0-1\n"}, {CPU_DIR "2/cpu_capacity", "no number\n"},
    };
    make_system(files, sizeof files / sizeof files[0]);
    CHECK(fast_of(0x7) == 0x3);
    CHECK(fast_of(0xf) == 0xf);
    const nano_cpus both = {{0x3}}, second = {{0x2}};
    CHECK(nano_cpus_cores(root, &both) == 1);
    CHECK(nano_cpus_cores(root, &second) == 1); /* its sibling is not ours */
    remove_tree();
}

static int32_t quota_of(const fake_file *files, size_t n) {
    make_system(files, n);
    const int32_t quota = nano_cpus_quota(root);
    remove_tree();
    return quota;
}

static void test_quota(void) {
    static const fake_file v2[] = {{"/proc/self/cgroup", "0::/user/app\n"},
                                   {"/sys/fs/cgroup/user/app/cpu.max", "max 100000\n"},
                                   {"/sys/fs/cgroup/user/cpu.max", "250000 100000\n"},
                                   {"/sys/fs/cgroup/cpu.max", "800000 100000\n"}};
    static const fake_file inside[] = {{"/proc/self/cgroup", "0::/not/mounted/here\n"},
                                       {"/sys/fs/cgroup/cpu.max", "100000 100000\n"}};
    static const fake_file v1[] = {{"/proc/self/cgroup", "9:memory:/a\n4:cpu,cpuacct:/a\n1:name=systemd:/b\n"},
                                   {"/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "150000\n"},
                                   {"/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"},
                                   {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
                                   {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}};
    static const fake_file broken[] = {{"/proc/self/cgroup", "0::/\nnonsense\n7:cpu:\n"},
                                       {"/sys/fs/cgroup/cpu.max", "12 0\n"},
                                       {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100\n"}};
    static const fake_file none[] = {{"/proc/version", "made up\n"}};
    CHECK(quota_of(v2, 4) == 3);
    CHECK(quota_of(inside, 2) == 1);
    CHECK(quota_of(v1, 5) == 2);
    CHECK(quota_of(broken, 3) == 0);
    CHECK(quota_of(none, 1) == 0);
}

static void test_placement(void) {
    static const fake_file files[] = {{"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/cpu.max", "50000 100000\n"}};
    nano_cpus here, mask = {{0}};
    nano_placement placement;
    CHECK(nano_cpus_allowed(&here));
    make_system(files, 2);
    CHECK(nano_place_threads(root, &mask, &placement));
    CHECK(placement.n_threads == 1 && !placement.is_a_choice && nano_cpus_is_equal(&placement.set, &here));
    remove_tree();
    mask.bits[NANO_MAX_CPUS / 64 - 1] = (uint64_t)1 << 63;
    CHECK(!nano_place_threads("", &mask, &placement));
    nano_cpus most; /* more cores than a pool can have threads */
    memset(&most, 0xff, sizeof most);
    CHECK(nano_cpus_cores("/nowhere", &most) == NANO_MAX_CPUS);
    CHECK(nano_cpus_threads("/nowhere", &most) == NANO_MAX_THREADS);
    CHECK(nano_cpu_default_threads() >= 1);
}

/* --------------------------------------------------------------------- pace */

/* Runs n steps that take seconds[threads]; returns the threads at the end. */
static int32_t pace_through(nano_pace *pace, int n, const double *seconds, bool slept, int *n_best, int32_t best) {
    *n_best = 0;
    for (int i = 0; i < n; i++) {
        const int32_t threads = nano_pace_threads(pace);
        CHECK(threads >= 1 && threads <= pace->most);
        *n_best += threads == best ? 1 : 0;
        nano_pace_step(pace, seconds[threads], slept && threads > 1);
    }
    return pace->now;
}

static void test_pace(void) {
    static const double scales[] = {0, 4, 2, 1.4, 1}, contended[] = {0, 1, 3, 4, 5}, flat[] = {0, 1, 1, 1, 1};
    nano_pace pace;
    int n = 0;
    nano_pace_start(&pace, 4);
    CHECK(pace_through(&pace, 1000, scales, false, &n, 4) == 4 && n == 1000); /* nothing to try */
    CHECK(pace_through(&pace, 1000, contended, true, &n, 1) == 1 && n > 900);
    CHECK(pace_through(&pace, 1000, scales, false, &n, 4) == 4 && n > 600); /* and back */
    nano_pace_start(&pace, 4);
    CHECK(pace_through(&pace, 1000, flat, true, &n, 4) == 4 && n > 960); /* trials that do not pay are few */
    nano_pace_start(&pace, 1);
    CHECK(pace_through(&pace, 100, flat, true, &n, 1) == 1 && n == 100);
}

int main(void) {
    static const int polls[] = {0, 50, 100};
    for (int i = 0; i < 3; i++) {
        for (int n = 1; n <= N_THREADS; n++) {
            test_piles(n, polls[i]);
        }
    }
    test_restart();
    test_last_run();
    test_refused_threads();
    test_bound_pool();
    test_phone();
    test_frequencies();
    test_quota();
    test_placement();
    test_pace();
    return check_result();
}
