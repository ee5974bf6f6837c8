/* SPDX-License-Identifier: MIT */
/* images.c - what a picture costs before it is encoded: decoded in this process, resized to a square and made floats,
 * against decoded and resized in a confined child; whole and by fast_decode; medians in milliseconds on one thread,
 * turn by turn. Behind that, how many levels fast_decode moves the square's bytes: mean and largest.
 *
 *   bench_images [--size PX] FILE...        make_photos.py makes some */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/map.h"
#include "engine/preprocess.h"
#include "server/sandbox.h"

enum { MAX_RUNS = 101, BUDGET_MS = 4000 };

enum step { DECODE, SANDBOX, RESIZE, NORMALISE, FAST_DECODE, FAST_SANDBOX, FAST_RESIZE, N_STEPS };

struct run {
    struct comma_sandbox *sandbox;
    struct comma_bytes file;
    size_t size_px, width, height, fast_width, fast_height;
    unsigned char *square[2]; /* whole, fast */
    float *floats;
    double ms[N_STEPS][MAX_RUNS];
    size_t n;
};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(struct run *r, enum step step)
{
    qsort(r->ms[step], r->n, sizeof(double), by_value);
    return r->ms[step][r->n / 2];
}

/* Decodes in both places and resizes; times go to three steps from `first` on. */
static bool decode(struct run *r, bool fast, enum step in_process, enum step sandboxed, enum step resize,
                   struct comma_error *err)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    const size_t min_side = fast ? 2 * r->size_px : 0; /* as the engine asks for */
    const float mean[3] = { 0.5f, 0.5f, 0.5f }, std[3] = { 0.25f, 0.25f, 0.25f };
    struct comma_image image = { 0 };
    int64_t t = comma_now_ns();
    bool ok = comma_sandbox_decode(r->sandbox, r->file, &limits, true, min_side, r->size_px, &image, err);

    r->ms[sandboxed][r->n] = comma_ms(comma_now_ns() - t);
    comma_image_finish(&image);
    t = comma_now_ns();
    ok = ok && comma_image_decode(r->file, &limits, true, min_side, &image, err);
    r->ms[in_process][r->n] = comma_ms(comma_now_ns() - t);
    *(fast ? &r->fast_width : &r->width) = image.width;
    *(fast ? &r->fast_height : &r->height) = image.height;
    t = comma_now_ns();
    ok = ok && comma_preprocess_square(&image, r->size_px, r->square[fast], err);
    r->ms[resize][r->n] = comma_ms(comma_now_ns() - t);
    comma_image_finish(&image);
    t = comma_now_ns();
    comma_preprocess_normalise(r->square[fast], r->size_px, mean, std, r->floats);
    r->ms[NORMALISE][r->n] = comma_ms(comma_now_ns() - t);
    return ok;
}

static void print(struct run *r, const char *path)
{
    const size_t n = 3 * r->size_px * r->size_px;
    double sum = 0;
    int largest = 0;

    for (size_t i = 0; i < n; i++) {
        const int difference = abs(r->square[0][i] - r->square[1][i]);

        sum += difference;
        largest = difference > largest ? difference : largest;
    }
    printf("%s: %zu x %zu, %.2f MB, %zu runs\n", path, r->width, r->height, (double)r->file.size * 1e-6, r->n);
    printf("  whole  decode %7.2f  resize %6.2f  both sandboxed %7.2f  normalise %5.2f\n", median(r, DECODE),
           median(r, RESIZE), median(r, SANDBOX), median(r, NORMALISE));
    printf(
        "  fast   decode %7.2f  resize %6.2f  both sandboxed %7.2f  of %zu x %zu; levels off: mean %.2f, largest %d\n",
        median(r, FAST_DECODE), median(r, FAST_RESIZE), median(r, FAST_SANDBOX), r->fast_width, r->fast_height,
        sum / (double)n, largest);
}

static bool time_file(struct run *r, const char *path, struct comma_error *err)
{
    struct comma_map map = { 0 };
    const int64_t begin = comma_now_ns();
    bool ok = comma_map_open(&map, path, err);

    r->file = (struct comma_bytes){ map.data, map.size };
    for (r->n = 0; ok && r->n < MAX_RUNS && (r->n < 3 || comma_ms(comma_now_ns() - begin) < BUDGET_MS); r->n++)
        ok = decode(r, false, DECODE, SANDBOX, RESIZE, err) &&
             decode(r, true, FAST_DECODE, FAST_SANDBOX, FAST_RESIZE, err);
    if (ok)
        print(r, path);
    comma_map_close(&map);
    return ok;
}

int main(int argc, char **argv)
{
    struct comma_sandbox_options options = comma_sandbox_default_options();
    struct run *r = calloc(1, sizeof(*r));
    struct comma_error err = { 0 };
    int i = 1;
    bool ok;

    if (!r)
        return 1;
    r->size_px = 224;
    if (argc > 2 && strcmp(argv[1], "--size") == 0) {
        r->size_px = strtoul(argv[2], NULL, 10);
        i = 3;
    }
    r->square[0] = malloc(3 * r->size_px * r->size_px);
    r->square[1] = malloc(3 * r->size_px * r->size_px);
    r->floats = malloc(3 * r->size_px * r->size_px * sizeof(float));
    ok = r->square[0] && r->square[1] && r->floats && comma_sandbox_open(&options, &r->sandbox, &err);
    for (; ok && i < argc; i++)
        ok = time_file(r, argv[i], &err);
    if (!ok)
        fprintf(stderr, "%s\n", err.message);
    comma_sandbox_close(r->sandbox);
    free(r->square[0]);
    free(r->square[1]);
    free(r->floats);
    free(r);
    return ok ? 0 : 1;
}
