/* SPDX-License-Identifier: MIT */
/* routes.h - the table of paths and methods (DESIGN "HTTP contract").
 *
 * Paths are compared byte for byte as they came over the wire: no percent-decoding, no "//" or "..", no trailing
 * slash. So there is one spelling of a path, and a proxy's rules about paths cannot be walked round. */
#ifndef COMMA_API_ROUTES_H
#define COMMA_API_ROUTES_H

#include "engine/comma.h"

enum comma_route {
    COMMA_ROUTE_CLASSIFY,      /* POST /classify */
    COMMA_ROUTE_EMBED,         /* POST /embed */
    COMMA_ROUTE_MODELS,        /* GET /models */
    COMMA_ROUTE_HEALTHZ,       /* GET /healthz */
    COMMA_ROUTE_READYZ,        /* GET /readyz */
    COMMA_ROUTE_METRICS,       /* GET /metrics */
    COMMA_ROUTE_OPENAPI,       /* GET /openapi.yaml */
    COMMA_ROUTE_PLAYGROUND,    /* GET / */
    COMMA_ROUTE_PLAYGROUND_JS, /* GET /playground.js */
    COMMA_ROUTE_PLAYGROUND_CSS,
    COMMA_ROUTE_ADMIN_RELOAD, /* POST /admin/reload, on the admin listener */
    COMMA_ROUTE_SERVER,       /* OPTIONS * */
    COMMA_N_ROUTES
};

/* Listeners, to be or-ed: a process without an admin port may serve both on one. */
enum { COMMA_LISTENER_MAIN = 1 << 0, COMMA_LISTENER_ADMIN = 1 << 1 };

enum comma_route_verdict {
    COMMA_ROUTE_FOUND,       /* route is to be served; GET's handler also answers HEAD */
    COMMA_ROUTE_OPTIONS,     /* answer 204 with Allow */
    COMMA_ROUTE_BAD_TARGET,  /* 400: a byte outside printable ASCII, or %00 */
    COMMA_ROUTE_NOT_FOUND,   /* 404 */
    COMMA_ROUTE_WRONG_METHOD /* 405 with Allow */
};

struct comma_route_match {
    enum comma_route_verdict verdict;
    enum comma_route route;  /* where FOUND, OPTIONS, WRONG_METHOD */
    const char *allow;       /* value of the Allow header where OPTIONS, WRONG_METHOD */
    struct comma_text path;  /* of the target, without the query */
    struct comma_text query; /* what follows '?', still percent-encoded; empty if none */
};

/* Looks up a request line.
 *
 *   method     as it came, "POST"; case matters
 *   target     as it came, "/classify?top_k=3"; absolute form ("http://host/classify") is understood
 *   listeners  the one that the request came in on
 *
 * The texts of the result point into target. */
struct comma_route_match comma_route_find(const char *method, struct comma_text target, unsigned listeners);

/* "/classify", for metrics and log lines: never the client's own bytes. */
const char *comma_route_path(enum comma_route route);

#endif
