/* `bench`: what is measured, and how it is printed. */
#ifndef RUN_BENCH_H
#define RUN_BENCH_H

#include "report.h"

/* The settings that may be lists; every combination is measured. */
typedef enum axis_name {
    AXIS_BATCH,
    AXIS_TYPE_K,
    AXIS_TYPE_V,
    AXIS_THREADS,
    AXIS_THREADS_BATCH,
    AXIS_POLL,
    AXIS_LAYERS,
    AXIS_DETERMINISTIC,
    N_AXES
} axis_name;

/* What is timed: a prompt, tokens one by one, or first the one and then the other, after `depth` tokens. */
typedef struct test {
    int32_t n_prompt, n_gen, depth;
} test;

typedef struct bench {
    const options *options;
    engine engine;
    nano_limits limits; /* of the row being measured */
    test test;
    char model_type[128], test_time[32];
    uint64_t model_size, n_params;
    const char *path;
    int32_t *ids;       /* (n_ctx) of the vocabulary, the same ones each time */
    double *samples_ns; /* (repetitions) */
    double *samples_ts; /* tokens a second */
    double avg_ns, stddev_ns, avg_ts, stddev_ts, median_ts;
    bool is_shown[N_AXES]; /* in the table: settings that are not the default */
    int n_rows;            /* printed so far */
} bench;

void bench_print_row(bench *b);
void bench_print_end(const bench *b);
void bench_add_test(text *t, const test *x); /* "pp512+tg128 @ d4096" */

#endif
