/* SPDX-License-Identifier: MIT */
/* service.h - what is answered to whom: routes, keys, limits, admission, and the way from a body to a job and back.
 *
 * http.c drives it: comma_service_head() when the header fields are here, _body() for each piece, _complete() at the
 * end, _end() when the answer has gone out or the client has. Where _complete() says WAIT, the connection is to be set
 * aside first and then _start()ed: threads of the service parse the body and hand the job to the engine, whose thread
 * writes the answer and calls ex->resume(). Any thread, one exchange's calls one after another. */
#ifndef COMMA_SERVER_SERVICE_H
#define COMMA_SERVER_SERVICE_H

#include "server/exchange.h"
#include "server/log.h"
#include "server/metrics.h"

struct comma_service_options {
    struct comma_api_limits limits;
    struct comma_log *log; /* borrowed, as the next two */
    struct comma_metrics *metrics;
    struct comma_admission *admission;
    unsigned max_places;
    int64_t request_timeout_ns, watchdog_ns;
    bool raw_orientation, access_log;
    bool admin_open; /* POST /admin/reload wants no key: the admin listener is on loopback */
    void (*reload)(void *user);
    void *reload_user;
};

enum comma_step {
    COMMA_STEP_BODY,   /* go on reading */
    COMMA_STEP_ANSWER, /* ex->answer is to be sent */
    COMMA_STEP_WAIT,   /* set the connection aside, then comma_service_start() */
    COMMA_STEP_DROP    /* close the connection without an answer */
};

enum comma_service_state { COMMA_STARTING, COMMA_READY, COMMA_DRAINING };

COMMA_MUST_CHECK
bool comma_service_create(const struct comma_service_options *options, struct comma_service **out,
                          struct comma_error *err);

/* Ends the threads. No exchange may be in work. NULL is fine. */
void comma_service_destroy(struct comma_service *s);

/* Begins to serve: the engine is borrowed until _destroy(). */
void comma_service_set_engine(struct comma_service *s, struct comma_engine *engine);
void comma_service_set_state(struct comma_service *s, enum comma_service_state state);
enum comma_service_state comma_service_state(struct comma_service *s);

/* Replaces the keys; NULL: none are asked for. The caller's reference stays its own. */
void comma_service_set_keys(struct comma_service *s, struct comma_keys *keys);

enum comma_step comma_service_head(struct comma_exchange *ex, const struct comma_head *head);
enum comma_step comma_service_body(struct comma_exchange *ex, const char *data, size_t size);
enum comma_step comma_service_complete(struct comma_exchange *ex);
void comma_service_start(struct comma_exchange *ex);

/* Answers 504 in place of work whose time is over, and returns true: ex->resume() is then to be called. False if it is
 * not, or if it is answered already. */
bool comma_service_late(struct comma_exchange *ex, int64_t now_ns);

/* The answer went out, or (complete false) could not: counts and logs. */
void comma_service_end(struct comma_exchange *ex, bool complete);

/* Requests whose head was read and whose answer is not out yet, on the main listener. */
unsigned comma_service_in_flight(struct comma_service *s);
void comma_service_count_connection(struct comma_service *s, int change); /* +1, -1 */

/* Makes all jobs stop at their next step and all waiting ones fail: the drain took too long. */
void comma_service_abort(struct comma_service *s);

#endif
