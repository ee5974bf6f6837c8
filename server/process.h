/* SPDX-License-Identifier: MIT */
/* process.h - the parts of a serving process, and its life: start, self-test, signals, reload, drain, end. */
#ifndef COMMA_SERVER_PROCESS_H
#define COMMA_SERVER_PROCESS_H

#include "server/adapters.h"
#include "server/config.h"
#include "server/http.h"
#include "server/sandbox.h"

struct comma_process {
    const struct comma_serve_config *config;
    struct comma_log *log;
    struct comma_metrics *metrics;
    struct comma_admission *admission;
    struct comma_service *service;
    struct comma_adapter_set *adapters;
    struct comma_engine *engine;
    struct comma_sandbox *sandbox;   /* NULL: pictures are decoded in this process */
    struct comma_http *http, *admin; /* admin: NULL if it is off */
    int signals;                     /* a signalfd */
    char ready_line[160];            /* what tells that requests are taken */
    int reload;                      /* an eventfd: written to, it asks for a reload */
};

/* lifecycle.c: blocks the signals that are waited for, in this thread and those it starts. */
COMMA_MUST_CHECK
bool comma_lifecycle_init(struct comma_process *p, struct comma_error *err);
void comma_lifecycle_ask_reload(void *process); /* any thread */

/* Serves until a signal ends it; returns when all accepted work is done, or --drain-timeout is over (then *clean is
 * false: jobs may still be running). A second signal ends the process at once. */
void comma_lifecycle_run(struct comma_process *p, bool *clean);

/* selftest.c: classifies a picture that is part of the binary with the backbone and each adapter, and looks whether
 * all is finite. Fails with COMMA_E_MODEL. */
COMMA_MUST_CHECK
bool comma_self_test(struct comma_engine *engine, struct comma_error *err);

#endif
