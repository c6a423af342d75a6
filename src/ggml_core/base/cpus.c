#include "base/cpus.h"

#include "base/arith.h"
#include "base/threads.h"
#include "ggml_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH = 512, MAX_GROUPS_TEXT = 8192 };

static bool has(const nano_cpus *set, int cpu) { return (set->bits[cpu / 64] >> (cpu % 64) & 1) != 0; }
static void add(nano_cpus *set, int cpu) { set->bits[cpu / 64] |= (uint64_t)1 << (cpu % 64); }

bool nano_cpus_is_equal(const nano_cpus *a, const nano_cpus *b) { return memcmp(a, b, sizeof *a) == 0; }

bool nano_cpus_is_empty(const nano_cpus *set) {
    const nano_cpus none = {{0}};
    return nano_cpus_is_equal(set, &none);
}

/* ----------------------------------------------------------------- topology */

static bool read_cpu_file(const char *root, int cpu, const char *name, char *text, size_t size) {
    char path[MAX_PATH];
    const int n = snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/%s", root, cpu, name);
    return n > 0 && n < (int)sizeof path && nano_read_text(path, text, size);
}

/* What each CPU of the set says in a file of its own; false when one of them says nothing. */
static bool read_speeds(const char *root, const nano_cpus *set, const char *name, uint64_t *speeds) {
    for (int cpu = 0; cpu < NANO_MAX_CPUS; cpu++) {
        char text[32];
        if (has(set, cpu)) {
            if (!read_cpu_file(root, cpu, name, text, sizeof text) || text[0] < '0' || text[0] > '9') {
                return false;
            }
            speeds[cpu] = strtoull(text, NULL, 10);
        }
    }
    return true;
}

nano_cpus nano_cpus_fast(const char *root, const nano_cpus *allowed) {
    uint64_t speeds[NANO_MAX_CPUS] = {0}, best = 0;
    if (!read_speeds(root, allowed, "cpu_capacity", speeds) &&
        !read_speeds(root, allowed, "cpufreq/cpuinfo_max_freq", speeds)) {
        return *allowed;
    }
    for (int cpu = 0; cpu < NANO_MAX_CPUS; cpu++) {
        best = has(allowed, cpu) && speeds[cpu] > best ? speeds[cpu] : best;
    }
    nano_cpus fast = {{0}};
    for (int cpu = 0; cpu < NANO_MAX_CPUS; cpu++) {
        if (has(allowed, cpu) && speeds[cpu] >= best - best / 10 * 3) {
            add(&fast, cpu);
        }
    }
    return fast;
}

/* Counts a CPU only when it is the first of its hyper-threads, or the first is not ours. */
static bool is_first_sibling(const char *root, int cpu, const nano_cpus *set) {
    char text[64];
    if (!read_cpu_file(root, cpu, "topology/thread_siblings_list", text, sizeof text)) {
        return true;
    }
    const long first = strtol(text, NULL, 10);
    return first == cpu || first < 0 || first >= NANO_MAX_CPUS || !has(set, (int)first);
}

int32_t nano_cpus_cores(const char *root, const nano_cpus *set) {
    int32_t n = 0;
    for (int cpu = 0; cpu < NANO_MAX_CPUS; cpu++) {
        n += has(set, cpu) && is_first_sibling(root, cpu, set) ? 1 : 0;
    }
    return n;
}

/* ------------------------------------------------------------ control groups */

/* Lowers *n to quota / period, rounded up. */
static void lower_to_quota(long long quota, long long period, int32_t *n) {
    if (quota > 0 && period > 0) {
        const long long cpus = quota / period + (quota % period != 0 ? 1 : 0);
        *n = *n == 0 || cpus < *n ? (int32_t)(cpus < NANO_MAX_CPUS ? cpus : NANO_MAX_CPUS) : *n;
    }
}

/* The limit of the group in `directory`: cpu.max of version 2 is "quota period" or "max period". */
static void lower_to_group(const char *directory, bool is_v1, int32_t *n) {
    char path[MAX_PATH + 32], text[64];
    (void)snprintf(path, sizeof path, "%s/%s", directory, is_v1 ? "cpu.cfs_quota_us" : "cpu.max");
    if (!nano_read_text(path, text, sizeof text)) {
        return;
    }
    char *end = text;
    const long long quota = strtoll(text, &end, 10);
    if (is_v1) {
        (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
        end = nano_read_text(path, text, sizeof text) ? text : NULL;
    }
    lower_to_quota(quota, end == NULL ? 0 : strtoll(end, NULL, 10), n);
}

/* A group and all above it. `group` is a path as "/a/b"; one outside of what is mounted here leads to the top. */
static void lower_to_groups(const char *root, const char *group, bool is_v1, int32_t *n) {
    char directory[MAX_PATH];
    const int top = snprintf(directory, sizeof directory, "%s/sys/fs/cgroup%s", root, is_v1 ? "/cpu" : "");
    if (top < 0 || (size_t)top + strlen(group) >= sizeof directory) {
        return;
    }
    memcpy(directory + top, group, strlen(group) + 1);
    for (;;) {
        lower_to_group(directory, is_v1, n);
        char *slash = strrchr(directory + top, '/');
        if (slash == NULL) {
            return;
        }
        *slash = '\0';
    }
}

/* Whether "cpu" is in a list as "cpu,cpuacct". */
static bool names_cpu(const char *list) {
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',' ? 1 : 0;
        if (strncmp(at, "cpu", 3) == 0 && (at[3] == ',' || at[3] == '\0')) {
            return true;
        }
    }
    return false;
}

int32_t nano_cpus_quota(const char *root) {
    char path[MAX_PATH], text[MAX_GROUPS_TEXT];
    int32_t n = 0;
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!nano_read_text(path, text, sizeof text)) {
        return 0;
    }
    /* Lines are "number:controllers:path"; version 2 is the one without controllers. */
    for (char *line = text, *next; line != NULL && *line != '\0'; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group != NULL) {
            *controllers++ = *group++ = '\0';
            if (*controllers == '\0' || names_cpu(controllers)) {
                lower_to_groups(root, group, *controllers != '\0', &n);
            }
        }
    }
    return n;
}

/* ----------------------------------------------------------------- placement */

int32_t nano_cpus_threads(const char *root, const nano_cpus *set) {
    const int32_t cores = nano_cpus_cores(root, set), quota = nano_cpus_quota(root);
    return (int32_t)nano_min_i64(quota > 0 && quota < cores ? quota : cores, NANO_MAX_THREADS);
}

bool nano_place_threads(const char *root, const nano_cpus *mask, nano_placement *out) {
    nano_cpus allowed;
    if (!nano_cpus_allowed(&allowed)) { /* nothing is known: one thread anywhere */
        *out = (nano_placement){.set = *mask, .is_a_choice = !nano_cpus_is_empty(mask), .n_threads = 1};
        return true;
    }
    if (nano_cpus_is_empty(mask)) {
        out->set = nano_cpus_fast(root, &allowed);
    } else {
        for (int i = 0; i < NANO_MAX_CPUS / 64; i++) {
            out->set.bits[i] = mask->bits[i] & allowed.bits[i];
        }
    }
    out->is_a_choice = !nano_cpus_is_equal(&out->set, &allowed);
    out->n_threads = nano_cpus_threads(root, &out->set);
    return out->n_threads > 0;
}

int32_t nano_cpu_default_threads(void) {
    const nano_cpus any = {{0}};
    nano_placement placement;
    return nano_place_threads("", &any, &placement) ? placement.n_threads : 1;
}
