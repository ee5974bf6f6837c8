/* SPDX-License-Identifier: MIT */
/* checked.h - size arithmetic that says when it overflows. Every size that comes from outside goes through here
 * before it reaches memory. */
#ifndef COMMA_BASE_CHECKED_H
#define COMMA_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>

/* *out = a * b; false on overflow, *out then undefined. */
static inline bool comma_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* *out = a + b; false on overflow. */
static inline bool comma_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

#endif
