/* SPDX-License-Identifier: MIT */
/* query.c - "labels=red+apple,dog&top_k=2": a query string's parameters, percent-decoded, '+' being a space
 * (application/x-www-form-urlencoded, as browsers, curl and every client library write it). */
#include "api/fields.h"

enum { MAX_QUERY_BYTES = 256 << 10 }; /* the server's own limit on a request line is lower */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* raw decoded, in the pool. */
static bool decode(struct comma_fields *f, struct comma_text raw, struct comma_text *out)
{
    char *data = comma_pool_copy(&f->request->pool, raw.data, raw.size);
    size_t n = 0;

    if (!data)
        return comma_fields_no_memory(f);
    for (size_t i = 0; i < raw.size; i++) {
        const int high = raw.size - i > 2 ? hex_digit(raw.data[i + 1]) : -1;
        const int low = raw.size - i > 2 ? hex_digit(raw.data[i + 2]) : -1;

        if (raw.data[i] != '%') {
            data[n++] = raw.data[i] == '+' ? ' ' : raw.data[i];
            continue;
        }
        if (high < 0 || low < 0)
            return comma_problem_set(f->problem, COMMA_PROBLEM_MALFORMED_QUERY, NULL,
                                     "The query has a '%%' that two hexadecimal digits do not follow; write a percent "
                                     "sign itself as %%25.");
        data[n++] = (char)(high << 4 | low);
        i += 2;
    }
    *out = (struct comma_text){ data, n };
    return true;
}

static bool read_parameter(struct comma_fields *f, struct comma_text raw)
{
    const char *equals = memchr(raw.data, '=', raw.size);
    const size_t n = equals ? (size_t)(equals - raw.data) : raw.size;
    struct comma_text name, value = { "", 0 };
    enum comma_field field;

    if (!decode(f, (struct comma_text){ raw.data, n }, &name))
        return false;
    if (equals && !decode(f, (struct comma_text){ equals + 1, raw.size - n - 1 }, &value))
        return false;
    if (!comma_fields_open(f, name, &field))
        return false;
    if (field == COMMA_FIELD_IMAGE)
        return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/image",
                                 "The image cannot stand in the query; send it as the body.");
    return comma_fields_set_text(f, field, value);
}

bool comma_fields_read_query(struct comma_fields *f, struct comma_text query)
{
    const char *end = query.data + query.size, *p = query.data;

    if (query.size > MAX_QUERY_BYTES)
        return comma_problem_set(f->problem, COMMA_PROBLEM_TARGET_TOO_LONG, NULL,
                                 "The query is longer than %d bytes; send the labels as multipart/form-data or JSON.",
                                 MAX_QUERY_BYTES);
    while (p < end) {
        const char *stop = memchr(p, '&', (size_t)(end - p));
        const size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p);

        if (n > 0 && !read_parameter(f, (struct comma_text){ p, n }))
            return false;
        p = stop ? stop + 1 : end;
    }
    return true;
}
