/* Line searches: how far to go from a point along a direction that leads down. */
#ifndef NANO_OPTIM_LINE_SEARCH_H
#define NANO_OPTIM_LINE_SEARCH_H

#include "ggml_core.h"

/* The function along the direction, at a times it. f is INFINITY where the function or its gradient is not finite. */
typedef struct nano_line_point {
    double a;
    double f;
    double slope;
} nano_line_point;

typedef struct nano_line {
    nano_status (*evaluate)(void *context, nano_line_point *point, nano_error *err); /* sets f and slope at a */
    void *context;
    nano_line_search kind;
    double decrease;   /* c1 */
    double curvature;  /* c2 */
    int32_t max_steps; /* evaluations */
} nano_line;

/* From `start` (a = 0, slope < 0), trying a = first at the start. *is_found: there is a point that fulfils the
 * conditions, or at least that of decrease where the steps did not suffice; *found is then the one evaluated last. */
nano_status nano_line_search_run(const nano_line *line, const nano_line_point *start, double first,
                                 nano_line_point *found, bool *is_found, nano_error *err);

#endif
