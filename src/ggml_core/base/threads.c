#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1
#endif

#include "base/threads.h"

#include <pthread.h>
#include <string.h>

/* About 20 microseconds of pauses on a current core, then some yields, then sleep: a barrier between two nodes
 * of a step is usually shorter, the gap between two steps of an idle chat much longer. */
enum { SPIN_PAUSES = 600, SPIN_YIELDS = 20, WORKER_STACK_BYTES = 512 * 1024 };

/* A number that only grows, with sleepers. Each on its own cache line. */
typedef struct event {
    nano_atomic value;
    nano_atomic sleepers;
    char pad[NANO_CACHE_LINE - 2 * sizeof(nano_atomic)];
} event;

typedef struct worker {
    pthread_t handle;
    nano_pool *pool;
    int index;
} worker;

struct nano_pool {
    event work; /* one more for every run, and for stop */
    event turn; /* one more for every barrier passed */
    nano_atomic arrived;
    char pad[NANO_CACHE_LINE - sizeof(nano_atomic)];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    nano_pool_fn *fn; /* NULL: end */
    void *arg;
    int n_threads;
    int n_started;
    worker workers[];
};

static void wait_past(nano_pool *pool, event *e, int32_t seen) {
    for (int i = 0; i < SPIN_PAUSES; i++) {
        if (nano_atomic_load(&e->value) != seen) {
            return;
        }
        nano_cpu_relax();
    }
    for (int i = 0; i < SPIN_YIELDS; i++) {
        if (nano_atomic_load(&e->value) != seen) {
            return;
        }
        nano_thread_yield();
    }
    (void)pthread_mutex_lock(&pool->mutex);
    (void)nano_atomic_add_seq(&e->sleepers, 1);
    while (nano_atomic_load_seq(&e->value) == seen) {
        (void)pthread_cond_wait(&pool->wake, &pool->mutex);
    }
    (void)nano_atomic_add(&e->sleepers, -1);
    (void)pthread_mutex_unlock(&pool->mutex);
}

static void advance(nano_pool *pool, event *e) {
    /* Sequentially consistent add, then load: a sleeper either is counted here or sees the new value. */
    (void)nano_atomic_add_seq(&e->value, 1);
    if (nano_atomic_load_seq(&e->sleepers) != 0) {
        (void)pthread_mutex_lock(&pool->mutex);
        (void)pthread_cond_broadcast(&pool->wake);
        (void)pthread_mutex_unlock(&pool->mutex);
    }
}

void nano_pool_barrier(nano_pool *pool) {
    if (pool->n_threads == 1) {
        return;
    }
    int32_t seen = nano_atomic_load(&pool->turn.value);
    if (nano_atomic_add(&pool->arrived, 1) == pool->n_threads - 1) {
        nano_atomic_store(&pool->arrived, 0);
        advance(pool, &pool->turn);
    } else {
        wait_past(pool, &pool->turn, seen);
    }
}

static void *worker_main(void *p) {
    worker *self = p;
    nano_pool *pool = self->pool;
    int32_t seen = 0;
    for (;;) {
        wait_past(pool, &pool->work, seen);
        seen = nano_atomic_load(&pool->work.value); /* one more: the next waits for this thread */
        if (pool->fn == NULL) {
            return NULL;
        }
        pool->fn(pool->arg, self->index);
        nano_pool_barrier(pool);
    }
}

size_t nano_pool_bytes(int n_threads) { return sizeof(nano_pool) + (size_t)n_threads * sizeof(worker); }

nano_status nano_pool_start(void *memory, int n_threads, nano_pool **out, nano_error *err) {
    nano_pool *pool = memory;
    pool->n_threads = n_threads;
    pool->n_started = 1;
    if (pthread_mutex_init(&pool->mutex, NULL) != 0 || pthread_cond_init(&pool->wake, NULL) != 0) {
        return nano_fail(err, NANO_ERR_MEMORY, "threads: the system gives no mutex");
    }
    pthread_attr_t attr;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
    for (int i = 1; i < n_threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i;
        if (pthread_create(&w->handle, &attr, worker_main, w) != 0) {
            (void)pthread_attr_destroy(&attr);
            nano_pool_stop(pool);
            return nano_fail(err, NANO_ERR_MEMORY, "threads: the system refused thread %d of %d", i + 1, n_threads);
        }
        pool->n_started++;
    }
    (void)pthread_attr_destroy(&attr);
    *out = pool;
    return NANO_OK;
}

void nano_pool_stop(nano_pool *pool) {
    pool->fn = NULL;
    advance(pool, &pool->work);
    for (int i = 1; i < pool->n_started; i++) {
        (void)pthread_join(pool->workers[i].handle, NULL);
    }
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->mutex);
}

void nano_pool_run(nano_pool *pool, nano_pool_fn *fn, void *arg) {
    if (pool->n_threads == 1) {
        fn(arg, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    advance(pool, &pool->work);
    fn(arg, 0);
    nano_pool_barrier(pool);
}
