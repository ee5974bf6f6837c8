/* SPDX-License-Identifier: MIT */
/* unicode.h - text as code points, and what the tokenizer asks about them (SPEC 7): which are letters, numbers and
 * white space, what is their lower case, what is their composed form.
 *
 * The tables are utf8proc's. Those of version 2.8 equal the ones that CLIP's own code uses, for every code point
 * (tests/unit/tokenizer.c compares them); PCRE2 10.42 lacks the letters and numbers of Unicode 15, so the splitting
 * pattern is written out in tokenizer.c instead. Everything here is safe to call from any thread. */
#ifndef COMMA_ENGINE_UNICODE_H
#define COMMA_ENGINE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/text.h"

/* A growing run of code points. { 0 } is empty. */
struct comma_codepoints {
    uint32_t *data; /* [n] */
    size_t n;
    size_t capacity;
};

/* False only when memory ran out; the run is then as before. */
bool comma_codepoints_push(struct comma_codepoints *run, uint32_t c);
void comma_codepoints_finish(struct comma_codepoints *run); /* frees and empties; an empty one is fine */

/* Appends text, which must be valid UTF-8. False only when memory ran out. */
bool comma_codepoints_decode(struct comma_text text, struct comma_codepoints *run);

/* Writes c as UTF-8; returns how many bytes, which is comma_utf8_size(c). */
size_t comma_utf8_encode(uint32_t c, unsigned char *bytes);

static inline size_t comma_utf8_size(uint32_t c)
{
    return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

bool comma_is_letter(uint32_t c);  /* \p{L} */
bool comma_is_number(uint32_t c);  /* \p{N} */
bool comma_is_decimal(uint32_t c); /* \p{Nd} */
bool comma_is_space(uint32_t c);   /* \s of Python's regex module */

uint32_t comma_to_upper(uint32_t c); /* the upper case where it is one code point, else c */

/* Appends the lower case of in to out, as Python's str.lower(): U+0130 becomes two code points, and a capital sigma at
 * the end of a word becomes a final one. False only when memory ran out. */
bool comma_lower(const struct comma_codepoints *in, struct comma_codepoints *out);

/* The compatibility decomposition (NFKD) of one full-width or half-width form; returns how many code points. */
size_t comma_decompose_wide(uint32_t c, uint32_t to[4]);

/* Brings run into canonical composed form (NFC) in O(n log n). False only when memory ran out. */
bool comma_nfc(struct comma_codepoints *run);

#endif
