#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1
#endif

#include "base/threads.h"

#include "base/cpus.h"

#include <pthread.h>
#include <string.h>

enum { YIELDS = 20, WORKER_STACK_BYTES = 512 * 1024, RUN_BITS = 24, COUNT_BITS = 20 };

/* The pool's word: run number, then how many threads take part less one. */
enum { THREADS_BITS = 8 };

typedef struct worker {
    pthread_t handle;
    pthread_cond_t wake;
    nano_atomic is_asleep;
    nano_pool *pool;
    int index;
} worker;

struct nano_pool {
    nano_atomic current;
    char pad_current[NANO_CACHE_LINE - sizeof(nano_atomic)];
    nano_atomic n_sleeping; /* for a pile */
    nano_atomic n_slept;
    char pad_sleeping[NANO_CACHE_LINE - 2 * sizeof(nano_atomic)];
    pthread_mutex_t mutex; /* of all who sleep */
    pthread_cond_t pile_done;
    nano_pool_options options;
    nano_cpus set;
    nano_atomic is_stopping;
    int n_started;
    worker workers[];
};

/* -------------------------------------------------------------------- piles */

static uint64_t pile_state(uint32_t run, uint32_t left, uint32_t pending) {
    return (uint64_t)run << (2 * COUNT_BITS) | (uint64_t)left << COUNT_BITS | pending;
}
static uint32_t run_of(uint64_t state) { return (uint32_t)(state >> (2 * COUNT_BITS)); }
static uint32_t left_of(uint64_t state) { return (uint32_t)(state >> COUNT_BITS) & NANO_PILE_MAX; }
static uint32_t pending_of(uint64_t state) { return (uint32_t)state & NANO_PILE_MAX; }

void nano_pile_fill(nano_pile *pile, uint32_t run, uint32_t n_pieces) {
    nano_atomic64_store(&pile->state, pile_state(run, n_pieces, n_pieces));
}

bool nano_pile_take(nano_pool *pool, nano_pile *pile, uint32_t run, uint32_t *n_left, uint32_t *n_taken) {
    uint64_t state = nano_atomic64_load(&pile->state);
    do {
        if (run_of(state) != run) {
            return false;
        }
        *n_left = left_of(state);
        /* Guided self-scheduling (Polychronopoulos & Kuck 1987): large shares first, single pieces at the end, so that
         * unequal threads finish together and few fetches are needed. */
        uint32_t n = (uint32_t)pool->options.n_threads, share = n == 1 ? *n_left : *n_left / (2 * n);
        *n_taken = *n_left > 0 && share == 0 ? 1 : share;
    } while (*n_taken > 0 && !nano_atomic64_replace(&pile->state, &state, state - ((uint64_t)*n_taken << COUNT_BITS)));
    return true;
}

void nano_pile_done(nano_pool *pool, nano_pile *pile, uint32_t n_pieces) {
    /* Sequentially consistent add, then load: a sleeper either is counted here or sees the pile done. */
    if (pending_of(nano_atomic64_add_seq(&pile->state, -(uint64_t)n_pieces)) == n_pieces &&
        nano_atomic_load_seq(&pool->n_sleeping) != 0) {
        (void)pthread_mutex_lock(&pool->mutex);
        (void)pthread_cond_broadcast(&pool->pile_done);
        (void)pthread_mutex_unlock(&pool->mutex);
    }
}

/* How many pauses a thread spins for: 625 at 50, some tens of microseconds on current cores. */
static int n_pauses(const nano_pool *pool) { return pool->options.poll * pool->options.poll / 4; }
static int n_yields(const nano_pool *pool) { return pool->options.poll > 0 ? YIELDS : 0; }

static bool is_waiting(uint64_t state, uint32_t run) { return run_of(state) == run && pending_of(state) != 0; }

bool nano_pile_wait(nano_pool *pool, const nano_pile *pile, uint32_t run) {
    uint64_t state = nano_atomic64_load(&pile->state);
    for (int i = n_pauses(pool); i > 0 && is_waiting(state, run); i--) {
        nano_cpu_relax();
        state = nano_atomic64_load(&pile->state);
    }
    for (int i = n_yields(pool); i > 0 && is_waiting(state, run); i--) {
        nano_thread_yield();
        state = nano_atomic64_load(&pile->state);
    }
    if (is_waiting(state, run)) {
        (void)pthread_mutex_lock(&pool->mutex);
        (void)nano_atomic_add_seq(&pool->n_sleeping, 1);
        (void)nano_atomic_add(&pool->n_slept, 1);
        while (is_waiting(state = nano_atomic64_load_seq(&pile->state), run)) {
            (void)pthread_cond_wait(&pool->pile_done, &pool->mutex);
        }
        (void)nano_atomic_add(&pool->n_sleeping, -1);
        (void)pthread_mutex_unlock(&pool->mutex);
    }
    return run_of(state) == run;
}

/* --------------------------------------------------------------------- runs */

static uint32_t next_run(uint32_t run) { return run + 1 < (uint32_t)1 << RUN_BITS ? run + 1 : 1; }

static uint32_t current_run(const nano_pool *pool) {
    return (uint32_t)nano_atomic_load_relaxed(&pool->current) >> THREADS_BITS;
}

