/* SPDX-License-Identifier: MIT */
/* service_pages.c - the routes that need no body: probes, metrics, models, the contract and the playground. They are
 * answered on the network's thread, in microseconds. */
#include <stdlib.h>

#include "api/pages.h"
#include "api/response.h"
#include "server/service_state.h"

enum { MAX_PAGE_BYTES = 16 << 20 };

static void internal(struct comma_exchange *ex, const char *what)
{
    struct comma_problem problem;

    comma_log_event(ex->service->options.log, COMMA_LOG_ERROR, "answer_failed", "%s: %s", ex->request_id, what);
    comma_problem_set(&problem, COMMA_PROBLEM_INTERNAL, NULL, "the server could not write its answer");
    comma_exchange_problem(ex, &problem);
}

/* Sends what is in the buffer, or 500 if it could not be written. */
static void answer_with(struct comma_exchange *ex, unsigned status, const char *content_type, struct comma_buffer *body)
{
    struct comma_error err = { 0 };

    if (comma_buffer_ok(body, &err))
        comma_exchange_answer(ex, status, content_type, body);
    else
        internal(ex, err.message);
    comma_buffer_finish(body);
}

static void answer_status(struct comma_exchange *ex, const char *word)
{
    struct comma_buffer body;
    struct comma_error err = { 0 };

    comma_buffer_init(&body, MAX_PAGE_BYTES);
    if (comma_api_write_status(&body, word, &err))
        answer_with(ex, 200, "application/json", &body);
    else
        internal(ex, err.message);
    comma_buffer_finish(&body);
}

static void answer_health(struct comma_exchange *ex)
{
    struct comma_service *s = ex->service;
    struct comma_engine *engine = atomic_load_explicit(&s->engine, memory_order_acquire);
    struct comma_engine_stats stats = { 0 };
    struct comma_problem problem;

    if (engine)
        comma_engine_get_stats(engine, &stats);
    if (stats.oldest_running_ns <= s->options.watchdog_ns) {
        answer_status(ex, "ok");
        return;
    }
    comma_problem_set(&problem, COMMA_PROBLEM_NOT_READY, NULL, "a job has been under way for %lld s; a worker is stuck",
                      (long long)(stats.oldest_running_ns / 1000000000));
    comma_exchange_problem(ex, &problem);
}

static void answer_ready(struct comma_exchange *ex)
{
    const enum comma_service_state state = comma_service_state(ex->service);
    struct comma_problem problem;

    if (state == COMMA_READY) {
        answer_status(ex, "ready");
        return;
    }
    if (state == COMMA_STARTING)
        comma_problem_set(&problem, COMMA_PROBLEM_NOT_READY, NULL, "the model is being loaded and tested");
    else
        comma_problem_set(&problem, COMMA_PROBLEM_SHUTTING_DOWN, NULL,
                          "the server is shutting down; send requests to another one");
    comma_exchange_problem(ex, &problem);
}

static void answer_models(struct comma_exchange *ex)
{
    struct comma_engine *engine = atomic_load_explicit(&ex->service->engine, memory_order_acquire);
    struct comma_adapter_info *adapters = NULL;
    struct comma_engine_info info;
    struct comma_buffer body;
    struct comma_error err = { 0 };
    size_t n = 0;

    comma_buffer_init(&body, MAX_PAGE_BYTES);
    comma_engine_get_info(engine, &info);
    if (comma_engine_list_adapters(engine, &adapters, &n, &err) &&
        comma_api_write_models(&body, &info, adapters, n, info.name, &err))
        answer_with(ex, 200, "application/json", &body);
    else
        internal(ex, err.message);
    comma_buffer_finish(&body);
    free(adapters);
}

static void answer_metrics(struct comma_exchange *ex)
{
    struct comma_service *s = ex->service;
    struct comma_engine *engine = atomic_load_explicit(&s->engine, memory_order_acquire);
    struct comma_engine_info info;
    struct comma_engine_stats stats;
    struct comma_adapter_info *adapters = NULL;
    struct comma_gauges g = { .max_places = s->options.max_places };
    struct comma_buffer body;

    if (engine) {
        comma_engine_get_info(engine, &info);
        comma_engine_get_stats(engine, &stats);
        g.info = &info;
        g.stats = &stats;
        if (comma_engine_list_adapters(engine, &adapters, &g.n_adapters, NULL))
            free(adapters);
    }
    comma_admission_usage(s->options.admission, &g.places, &g.request_bytes, &g.max_request_bytes);
    g.connections = (unsigned)atomic_load_explicit(&s->connections, memory_order_relaxed);
    g.ready = comma_service_state(s) == COMMA_READY;
    g.log_dropped = comma_log_dropped(s->options.log);
    comma_buffer_init(&body, MAX_PAGE_BYTES);
    comma_metrics_write(s->options.metrics, &g, &body);
    answer_with(ex, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void answer_page(struct comma_exchange *ex)
{
    const struct comma_page page = comma_page_of((enum comma_route)ex->route);

    ex->answer = (struct comma_answer){
        .status = 200, .content_type = page.content_type, .body = page.body.data, .body_size = page.body.size
    };
    if (ex->route == COMMA_ROUTE_PLAYGROUND)
        ex->answer.content_security = comma_page_csp();
}

void comma_service_get(struct comma_exchange *ex)
{
    struct comma_problem problem;

    switch (ex->route) {
    case COMMA_ROUTE_HEALTHZ:
        answer_health(ex);
        break;
    case COMMA_ROUTE_READYZ:
        answer_ready(ex);
        break;
    case COMMA_ROUTE_METRICS:
        answer_metrics(ex);
        break;
    case COMMA_ROUTE_MODELS:
        if (atomic_load_explicit(&ex->service->engine, memory_order_acquire)) {
            answer_models(ex);
            break;
        }
        comma_problem_set(&problem, COMMA_PROBLEM_NOT_READY, NULL, "the model is being loaded");
        comma_exchange_problem(ex, &problem);
        break;
    default:
        answer_page(ex);
        break;
    }
}
