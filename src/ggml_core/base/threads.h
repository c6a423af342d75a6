/*
 * A pool of threads that work off piles together. The caller is thread 0.
 *
 * A pile is a number of pieces of work that any thread may take, with a count of those not yet done. The caller fills
 * piles with the number of the next run, starts the run, and works like the others. Nobody waits for a thread, only for
 * pieces: a thread that the system does not let run, and that holds no piece, delays nothing. It may wake up in the
 * middle of a later run; the number tells it that what it was looking at is over. Hence the one rule for the function a
 * pool runs: between runs the caller changes what it likes, so touch nothing that changes unless a piece is held.
 *
 * Waiting threads spin for some microseconds, then yield, then sleep: an idle pool costs nothing, and where there
 * are more threads than cores the one that has work gets the core.
 */
#ifndef NANO_BASE_THREADS_H
#define NANO_BASE_THREADS_H

#include "base/error.h"
#include "base/platform.h"

enum { NANO_MAX_THREADS = 256, NANO_PILE_MAX = (1 << 20) - 1 };

typedef struct nano_pool nano_pool;

/* Run number, pieces not taken, pieces not done: one word, on a cache line of its own if the owner sees to it. */
typedef struct nano_pile {
    nano_atomic64 state;
} nano_pile;

typedef void nano_pool_fn(void *arg, int thread, uint32_t run);

typedef struct nano_pool_options {
    int n_threads;        /* 1 ... NANO_MAX_THREADS, the caller included */
    int poll;             /* 0 ... 100: how long to spin before sleeping */
    const nano_cpus *set; /* where the threads may run; NULL: anywhere. The caller, too, while it runs */
    nano_pool_fn *fn;     /* what a run is */
    void *arg;
} nano_pool_options;

/* Bytes that nano_pool_start needs for n_threads. */
size_t nano_pool_bytes(int n_threads);
/* Builds the pool in `memory` (aligned to a cache line, zeroed) and starts n_threads - 1 threads. */
nano_status nano_pool_start(void *memory, const nano_pool_options *options, nano_pool **out, nano_error *err);
/* Ends the threads. The memory is the caller's again. */
void nano_pool_stop(nano_pool *pool);
/* The number that the next run's piles are to be filled with; never 0, the number of a pile in zeroed memory. */
uint32_t nano_pool_next_run(const nano_pool *pool);
/* Calls fn(arg, 0, run) here and lets up to n_threads - 1 of the pool's threads do the same with their numbers. What the
 * caller wrote before is visible to a thread that has taken a piece. Returns when the own call does. */
void nano_pool_run(nano_pool *pool, int n_threads);
/* How often a thread has slept while it waited for a pile; wraps. */
uint32_t nano_pool_n_slept(const nano_pool *pool);

/* By the caller, between runs. n_pieces: 0 ... NANO_PILE_MAX. */
void nano_pile_fill(nano_pile *pile, uint32_t run, uint32_t n_pieces);
/* Takes a share of what is left: *n_left gets how many were left before, *n_taken how many of them are the caller's now
 * (the first ones), 0 when none was left. False when `run` is over. */
bool nano_pile_take(nano_pool *pool, nano_pile *pile, uint32_t run, uint32_t *n_left, uint32_t *n_taken);
/* Reports n_pieces taken before as done. What the thread wrote is visible to all who wait for the pile. */
void nano_pile_done(nano_pool *pool, nano_pile *pile, uint32_t n_pieces);
/* Waits until every piece is done. False when `run` is over. */
bool nano_pile_wait(nano_pool *pool, const nano_pile *pile, uint32_t run);

#endif
