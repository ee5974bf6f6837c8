/* SPDX-License-Identifier: MIT */
/* labels.c - a list of texts written into one form field or query parameter.
 *
 * Which of the three ways is meant shows in the value itself: "[" at its front is a JSON array, a line break in it
 * means one text a line, else commas part them. Pieces are trimmed and empty ones dropped; only a JSON array says
 * exactly what it says. */
#include "api/fields.h"
#include "api/header_params.h"

bool comma_fields_append_list(struct comma_fields *f, enum comma_field field, struct comma_text value)
{
    const struct comma_text trimmed = comma_text_trim(value);
    const char *end = value.data + value.size, *p = value.data;
    char separator;

    if (trimmed.size == 0)
        return true;
    if (trimmed.data[0] == '[')
        return comma_fields_read_json_list(f, field, trimmed);
    separator = memchr(trimmed.data, '\n', trimmed.size) ? '\n' : ',';
    if (separator == ',' && field == COMMA_FIELD_TEMPLATES) /* "a photo of a {}, a kind of pet." is one template */
        return comma_fields_append(f, field, trimmed, false);
    while (p < end) {
        const char *stop = memchr(p, separator, (size_t)(end - p));
        const struct comma_text piece =
            comma_text_trim((struct comma_text){ p, stop ? (size_t)(stop - p) : (size_t)(end - p) });

        if (piece.size > 0 && !comma_fields_append(f, field, piece, false))
            return false;
        p = stop ? stop + 1 : end;
    }
    return true;
}
