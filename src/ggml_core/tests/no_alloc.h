/* Every allocating function of glibc, replaced by one that first calls refuse(name) of the file that includes this, and then
 * does what it is for. */
#ifndef NANO_TESTS_NO_ALLOC_H
#define NANO_TESTS_NO_ALLOC_H

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *p);

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

#endif
