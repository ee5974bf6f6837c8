/* SPDX-License-Identifier: MIT */
/* metrics.c - see metrics.h. Names follow Prometheus' conventions: base units, _total for counters. */
#include "server/metrics.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { N_BUCKETS = 15, N_STATUSES = 23 };

static const double buckets[N_BUCKETS] = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                           0.25,   0.5,   1,      2.5,   5,    10,    30 };
static const unsigned statuses[N_STATUSES] = { 200, 204, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415,
                                               417, 422, 429, 431, 499, 500, 503, 504, 304, 206, 0 };

struct histogram {
    atomic_uint_fast64_t counts[N_BUCKETS + 1];
    atomic_uint_fast64_t sum_ns;
};

struct comma_metrics {
    time_t started;
    atomic_uint_fast64_t requests[COMMA_N_ROUTES + 1][N_STATUSES];
    atomic_uint_fast64_t problems[COMMA_N_PROBLEM_KINDS];
    struct histogram durations[COMMA_N_ROUTES + 1], stages[COMMA_N_STAGES];
    atomic_uint_fast64_t bytes_in, bytes_out, images, texts, connections, killed, reloads[2];
};

bool comma_metrics_create(struct comma_metrics **out, struct comma_error *err)
{
    struct comma_metrics *m = calloc(1, sizeof(*m)); /* all-zero is a valid atomic on every platform we build for */

    if (!m)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the metrics");
    m->started = time(NULL);
    *out = m;
    return true;
}

void comma_metrics_destroy(struct comma_metrics *m)
{
    free(m);
}

