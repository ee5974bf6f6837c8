/* SPDX-License-Identifier: MIT */
/* cpu.h - what this processor can do and how much of it this process may use. */
#ifndef COMMA_BASE_CPU_H
#define COMMA_BASE_CPU_H

#include <stddef.h>
#include <stdint.h>

enum {
    COMMA_CPU_AVX2 = 1 << 0,   /* AVX2, FMA and F16C */
    COMMA_CPU_AVX512 = 1 << 1, /* AVX-512 F, BW, VL, DQ; implies AVX2 */
    COMMA_CPU_VNNI = 1 << 2,   /* AVX-512 VNNI: int8 dot products */
    COMMA_CPU_BF16 = 1 << 3,   /* AVX-512 BF16 dot products */
    COMMA_CPU_NEON = 1 << 4,
    COMMA_CPU_AMX = 1 << 6, /* tiles of bf16, which the kernel has let this process use */
    COMMA_CPU_ZEN = 1 << 5, /* AMD family 17h and later: OpenBLAS is faster there with its Haswell kernels */
};

/* Features of this processor that its operating system has enabled. COMMA_CPU=c|avx2|avx512 in the environment lowers
 * the level, to compare levels in the field; an unknown value is ignored. */
uint32_t comma_cpu_features(void);

/* "avx512+vnni+bf16" and the like, for /metrics and bench. */
const char *comma_cpu_level_name(uint32_t features);

/* Cores this process may use: the affinity mask, lowered to the cgroup's CPU quota (v2 cpu.max or v1 cfs_quota,
 * rounded up). At least 1. */
unsigned comma_cpu_count(void);

/* Bytes of memory the cgroup or the machine allows; SIZE_MAX where that cannot be told. */
size_t comma_cpu_memory_limit(void);

#endif
