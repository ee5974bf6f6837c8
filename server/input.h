/* SPDX-License-Identifier: MIT */
/* input.h - files that a subcommand is given: pictures and lists of texts, "-" being stdin. */
#ifndef COMMA_SERVER_INPUT_H
#define COMMA_SERVER_INPUT_H

#include "engine/base/error.h"
#include "engine/base/text.h"
#include "server/options.h"

/* Reads a whole file, or stdin where path is "-". It is read and not mapped, since a picture may be cut short by
 * another process meanwhile.
 *
 *   max_bytes  a larger file is refused with COMMA_E_LIMIT
 *   out        data is free()'s; may be empty
 *
 * Fails with COMMA_E_IO (the sentence is the reason, without the path), COMMA_E_LIMIT or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_input_read(const char *path, size_t max_bytes, struct comma_bytes *out, struct comma_error *err);

/* Adds the lines of a file, or of stdin, to a list: ended by LF or CRLF, blank ones left out, a UTF-8 byte order mark
 * in front ignored. Fails as above, with the path in front, and with COMMA_E_INPUT if there is a NUL byte in it. */
COMMA_MUST_CHECK
bool comma_input_lines(const char *path, struct comma_strings *lines, struct comma_error *err);

#endif
