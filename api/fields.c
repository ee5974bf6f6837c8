/* SPDX-License-Identifier: MIT */
/* fields.c - see fields.h: the table of fields, and the checks of their values. */
#include "api/fields.h"

#include <math.h>
#include <stdio.h>

#include "api/header_params.h"

enum { CLASSIFY = 1 << COMMA_API_CLASSIFY, EMBED = 1 << COMMA_API_EMBED };
enum { MAX_MODEL_BYTES = 256 };

static const struct field_row {
    const char *name;
    unsigned endpoints;
    bool repeats;     /* in forms and queries; JSON names each field once */
    const char *want; /* its value, in words */
} fields[COMMA_N_FIELDS] = {
    [COMMA_FIELD_IMAGE] = { "image", CLASSIFY | EMBED, false, "the picture: a file, or a string of base64 in JSON" },
    [COMMA_FIELD_LABELS] = { "labels", CLASSIFY, true, "an array of strings" },
    [COMMA_FIELD_TEXTS] = { "texts", EMBED, true, "an array of strings" },
    [COMMA_FIELD_MODEL] = { "model", CLASSIFY | EMBED, false, "a name that GET /models lists" },
    [COMMA_FIELD_TOP_K] = { "top_k", CLASSIFY, false, "a whole number of at least 1" },
    [COMMA_FIELD_TEMPLATE] = { "template", CLASSIFY, true, "a string with one {} in it" },
    [COMMA_FIELD_TEMPLATES] = { "templates", CLASSIFY, true, "an array of strings with one {} in each" },
    [COMMA_FIELD_AUTO_ORIENT] = { "auto_orient", CLASSIFY | EMBED, false, "true or false" },
    [COMMA_FIELD_TIMEOUT_MS] = { "timeout_ms", CLASSIFY | EMBED, false, "a whole number of milliseconds" },
    [COMMA_FIELD_ENCODING] = { "encoding", EMBED, false, "\"float\" or \"base64\"" },
    [COMMA_FIELD_NORMALIZE] = { "normalize", EMBED, false, "true or false" },
};

const char *comma_field_name(enum comma_field field)
{
    return fields[field].name;
}

static const char *pointer_of(enum comma_field field, char out[32])
{
    snprintf(out, 32, "/%s", fields[field].name);
    return out;
}

bool comma_fields_no_memory(struct comma_fields *f)
{
    const struct comma_error err = { .code = COMMA_E_NOMEM };

    comma_problem_from_error(f->problem, &err);
    return false;
}

/* ---- finding ---- */

static bool fail_unknown(struct comma_fields *f, struct comma_text name)
{
    const unsigned endpoint = 1u << f->request->endpoint;
    const int shown = name.size > 40 ? 40 : (int)name.size;
    char known[160] = "", pointer[96] = "/";
    size_t n = 0, p = 1;

    for (enum comma_field i = 0; i < COMMA_N_FIELDS; i++)
        if (fields[i].endpoints & endpoint)
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", fields[i].name);
    for (int i = 0; i < shown; i++) { /* RFC 6901: "~" and "/" in a name are "~0" and "~1" */
        const char c = name.data[i];

        pointer[p++] = c == '/' ? '~' : c;
        if (c == '~' || c == '/')
            pointer[p++] = c == '~' ? '0' : '1';
    }
    pointer[p] = '\0';
    return comma_problem_set(f->problem, COMMA_PROBLEM_UNKNOWN_FIELD, pointer,
                             "There is no field \"%.*s\" here; the fields are %s.", shown, name.data, known);
}

bool comma_fields_open(struct comma_fields *f, struct comma_text name, enum comma_field *field)
{
    const unsigned endpoint = 1u << f->request->endpoint;
    enum comma_field i = 0;
    char pointer[32];

    while (i < COMMA_N_FIELDS &&
           !((fields[i].endpoints & endpoint) && comma_text_equal(name, comma_text_of(fields[i].name))))
        i++;
    if (i == COMMA_N_FIELDS)
        return fail_unknown(f, name);
    if ((f->seen & 1u << i) && !fields[i].repeats)
        return comma_problem_set(f->problem, COMMA_PROBLEM_DUPLICATE_FIELD, pointer_of(i, pointer),
                                 "\"%s\" is given twice; give it once.", fields[i].name);
    f->seen |= 1u << i;
    *field = i;
    return true;
}

