/* SPDX-License-Identifier: MIT */
/* cmd_serve.c - comma serve: puts the parts of the server together, in the order in which they need each other, and
 * takes them apart again.
 *
 * The listeners open first, so that a taken port is an error at once and probes are answered while a large model is
 * loaded; requests are taken once the self-test has passed. Where the socket is shared with a process that serves
 * already (LISTEN_FDS, --reuse-port), the main listener opens last. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/base/cpu.h"
#include "server/budget.h"
#include "server/command.h"
#include "server/listen.h"
#include "server/process.h"

enum { SPARE_FILES = 256, MAX_PEM_BYTES = 1 << 20, ADMIN_CONNECTIONS = 256 };
enum { MAX_HEAPS = 4, MAPPED_BYTES = 256 << 10 };

static int64_t ns(double seconds)
{
    return (int64_t)(seconds * 1e9);
}

/* The whole of a small text file, NUL-terminated; NULL on failure. */
static char *read_text(const char *path, struct comma_error *err)
{
    FILE *file = fopen(path, "re");
    char *text = file ? malloc(MAX_PEM_BYTES + 1) : NULL;
    size_t n;

    if (!text) {
        comma_fail(err, COMMA_E_IO, "%s: %s", path, strerror(errno));
    } else {
        n = fread(text, 1, MAX_PEM_BYTES, file);
        text[n] = '\0';
    }
    if (file)
        fclose(file);
    return text;
}

/* Raises the limit of descriptors as far as it goes; connections that it does not allow are not promised. */
static unsigned allowed_connections(struct comma_process *p)
{
    const unsigned wanted = p->config->max_connections;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return wanted;
    if (files.rlim_cur < wanted + SPARE_FILES) {
        files.rlim_cur = files.rlim_max < wanted + SPARE_FILES ? files.rlim_max : wanted + SPARE_FILES;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0)
            return wanted;
    }
    if (files.rlim_cur >= wanted + SPARE_FILES)
        return wanted;
    comma_log_event(p->log, COMMA_LOG_WARN, "few_descriptors", "the limit of %llu open files lowers --max-connections",
                    (unsigned long long)files.rlim_cur);
    return files.rlim_cur > 2 * SPARE_FILES ? (unsigned)files.rlim_cur - SPARE_FILES : (unsigned)files.rlim_cur / 2 + 1;
}

static void on_killed(void *metrics)
{
    comma_metrics_connection(metrics, true);
}

/* Starts a listener: on `inherited` if that is a socket, else on host and port. */
static bool start_listener(struct comma_process *p, unsigned listener, int inherited, struct comma_http **out,
                           struct comma_error *err)
{
    const struct comma_serve_config *c = p->config;
    const bool admin = listener == COMMA_LISTENER_ADMIN;
    char *cert = NULL, *key = NULL;
    struct comma_http_options o = { .service = p->service,
                                    .listener = listener,
                                    .socket = inherited,
                                    .keep_socket = inherited >= 0,
                                    .max_connections = admin ? ADMIN_CONNECTIONS : allowed_connections(p),
                                    .max_connections_per_address = admin ? 0 : c->max_connections_per_address,
                                    .watch = { .head_ns = ns(c->header_timeout),
                                               .body_ns = ns(c->body_timeout),
                                               .idle_ns = ns(c->keep_alive_timeout),
                                               .min_rate = c->min_upload_rate,
                                               .killed = on_killed,
                                               .user = p->metrics } };
    char url[128];
    unsigned port = c->port;
    bool ok = false;

    if (admin)
        comma_serve_admin_port(c, &port);
    if (inherited < 0 && !comma_listen(admin ? c->admin_host : c->host, port, c->reuse_port && !admin, &o.socket, err))
        return false;
    if (!admin && c->tls_cert) {
        cert = read_text(c->tls_cert, err);
        key = cert ? read_text(c->tls_key, err) : NULL;
        if (!key) {
            close(o.socket);
            goto out;
        }
        o.tls_cert = cert;
        o.tls_key = key;
    }
    comma_listen_url(o.socket, cert != NULL, url, sizeof(url));
    if (!comma_http_start(&o, out, err))
        goto out;
    if (admin)
        comma_log_event(p->log, COMMA_LOG_INFO, "admin_listening", "%s", url);
    else
        snprintf(p->ready_line, sizeof(p->ready_line), "listening on %s", url);
    ok = true;
out:
    free(cert);
    free(key);
    return ok;
}

