/* SPDX-License-Identifier: MIT */
/* unicode.c - see unicode.h. The only file that includes utf8proc. */
#include "engine/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "engine/base/checked.h"

#define CAPITAL_SIGMA 0x3A3
#define SMALL_SIGMA   0x3C3
#define FINAL_SIGMA   0x3C2

static bool reserve(struct comma_codepoints *run, size_t more)
{
    size_t needed, capacity, bytes;
    uint32_t *data;

    if (!comma_add(run->n, more, &needed))
        return false;
    if (needed <= run->capacity)
        return true;
    if (!comma_add(needed, needed / 2 + 32, &capacity) || !comma_mul(capacity, sizeof(*data), &bytes))
        return false;
    data = realloc(run->data, bytes);
    if (!data)
        return false;
    run->data = data;
    run->capacity = capacity;
    return true;
}

bool comma_codepoints_push(struct comma_codepoints *run, uint32_t c)
{
    if (run->n == run->capacity && !reserve(run, 1))
        return false;
    run->data[run->n++] = c;
    return true;
}

void comma_codepoints_finish(struct comma_codepoints *run)
{
    free(run->data);
    *run = (struct comma_codepoints){ 0 };
}

bool comma_codepoints_decode(struct comma_text text, struct comma_codepoints *run)
{
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text.data;

    if (!reserve(run, text.size))
        return false;
    for (size_t i = 0; i < text.size;) {
        utf8proc_int32_t c;
        const utf8proc_ssize_t size = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(text.size - i), &c);

        if (size <= 0)
            return false;
        run->data[run->n++] = (uint32_t)c;
        i += (size_t)size;
    }
    return true;
}

/* Not utf8proc_encode_char(): it may write four bytes whatever the size. */
size_t comma_utf8_encode(uint32_t c, unsigned char *bytes)
{
    const size_t size = comma_utf8_size(c);

    if (size == 1) {
        bytes[0] = (unsigned char)c;
        return 1;
    }
    for (size_t i = size - 1; i > 0; i--, c >>= 6)
        bytes[i] = (unsigned char)(0x80 | (c & 0x3F));
    bytes[0] = (unsigned char)(0xF00 >> size | c);
    return size;
}

