/* SPDX-License-Identifier: MIT */
/* exchange.c - see exchange.h. */
#include "server/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "server/service_state.h"

struct comma_exchange *comma_exchange_create(struct comma_service *service, struct comma_text target)
{
    struct comma_exchange *ex = calloc(1, sizeof(*ex));

    if (!ex)
        return NULL;
    ex->target = malloc(target.size + 1);
    if (!ex->target) {
        free(ex);
        return NULL;
    }
    memcpy(ex->target, target.data, target.size);
    ex->target[target.size] = '\0';
    ex->service = service;
    atomic_init(&ex->refs, 1);
    atomic_init(&ex->claimed, false);
    ex->began_ns = comma_now_ns();
    ex->route = COMMA_N_ROUTES;
    ex->body_refused = ex->problem = COMMA_N_PROBLEM_KINDS;
    return ex;
}

struct comma_exchange *comma_exchange_ref(struct comma_exchange *ex)
{
    atomic_fetch_add_explicit(&ex->refs, 1, memory_order_relaxed);
    return ex;
}

void comma_exchange_unref(struct comma_exchange *ex)
{
    struct comma_admission *admission;

    /* acq_rel: what the other side wrote is seen before it is freed. */
    if (!ex || atomic_fetch_sub_explicit(&ex->refs, 1, memory_order_acq_rel) != 1)
        return;
    admission = ex->service->options.admission;
    comma_admission_leave(admission, &ex->held, false);
    comma_admission_keep(admission, &ex->held, 0);
    comma_job_finish(&ex->job);
    if (ex->parsed)
        comma_api_request_finish(&ex->request);
    comma_adapter_unref(ex->adapter);
    comma_key_unref(ex->key);
    comma_buffer_finish(&ex->body);
    if (ex->answer.owned)
        free((char *)ex->answer.body);
    free(ex->target);
    free(ex);
}

bool comma_exchange_claim(struct comma_exchange *ex)
{
    /* acq_rel: of two claimers one sees true, and with it all that the other had written before. */
    return !atomic_exchange_explicit(&ex->claimed, true, memory_order_acq_rel);
}

/* 1 to 3 seconds, so that those who were refused together do not come back together. */
static unsigned retry_after(const struct comma_exchange *ex)
{
    return 1 + (unsigned)((uint64_t)ex->began_ns / 1000 % 3);
}

void comma_exchange_problem(struct comma_exchange *ex, const struct comma_problem *problem)
{
    struct comma_answer *a = &ex->answer;

    ex->problem = problem->kind;
    a->status = comma_problem_status(problem->kind);
    a->content_type = COMMA_PROBLEM_CONTENT_TYPE;
    a->body = ex->problem_body;
    a->body_size = comma_problem_write(problem, ex->request_id, ex->problem_body);
    a->owned = false;
    a->authenticate = a->status == 401;
    if (comma_problem_retry(problem->kind) && a->retry_after_s == 0)
        a->retry_after_s = retry_after(ex);
    comma_metrics_problem(ex->service->options.metrics, problem->kind);
}

void comma_exchange_answer(struct comma_exchange *ex, unsigned status, const char *content_type,
                           struct comma_buffer *body)
{
    struct comma_answer *a = &ex->answer;
    size_t size = 0;

    a->status = status;
    a->content_type = content_type;
    a->body = comma_buffer_steal(body, &size);
    a->body_size = size;
    a->owned = a->body != NULL;
}
