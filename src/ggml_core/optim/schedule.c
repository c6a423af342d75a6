#include <math.h>

#include "ggml_core.h"

double nano_schedule(nano_schedule_kind kind, int64_t step, int64_t n_warm, int64_t n_steps, double floor) {
    if (step < n_warm) {
        return step > 0 ? (double)step / (double)n_warm : 0.0;
    }
    if (kind == NANO_SCHEDULE_CONSTANT) {
        return 1.0;
    }
    if (step >= n_steps) {
        return floor;
    }
    n_warm = n_warm > 0 ? n_warm : 0;
    const double way = step > n_warm ? (double)(step - n_warm) / (double)(n_steps - n_warm) : 0.0;
    const double left = kind == NANO_SCHEDULE_COSINE ? 0.5 + 0.5 * cos(3.14159265358979323846 * way) : 1.0 - way;
    return floor + (1.0 - floor) * left;
}
