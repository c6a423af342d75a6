/* The gradients of linear against sums in double, for every type of weight and odd shapes; the same bits however the
 * units are divided. */
#include "tests/grad_node.h"

#include <float.h>

/* A thread's working space, on a cache line. */
static float *scratch_of(uint64_t bytes, void **owner) {
    *owner = malloc((size_t)bytes + 64);
    return (float *)(void *)((uint8_t *)*owner + (64 - (uintptr_t)*owner % 64) % 64);
}

static void expect(const char *what, float found, double expected, double terms, double n) {
    if (!(fabs((double)found - expected) <= (4.0 + n / 8.0) * (double)FLT_EPSILON * terms + 1e-30)) {
        check_n_failed++;
        fprintf(stderr, "%s: found %.9g, expected %.9g\n", what, (double)found, expected);
    }
}

static void run(nano_step *step, nano_node *node, bool is_x, int64_t each, uint64_t scratch_bytes) {
    void *owner = NULL;
    step->scratch = (uint8_t *)scratch_of(scratch_bytes, &owner);
    if (is_x) {
        grad_run(step, node, nano_units_linear_grad_x, nano_forward_linear_grad_x, each);
    } else {
        grad_run(step, node, nano_units_linear_grad_w, nano_forward_linear_grad_w, each);
    }
    free(owner);
}

static void test_x(const nano_kernels *k, const nano_type_traits *type, int64_t n_rows, int64_t n_out, int64_t n_in) {
    const size_t row_bytes = nano_type_row_bytes(type->type, n_in);
    const int64_t d_stride = n_out + grad_int(0, 3), y_stride = n_in + grad_int(0, 3);
    float *d = grad_floats(n_rows * d_stride), *values = grad_floats(n_out * n_in);
    float *y = grad_floats(n_rows * y_stride), *again = grad_floats(n_rows * y_stride);
    uint8_t *w = malloc(row_bytes * (size_t)n_out);
    for (int64_t r = 0; r < n_out; r++) {
        type->from_float(values + r * n_in, w + (size_t)r * row_bytes, n_in);
        type->to_float(w + (size_t)r * row_bytes, values + r * n_in, n_in);
    }
    nano_step step = {.kernels = k, .n_tokens = (int32_t)n_rows};
    nano_node node = {.op = NANO_OP_LINEAR_GRAD_X};
    node.src[0] = grad_rows(d, NANO_DIM_T, n_out, d_stride);
    node.src[1] = grad_rows(NULL, n_out, n_in, n_in);
    node.src[1].type = type->type;
    node.src[1].row_bytes = row_bytes;
    node.src[1].data = w;
    grad_out(&node, y, NANO_DIM_T, n_in, y_stride);
    const uint64_t scratch = nano_linear_grad_x_scratch(&node, n_rows);
    memcpy(again, y, (size_t)(n_rows * y_stride) * sizeof *y);
    run(&step, &node, true, INT64_MAX, scratch);
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t j = 0; j < n_in; j++) {
            double sum = 0.0, terms = 0.0;
            for (int64_t r = 0; r < n_out; r++) {
                const double term = (double)d[i * d_stride + r] * (double)values[r * n_in + j];
                sum += term;
                terms += fabs(term);
            }
            expect(type->name, y[i * y_stride + j], sum, terms, (double)n_out);
        }
    }
    node.out_data = (uint8_t *)again;
    run(&step, &node, true, grad_int(1, 3), scratch);
    CHECK(memcmp(y, again, (size_t)(n_rows * y_stride) * sizeof *y) == 0);
    free(d);
    free(values);
    free(y);
    free(again);
    free(w);
}

static void test_w(const nano_kernels *k, int64_t n_rows, int64_t n_out, int64_t n_in) {
    const int64_t d_stride = n_out + grad_int(0, 3), x_stride = n_in + grad_int(0, 3);
    float *d = grad_floats(n_rows * d_stride), *x = grad_floats(n_rows * x_stride);
    float *before = grad_floats(n_out * n_in), *into = grad_floats(n_out * n_in), *again = grad_floats(n_out * n_in);
    memcpy(into, before, (size_t)(n_out * n_in) * sizeof *into);
    memcpy(again, before, (size_t)(n_out * n_in) * sizeof *into);
    nano_step step = {.kernels = k, .n_wanted = (int32_t)n_rows};
    nano_node node = {.op = NANO_OP_LINEAR_GRAD_W};
    node.src[0] = grad_rows(d, NANO_DIM_W, n_out, d_stride);
    node.src[1] = grad_rows(x, NANO_DIM_W, n_in, x_stride);
    node.src[2] = grad_rows(into, n_out, n_in, n_in);
    grad_out(&node, into, n_out, n_in, n_in);
    const uint64_t scratch = nano_linear_grad_w_scratch(&node, n_rows);
    run(&step, &node, false, INT64_MAX, scratch);
    for (int64_t r = 0; r < n_out; r++) {
        for (int64_t j = 0; j < n_in; j++) {
            double sum = (double)before[r * n_in + j], terms = fabs(sum);
            for (int64_t i = 0; i < n_rows; i++) {
                const double term = (double)d[i * d_stride + r] * (double)x[i * x_stride + j];
                sum += term;
                terms += fabs(term);
            }
            expect("w", into[r * n_in + j], sum, terms, (double)n_rows);
        }
    }
    node.out_data = (uint8_t *)again;
    run(&step, &node, false, grad_int(1, 3), scratch);
    CHECK(memcmp(into, again, (size_t)(n_out * n_in) * sizeof *into) == 0);
    free(d);
    free(x);
    free(before);
    free(into);
    free(again);
}

static void test_level(const nano_kernels *k) {
    static const int64_t shapes[][3] = {{1, 1, 1},     {3, 5, 7},      {50, 13, 64},
                                        {97, 200, 31}, {400, 70, 300}, {20, 390, 270}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        test_x(k, nano_type_find(NANO_TYPE_F32), shapes[i][0], shapes[i][1], shapes[i][2]);
        test_w(k, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
    test_w(k, 0, 9, 9);
    for (int i = 0; i < 30; i++) {
        test_x(k, nano_type_find(NANO_TYPE_F32), grad_int(1, 70), grad_int(1, 70), grad_int(1, 70));
        test_w(k, grad_int(1, 70), grad_int(1, 70), grad_int(1, 70));
    }
    for (int32_t type = 0; type < 64; type++) {
        const nano_type_traits *t = nano_type_find(type);
        if (t != NULL && t->to_float != NULL && nano_kernels_linear(k, type) != NULL) {
            test_x(k, t, grad_int(1, 60), grad_int(1, 210), t->block_size * grad_int(1, 512 / t->block_size));
        }
    }
}

int main(void) {
    char levels[256];
    snprintf(levels, sizeof levels, "%s", nano_cpu_levels());
    for (char *level = strtok(levels, ","); level != NULL; level = strtok(NULL, ",")) {
        test_level(nano_kernels_at(level));
    }
    return check_result();
}
