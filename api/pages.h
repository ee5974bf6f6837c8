/* SPDX-License-Identifier: MIT */
/* pages.h - files that are part of the binary: the contract and the playground. Static, never freed. */
#ifndef COMMA_API_PAGES_H
#define COMMA_API_PAGES_H

#include "api/routes.h"
#include "engine/comma.h"

struct comma_page {
    struct comma_text body;
    const char *content_type;
};

/* The page of COMMA_ROUTE_OPENAPI, _PLAYGROUND, _PLAYGROUND_JS or _PLAYGROUND_CSS; an empty body for other routes. */
struct comma_page comma_page_of(enum comma_route route);

/* Value of Content-Security-Policy under which the playground works: its own script and style, nothing from elsewhere.
 * The picture that is chosen is shown from a blob: URL. */
const char *comma_page_csp(void);

#endif
