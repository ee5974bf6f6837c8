/* SPDX-License-Identifier: MIT */
/* error.c - see error.h. */
#include "engine/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A multi-byte character that was cut is taken off whole: the message ends up in JSON, which must be UTF-8. */
static void drop_cut_character(char *s, size_t len)
{
    size_t start = len;

    while (start > 0 && len - start < 4 && ((unsigned char)s[start - 1] & 0xC0) == 0x80)
        start--;
    if (start > 0 && ((unsigned char)s[start - 1] & 0xC0) == 0xC0) {
        const unsigned char lead = (unsigned char)s[start - 1];
        const size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;

        if (len - (start - 1) < need)
            s[start - 1] = '\0';
    }
}

static void COMMA_PRINTF(3, 0) format_message(char *out, size_t size, const char *format, va_list args)
{
    const int n = vsnprintf(out, size, format, args);

    if (n < 0)
        out[0] = '\0';
    else if ((size_t)n >= size)
        drop_cut_character(out, size - 1);
}

bool comma_fail(struct comma_error *err, enum comma_code code, const char *format, ...)
{
    va_list args;

    if (!err)
        return false;
    err->code = code;
    va_start(args, format);
    format_message(err->message, sizeof(err->message), format, args);
    va_end(args);
    return false;
}

bool comma_fail_within(struct comma_error *err, const char *format, ...)
{
    char inner[sizeof(err->message)];
    va_list args;
    size_t n;

    if (!err)
        return false;
    memcpy(inner, err->message, sizeof(inner));
    va_start(args, format);
    format_message(err->message, sizeof(err->message), format, args);
    va_end(args);
    n = strlen(err->message);
    if (snprintf(err->message + n, sizeof(err->message) - n, ": %s", inner) >= (int)(sizeof(err->message) - n))
        drop_cut_character(err->message, sizeof(err->message) - 1);
    return false;
}
