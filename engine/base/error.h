/* SPDX-License-Identifier: MIT */
/* error.h - how a function says what went wrong: a code for programs and one sentence for people.
 *
 * The struct belongs to the caller and nothing in it is allocated, so it works when memory is what ran out.
 * Functions that can fail return bool, take a struct comma_error * last, and write it only when they return false. */
#ifndef COMMA_BASE_ERROR_H
#define COMMA_BASE_ERROR_H

#include <stdbool.h>

#if defined(__GNUC__)
#define COMMA_PRINTF(string, first) __attribute__((format(printf, string, first)))
#define COMMA_MUST_CHECK           __attribute__((warn_unused_result))
#else
#define COMMA_PRINTF(string, first)
#define COMMA_MUST_CHECK
#endif

enum comma_code {
    COMMA_OK = 0,
    COMMA_E_INPUT,       /* well-formed but impossible: an undecodable image, a label longer than the context */
    COMMA_E_LIMIT,       /* a named limit was exceeded */
    COMMA_E_FORMAT,      /* not a format we read: neither PNG nor JPEG */
    COMMA_E_MODEL,       /* a model or adapter file is broken, or does not fit its backbone */
    COMMA_E_UNSUPPORTED, /* this build, processor or model cannot do it */
    COMMA_E_BUSY,        /* no room now; try again later */
    COMMA_E_CANCELLED,   /* deadline passed or client gone */
    COMMA_E_NOMEM,
    COMMA_E_IO,
    COMMA_E_INTERNAL, /* a result that must not be: NaN in a score */
    COMMA_N_CODES
};

struct comma_error {
    enum comma_code code;
    char message[480]; /* UTF-8, one sentence: the thing by name, what is wrong, what is allowed */
};

/* Sets *err (NULL is fine) and returns false, so that a check is one line. A message that does not fit is cut at a
 * character boundary. */
bool comma_fail(struct comma_error *err, enum comma_code code, const char *format, ...) COMMA_PRINTF(3, 4);

/* Puts "context: " before a message on its way up; keeps the code. Returns false. */
bool comma_fail_within(struct comma_error *err, const char *format, ...) COMMA_PRINTF(2, 3);

#endif