/* ---- scalars ---- */

bool comma_fields_wrong_type(struct comma_fields *f, enum comma_field field)
{
    char pointer[32];

    return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, pointer_of(field, pointer), "\"%s\" must be %s.",
                             fields[field].name, fields[field].want);
}

bool comma_fields_set_number(struct comma_fields *f, enum comma_field field, double value)
{
    if (field == COMMA_FIELD_TOP_K) {
        if (!(value >= 1) || value != floor(value))
            return comma_fields_wrong_type(f, field);
        f->request->top_k = value < 0x1p52 ? (size_t)value : SIZE_MAX;
        return true;
    }
    if (field == COMMA_FIELD_TIMEOUT_MS) {
        if (!(value >= 1) || value > f->limits->max_timeout_ms || value != floor(value))
            return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/timeout_ms",
                                     "\"timeout_ms\" must be a whole number of milliseconds from 1 to %u.",
                                     f->limits->max_timeout_ms);
        f->request->timeout_ms = (unsigned)value;
        return true;
    }
    return comma_fields_wrong_type(f, field);
}

bool comma_fields_set_bool(struct comma_fields *f, enum comma_field field, bool value)
{
    if (field == COMMA_FIELD_AUTO_ORIENT)
        f->request->auto_orient = value;
    else if (field == COMMA_FIELD_NORMALIZE)
        f->request->normalize = value;
    else
        return comma_fields_wrong_type(f, field);
    return true;
}

bool comma_fields_set_image(struct comma_fields *f, const unsigned char *data, size_t size)
{
    if (size == 0)
        return comma_problem_set(f->problem, COMMA_PROBLEM_MISSING_FIELD, "/image",
                                 "The image is empty; send the bytes of a PNG or JPEG file.");
    f->request->image = (struct comma_bytes){ data, size };
    return true;
}

/* Digits to a number; anything else is NaN, which no field takes. Twenty digits are more than any limit. */
static double number_of(struct comma_text text)
{
    double value = 0;

    if (text.size == 0 || text.size > 20)
        return NAN;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return NAN;
        value = value * 10 + (text.data[i] - '0');
    }
    return value;
}

static bool set_bool_text(struct comma_fields *f, enum comma_field field, struct comma_text text)
{
    if (comma_header_is(text, "true") || comma_header_is(text, "1"))
        return comma_fields_set_bool(f, field, true);
    if (comma_header_is(text, "false") || comma_header_is(text, "0"))
        return comma_fields_set_bool(f, field, false);
    return comma_fields_wrong_type(f, field);
}

static bool set_encoding(struct comma_fields *f, struct comma_text text)
{
    if (comma_text_equal(text, comma_text_of("float")))
        f->request->encoding = COMMA_ENCODING_FLOAT;
    else if (comma_text_equal(text, comma_text_of("base64")))
        f->request->encoding = COMMA_ENCODING_BASE64;
    else
        return comma_fields_wrong_type(f, COMMA_FIELD_ENCODING);
    return true;
}

/* ---- texts ---- */

/* U+FDD0..U+FDEF and the last two of each plane: not for interchange. p is well-formed UTF-8. */
static bool is_noncharacter(const unsigned char *p, size_t left)
{
    if (left >= 3 && p[0] == 0xEF)
        return (p[1] == 0xB7 && p[2] >= 0x90 && p[2] <= 0xAF) || (p[1] == 0xBF && p[2] >= 0xBE);
    return left >= 4 && p[0] >= 0xF0 && (p[1] & 0x0F) == 0x0F && p[2] == 0xBF && p[3] >= 0xBE;
}

