/* SPDX-License-Identifier: MIT */
/* base64.h - RFC 4648 section 4, the standard alphabet; for the pictures and features that travel inside JSON. */
#ifndef COMMA_API_BASE64_H
#define COMMA_API_BASE64_H

#include "engine/comma.h"

/* Decodes text where it stands: the bytes are never longer than their text.
 *
 *   data, size  text in; out: *n_bytes bytes from data on. "=" at the end may be left out
 *   escaped     text is the inside of a JSON string: "\/" and "\u002B" are understood (PHP and .NET write them so)
 *   bad         out on failure: offset of the first character that cannot stand there, size if the text ends too early
 *
 * Whitespace and the URL-safe alphabet are refused, as is what other decoders would cut off: bits left over, text
 * behind the padding. On failure data's contents are undefined. */
COMMA_MUST_CHECK
bool comma_base64_decode(unsigned char *data, size_t size, bool escaped, size_t *n_bytes, size_t *bad);

/* The letters of 1 to 3 bytes, padded.
 *   out  [4] */
void comma_base64_letters(const unsigned char *bytes, size_t n_bytes, char *out);

#endif
