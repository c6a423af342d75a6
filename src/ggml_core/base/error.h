/* How the core reports: fill the caller's nano_error, return its status. */
#ifndef NANO_BASE_ERROR_H
#define NANO_BASE_ERROR_H

#include "ggml_core.h"
#include "base/platform.h"

/* Formats the message into `err` (which may be NULL) and returns `status`, so that callers write
 * `return nano_fail(err, NANO_ERR_IO, "%s: ...", path);`. Never called with NANO_OK. */
nano_status nano_fail(nano_error *err, nano_status status, const char *format, ...) NANO_PRINTF(3, 4);

/* Passes a failure on: `NANO_TRY(nano_gguf_open(path, &g, err));` */
#define NANO_TRY(call)                         \
    do {                                       \
        nano_status nano_try_status_ = (call); \
        if (nano_try_status_ != NANO_OK) {     \
            return nano_try_status_;           \
        }                                      \
    } while (0)

#endif