/* What is wrong with the bytes, as the end of a sentence; NULL if nothing. */
static const char *fault_of(struct comma_text text)
{
    if (!comma_utf8_valid(text.data, text.size))
        return "is not UTF-8";
    for (size_t i = 0; i < text.size; i++) {
        const unsigned char *p = (const unsigned char *)text.data + i;

        if ((*p < 0x20 && *p != '\t' && *p != '\n') || *p == 0x7F)
            return "holds a control character";
        if (is_noncharacter(p, text.size - i))
            return "holds a Unicode noncharacter";
    }
    return NULL;
}

static bool set_model(struct comma_fields *f, struct comma_text name)
{
    const char *fault = fault_of(name);

    if (fault)
        return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_TEXT, "/model", "\"model\" %s.", fault);
    if (name.size > MAX_MODEL_BYTES)
        return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/model",
                                 "\"model\" is longer than %d bytes; GET /models lists the names.", MAX_MODEL_BYTES);
    if (name.size == 0)
        return true;
    f->request->model = comma_pool_copy(&f->request->pool, name.data, name.size);
    return f->request->model || comma_fields_no_memory(f);
}

bool comma_fields_set_text(struct comma_fields *f, enum comma_field field, struct comma_text value)
{
    const struct comma_text trimmed = comma_text_trim(value);

    switch (field) {
    case COMMA_FIELD_LABELS:
    case COMMA_FIELD_TEXTS:
    case COMMA_FIELD_TEMPLATES:
        return comma_fields_append_list(f, field, value);
    case COMMA_FIELD_TEMPLATE:
        return comma_fields_append(f, field, value, false);
    case COMMA_FIELD_MODEL:
        return set_model(f, trimmed);
    case COMMA_FIELD_ENCODING:
        return set_encoding(f, trimmed);
    case COMMA_FIELD_TOP_K:
    case COMMA_FIELD_TIMEOUT_MS:
        return comma_fields_set_number(f, field, number_of(trimmed));
    case COMMA_FIELD_AUTO_ORIENT:
    case COMMA_FIELD_NORMALIZE:
        return set_bool_text(f, field, trimmed);
    default:
        return comma_fields_wrong_type(f, field);
    }
}

static bool is_template(enum comma_field field)
{
    return field == COMMA_FIELD_TEMPLATE || field == COMMA_FIELD_TEMPLATES;
}

size_t comma_fields_max_texts(const struct comma_fields *f, enum comma_field field)
{
    return is_template(field) ? f->limits->max_templates : f->limits->max_labels;
}

static struct comma_text_list *list_of(struct comma_fields *f, enum comma_field field)
{
    return is_template(field) ? &f->templates : field == COMMA_FIELD_TEXTS ? &f->texts : &f->labels;
}

/* Room for one more; the pool keeps the old array until the request ends, at most as large as the new one. */
static bool grow(struct comma_fields *f, struct comma_text_list *list)
{
    const size_t room = list->room ? list->room * 2 : 16;
    struct comma_text *items = comma_pool_array(&f->request->pool, room, sizeof(*items));

    if (!items)
        return comma_fields_no_memory(f);
    if (list->n > 0)
        memcpy(items, list->items, list->n * sizeof(*items));
    list->items = items;
    list->room = room;
    return true;
}

/* Exactly one "{}", where the label goes. */
static bool template_is_usable(struct comma_text t)
{
    size_t n = 0;

    for (size_t i = 0; i + 1 < t.size; i++)
        if (t.data[i] == '{' && t.data[i + 1] == '}')
            n++;
    return n == 1;
}

static bool check_text(struct comma_fields *f, enum comma_field field, const struct comma_text_list *list,
                       struct comma_text text)
{
    const bool template = is_template(field);
    const char *name = template ? "templates" : fields[field].name;
    const char *fault;

