/* SPDX-License-Identifier: MIT */
/* service.c - see service.h: what happens to a request before its body is parsed and after its answer is there. */
#include "server/service.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "server/service_state.h"

enum {
    MOST_SKIPPED = 64 << 10,   /* bytes of a body that nobody wants, to keep its connection */
    OVERHEAD_BYTES = 64 << 10, /* what a request takes besides its body */
    GRACE_NS = 20000000        /* how long the engine may take to notice a deadline by itself */
};

bool comma_service_create(const struct comma_service_options *options, struct comma_service **out,
                          struct comma_error *err)
{
    struct comma_service *s = calloc(1, sizeof(*s));

    if (!s)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the service");
    s->options = *options;
    comma_api_init();
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->keys_lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    while (s->n_parsers < COMMA_N_PARSERS &&
           pthread_create(&s->parsers[s->n_parsers], NULL, comma_service_parser, s) == 0)
        s->n_parsers++;
    if (s->n_parsers < COMMA_N_PARSERS) {
        comma_service_destroy(s);
        return comma_fail(err, COMMA_E_NOMEM, "the threads that parse requests cannot be started");
    }
    *out = s;
    return true;
}

void comma_service_destroy(struct comma_service *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->n_parsers; i++)
        pthread_join(s->parsers[i], NULL);
    comma_keys_unref(s->keys);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->keys_lock);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void comma_service_set_engine(struct comma_service *s, struct comma_engine *engine)
{
    comma_engine_get_info(engine, &s->info);
    atomic_store_explicit(&s->engine, engine, memory_order_release);
}

void comma_service_set_state(struct comma_service *s, enum comma_service_state state)
{
    atomic_store_explicit(&s->state, state, memory_order_release);
}

enum comma_service_state comma_service_state(struct comma_service *s)
{
    return (enum comma_service_state)atomic_load_explicit(&s->state, memory_order_acquire);
}

void comma_service_set_keys(struct comma_service *s, struct comma_keys *keys)
{
    struct comma_keys *old;

    comma_keys_ref(keys);
    pthread_mutex_lock(&s->keys_lock);
    old = s->keys;
    s->keys = keys;
    pthread_mutex_unlock(&s->keys_lock);
    comma_keys_unref(old);
}

unsigned comma_service_in_flight(struct comma_service *s)
{
    return atomic_load_explicit(&s->in_flight, memory_order_acquire);
}

void comma_service_count_connection(struct comma_service *s, int change)
{
    atomic_fetch_add_explicit(&s->connections, change, memory_order_relaxed);
    if (change > 0)
        comma_metrics_connection(s->options.metrics, false);
}

void comma_service_abort(struct comma_service *s)
{
    atomic_store_explicit(&s->aborting, true, memory_order_relaxed);
    comma_admission_shut(s->options.admission);
}

/* ---- the head ---- */

static void copy_text(struct comma_text text, char *out, size_t room)
{
    const size_t n = text.size < room ? text.size : room - 1;

    if (n > 0)
        memcpy(out, text.data, n);
    out[n] = '\0';
}

static uint64_t hash(const char *s)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a; a collision shares a share, no more */

    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

/* Whether a route is open to everybody: probes, the contract and the playground tell nothing of what is served. */
static bool is_public(const struct comma_exchange *ex)
{
    switch (ex->route) {
    case COMMA_ROUTE_HEALTHZ:
    case COMMA_ROUTE_READYZ:
    case COMMA_ROUTE_OPENAPI:
    case COMMA_ROUTE_PLAYGROUND:
    case COMMA_ROUTE_PLAYGROUND_JS:
    case COMMA_ROUTE_PLAYGROUND_CSS:
        return true;
    case COMMA_ROUTE_METRICS:
        return ex->listener == COMMA_LISTENER_ADMIN;
    default:
        return false;
    }
}

/* The key in "Authorization: Bearer KEY" or "X-API-Key: KEY", without the blanks that the library leaves at its end. */
static struct comma_text presented_key(const struct comma_head *head)
{
    struct comma_text key = comma_head_value(head, "Authorization");

