/* SPDX-License-Identifier: MIT */
/* service_work.c - from a complete body to a job of the engine, and from its end to the answer.
 *
 * Parsing has threads of its own, so that a large JSON body holds up neither the network nor a worker's arithmetic.
 * The answer is written by the engine's thread that ended the job. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/response.h"
#include "engine/base/checked.h"
#include "engine/base/clock.h"
#include "server/service_state.h"

enum { ANSWER_MAX_BYTES = 1 << 30, NUMBER_BYTES = 16, RESULT_BYTES = 96, ROW_BYTES = 256 };

/* Lets go of what only the work needed; the answer keeps its bytes reserved until it is sent. */
static void end_work(struct comma_exchange *ex)
{
    struct comma_admission *admission = ex->service->options.admission;

    comma_job_finish(&ex->job);
    if (ex->parsed)
        comma_api_request_finish(&ex->request);
    ex->parsed = false;
    comma_adapter_unref(ex->adapter);
    ex->adapter = NULL;
    comma_buffer_finish(&ex->body);
    comma_admission_leave(admission, &ex->held, ex->worked);
}

/* The work's side ends: with the answer if nobody else gave one. Fields before the claim are the other side's once it
 * has claimed, so a lost claim touches nothing but what is the work's own. */
static void finish(struct comma_exchange *ex, const struct comma_problem *problem, struct comma_buffer *body)
{
    const bool first = comma_exchange_claim(ex);

    if (first && problem)
        comma_exchange_problem(ex, problem);
    else if (first)
        comma_exchange_answer(ex, 200, "application/json", body);
    if (first && ex->client_gone)
        ex->answer.status = 499;
    ex->n_texts = ex->job.n_texts;
    ex->n_cached = ex->job.n_cached;
    ex->timing = ex->job.timing;
    end_work(ex);
    if (first) {
        comma_admission_keep(ex->service->options.admission, &ex->held, ex->answer.owned ? ex->answer.body_size : 0);
        ex->answered_by_work = true;
        ex->resume(ex);
    }
    comma_exchange_unref(ex);
}

/* Whether nobody waits for the answer: asked by the engine between its steps. A client that closed only its sending
 * side looks like one that left, so it is given up only when others wait. */
static bool is_cancelled(const struct comma_job *job)
{
    struct comma_exchange *ex = job->user;
    struct comma_service *s = ex->service;
    struct pollfd p = { .fd = ex->fd, .events = POLLRDHUP };
    unsigned places = 0;

    if (atomic_load_explicit(&ex->claimed, memory_order_acquire) ||
        atomic_load_explicit(&s->aborting, memory_order_relaxed))
        return true;
    if (poll(&p, 1, 0) <= 0)
        return false;
    comma_admission_usage(s->options.admission, &places, NULL, NULL);
    if (!(p.revents & (POLLHUP | POLLERR)) && places <= s->info.n_threads)
        return false;
    ex->client_gone = true;
    return true;
}

static bool write_answer(struct comma_exchange *ex, struct comma_buffer *body, struct comma_error *err)
{
    if (ex->job.kind == COMMA_JOB_CLASSIFY)
        return comma_api_write_classify(body, &ex->job, ex->model, ex->request.top_k, NULL, err);
    return comma_api_write_embed(body, &ex->job, ex->model, ex->service->info.embed_dim, ex->request.encoding, err);
}

/* The engine's thread: a job came to its end. */
static void on_done(struct comma_job *job)
{
    struct comma_exchange *ex = job->user;
    struct comma_service *s = ex->service;
    struct comma_problem problem;
    struct comma_error err = { 0 };
    struct comma_buffer body;
    bool ok = job->ok;

    comma_buffer_init(&body, ANSWER_MAX_BYTES);
    ex->worked = true;
    if (!ok) {
        comma_problem_from_job(&problem, job);
        if (atomic_load_explicit(&s->aborting, memory_order_relaxed))
            comma_problem_set(&problem, COMMA_PROBLEM_SHUTTING_DOWN, NULL, "the server is shutting down");
        err = job->error;
    } else if (!write_answer(ex, &body, &err)) {
        ok = false;
        comma_problem_from_error(&problem, &err);
    } else {
        comma_metrics_timing(s->options.metrics, &job->timing, job->image.size > 0, job->n_texts);
    }
    if (!ok && comma_problem_status(problem.kind) == 500)
        comma_log_event(s->options.log, COMMA_LOG_ERROR, "request_failed", "%s: %s", ex->request_id, err.message);
    finish(ex, ok ? NULL : &problem, &body);
    comma_buffer_finish(&body);
}