    if (list->n >= comma_fields_max_texts(f, field)) {
        char pointer[32];

        snprintf(pointer, sizeof(pointer), "/%s", name);
        return comma_problem_set(f->problem, template ? COMMA_PROBLEM_INVALID_TEMPLATE : COMMA_PROBLEM_TOO_MANY_LABELS,
                                 pointer, "There are too many %s; at most %zu are allowed in a request.", name,
                                 comma_fields_max_texts(f, field));
    }
    if (text.size > f->limits->max_label_bytes)
        return comma_problem_set_at(f->problem, COMMA_PROBLEM_TEXT_TOO_LONG, name, list->n,
                                    "Item %zu of \"%s\" is %zu bytes long; at most %zu are allowed.", list->n, name,
                                    text.size, f->limits->max_label_bytes);
    fault = fault_of(text);
    if (fault)
        return comma_problem_set_at(f->problem, COMMA_PROBLEM_INVALID_TEXT, name, list->n, "Item %zu of \"%s\" %s.",
                                    list->n, name, fault);
    if (template && !template_is_usable(text))
        return comma_problem_set_at(f->problem, COMMA_PROBLEM_INVALID_TEMPLATE, name, list->n,
                                    "Item %zu of \"templates\" must hold {} once, where the label goes: "
                                    "\"a photo of a {}.\"",
                                    list->n);
    if (!template && text.size > f->limits->max_labels_bytes - list->bytes)
        return comma_problem_set_at(f->problem, COMMA_PROBLEM_TOO_MANY_LABELS, name, list->n,
                                    "\"%s\" are longer than %zu bytes in all; send fewer in a request.", name,
                                    f->limits->max_labels_bytes);
    return true;
}

bool comma_fields_append(struct comma_fields *f, enum comma_field field, struct comma_text text, bool copy)
{
    struct comma_text_list *list = list_of(f, field);

    if (!check_text(f, field, list, text) || (list->n == list->room && !grow(f, list)))
        return false;
    if (copy) {
        text.data = comma_pool_copy(&f->request->pool, text.data, text.size);
        if (!text.data)
            return comma_fields_no_memory(f);
    }
    list->items[list->n++] = text;
    list->bytes += text.size;
    return true;
}

/* ---- the whole ---- */

static bool close_classify(struct comma_fields *f)
{
    if (f->request->image.size == 0)
        return comma_problem_set(f->problem, COMMA_PROBLEM_MISSING_FIELD, "/image",
                                 "The image is missing; send a PNG or JPEG file as \"image\".");
    if (f->labels.n == 0)
        return comma_problem_set(f->problem, COMMA_PROBLEM_NO_LABELS, "/labels",
                                 "There are no labels; send at least one class name in \"labels\".");
    return true;
}

static bool close_embed(struct comma_fields *f)
{
    const bool has_image = f->request->image.size > 0, has_texts = f->seen & 1u << COMMA_FIELD_TEXTS;

    if (has_image && has_texts)
        return comma_problem_set(f->problem, COMMA_PROBLEM_INVALID_FIELD, "/texts",
                                 "A request has either \"image\" or \"texts\", not both; send two requests.");
    if (has_texts && f->texts.n == 0)
        return comma_problem_set(f->problem, COMMA_PROBLEM_NO_LABELS, "/texts",
                                 "There are no texts; send at least one string in \"texts\".");
    if (!has_image && !has_texts)
        return comma_problem_set(f->problem, COMMA_PROBLEM_MISSING_FIELD, NULL,
                                 "There is nothing to embed; send \"image\" or \"texts\".");
    return true;
}

bool comma_fields_close(struct comma_fields *f)
{
    struct comma_api_request *r = f->request;

    if (!(r->endpoint == COMMA_API_CLASSIFY ? close_classify(f) : close_embed(f)))
        return false;
    r->labels = f->labels.items;
    r->n_labels = f->labels.n;
    r->texts = f->texts.items;
    r->n_texts = f->texts.n;
    r->templates = f->templates.items;
    r->n_templates = f->templates.n;
    return true;
}
