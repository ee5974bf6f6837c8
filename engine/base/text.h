/* SPDX-License-Identifier: MIT */
/* text.h - a borrowed run of bytes with its length, and the one UTF-8 check that all doors use. */
#ifndef COMMA_BASE_TEXT_H
#define COMMA_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Not NUL-terminated; whoever made it says how long the bytes live. */
struct comma_text {
    const char *data;
    size_t size;
};

struct comma_bytes {
    const unsigned char *data;
    size_t size;
};

static inline struct comma_text comma_text_of(const char *s)
{
    return (struct comma_text){ s, strlen(s) };
}

static inline bool comma_text_equal(struct comma_text a, struct comma_text b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* True if the bytes are well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. NUL is allowed. */
bool comma_utf8_valid(const char *data, size_t size);

#endif