static bool start_service(struct comma_process *p, struct comma_error *err)
{
    const struct comma_serve_config *c = p->config;
    struct comma_service_options o = { .limits = comma_api_default_limits(),
                                       .log = p->log,
                                       .max_places = c->max_queue,
                                       .request_timeout_ns = ns(c->request_timeout),
                                       .watchdog_ns = ns(c->watchdog_timeout),
                                       .raw_orientation = c->no_auto_orient,
                                       .access_log = !c->no_access_log,
                                       .admin_open = comma_host_is_loopback(c->admin_host) && !c->api_keys_file,
                                       .reload = comma_lifecycle_ask_reload,
                                       .reload_user = p };
    struct comma_keys *keys = NULL;

    o.limits.max_body_bytes = c->max_body_mb << 20;
    o.limits.max_labels = c->max_labels;
    o.limits.max_timeout_ms = (unsigned)(c->request_timeout * 1000);
    if (!comma_metrics_create(&p->metrics, err) || !comma_admission_create(c->max_queue, 0, &p->admission, err))
        return false;
    o.metrics = p->metrics;
    o.admission = p->admission;
    if (!comma_service_create(&o, &p->service, err))
        return false;
    if (c->api_keys_file && !comma_keys_load(c->api_keys_file, &keys, err))
        return false;
    comma_service_set_keys(p->service, keys);
    comma_keys_unref(keys);
    return true;
}

static bool start_main(struct comma_process *p, int n_inherited, struct comma_error *err)
{
    return start_listener(p, COMMA_LISTENER_MAIN, n_inherited > 0 ? 3 : -1, &p->http, err);
}

static bool start_admin(struct comma_process *p, int n_inherited, struct comma_error *err)
{
    unsigned port;

    return (n_inherited < 2 && !comma_serve_admin_port(p->config, &port)) ||
           start_listener(p, COMMA_LISTENER_ADMIN, n_inherited > 1 ? 4 : -1, &p->admin, err);
}

static bool start_engine(struct comma_process *p, struct comma_engine_options *o, struct comma_error *err)
{
    const struct comma_serve_config *c = p->config;
    struct comma_engine_info info;
    size_t request_bytes;

    if (!comma_engine_open(o, &p->engine, err))
        return false;
    comma_engine_get_info(p->engine, &info);
    if (!info.has_tokenizer)
        return comma_fail(err, COMMA_E_MODEL,
                          "%s: the model has no tokenizer; vocab.json and merges.txt, or "
                          "tokenizer.json, are missing",
                          c->model ? c->model : "embedded model");
    if (!comma_adapter_set_create(&c->adapters, c->adapters_dir, c->model, &p->adapters, err) ||
        !comma_adapter_set_open(p->adapters, p->engine, p->log, err) || !comma_self_test(p->engine, err) ||
        !comma_budget_request_bytes(c, o, p->engine, &request_bytes, err))
        return false;
    comma_admission_set_max_bytes(p->admission, request_bytes);
    comma_log_event(p->log, COMMA_LOG_INFO, "ready", "%s on %u threads, %s %s, %zu MiB for requests", info.name,
                    info.n_threads, info.backend, info.precision, request_bytes >> 20);
    return true;
}

static struct comma_engine_options engine_options(const struct comma_serve_config *c)
{
    struct comma_engine_options o = comma_engine_default_options();

    o.model_dir = c->model;
    o.no_own_adapters = true; /* of a directory: server/adapters.c opens them, and looks again at a reload */
    o.backend = c->backend;
    o.precision = c->precision;
    o.n_threads = c->threads;
    o.label_cache_bytes = c->label_cache_mb << 20;
    o.max_queue = c->max_queue;
    o.image.max_pixels = c->max_megapixels * 1000000;
    o.image.max_decode_bytes =
        comma_budget_decode_bytes(c, o.image.max_decode_bytes, c->threads ? c->threads : comma_cpu_count());
    o.fast_decode = c->fast_decode;
    return o;
}

/* Starts the decoders' processes, which must be before this one has threads. With "auto" a kernel that cannot confine a
 * process is no error: *warning then says so. */
