/* Ops that choose, place, join or rename rows. */
#include "cpu/exec.h"

#include <string.h>

int64_t nano_units_rows(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

void nano_forward_rows(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    (void)step;
    const nano_operand *table = &node->src[0];
    const int32_t *index = (const int32_t *)(const void *)node->src[1].data;
    const nano_type_traits *traits = nano_type_find(table->type);
    for (int64_t i = first; i < last; i++) {
        traits->to_float(table->data + (size_t)index[i] * table->row_bytes, nano_out_row(node, i), node->out.ne[0]);
    }
}

int64_t nano_units_spread(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

/* How many of the wanted rows, which are in order, are below `row`. */
static int64_t wanted_below(const int32_t *wanted, int64_t n, int64_t row) {
    int64_t low = 0;
    while (low < n) {
        const int64_t middle = low + (n - low) / 2;
        if (wanted[middle] < row) {
            low = middle + 1;
        } else {
            n = middle;
        }
    }
    return low;
}

void nano_forward_spread(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const int32_t *wanted = (const int32_t *)(const void *)node->src[1].data;
    const int64_t n_wanted = nano_step_rows(step, &node->src[0]);
    const size_t bytes = (size_t)node->out.ne[0] * sizeof(float);
    for (int64_t t = first, w = wanted_below(wanted, n_wanted, first); t < last; t++) {
        if (w < n_wanted && wanted[w] == t) {
            memcpy(nano_out_row(node, t), nano_row(&node->src[0], w++), bytes);
        } else {
            memset(nano_out_row(node, t), 0, bytes);
        }
    }
}

int64_t nano_units_join(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

void nano_forward_join(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)step;
    (void)thread;
    const int64_t *offsets = node->params.ints + 1;
    for (int64_t i = first; i < last; i++) {
        float *y = nano_out_row(node, i);
        memset(y, 0, (size_t)node->out.ne[0] * sizeof *y);
        for (int k = 0; k < NANO_MAX_SRC && node->src[k].region != NANO_REGION_NONE; k++) {
            const nano_operand *x = &node->src[k];
            memcpy(y + offsets[k], nano_row(x, i), (size_t)(x->ne[0] * x->ne[1]) * sizeof *y);
        }
    }
}

/* The planner turns views into offsets: nothing runs. */
int64_t nano_units_view(const nano_step *step, const nano_node *node) {
    (void)step;
    (void)node;
    return 0;
}

void nano_forward_view(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)step;
    (void)node;
    (void)first;
    (void)last;
    (void)thread;
}
