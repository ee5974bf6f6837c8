/* SPDX-License-Identifier: MIT */
/* html_entities.c - see html_entities.h. The table is in html_entities.inc and sorted, names are found by halving. */
#include "engine/html_entities.h"

/* value[1] is 0 where a name stands for one code point. */
struct entity {
    char name[COMMA_MAX_ENTITY_NAME + 1];
    uint32_t value[2];
    bool bare; /* also known without its semicolon */
};

static const struct entity entities[] = {
#include "engine/html_entities.inc"
};

/* strcmp() of code points with a name. */
static int compare_name(const uint32_t *name, size_t size, const char *known)
{
    for (size_t i = 0; i < size; i++) {
        const uint32_t k = (unsigned char)known[i];

        if (name[i] != k || k == 0)
            return name[i] < k ? -1 : 1;
    }
    return known[size] == '\0' ? 0 : -1;
}

size_t comma_html_named(const uint32_t *name, size_t size, bool bare, uint32_t value[2])
{
    size_t low = 0, high = sizeof(entities) / sizeof(entities[0]);

    if (size == 0 || size > COMMA_MAX_ENTITY_NAME)
        return 0;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct entity *e = &entities[middle];
        const int order = compare_name(name, size, e->name);

        if (order == 0) {
            if (bare && !e->bare)
                return 0;
            value[0] = e->value[0];
            value[1] = e->value[1];
            return e->value[1] ? 2 : 1;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

size_t comma_html_bare_prefix(const uint32_t *name, size_t size)
{
    uint32_t value[2];

    for (; size >= 2; size--)
        if (comma_html_named(name, size, true, value) > 0)
            return size;
    return 0;
}

/* The value of an ASCII digit in base 10 or 16, -1 for anything else. */
static int digit(uint32_t c, uint32_t base)
{
    if (c >= '0' && c <= '9')
        return (int)(c - '0');
    if (base == 16 && c >= 'a' && c <= 'f')
        return (int)(c - 'a') + 10;
    if (base == 16 && c >= 'A' && c <= 'F')
        return (int)(c - 'A') + 10;
    return -1;
}

/* What the number of a reference stands for, by the HTML standard's table; false: for nothing. */
static bool numbered(uint32_t number, uint32_t *value)
{
    /* 0x80 to 0x9F are read as Windows-1252; 0 where it has no character and the control itself is meant. */
    static const uint16_t windows_1252[32] = { 0x20AC, 0,      0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                               0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0,      0x17D,  0,
                                               0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                               0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0,      0x17E,  0x178 };

    *value = number;
    if (number == 0 || (number >= 0xD800 && number <= 0xDFFF) || number > 0x10FFFF)
        *value = 0xFFFD;
    else if (number >= 0x80 && number <= 0x9F && windows_1252[number - 0x80])
        *value = windows_1252[number - 0x80];
    else if ((number >= 0x80 && number <= 0x9F) || (number >= 9 && number <= 13 && number != 11))
        return true;
    else if (number < 32 || number == 127 || (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE)
        return false;
    return true;
}

size_t comma_html_numeric(const uint32_t *text, size_t n, uint32_t *value, bool *has_value)
{
    uint32_t number = 0, base = 10;
    size_t i = 2, first;

    if (n < 3 || text[0] != '&' || text[1] != '#')
        return 0;
    if (text[i] == 'x' || text[i] == 'X') {
        base = 16;
        i++;
    }
    for (first = i; i < n && digit(text[i], base) >= 0; i++)
        if (number <= 0x10FFFF) /* beyond that all numbers mean the same */
            number = number * base + (uint32_t)digit(text[i], base);
    if (i == first)
        return 0;
    *has_value = numbered(number, value);
    return i < n && text[i] == ';' ? i + 1 : i;
}

/* Reads a named reference at the start of text, semicolon optional. Returns its size, 0 where there is none. */
static size_t named(const uint32_t *text, size_t n, uint32_t value[2], size_t *n_value)
{
    const uint32_t *name = text + 1;
    size_t size = 0;

    /* 32 characters are taken for the name, and a longer one is unknown: it may still begin with a known one. */
    while (size < 32 && size + 1 < n) {
        const uint32_t c = name[size];

        if (c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#' || c == ';')
            break;
        size++;
    }
    if (size + 1 < n && name[size] == ';') {
        *n_value = comma_html_named(name, size, false, value);
        if (*n_value > 0)
            return size + 2;
    }
    size = comma_html_bare_prefix(name, size);
    *n_value = comma_html_named(name, size, true, value);
    return *n_value > 0 ? size + 1 : 0;
}

bool comma_html_unescape(const struct comma_codepoints *in, struct comma_codepoints *out)
{
    for (size_t i = 0; i < in->n;) {
        const uint32_t *text = in->data + i;
        uint32_t value[2] = { text[0], 0 };
        size_t n_value = 1, size = 0;
        bool has_value;

        if (text[0] == '&') {
            size = comma_html_numeric(text, in->n - i, value, &has_value);
            if (size > 0)
                n_value = has_value ? 1 : 0;
            else
                size = named(text, in->n - i, value, &n_value);
        }
        if (size == 0) {
            size = 1;
            value[0] = text[0];
            n_value = 1;
        }
        for (size_t k = 0; k < n_value; k++)
            if (!comma_codepoints_push(out, value[k]))
                return false;
        i += size;
    }
    return true;
}
