/* Which CPUs to use: the fast ones where the system tells them apart, within what the process may have. `root` stands
 * before the system's paths: "" but in tests. */
#ifndef NANO_BASE_CPUS_H
#define NANO_BASE_CPUS_H

#include "base/platform.h"

bool nano_cpus_is_empty(const nano_cpus *set);
bool nano_cpus_is_equal(const nano_cpus *a, const nano_cpus *b);

/* Those of `allowed` that are fast: big and prime cores are, little ones, and all below 70 % of the best, are not.
 * All of them where the system does not say. */
nano_cpus nano_cpus_fast(const char *root, const nano_cpus *allowed);
/* Physical cores in `set`: hyper-threads count once. */
int32_t nano_cpus_cores(const char *root, const nano_cpus *set);
/* How many CPUs' time the control groups of this process allow, rounded up; 0: no limit. */
int32_t nano_cpus_quota(const char *root);
/* How many threads to run on the CPUs of `set`: one a core, no more than the quota allows or a pool can have; 0 for an
 * empty set. */
int32_t nano_cpus_threads(const char *root, const nano_cpus *set);

typedef struct nano_placement {
    nano_cpus set;    /* where threads are to run */
    bool is_a_choice; /* less than the process may use: threads must be told */
    int32_t n_threads;
} nano_placement;

/* Where threads run and how many, given a mask that may be empty. False when the mask has no CPU of ours. */
bool nano_place_threads(const char *root, const nano_cpus *mask, nano_placement *out);

#endif