    if (key.size > 7 && strncasecmp(key.data, "Bearer ", 7) == 0)
        key = (struct comma_text){ key.data + 7, key.size - 7 };
    else
        key = comma_head_value(head, "X-API-Key");
    while (key.size > 0 && (key.data[key.size - 1] == ' ' || key.data[key.size - 1] == '\t'))
        key.size--;
    return key;
}

static bool check_key(struct comma_exchange *ex, const struct comma_head *head, struct comma_problem *problem)
{
    struct comma_service *s = ex->service;
    const bool admin = ex->route == COMMA_ROUTE_ADMIN_RELOAD;
    struct comma_keys *keys;
    unsigned wait = 0;

    if (is_public(ex) || (admin && s->options.admin_open))
        return true;
    pthread_mutex_lock(&s->keys_lock);
    keys = comma_keys_ref(s->keys);
    pthread_mutex_unlock(&s->keys_lock);
    if (!keys)
        return !admin || comma_problem_set(problem, COMMA_PROBLEM_FORBIDDEN, NULL,
                                           "reloading from afar wants --api-keys-file with a key named admin");
    ex->key = comma_keys_find(keys, presented_key(head));
    comma_keys_unref(keys);
    if (!ex->key)
        return comma_problem_set(problem, COMMA_PROBLEM_UNAUTHORIZED, NULL,
                                 "send an API key that is known here as Authorization: Bearer KEY");
    if (comma_key_is_admin(ex->key) != admin)
        return comma_problem_set(problem, COMMA_PROBLEM_FORBIDDEN, NULL, "this key does not open this path");
    ex->client = hash(comma_key_name(ex->key));
    if (comma_key_take(ex->key, comma_now_ns(), &wait))
        return true;
    ex->answer.retry_after_s = wait;
    return comma_problem_set(problem, COMMA_PROBLEM_TOO_MANY_REQUESTS, NULL,
                             "this key's rate is used up; try again in %u s", wait);
}

/* X-Request-Timeout: seconds, "2" or "0.5". */
static bool read_timeout(struct comma_exchange *ex, const struct comma_head *head, struct comma_problem *problem)
{
    const struct comma_text value = comma_head_value(head, "X-Request-Timeout");
    const double most = (double)ex->service->options.request_timeout_ns * 1e-9;
    char text[32], *end;
    double seconds;

    if (!value.data)
        return true;
    copy_text(value, text, sizeof(text));
    seconds = strtod(text, &end);
    if (value.size >= sizeof(text) || strspn(text, "0123456789.") != value.size || *end || end == text ||
        !(seconds > 0) || seconds > most)
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                 "X-Request-Timeout is a number of seconds above 0 and up to %g", most);
    ex->deadline_ns = ex->began_ns + (int64_t)(seconds * 1e9);
    return true;
}

static bool refuse(enum comma_admission_verdict verdict, struct comma_problem *problem)
{
    switch (verdict) {
    case COMMA_ADMIT:
        return true;
    case COMMA_REFUSE_QUEUE:
        return comma_problem_set(problem, COMMA_PROBLEM_OVERLOADED, NULL, "the queue is full; try again later");
    case COMMA_REFUSE_SHARE:
        return comma_problem_set(problem, COMMA_PROBLEM_TOO_MANY_REQUESTS, NULL,
                                 "others wait too and your share of the queue is used up; try again later");
    case COMMA_REFUSE_BYTES:
        return comma_problem_set(problem, COMMA_PROBLEM_OVERLOADED, NULL,
                                 "the memory for requests is in use; try again later");
    case COMMA_REFUSE_WAIT:
        return comma_problem_set(problem, COMMA_PROBLEM_OVERLOADED, NULL,
                                 "the queue is longer than the time this request has; try again later");
    case COMMA_REFUSE_CLOSING:
        break;
    }
    return comma_problem_set(problem, COMMA_PROBLEM_SHUTTING_DOWN, NULL, "the server is shutting down");
}

