/* SPDX-License-Identifier: MIT */
/* json_scan.c - see json_scan.h. One forward pass; strings are skipped by memchr. */
#include "api/json_scan.h"

#include <stdio.h>

enum { MAX_DEPTH = 8, EXTRA_TOKENS = 256, LONGEST_ESCAPE = 6 }; /* "\u0041" is six bytes for one */

struct scan {
    struct comma_fields *f;
    struct comma_text json;
    struct comma_json_span *image; /* NULL: none is looked for */
    size_t pos, depth, n_tokens;
    size_t list_depth;     /* where commas part the items of a list: 2 in an object's, 1 in a bare one */
    enum comma_field list; /* whose items they are; COMMA_N_FIELDS if no list's */
    size_t n_commas;       /* of the list so far */
    bool key_next;         /* in an object root: the next string is a key */
    struct comma_text key; /* the root's last key, escapes as they stand */
    unsigned keys_seen;
};

static bool fail_too_complex(struct scan *s, const char *what, size_t limit)
{
    return comma_problem_set(s->f->problem, COMMA_PROBLEM_TOO_COMPLEX, NULL,
                             "The JSON has more than %zu %s, at offset %zu; a request needs far fewer.", limit, what,
                             s->pos);
}

/* Where the string that opens at pos closes, or size. A quote is escaped if an odd number of backslashes is before it.
 */
static size_t end_of_string(struct comma_text json, size_t pos)
{
    size_t from = pos + 1;

    while (from < json.size) {
        const char *quote = memchr(json.data + from, '"', json.size - from);
        const char *p = quote;

        if (!quote)
            break;
        while (p > json.data + from && p[-1] == '\\')
            p--;
        if ((quote - p) % 2 == 0)
            return (size_t)(quote - json.data);
        from = (size_t)(quote - json.data) + 1;
    }
    return json.size;
}

/* A key of the root: lists are counted from here on, and the known ones may come once. The parser tells the rest. */
static bool take_key(struct scan *s, struct comma_text key)
{
    static const enum comma_field lists[] = { COMMA_FIELD_LABELS, COMMA_FIELD_TEXTS, COMMA_FIELD_TEMPLATES };
    enum comma_field field = 0;

    s->key = key;
    s->key_next = false;
    s->list = COMMA_N_FIELDS;
    s->n_commas = 0;
    while (field < COMMA_N_FIELDS && !comma_text_equal(key, comma_text_of(comma_field_name(field))))
        field++;
    if (field == COMMA_N_FIELDS)
        return true;
    if (s->keys_seen & 1u << field) {
        char pointer[32];

        snprintf(pointer, sizeof(pointer), "/%s", comma_field_name(field));
        return comma_problem_set(s->f->problem, COMMA_PROBLEM_DUPLICATE_FIELD, pointer,
                                 "\"%s\" is given twice; give it once.", comma_field_name(field));
    }
    s->keys_seen |= 1u << field;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        if (lists[i] == field)
            s->list = field;
    return true;
}

static bool is_list_item(const struct scan *s)
{
    return s->list != COMMA_N_FIELDS && s->depth == s->list_depth;
}

static bool take_string(struct scan *s)
{
    const size_t start = s->pos + 1, end = end_of_string(s->json, s->pos);
    const size_t max = LONGEST_ESCAPE * s->f->limits->max_label_bytes;
    const struct comma_text text = { s->json.data + start, end - start };

    if (end == s->json.size)
        return comma_problem_set(s->f->problem, COMMA_PROBLEM_MALFORMED_JSON, NULL,
                                 "The JSON ends inside the string that begins at offset %zu; was the upload cut?",
                                 s->pos);
    s->pos = end + 1;
    if (s->image && s->depth == 1 && !s->key_next && !s->image->found &&
        comma_text_equal(s->key, comma_text_of("image"))) {
        *s->image = (struct comma_json_span){ start, end, true };
        return true;
    }
    if (text.size > max && is_list_item(s))
        return comma_problem_set_at(s->f->problem, COMMA_PROBLEM_TEXT_TOO_LONG, comma_field_name(s->list), s->n_commas,
                                    "Item %zu of \"%s\" is longer than %zu bytes.", s->n_commas,
                                    comma_field_name(s->list), s->f->limits->max_label_bytes);
    if (text.size > max)
        return fail_too_complex(s, "bytes in one string", max);
    return s->image && s->depth == 1 && s->key_next ? take_key(s, text) : true;
}

static bool take_comma(struct scan *s)
{
    const size_t max = s->list == COMMA_N_FIELDS ? 0 : comma_fields_max_texts(s->f, s->list);

    if (s->depth == 1)
        s->key_next = true;
    if (is_list_item(s) && ++s->n_commas >= max) {
        char pointer[32];

        snprintf(pointer, sizeof(pointer), "/%s", comma_field_name(s->list));
        return comma_problem_set(
            s->f->problem,
            s->list == COMMA_FIELD_TEMPLATES ? COMMA_PROBLEM_INVALID_TEMPLATE : COMMA_PROBLEM_TOO_MANY_LABELS, pointer,
            "There are too many %s; at most %zu are allowed in a request.", comma_field_name(s->list), max);
    }
    return true;
}

static bool take_token(struct scan *s, char c)
{
    const struct comma_api_limits *limits = s->f->limits;
    size_t max;

    /* saturates: limits are the operator's, and may be "none" */
    if (__builtin_add_overflow(limits->max_labels, limits->max_templates + EXTRA_TOKENS, &max))
        max = SIZE_MAX;
    if (++s->n_tokens > max)
        return fail_too_complex(s, "commas, colons and brackets", max);
    s->pos++;
    if (c == '{' || c == '[') {
        s->key_next = ++s->depth == 1;
        return s->depth <= MAX_DEPTH || fail_too_complex(s, "levels", MAX_DEPTH);
    }
    if ((c == '}' || c == ']') && s->depth > 0)
        s->depth--;
    return c == ',' ? take_comma(s) : true;
}

/* The root's bracket comes first, which the caller asks for; depth goes from 0. */
static bool scan(struct scan *s)
{
    while (s->pos < s->json.size) {
        const char c = s->json.data[s->pos];

        switch (c) {
        case '"':
            if (!take_string(s))
                return false;
            break;
        case '{':
        case '[':
        case '}':
        case ']':
        case ',':
        case ':':
            if (!take_token(s, c))
                return false;
            break;
        default:
            s->pos++;
        }
    }
    return true;
}

static bool begins_with(struct comma_text json, char bracket)
{
    size_t i = 0;

    while (i < json.size && memchr(" \t\r\n", json.data[i], 4))
        i++;
    return i < json.size && json.data[i] == bracket;
}

bool comma_json_scan_object(struct comma_fields *f, struct comma_text json, struct comma_json_span *image)
{
    struct scan s = { .f = f, .json = json, .image = image, .list_depth = 2, .list = COMMA_N_FIELDS };

    *image = (struct comma_json_span){ 0 };
    if (!begins_with(json, '{'))
        return comma_problem_set(
            f->problem, COMMA_PROBLEM_MALFORMED_JSON, NULL,
            "The body must be a JSON object: {\"image\": \"...\", \"labels\": [\"cat\", \"dog\"]}.");
    return scan(&s);
}

bool comma_json_scan_list(struct comma_fields *f, enum comma_field field, struct comma_text json)
{
    struct scan s = { .f = f, .json = json, .list_depth = 1, .list = field };

    return scan(&s);
}
