/* SPDX-License-Identifier: MIT */
/* json_request.c - a JSON body, or a JSON array in a form field, by jansson, after json_scan.c has weighed it.
 *
 * jansson is fed the body without the inside of "image", which would cost it three copies of up to 16 MiB; that is
 * decoded where it stands. The words of errors are ours: jansson's quote the client's bytes at length. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "api/base64.h"
#include "api/fields.h"
#include "api/json_scan.h"

/* jansson forgets some allocations that failed: a string comes out cut, or as a syntax error that the client never
 * made. So its allocator keeps the truth. */
static _Thread_local bool memory_ran_out;

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (!memory)
        memory_ran_out = true;
    return memory;
}

void comma_api_init(void)
{
    json_set_alloc_funcs(allocate, free);
    json_object_seed(0);
}

/* What jansson reads: all but [hole.start, hole.end). */
struct feed {
    struct comma_text json;
    struct comma_json_span hole;
    size_t pos;
};

static size_t feed_bytes(void *buffer, size_t size, void *user)
{
    struct feed *feed = user;
    size_t n, end = feed->json.size;

    if (feed->hole.found && feed->pos == feed->hole.start)
        feed->pos = feed->hole.end;
    else if (feed->hole.found && feed->pos < feed->hole.start)
        end = feed->hole.start;
    n = end - feed->pos < size ? end - feed->pos : size;
    memcpy(buffer, feed->json.data + feed->pos, n);
    feed->pos += n;
    return n;
}

static const char *words_of(enum json_error_code code)
{
    switch (code) {
    case json_error_premature_end_of_input:
        return "it ends too early; was the upload cut?";
    case json_error_end_of_input_expected:
        return "something follows its end";
    case json_error_invalid_utf8:
        return "bytes that are not UTF-8";
    case json_error_null_character:
        return "a NUL character";
    case json_error_duplicate_key:
        return "a name that is there already; give each field once";
    case json_error_numeric_overflow:
        return "a number that is too large";
    default:
        return "a syntax error";
    }
}

/* Parses; NULL with the problem set. */
static json_t *parse(struct comma_fields *f, struct comma_text json, struct comma_json_span hole, const char *pointer)
{
    struct feed feed = { .json = json, .hole = hole };
    json_error_t error;
    enum json_error_code code;
    json_t *root;
    size_t at;

    memory_ran_out = false;
    root = json_load_callback(feed_bytes, &feed, JSON_REJECT_DUPLICATES, &error);
    if (root && !memory_ran_out)
        return root;
    json_decref(root);
    code = json_error_code(&error);
    if (memory_ran_out || code == json_error_unknown || code == json_error_out_of_memory) {
        comma_fields_no_memory(f); /* what is left when the text is not to blame */
        return NULL;
    }
    at = error.position > 0 ? (size_t)error.position : 0;
    if (hole.found && at > hole.start)
        at += hole.end - hole.start;
    comma_problem_set(f->problem,
                      code == json_error_duplicate_key ? COMMA_PROBLEM_DUPLICATE_FIELD : COMMA_PROBLEM_MALFORMED_JSON,
                      pointer, "The JSON is wrong near offset %zu: %s.", at, words_of(code));
    return NULL;
}

/* ---- the picture ---- */

/* Takes "data:image/png;base64," off the front. *start comes in at the string's first character. */
static bool skip_data_uri(struct comma_fields *f, const unsigned char *body, size_t *start, size_t end)
{
    enum { MAX_HEADER = 256 };
    static const char mark[] = ";base64";
    const size_t size = end - *start, n = sizeof(mark) - 1;
    const char *text = (const char *)body + *start;
    const char *comma = memchr(text, ',', size < MAX_HEADER ? size : MAX_HEADER);

    if (size >= 4 && strncasecmp(text, "http", 4) == 0 && memchr(text, ':', size < 8 ? size : 8))
        return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/image",
                                 "\"image\" is a URL, and this server fetches none; send the picture as base64.");
    if (size < 5 || strncasecmp(text, "data:", 5) != 0)
        return true;
    if (!comma || (size_t)(comma - text) < 5 + n || strncasecmp(comma - n, mark, n) != 0)
        return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/image",
                                 "\"image\" is a data URI without base64; write data:image/png;base64, and the data.");
    for (const char *p = text; p < comma; p++)
        if (*p <= 0x20 || *p >= 0x7F) /* the parser, which would refuse them in a string, does not see these */
            return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/image",
                                     "\"image\" is a data URI with blanks or control characters in it.");
    *start += (size_t)(comma - text) + 1;
    return true;
}