/* A body is announced: may it come? */
static bool check_body(struct comma_exchange *ex, const struct comma_head *head, struct comma_problem *problem)
{
    struct comma_service *s = ex->service;
    const struct comma_framing *f = &ex->framing;
    const struct comma_text coding = comma_head_value(head, "Content-Encoding");
    const size_t most = s->options.limits.max_body_bytes;
    size_t need = OVERHEAD_BYTES;

    if (comma_service_state(s) == COMMA_STARTING)
        return comma_problem_set(problem, COMMA_PROBLEM_NOT_READY, NULL, "the model is being loaded");
    if (!f->has_length && !f->chunked)
        return comma_problem_set(problem, COMMA_PROBLEM_LENGTH_REQUIRED, NULL,
                                 "send Content-Length, or Transfer-Encoding: chunked");
    if (f->length > most)
        return comma_problem_set(problem, COMMA_PROBLEM_TOO_LARGE, NULL,
                                 "the body has %llu bytes; allowed are %zu (--max-body-mb)",
                                 (unsigned long long)f->length, most);
    if (coding.size > 0 && !(coding.size == 8 && strncasecmp(coding.data, "identity", 8) == 0))
        return comma_problem_set(problem, COMMA_PROBLEM_UNSUPPORTED_TYPE, NULL,
                                 "Content-Encoding is not understood; send the body as it is");
    if (!read_timeout(ex, head, problem) || !refuse(comma_admission_peek(s->options.admission, ex->client), problem))
        return false;
    /* Twice: JSON is held a second time, parsed. */
    need += 2 * (size_t)f->length;
    return refuse(comma_admission_reserve(s->options.admission, &ex->held, need), problem);
}

/* Guard, route, key. False: *problem is the answer. */
static bool check_head(struct comma_exchange *ex, const struct comma_head *head, struct comma_route_match *match,
                       struct comma_problem *problem)
{
    if (!comma_guard_check(head, &ex->framing, problem)) {
        ex->answer.close = true;
        return false;
    }
    *match = comma_route_find(ex->method, comma_text_of(ex->target), ex->listener);
    ex->query = match->query;
    switch (match->verdict) {
    case COMMA_ROUTE_BAD_TARGET:
        ex->answer.close = true;
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "the request target is not valid");
    case COMMA_ROUTE_NOT_FOUND:
        return comma_problem_set(problem, COMMA_PROBLEM_NOT_FOUND, NULL,
                                 "there is nothing at this path; GET /openapi.yaml lists what there is");
    case COMMA_ROUTE_WRONG_METHOD:
        ex->route = match->route;
        ex->answer.allow = match->allow;
        return comma_problem_set(problem, COMMA_PROBLEM_WRONG_METHOD, NULL, "this path allows %s", match->allow);
    case COMMA_ROUTE_OPTIONS:
    case COMMA_ROUTE_FOUND:
        break;
    }
    ex->route = match->route;
    return match->verdict == COMMA_ROUTE_OPTIONS || check_key(ex, head, problem);
}

static void answer_reload(struct comma_exchange *ex)
{
    struct comma_service *s = ex->service;

    s->options.reload(s->options.reload_user);
    ex->answer.status = 202;
}

/* Whether what comes behind a head that is answered already is known to end soon: then the connection is kept, which is
 * cheaper for both than a new one. Else it is closed, or the body would be taken for the next request. */
static bool may_skip_body(const struct comma_exchange *ex, const struct comma_head *head)
{
    if (ex->problem == COMMA_PROBLEM_LENGTH_REQUIRED || ex->framing.chunked)
        return false;
    return ex->framing.length == 0 || (ex->framing.length <= MOST_SKIPPED && !comma_head_value(head, "Expect").data);
}

