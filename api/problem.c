/* SPDX-License-Identifier: MIT */
/* problem.c - see problem.h: the two tables, and the document. */
#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct kind_row {
    const char *slug, *title;
    unsigned status;
    bool retry;
} kinds[COMMA_N_PROBLEM_KINDS] = {
    [COMMA_PROBLEM_BAD_REQUEST] = { "bad-request", "The request is malformed", 400, false },
    [COMMA_PROBLEM_MALFORMED_JSON] = { "malformed-json", "The JSON is malformed", 400, false },
    [COMMA_PROBLEM_MALFORMED_FORM] = { "malformed-form", "The multipart form is malformed", 400, false },
    [COMMA_PROBLEM_MALFORMED_QUERY] = { "malformed-query", "The query string is malformed", 400, false },
    [COMMA_PROBLEM_MISSING_FIELD] = { "missing-field", "A field is missing", 400, false },
    [COMMA_PROBLEM_DUPLICATE_FIELD] = { "duplicate-field", "A field is given twice", 400, false },
    [COMMA_PROBLEM_UNKNOWN_FIELD] = { "unknown-field", "A field is not known", 400, false },
    [COMMA_PROBLEM_INVALID_FIELD] = { "invalid-field", "A field has a wrong value", 400, false },
    [COMMA_PROBLEM_INVALID_TEXT] = { "invalid-text", "A text has bytes that cannot be", 400, false },
    [COMMA_PROBLEM_UNAUTHORIZED] = { "unauthorized", "An API key is needed", 401, false },
    [COMMA_PROBLEM_FORBIDDEN] = { "forbidden", "This key may not do that", 403, false },
    [COMMA_PROBLEM_NOT_FOUND] = { "not-found", "There is nothing at this path", 404, false },
    [COMMA_PROBLEM_UNKNOWN_MODEL] = { "unknown-model", "The model is not served here", 404, false },
    [COMMA_PROBLEM_WRONG_METHOD] = { "method-not-allowed", "The method is not allowed here", 405, false },
    [COMMA_PROBLEM_TIMEOUT] = { "request-timeout", "The request took too long to arrive", 408, false },
    [COMMA_PROBLEM_LENGTH_REQUIRED] = { "length-required", "Content-Length is needed", 411, false },
    [COMMA_PROBLEM_TOO_LARGE] = { "too-large", "The request is too large", 413, false },
    [COMMA_PROBLEM_TOO_COMPLEX] = { "too-complex", "The JSON is too complex", 413, false },
    [COMMA_PROBLEM_TARGET_TOO_LONG] = { "uri-too-long", "The request target is too long", 414, false },
    [COMMA_PROBLEM_UNSUPPORTED_TYPE] = { "unsupported-media-type", "The body's type is not read here", 415, false },
    [COMMA_PROBLEM_UNSUPPORTED_IMAGE] = { "unsupported-image", "The image format is not read here", 415, false },
    [COMMA_PROBLEM_EXPECTATION] = { "expectation-failed", "The expectation cannot be met", 417, false },
    [COMMA_PROBLEM_UNPROCESSABLE] = { "unprocessable", "The request is well-formed but impossible", 422, false },
    [COMMA_PROBLEM_NO_LABELS] = { "no-labels", "There is nothing to compare with", 422, false },
    [COMMA_PROBLEM_TOO_MANY_LABELS] = { "too-many-labels", "There are too many texts", 422, false },
    [COMMA_PROBLEM_TEXT_TOO_LONG] = { "text-too-long", "A text is too long", 422, false },
    [COMMA_PROBLEM_INVALID_TEMPLATE] = { "invalid-template", "A template is not usable", 422, false },
    [COMMA_PROBLEM_TEMPLATE_REFUSED] = { "template-refused", "This model has a prompt of its own", 422, false },
    [COMMA_PROBLEM_UNSUPPORTED] = { "unsupported", "This model cannot do that", 422, false },
    [COMMA_PROBLEM_TOO_MANY_REQUESTS] = { "too-many-requests", "This client's share is used up", 429, true },
    [COMMA_PROBLEM_HEADERS_TOO_LARGE] = { "headers-too-large", "The header fields are too large", 431, false },
    [COMMA_PROBLEM_INTERNAL] = { "internal", "The server failed", 500, false },
    [COMMA_PROBLEM_OVERLOADED] = { "overloaded", "The server has no room now", 503, true },
    [COMMA_PROBLEM_NOT_READY] = { "not-ready", "The server is not ready", 503, true },
    [COMMA_PROBLEM_SHUTTING_DOWN] = { "shutting-down", "The server is shutting down", 503, true },
    [COMMA_PROBLEM_NO_MEMORY] = { "out-of-memory", "The server is short of memory", 503, true },
    [COMMA_PROBLEM_DEADLINE] = { "deadline-exceeded", "The request took too long", 504, false },
};

