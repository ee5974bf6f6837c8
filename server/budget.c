/* SPDX-License-Identifier: MIT */
/* budget.c - see budget.h. */
#include "server/budget.h"

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/base/cpu.h"

#define MIB ((size_t)1 << 20)

enum { LEAST_DECODE_MIB = 24, CONNECTION_BYTES = 52 << 10 };

size_t comma_budget_ceiling(const struct comma_serve_config *config)
{
    const size_t limit = comma_cpu_memory_limit();

    if (config->max_memory_mb > 0)
        return config->max_memory_mb * MIB;
    return limit == SIZE_MAX ? SIZE_MAX : limit / 10 * 9;
}

size_t comma_budget_decode_bytes(const struct comma_serve_config *config, size_t standard, unsigned n_workers)
{
    const size_t ceiling = comma_budget_ceiling(config);
    /* A third of the ceiling for all workers' pictures, each at its most (picture_bytes()): the model's size is not
     * known yet. */
    size_t each = ceiling / 9 / (n_workers ? n_workers : 1);

    if (each < LEAST_DECODE_MIB * MIB)
        each = LEAST_DECODE_MIB * MIB;
    return each < standard ? each : standard;
}

/* What a worker's picture takes at most: the decoder's own, and its pixels twice more, where the decoder hands them
 * over and where they are resized. */
static size_t picture_bytes(const struct comma_image_limits *limits)
{
    const size_t pixels = 3 * limits->max_pixels;

    return limits->max_decode_bytes + 2 * (pixels < limits->max_decode_bytes ? pixels : limits->max_decode_bytes);
}

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    size_t pages = 0, resident = 0;

    if (file) {
        if (fscanf(file, "%zu %zu", &pages, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

bool comma_budget_request_bytes(const struct comma_serve_config *config, const struct comma_engine_options *options,
                                struct comma_engine *engine, size_t *out, struct comma_error *err)
{
    const size_t ceiling = comma_budget_ceiling(config);
    const size_t least = 2 * (2 * config->max_body_mb * MIB + MIB);
    struct comma_engine_stats stats;
    struct comma_engine_info info;
    size_t fixed;

    comma_engine_get_info(engine, &info);
    comma_engine_get_stats(engine, &stats);
    fixed = resident_bytes() + info.n_threads * picture_bytes(&options->image) +
            config->max_connections * (size_t)CONNECTION_BYTES;
    if (stats.cache.max_bytes > stats.cache.bytes)
        fixed += stats.cache.max_bytes - stats.cache.bytes;
    if (ceiling < fixed || ceiling - fixed < least)
        return comma_fail(
            err, COMMA_E_LIMIT,
            "%zu MiB of memory are too little: the model, the label cache, connections, and decoders on %u threads "
            "take %zu MiB and two bodies %zu MiB more; raise --max-memory-mb, or lower --label-cache-mb, "
            "--max-connections, --max-body-mb or --threads",
            ceiling / MIB, info.n_threads, fixed / MIB, least / MIB);
    *out = ceiling - fixed;
    return true;
}
