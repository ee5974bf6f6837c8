/* SPDX-License-Identifier: MIT */
/* exchange.h - one request on its way and the answer it gets, with nothing in it of the library that carries it.
 *
 * Two sides hold an exchange: the connection, and from comma_service_start() on the work. Whoever answers first claims
 * it (the work when it is done, the watch when the deadline has passed), fills in the answer and resumes the
 * connection; the other side then only lets go. Until it is claimed the work owns all fields from `request` on. */
#ifndef COMMA_SERVER_EXCHANGE_H
#define COMMA_SERVER_EXCHANGE_H

#include <netinet/in.h>
#include <stdatomic.h>

#include "api/request.h"
#include "api/routes.h"
#include "server/admission.h"
#include "server/guard.h"
#include "server/ids.h"
#include "server/keys.h"

struct comma_service;

/* What goes out. Strings are static, or live in the exchange. */
struct comma_answer {
    unsigned status;
    const char *content_type; /* NULL: no body */
    const char *body;
    size_t body_size;
    bool owned;        /* body is malloc's, to be freed by who sends it */
    bool close;        /* the connection ends with it */
    const char *allow; /* NULL, or the header's value; content_security too */
    const char *content_security;
    bool authenticate;      /* WWW-Authenticate: Bearer */
    unsigned retry_after_s; /* 0: no header */
};

struct comma_exchange {
    struct comma_service *service;
    atomic_uint refs;
    atomic_bool claimed;

    /* The connection's, set when it is made. */
    void (*resume)(struct comma_exchange *ex); /* the answer is there; any thread, once */
    void *wire;
    int fd;
    unsigned listener; /* COMMA_LISTENER_* */
    char address[INET6_ADDRSTRLEN];
    uint64_t client; /* hash of who asks */
    int64_t began_ns;
    atomic_int_fast64_t deadline_ns; /* lowered when the request turns out to have less time */

    /* The head, copied. */
    char *target;
    char method[16]; /* cut: for the log */
    struct comma_text query;
    unsigned route; /* COMMA_N_ROUTES: none */
    char content_type[256];
    bool has_content_type;
    char request_id[COMMA_REQUEST_ID_BYTES];
    char traceparent[56], trace_id[COMMA_TRACE_ID_BYTES];
    struct comma_framing framing;
    struct comma_key *key; /* NULL: no keys are asked for */

    /* The body. */
    struct comma_buffer body;
    size_t body_seen;                     /* what came, kept or not */
    enum comma_problem_kind body_refused; /* COMMA_N_PROBLEM_KINDS: it is kept; else what will be answered after it */
    struct comma_admitted held;

    /* The work. */
    struct comma_api_request request;
    bool parsed, worked, client_gone;
    struct comma_adapter *adapter;
    struct comma_job job;
    struct comma_exchange *next; /* in the queue of those to be parsed */

    /* The answer. */
    struct comma_answer answer;
    struct comma_timing timing;
    size_t n_texts, n_cached, image_bytes; /* for the log */
    bool answered_by_work;                 /* the log may look at what the work wrote */
    char model[65];
    enum comma_problem_kind problem; /* COMMA_N_PROBLEM_KINDS: none */
    char problem_body[COMMA_PROBLEM_BYTES];
    char allow[128];
};

/* A new exchange with one reference. target is copied. NULL when memory ran out. */
struct comma_exchange *comma_exchange_create(struct comma_service *service, struct comma_text target);
struct comma_exchange *comma_exchange_ref(struct comma_exchange *ex);
void comma_exchange_unref(struct comma_exchange *ex); /* NULL is fine */

/* True for the first caller, who is to answer. */
bool comma_exchange_claim(struct comma_exchange *ex);

/* Makes the problem the answer, with the headers that belong to it. */
void comma_exchange_problem(struct comma_exchange *ex, const struct comma_problem *problem);

/* Makes what is in the buffer the answer, and takes it away. */
void comma_exchange_answer(struct comma_exchange *ex, unsigned status, const char *content_type,
                           struct comma_buffer *body);

#endif
