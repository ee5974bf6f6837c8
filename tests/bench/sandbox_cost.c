/* SPDX-License-Identifier: MIT */
/* sandbox_cost.c - what decoding in a confined child costs: each file in this process and through the sandbox, in turn,
 * one at a time; medians in milliseconds.
 * Usage: sandbox_cost FILE... */
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/base/map.h"
#include "server/sandbox.h"

#define N_RUNS 301

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static bool time_file(struct comma_sandbox *sandbox, const char *path, struct comma_error *err)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    static double here[N_RUNS], there[N_RUNS];
    struct comma_image image = { 0 };
    struct comma_map map = { 0 };
    size_t width = 0, height = 0;
    bool ok = comma_map_open(&map, path, err);

    for (size_t i = 0; ok && i < N_RUNS; i++) {
        const struct comma_bytes file = { map.data, map.size };
        const int64_t start = comma_now_ns();
        int64_t middle;

        ok = comma_image_decode(file, &limits, true, 0, &image, err);
        width = image.width;
        height = image.height;
        comma_image_finish(&image);
        middle = comma_now_ns();
        ok = ok && comma_sandbox_decode(sandbox, file, &limits, true, 0, &image, err);
        comma_image_finish(&image);
        here[i] = comma_ms(middle - start);
        there[i] = comma_ms(comma_now_ns() - middle);
    }
    if (ok) {
        qsort(here, N_RUNS, sizeof(here[0]), by_value);
        qsort(there, N_RUNS, sizeof(there[0]), by_value);
        printf("%s: %zu x %zu, %zu bytes: in process %.3f ms, sandboxed %.3f ms, ratio %.2f\n", path, width, height,
               map.size, here[N_RUNS / 2], there[N_RUNS / 2], there[N_RUNS / 2] / here[N_RUNS / 2]);
    }
    comma_map_close(&map);
    return ok;
}

int main(int argc, char **argv)
{
    const struct comma_sandbox_options options = comma_sandbox_default_options();
    struct comma_sandbox *sandbox = NULL;
    struct comma_error err = { 0 };
    bool ok = comma_sandbox_open(&options, &sandbox, &err);

    for (int i = 1; ok && i < argc; i++)
        ok = time_file(sandbox, argv[i], &err);
    if (!ok)
        fprintf(stderr, "%s\n", err.message);
    comma_sandbox_close(sandbox);
    return ok ? 0 : 1;
}
