/* SPDX-License-Identifier: MIT */
/* kernels.c - picks the kernels for a processor. Any thread. */
#include "engine/kernels/kernels.h"

#include <pthread.h>

#include "engine/base/cpu.h"

size_t comma_attention_scratch(size_t n_keys, size_t head_dim)
{
    (void)head_dim;
    return n_keys; /* one query's scores */
}

void comma_kernels_init(struct comma_kernels *k, uint32_t cpu)
{
    (void)cpu;
    comma_kernels_init_c(k);
}

/* The only state of this file: written once under the once-flag, read-only afterwards. */
static struct comma_kernels fastest;
static pthread_once_t fastest_once = PTHREAD_ONCE_INIT;

static void init_fastest(void)
{
    comma_kernels_init(&fastest, comma_cpu_features());
}

const struct comma_kernels *comma_kernels(void)
{
    pthread_once(&fastest_once, init_fastest);
    return &fastest;
}
