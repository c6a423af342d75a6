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
/* The bytes of a slot's first n_past positions, run by run in an order that the plan alone decides: *node and *head
 * start at 0; false at the end. */
bool nano_session_next_run(const nano_session *session, int32_t slot, int32_t n_past, int32_t *node, int64_t *head,
                           uint8_t **data, size_t *size);

#endif
