/* Linked into nanollm-run-noalloc: every allocating function of the C library ends the program between the first piece
 * of text on stdout and the line on stderr that follows the last one. A run that never gets there fails, too. */
#define _GNU_SOURCE 1

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *p);

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

void *malloc(size_t size) {
    refuse("malloc");
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    refuse("calloc");
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t size) {
    refuse("realloc");
    return __libc_realloc(p, size);
}
void free(void *p) {
    refuse("free");
    __libc_free(p);
}
int posix_memalign(void **out, size_t align, size_t size) {
    refuse("posix_memalign");
    *out = __libc_memalign(align, size);
    return *out == NULL ? ENOMEM : 0;
}
void *aligned_alloc(size_t align, size_t size) {
    refuse("aligned_alloc");
    return __libc_memalign(align, size);
}
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    refuse("mmap");
#if defined(SYS_mmap2) /* 32-bit systems: the offset in units of 4096 */
    return (void *)syscall(SYS_mmap2, at, size, protection, flags, fd, (long)(offset / 4096));
#else
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
#endif
}
int munmap(void *at, size_t size) {
    refuse("munmap");
    return (int)syscall(SYS_munmap, at, size);
}
