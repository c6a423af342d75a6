/* What the C tests share: checks that say where and why they failed, and go on. main returns check_result(). */
#ifndef NANO_TESTS_CHECK_H
#define NANO_TESTS_CHECK_H

#include "ggml_core.h"

#include <stdio.h>
#include <string.h>

static int check_n_failed;

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            check_n_failed++;                                                       \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                           \
    } while (0)

/* `call` gets &check_error as its err argument. */
#define CHECK_OK(call)                                                                                  \
    do {                                                                                                \
        nano_error check_error = {NANO_OK, ""};                                                         \
        if ((call) != NANO_OK) {                                                                        \
            check_n_failed++;                                                                           \
            fprintf(stderr, "%s:%d: failed: %s: %s\n", __FILE__, __LINE__, #call, check_error.message); \
        }                                                                                               \
    } while (0)

/* `call` must fail with `expected` and a message that contains `text`. */
#define CHECK_FAILS(expected, text, call)                                                                     \
    do {                                                                                                      \
        nano_error check_error = {NANO_OK, ""};                                                               \
        nano_status check_status = (call);                                                                    \
        if (check_status != (expected) || check_error.status != (expected) ||                                 \
            strstr(check_error.message, (text)) == NULL) {                                                    \
            check_n_failed++;                                                                                 \
            fprintf(stderr, "%s:%d: %s gave %s \"%s\", expected %s with \"%s\"\n", __FILE__, __LINE__, #call, \
                    nano_status_name(check_status), check_error.message, nano_status_name(expected), (text)); \
        }                                                                                                     \
    } while (0)

static inline int check_result(void) {
    if (check_n_failed > 0) {
        fprintf(stderr, "%d checks failed\n", check_n_failed);
    }
    return check_n_failed > 0 ? 1 : 0;
}

#endif
