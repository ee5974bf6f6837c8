/* SPDX-License-Identifier: MIT */
/* html_entities.h - character references of HTML: &amp; &#65; &#x41; (SPEC 7.3), as Python's html.unescape reads them.
 *
 * References are given as code points, since that is what the clean-up works on. Safe to call from any thread. */
#ifndef COMMA_ENGINE_HTML_ENTITIES_H
#define COMMA_ENGINE_HTML_ENTITIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/unicode.h"

/* The longest name, without its semicolon. */
#define COMMA_MAX_ENTITY_NAME 31

/* What a name without '&' and ';' stands for: writes value and returns how many code points, 0 for an unknown name.
 * bare: the semicolon is missing, so only the names that HTML allows without one are known. */
size_t comma_html_named(const uint32_t *name, size_t size, bool bare, uint32_t value[2]);

/* The longest beginning of name, at least two characters, that is a name allowed without semicolon: its size, or 0. */
size_t comma_html_bare_prefix(const uint32_t *name, size_t size);

/* Reads a numeric reference at the start of text ("&#65;", semicolon optional). Returns its size, 0 where there is
 * none. value is what it stands for if has_value; some code points stand for nothing. */
size_t comma_html_numeric(const uint32_t *text, size_t n, uint32_t *value, bool *has_value);

/* Appends in to out with its references replaced, once. False only when memory ran out. */
bool comma_html_unescape(const struct comma_codepoints *in, struct comma_codepoints *out);

#endif