uint32_t nano_pool_next_run(const nano_pool *pool) { return next_run(current_run(pool)); }

/* Waits for another run than `seen`. */
static int32_t wait_for_run(worker *self, int32_t seen) {
    nano_pool *pool = self->pool;
    int32_t current = nano_atomic_load(&pool->current);
    for (int i = n_pauses(pool); i > 0 && current == seen; i--) {
        nano_cpu_relax();
        current = nano_atomic_load(&pool->current);
    }
    for (int i = n_yields(pool); i > 0 && current == seen; i--) {
        nano_thread_yield();
        current = nano_atomic_load(&pool->current);
    }
    if (current == seen) {
        (void)pthread_mutex_lock(&pool->mutex);
        (void)nano_atomic_add_seq(&self->is_asleep, 1);
        while ((current = nano_atomic_load_seq(&pool->current)) == seen) {
            (void)pthread_cond_wait(&self->wake, &pool->mutex);
        }
        (void)nano_atomic_add(&self->is_asleep, -1);
        (void)pthread_mutex_unlock(&pool->mutex);
    }
    return current;
}

static void *worker_main(void *p) {
    worker *self = p;
    nano_pool *pool = self->pool;
    if (pool->options.set != NULL) {
        (void)nano_cpus_restrict_thread(pool->options.set); /* where the system refuses, it runs anywhere */
    }
    int32_t seen = 0;
    for (;;) {
        seen = wait_for_run(self, seen);
        if (nano_atomic_load(&pool->is_stopping) != 0) {
            return NULL;
        }
        if (self->index <= (seen & (NANO_MAX_THREADS - 1))) {
            pool->options.fn(pool->options.arg, self->index, (uint32_t)seen >> THREADS_BITS);
        }
    }
}

/* Makes run number `run` the current one, for n_threads threads. */
static void publish(nano_pool *pool, uint32_t run, int n_threads) {
    nano_atomic_store_seq(&pool->current, (int32_t)(run << THREADS_BITS | (uint32_t)(n_threads - 1)));
    for (int i = 1; i < n_threads; i++) {
        worker *w = &pool->workers[i];
        if (nano_atomic_load_seq(&w->is_asleep) != 0) {
            (void)pthread_mutex_lock(&pool->mutex);
            (void)pthread_cond_signal(&w->wake);
            (void)pthread_mutex_unlock(&pool->mutex);
        }
    }
}

void nano_pool_run(nano_pool *pool, int n_threads) {
    const uint32_t run = nano_pool_next_run(pool);
    nano_cpus before;
    const bool moves = pool->options.set != NULL && nano_cpus_allowed(&before) &&
                       !nano_cpus_is_equal(&before, &pool->set) && nano_cpus_restrict_thread(&pool->set);
    publish(pool, run, n_threads);
    pool->options.fn(pool->options.arg, 0, run);
    if (moves) {
        (void)nano_cpus_restrict_thread(&before);
    }
}

uint32_t nano_pool_n_slept(const nano_pool *pool) { return (uint32_t)nano_atomic_load_relaxed(&pool->n_slept); }

/* ------------------------------------------------------------ start and stop */

size_t nano_pool_bytes(int n_threads) { return sizeof(nano_pool) + (size_t)n_threads * sizeof(worker); }

static bool start_worker(nano_pool *pool, int index, const pthread_attr_t *attr) {
    worker *w = &pool->workers[index];
    w->pool = pool;
    w->index = index;
    if (pthread_cond_init(&w->wake, NULL) != 0) {
        return false;
    }
    if (pthread_create(&w->handle, attr, worker_main, w) != 0) {
        (void)pthread_cond_destroy(&w->wake);
        return false;
    }
    pool->n_started++;
    return true;
}

nano_status nano_pool_start(void *memory, const nano_pool_options *options, nano_pool **out, nano_error *err) {
    nano_pool *pool = memory;
    pool->options = *options;
    if (options->set != NULL) {
        pool->set = *options->set;
        pool->options.set = &pool->set;
    }
    pool->n_started = 1;
    if (pthread_mutex_init(&pool->mutex, NULL) != 0 || pthread_cond_init(&pool->pile_done, NULL) != 0) {
        return nano_fail(err, NANO_ERR_MEMORY, "threads: the system gives no mutex");
    }
    pthread_attr_t attr;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
    bool ok = true;
    for (int i = 1; ok && i < options->n_threads; i++) {
        ok = start_worker(pool, i, &attr);
    }
    (void)pthread_attr_destroy(&attr);
    if (!ok) {
        const int n = pool->n_started;
        nano_pool_stop(pool);
        return nano_fail(err, NANO_ERR_MEMORY, "threads: the system refused thread %d of %d", n + 1,
                         options->n_threads);
    }
    *out = pool;
    return NANO_OK;
}

void nano_pool_stop(nano_pool *pool) {
    nano_atomic_store(&pool->is_stopping, 1);
    publish(pool, nano_pool_next_run(pool), pool->n_started);
    for (int i = 1; i < pool->n_started; i++) {
        (void)pthread_join(pool->workers[i].handle, NULL);
        (void)pthread_cond_destroy(&pool->workers[i].wake);
    }
    (void)pthread_cond_destroy(&pool->pile_done);
    (void)pthread_mutex_destroy(&pool->mutex);
}
