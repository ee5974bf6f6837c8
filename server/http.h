/* SPDX-License-Identifier: MIT */
/* http.h - a listener: a socket, one epoll thread of libmicrohttpd's, and the service behind it.
 *
 * A connection whose request is being worked on is suspended: it holds no thread. libmicrohttpd 0.9.75 (Debian 12) and
 * 1.0 are both fine. All connections of a listener stand under a watch for their deadlines. */
#ifndef COMMA_SERVER_HTTP_H
#define COMMA_SERVER_HTTP_H

#include "server/service.h"
#include "server/watch.h"

struct comma_http;

struct comma_http_options {
    struct comma_service *service; /* borrowed */
    unsigned listener;             /* COMMA_LISTENER_* that its requests come in on, or-ed */
    int socket;                    /* listening; taken over, also on failure */
    bool keep_socket;              /* it was handed over by a supervisor: not to be shut down at the drain */
    unsigned max_connections, max_connections_per_address;
    const char *tls_cert, *tls_key; /* PEM text; NULL: plain */
    struct comma_watch_options watch;
};

COMMA_MUST_CHECK
bool comma_http_start(const struct comma_http_options *options, struct comma_http **out, struct comma_error *err);

/* Accepts nothing new; connections go on. Whoever connects now is refused, and does not wait in vain. */
void comma_http_quiesce(struct comma_http *http);

/* Shuts down connections between two requests. */
void comma_http_close_idle(struct comma_http *http);

/* Ends it. No connection may be waiting for work. NULL is fine. */
void comma_http_stop(struct comma_http *http);

/* Whether this libmicrohttpd can serve HTTPS. */
bool comma_http_has_tls(void);

#endif
