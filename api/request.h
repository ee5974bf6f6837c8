/* SPDX-License-Identifier: MIT */
/* request.h - a body of any of three kinds in, one struct out (DESIGN "HTTP contract").
 *
 * multipart/form-data, application/json, or the picture itself with query parameters. What arrives is hostile: every
 * count and size meets a limit before it costs memory, JSON is weighed before it is parsed, texts are checked to be
 * UTF-8 without control characters. No sockets here. Different requests may be parsed by different threads at once.
 *
 * A process calls comma_api_init() once before it starts threads. */
#ifndef COMMA_API_REQUEST_H
#define COMMA_API_REQUEST_H

#include "api/pool.h"
#include "api/problem.h"
#include "engine/comma.h"

/* Seeds jansson's hash tables, which it would do at first use on whichever thread, and gives it an allocator that notes
 * when memory ran out, so that this is told from malformed JSON. */
void comma_api_init(void);

struct comma_api_limits {
    size_t max_body_bytes;   /* 16 MiB by default; also the server's, before it buffers */
    size_t max_labels;       /* labels or texts of a request; 10,000 by default */
    size_t max_label_bytes;  /* of one label, text or template; 1,024 by default */
    size_t max_labels_bytes; /* of all labels or texts; 4 MiB by default */
    size_t max_templates;    /* 128 by default */
    unsigned max_timeout_ms; /* 30,000 by default */
};

struct comma_api_limits comma_api_default_limits(void);

enum comma_api_endpoint { COMMA_API_CLASSIFY, COMMA_API_EMBED };

enum comma_api_encoding { COMMA_ENCODING_FLOAT, COMMA_ENCODING_BASE64 };

/* What came over the wire. */
struct comma_api_input {
    const char *content_type; /* header value; NULL if there was none */
    struct comma_text query;  /* still percent-encoded, without '?'. Its parameters count for all kinds of body */
    unsigned char *body;      /* whole; the request borrows from it, and decodes base64 in place: keep it until
                                 comma_api_request_finish(), and do not read it after parsing */
    size_t body_size;
};

/* Texts and image live as long as the request and its body. */
struct comma_api_request {
    enum comma_api_endpoint endpoint;
    const char *model;               /* NULL: the default. 1 to 256 bytes of UTF-8, not yet looked up */
    struct comma_bytes image;        /* file bytes, not yet looked at; size 0 where an /embed has texts */
    const struct comma_text *labels; /* [n_labels] of a /classify, at least one */
    size_t n_labels;
    const struct comma_text *texts; /* [n_texts] of an /embed, 0 where it has an image */
    size_t n_texts;
    const struct comma_text *templates; /* [n_templates], each with exactly one {} */
    size_t n_templates;
    size_t top_k;        /* results to answer with; SIZE_MAX where not given */
    bool auto_orient;    /* true where not given */
    bool normalize;      /* true where not given */
    unsigned timeout_ms; /* 0 where not given */
    enum comma_api_encoding encoding;

    struct comma_pool pool; /* what the above points to, where not the body */
};

/* Parses a request. On failure *out needs no _finish.
 *
 * Status of failures: 400 malformed, with a pointer to the field; 413 over max_body_bytes or JSON too deep or of too
 * many parts; 415 another Content-Type; 422 no labels, too many, one too long, a template without exactly one {};
 * 503 out of memory. tests/unit/api_request.c reads as the manual. */
COMMA_MUST_CHECK
bool comma_api_request_parse(enum comma_api_endpoint endpoint, const struct comma_api_input *input,
                             const struct comma_api_limits *limits, struct comma_api_request *out,
                             struct comma_problem *problem);
void comma_api_request_finish(struct comma_api_request *request); /* a zeroed one is fine */

/* False, with 422, if the request has templates and the adapter a prompt of its own (comma_adapter_has_prompt()). */
COMMA_MUST_CHECK
bool comma_api_request_fits(const struct comma_api_request *request, bool adapter_has_prompt,
                            struct comma_problem *problem);

/* Fills in kind, image, texts, templates and flags of a zeroed job; adapter, deadline and done are the caller's. The
 * request must outlive the job. */
void comma_api_request_to_job(const struct comma_api_request *request, struct comma_job *job);

#endif
