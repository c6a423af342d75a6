/* Ops that choose or rename rows. */
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
