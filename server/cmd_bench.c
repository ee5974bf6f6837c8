/* SPDX-License-Identifier: MIT */
/* cmd_bench.c - comma bench: how fast this machine is with this model, and which share of its limit that is. */
#include <stdio.h>

#include "api/problem.h"
#include "engine/base/clock.h"
#include "server/bench.h"
#include "server/command.h"
#include "server/terminal.h"

/* Room for 100,000 cached labels of any model, as rows and as a list. */
#define LABEL_CACHE_BYTES ((size_t)4 << 30)

struct settings {
    struct comma_tool_settings tool;
    double seconds;
    bool json;
};

static const struct comma_option options[] = {
    COMMA_TOOL_MODEL_OPTION(struct settings),
    COMMA_TOOL_ADAPTER_OPTION(struct settings),
    { "seconds", 's', NULL, COMMA_NUMBER_FIELD(struct settings, seconds), "10", 0.1, 3600, "S",
      "about how long to measure" },
    { "json", 0, NULL, COMMA_FLAG_FIELD(struct settings, json), NULL, 0, 0, NULL, "one JSON object" },
    COMMA_TOOL_THREADS_OPTION(struct settings),
    COMMA_TOOL_BACKEND_OPTION(struct settings),
    COMMA_TOOL_PRECISION_OPTION(struct settings),
};

static const struct comma_option_table table = {
    "bench",
    "[option]...",
    "Measures images, labels and requests whose labels are cached, between measurements of the processor's own limit.",
    options,
    sizeof(options) / sizeof(*options),
    "Figures are medians of rounds. An image's GFLOP are nominal, every token of every layer: work that is saved "
    "shows\n"
    "in the share of the peak. A cached request is all but decoding and the image encoder. MB are 10^6 bytes; "
    "resident\n"
    "memory is before the cache is filled.",
};

static void print_json(const struct comma_tool *tool, double load_ms, const struct comma_bench *b)
{
    printf("{\"backend\":\"%s\",\"precision\":\"%s\",\"threads\":%u,\"peak_gflops\":%.2f,\"load_ms\":%.3f",
           tool->info.backend, tool->info.precision, tool->info.n_threads, b->peak_gflops, load_ms);
    printf(",\"image\":{\"gflop\":%.6f,\"lone_ms\":%.4f,\"per_s\":%.3f,\"share_of_peak\":%.4f}", tool->info.image_gflop,
           b->lone_ms, b->images_per_s, b->share_of_peak);
    printf(",\"text\":{\"tokens_per_label\":%zu,\"cold_labels_per_s\":%.2f,\"full_context_labels_per_s\":%.2f}",
           b->tokens_per_label, b->cold_labels_per_s, b->full_context_labels_per_s);
    printf(",\"cached\":{\"labels_10_ms\":%.4f,\"labels_1000_ms\":%.4f,\"labels_100000_ms\":%.4f}", b->cached_ms[0],
           b->cached_ms[1], b->cached_ms[2]);
    printf(",\"memory\":{\"weights_mb\":%.3f,\"resident_mb\":%.3f}}\n", b->weights_mb, b->resident_mb);
}

static void add_row(struct comma_table *rows, const char *what, double value, int decimals, const char *unit)
{
    comma_table_add(rows, "%s", what);
    comma_table_add(rows, "%.*f", decimals, value);
    comma_table_add(rows, "%s", unit);
}

static bool print_table(const struct comma_tool *tool, double load_ms, const struct comma_bench *b,
                        struct comma_error *err)
{
    struct comma_table rows = { .n_columns = 3, .right = 2 };

    printf("%s, %s %s, %u thread%s, %s, medians of %zu rounds\n", tool->model, tool->info.backend, tool->info.precision,
           tool->info.n_threads, tool->info.n_threads == 1 ? "" : "s", tool->info.cpu_level, b->n_rounds);
    add_row(&rows, "processor's peak", b->peak_gflops, 0, "GFLOP/s f32");
    add_row(&rows, "model loaded in", load_ms, 1, "ms");
    add_row(&rows, "image, nominal work", tool->info.image_gflop, 3, "GFLOP");
    add_row(&rows, "image, alone on all threads", b->lone_ms, 2, "ms");
    add_row(&rows, "images, all threads busy", b->images_per_s, 2, "/s");
    add_row(&rows, "share of the peak", 100 * b->share_of_peak, 1, "%");
    add_row(&rows, "new labels", b->cold_labels_per_s, 0, "/s");
    add_row(&rows, "labels computed in full context", b->full_context_labels_per_s, 0, "/s");
    for (size_t i = 0; i < COMMA_BENCH_N_CACHED; i++) {
        comma_table_add(&rows, "request of %zu cached labels", comma_bench_cached_labels[i]);
        comma_table_add(&rows, "%.3f", b->cached_ms[i]);
        comma_table_add(&rows, "ms beside the image");
    }
    add_row(&rows, "weights", b->weights_mb, 1, "MB");
    add_row(&rows, "resident memory", b->resident_mb, 1, "MB");
    return comma_table_print(&rows, 2, err);
}

static int bench(const struct settings *settings)
{
    struct comma_engine_options engine_options = comma_engine_default_options();
    const int64_t begin_ns = comma_now_ns();
    struct comma_tool tool = { 0 };
    struct comma_bench result;
    struct comma_error err = { 0 };
    double load_ms;
    bool failed = true;

    engine_options.label_cache_bytes = LABEL_CACHE_BYTES;
    if (!comma_tool_open(&settings->tool, engine_options, &tool, &err))
        goto out;
    load_ms = comma_ms(comma_now_ns() - begin_ns);
    if (!comma_bench_run(&tool, settings->seconds, &result, &err))
        goto out;
    failed = false;
    if (settings->json)
        print_json(&tool, load_ms, &result);
    else
        failed = !print_table(&tool, load_ms, &result, &err);
    (void)comma_stdout_flush(&failed);
out:
    if (err.code != COMMA_OK)
        comma_complain("%s", err.message);
    comma_tool_close(&tool);
    return failed ? 1 : 0;
}

int comma_command_bench(int argc, char **argv)
{
    struct settings settings;
    int status = comma_options_main(&table, argc, argv, &settings, sizeof(settings), NULL);

    if (status >= 0)
        return status;
    status = bench(&settings);
    comma_options_finish(&table, &settings);
    return status;
}
