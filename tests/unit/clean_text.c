/* SPDX-License-Identifier: MIT */
/* clean_text.c - what happens to a text before it is split: SPEC 7.2 step by step, 7.3, white space, lower case.
 *
 * Golden tables come from Python, its regex module and the HTML standard. The short expectations follow from SPEC's
 * rules by hand; whole texts against ftfy itself are in tokenizer.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "engine/clean_text.h"
#include "engine/html_entities.h"
#include "tests/unit/golden_text.h"

#define N_CODE_POINTS 0x110000

/* One byte per code point, 1 where a range of the golden table has it. The caller frees it. */
static unsigned char *golden_set(const json_t *table, const char *name)
{
    unsigned char *set = calloc(N_CODE_POINTS, 1);
    const json_t *range;
    size_t i;

    assert_non_null(set);
    json_array_foreach(json_object_get(table, name), i, range)
    {
        const json_int_t first = json_integer_value(json_array_get(range, 0));
        const json_int_t last = json_integer_value(json_array_get(range, 1));

        memset(set + first, 1, (size_t)(last - first + 1));
    }
    return set;
}

/* The golden tables are of Unicode 15, and so is utf8proc 2.8. A later one may know more letters, never fewer. */
static void assert_same_set(const json_t *table, const char *name, bool (*has)(uint32_t))
{
    const bool same_version = strcmp(utf8proc_unicode_version(), "15.0.0") == 0;
    unsigned char *set = golden_set(table, name);

    for (uint32_t c = 0; c < N_CODE_POINTS; c++)
        if (set[c] != has(c) && (set[c] || same_version))
            fail_msg("U+%04X: %s is %d in Python", (unsigned)c, name, set[c]);
    free(set);
}

static void letters_numbers_and_spaces_are_those_of_pythons_regex_module(void **state)
{
    json_t *table = golden_json("tokenizer/unicode.json");

    (void)state;
    assert_same_set(table, "L", comma_is_letter);
    assert_same_set(table, "N", comma_is_number);
    assert_same_set(table, "S", comma_is_space);
    json_decref(table);
}

/* What str.strip() removes is white space, or has been removed as a control character before. */
static void what_strip_removes_is_removed(void **state)
{
    json_t *table = golden_json("tokenizer/unicode.json"), *c;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(table, "strip"), i, c)
    {
        const uint32_t point = (uint32_t)json_integer_value(c);

        assert_true(comma_is_space(point) || (point >= 0x1C && point <= 0x1F));
    }
    json_decref(table);
}

static void lower_case_is_that_of_python(void **state)
{
    json_t *table = golden_json("tokenizer/unicode.json");
    const json_t *map = json_object_get(table, "lower");

    (void)state;
    for (uint32_t c = 0; c < N_CODE_POINTS; c++) {
        struct comma_codepoints in = { 0 }, out = { 0 };
        const json_t *expected;
        char key[16];

        if (c >= 0xD800 && c <= 0xDFFF)
            continue;
        snprintf(key, sizeof(key), "%X", (unsigned)c);
        expected = json_object_get(map, key);
        assert_true(comma_codepoints_push(&in, c) && comma_lower(&in, &out));
        if (!expected) {
            if (out.n != 1 || out.data[0] != c)
                fail_msg("U+%s has a lower case, but not in Python", key);
        } else {
            assert_int_equal(out.n, json_array_size(expected));
            for (size_t i = 0; i < out.n; i++)
                assert_int_equal(out.data[i], strtoul(json_string_value(json_array_get(expected, i)), NULL, 16));
        }
        comma_codepoints_finish(&in);
        comma_codepoints_finish(&out);
    }
    json_decref(table);
}

static void assert_lower(const char *text, const char *expected)
{
    struct comma_codepoints in = { 0 }, out = { 0 }, wanted = { 0 };

    assert_true(comma_codepoints_decode(comma_text_of(text), &in) && comma_lower(&in, &out));
    assert_true(comma_codepoints_decode(comma_text_of(expected), &wanted));
    assert_int_equal(out.n, wanted.n);
    assert_memory_equal(out.data, wanted.data, out.n * sizeof(*out.data));
    comma_codepoints_finish(&in);
    comma_codepoints_finish(&out);
    comma_codepoints_finish(&wanted);
}

