/* SPDX-License-Identifier: MIT */
/* bench.h - what comma bench measures, apart from how it is asked for and shown (cmd_bench.c). */
#ifndef COMMA_SERVER_BENCH_H
#define COMMA_SERVER_BENCH_H

#include "server/tool.h"

enum { COMMA_BENCH_N_CACHED = 3 };

/* Label counts of the cached requests. */
extern const size_t comma_bench_cached_labels[COMMA_BENCH_N_CACHED];

/* Medians over the rounds of one run. MB are 10^6 bytes. */
struct comma_bench {
    double peak_gflops; /* of f32 multiply-adds, on the same threads, between the other measurements */
    double lone_ms;     /* an image split over all threads */
    double images_per_s;
    double share_of_peak; /* nominal GFLOP of the images per second, of the peak */
    size_t tokens_per_label;
    double cold_labels_per_s, full_context_labels_per_s;
    double cached_ms[COMMA_BENCH_N_CACHED]; /* a request of labels seen before, without decoding and image encoder */
    double weights_mb, resident_mb;         /* resident: before the label cache is filled */
    size_t n_rounds;
};

/* Measures for about `seconds`; at least one round, however long that takes. A progress bar on a terminal. */
COMMA_MUST_CHECK
bool comma_bench_run(const struct comma_tool *tool, double seconds, struct comma_bench *out, struct comma_error *err);

#endif
