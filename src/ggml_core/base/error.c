#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#ifndef NANO_VERSION_STRING
#  define NANO_VERSION_STRING "0.1.0"
#endif

nano_status nano_fail(nano_error *err, nano_status status, const char *format, ...) {
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        err->status = status;
    }
    return status;
}

const char *nano_status_name(nano_status status) {
    switch (status) {
        case NANO_OK: return "NANO_OK";
        case NANO_ERR_ARGUMENT: return "NANO_ERR_ARGUMENT";
        case NANO_ERR_IO: return "NANO_ERR_IO";
        case NANO_ERR_FORMAT: return "NANO_ERR_FORMAT";
        case NANO_ERR_UNSUPPORTED: return "NANO_ERR_UNSUPPORTED";
        case NANO_ERR_NOT_FOUND: return "NANO_ERR_NOT_FOUND";
        case NANO_ERR_SHAPE: return "NANO_ERR_SHAPE";
        case NANO_ERR_MEMORY: return "NANO_ERR_MEMORY";
        case NANO_ERR_LIMIT: return "NANO_ERR_LIMIT";
        case NANO_ERR_CANCELLED: return "NANO_ERR_CANCELLED";
        case NANO_ERR_INTERNAL: return "NANO_ERR_INTERNAL";
    }
    return "unknown status";
}

const char *nano_version(void) { return NANO_VERSION_STRING; }
