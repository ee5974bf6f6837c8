/* SPDX-License-Identifier: MIT */
/* bench.c - see bench.h.
 *
 * A shared machine is faster now and slower a second later. So each round measures everything once, the processor's
 * peak too, and each figure is the median of the rounds: what is compared was measured under the same weather. */
#include "server/bench.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "server/terminal.h"

#define ROUNDS           5 /* planned; more where the first ones were quick */
#define MAX_ROUNDS       100
#define TOKENS_PER_LABEL 3   /* own ones, behind the shared prefix: "cat", "." and EOT */
#define CACHED_SHARE     0.2 /* of the time, for the cached requests */
#define MIN_CACHED_RUNS  3

const size_t comma_bench_cached_labels[COMMA_BENCH_N_CACHED] = { 10, 1000, 100000 };

/* A picture of one pixel, the cheapest there is: PNG, 8-bit RGB. */
static const unsigned char tiny_png[] = { 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d,
                                          0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01,
                                          0x08, 0x02, 0x00, 0x00, 0x00, 0x90, 0x77, 0x53, 0xde, 0x00, 0x00, 0x00,
                                          0x0c, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x68, 0x70, 0x50, 0x00,
                                          0x00, 0x02, 0x24, 0x00, 0xe1, 0x95, 0xa4, 0xb1, 0x8b, 0x00, 0x00, 0x00,
                                          0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82 };

enum kind { PEAK, LONE, IMAGES, COLD_LABELS, FULL_LABELS, N_KINDS };

struct samples {
    double values[2 * MAX_ROUNDS];
    size_t n;
};

struct measurement {
    const struct comma_tool *tool;
    double slot_s;                 /* time for one kind in one round */
    size_t n[N_KINDS];             /* images or labels of one run of it */
    struct samples rates[N_KINDS]; /* GFLOP/s, images/s, labels/s */
};

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(struct samples *s)
{
    qsort(s->values, s->n, sizeof(*s->values), compare);
    return s->n == 0 ? 0 : (s->values[(s->n - 1) / 2] + s->values[s->n / 2]) / 2;
}

static void add_sample(struct samples *s, double value)
{
    if (s->n < 2 * MAX_ROUNDS)
        s->values[s->n++] = value;
}

/* Runs n of a kind and says how many a second. */
static bool measure(const struct comma_tool *tool, enum kind kind, size_t n, double *rate, struct comma_error *err)
{
    double seconds = 0;
    bool ok = true;

    switch (kind) {
    case LONE:
    case IMAGES:
        ok = comma_engine_time_images(tool->engine, tool->adapter, n, kind == LONE, &seconds, err);
        break;
    default:
        ok = comma_engine_time_labels(tool->engine, tool->adapter, n, TOKENS_PER_LABEL, kind == FULL_LABELS, &seconds,
                                      err);
        break;
    }
    *rate = seconds > 0 ? (double)n / seconds : 0;
    return ok;
}

/* Chooses how many of each kind fill a slot. The first runs also touch all memory for the first time. */
static bool calibrate(struct measurement *m, struct comma_error *err)
{
    const size_t n_threads = m->tool->info.n_threads;

    for (enum kind kind = LONE; kind < N_KINDS; kind++) {
        const size_t unit = kind == LONE ? 1 : n_threads; /* every thread gets the same share */
        double rate, units;

        if (!measure(m->tool, kind, unit, &rate, err))
            return false;
        if (rate * m->slot_s > (double)unit &&
            !measure(m->tool, kind, unit, &rate, err)) /* warm, where that is cheap */
            return false;
        units = m->slot_s * rate / (double)unit;
        m->n[kind] = unit * (units > 1e5 ? 100000 : units > 1 ? (size_t)units : 1);
        comma_progress_show("warming up", (size_t)kind, N_KINDS);
    }
    return true;
}

static bool measure_peak(struct measurement *m, struct comma_error *err)
{
    const double peak = comma_measure_peak_gflops(m->tool->info.n_threads, m->slot_s / 2);

    if (peak <= 0)
        return comma_fail(err, COMMA_E_NOMEM, "no threads could be started to measure the processor's peak");
    add_sample(&m->rates[PEAK], peak);
    return true;
}

/* The peak is measured on both sides of the images, which are held against it. */
static bool run_rounds(struct measurement *m, double seconds, struct comma_error *err)
{
    const int64_t end_ns = comma_now_ns() + (int64_t)(seconds * 1e9);
    size_t round = 0;

    do {
        for (enum kind kind = LONE; kind < N_KINDS; kind++) {
            double rate;

            if (kind == IMAGES && !measure_peak(m, err))
                return false;
            if (!measure(m->tool, kind, m->n[kind], &rate, err))
                return false;
            add_sample(&m->rates[kind], rate);
            if (kind == IMAGES && !measure_peak(m, err))
                return false;
            comma_progress_show("measuring", round * N_KINDS + kind, (round < ROUNDS ? ROUNDS : round + 1) * N_KINDS);
        }
    } while (++round < MAX_ROUNDS && comma_now_ns() < end_ns);
    return true;
}