/* Expectations from Python's str.lower(). */
static void a_sigma_at_the_end_of_a_word_becomes_the_final_one(void **state)
{
    (void)state;
    assert_lower("ΟΔΟΣ", "οδος");
    assert_lower("ΟΔΟΣ ΣΟΦΟΣ", "οδος σοφος");
    assert_lower("Σ", "σ");
    assert_lower("ΣΑΣ", "σας");
    assert_lower("Α.Σ.", "α.ς.");
    assert_lower("Α.Σ.Α", "α.σ.α");
    assert_lower("1Σ", "1σ");
    assert_lower("Α\u0301Σ\u0301", "α\u0301ς\u0301");
    assert_lower("Α\u0301Σ\u0301Α", "α\u0301σ\u0301α");
    assert_lower("ⓐΣ", "ⓐς");
    assert_lower("ΑΣⅠ", "ασⅰ");
}

static void every_name_of_the_html_standard_is_known(void **state)
{
    json_t *table = golden_json("tokenizer/html5_entities.json"), *expected;
    const char *key;

    (void)state;
    assert_int_equal(json_object_size(table), 2231);
    json_object_foreach(table, key, expected)
    {
        struct comma_codepoints name = { 0 }, wanted = { 0 };
        uint32_t value[2];
        const bool bare = key[strlen(key) - 1] != ';';

        assert_true(comma_codepoints_decode((struct comma_text){ key, strlen(key) - !bare }, &name));
        assert_true(comma_codepoints_decode(json_text(expected), &wanted));
        assert_int_equal(comma_html_named(name.data, name.n, bare, value), wanted.n);
        assert_memory_equal(value, wanted.data, wanted.n * sizeof(*value));
        if (!bare) {
            char without[64];

            snprintf(without, sizeof(without), "%.*s", (int)strlen(key) - 1, key);
            assert_int_equal(comma_html_named(name.data, name.n, true, value) > 0,
                             json_object_get(table, without) != NULL);
        }
        comma_codepoints_finish(&name);
        comma_codepoints_finish(&wanted);
    }
    json_decref(table);
}

static void assert_cleaned(const char *what, const char *text, size_t size, const char *expected)
{
    struct comma_codepoints out = { 0 };
    struct comma_error err;
    char bytes[256];
    size_t n = 0;

    assert_true(comma_clean_text((struct comma_text){ text, size }, &out, &err));
    for (size_t i = 0; i < out.n; i++) {
        assert_true(n + 5 < sizeof(bytes));
        n += comma_utf8_encode(out.data[i], (unsigned char *)bytes + n);
    }
    bytes[n] = '\0';
    if (strcmp(bytes, expected) != 0)
        fail_msg("%s: \"%s\" became \"%s\", not \"%s\"", what, text, bytes, expected);
    comma_codepoints_finish(&out);
}

