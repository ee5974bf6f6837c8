/* SPDX-License-Identifier: MIT */
/* cpu.c - see cpu.h. OpenBLAS and OpenMP look at the machine; a container's share of it is in its cgroup, so that is
 * read here. */
#include "engine/base/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t xgetbv0(void)
{
    uint32_t a, d;

    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

static uint32_t detect_zen(void)
{
    unsigned a, b, c, d, family;

    __cpuid(0, a, b, c, d);
    if (b != signature_AMD_ebx || c != signature_AMD_ecx || d != signature_AMD_edx)
        return 0;
    __cpuid(1, a, b, c, d);
    family = (a >> 8 & 15) + (a >> 20 & 255);
    return family >= 0x17 ? COMMA_CPU_ZEN : 0;
}

/* Registers of 8 KiB a thread are not everybody's: a process asks for them first, and may do so again. */
static bool may_use_tiles(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */

    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

static uint32_t detect(void)
{
    unsigned a, b, c, d, b7, c7, d7, a71 = 0;
    uint32_t features = detect_zen();
    uint64_t enabled;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return features;
    enabled = xgetbv0();
    if ((enabled & 6) != 6 || !(c & bit_AVX) || !(c & bit_FMA) || !(c & bit_F16C))
        return features;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) || !(b7 & bit_AVX2))
        return features;
    features |= COMMA_CPU_AVX2;
    if ((enabled & 0xE6) != 0xE6 || !(b7 & bit_AVX512F) || !(b7 & bit_AVX512BW) || !(b7 & bit_AVX512VL) ||
        !(b7 & bit_AVX512DQ))
        return features;
    features |= COMMA_CPU_AVX512;
    if (c7 & bit_AVX512VNNI)
        features |= COMMA_CPU_VNNI;
    if (__get_cpuid_count(7, 1, &a71, &b, &c, &d) && (a71 & (1u << 5)))
        features |= COMMA_CPU_BF16;
    if ((enabled & 0x60000) == 0x60000 && (d7 & (1u << 22)) && (d7 & (1u << 24)) && may_use_tiles())
        features |= COMMA_CPU_AMX;
    return features;
}
#elif defined(__aarch64__)
static uint32_t detect(void)
{
    return COMMA_CPU_NEON; /* part of the base architecture */
}
#else
static uint32_t detect(void)
{
    return 0;
}
#endif

uint32_t comma_cpu_features(void)
{
    const uint32_t features = detect();
    const char *level = getenv("COMMA_CPU");

    if (!level)
        return features;
    if (strcmp(level, "c") == 0)
        return features & COMMA_CPU_ZEN;
    if (strcmp(level, "avx2") == 0)
        return features & (COMMA_CPU_AVX2 | COMMA_CPU_ZEN);
    if (strcmp(level, "avx512") == 0)
        return features & (COMMA_CPU_AVX2 | COMMA_CPU_AVX512 | COMMA_CPU_ZEN);
    return features;
}

const char *comma_cpu_level_name(uint32_t features)
{
    if ((features & COMMA_CPU_BF16) && (features & COMMA_CPU_VNNI))
        return "avx512+vnni+bf16";
    if (features & COMMA_CPU_VNNI)
        return "avx512+vnni";
    if (features & COMMA_CPU_AVX512)
        return "avx512";
    if (features & COMMA_CPU_AVX2)
        return "avx2";
    return features & COMMA_CPU_NEON ? "neon" : "c";
}

/* Whether name is one of a list with commas: "cpu" is in "cpu,cpuacct" and not in "cpuset". */
static bool is_listed(const char *name, const char *list)
{
    const size_t n = strlen(name);

    for (;; list++) {
        const size_t length = strcspn(list, ",");

        if (length == n && memcmp(list, name, n) == 0)
            return true;
        list += length;
        if (!*list)
            return false;
    }
}

/* Path of a controller's file in this process's own cgroup: "0::/path" is v2, "3:cpu,cpuacct:/path" v1. */
static bool cgroup_dir(const char *controller, char *out, size_t size)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[4096];
    bool found = false;

    while (f && !found && fgets(line, sizeof(line), f)) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        names++;
        if (is_listed(controller, names))
            found = snprintf(out, size, "%s", path) < (int)size;
    }
    if (f)
        fclose(f);
    return found;
}

static bool read_first_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    const bool ok = f && fgets(line, (int)size, f);

    if (f)
        fclose(f);
    return ok;
}

/* The least value that `parse` gives for `file` in the cgroup and its parents: each level may set a limit. */
static double least_up(const char *mount, const char *dir, const char *file, double (*parse)(const char *line))
{
    char path[PATH_MAX], at[PATH_MAX], line[256];
    double least = -1;

    snprintf(at, sizeof(at), "%s", dir);
    for (;;) {
        if (snprintf(path, sizeof(path), "%s%s/%s", mount, strcmp(at, "/") == 0 ? "" : at, file) < (int)sizeof(path) &&
            read_first_line(path, line, sizeof(line))) {
            const double v = parse(line);

            if (v > 0 && (least < 0 || v < least))
                least = v;
        }
        char *slash = strrchr(at, '/');

        if (!slash || at[0] == '\0')
            return least;
        *slash = '\0';
    }
}

static double parse_cpu_max(const char *line)
{
    double quota, period;

    return sscanf(line, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : -1;
}

static double parse_number(const char *line)
{
    double v;

    return sscanf(line, "%lf", &v) == 1 ? v : -1;
}

/* CPUs that the quota pays for, -1 without one. */
static double quota_cpus(void)
{
    char dir[PATH_MAX];
    double cpus = -1;

    if (cgroup_dir("", dir, sizeof(dir)))
        cpus = least_up("/sys/fs/cgroup", dir, "cpu.max", parse_cpu_max);
    if (cpus < 0 && cgroup_dir("cpu", dir, sizeof(dir))) {
        const double quota = least_up("/sys/fs/cgroup/cpu", dir, "cpu.cfs_quota_us", parse_number);
        const double period = least_up("/sys/fs/cgroup/cpu", dir, "cpu.cfs_period_us", parse_number);

        if (quota > 0 && period > 0)
            cpus = quota / period;
    }
    return cpus;
}

unsigned comma_cpu_count(void)
{
    cpu_set_t *set;
    unsigned n = 0;
    double quota;

    for (int size = 1024; n == 0 && size <= 1 << 16; size *= 4) { /* the kernel's mask may be wider than glibc's */
        set = CPU_ALLOC(size);
        if (set && sched_getaffinity(0, CPU_ALLOC_SIZE(size), set) == 0)
            n = (unsigned)CPU_COUNT_S(CPU_ALLOC_SIZE(size), set);
        CPU_FREE(set);
    }
    if (n == 0)
        n = 1;
    quota = quota_cpus();
    if (quota > 0 && quota < n)
        n = (unsigned)quota + (quota > (unsigned)quota);
    return n ? n : 1;
}

size_t comma_cpu_memory_limit(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t limit = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : SIZE_MAX;
    char dir[PATH_MAX];
    double v = -1;

    if (cgroup_dir("", dir, sizeof(dir)))
        v = least_up("/sys/fs/cgroup", dir, "memory.max", parse_number);
    if (v < 0 && cgroup_dir("memory", dir, sizeof(dir)))
        v = least_up("/sys/fs/cgroup/memory", dir, "memory.limit_in_bytes", parse_number);
    if (v > 0 && v < (double)limit)
        limit = (size_t)v;
    return limit;
}
