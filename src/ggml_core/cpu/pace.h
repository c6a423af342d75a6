/*
 * How many threads decoding steps use, where the caller left that to the core. All the fast cores, until steps show that
 * a thread was waited for so long that others slept: then another program has a share of a core, and fewer threads may
 * be faster. Fewer are tried for some steps, and kept if they were; more are tried again now and then, at growing
 * distances while that does not pay. Results are the same bits for any number, so nothing but time changes.
 */
#ifndef NANO_CPU_PACE_H
#define NANO_CPU_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct nano_pace {
    int32_t most;
    int32_t now;
    int32_t trial;          /* threads that are being tried; 0: none */
    int32_t n_steps;        /* of this window */
    int32_t n_slept;        /* those in which a thread slept */
    int32_t pause, to_wait; /* windows between trials that fail, and until the next */
    double seconds;         /* of this window */
    double before;          /* of the window before a trial */
} nano_pace;

void nano_pace_start(nano_pace *pace, int32_t most);
/* Threads for the next step. */
int32_t nano_pace_threads(const nano_pace *pace);
/* Reports a step that took so long. */
void nano_pace_step(nano_pace *pace, double seconds, bool slept);

#endif