static bool start_sandbox(struct comma_process *p, struct comma_engine_options *o, struct comma_error *warning,
                          struct comma_error *err)
{
    struct comma_sandbox_options s = comma_sandbox_default_options();

    if (strcmp(p->config->decoder_sandbox, "off") == 0)
        return true;
    s.n_children = o->n_threads;
    s.max_file_bytes = p->config->max_body_mb << 20;
    s.limits = o->image;
    if (comma_sandbox_open(&s, &p->sandbox, err)) {
        o->decode = comma_sandbox_decode;
        o->decode_user = p->sandbox;
        return true;
    }
    if (strcmp(p->config->decoder_sandbox, "on") == 0)
        return comma_fail_within(err, "--decoder-sandbox on");
    *warning = *err;
    return true;
}

/* What requests gave back goes back to the system, or memory would stay at the height of the worst moment: buffers of
 * more than some pages are mapped by themselves, and the rest comes from few heaps. */
static void keep_heaps_small(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, MAX_HEAPS);
    mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES);
    mallopt(M_TRIM_THRESHOLD, MAPPED_BYTES);
#endif
}

/* Runs the server; true if it ended well. */
static bool serve(struct comma_process *p, struct comma_error *err)
{
    struct comma_engine_options options = engine_options(p->config);
    struct comma_error warning = { COMMA_OK, "" };
    const int n_inherited = comma_listen_inherited();
    /* A socket that others serve, too, is left to them until this process is ready. */
    const bool shared = n_inherited > 0 || p->config->reuse_port;
    bool clean = true;

    keep_heaps_small();
    if (!comma_lifecycle_init(p, err) || !start_sandbox(p, &options, &warning, err) ||
        !comma_log_create(STDERR_FILENO, comma_log_level_of(p->config->log_level), &p->log, err))
        return false;
    if (warning.code != COMMA_OK)
        comma_log_event(p->log, COMMA_LOG_WARN, "no_sandbox", "pictures are decoded in this process: %s",
                        warning.message);
    if (p->config->tls_cert && !comma_http_has_tls())
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "this build's libmicrohttpd has no TLS; terminate it before the server");
    if (!start_service(p, err) || (!shared && !start_main(p, n_inherited, err)) || !start_admin(p, n_inherited, err) ||
        !start_engine(p, &options, err))
        return false;
    comma_service_set_engine(p->service, p->engine);
    comma_service_set_state(p->service, COMMA_READY);
    if (shared && !start_main(p, n_inherited, err))
        return false;
    comma_log_plain(p->log, p->ready_line);
    comma_lifecycle_run(p, &clean);
    if (!clean) {
        /* A worker is stuck: waiting for it would be for ever, and what it holds goes with the process. */
        comma_log_event(p->log, COMMA_LOG_ERROR, "unclean_end", "a job does not end; leaving it");
        comma_log_destroy(p->log);
        _exit(0);
    }
    comma_log_event(p->log, COMMA_LOG_INFO, "ended", "all accepted requests were answered");
    return true;
}

static void finish(struct comma_process *p)
{
    comma_http_stop(p->http);
    comma_http_stop(p->admin);
    /* The engine's threads first: the one that ended the last job may still be giving back what belongs to the service.
     */
    comma_engine_close(p->engine);
    comma_service_destroy(p->service);
    comma_sandbox_close(p->sandbox);
    comma_adapter_set_destroy(p->adapters);
    comma_admission_destroy(p->admission);
    comma_metrics_destroy(p->metrics);
    comma_log_destroy(p->log);
    if (p->signals > 0)
        close(p->signals);
    if (p->reload > 0)
        close(p->reload);
}

int comma_command_serve(int argc, char **argv)
{
    struct comma_serve_config config;
    struct comma_process process = { .config = &config };
    struct comma_error err = { 0 };
    int status = comma_options_main(&comma_serve_options, argc, argv, &config, sizeof(config), NULL);

    if (status >= 0)
        return status;
    if (!comma_serve_config_check(&config, &err)) {
        fprintf(stderr, "comma serve: %s\n", err.message);
        status = 2;
    } else if (serve(&process, &err)) {
        finish(&process);
        status = 0;
    } else {
        finish(&process); /* first, so that the log's lines stand before it */
        fprintf(stderr, "comma serve: %s\n", err.message);
        status = 1;
    }
    comma_options_finish(&comma_serve_options, &config);
    return status;
}
