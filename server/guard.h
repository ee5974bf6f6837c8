/* SPDX-License-Identifier: MIT */
/* guard.h - is this request head safe to act on? The answer to request smuggling, before anything else is looked at.
 *
 * libmicrohttpd 0.9.75 takes duplicate or contradictory Content-Length and Transfer-Encoding, names with a blank
 * before the colon, any method and any byte in a target. A proxy in front may read such a head differently, and then
 * the two disagree where the next request begins. So whatever has two readings is refused and the connection closed.
 * A pure function: no sockets, no allocation, any thread. tests/http/test_framing.py reads as the list of what is refused. */
#ifndef COMMA_SERVER_GUARD_H
#define COMMA_SERVER_GUARD_H

#include <stdint.h>

#include "api/problem.h"

enum {
    COMMA_MAX_HEADERS = 64,            /* fields */
    COMMA_MAX_HEADER_BYTES = 16 << 10, /* names and values together */
    COMMA_MAX_TARGET_BYTES = 8 << 10,
};

struct comma_header {
    struct comma_text name, value;
};

struct comma_head {
    struct comma_text method, target, version; /* target as it came, "HTTP/1.1" */
    const struct comma_header *headers;        /* [min(n_headers, COMMA_MAX_HEADERS)] */
    size_t n_headers;
    bool has_gaps; /* there are bytes between these that belong to none of them */
};

/* How long the body is. */
struct comma_framing {
    bool has_length; /* Content-Length was given */
    bool chunked;
    uint64_t length; /* where has_length */
};

/* Fails with 400, 414, 417 or 431; the connection is then to be closed. */
COMMA_MUST_CHECK
bool comma_guard_check(const struct comma_head *head, struct comma_framing *framing, struct comma_problem *problem);

/* The value of a field, compared without case; {NULL, 0} if there is none. */
struct comma_text comma_head_value(const struct comma_head *head, const char *name);

#endif
