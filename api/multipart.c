/* SPDX-License-Identifier: MIT */
/* multipart.c - multipart/form-data (RFC 7578, RFC 2046): the body is whole in memory, and parts are views of it.
 *
 * A delimiter is CRLF "--" boundary, blanks, and CRLF, or "--" for the last one; the same bytes with anything else
 * behind them are data. Each search starts where the last one ended, so the cost is one pass however the body is made.
 * What is no longer allowed (folded header lines, transfer encodings) or never was (a bare LF) is refused, since two
 * readers that disagree about a form can be played against each other. */
#include <stdarg.h>
#include <stdio.h>

#include "api/fields.h"
#include "api/header_params.h"

enum { MAX_BOUNDARY = 70, MAX_PART_HEADER_BYTES = 4096, EXTRA_PARTS = 64 };

struct reader {
    struct comma_fields *f;
    const char *data;
    size_t size, pos;
    char delimiter[4 + MAX_BOUNDARY]; /* CRLF, "--", boundary */
    size_t delimiter_size;
};

COMMA_PRINTF(2, 3)
static bool fail(struct reader *r, const char *format, ...)
{
    struct comma_error err;
    va_list args;

    va_start(args, format);
    vsnprintf(err.message, sizeof(err.message), format, args);
    va_end(args);
    return comma_problem_set(r->f->problem, COMMA_PROBLEM_MALFORMED_FORM, NULL, "%s", err.message);
}

/* RFC 2046's bchars; a space only inside. */
static bool boundary_is_fine(struct comma_text b)
{
    if (b.size < 1 || b.size > MAX_BOUNDARY || b.data[b.size - 1] == ' ')
        return false;
    for (size_t i = 0; i < b.size; i++) {
        const char c = b.data[i];
        const bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

        if (!alnum && (c == '\0' || !strchr("'()+_,-./:=? ", c)))
            return false;
    }
    return true;
}

/* Whether a delimiter's boundary that ends at pos is one; then *after stands behind its line, *last tells "--". */
static bool delimiter_ends(const struct reader *r, size_t pos, size_t *after, bool *last)
{
    if (r->size - pos >= 2 && memcmp(r->data + pos, "--", 2) == 0) {
        *last = true;
        *after = pos + 2;
        return true;
    }
    while (pos < r->size && (r->data[pos] == ' ' || r->data[pos] == '\t'))
        pos++;
    *last = false;
    *after = pos + 2;
    return r->size - pos >= 2 && memcmp(r->data + pos, "\r\n", 2) == 0;
}

/* Finds the next delimiter from pos on: *start is where its CRLF stands, and so where the part before it ends. */
static bool find_delimiter(const struct reader *r, size_t pos, size_t *start, size_t *after, bool *last)
{
    while (pos <= r->size) {
        const char *hit = memmem(r->data + pos, r->size - pos, r->delimiter, r->delimiter_size);

        if (!hit)
            return false;
        *start = (size_t)(hit - r->data);
        if (delimiter_ends(r, *start + r->delimiter_size, after, last))
            return true;
        pos = *start + r->delimiter_size;
    }
    return false;
}

/* The first delimiter, which may stand at the very start without its CRLF; what is before it is no one's. */
static bool skip_preamble(struct reader *r, bool *last)
{
    const size_t n = r->delimiter_size - 2;
    size_t start;

    if (r->size >= n && memcmp(r->data, r->delimiter + 2, n) == 0) {
        if (delimiter_ends(r, n, &r->pos, last))
            return true;
        if (n < r->size && r->data[n] == '\n')
            return fail(r, "The multipart body's lines end with LF alone; they must end with CR LF.");
    }
    return find_delimiter(r, 0, &start, &r->pos, last) ||
           fail(r, "The multipart body does not hold the boundary \"%.*s\" that its Content-Type names.", (int)n - 2,
                r->delimiter + 4);
}

/* name="..." of a Content-Disposition: form-data. A filename is of no interest here. */
static bool read_disposition(struct reader *r, struct comma_text header, struct comma_text *name)
{
    struct comma_text rest, key, value;
    bool found = false;

    if (!comma_header_is(comma_header_value(header, &rest), "form-data"))
        return fail(r, "A part's Content-Disposition must be form-data.");
    for (;;) {
        const enum comma_param_result result = comma_header_param(&rest, &key, &value);

        if (result == COMMA_PARAM_END)
            break;
        if (result == COMMA_PARAM_MALFORMED)
            return fail(r, "A part's Content-Disposition is malformed; write it as form-data; name=\"labels\".");
        if (!comma_header_is(key, "name"))
            continue;
        if (found)
            return fail(r, "A part's Content-Disposition has two names.");
        found = true;
        *name = value;
    }
    return found || fail(r, "A part's Content-Disposition has no name; write it as form-data; name=\"labels\".");
}