/* ---- requests whose labels are all in the cache ---- */

struct labels {
    struct comma_text *texts;
    char *names;
    size_t n;
};

enum { NAME_BYTES = 24 };

static bool make_labels(struct labels *labels, size_t n, struct comma_error *err)
{
    *labels = (struct labels){ calloc(n, sizeof(*labels->texts)), calloc(n, NAME_BYTES), n };
    if (!labels->texts || !labels->names)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu labels", n);
    for (size_t i = 0; i < n; i++) {
        char *name = labels->names + i * NAME_BYTES;

        labels->texts[i] = (struct comma_text){ name, (size_t)snprintf(name, NAME_BYTES, "label %zu", i) };
    }
    return true;
}

/* Milliseconds of one request but for decoding and the image encoder. */
static bool run_cached(const struct comma_tool *tool, const struct labels *labels, size_t n, double *ms,
                       struct comma_error *err)
{
    struct comma_job job = { .kind = COMMA_JOB_CLASSIFY,
                             .adapter = tool->adapter,
                             .image = { tiny_png, sizeof(tiny_png) },
                             .texts = labels->texts,
                             .n_texts = n };
    const bool ok = comma_engine_run(tool->engine, &job);

    if (ok)
        *ms = job.timing.total - job.timing.decode - job.timing.image;
    else
        *err = job.error;
    comma_job_finish(&job);
    return ok;
}

static bool measure_cached(const struct comma_tool *tool, double seconds, double *out, struct comma_error *err)
{
    struct labels labels;
    bool ok = false;

    if (!make_labels(&labels, comma_bench_cached_labels[COMMA_BENCH_N_CACHED - 1], err) ||
        !comma_engine_fill_cache(tool->engine, tool->adapter, labels.texts, labels.n, err))
        goto out;
    for (size_t i = 0; i < COMMA_BENCH_N_CACHED; i++) {
        const size_t n = comma_bench_cached_labels[i];
        const int64_t end_ns = comma_now_ns() + (int64_t)(seconds / COMMA_BENCH_N_CACHED * 1e9);
        struct samples ms = { 0 };
        double one;

        if (!run_cached(tool, &labels, n, &one, err)) /* the first one makes the list */
            goto out;
        do {
            if (!run_cached(tool, &labels, n, &one, err))
                goto out;
            add_sample(&ms, one);
            comma_progress_show("cached requests", i, COMMA_BENCH_N_CACHED);
        } while (ms.n < MIN_CACHED_RUNS || (ms.n < MAX_ROUNDS && comma_now_ns() < end_ns));
        out[i] = median(&ms);
    }
    ok = true;
out:
    free(labels.texts);
    free(labels.names);
    return ok;
}

/* Resident memory of this process; 0 where /proc does not tell. */
static double resident_mb(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long total, resident = 0;

    if (f && fscanf(f, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) * 1e-6;
}

bool comma_bench_run(const struct comma_tool *tool, double seconds, struct comma_bench *out, struct comma_error *err)
{
    const double rounds_s = seconds * (1 - CACHED_SHARE);
    struct measurement *m = calloc(1, sizeof(*m));
    struct comma_bench result = { .tokens_per_label = TOKENS_PER_LABEL };
    double lone_per_s;
    bool ok = false;

    if (!m) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the measurements");
        goto out;
    }
    m->tool = tool;
    m->slot_s = rounds_s / (ROUNDS * N_KINDS);
    if (!calibrate(m, err) || !run_rounds(m, rounds_s, err))
        goto out;
    result.n_rounds = m->rates[LONE].n;
    result.peak_gflops = median(&m->rates[PEAK]);
    lone_per_s = median(&m->rates[LONE]);
    result.lone_ms = lone_per_s > 0 ? 1e3 / lone_per_s : 0;
    result.images_per_s = median(&m->rates[IMAGES]);
    result.share_of_peak = tool->info.image_gflop * result.images_per_s / result.peak_gflops;
    result.cold_labels_per_s = median(&m->rates[COLD_LABELS]);
    result.full_context_labels_per_s = median(&m->rates[FULL_LABELS]);
    result.weights_mb = (double)tool->info.weights_bytes * 1e-6;
    result.resident_mb = resident_mb();
    ok = measure_cached(tool, seconds * CACHED_SHARE, result.cached_ms, err);
out:
    comma_progress_clear();
    if (ok)
        *out = result;
    free(m);
    return ok;
}