/* Reserves what work, results and answer will take; a body's own bytes are reserved already. Features of texts exist
 * three times at worst: as they are computed, as rows that the request pins in the label cache (which may then be
 * larger than its limit) with their keys, and as the matrix of them all. */
static bool reserve_results(struct comma_exchange *ex, struct comma_problem *problem)
{
    const struct comma_api_request *r = &ex->request;
    const size_t feature_bytes = ex->service->info.embed_dim * sizeof(float);
    size_t n, each, bytes;

    if (r->endpoint == COMMA_API_EMBED) {
        n = r->n_texts ? r->n_texts : 1;
        each = ex->service->info.embed_dim * NUMBER_BYTES + feature_bytes;
    } else {
        n = r->n_labels;
        each = RESULT_BYTES;
    }
    each += 3 * feature_bytes + ROW_BYTES;
    if (comma_mul(n, each, &bytes) && comma_add(bytes, 2 * ex->body_seen, &bytes) && bytes <= ANSWER_MAX_BYTES &&
        comma_admission_reserve(ex->service->options.admission, &ex->held, bytes) == COMMA_ADMIT)
        return true;
    return comma_problem_set(problem, COMMA_PROBLEM_OVERLOADED, NULL,
                             "the memory for answers is in use; try again, or ask for fewer at once");
}

/* Lowers the deadline to what the body asked for; the watch reads it from its own thread. */
static int64_t settle_deadline(struct comma_exchange *ex)
{
    const int64_t asked = ex->began_ns + (int64_t)ex->request.timeout_ms * 1000000;
    const int64_t now = atomic_load_explicit(&ex->deadline_ns, memory_order_relaxed);

    if (ex->request.timeout_ms == 0 || asked >= now)
        return now;
    atomic_store_explicit(&ex->deadline_ns, asked, memory_order_relaxed);
    return asked;
}

/* Parses and checks; on success ex->job is ready to be submitted. */
static bool prepare(struct comma_exchange *ex, struct comma_problem *problem)
{
    struct comma_service *s = ex->service;
    const enum comma_api_endpoint endpoint = ex->route == COMMA_ROUTE_EMBED ? COMMA_API_EMBED : COMMA_API_CLASSIFY;
    const struct comma_api_input input = { .content_type = ex->has_content_type ? ex->content_type : NULL,
                                           .query = ex->query,
                                           .body = (unsigned char *)ex->body.data,
                                           .body_size = ex->body.size };

    if (!comma_api_request_parse(endpoint, &input, &s->options.limits, &ex->request, problem))
        return false;
    ex->parsed = true;
    ex->image_bytes = ex->request.image.size;
    ex->adapter = comma_engine_get_adapter(s->engine, ex->request.model);
    if (!ex->adapter) {
        comma_problem_unknown_model(problem, ex->request.model);
        return false;
    }
    snprintf(ex->model, sizeof(ex->model), "%s", comma_adapter_name(ex->adapter));
    if (ex->key && !comma_key_allows(ex->key, ex->model))
        return comma_problem_set(problem, COMMA_PROBLEM_FORBIDDEN, "/model", "this key may not use the model %s",
                                 ex->model);
    if (!comma_api_request_fits(&ex->request, comma_adapter_has_prompt(ex->adapter), problem) ||
        !reserve_results(ex, problem))
        return false;
    comma_api_request_to_job(&ex->request, &ex->job);
    ex->job.adapter = ex->adapter;
    ex->job.raw_orientation |= s->options.raw_orientation;
    ex->job.deadline_ns = settle_deadline(ex);
    ex->job.cancelled = is_cancelled;
    ex->job.done = on_done;
    ex->job.user = ex;
    return true;
}

static void work_on(struct comma_exchange *ex)
{
    struct comma_problem problem;
    struct comma_error err = { 0 };

    if (!prepare(ex, &problem)) {
        finish(ex, &problem, NULL);
    } else if (!comma_engine_submit(ex->service->engine, &ex->job, &err)) {
        comma_problem_from_error(&problem, &err);
        finish(ex, &problem, NULL);
    }
}

void *comma_service_parser(void *arg)
{
    struct comma_service *s = arg;

    pthread_mutex_lock(&s->lock);
    while (s->first || !s->ending) {
        struct comma_exchange *ex = s->first;

        if (!ex) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        s->first = ex->next;
        if (!s->first)
            s->last = &s->first;
        pthread_mutex_unlock(&s->lock);
        work_on(ex);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}
