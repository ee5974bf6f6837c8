/* SPDX-License-Identifier: MIT */
/* kernels.c - picks the kernels for a processor. Any thread. */
#include "engine/kernels/kernels.h"

#include <pthread.h>

#include "engine/base/cpu.h"

/* What attention.inc lays out, for the widest vectors and tallest tile of all levels, or what amx.c does; more than
 * what c.c wants. The callers' sizes are bounded by their models' limits, far from overflow. */
size_t comma_attention_scratch(size_t n_keys, size_t head_dim)
{
    enum { LANES = 16, TILE_ROWS = 6 };
    const size_t keys = (n_keys + LANES - 1) / LANES * LANES, dim = (head_dim + LANES - 1) / LANES * LANES;
    const size_t vectors = LANES + keys * dim + n_keys * dim + TILE_ROWS * keys;
    const size_t pairs = keys + LANES; /* at least n_keys rounded up to 32 */
    const size_t tiles = LANES + pairs * dim + 24 * (dim + pairs);

    return vectors > tiles ? vectors : tiles;
}

void comma_kernels_init(struct comma_kernels *k, uint32_t cpu)
{
    comma_kernels_init_c(k);
#if defined(__x86_64__)
    if (cpu & COMMA_CPU_AVX2)
        comma_kernels_init_avx2(k);
    if (cpu & COMMA_CPU_AVX512)
        comma_kernels_init_avx512(k);
    if ((cpu & COMMA_CPU_AVX512) && (cpu & COMMA_CPU_VNNI))
        comma_kernels_init_avx512_vnni(k);
    k->attention_bf16 = k->attention;
    if ((cpu & COMMA_CPU_AVX512) && (cpu & COMMA_CPU_BF16) && (cpu & COMMA_CPU_AMX))
        comma_kernels_init_amx(k);
#elif defined(__aarch64__)
    if (cpu & COMMA_CPU_NEON)
        comma_kernels_init_neon(k);
    k->attention_bf16 = k->attention;
#else
    (void)cpu;
    k->attention_bf16 = k->attention;
#endif
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
