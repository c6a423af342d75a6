/*
 * What memory may be used: the system's word, control groups of both versions, the limit on the address space. A
 * folder stands for the system.
 */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE 1 /* mkdtemp */
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/platform.h"
#include "ggml_core.h"
#include "tests/check.h"

enum { MIB = 1 << 20 };

static char root[64];

static void put(const char *name, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = path + strlen(root) + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0777);
            *p = '/';
        }
    }
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    if (f != NULL) {
        CHECK(fputs(text, f) >= 0);
        CHECK(fclose(f) == 0);
    }
}

static void take(const char *name) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    CHECK(unlink(path) == 0);
}

static void test_system(void) {
    CHECK(nano_memory_available_at(root) > 0); /* nothing there: what the machine has */
    put("proc/meminfo",
        "MemTotal:  4096000 kB\nMemFree:  100 kB\nMemAvailable:  2048 kB\nBuffers: 1 kB\nCached:  400 kB\n");
    CHECK(nano_memory_available_at(root) == 2 * MIB);
    put("proc/meminfo",
        "MemTotal:  4096000 kB\nMemFree:  1024 kB\nBuffers: 1 kB\nCached:  3072 kB\nSwapCached:  9 kB\n");
    CHECK(nano_memory_available_at(root) == 4 * MIB); /* before Linux 3.14 */
    put("proc/meminfo", "MemAvailable:  1048576 kB\n");
    CHECK(nano_memory_available_at(root) == (uint64_t)1024 * MIB);
}

static void test_version_1(void) {
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* no limit */
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1048576\n");
    CHECK(nano_memory_available_at(root) == (uint64_t)1024 * MIB);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n");
    CHECK(nano_memory_available_at(root) == 99 * MIB);
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "52428800\n");
    put("sys/fs/cgroup/memory/memory.stat",
        "cache 1\ntotal_cache 1\ntotal_inactive_file 10485760\ntotal_active_file 20971520\n");
    CHECK(nano_memory_available_at(root) == 80 * MIB); /* 50 used, of which 30 are files' */
    take("sys/fs/cgroup/memory/memory.limit_in_bytes");
    CHECK(nano_memory_available_at(root) == (uint64_t)1024 * MIB);
}

static void test_version_2(void) {
    /* In a container the process's own group is the root of what it sees. */
    put("proc/self/cgroup", "0::/\n");
    put("sys/fs/cgroup/memory.max", "max\n");
    put("sys/fs/cgroup/memory.current", "52428800\n");
    CHECK(nano_memory_available_at(root) == (uint64_t)1024 * MIB);
    put("sys/fs/cgroup/memory.max", "104857600\n");
    CHECK(nano_memory_available_at(root) == 50 * MIB);
    put("sys/fs/cgroup/memory.stat", "anon 1\nfile 2\ninactive_file 10485760\nactive_file 20971520\n");
    CHECK(nano_memory_available_at(root) == 80 * MIB);
    put("sys/fs/cgroup/memory.current", "209715200\n"); /* above the limit already */
    CHECK(nano_memory_available_at(root) == 0);
    take("sys/fs/cgroup/memory.max");
    CHECK(nano_memory_available_at(root) == (uint64_t)1024 * MIB);

    /* Elsewhere a service's limit, or that of a slice above it, counts; a neighbour's does not. */
    put("proc/self/cgroup", "4:cpu:/x\n0::/user.slice/a.service\n");
    put("sys/fs/cgroup/user.slice/b.service/memory.max", "1\n");
    put("sys/fs/cgroup/user.slice/b.service/memory.current", "0\n");
    CHECK(nano_memory_available_at(root) == (uint64_t)1024 * MIB);
    put("sys/fs/cgroup/user.slice/a.service/memory.max", "314572800\n");
    put("sys/fs/cgroup/user.slice/a.service/memory.current", "0\n");
    CHECK(nano_memory_available_at(root) == 300 * MIB);
    put("sys/fs/cgroup/user.slice/memory.max", "209715200\n");
    put("sys/fs/cgroup/user.slice/memory.current", "104857600\n");
    CHECK(nano_memory_available_at(root) == 100 * MIB);

    put("proc/self/cgroup", "nonsense"); /* no group at all */
    CHECK(nano_memory_available_at(root) == (uint64_t)1024 * MIB);
}

static void test_address_space(void) {
    struct rlimit r = {0};
    CHECK(getrlimit(RLIMIT_AS, &r) == 0);
    const struct rlimit old = r;
    r.rlim_cur = (rlim_t)3072 * MIB;
    if (sizeof(void *) < 8 || setrlimit(RLIMIT_AS, &r) != 0 || getrlimit(RLIMIT_AS, &r) != 0 ||
        r.rlim_cur != (rlim_t)3072 * MIB) { /* qemu passes it over */
        return;
    }
    put("proc/meminfo", "MemAvailable:  33554432 kB\n");
    const uint64_t left = nano_memory_available_at(root);
    CHECK(left < (uint64_t)3072 * MIB);
    CHECK(setrlimit(RLIMIT_AS, &old) == 0);
}

int main(void) {
    const char *folder = getenv("TMPDIR");
    (void)snprintf(root, sizeof root, "%.40s/nano_memory_XXXXXX", folder != NULL ? folder : "/tmp");
    CHECK(mkdtemp(root) != NULL);
    test_system();
    test_version_1();
    test_version_2();
    test_address_space();
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r '%s'", root);
    CHECK(system(command) == 0);
    return check_result();
}
