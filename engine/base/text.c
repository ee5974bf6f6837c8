/* SPDX-License-Identifier: MIT */
/* text.c - see text.h. The ranges are table 3-7 of the Unicode standard. */
#include "engine/base/text.h"

#include <stdint.h>

/* Bytes of the character at p, 0 where it is malformed. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    const unsigned char c = p[0];
    unsigned char low = 0x80, high = 0xBF;
    size_t n;

    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (left < n)
        return 0;
    if (c == 0xE0)
        low = 0xA0;
    else if (c == 0xED)
        high = 0x9F;
    else if (c == 0xF0)
        low = 0x90;
    else if (c == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

bool comma_utf8_valid(const char *data, size_t size)
{
    const unsigned char *p = (const unsigned char *)data;

    for (size_t i = 0; i < size;) {
        const size_t n = utf8_length(p + i, size - i);

        if (n == 0)
            return false;
        i += n;
    }
    return true;
}
