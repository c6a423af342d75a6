#include "out.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LINE = 8192 };

const char *program_name = "nanollm-run";

static int emit_error; /* errno of the first write to stdout that failed */

void out_start(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
            (void)open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY); /* takes the lowest free number: fd */
        }
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
}

int out_end(int code) {
    if (emit_error == 0) {
        return code;
    }
    return emit_error == EPIPE ? EXIT_BROKEN_PIPE : fail(EXIT_ERROR, "stdout: %s", strerror(emit_error));
}

bool is_terminal(int fd) { return isatty(fd) == 1; }

/* 0, or errno. */
static int write_all(int fd, const char *text, size_t size) {
    while (size > 0) {
        const ssize_t n = write(fd, text, size);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        text += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The bytes of the control character that `text` starts with, 0 when it is none that must be kept from a terminal. */
static size_t control_bytes(const char *text, size_t size) {
    const uint8_t first = (uint8_t)text[0], second = size > 1 ? (uint8_t)text[1] : 0;
    if (first == 0xC2 && second >= 0x80 && second <= 0x9F) {
        return 2;
    }
    return (first < ' ' && first != '\t' && first != '\n' && first != '\r') || first == 0x7F ? 1 : 0;
}

static int write_filtered(int fd, const char *text, size_t size) {
    int error = 0;
    size_t start = 0;
    for (size_t i = 0; i < size && error == 0;) {
        const size_t n = control_bytes(text + i, size - i);
        if (n > 0) {
            error = write_all(fd, text + start, i - start);
            error = error != 0 ? error : write_all(fd, "\xEF\xBF\xBD", 3);
            start = i + n;
        }
        i += n > 0 ? n : 1;
    }
    return error != 0 ? error : write_all(fd, text + start, size - start);
}

void emit(const char *text, size_t size) {
    if (emit_error == 0) {
        emit_error = is_terminal(STDOUT_FILENO) ? write_filtered(STDOUT_FILENO, text, size)
                                                : write_all(STDOUT_FILENO, text, size);
    }
}

bool emit_failed(void) { return emit_error != 0; }

void log_text(const char *text, size_t size) { (void)write_filtered(STDERR_FILENO, text, size); }

static void log_formatted(const char *format, va_list args) {
    char line[MAX_LINE];
    const int n = vsnprintf(line, sizeof line, format, args);
    log_text(line, n < 0 ? 0 : n < MAX_LINE ? (size_t)n : MAX_LINE - 1);
}

void note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    log_formatted(format, args);
    va_end(args);
}

int fail(int code, const char *format, ...) {
    char line[MAX_LINE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *c = line; *c != '\0'; c++) {
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
    }
    note("%s: error: %s\n", program_name, line);
    return code;
}