static void add(atomic_uint_fast64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t get(atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void observe(struct histogram *h, double seconds)
{
    size_t i = 0;

    if (!(seconds >= 0))
        seconds = 0;
    while (i < N_BUCKETS && seconds > buckets[i])
        i++;
    add(&h->counts[i], 1);
    add(&h->sum_ns, (uint64_t)(seconds * 1e9));
}

void comma_metrics_request(struct comma_metrics *m, unsigned route, unsigned status, double seconds, size_t bytes_in,
                           size_t bytes_out)
{
    size_t i = 0;

    while (i + 1 < N_STATUSES && statuses[i] != status)
        i++;
    add(&m->requests[route][i], 1);
    observe(&m->durations[route], seconds);
    add(&m->bytes_in, bytes_in);
    add(&m->bytes_out, bytes_out);
}

void comma_metrics_problem(struct comma_metrics *m, enum comma_problem_kind kind)
{
    add(&m->problems[kind], 1);
}

void comma_metrics_timing(struct comma_metrics *m, const struct comma_timing *timing, bool had_image, size_t n_texts)
{
    observe(&m->stages[COMMA_STAGE_QUEUE], timing->queue * 1e-3);
    if (had_image) {
        observe(&m->stages[COMMA_STAGE_DECODE], timing->decode * 1e-3);
        observe(&m->stages[COMMA_STAGE_IMAGE], timing->image * 1e-3);
        add(&m->images, 1);
    }
    if (n_texts > 0)
        observe(&m->stages[COMMA_STAGE_TEXT], timing->text * 1e-3);
    add(&m->texts, n_texts);
}

void comma_metrics_connection(struct comma_metrics *m, bool killed)
{
    add(killed ? &m->killed : &m->connections, 1);
}

void comma_metrics_reload(struct comma_metrics *m, bool ok)
{
    add(&m->reloads[ok], 1);
}

/* ---- writing ---- */

static void put(struct comma_buffer *out, const char *format, ...) COMMA_PRINTF(2, 3);

static void put(struct comma_buffer *out, const char *format, ...)
{
    char line[512];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n > 0)
        comma_buffer_put(out, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void head(struct comma_buffer *out, const char *name, const char *type, const char *help)
{
    put(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A family of one series without labels. */
static void one(struct comma_buffer *out, const char *name, const char *type, const char *help, double value)
{
    head(out, name, type, help);
    put(out, "%s %.17g\n", name, value);
}

static const char *route_name(size_t route)
{
    return route < COMMA_N_ROUTES ? comma_route_path((enum comma_route)route) : "other";
}

/* Series of a histogram that saw nothing are left out, so that a scrape stays small. */
static void write_histogram(struct comma_buffer *out, const char *name, const char *label, const char *value,
                            struct histogram *h)
{
    uint64_t total = 0, counts[N_BUCKETS + 1];

    for (size_t i = 0; i <= N_BUCKETS; i++)
        total += counts[i] = get(&h->counts[i]);
    if (total == 0)
        return;
    for (size_t i = 0, sum = 0; i < N_BUCKETS; i++) {
        sum += counts[i];
        put(out, "%s_bucket{%s=\"%s\",le=\"%g\"} %zu\n", name, label, value, buckets[i], sum);
    }
    put(out, "%s_bucket{%s=\"%s\",le=\"+Inf\"} %llu\n", name, label, value, (unsigned long long)total);
    put(out, "%s_sum{%s=\"%s\"} %.9f\n", name, label, value, (double)get(&h->sum_ns) * 1e-9);
    put(out, "%s_count{%s=\"%s\"} %llu\n", name, label, value, (unsigned long long)total);
}

static void write_requests(struct comma_metrics *m, struct comma_buffer *out)
{
    head(out, "comma_http_requests_total", "counter", "Requests by route and status.");
    for (size_t r = 0; r <= COMMA_N_ROUTES; r++)
        for (size_t s = 0; s < N_STATUSES; s++) {
            const uint64_t n = get(&m->requests[r][s]);

            if (n > 0)
                put(out, "comma_http_requests_total{route=\"%s\",code=\"%u\"} %llu\n", route_name(r), statuses[s],
                    (unsigned long long)n);
        }
    head(out, "comma_http_request_duration_seconds", "histogram", "Time from a request's head to its answer's end.");
    for (size_t r = 0; r <= COMMA_N_ROUTES; r++)
        write_histogram(out, "comma_http_request_duration_seconds", "route", route_name(r), &m->durations[r]);
    head(out, "comma_requests_rejected_total", "counter", "Requests answered with a problem, by its kind.");
    for (size_t i = 0; i < COMMA_N_PROBLEM_KINDS; i++)
        put(out, "comma_requests_rejected_total{reason=\"%s\"} %llu\n", comma_problem_slug((enum comma_problem_kind)i),
            (unsigned long long)get(&m->problems[i]));
    one(out, "comma_http_request_bytes_total", "counter", "Bytes of request bodies.", (double)get(&m->bytes_in));
    one(out, "comma_http_response_bytes_total", "counter", "Bytes of answers' bodies.", (double)get(&m->bytes_out));
    one(out, "comma_http_connections_accepted_total", "counter", "Connections accepted.", (double)get(&m->connections));
    one(out, "comma_http_connections_killed_total", "counter", "Connections ended for being too slow.",
        (double)get(&m->killed));
}

static void write_work(struct comma_metrics *m, struct comma_buffer *out)
{
    static const char *const names[COMMA_N_STAGES] = { "queue", "decode", "image", "text" };

    head(out, "comma_stage_duration_seconds", "histogram", "Time of each stage of a job.");
    for (size_t i = 0; i < COMMA_N_STAGES; i++)
        write_histogram(out, "comma_stage_duration_seconds", "stage", names[i], &m->stages[i]);
    one(out, "comma_images_total", "counter", "Pictures of jobs that ended well.", (double)get(&m->images));
    one(out, "comma_labels_total", "counter", "Labels and texts of jobs that ended well.", (double)get(&m->texts));
    head(out, "comma_reloads_total", "counter", "Reloads of adapters and keys.");
    put(out, "comma_reloads_total{result=\"ok\"} %llu\ncomma_reloads_total{result=\"failed\"} %llu\n",
        (unsigned long long)get(&m->reloads[1]), (unsigned long long)get(&m->reloads[0]));
}

/* A label's value: what Prometheus' text format escapes, escaped. */
static void put_value(struct comma_buffer *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            comma_buffer_put(out, "\\", 1);
        comma_buffer_put(out, (unsigned char)*s < 0x20 ? " " : s, 1);
    }
}

static void write_engine(const struct comma_gauges *g, struct comma_buffer *out)
{
    const struct comma_engine_stats *s = g->stats;

    one(out, "comma_queue_depth", "gauge", "Jobs that wait for a worker.", (double)s->queue_depth);
    one(out, "comma_jobs_running", "gauge", "Jobs that are being computed.", (double)s->jobs_running);
    one(out, "comma_oldest_job_seconds", "gauge", "Age of the job longest under way.",
        (double)s->oldest_running_ns * 1e-9);
    head(out, "comma_jobs_total", "counter", "Jobs of the engine by their end.");
    put(out, "comma_jobs_total{result=\"ok\"} %llu\ncomma_jobs_total{result=\"failed\"} %llu\n",
        (unsigned long long)s->jobs_done, (unsigned long long)s->jobs_failed);
    one(out, "comma_images_encoded_total", "counter", "Pictures through the image tower.", (double)s->images_encoded);
    one(out, "comma_image_batches_total", "counter", "Batches through the image tower.", (double)s->image_batches);
    one(out, "comma_texts_encoded_total", "counter", "Labels through the text tower.", (double)s->texts_encoded);
    one(out, "comma_text_tokens_encoded_total", "counter", "Their tokens.", (double)s->text_tokens_encoded);
    one(out, "comma_text_batches_total", "counter", "Batches through the text tower.", (double)s->text_batches);
    one(out, "comma_label_cache_hits_total", "counter", "Labels found in the cache.", (double)s->cache.hits);
    one(out, "comma_label_cache_misses_total", "counter", "Labels not found.", (double)s->cache.misses);
    one(out, "comma_label_cache_shared_total", "counter", "Labels that another request was computing.",
        (double)s->cache.shared);
    one(out, "comma_label_cache_list_hits_total", "counter", "Whole label lists found.", (double)s->cache.list_hits);
    one(out, "comma_label_cache_evictions_total", "counter", "Labels thrown out for room.", (double)s->cache.evictions);
    one(out, "comma_label_cache_bytes", "gauge", "Bytes in the label cache.", (double)s->cache.bytes);
    one(out, "comma_label_cache_max_bytes", "gauge", "Its limit.", (double)s->cache.max_bytes);
    one(out, "comma_label_cache_rows", "gauge", "Labels in it.", (double)s->cache.n_rows);
    one(out, "comma_adapters", "gauge", "Adapters that are served.", (double)g->n_adapters);
    head(out, "comma_model_info", "gauge", "What is served, as labels.");
    comma_buffer_puts(out, "comma_model_info{model=\"");
    put_value(out, g->info->name);
    put(out, "\",backend=\"%s\",precision=\"%s\",cpu=\"%s\",threads=\"%u\",dtype=\"%s\"} 1\n", g->info->backend,
        g->info->precision, g->info->cpu_level, g->info->n_threads, g->info->dtype);
    one(out, "comma_model_weights_bytes", "gauge", "Bytes of the weights as served.", (double)g->info->weights_bytes);
}

static void write_process(struct comma_metrics *m, struct comma_buffer *out)
{
    struct rusage usage;
    struct rlimit files;
    size_t pages = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    DIR *fds = opendir("/proc/self/fd");
    size_t n_fds = 0;

    if (getrusage(RUSAGE_SELF, &usage) == 0)
        one(out, "process_cpu_seconds_total", "counter", "User and system time.",
            (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6);
    if (statm && fscanf(statm, "%zu %zu", &pages, &resident) == 2) {
        const double page = (double)sysconf(_SC_PAGESIZE);

        one(out, "process_virtual_memory_bytes", "gauge", "Address space.", (double)pages * page);
        one(out, "process_resident_memory_bytes", "gauge", "Memory in use.", (double)resident * page);
    }
    if (statm)
        fclose(statm);
    if (fds) {
        while (readdir(fds))
            n_fds++;
        closedir(fds);
        one(out, "process_open_fds", "gauge", "Open descriptors.", n_fds > 3 ? (double)n_fds - 3 : 0);
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        one(out, "process_max_fds", "gauge", "Descriptors allowed.", (double)files.rlim_cur);
    one(out, "process_start_time_seconds", "gauge", "When the process started, Unix time.", (double)m->started);
}

void comma_metrics_write(struct comma_metrics *m, const struct comma_gauges *g, struct comma_buffer *out)
{
    write_requests(m, out);
    write_work(m, out);
    one(out, "comma_requests_in_flight", "gauge", "Requests in work or waiting.", g->places);
    one(out, "comma_requests_in_flight_max", "gauge", "How many may be.", g->max_places);
    one(out, "comma_request_memory_bytes", "gauge", "Memory reserved by requests.", (double)g->request_bytes);
    one(out, "comma_request_memory_max_bytes", "gauge", "How much may be.", (double)g->max_request_bytes);
    one(out, "comma_http_connections", "gauge", "Open connections.", g->connections);
    one(out, "comma_ready", "gauge", "1 if /readyz says so.", g->ready);
    one(out, "comma_log_dropped_total", "counter", "Log lines dropped since nobody read them.", (double)g->log_dropped);
    if (g->stats && g->info)
        write_engine(g, out);
    head(out, "comma_build_info", "gauge", "What was built, as labels.");
    put(out, "comma_build_info{version=\"%s\",compiler=\"%s\"} 1\n", COMMA_VERSION, __VERSION__);
    write_process(m, out);
}
