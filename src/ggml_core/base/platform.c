#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1 /* sched_getaffinity, MAP_ANONYMOUS under -std=c99 */
#endif

#include "base/platform.h"

#include "ggml_core.h"

#include <errno.h>
#include <fcntl.h>
#ifdef NANO_HAVE_CUDA
#  include <dlfcn.h>
#endif
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void nano_thread_yield(void) { (void)sched_yield(); }

#ifdef NANO_HAVE_CUDA
void *nano_library_open(const char *path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
void *nano_library_find(void *library, const char *name) { return dlsym(library, name); }
#endif

size_t nano_page_size(void) {
    long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (size_t)n : 4096;
}

double nano_now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t round_to_pages(size_t size) {
    size_t page = nano_page_size();
    return size > SIZE_MAX - page ? 0 : (size + page - 1) / page * page;
}

void *nano_pages_alloc(size_t size) {
    size_t rounded = round_to_pages(size);
    if (rounded == 0) {
        return NULL;
    }
    void *p = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void nano_pages_free(void *p, size_t size) {
    if (p != NULL) {
        (void)munmap(p, round_to_pages(size));
    }
}

/* ------------------------------------------------------------------- files */

bool nano_map_file(const char *path, nano_mapping *out, const char **error_text) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *error_text = strerror(errno);
        return false;
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        *error_text = strerror(errno);
        (void)close(fd);
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        *error_text = S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file";
        (void)close(fd);
        return false;
    }
    if (st.st_size <= 0 || (uint64_t)st.st_size > SIZE_MAX) {
        *error_text = st.st_size <= 0 ? "file is empty" : "file is larger than the address space";
        (void)close(fd);
        return false;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    int saved = errno;
    (void)close(fd);
    if (p == MAP_FAILED) {
        *error_text = strerror(saved);
        return false;
    }
    out->data = p;
    out->size = (size_t)st.st_size;
    return true;
}

void nano_unmap_file(nano_mapping *mapping) {
    if (mapping->data != NULL) {
        union {
            const void *in;
            void *out;
        } unqualified = {mapping->data}; /* munmap wants a plain pointer */
        (void)munmap(unqualified.out, mapping->size);
        mapping->data = NULL;
        mapping->size = 0;
    }
}

void nano_forget_pages(const void *data, size_t size) {
    union {
        const void *in;
        void *out;
    } start = {data};
    const size_t before = (uintptr_t)data % nano_page_size();
    start.out = (uint8_t *)start.out - before;
    (void)madvise(start.out, before + size, MADV_DONTNEED);
}

bool nano_temp_open(const char *path, nano_temp_file *out, const char **error_text) {
    static const char suffix[] = ".XXXXXX";
    struct stat st;
    bool exists = stat(path, &st) == 0;
    out->fd = -1;
    out->temp_path = out->path = NULL;
    /* Renaming a file over a device or a pipe would destroy it. */
    if (exists && !S_ISREG(st.st_mode)) {
        *error_text = S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file";
        return false;
    }
    /* Through a symbolic link, so that the file it names is replaced and not the link. */
    char *target = exists ? realpath(path, NULL) : strdup(path);
    size_t n = target == NULL ? 0 : strlen(target);
    out->path = target;
    out->temp_path = malloc(n + sizeof suffix);
    if (target == NULL || out->temp_path == NULL) {
        *error_text = strerror(errno);
        free(out->temp_path);
        out->temp_path = NULL;
        nano_temp_discard(out);
        return false;
    }
    memcpy(out->temp_path, target, n);
    memcpy(out->temp_path + n, suffix, sizeof suffix);
    out->fd = mkstemp(out->temp_path);
    if (out->fd < 0) {
        *error_text = strerror(errno);
        free(out->temp_path);
        out->temp_path = NULL;
        nano_temp_discard(out);
        return false;
    }
    /* mkstemp makes 0600; give what open(2) would have given. umask can only be read by setting it, which
     * other threads would see, so follow an existing target and otherwise use the common default. */
    (void)fchmod(out->fd, exists ? (st.st_mode & 0777) : 0644);
    return true;
}

bool nano_temp_write(nano_temp_file *f, const void *data, size_t size, const char **error_text) {
    const uint8_t *p = data;
    while (size > 0) {
        size_t piece = size < ((size_t)1 << 30) ? size : (size_t)1 << 30;
        ssize_t n = write(f->fd, p, piece);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            *error_text = strerror(errno);
            return false;
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

bool nano_temp_commit(nano_temp_file *f, const char **error_text) {
    bool ok = fsync(f->fd) == 0;
    if (!ok) {
        *error_text = strerror(errno);
    }
    if (close(f->fd) != 0 && ok) {
        *error_text = strerror(errno);
        ok = false;
    }
    f->fd = -1;
    if (ok && rename(f->temp_path, f->path) != 0) {
        *error_text = strerror(errno);
        ok = false;
    }
    if (ok) {
        free(f->temp_path);
        f->temp_path = NULL;
    }
    nano_temp_discard(f);
    return ok;
}

void nano_temp_discard(nano_temp_file *f) {
    if (f->fd >= 0) {
        (void)close(f->fd);
        f->fd = -1;
    }
    if (f->temp_path != NULL) {
        (void)unlink(f->temp_path);
        free(f->temp_path);
        f->temp_path = NULL;
    }
    free(f->path);
    f->path = NULL;
}

/* ------------------------------------------------------------------ system */

bool nano_read_text(const char *path, char *buffer, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, buffer, size - 1);
    (void)close(fd);
    if (n < 0) {
        return false;
    }
    buffer[n] = '\0';
    return true;
}

static bool read_u64(const char *path, uint64_t *out) {
    char text[64];
    if (!nano_read_text(path, text, sizeof text) || text[0] < '0' || text[0] > '9') {
        return false; /* "max" means no limit */
    }
    *out = strtoull(text, NULL, 10);
    return true;
}

/* The number after `key` (as "VmHWM:") in a file of the system's; 0 when there is none. */
static uint64_t number_after(const char *path, const char *key) {
    char text[8192];
    if (!nano_read_text(path, text, sizeof text)) {
        return 0;
    }
    const char *at = strstr(text, key);
    return at == NULL ? 0 : strtoull(at + strlen(key), NULL, 10);
}

/* The same where it is in KiB, in bytes. */
static uint64_t proc_kib(const char *path, const char *key) { return number_after(path, key) * 1024; }

static void lower_to(uint64_t *value, uint64_t limit, uint64_t used) {
    uint64_t left = limit > used ? limit - used : 0;
    if (left < *value) {
        *value = left;
    }
}

enum { MAX_PATH = 2048, MAX_GROUP = 1024 };

/* folder/name; false when it is too long for MAX_PATH bytes. */
static bool join(char *path, const char *folder, const char *name) {
    const int n = snprintf(path, MAX_PATH, "%s/%s", folder, name);
    return n > 0 && n < MAX_PATH;
}

/* What one control group's limit leaves. The files it has in the page cache count as used there, yet give way. */
static void lower_to_group(uint64_t *available, const char *folder, bool is_v2) {
    char path[MAX_PATH];
    uint64_t limit = 0, used = 0;
    if (!join(path, folder, is_v2 ? "memory.max" : "memory.limit_in_bytes") || !read_u64(path, &limit) ||
        !join(path, folder, is_v2 ? "memory.current" : "memory.usage_in_bytes") || !read_u64(path, &used)) {
        return;
    }
    uint64_t files = 0;
    if (join(path, folder, "memory.stat")) {
        files = number_after(path, is_v2 ? "\nactive_file " : "\ntotal_active_file ") +
                number_after(path, is_v2 ? "\ninactive_file " : "\ntotal_inactive_file ");
    }
    lower_to(available, limit, used > files ? used - files : 0);
}

/* All groups that bind this process: version 1's, and version 2's from its own up to the root of what it sees. */
static void lower_to_groups(uint64_t *available, const char *root) {
    char path[MAX_PATH], text[MAX_GROUP], group[MAX_GROUP] = "";
    if (join(path, root, "sys/fs/cgroup/memory")) {
        lower_to_group(available, path, false);
    }
    if (join(path, root, "proc/self/cgroup") && nano_read_text(path, text, sizeof text)) {
        const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
        const char *name = line == NULL ? NULL : strchr(line, '/');
        if (name != NULL) {
            const size_t n = strcspn(name, "\n");
            memcpy(group, name, n);
            group[n] = '\0';
        }
    }
    for (;;) {
        const int n = snprintf(path, sizeof path, "%s/sys/fs/cgroup%s", root, group);
        if (n > 0 && n < MAX_PATH) {
            lower_to_group(available, path, true);
        }
        char *last = strrchr(group, '/');
        if (last == NULL) {
            return;
        }
        *last = '\0';
    }
}

/* What can be had without swapping. Kernels before 3.14 do not say it themselves. */
static uint64_t system_available(const char *root) {
    char path[MAX_PATH];
    if (join(path, root, "proc/meminfo")) {
        const uint64_t available = proc_kib(path, "MemAvailable:");
        const uint64_t at_least = proc_kib(path, "MemFree:") + proc_kib(path, "\nCached:");
        if (available != 0 || at_least != 0) {
            return available != 0 ? available : at_least;
        }
    }
    const long pages = sysconf(_SC_PHYS_PAGES);
    return pages > 0 ? (uint64_t)pages * nano_page_size() : UINT64_MAX;
}

uint64_t nano_memory_available_at(const char *root) {
    uint64_t available = system_available(root);
    lower_to_groups(&available, root);
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY) {
        lower_to(&available, (uint64_t)r.rlim_cur, proc_kib("/proc/self/status", "VmSize:"));
    }
    return available;
}

uint64_t nano_memory_available(void) { return nano_memory_available_at(""); }

uint64_t nano_memory_peak(void) { return proc_kib("/proc/self/status", "VmHWM:"); }

/* -------------------------------------------------------------------- CPUs */

bool nano_cpus_allowed(nano_cpus *out) {
    cpu_set_t set;
    CPU_ZERO(&set);
    memset(out, 0, sizeof *out);
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return false;
    }
    for (int i = 0; i < NANO_MAX_CPUS && i < CPU_SETSIZE; i++) {
        out->bits[i / 64] |= (uint64_t)(CPU_ISSET((size_t)i, &set) ? 1 : 0) << (i % 64);
    }
    return true;
}

bool nano_cpus_restrict_thread(const nano_cpus *cpus) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < NANO_MAX_CPUS && i < CPU_SETSIZE; i++) {
        if ((cpus->bits[i / 64] >> (i % 64) & 1) != 0) {
            CPU_SET((size_t)i, &set);
        }
    }
    return sched_setaffinity(0, sizeof set, &set) == 0; /* 0: the calling thread alone */
}
