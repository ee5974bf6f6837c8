/* SPDX-License-Identifier: MIT */
/* problem.h - the one table of what can go wrong with a request: kind, HTTP status, title; and from the engine's codes
 * to kinds and to exit statuses.
 *
 * A problem becomes application/problem+json (RFC 9457): type "urn:comma:problem:<slug>", title, status, detail, and
 * pointer (a JSON pointer, also for form fields and query parameters) where one field is at fault. The detail says what
 * to change. Nothing here allocates, so that "out of memory" can be said too. */
#ifndef COMMA_API_PROBLEM_H
#define COMMA_API_PROBLEM_H

#include "api/buffer.h"
#include "engine/comma.h"

#define COMMA_PROBLEM_CONTENT_TYPE "application/problem+json"
#define COMMA_PROBLEM_BYTES        6144 /* room for any problem document */

enum comma_problem_kind {
    COMMA_PROBLEM_BAD_REQUEST,       /* 400 framing, headers, target */
    COMMA_PROBLEM_MALFORMED_JSON,    /* 400 */
    COMMA_PROBLEM_MALFORMED_FORM,    /* 400 multipart/form-data */
    COMMA_PROBLEM_MALFORMED_QUERY,   /* 400 */
    COMMA_PROBLEM_MISSING_FIELD,     /* 400 */
    COMMA_PROBLEM_DUPLICATE_FIELD,   /* 400 */
    COMMA_PROBLEM_UNKNOWN_FIELD,     /* 400 */
    COMMA_PROBLEM_INVALID_FIELD,     /* 400 wrong type or value */
    COMMA_PROBLEM_INVALID_TEXT,      /* 400 a text that is not UTF-8, or holds control characters */
    COMMA_PROBLEM_UNAUTHORIZED,      /* 401 */
    COMMA_PROBLEM_FORBIDDEN,         /* 403 */
    COMMA_PROBLEM_NOT_FOUND,         /* 404 path */
    COMMA_PROBLEM_UNKNOWN_MODEL,     /* 404 */
    COMMA_PROBLEM_WRONG_METHOD,      /* 405, with Allow */
    COMMA_PROBLEM_TIMEOUT,           /* 408 the client was too slow */
    COMMA_PROBLEM_LENGTH_REQUIRED,   /* 411 */
    COMMA_PROBLEM_TOO_LARGE,         /* 413 body, or picture */
    COMMA_PROBLEM_TOO_COMPLEX,       /* 413 JSON with too many parts or levels */
    COMMA_PROBLEM_TARGET_TOO_LONG,   /* 414 */
    COMMA_PROBLEM_UNSUPPORTED_TYPE,  /* 415 Content-Type, Content-Encoding */
    COMMA_PROBLEM_UNSUPPORTED_IMAGE, /* 415 neither PNG nor JPEG */
    COMMA_PROBLEM_EXPECTATION,       /* 417 Expect other than 100-continue */
    COMMA_PROBLEM_UNPROCESSABLE,     /* 422 an undecodable image, a label longer than the context */
    COMMA_PROBLEM_NO_LABELS,         /* 422 no labels, or no texts */
    COMMA_PROBLEM_TOO_MANY_LABELS,   /* 422 or texts, or bytes of them */
    COMMA_PROBLEM_TEXT_TOO_LONG,     /* 422 a label, text or template */
    COMMA_PROBLEM_INVALID_TEMPLATE,  /* 422 not exactly one {}, or too many of them */
    COMMA_PROBLEM_TEMPLATE_REFUSED,  /* 422 the adapter has a prompt of its own */
    COMMA_PROBLEM_UNSUPPORTED,       /* 422 this model cannot do it */
    COMMA_PROBLEM_TOO_MANY_REQUESTS, /* 429, with Retry-After: this client's share is used up */
    COMMA_PROBLEM_HEADERS_TOO_LARGE, /* 431 */
    COMMA_PROBLEM_INTERNAL,          /* 500 without internals */
    COMMA_PROBLEM_OVERLOADED,        /* 503, with Retry-After: the server's queue is full */
    COMMA_PROBLEM_NOT_READY,         /* 503 /readyz before the model is up */
    COMMA_PROBLEM_SHUTTING_DOWN,     /* 503, with Retry-After */
    COMMA_PROBLEM_NO_MEMORY,         /* 503, with Retry-After */
    COMMA_PROBLEM_DEADLINE,          /* 504 timeout_ms, or the server's limit, passed */
    COMMA_N_PROBLEM_KINDS
};

struct comma_problem {
    enum comma_problem_kind kind;
    char detail[480];  /* UTF-8, one sentence: what is wrong, what is allowed */
    char pointer[128]; /* "/labels/3"; empty if no one field is at fault */
};

unsigned comma_problem_status(enum comma_problem_kind kind);
const char *comma_problem_slug(enum comma_problem_kind kind); /* "too-many-labels": also a metric's reason */
const char *comma_problem_title(enum comma_problem_kind kind);

/* True for those that pass by themselves, whose answer bears Retry-After. */
bool comma_problem_retry(enum comma_problem_kind kind);

/* Sets *problem (NULL is fine) and returns false, so that a check is one line. pointer may be NULL. A client's bytes
 * may stand in detail: what is not UTF-8 is replaced when it is written. */
bool comma_problem_set(struct comma_problem *problem, enum comma_problem_kind kind, const char *pointer,
                       const char *detail, ...) COMMA_PRINTF(4, 5);

/* The same with the pointer "/list/index". */
bool comma_problem_set_at(struct comma_problem *problem, enum comma_problem_kind kind, const char *list, size_t index,
                          const char *detail, ...) COMMA_PRINTF(5, 6);

/* The engine's error as a problem. Codes whose words are about the server's own files or mistakes (COMMA_E_MODEL, _IO,
 * _INTERNAL) become 500 with a fixed sentence; the words are for the log. */
void comma_problem_from_error(struct comma_problem *problem, const struct comma_error *err);

/* The same for a job that failed, with a pointer to the label, text or image at fault. */
void comma_problem_from_job(struct comma_problem *problem, const struct comma_job *job);

/* 404 for a model name that is not served; the detail sends to GET /models. */
void comma_problem_unknown_model(struct comma_problem *problem, const char *name);

/* Writes the document.
 *   request_id  NULL, or at most 128 bytes
 *   out         [COMMA_PROBLEM_BYTES], not NUL-terminated
 * Returns its size. */
size_t comma_problem_write(const struct comma_problem *problem, const char *request_id, char *out);

/* What the process ends with when this is what stopped it (command-line contract). */
int comma_exit_status(enum comma_code code);

#endif
