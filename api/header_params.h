/* SPDX-License-Identifier: MIT */
/* header_params.h - `form-data; name="image"; filename="a.png"`: a value and its parameters, as in Content-Type and
 * Content-Disposition. A filename with a ';' inside its quotes stays in one piece. */
#ifndef COMMA_API_HEADER_PARAMS_H
#define COMMA_API_HEADER_PARAMS_H

#include "engine/comma.h"

/* The value before the first ';', without blanks at its ends; *rest is then what comma_header_param() reads. */
struct comma_text comma_header_value(struct comma_text header, struct comma_text *rest);

enum comma_param_result { COMMA_PARAM_FOUND, COMMA_PARAM_END, COMMA_PARAM_MALFORMED };

/* The next parameter. A quoted value comes without its quotes, backslashes as they stand. */
enum comma_param_result comma_header_param(struct comma_text *rest, struct comma_text *name, struct comma_text *value);

/* ASCII letters of either case are equal. */
bool comma_header_is(struct comma_text text, const char *word);

/* text without spaces, tabs, CR and LF at its ends. */
struct comma_text comma_text_trim(struct comma_text text);

#endif
