/* Linked into nanollm-run-noalloc: every allocating function of the C library ends the program between the first piece
 * of text on stdout and the line on stderr that follows the last one. A run that never gets there fails, too. */
#define _GNU_SOURCE 1

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int armed, n_pieces;

static long write_directly(int fd, const void *data, size_t size) { return syscall(SYS_write, fd, data, size); }

static void refuse(const char *name) {
    if (armed) {
        (void)!write_directly(STDERR_FILENO, name, strlen(name));
        (void)!write_directly(STDERR_FILENO, " was called while text was generated\n", 37);
        _exit(99);
    }
}

ssize_t write(int fd, const void *data, size_t size) {
    if (fd == STDOUT_FILENO && size > 0) {
        armed = 1;
        n_pieces++;
    } else if (fd == STDERR_FILENO) {
        armed = 0;
    }
    return write_directly(fd, data, size);
}

static void __attribute__((destructor)) report(void) {
    if (n_pieces < 10) {
        (void)!write_directly(STDERR_FILENO, "too little text to tell\n", 24);
        _exit(98);
    }
}

#include "tests/no_alloc.h"
