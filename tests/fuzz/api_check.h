/* SPDX-License-Identifier: MIT */
/* api_check.h - parses one request for both endpoints and holds what comes out against what api/request.h promises. */
#ifndef COMMA_TESTS_FUZZ_API_CHECK_H
#define COMMA_TESTS_FUZZ_API_CHECK_H

#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "tests/fuzz/fuzz.h"

static inline void must(bool condition)
{
    if (!condition)
        abort();
}

static inline void check_texts(const struct comma_text *texts, size_t n, size_t max, const struct comma_api_limits *l)
{
    must(n <= max);
    for (size_t i = 0; i < n; i++)
        must(texts[i].size <= l->max_label_bytes && comma_utf8_valid(texts[i].data, texts[i].size) &&
             !memchr(texts[i].data, '\0', texts[i].size));
}

static inline void check_request(const struct comma_api_request *r, const struct comma_api_limits *l)
{
    unsigned sum = 0;

    check_texts(r->labels, r->n_labels, l->max_labels, l);
    check_texts(r->texts, r->n_texts, l->max_labels, l);
    check_texts(r->templates, r->n_templates, l->max_templates, l);
    for (size_t i = 0; i < r->image.size; i++)
        sum += r->image.data[i]; /* a sanitizer sees whether it may be read */
    must(sum <= 255 * r->image.size);
    must(r->top_k >= 1 && r->timeout_ms <= l->max_timeout_ms && r->pool.used <= r->pool.max);
    if (r->endpoint == COMMA_API_CLASSIFY)
        must(r->image.size > 0 && r->n_labels > 0 && r->n_texts == 0);
    else
        must((r->image.size > 0) != (r->n_texts > 0) && r->n_labels == 0 && r->n_templates == 0);
}

static inline void check_problem(const struct comma_problem *p)
{
    char out[COMMA_PROBLEM_BYTES];
    const size_t n = comma_problem_write(p, NULL, out);

    must(p->detail[0] && comma_problem_status(p->kind) >= 400 && comma_problem_status(p->kind) <= 422);
    must(n < sizeof(out) && out[n - 1] == '}' && comma_utf8_valid(out, n));
}

static inline void check_both_endpoints(const char *content_type, struct comma_text query, const uint8_t *body,
                                        size_t size)
{
    struct comma_api_limits limits = comma_api_default_limits();

    limits.max_labels = 50; /* small, so that short inputs reach them */
    limits.max_label_bytes = 40;
    limits.max_labels_bytes = 200;
    limits.max_templates = 4;
    for (int endpoint = COMMA_API_CLASSIFY; endpoint <= COMMA_API_EMBED; endpoint++) {
        unsigned char *copy = malloc(size ? size : 1);
        const struct comma_api_input input = { content_type, query, copy, size };
        struct comma_api_request request;
        struct comma_problem problem;

        must(copy != NULL);
        if (size > 0)
            memcpy(copy, body, size);
        if (comma_api_request_parse((enum comma_api_endpoint)endpoint, &input, &limits, &request, &problem)) {
            check_request(&request, &limits);
            comma_api_request_finish(&request);
        } else {
            check_problem(&problem);
        }
        free(copy);
    }
}

#endif
