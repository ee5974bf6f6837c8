/* SPDX-License-Identifier: MIT */
/* routes.c - see routes.h. A dozen rows: a loop over them costs less than a request's first system call. */
#include "api/routes.h"

#include <strings.h>

enum { GET = 1 << 0, POST = 1 << 1, OPTIONS = 1 << 2 };

static const struct route_row {
    const char *path;
    unsigned methods;   /* beside OPTIONS, which all have; HEAD goes with GET */
    unsigned listeners; /* where it is served */
} rows[COMMA_N_ROUTES] = {
    [COMMA_ROUTE_CLASSIFY] = { "/classify", POST, COMMA_LISTENER_MAIN },
    [COMMA_ROUTE_EMBED] = { "/embed", POST, COMMA_LISTENER_MAIN },
    [COMMA_ROUTE_MODELS] = { "/models", GET, COMMA_LISTENER_MAIN },
    [COMMA_ROUTE_HEALTHZ] = { "/healthz", GET, COMMA_LISTENER_MAIN | COMMA_LISTENER_ADMIN },
    [COMMA_ROUTE_READYZ] = { "/readyz", GET, COMMA_LISTENER_MAIN | COMMA_LISTENER_ADMIN },
    [COMMA_ROUTE_METRICS] = { "/metrics", GET, COMMA_LISTENER_MAIN | COMMA_LISTENER_ADMIN },
    [COMMA_ROUTE_OPENAPI] = { "/openapi.yaml", GET, COMMA_LISTENER_MAIN },
    [COMMA_ROUTE_PLAYGROUND] = { "/", GET, COMMA_LISTENER_MAIN },
    [COMMA_ROUTE_PLAYGROUND_JS] = { "/playground.js", GET, COMMA_LISTENER_MAIN },
    [COMMA_ROUTE_PLAYGROUND_CSS] = { "/playground.css", GET, COMMA_LISTENER_MAIN },
    [COMMA_ROUTE_ADMIN_RELOAD] = { "/admin/reload", POST, COMMA_LISTENER_ADMIN },
    [COMMA_ROUTE_SERVER] = { "*", 0, COMMA_LISTENER_MAIN | COMMA_LISTENER_ADMIN },
};

static unsigned method_bit(const char *method)
{
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        return GET;
    if (strcmp(method, "POST") == 0)
        return POST;
    return strcmp(method, "OPTIONS") == 0 ? OPTIONS : 0;
}

static const char *allow_of(enum comma_route route)
{
    if (route == COMMA_ROUTE_SERVER)
        return "GET, HEAD, POST, OPTIONS";
    return rows[route].methods == POST ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
}

static bool bytes_are_fine(struct comma_text target)
{
    for (size_t i = 0; i < target.size; i++) {
        const unsigned char c = (unsigned char)target.data[i];

        if (c <= 0x20 || c >= 0x7F)
            return false;
        if (c == '%' && target.size - i >= 3 && target.data[i + 1] == '0' && target.data[i + 2] == '0')
            return false; /* a NUL that would cut the path short for whoever decodes it next */
    }
    return target.size > 0;
}

/* "http://host/path" without its scheme and authority: RFC 9112 3.2.2 wants servers to take it. */
static struct comma_text without_authority(struct comma_text target)
{
    static const char scheme[] = "http://";
    const size_t n = sizeof(scheme) - 1;
    size_t i = n;

    if (target.size < n || strncasecmp(target.data, scheme, n) != 0)
        return target;
    while (i < target.size && target.data[i] != '/' && target.data[i] != '?')
        i++;
    if (i == target.size)
        return (struct comma_text){ "/", 1 };
    return (struct comma_text){ target.data + i, target.size - i };
}

static void split(struct comma_text target, struct comma_route_match *m)
{
    const char *question = memchr(target.data, '?', target.size);
    const size_t n = question ? (size_t)(question - target.data) : target.size;

    m->path = (struct comma_text){ target.data, n };
    if (question)
        m->query = (struct comma_text){ question + 1, target.size - n - 1 };
}

struct comma_route_match comma_route_find(const char *method, struct comma_text target, unsigned listeners)
{
    struct comma_route_match m = { .verdict = COMMA_ROUTE_NOT_FOUND, .query = { "", 0 } };
    const unsigned bit = method_bit(method);
    enum comma_route r = 0;

    if (!bytes_are_fine(target)) {
        m.verdict = COMMA_ROUTE_BAD_TARGET;
        m.path = target;
        return m;
    }
    split(without_authority(target), &m);
    while (r < COMMA_N_ROUTES &&
           !((rows[r].listeners & listeners) && comma_text_equal(m.path, comma_text_of(rows[r].path))))
        r++;
    if (r == COMMA_N_ROUTES)
        return m;
    m.route = r;
    m.allow = allow_of(r);
    if (bit == OPTIONS)
        m.verdict = COMMA_ROUTE_OPTIONS;
    else
        m.verdict = rows[r].methods & bit ? COMMA_ROUTE_FOUND : COMMA_ROUTE_WRONG_METHOD;
    return m;
}

const char *comma_route_path(enum comma_route route)
{
    return (unsigned)route < COMMA_N_ROUTES ? rows[route].path : "other";
}
