/* SPDX-License-Identifier: MIT */
/* fields.h - the fields of a request by name, whatever kind of body they came in. For the readers in api/ only.
 *
 * One table says which fields an endpoint has and which may be repeated; one set of functions checks values and puts
 * them into the request. A reader opens a field by its name and then sets it once, from text (forms, queries) or typed
 * (JSON). All of them fail with *f->problem set. */
#ifndef COMMA_API_FIELDS_H
#define COMMA_API_FIELDS_H

#include "api/request.h"

enum comma_field {
    COMMA_FIELD_IMAGE,
    COMMA_FIELD_LABELS,
    COMMA_FIELD_TEXTS,
    COMMA_FIELD_MODEL,
    COMMA_FIELD_TOP_K,
    COMMA_FIELD_TEMPLATE,  /* one */
    COMMA_FIELD_TEMPLATES, /* a list; both add to one list */
    COMMA_FIELD_AUTO_ORIENT,
    COMMA_FIELD_TIMEOUT_MS,
    COMMA_FIELD_ENCODING,
    COMMA_FIELD_NORMALIZE,
    COMMA_N_FIELDS
};

struct comma_text_list {
    struct comma_text *items; /* of the request's pool */
    size_t n, room, bytes;    /* bytes of all items */
};

struct comma_fields {
    struct comma_api_request *request; /* endpoint and pool are set */
    const struct comma_api_limits *limits;
    struct comma_problem *problem;
    struct comma_text_list labels, texts, templates;
    unsigned seen; /* bit per enum comma_field */
};

/* Name in requests and pointers: "top_k". */
const char *comma_field_name(enum comma_field field);

/* Finds the field; fails with 400 if the endpoint has none of that name, or it was there before and may not repeat. */
COMMA_MUST_CHECK
bool comma_fields_open(struct comma_fields *f, struct comma_text name, enum comma_field *field);

/* Sets a field other than the image from a form's or query's text, which must live as long as the request. */
COMMA_MUST_CHECK
bool comma_fields_set_text(struct comma_fields *f, enum comma_field field, struct comma_text value);

/* Sets a field with a number, a truth value. Others fail with 400: not of that type. */
COMMA_MUST_CHECK
bool comma_fields_set_number(struct comma_fields *f, enum comma_field field, double value);
COMMA_MUST_CHECK
bool comma_fields_set_bool(struct comma_fields *f, enum comma_field field, bool value);

/* Fails with 400 and what the field's value ought to be. */
bool comma_fields_wrong_type(struct comma_fields *f, enum comma_field field);

COMMA_MUST_CHECK
bool comma_fields_set_image(struct comma_fields *f, const unsigned char *data, size_t size);

/* Adds one text, as it stands, to a list: LABELS, TEXTS, TEMPLATE or TEMPLATES.
 *   copy  into the pool; else text must live as long as the request */
COMMA_MUST_CHECK
bool comma_fields_append(struct comma_fields *f, enum comma_field field, struct comma_text text, bool copy);

/* Adds all of a written list (labels.c): a JSON array, or pieces between newlines, or between commas. */
COMMA_MUST_CHECK
bool comma_fields_append_list(struct comma_fields *f, enum comma_field field, struct comma_text value);

/* Most texts that a list may hold. */
size_t comma_fields_max_texts(const struct comma_fields *f, enum comma_field field);

/* Hands the lists to the request and fails if what the endpoint needs is not there. */
COMMA_MUST_CHECK
bool comma_fields_close(struct comma_fields *f);

/* Fails with 503 out of memory. */
bool comma_fields_no_memory(struct comma_fields *f);

/* ---- the readers: each takes one kind of body ---- */

/* boundary: as in the Content-Type. */
COMMA_MUST_CHECK
bool comma_fields_read_multipart(struct comma_fields *f, struct comma_bytes body, struct comma_text boundary);

/* Decodes "image" in place. */
COMMA_MUST_CHECK
bool comma_fields_read_json(struct comma_fields *f, unsigned char *body, size_t size);

/* A JSON array of strings, as the text of one field. */
COMMA_MUST_CHECK
bool comma_fields_read_json_list(struct comma_fields *f, enum comma_field field, struct comma_text value);

COMMA_MUST_CHECK
bool comma_fields_read_query(struct comma_fields *f, struct comma_text query);

#endif
