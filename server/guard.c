/* SPDX-License-Identifier: MIT */
/* guard.c - see guard.h. The rules are RFC 9112's where it says "MUST reject" or leaves a choice between two readings.
 */
#include "server/guard.h"

#include <string.h>
#include <strings.h>

static bool is_token_byte(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct comma_text t)
{
    for (size_t i = 0; i < t.size; i++)
        if (!is_token_byte((unsigned char)t.data[i]))
            return false;
    return t.size > 0;
}

static bool is(struct comma_text t, const char *word)
{
    return t.size == strlen(word) && memcmp(t.data, word, t.size) == 0;
}

static bool is_any_case(struct comma_text t, const char *word)
{
    return t.size == strlen(word) && strncasecmp(t.data, word, t.size) == 0;
}

struct comma_text comma_head_value(const struct comma_head *head, const char *name)
{
    for (size_t i = 0; i < head->n_headers && i < COMMA_MAX_HEADERS; i++)
        if (is_any_case(head->headers[i].name, name))
            return head->headers[i].value;
    return (struct comma_text){ NULL, 0 };
}

static size_t count(const struct comma_head *head, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < head->n_headers; i++)
        n += is_any_case(head->headers[i].name, name);
    return n;
}

static bool check_request_line(const struct comma_head *head, struct comma_problem *problem)
{
    const struct comma_text t = head->target;

    if (!is_token(head->method) || head->method.size > 32)
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "the method is not a token");
    if (!is(head->version, "HTTP/1.1") && !is(head->version, "HTTP/1.0"))
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                 "the protocol version is unknown; HTTP/1.1 and HTTP/1.0 are served");
    if (t.size > COMMA_MAX_TARGET_BYTES)
        return comma_problem_set(problem, COMMA_PROBLEM_TARGET_TOO_LONG, NULL,
                                 "the request target has %zu bytes; allowed are %d", t.size, COMMA_MAX_TARGET_BYTES);
    if (head->has_gaps)
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                 "the head holds a NUL, a folded line, a field without a name, or a line that does not "
                                 "end with CR LF");
    for (size_t i = 0; i < t.size; i++) {
        const unsigned char c = (unsigned char)t.data[i];

        if (c <= 0x20 || c >= 0x7f || c == '#')
            return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                     "the request target holds byte 0x%02x; percent-encode it", c);
        if (c == '%' && i + 2 < t.size && t.data[i + 1] == '0' && t.data[i + 2] == '0')
            return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "the request target holds %%00");
    }
    if (t.size == 0 || (t.data[0] != '/' && !is(t, "*") && (t.size < 7 || strncasecmp(t.data, "http://", 7) != 0) &&
                        (t.size < 8 || strncasecmp(t.data, "https://", 8) != 0)))
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "the request target does not begin with /");
    return true;
}

/* Each field by itself, and all together by size. */
static bool check_fields(const struct comma_head *head, struct comma_problem *problem)
{
    size_t bytes = 0;

    if (head->n_headers > COMMA_MAX_HEADERS)
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "the request has more than %d header fields",
                                 COMMA_MAX_HEADERS);
    for (size_t i = 0; i < head->n_headers; i++) {
        const struct comma_header *h = &head->headers[i];

        bytes += h->name.size + h->value.size;
        if (!is_token(h->name)) /* "Transfer-Encoding : chunked" is refused here */
            return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                     "header field %zu has a name that is not a token", i + 1);
        for (size_t at = 0; at < h->value.size; at++) {
            const unsigned char c = (unsigned char)h->value.data[at];

            if ((c < 0x20 && c != '\t') || c == 0x7f)
                return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                         "header field %zu holds control byte 0x%02x", i + 1, c);
        }
    }
    if (bytes > COMMA_MAX_HEADER_BYTES)
        return comma_problem_set(problem, COMMA_PROBLEM_HEADERS_TOO_LARGE, NULL,
                                 "the header fields have %zu bytes; allowed are %d", bytes, COMMA_MAX_HEADER_BYTES);
    return true;
}

/* Fields that must not come twice, since two readers may take different ones. */
static bool check_unique(const struct comma_head *head, struct comma_problem *problem)
{
    static const char *const unique[] = { "Host",         "Content-Length", "Transfer-Encoding",
                                          "Content-Type", "Authorization",  "Content-Encoding",
                                          "X-API-Key",    "Expect",         "X-Request-Timeout" };

    for (size_t i = 0; i < sizeof(unique) / sizeof(*unique); i++)
        if (count(head, unique[i]) > 1)
            return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                     "the header field %s is given more than once", unique[i]);
    return true;
}

static bool check_host(const struct comma_head *head, struct comma_problem *problem)
{
    const struct comma_text host = comma_head_value(head, "Host");

    if (!host.data && is(head->version, "HTTP/1.1"))
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "the header field Host is missing");
    for (size_t i = 0; i < host.size; i++) {
        const unsigned char c = (unsigned char)host.data[i];

        if (c >= 0x80 || !(is_token_byte(c) || strchr(":[]", c)))
            return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                     "the header field Host is not a host and port");
    }
    return true;
}

static bool read_length(struct comma_text text, uint64_t *out)
{
    uint64_t n = 0;

    if (text.size == 0 || text.size > 18) /* fits 64 bits */
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(text.data[i] - '0');
    }
    *out = n;
    return true;
}

static bool check_framing(const struct comma_head *head, struct comma_framing *framing, struct comma_problem *problem)
{
    const struct comma_text length = comma_head_value(head, "Content-Length");
    const struct comma_text coding = comma_head_value(head, "Transfer-Encoding");
    const struct comma_text expect = comma_head_value(head, "Expect");

    *framing = (struct comma_framing){ .has_length = length.data != NULL, .chunked = coding.data != NULL };
    if (framing->has_length && !read_length(length, &framing->length))
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "Content-Length is not a number of bytes");
    if (framing->chunked && framing->has_length)
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                 "both Content-Length and Transfer-Encoding are given; send one");
    if (framing->chunked && is(head->version, "HTTP/1.0"))
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "HTTP/1.0 has no Transfer-Encoding");
    if (framing->chunked && !is_any_case(coding, "chunked"))
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL,
                                 "Transfer-Encoding is something else than chunked");
    if ((framing->chunked || framing->length > 0) &&
        (is(head->method, "GET") || is(head->method, "HEAD") || is(head->method, "OPTIONS") ||
         is(head->method, "TRACE") || is(head->method, "CONNECT")))
        return comma_problem_set(problem, COMMA_PROBLEM_BAD_REQUEST, NULL, "a %.*s request has no body here",
                                 (int)head->method.size, head->method.data);
    if (expect.data && is(head->version, "HTTP/1.1") && !is_any_case(expect, "100-continue"))
        return comma_problem_set(problem, COMMA_PROBLEM_EXPECTATION, NULL,
                                 "the only expectation that can be met is 100-continue");
    return true;
}

bool comma_guard_check(const struct comma_head *head, struct comma_framing *framing, struct comma_problem *problem)
{
    return check_request_line(head, problem) && check_fields(head, problem) && check_unique(head, problem) &&
           check_host(head, problem) && check_framing(head, framing, problem);
}