static void each_step_of_the_cleaning_does_what_spec_says(void **state)
{
    static const struct {
        const char *what, *text, *cleaned;
    } cases[] = {
        { "nothing", "", "" },
        { "only space", " \t\n\u3000 ", "" },
        { "lower case", "Golden Retriever", "golden retriever" },
        { "white space", "  spaced \t out\n\u00A0\u2003name  ", "spaced out name" },
        { "a zero-width space is none", "zero\u200Bwidth", "zero\u200Bwidth" },
        { "(a) entity", "rock &amp; roll", "rock & roll" },
        { "(a) many times", "&amp;amp;amp;amp;amp; deep", "& deep" },
        { "(a) capitals", "&EACUTE;T&EACUTE; &SZLIG;", "été ss" },
        { "(a) capitals of a name that HTML reads itself", "&GTDOT;", ">dot;" },
        { "(a) not after <", "a < b &amp;amp;amp;amp; c", "a < b &amp;amp; c" },
        { "(a) not on later lines", "a<b\n&amp;amp;amp;", "a<b &amp;" },
        { "(a) but on earlier lines", "&amp;amp;amp;amp;\na<b", "& a<b" },
        { "(a) entities made of entities", "&am&#112;;", "&" },
        { "(a) a semicolon that is an entity", "&amp&semi;", "&" },
        { "(a) a chain of them", "&semi&semi&semi;", ";" },
        { "(a) a Greek question mark is a semicolon", "&lt\u037E&gt\u037E", "<>" },
        { "(a) and one by number", "&amp&#x37E;&#65;", "&a" },
        { "(a) a Kelvin sign is a K", "&\u212Aappa;", "κ" },
        { "(a) at most 24 letters", "&CounterClockwiseContourIntegral;", "∳" },
        { "(a) 24 digits", "&#000000000000000000000038;amp;amp;amp;", "&" },
        { "(a) 24 digits behind an entity", "&amp;#000000000000000000000038;amp;amp;amp;", "&" },
        { "(a) not 25, so html does it twice", "&#0000000000000000000000038;amp;amp;amp;", "&amp;amp;" },
        { "(a) not before < on its line", "&amp;amp;amp; a < b", "&amp; a < b" },
        { "(b) is left out: it guesses", "schÃ¶n", "schã¶n" },
        { "(c) is left out", "\xC2\x93x", "\xC2\x93x" },
        { "(d) ligatures", "ﬁsh ﬂy ﬀ ﬃ ﬄ ﬆ", "fish fly ff ffi ffl st" },
        { "(d) long s", "ﬅ", "ſt" },
        { "(d) digraphs", "ĲSLAND ǆ ǉ ǌ ǳ ŉ", "ijsland dž lj nj dz 'n" },
        { "(e) full width", "ＦＵＬＬ１２３！\u3000ｘ", "full123! x" },
        { "(e) half width", "ｶﾞ", "ガ" },
        { "(e) full-width entity", "＆ａｍｐ；", "&" },
        { "(f) quotes", "“a” „b‟ ‘c’ ‚d‛ ʼe", "\"a\" \"b\" 'c' 'd' 'e" },
        { "(g) line ends",
          "a\r\nb\rc\u2028d\u2029e\xC2\x85"
          "f",
          "a b c d e f" },
        { "(i) terminal escapes", "\x1B[1;31mred\x1B[0m", "red" },
        { "(i) not without an end", "\x1B[1;31", "[1;31" },
        { "(i) with an entity inside", "\x1B&lsqb;31&#109;red", "red" },
        { "(i) only at first", "\x1B&amp;lsqb;31m", "[31m" },
        { "(j) controls",
          "\x01"
          "con\x0Btrol\x7F\x1F",
          "control" },
        { "(j) and format characters", "\uFEFFb\u206Ao\uFFFBm", "bom" },
        { "(j) inside an entity", "&am\x01p;", "&" },
        { "(k) composes", "e\u0301clair A\u030A", "éclair å" },
        { "(k) sorts marks", "o\u0302\u0323", "ộ" },
        { "(k) keeps the order of marks of one class", "a\u0301\u0300\u0323", "\u1EA1\u0301\u0300" },
        { "(k) Hangul", "\u1112\u1161\u11AB", "한" },
        { "(k) an entity and a mark", "a&#x301;", "á" },
        { "html without semicolon", "&copy 2024 &ampx", "© 2024 &x" },
        { "html: the longest name that fits", "&notit; &notin;", "¬it; ∉" },
        { "html: unknown names stay", "&unknown; &a; &;", "&unknown; &a; &;" },
        { "html numbers", "&#233; &#xE9 &#X45;", "é é e" },
        { "html numbers out of range", "&#0; &#xD800; &#1114112; &#99999999999999999999;",
          "\uFFFD \uFFFD \uFFFD \uFFFD" },
        { "html numbers beyond 32 bits", "&#4294967361; &#x100000041;", "\uFFFD \uFFFD" },
        { "html numbers of Windows-1252", "&#128; &#x99; &#x81;", "€ ™ \xC2\x81" },
        { "html numbers of controls", "a&#1;b&#127;c&#xFFFF;d&#xFDD0;e", "abcde" },
        { "html numbers that are none", "&#; &#x; &#xg; &#a;", "&#; &#x; &#xg; &#a;" },
        { "html: a semicolon by number", "&#59; &amp&#59;", "; &;" },
        { "html twice after <", "<&amp;amp;lt;", "<&lt;" },
        { "special words stay", "<|StartOfText|>", "<|startoftext|>" },
        { "dotted capital I", "İstanbul", "i\u0307stanbul" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_cleaned(cases[i].what, cases[i].text, strlen(cases[i].text), cases[i].cleaned);
    assert_cleaned("(j) NUL", "a\0b", 3, "ab");
}

/* ftfy's own output, cleaned by the rest of the steps, is what its input cleans to. */
static void cleaning_agrees_with_ftfy(void **state)
{
    json_t *rows = golden_json("tokenizer/encode.json"), *row;
    size_t i, n_fixed = 0, n_equal = 0;

    (void)state;
    json_array_foreach(rows, i, row)
    {
        const json_t *text = json_object_get(row, "text"), *fixed = json_object_get(row, "ftfy_output");
        struct comma_codepoints a = { 0 }, b = { 0 };
        struct comma_error err;

        if (!fixed)
            continue;
        assert_true(comma_clean_text(json_text(text), &a, &err));
        assert_true(comma_clean_text(json_text(fixed), &b, &err));
        n_fixed++;
        n_equal += a.n == b.n && memcmp(a.data, b.data, a.n * sizeof(*a.data)) == 0;
        comma_codepoints_finish(&a);
        comma_codepoints_finish(&b);
    }
    assert_int_equal(n_fixed, 26);
    assert_int_equal(n_equal, n_fixed - 6); /* the six are named in tokenizer.c */
    json_decref(rows);
}

/* ftfy takes one pass for each "amp;" and exchanges marks one by one, which is minutes of work for these. */
static void crafted_texts_are_cleaned_in_time(void **state)
{
    static const struct {
        const char *head, *repeated, *tail;
        size_t n_cleaned;
    } cases[] = {
        { "&", "amp;", "", 1 },                     /* & */
        { "&", "semi&", "semi;", 1 },               /* ; */
        { "", "&#x37E", ";", 1 },                   /* ; */
        { "&#xFF06;", "#xFF06;", "", 1 },           /* & */
        { "", "&", "", 64000 },                     /* as it was */
        { "", "&#1", "", 0 },                       /* controls */
        { "", "\x1B[1", "", 64000 / 3 * 2 },        /* without the escape characters */
        { "a", "\u0301\u0323", "", 64000 / 4 * 2 }, /* the first mark below and the letter are composed */
    };
    static char text[65536];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const size_t unit = strlen(cases[i].repeated);
        struct comma_codepoints out = { 0 };
        struct comma_error err;
        size_t n = strlen(cases[i].head);

        memcpy(text, cases[i].head, n);
        for (size_t k = 0; k < 64000 / unit; k++, n += unit)
            memcpy(text + n, cases[i].repeated, unit);
        memcpy(text + n, cases[i].tail, strlen(cases[i].tail));
        n += strlen(cases[i].tail);
        assert_true(comma_clean_text((struct comma_text){ text, n }, &out, &err));
        assert_int_equal(out.n, cases[i].n_cleaned);
        comma_codepoints_finish(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_numbers_and_spaces_are_those_of_pythons_regex_module),
        cmocka_unit_test(what_strip_removes_is_removed),
        cmocka_unit_test(lower_case_is_that_of_python),
        cmocka_unit_test(a_sigma_at_the_end_of_a_word_becomes_the_final_one),
        cmocka_unit_test(every_name_of_the_html_standard_is_known),
        cmocka_unit_test(each_step_of_the_cleaning_does_what_spec_says),
        cmocka_unit_test(cleaning_agrees_with_ftfy),
        cmocka_unit_test(crafted_texts_are_cleaned_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
