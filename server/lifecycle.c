/* SPDX-License-Identifier: MIT */
/* lifecycle.c - see process.h: the main thread, which waits for signals.
 *
 * SIGTERM: /readyz says 503 at once while requests are still taken, so that load balancers turn away; after
 * --drain-delay the listener closes and what was accepted is finished. SIGINT is the same without the delay. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "server/process.h"

enum { POLL_MS = 20, SETTLE_MS = 60 };

bool comma_lifecycle_init(struct comma_process *p, struct comma_error *err)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    p->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    p->reload = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->signals < 0 || p->reload < 0)
        return comma_fail(err, COMMA_E_IO, "signals cannot be waited for: out of descriptors");
    return true;
}

void comma_lifecycle_ask_reload(void *process)
{
    const struct comma_process *p = process;
    const uint64_t one = 1;

    if (write(p->reload, &one, sizeof(one)) < 0)
        comma_log_event(p->log, COMMA_LOG_WARN, "reload_pending", "a reload is asked for already");
}

/* The next signal within wait_ms (-1: however long), 0 if none came. A reload that was asked for counts as SIGHUP. */
static int next_signal(struct comma_process *p, int wait_ms)
{
    struct pollfd fds[] = { { .fd = p->signals, .events = POLLIN }, { .fd = p->reload, .events = POLLIN } };
    struct signalfd_siginfo info;
    uint64_t n;

    if (poll(fds, 2, wait_ms) <= 0)
        return 0;
    if (read(p->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        return (int)info.ssi_signo;
    return read(p->reload, &n, sizeof(n)) == (ssize_t)sizeof(n) ? SIGHUP : 0;
}

static void reload(struct comma_process *p)
{
    struct comma_keys *keys = NULL;
    struct comma_error err = { 0 };
    bool ok = comma_adapter_set_reload(p->adapters, p->engine, p->log);

    if (p->config->api_keys_file) {
        if (comma_keys_load(p->config->api_keys_file, &keys, &err)) {
            comma_service_set_keys(p->service, keys);
        } else {
            comma_log_event(p->log, COMMA_LOG_ERROR, "reload_failed", "%s; the keys stay as they were", err.message);
            ok = false;
        }
        comma_keys_unref(keys);
    }
    comma_metrics_reload(p->metrics, ok);
    comma_log_event(p->log, COMMA_LOG_INFO, "reloaded", "%s", ok ? "all is well" : "with errors");
}

/* Waits, doing what signals ask for. False when a second signal to end came: the process is then to end now. */
static bool wait_until(struct comma_process *p, int64_t until_ns)
{
    while (comma_now_ns() < until_ns) {
        const int signal = next_signal(p, POLL_MS);

        if (signal == SIGTERM || signal == SIGINT) {
            comma_log_event(p->log, COMMA_LOG_WARN, "killed", "a second signal: ending now");
            comma_log_destroy(p->log);
            _exit(128 + signal);
        }
    }
    return true;
}

/* Waits for accepted requests. True if there is none left. */
static bool finish_requests(struct comma_process *p, int64_t until_ns)
{
    int64_t quiet_since = 0;

    for (;;) {
        const int64_t now = comma_now_ns();

        if (comma_service_in_flight(p->service) > 0) {
            quiet_since = 0;
        } else if (!quiet_since) {
            quiet_since = now;
            comma_http_close_idle(p->http);
        } else if (now - quiet_since > SETTLE_MS * 1000000) {
            return true; /* a request that was on its way when idle connections closed has come in, too */
        }
        if (now > until_ns)
            return false;
        wait_until(p, now + POLL_MS * 1000000);
    }
}

static void drain(struct comma_process *p, int signal, bool *clean)
{
    const int64_t start = comma_now_ns();
    const int64_t last = start + (int64_t)(p->config->drain_timeout * 1e9);
    const double delay = signal == SIGTERM ? p->config->drain_delay : 0;

    comma_service_set_state(p->service, COMMA_DRAINING);
    comma_log_event(p->log, COMMA_LOG_INFO, "draining", "%s: finishing %u requests",
                    signal == SIGTERM ? "SIGTERM" : "SIGINT", comma_service_in_flight(p->service));
    wait_until(p, start + (int64_t)(delay * 1e9));
    comma_http_quiesce(p->http);
    *clean = finish_requests(p, last);
    if (*clean)
        return;
    comma_log_event(p->log, COMMA_LOG_WARN, "drain_timeout", "%u requests are not done and are given up",
                    comma_service_in_flight(p->service));
    comma_service_abort(p->service);
    *clean = finish_requests(p, comma_now_ns() + 2000000000);
}

void comma_lifecycle_run(struct comma_process *p, bool *clean)
{
    for (;;) {
        const int signal = next_signal(p, -1);

        if (signal == SIGHUP) {
            reload(p);
        } else if (signal) {
            drain(p, signal, clean);
            return;
        }
    }
}
