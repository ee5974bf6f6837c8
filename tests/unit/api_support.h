/* SPDX-License-Identifier: MIT */
/* api_support.h - what the api_*.c tests share: a request parsed from bytes that end where they end. */
#ifndef COMMA_TESTS_UNIT_API_SUPPORT_H
#define COMMA_TESTS_UNIT_API_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/request.h"

struct parsed {
    unsigned char *body; /* of malloc, as long as the request: a sanitizer sees a step past its end */
    struct comma_api_request request;
    struct comma_problem problem;
    bool ok;
};

static inline struct parsed parse_bytes(enum comma_api_endpoint endpoint, const char *type, const char *query,
                                        const char *body, size_t size, const struct comma_api_limits *limits)
{
    const struct comma_api_limits defaults = comma_api_default_limits();
    struct parsed p = { .body = malloc(size ? size : 1) };
    struct comma_api_input input = { .content_type = type, .query = comma_text_of(query ? query : "") };

    assert_non_null(p.body);
    memcpy(p.body, body, size);
    input.body = p.body;
    input.body_size = size;
    p.ok = comma_api_request_parse(endpoint, &input, limits ? limits : &defaults, &p.request, &p.problem);
    return p;
}

static inline struct parsed parse_classify(const char *type, const char *query, const char *body)
{
    return parse_bytes(COMMA_API_CLASSIFY, type, query, body, strlen(body), NULL);
}

static inline void release(struct parsed *p)
{
    if (p->ok)
        comma_api_request_finish(&p->request);
    free(p->body);
}

static inline void assert_text(struct comma_text text, const char *expected)
{
    if (text.size != strlen(expected) || memcmp(text.data, expected, text.size) != 0)
        fail_msg("\"%.*s\" is not \"%s\"", (int)text.size, text.data, expected);
}

/* texts are the '|'-separated ones of expected */
static inline void assert_texts(const struct comma_text *texts, size_t n, const char *expected)
{
    const char *p = expected;

    for (size_t i = 0; i < n; i++) {
        const char *stop = strchr(p, '|');
        const size_t size = stop ? (size_t)(stop - p) : strlen(p);

        if (!(i + 1 == n) != !!stop || texts[i].size != size || memcmp(texts[i].data, p, size) != 0)
            fail_msg("text %zu is \"%.*s\", of \"%s\"", i, (int)texts[i].size, texts[i].data, expected);
        p = stop ? stop + 1 : p + size;
    }
    if (n == 0)
        assert_string_equal(expected, "");
}

/* The request was refused so; words is a part of the detail. */
static inline void assert_refused(const struct parsed *p, unsigned status, const char *pointer, const char *words)
{
    if (p->ok)
        fail_msg("accepted; expected %u, \"%s\"", status, words);
    if (comma_problem_status(p->problem.kind) != status || strcmp(p->problem.pointer, pointer) != 0 ||
        !strstr(p->problem.detail, words))
        fail_msg("%u \"%s\" \"%s\"; expected %u \"%s\" \"%s\"", comma_problem_status(p->problem.kind),
                 p->problem.pointer, p->problem.detail, status, pointer, words);
}

static inline void assert_accepted(const struct parsed *p)
{
    if (!p->ok)
        fail_msg("refused: %u \"%s\" \"%s\"", comma_problem_status(p->problem.kind), p->problem.pointer,
                 p->problem.detail);
}

#endif
