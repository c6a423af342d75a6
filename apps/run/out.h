/* The program's streams and its exit codes. Text is written at once and in whole pieces, without stdio's buffers: it
 * appears as it is generated, and writing allocates nothing. */
#ifndef RUN_OUT_H
#define RUN_OUT_H

#include <stdbool.h>
#include <stddef.h>

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130, EXIT_BROKEN_PIPE = 141 };

#if defined(__GNUC__)
#  define RUN_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#else
#  define RUN_PRINTF(format_at, args_at)
#endif

/* What error messages begin with: "nanollm-run", or "nanollm-run fit". */
extern const char *program_name;

/* Makes the three streams usable: a closed one becomes the null device, a reader that went away no signal. */
void out_start(void);
/* The exit code after `code` was reached: another one when something could not be written to stdout. */
int out_end(int code);

bool is_terminal(int fd);

/* To stdout. A terminal gets no control characters but tab and line ends: U+FFFD stands for the others. After a failure
 * nothing more is written, and emit_failed says so. */
void emit(const char *text, size_t size);
bool emit_failed(void);

/* To stderr, without control characters; failures are passed over. */
void log_text(const char *text, size_t size);
void note(const char *format, ...) RUN_PRINTF(1, 2);

/* Prints "program: error: ..." in one line; returns `code`. */
int fail(int code, const char *format, ...) RUN_PRINTF(2, 3);

#endif