enum comma_step comma_service_head(struct comma_exchange *ex, const struct comma_head *head)
{
    struct comma_service *s = ex->service;
    const struct comma_text type = comma_head_value(head, "Content-Type");
    const struct comma_text trace = comma_head_value(head, "traceparent");
    struct comma_route_match match = { 0 };
    struct comma_problem problem;

    if (ex->listener == COMMA_LISTENER_MAIN)
        atomic_fetch_add_explicit(&s->in_flight, 1, memory_order_acq_rel);
    copy_text(head->method, ex->method, sizeof(ex->method));
    comma_request_id(comma_head_value(head, "X-Request-Id"), ex->request_id);
    if (comma_traceparent_read(trace, ex->trace_id))
        copy_text(trace, ex->traceparent, sizeof(ex->traceparent));
    ex->has_content_type = type.data != NULL;
    copy_text(type, ex->content_type, sizeof(ex->content_type));
    ex->client = hash(ex->address);
    ex->deadline_ns = ex->began_ns + s->options.request_timeout_ns;

    if (!check_head(ex, head, &match, &problem)) {
        comma_exchange_problem(ex, &problem);
        goto answer;
    }
    if (match.verdict == COMMA_ROUTE_OPTIONS) {
        ex->answer.status = 204;
        ex->answer.allow = match.allow;
        goto answer;
    }
    if (ex->route == COMMA_ROUTE_ADMIN_RELOAD) {
        answer_reload(ex);
        goto answer;
    }
    if (ex->route != COMMA_ROUTE_CLASSIFY && ex->route != COMMA_ROUTE_EMBED) {
        comma_service_get(ex);
        goto answer;
    }
    if (!check_body(ex, head, &problem)) {
        comma_exchange_problem(ex, &problem);
        goto answer;
    }
    comma_buffer_init(&ex->body, s->options.limits.max_body_bytes);
    return COMMA_STEP_BODY;
answer:
    if (!may_skip_body(ex, head) || comma_service_state(s) == COMMA_DRAINING)
        ex->answer.close = true;
    return COMMA_STEP_ANSWER;
}

/* ---- the body ---- */

/* Throws the body away and remembers what to say after it. */
static void refuse_body(struct comma_exchange *ex, enum comma_problem_kind kind)
{
    comma_buffer_finish(&ex->body);
    comma_admission_keep(ex->service->options.admission, &ex->held, 0);
    ex->body_refused = kind;
}

enum comma_step comma_service_body(struct comma_exchange *ex, const char *data, size_t size)
{
    struct comma_service *s = ex->service;
    const size_t most = s->options.limits.max_body_bytes;

    ex->body_seen += size;
    if (ex->body_refused == COMMA_N_PROBLEM_KINDS && ex->body_seen > most)
        refuse_body(ex, COMMA_PROBLEM_TOO_LARGE);
    if (ex->body_refused == COMMA_N_PROBLEM_KINDS && 2 * ex->body_seen + OVERHEAD_BYTES > ex->held.bytes &&
        comma_admission_reserve(s->options.admission, &ex->held, 2 * ex->body_seen) != COMMA_ADMIT)
        refuse_body(ex, COMMA_PROBLEM_OVERLOADED);
    if (ex->body_refused == COMMA_N_PROBLEM_KINDS) {
        comma_buffer_put(&ex->body, data, size);
        if (!comma_buffer_ok(&ex->body, NULL))
            refuse_body(ex, COMMA_PROBLEM_NO_MEMORY);
    }
    /* Drained up to twice the limit, so that an honest client reads its 413; beyond that it is cut off. */
    return ex->body_seen > 2 * most ? COMMA_STEP_DROP : COMMA_STEP_BODY;
}

enum comma_step comma_service_complete(struct comma_exchange *ex)
{
    struct comma_service *s = ex->service;
    struct comma_problem problem;

