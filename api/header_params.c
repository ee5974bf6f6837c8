/* SPDX-License-Identifier: MIT */
/* header_params.c - see header_params.h. Grammar: RFC 9110 section 5.6.6. */
#include "api/header_params.h"

#include <strings.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct comma_text comma_text_trim(struct comma_text text)
{
    while (text.size > 0 && is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

bool comma_header_is(struct comma_text text, const char *word)
{
    return text.size == strlen(word) && strncasecmp(text.data, word, text.size) == 0;
}

static struct comma_text skip(struct comma_text text, size_t n)
{
    return (struct comma_text){ text.data + n, text.size - n };
}

struct comma_text comma_header_value(struct comma_text header, struct comma_text *rest)
{
    size_t n = 0;

    while (n < header.size && header.data[n] != ';')
        n++;
    *rest = skip(header, n);
    return comma_text_trim((struct comma_text){ header.data, n });
}

/* The inside of the quotes that t begins with; false if they are not closed. */
static bool quoted(struct comma_text *t, struct comma_text *value)
{
    size_t n = 1;

    while (n < t->size && t->data[n] != '"')
        n += t->data[n] == '\\' ? 2 : 1;
    if (n >= t->size)
        return false;
    *value = (struct comma_text){ t->data + 1, n - 1 };
    *t = skip(*t, n + 1);
    return true;
}

enum comma_param_result comma_header_param(struct comma_text *rest, struct comma_text *name, struct comma_text *value)
{
    struct comma_text t = comma_text_trim(*rest);
    size_t n = 0;

    if (t.size == 0)
        return COMMA_PARAM_END;
    if (t.data[0] != ';')
        return COMMA_PARAM_MALFORMED;
    t = comma_text_trim(skip(t, 1));
    if (t.size == 0) /* "text/plain;" */
        return COMMA_PARAM_END;
    while (n < t.size && t.data[n] != '=' && t.data[n] != ';' && !is_blank(t.data[n]))
        n++;
    if (n == 0 || n == t.size || t.data[n] != '=')
        return COMMA_PARAM_MALFORMED;
    *name = (struct comma_text){ t.data, n };
    t = skip(t, n + 1);
    if (t.size > 0 && t.data[0] == '"') {
        if (!quoted(&t, value))
            return COMMA_PARAM_MALFORMED;
    } else {
        *value = comma_header_value(t, &t);
    }
    *rest = t;
    return COMMA_PARAM_FOUND;
}