bool comma_is_letter(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool comma_is_number(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool comma_is_decimal(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

bool comma_is_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

uint32_t comma_to_upper(uint32_t c)
{
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
}

static bool in_ranges(const uint32_t (*ranges)[2], size_t n, uint32_t c)
{
    for (size_t i = 0; i < n; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

/* Unicode's Cased. Modifier letters of Other_Lowercase are left out: they are case-ignorable, hence never looked at. */
static bool is_cased(uint32_t c)
{
    static const uint32_t other[][2] = { { 0xAA, 0xAA },      { 0xBA, 0xBA },       { 0x2160, 0x217F },
                                         { 0x24B6, 0x24E9 },  { 0x1F130, 0x1F149 }, { 0x1F150, 0x1F169 },
                                         { 0x1F170, 0x1F189 } };
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT) ||
           in_ranges(other, sizeof(other) / sizeof(other[0]), c);
}

/* Unicode's Case_Ignorable: marks, format characters, modifiers, and punctuation that stands inside words. */
static bool is_case_ignorable(uint32_t c)
{
    static const uint32_t inside[][2] = { { '\'', '\'' },     { '.', '.' },       { ':', ':' },
                                          { 0xB7, 0xB7 },     { 0x387, 0x387 },   { 0x55F, 0x55F },
                                          { 0x5F4, 0x5F4 },   { 0x2018, 0x2019 }, { 0x2024, 0x2024 },
                                          { 0x2027, 0x2027 }, { 0xFE13, 0xFE13 }, { 0xFE52, 0xFE52 },
                                          { 0xFE55, 0xFE55 }, { 0xFF07, 0xFF07 }, { 0xFF0E, 0xFF0E },
                                          { 0xFF1A, 0xFF1A } };
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK ||
           in_ranges(inside, sizeof(inside) / sizeof(inside[0]), c);
}

/* A sigma is final where a cased letter stands before it and none after it, whatever is case-ignorable between. Linear
 * over a text: each run of ignorable characters is walked once by the sigma before it and once by the one behind. */
static bool is_final_sigma(const struct comma_codepoints *in, size_t at)
{
    size_t i = at;

    while (i > 0 && is_case_ignorable(in->data[i - 1]))
        i--;
    if (i == 0 || !is_cased(in->data[i - 1]))
        return false;
    for (i = at + 1; i < in->n && is_case_ignorable(in->data[i]); i++)
        ;
    return i == in->n || !is_cased(in->data[i]);
}

bool comma_lower(const struct comma_codepoints *in, struct comma_codepoints *out)
{
    for (size_t i = 0; i < in->n; i++) {
        const uint32_t c = in->data[i];
        bool ok;

        if (c == 0x130)
            ok = comma_codepoints_push(out, 'i') && comma_codepoints_push(out, 0x307);
        else if (c == CAPITAL_SIGMA)
            ok = comma_codepoints_push(out, is_final_sigma(in, i) ? FINAL_SIGMA : SMALL_SIGMA);
        else
            ok = comma_codepoints_push(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
        if (!ok)
            return false;
    }
    return true;
}

/* Writes the decomposition of c and returns its size; c itself where it is longer than four, as no form here is. */
static size_t decompose(uint32_t c, utf8proc_option_t options, uint32_t to[4])
{
    utf8proc_int32_t parts[4];
    int last_boundclass = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 4, options, &last_boundclass);

    if (n < 1 || n > 4) {
        to[0] = c;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++)
        to[i] = (uint32_t)parts[i];
    return (size_t)n;
}

size_t comma_decompose_wide(uint32_t c, uint32_t to[4])
{
    return decompose(c, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, to);
}

static utf8proc_propval_t combining_class(uint32_t c)
{
    return utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
}

/* One mark of a run, with the place it came from so that sorting keeps the order of equals. */
struct mark {
    uint32_t c;
    uint32_t place;
    int combining_class;
};

static int compare_marks(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;

    if (x->combining_class != y->combining_class)
        return x->combining_class < y->combining_class ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

/* Puts the marks data[0..n) in canonical order. */
static bool sort_marks(uint32_t *data, size_t n)
{
    bool sorted = true;
    struct mark *marks;

    for (size_t i = 1; i < n; i++)
        sorted = sorted && combining_class(data[i - 1]) <= combining_class(data[i]);
    if (sorted)
        return true;
    marks = calloc(n, sizeof(*marks));
    if (!marks)
        return false;
    for (size_t i = 0; i < n; i++)
        marks[i] = (struct mark){ data[i], (uint32_t)i, combining_class(data[i]) };
    qsort(marks, n, sizeof(*marks), compare_marks);
    for (size_t i = 0; i < n; i++)
        data[i] = marks[i].c;
    free(marks);
    return true;
}

/* Not utf8proc_NFC(): it sorts marks by exchanging neighbours, so 64 KiB of them would take seconds. */
bool comma_nfc(struct comma_codepoints *run)
{
    struct comma_codepoints parts = { 0 };
    utf8proc_ssize_t composed;
    bool ok = false, plain = true;

    for (size_t i = 0; i < run->n; i++)
        plain = plain && run->data[i] < 0x300; /* below the first mark all is composed already */
    if (plain)
        return true;
    for (size_t i = 0; i < run->n; i++) {
        uint32_t to[4];
        const size_t n = decompose(run->data[i], UTF8PROC_STABLE | UTF8PROC_COMPOSE, to);

        for (size_t k = 0; k < n; k++)
            if (!comma_codepoints_push(&parts, to[k]))
                goto out;
    }
    for (size_t i = 0; i < parts.n;) {
        size_t end = i + 1;

        if (combining_class(parts.data[i]) != 0) {
            while (end < parts.n && combining_class(parts.data[end]) != 0)
                end++;
            if (!sort_marks(parts.data + i, end - i))
                goto out;
        }
        i = end;
    }
    composed = utf8proc_normalize_utf32((utf8proc_int32_t *)parts.data, (utf8proc_ssize_t)parts.n,
                                        UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (composed < 0)
        goto out;
    parts.n = (size_t)composed;
    free(run->data);
    *run = parts;
    parts = (struct comma_codepoints){ 0 };
    ok = true;
out:
    comma_codepoints_finish(&parts);
    return ok;
}
