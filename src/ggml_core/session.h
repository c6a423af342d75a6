/* A session: one allocation that holds everything a step touches but the weights. */
#ifndef NANO_SESSION_H
#define NANO_SESSION_H

#include <stddef.h>

/* sizeof(nano_session), for the planner. */
size_t nano_session_bytes(void);

#endif
