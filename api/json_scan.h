/* SPDX-License-Identifier: MIT */
/* json_scan.h - weighs JSON before it is parsed.
 *
 * A parser builds 80 bytes from a "{}" and 60 from a "0", so that one MiB of the right bytes costs it eighty. This pass
 * allocates nothing: it counts depth, structural characters and list items, measures strings, and finds the picture's
 * base64, which the parser need not see at all. It judges no grammar: what it lets through the parser may still refuse.
 */
#ifndef COMMA_API_JSON_SCAN_H
#define COMMA_API_JSON_SCAN_H

#include "api/fields.h"

struct comma_json_span {
    size_t start, end; /* of the inside of "image"'s string; both 0 where there is none */
    bool found;
};

/* Scans a request body, whose root is an object: "image" of the root is found, its lists are counted. */
COMMA_MUST_CHECK
bool comma_json_scan_object(struct comma_fields *f, struct comma_text json, struct comma_json_span *image);

/* Scans an array of strings for one list field. */
COMMA_MUST_CHECK
bool comma_json_scan_list(struct comma_fields *f, enum comma_field field, struct comma_text json);

#endif
