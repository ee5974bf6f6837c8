/* SPDX-License-Identifier: MIT */
/* clean_text.c - see clean_text.h. The letters (a) to (k) are those of SPEC 7.2.
 *
 * ftfy repeats its steps until nothing changes. Text such as "&amp;amp;amp;..." changes once for each "amp;", so that
 * would take quadratic time. It is enough to take the steps once as they stand (repair), which uses up the escape
 * characters that make their order matter, and then to replace entities as soon as they are complete (settle): the
 * rest of the steps give the same in any order, and what an entity becomes is shorter than the entity. */
#include "engine/clean_text.h"

#include <assert.h>

#include "engine/html_entities.h"

#define ESCAPE 0x1B

/* What one code point becomes, at most three; see repair_char(). */
struct repaired {
    uint32_t c[4];
    size_t n;
};

static bool is_ascii_letter(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_ascii_alnum(uint32_t c)
{
    return is_ascii_letter(c) || (c >= '0' && c <= '9');
}

/* (d): Latin ligatures and digraphs apart. The apostrophe of U+0149 is what (f) makes of its U+02BC. */
static void split_ligature(uint32_t c, struct repaired *to)
{
    static const struct {
        uint32_t c;
        uint32_t to[3];
    } ligatures[] = {
        { 0x132, { 'I', 'J' } },       { 0x133, { 'i', 'j' } },       { 0x149, { '\'', 'n' } },
        { 0x1C4, { 'D', 0x17D } },     { 0x1C5, { 'D', 0x17E } },     { 0x1C6, { 'd', 0x17E } },
        { 0x1C7, { 'L', 'J' } },       { 0x1C8, { 'L', 'j' } },       { 0x1C9, { 'l', 'j' } },
        { 0x1CA, { 'N', 'J' } },       { 0x1CB, { 'N', 'j' } },       { 0x1CC, { 'n', 'j' } },
        { 0x1F1, { 'D', 'Z' } },       { 0x1F2, { 'D', 'z' } },       { 0x1F3, { 'd', 'z' } },
        { 0xFB00, { 'f', 'f' } },      { 0xFB01, { 'f', 'i' } },      { 0xFB02, { 'f', 'l' } },
        { 0xFB03, { 'f', 'f', 'i' } }, { 0xFB04, { 'f', 'f', 'l' } }, { 0xFB05, { 0x17F, 't' } },
        { 0xFB06, { 's', 't' } },
    };

    for (size_t i = 0; i < sizeof(ligatures) / sizeof(ligatures[0]); i++) {
        if (ligatures[i].c != c)
            continue;
        for (to->n = 0; to->n < 3 && ligatures[i].to[to->n]; to->n++)
            to->c[to->n] = ligatures[i].to[to->n];
        return;
    }
}

/* (d) to (g) for one code point. */
static struct repaired repair_char(uint32_t c)
{
    struct repaired to = { { c }, 1 };

    if (c == '\r' || c == 0x85 || c == 0x2028 || c == 0x2029) /* (g); two line ends or one are the same space later */
        to.c[0] = '\n';
    else if (c < 0x100)
        return to;
    else if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) /* (f) */
        to.c[0] = '\'';
    else if (c >= 0x201C && c <= 0x201F)
        to.c[0] = '"';
    else if (c == 0x3000) /* (e) */
        to.c[0] = ' ';
    else if (c >= 0xFF01 && c <= 0xFFEF)
        to.n = comma_decompose_wide(c, to.c); /* (k) composes it again */
    else
        split_ligature(c, &to);
    return to;
}

/* (j) */
static bool is_dropped(uint32_t c)
{
    return c <= 8 || c == 11 || (c >= 14 && c <= 31) || c == 127 || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF ||
           (c >= 0xFFF9 && c <= 0xFFFC);
}

/* The value of a name that has a semicolon, as (a) knows it: the names of HTML, and names of small letters written in
 * capitals ("&EACUTE;") for the capital of what they stand for, where HTML itself would not read their beginning. */
static size_t certain_name(const uint32_t *name, size_t size, uint32_t value[2])
{
    uint32_t small[COMMA_MAX_ENTITY_NAME];
    size_t n = comma_html_named(name, size, false, value);

    if (n > 0 || size > COMMA_MAX_ENTITY_NAME)
        return n;
    for (size_t i = 0; i < size; i++) {
        if (name[i] >= 'a' && name[i] <= 'z')
            return 0;
        small[i] = is_ascii_letter(name[i]) ? name[i] + ('a' - 'A') : name[i];
    }
    n = comma_html_named(small, size, false, value);
    if (n == 0 || comma_html_bare_prefix(name, size) > 0)
        return 0;
    if (n == 1 && value[0] == 0xDF) { /* the one value whose capital is two letters and no ligature of (d) */
        value[0] = value[1] = 'S';
        return 2;
    }
    for (size_t i = 0; i < n; i++)
        value[i] = comma_to_upper(value[i]);
    return n;
}

/* (a): reads an entity of at most 24 letters and digits, with its semicolon, at the start of text. Returns its size and
 * writes what it stands for; 0 where none is or it stays. */