static bool decode_image(struct comma_fields *f, unsigned char *body, struct comma_json_span span)
{
    size_t start = span.start, n_bytes = 0, bad = 0;

    if (!skip_data_uri(f, body, &start, span.end))
        return false;
    if (!comma_base64_decode(body + start, span.end - start, true, &n_bytes, &bad)) {
        if (start + bad == span.end)
            return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/image",
                                     "\"image\" is base64 that ends in the middle of a byte; was the string cut?");
        return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/image",
                                 "\"image\" has a character at offset %zu that is not base64; A-Z a-z 0-9 + / and = at "
                                 "the end are read, without line breaks.",
                                 start - span.start + bad);
    }
    return comma_fields_set_image(f, body + start, n_bytes);
}

/* ---- the fields ---- */

static struct comma_text text_of(const json_t *string)
{
    return (struct comma_text){ json_string_value(string), json_string_length(string) };
}

static bool read_list(struct comma_fields *f, enum comma_field field, const json_t *array)
{
    if (!json_is_array(array))
        return comma_fields_wrong_type(f, field);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        const bool template = field == COMMA_FIELD_TEMPLATE;

        if (!json_is_string(item))
            return comma_problem_set_at(f->problem, COMMA_PROBLEM_INVALID_FIELD,
                                        template ? "templates" : comma_field_name(field), i,
                                        "Item %zu of \"%s\" must be a string.", i, comma_field_name(field));
        if (!comma_fields_append(f, field, text_of(item), true))
            return false;
    }
    return true;
}

static bool read_field(struct comma_fields *f, enum comma_field field, const json_t *value)
{
    switch (field) {
    case COMMA_FIELD_LABELS:
    case COMMA_FIELD_TEXTS:
        return read_list(f, field, value);
    case COMMA_FIELD_TEMPLATE:
    case COMMA_FIELD_TEMPLATES:
        if (json_is_string(value))
            return comma_fields_append(f, field, text_of(value), true);
        return read_list(f, field, value);
    case COMMA_FIELD_MODEL:
    case COMMA_FIELD_ENCODING:
        return json_is_string(value) ? comma_fields_set_text(f, field, text_of(value))
                                     : comma_fields_wrong_type(f, field);
    case COMMA_FIELD_TOP_K:
    case COMMA_FIELD_TIMEOUT_MS:
        return json_is_number(value) ? comma_fields_set_number(f, field, json_number_value(value))
                                     : comma_fields_wrong_type(f, field);
    case COMMA_FIELD_AUTO_ORIENT:
    case COMMA_FIELD_NORMALIZE:
        return json_is_boolean(value) ? comma_fields_set_bool(f, field, json_is_true(value))
                                      : comma_fields_wrong_type(f, field);
    default:
        return comma_fields_wrong_type(f, field);
    }
}

bool comma_fields_read_json(struct comma_fields *f, unsigned char *body, size_t size)
{
    const struct comma_text json = { (const char *)body, size };
    struct comma_json_span image;
    const char *name;
    json_t *root, *value;
    bool ok = false;

    if (!comma_json_scan_object(f, json, &image))
        return false;
    root = parse(f, json, image, NULL);
    if (!root)
        return false;
    json_object_foreach(root, name, value)
    {
        enum comma_field field;

        if (json_is_null(value)) /* clients write fields that they leave out so */
            continue;
        if (!comma_fields_open(f, comma_text_of(name), &field))
            goto out;
        if (field == COMMA_FIELD_IMAGE) {
            if (!json_is_string(value) || !image.found) {
                comma_fields_wrong_type(f, field);
                goto out;
            }
        } else if (!read_field(f, field, value)) {
            goto out;
        }
    }
    ok = !image.found || decode_image(f, body, image);
out:
    json_decref(root);
    return ok;
}

bool comma_fields_read_json_list(struct comma_fields *f, enum comma_field field, struct comma_text value)
{
    char pointer[32];
    json_t *root;
    bool ok;

    snprintf(pointer, sizeof(pointer), "/%s", comma_field_name(field));
    if (!comma_json_scan_list(f, field, value))
        return false;
    root = parse(f, value, (struct comma_json_span){ 0 }, pointer);
    if (!root)
        return false;
    ok = read_list(f, field, root);
    json_decref(root);
    return ok;
}
