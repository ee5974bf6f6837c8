/* SPDX-License-Identifier: MIT */
/* ids.h - by what a request is known: X-Request-Id, and W3C Trace Context's traceparent. Pure, any thread. */
#ifndef COMMA_SERVER_IDS_H
#define COMMA_SERVER_IDS_H

#include "engine/comma.h"

#define COMMA_REQUEST_ID_BYTES 65 /* with its NUL */
#define COMMA_TRACE_ID_BYTES   33

/* Takes the client's id if it is 1 to 64 of [A-Za-z0-9._-], else makes one of 32 hexadecimal digits.
 *   out  [COMMA_REQUEST_ID_BYTES] */
void comma_request_id(struct comma_text client, char *out);

/* Reads "00-<32 hex>-<16 hex>-<2 hex>", lower case, neither id all zero. False, and an empty id, for anything else.
 *   trace_id  out: [COMMA_TRACE_ID_BYTES] */
bool comma_traceparent_read(struct comma_text value, char *trace_id);

#endif