/* One line of a part's header. */
static bool read_header_line(struct reader *r, struct comma_text line, bool *found, struct comma_text *name)
{
    const char *colon = memchr(line.data, ':', line.size);
    struct comma_text key, value;

    if (!colon)
        return fail(r, "A part has a header line without a colon.");
    key = (struct comma_text){ line.data, (size_t)(colon - line.data) };
    value = comma_text_trim((struct comma_text){ colon + 1, line.size - key.size - 1 });
    if (memchr(line.data, '\n', line.size) || memchr(line.data, '\0', line.size))
        return fail(r, "A part's header holds a bare line feed or NUL.");
    if (comma_header_is(key, "Content-Transfer-Encoding")) {
        if (!comma_header_is(value, "binary") && !comma_header_is(value, "8bit") && !comma_header_is(value, "7bit"))
            return fail(r, "A part is in a Content-Transfer-Encoding; send its bytes as they are (RFC 7578, 4.7).");
    } else if (comma_header_is(key, "Content-Disposition")) {
        if (*found)
            return fail(r, "A part has two Content-Disposition headers.");
        *found = true;
        return read_disposition(r, value, name);
    }
    return true;
}

static bool is_blank_at(const struct reader *r, size_t pos)
{
    return pos < r->size && (r->data[pos] == ' ' || r->data[pos] == '\t');
}

/* The header lines of a part up to the empty line; r->pos is then at its data. */
static bool read_header(struct reader *r, struct comma_text *name)
{
    const size_t start = r->pos;
    bool found = false;

    for (;;) {
        const size_t left = r->size - r->pos, room = start + MAX_PART_HEADER_BYTES - r->pos;
        const char *line = r->data + r->pos, *end = memmem(line, left < room ? left : room, "\r\n", 2);

        if (!end && left >= room)
            return fail(r, "A part's header is longer than %d bytes.", MAX_PART_HEADER_BYTES);
        if (!end)
            return fail(r, "The multipart body ends inside a part's header; was the upload cut?");
        r->pos += (size_t)(end - line) + 2;
        if (end == line)
            break;
        if (is_blank_at(r, (size_t)(line - r->data)) || is_blank_at(r, r->pos))
            return fail(r, "A part has a header line that is folded; write each header on one line.");
        if (!read_header_line(r, (struct comma_text){ line, (size_t)(end - line) }, &found, name))
            return false;
        if (r->pos - start >= MAX_PART_HEADER_BYTES)
            return fail(r, "A part's header is longer than %d bytes.", MAX_PART_HEADER_BYTES);
    }
    return found || fail(r, "A part has no Content-Disposition header, so its name is not known.");
}

/* One part from its header on; r->pos is then behind the delimiter that ends it. */
static bool read_part(struct reader *r, bool *last)
{
    struct comma_text name = { "", 0 }, value;
    enum comma_field field;
    size_t end;

    if (!read_header(r, &name))
        return false;
    /* from the CRLF before the data on: a part without data has its delimiter right behind the empty line */
    value.data = r->data + r->pos;
    if (!find_delimiter(r, r->pos - 2, &end, &r->pos, last))
        return fail(r, "The multipart body ends before its closing boundary; was the upload cut?");
    value.size = end < (size_t)(value.data - r->data) ? 0 : end - (size_t)(value.data - r->data);
    if (!comma_fields_open(r->f, name, &field))
        return false;
    if (field == COMMA_FIELD_IMAGE)
        return comma_fields_set_image(r->f, (const unsigned char *)value.data, value.size);
    return comma_fields_set_text(r->f, field, value);
}

bool comma_fields_read_multipart(struct comma_fields *f, struct comma_bytes body, struct comma_text boundary)
{
    struct reader r = { .f = f, .data = (const char *)body.data, .size = body.size };
    const size_t max_parts = f->limits->max_labels + EXTRA_PARTS;
    bool last = false;

    if (!boundary_is_fine(boundary))
        return fail(&r, "The Content-Type needs a boundary of 1 to %d of the characters that RFC 2046 allows.",
                    MAX_BOUNDARY);
    memcpy(r.delimiter, "\r\n--", 4);
    memcpy(r.delimiter + 4, boundary.data, boundary.size);
    r.delimiter_size = 4 + boundary.size;
    if (!skip_preamble(&r, &last))
        return false;
    for (size_t n = 0; !last; n++) {
        if (n >= max_parts)
            return comma_problem_set(f->problem, COMMA_PROBLEM_TOO_COMPLEX, NULL,
                                     "The form has more than %zu parts; send the labels as one field.", max_parts);
        if (!read_part(&r, &last))
            return false;
    }
    return true;
}