static size_t certain_entity(const uint32_t *text, size_t n, uint32_t value[2], size_t *n_value)
{
    size_t size = 1;
    bool has_value;

    if (n < 3 || text[0] != '&')
        return 0;
    if (text[1] == '#') {
        size = comma_html_numeric(text, n, value, &has_value);
        if (size == 0 || text[size - 1] != ';' || size > 2 + 24 + 1 || (has_value && value[0] == ';'))
            return 0;
        *n_value = has_value ? 1 : 0;
        return size;
    }
    while (size < n && size <= 24 && is_ascii_alnum(text[size]))
        size++;
    if (size == 1 || size == n || text[size] != ';')
        return 0;
    *n_value = certain_name(text + 1, size - 1, value);
    return *n_value > 0 ? size + 1 : 0;
}

/* (i): the size of the terminal escape at the start of text, 0 where none is. */
static size_t ansi_escape(const uint32_t *text, size_t n)
{
    size_t i = 2;

    if (n < 3 || text[0] != ESCAPE || text[1] != '[')
        return 0;
    while (i < n && (text[i] == ';' || comma_is_decimal(text[i])))
        i++;
    return i < n && is_ascii_letter(text[i]) ? i + 1 : 0;
}

/* Replaces the entities of run from first on until none is left, in place. An entity is looked for behind each
 * semicolon as it arrives, and its value is put back in front of what is still unread: there is room, since at least
 * four code points have just been taken away and a value is at most three. */
static void settle(struct comma_codepoints *run, size_t first)
{
    uint32_t *data = run->data;
    size_t unread = first, n = first;

    while (unread < run->n) {
        uint32_t value[2];
        size_t start, n_value = 0;

        data[n++] = data[unread++];
        if (data[n - 1] == 0x37E) /* (k) makes these two ASCII, and they may be part of an entity */
            data[n - 1] = ';';
        else if (data[n - 1] == 0x212A)
            data[n - 1] = 'K';
        if (data[n - 1] != ';')
            continue;
        for (start = n - 1; start > first && n - start <= 24 && is_ascii_alnum(data[start - 1]); start--)
            ;
        if (start > first && data[start - 1] == '#')
            start--;
        if (start == first || certain_entity(data + start - 1, n - start + 1, value, &n_value) != n - start + 1)
            continue;
        n = start - 1;
        while (n_value > 0) {
            const struct repaired to = repair_char(value[--n_value]);

            for (size_t k = to.n; k > 0; k--) {
                if (is_dropped(to.c[k - 1]))
                    continue;
                assert(unread > n);
                data[--unread] = to.c[k - 1];
            }
        }
    }
    run->n = n;
}

/* ftfy's steps but (k) on text[0..n), which is appended to out. */
static bool repair(const uint32_t *text, size_t n, bool with_entities, struct comma_codepoints *out)
{
    const size_t first = out->n;
    size_t kept = first;

    for (size_t i = 0; i < n;) {
        uint32_t value[2];
        size_t n_value = 1, size = with_entities ? certain_entity(text + i, n - i, value, &n_value) : 0;

        if (size == 0) {
            value[0] = text[i];
            n_value = size = 1;
        }
        for (size_t v = 0; v < n_value; v++) {
            const struct repaired to = repair_char(value[v]);

            for (size_t k = 0; k < to.n; k++)
                if (!comma_codepoints_push(out, to.c[k]))
                    return false;
        }
        i += size;
    }
    for (size_t i = first; i < out->n;) {
        const size_t escape = ansi_escape(out->data + i, out->n - i);

        if (escape == 0 && !is_dropped(out->data[i]))
            out->data[kept++] = out->data[i];
        i += escape > 0 ? escape : 1;
    }
    out->n = kept;
    if (with_entities)
        settle(out, first);
    return true;
}

/* Entities are replaced by (a) up to the first line that contains "<": what follows may be HTML that is meant so. */
static size_t entities_end(const struct comma_codepoints *text)
{
    size_t line = 0;

    for (size_t i = 0; i < text->n; i++) {
        if (text->data[i] == '<')
            return line;
        if (text->data[i] == '\n')
            line = i + 1;
    }
    return text->n;
}

/* Every run of white space becomes one space, at the ends none; in place. */
static void collapse_spaces(struct comma_codepoints *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->n; i++) {
        if (!comma_is_space(text->data[i]))
            text->data[n++] = text->data[i];
        else if (n > 0 && text->data[n - 1] != ' ')
            text->data[n++] = ' ';
    }
    text->n = n > 0 && text->data[n - 1] == ' ' ? n - 1 : n;
}

bool comma_clean_text(struct comma_text text, struct comma_codepoints *out, struct comma_error *err)
{
    struct comma_codepoints a = { 0 }, b = { 0 };
    size_t end;
    bool ok = false;

    if (text.size == 0)
        return true;
    if (!comma_codepoints_decode(text, &a))
        goto out;
    end = entities_end(&a);
    if (!repair(a.data, end, true, &b) || !repair(a.data + end, a.n - end, false, &b) || !comma_nfc(&b))
        goto out;
    a.n = 0;
    if (!comma_html_unescape(&b, &a))
        goto out;
    b.n = 0;
    if (!comma_html_unescape(&a, &b))
        goto out;
    collapse_spaces(&b);
    ok = comma_lower(&b, out);
out:
    if (!ok)
        comma_fail(err, COMMA_E_NOMEM, "out of memory for a text of %zu bytes", text.size);
    comma_codepoints_finish(&a);
    comma_codepoints_finish(&b);
    return ok;
}
