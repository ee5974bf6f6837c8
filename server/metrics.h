/* SPDX-License-Identifier: MIT */
/* metrics.h - what the server counts, and the Prometheus text of it.
 *
 * Counters are atomics with relaxed order: each is true by itself, and a scrape may fall between two of them. Series
 * are fixed when the process is built: no label's value ever comes from a client. Any thread. */
#ifndef COMMA_SERVER_METRICS_H
#define COMMA_SERVER_METRICS_H

#include "api/buffer.h"
#include "api/problem.h"
#include "api/routes.h"
#include "engine/comma.h"

struct comma_metrics;

enum comma_stage { COMMA_STAGE_QUEUE, COMMA_STAGE_DECODE, COMMA_STAGE_IMAGE, COMMA_STAGE_TEXT, COMMA_N_STAGES };

/* What is asked of others at the moment of a scrape. */
struct comma_gauges {
    unsigned places, max_places; /* requests in work or waiting */
    size_t request_bytes, max_request_bytes;
    unsigned connections;
    bool ready;
    uint64_t log_dropped;
    const struct comma_engine_info *info;   /* NULL before the model is there, stats too */
    const struct comma_engine_stats *stats; /* NULL */
    size_t n_adapters;
};

COMMA_MUST_CHECK
bool comma_metrics_create(struct comma_metrics **out, struct comma_error *err);
void comma_metrics_destroy(struct comma_metrics *m); /* NULL is fine */

/* One request came to its end.
 *   route    COMMA_N_ROUTES: none of the table's
 *   status   499: the client left */
void comma_metrics_request(struct comma_metrics *m, unsigned route, unsigned status, double seconds, size_t bytes_in,
                           size_t bytes_out);

/* A problem was answered: its kind is the reason. */
void comma_metrics_problem(struct comma_metrics *m, enum comma_problem_kind kind);
void comma_metrics_timing(struct comma_metrics *m, const struct comma_timing *timing, bool had_image, size_t n_texts);
void comma_metrics_connection(struct comma_metrics *m, bool killed); /* accepted, or ended for being too slow */
void comma_metrics_reload(struct comma_metrics *m, bool ok);

void comma_metrics_write(struct comma_metrics *m, const struct comma_gauges *gauges, struct comma_buffer *out);

#endif
