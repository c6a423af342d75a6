/*
 * A pool of threads that run one function together. The caller is thread 0. Threads spin briefly for the next
 * piece of work or at a barrier, then sleep, so that an idle pool costs nothing and a busy one switches fast.
 */
#ifndef NANO_BASE_THREADS_H
#define NANO_BASE_THREADS_H

#include "base/error.h"

enum { NANO_MAX_THREADS = 256 };

typedef struct nano_pool nano_pool;

typedef void nano_pool_fn(void *arg, int thread);

/* Bytes that nano_pool_start needs for n_threads (1 ... NANO_MAX_THREADS). */
size_t nano_pool_bytes(int n_threads);
/* Builds the pool in `memory` (aligned to a cache line, zeroed) and starts n_threads - 1 threads. */
nano_status nano_pool_start(void *memory, int n_threads, nano_pool **out, nano_error *err);
/* Ends the threads. The memory is the caller's again. */
void nano_pool_stop(nano_pool *pool);
/* Runs fn(arg, thread) on every thread and returns when all have returned. Everything the caller wrote before
 * is visible to fn, and everything fn wrote is visible to the caller after. */
void nano_pool_run(nano_pool *pool, nano_pool_fn *fn, void *arg);
/* Inside fn: waits for all threads of the pool. */
void nano_pool_barrier(nano_pool *pool);

#endif