/* `fixed` replaces the engine's words where those are about the server's own files or mistakes. */
static const struct code_row {
    enum comma_problem_kind kind;
    int exit_status;
    const char *fixed;
} codes[COMMA_N_CODES] = {
    [COMMA_OK] = { COMMA_PROBLEM_INTERNAL, 0, "The server reported a failure without a cause; its log says more." },
    [COMMA_E_INPUT] = { COMMA_PROBLEM_UNPROCESSABLE, 1, NULL },
    [COMMA_E_LIMIT] = { COMMA_PROBLEM_TOO_LARGE, 1, NULL },
    [COMMA_E_FORMAT] = { COMMA_PROBLEM_UNSUPPORTED_IMAGE, 1, NULL },
    [COMMA_E_MODEL] = { COMMA_PROBLEM_INTERNAL, 1,
                        "The model on this server is broken; its operator's log says more." },
    [COMMA_E_UNSUPPORTED] = { COMMA_PROBLEM_UNSUPPORTED, 1, NULL },
    [COMMA_E_BUSY] = { COMMA_PROBLEM_OVERLOADED, 1, "The queue is full; try again after the time in Retry-After." },
    [COMMA_E_CANCELLED] = { COMMA_PROBLEM_DEADLINE, 1,
                            "The deadline passed before the answer was ready; ask for less, or allow more time." },
    [COMMA_E_NOMEM] = { COMMA_PROBLEM_NO_MEMORY, 1, "Memory is short at the moment; try again later." },
    [COMMA_E_IO] = { COMMA_PROBLEM_INTERNAL, 1, "The server could not read one of its own files; its log says more." },
    [COMMA_E_INTERNAL] = { COMMA_PROBLEM_INTERNAL, 1, "The result was not a number; the server's log says more." },
};

unsigned comma_problem_status(enum comma_problem_kind kind)
{
    return kinds[kind].status;
}

const char *comma_problem_slug(enum comma_problem_kind kind)
{
    return kinds[kind].slug;
}

const char *comma_problem_title(enum comma_problem_kind kind)
{
    return kinds[kind].title;
}

bool comma_problem_retry(enum comma_problem_kind kind)
{
    return kinds[kind].retry;
}

int comma_exit_status(enum comma_code code)
{
    return codes[code].exit_status;
}

COMMA_PRINTF(2, 0)
static void set_detail(struct comma_problem *problem, const char *detail, va_list args)
{
    char text[2 * sizeof(problem->detail)]; /* longer, so that comma_fail() does the cutting, at a character */
    struct comma_error err;

    if (vsnprintf(text, sizeof(text), detail, args) < 0)
        text[0] = '\0';
    comma_fail(&err, COMMA_E_INPUT, "%s", text);
    snprintf(problem->detail, sizeof(problem->detail), "%s", err.message);
}

bool comma_problem_set(struct comma_problem *problem, enum comma_problem_kind kind, const char *pointer,
                       const char *detail, ...)
{
    va_list args;

    if (!problem)
        return false;
    problem->kind = kind;
    snprintf(problem->pointer, sizeof(problem->pointer), "%s", pointer ? pointer : "");
    va_start(args, detail);
    set_detail(problem, detail, args);
    va_end(args);
    return false;
}

bool comma_problem_set_at(struct comma_problem *problem, enum comma_problem_kind kind, const char *list, size_t index,
                          const char *detail, ...)
{
    va_list args;

    if (!problem)
        return false;
    problem->kind = kind;
    snprintf(problem->pointer, sizeof(problem->pointer), "/%s/%zu", list, index);
    va_start(args, detail);
    set_detail(problem, detail, args);
    va_end(args);
    return false;
}

void comma_problem_from_error(struct comma_problem *problem, const struct comma_error *err)
{
    const enum comma_code code = (unsigned)err->code < COMMA_N_CODES ? err->code : COMMA_E_INTERNAL;

    comma_problem_set(problem, codes[code].kind, NULL, "%s", codes[code].fixed ? codes[code].fixed : err->message);
}

void comma_problem_from_job(struct comma_problem *problem, const struct comma_job *job)
{
    const enum comma_code code = job->error.code;

    comma_problem_from_error(problem, &job->error);
    if (code != COMMA_E_INPUT && code != COMMA_E_LIMIT && code != COMMA_E_FORMAT)
        return;
    if (job->error_text < job->n_texts)
        snprintf(problem->pointer, sizeof(problem->pointer), "/%s/%zu",
                 job->kind == COMMA_JOB_CLASSIFY ? "labels" : "texts", job->error_text);
    else if (job->kind != COMMA_JOB_EMBED_TEXTS)
        snprintf(problem->pointer, sizeof(problem->pointer), "/image");
}

void comma_problem_unknown_model(struct comma_problem *problem, const char *name)
{
    comma_problem_set(problem, COMMA_PROBLEM_UNKNOWN_MODEL, "/model",
                      "No model is called \"%.64s\" here; GET /models lists those that are.", name);
}

size_t comma_problem_write(const struct comma_problem *problem, const char *request_id, char *out)
{
    const struct kind_row *row = &kinds[problem->kind];
    struct comma_buffer b;

    comma_buffer_init_fixed(&b, out, COMMA_PROBLEM_BYTES);
    comma_buffer_puts(&b, "{\"type\":\"urn:comma:problem:");
    comma_buffer_puts(&b, row->slug);
    comma_buffer_puts(&b, "\",\"title\":");
    comma_json_string(&b, row->title);
    comma_buffer_puts(&b, ",\"status\":");
    comma_json_size(&b, row->status);
    comma_buffer_puts(&b, ",\"detail\":");
    comma_json_string(&b, problem->detail);
    if (problem->pointer[0]) {
        comma_buffer_puts(&b, ",\"pointer\":");
        comma_json_string(&b, problem->pointer);
    }
    if (request_id) {
        comma_buffer_puts(&b, ",\"request_id\":");
        comma_json_string(&b, request_id);
    }
    comma_buffer_puts(&b, "}");
    return b.size;
}