    if (ex->body_refused == COMMA_PROBLEM_TOO_LARGE)
        comma_problem_set(&problem, COMMA_PROBLEM_TOO_LARGE, NULL,
                          "the body has %zu bytes; allowed are %zu (--max-body-mb)", ex->body_seen,
                          s->options.limits.max_body_bytes);
    else if (ex->body_refused != COMMA_N_PROBLEM_KINDS)
        comma_problem_set(&problem, ex->body_refused, NULL, "the memory for requests is in use; try again later");
    else if (refuse(
                 comma_admission_enter(s->options.admission, &ex->held, ex->client, ex->deadline_ns - comma_now_ns()),
                 &problem))
        return COMMA_STEP_WAIT;
    refuse_body(ex, problem.kind);
    comma_exchange_problem(ex, &problem);
    return COMMA_STEP_ANSWER;
}

void comma_service_start(struct comma_exchange *ex)
{
    struct comma_service *s = ex->service;

    comma_exchange_ref(ex); /* the work's; finish() lets go of it */
    ex->next = NULL;
    pthread_mutex_lock(&s->lock);
    *s->last = ex;
    s->last = &ex->next;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

bool comma_service_late(struct comma_exchange *ex, int64_t now_ns)
{
    struct comma_problem problem;

    if (now_ns < atomic_load_explicit(&ex->deadline_ns, memory_order_relaxed) + GRACE_NS || !comma_exchange_claim(ex))
        return false;
    comma_problem_set(&problem, COMMA_PROBLEM_DEADLINE, NULL, "the request was not done within its time");
    comma_exchange_problem(ex, &problem);
    return true;
}

/* ---- the end ---- */

static void log_request(struct comma_exchange *ex, unsigned status, double total_ms)
{
    struct comma_service *s = ex->service;
    struct comma_log_line line;

    if (!s->options.access_log || !comma_log_begin(s->options.log, COMMA_LOG_INFO, "request", &line))
        return;
    comma_log_text(&line, "request_id", comma_text_of(ex->request_id));
    comma_log_text(&line, "trace_id", comma_text_of(ex->trace_id));
    if (ex->key)
        comma_log_text(&line, "key", comma_text_of(comma_key_name(ex->key)));
    comma_log_text(&line, "client", comma_text_of(ex->address));
    comma_log_text(&line, "method", comma_text_of(ex->method));
    comma_log_text(&line, "route",
                   comma_text_of(ex->route < COMMA_N_ROUTES ? comma_route_path((enum comma_route)ex->route) : "other"));
    comma_log_size(&line, "status", status);
    comma_log_size(&line, "bytes_in", ex->body_seen);
    comma_log_size(&line, "bytes_out", ex->answer.body_size);
    if (ex->answered_by_work) { /* else the work may still be writing these */
        comma_log_text(&line, "model", comma_text_of(ex->model));
        comma_log_size(&line, "image_bytes", ex->image_bytes);
        comma_log_size(&line, "labels", ex->n_texts);
        comma_log_size(&line, "cached", ex->n_cached);
        comma_log_ms(&line, "queue_ms", ex->timing.queue);
        comma_log_ms(&line, "decode_ms", ex->timing.decode);
        comma_log_ms(&line, "image_ms", ex->timing.image);
        comma_log_ms(&line, "text_ms", ex->timing.text);
    }
    comma_log_ms(&line, "total_ms", total_ms);
    if (ex->problem != COMMA_N_PROBLEM_KINDS)
        comma_log_text(&line, "reason", comma_text_of(comma_problem_slug(ex->problem)));
    comma_log_end(s->options.log, &line);
}

void comma_service_end(struct comma_exchange *ex, bool complete)
{
    struct comma_service *s = ex->service;
    const int64_t took_ns = comma_now_ns() - ex->began_ns;
    const unsigned status = complete && ex->answer.status ? ex->answer.status : 499;

    comma_metrics_request(s->options.metrics, ex->route, status, (double)took_ns * 1e-9, ex->body_seen,
                          ex->answer.body_size);
    log_request(ex, status, comma_ms(took_ns));
    if (ex->listener == COMMA_LISTENER_MAIN)
        atomic_fetch_sub_explicit(&s->in_flight, 1, memory_order_acq_rel);
}
