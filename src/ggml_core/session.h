/* A session: one allocation that holds everything a step touches but the weights. */
#ifndef NANO_SESSION_H
#define NANO_SESSION_H

#include "graph/plan.h"

/* sizeof(nano_session), for the planner. */
size_t nano_session_bytes(void);

/* For session_file.c. */
const nano_plan *nano_session_plan(const nano_session *session);
const char *nano_session_level(const nano_session *session); /* its kernels' */
void nano_session_set_past(nano_session *session, int32_t slot, int32_t n_past);
/* The bytes of a slot's first n_past positions come in runs, in an order that the plan alone decides. */
typedef struct nano_run {
    int32_t node; /* where the next one is looked for */
    int64_t head;
    uint8_t *data; /* an address there when on_device */
    size_t size;
    bool on_device;
} nano_run;
#define NANO_FIRST_RUN ((nano_run){0, 0, NULL, 0, false})
/* The next run; false at the end. */
bool nano_session_next_run(const nano_session *session, int32_t slot, int32_t n_past, nano_run *run);
/* `size` bytes of a run from `at` on; all of a run. */
nano_status nano_session_read_run(const nano_session *session, const nano_run *run, size_t at, void *to, size_t size,
                                  nano_error *err);
nano_status nano_session_write_run(nano_session *session, const nano_run *run, const void *from, nano_error *err);

#endif
