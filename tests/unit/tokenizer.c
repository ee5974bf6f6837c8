/* SPDX-License-Identifier: MIT */
/* tokenizer.c - text in, ids out; and what a broken list of merges is answered.
 *
 * Ids of the emoji model come from its training code, those of the full vocabulary from CLIP's own code. The full
 * list of merges is other people's and not part of this tree: its tests are skipped where it is not beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "engine/base/map.h"
#include "engine/tokenizer.h"
#include "tests/unit/golden_text.h"

#define EMOJI_VOCAB 2048
#define FULL_VOCAB  49408
#define SOS         (FULL_VOCAB - 2)
#define EOT         (FULL_VOCAB - 1)

/* The number of allocations that still succeed; every test that counts them down sets it back to -1. */
static long allocations_left = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool may_allocate(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left != 0;
}

void *__wrap_malloc(size_t size)
{
    return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return may_allocate() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
    return may_allocate() ? __real_realloc(p, size) : NULL;
}

static struct comma_tokenizer *emoji_tokenizer(void)
{
    struct comma_tokenizer *t = NULL;
    struct comma_error err = { 0 };
    struct comma_map map;

    if (!comma_map_open(&map, golden_path("../../../models/emoji/merges.txt"), &err) ||
        !comma_tokenizer_create((struct comma_bytes){ map.data, map.size }, EMOJI_VOCAB, &t, &err))
        fail_msg("%s", err.message);
    comma_map_close(&map);
    return t;
}

/* The tokenizer of OpenAI's models; NULL where their list of merges is absent. */
static struct comma_tokenizer *full_tokenizer(void)
{
    static unsigned char merges[4 << 20];
    struct comma_tokenizer *t = NULL;
    struct comma_error err = { 0 };
    gzFile file = gzopen(golden_path("../../../../shared/spec/golden/data/bpe_simple_vocab_16e6.txt.gz"), "rb");
    int size;

    if (!file) {
        print_message("skipped: CLIP's list of merges is not beside this tree\n");
        return NULL;
    }
    size = gzread(file, merges, sizeof(merges));
    gzclose(file);
    assert_in_range(size, 1, sizeof(merges) - 1);
    if (!comma_tokenizer_create((struct comma_bytes){ merges, (size_t)size }, FULL_VOCAB, &t, &err))
        fail_msg("%s", err.message);
    return t;
}

/* True if text gives the ids of a golden array; with_ends: the array has SOS and EOT. */
static bool gives(const struct comma_tokenizer *t, struct comma_text text, const json_t *ids, bool with_ends)
{
    const size_t shift = with_ends ? 0 : 1;
    int32_t actual[512];
    struct comma_error err = { 0 };
    size_t n = 0;

    if (!comma_tokenizer_encode(t, text, actual, 512, &n, &err))
        fail_msg("%s", err.message);
    assert_int_equal(actual[0], comma_tokenizer_sos(t));
    assert_int_equal(actual[n - 1], comma_tokenizer_eot(t));
    if (n != json_array_size(ids) + 2 * shift)
        return false;
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (actual[i + shift] != json_integer_value(json_array_get(ids, i)))
            return false;
    return true;
}

static void the_emoji_model_gets_the_ids_it_was_trained_with(void **state)
{
    struct comma_tokenizer *t = emoji_tokenizer();
    json_t *golden = golden_json("../../../models/emoji/golden.json");
    const json_t *classes = json_object_get(golden, "classes"), *tokens = json_object_get(golden, "tokens");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(golden, "template")), "a photo of a {}.");
    assert_int_equal(json_array_size(classes), 111);
    for (size_t i = 0; i < json_array_size(classes); i++) {
        char text[256];
        const int size =
            snprintf(text, sizeof(text), "a photo of a %s.", json_string_value(json_array_get(classes, i)));

        if (!gives(t, (struct comma_text){ text, (size_t)size }, json_array_get(tokens, i), true))
            fail_msg("%s", text);
    }
    json_decref(golden);
    comma_tokenizer_destroy(t);
}

static void clip_s_own_texts_get_clip_s_ids(void **state)
{
    /* ftfy guesses that these were decoded with a wrong encoding, or that C1 controls are Windows-1252. We do not. */
    static const char *const guessed[] = { "schÃ¶n",
                                           ("a\xC2\x85"
                                            "b"),
                                           "cafÃ©",
                                           "â€™",
                                           "Â£100",
                                           "\xC2\x80\xC2\x93" };
    struct comma_tokenizer *t = full_tokenizer();
    json_t *rows, *row;
    size_t i, n_guessed = 0;

    (void)state;
    if (!t)
        skip();
    rows = golden_json("tokenizer/encode.json");
    assert_int_equal(json_array_size(rows), 138);
    json_array_foreach(rows, i, row)
    {
        const struct comma_text text = json_text(json_object_get(row, "text"));
        bool guess = false;

        for (size_t k = 0; k < sizeof(guessed) / sizeof(guessed[0]); k++)
            guess = guess || comma_text_equal(text, comma_text_of(guessed[k]));
        n_guessed += guess;
        if (gives(t, text, json_object_get(row, "ids"), false) == guess)
            fail_msg("text %zu, \"%s\", %s", i, text.data, guess ? "is listed as different, but is equal" : "differs");
    }
    assert_int_equal(n_guessed, 6);
    json_decref(rows);
    comma_tokenizer_destroy(t);
}

static void prompts_get_clip_s_ids(void **state)
{
    struct comma_tokenizer *t = full_tokenizer();
    json_t *golden, *row;
    size_t i, n_guessed = 0;

    (void)state;
    if (!t)
        skip();
    golden = golden_json("tokenizer/tokenize.json");
    assert_int_equal(json_array_size(json_object_get(golden, "prompts")), 36);
    json_array_foreach(json_object_get(golden, "prompts"), i, row)
    {
        const struct comma_text prompt = json_text(json_object_get(row, "prompt"));

        if (strstr(prompt.data, "schÃ¶n"))
            n_guessed++;
        else if (!gives(t, prompt, json_object_get(row, "ids"), true))
            fail_msg("%s", prompt.data);
    }
    assert_int_equal(n_guessed, 1);
    json_decref(golden);
    comma_tokenizer_destroy(t);
}

static void a_text_of_more_tokens_than_the_context_is_refused(void **state)
{
    struct comma_tokenizer *t = full_tokenizer();
    json_t *golden, *row;
    size_t i;

    (void)state;
    if (!t)
        skip();
    golden = golden_json("tokenizer/tokenize.json");
    json_array_foreach(json_object_get(golden, "length_cases"), i, row)
    {
        const struct comma_text text = json_text(json_object_get(row, "text"));
        const json_t *expected = json_object_get(row, "truncated");
        const bool raises = json_is_true(json_object_get(row, "official_raises"));
        int32_t ids[77];
        size_t n = 0;
        struct comma_error err;

        assert_int_equal(comma_tokenizer_encode(t, text, ids, 77, &n, &err), !raises);
        assert_int_equal(n, json_integer_value(json_object_get(row, "tokens_with_sot_eot")));
        if (raises)
            assert_int_equal(err.code, COMMA_E_INPUT);
        for (size_t k = 0; !raises && k < n; k++)
            assert_int_equal(ids[k], json_integer_value(json_array_get(expected, k)));
    }
    json_decref(golden);
    comma_tokenizer_destroy(t);
}

static void the_two_special_words_are_their_ids_in_any_case(void **state)
{
    struct comma_tokenizer *t = emoji_tokenizer();
    struct comma_error err;
    int32_t ids[8];
    size_t n;

    (void)state;
    assert_int_equal(comma_tokenizer_sos(t), EMOJI_VOCAB - 2);
    assert_int_equal(comma_tokenizer_eot(t), EMOJI_VOCAB - 1);
    assert_true(comma_tokenizer_encode(t, comma_text_of("<|StartOfText|><|endoftext|>"), ids, 8, &n, &err));
    assert_int_equal(n, 4);
    assert_int_equal(ids[1], EMOJI_VOCAB - 2);
    assert_int_equal(ids[2], EMOJI_VOCAB - 1);
    comma_tokenizer_destroy(t);
}

/* Ids without merges follow from CLIP's order of the bytes: 33..126, 161..172, 174..255, then 0..32, 127..160, 173. */
static void without_merges_a_text_is_its_bytes(void **state)
{
    struct comma_tokenizer *t = NULL;
    struct comma_error err;
    int32_t ids[16];
    size_t n;
    /* a b' | U+00E9 is C3 A9 | 7' | U+AD is C2 AD: 173 is the last byte of all */
    static const int32_t expected[] = {
        512,       'a' - 33, 'b' - 33 + 256, 0xC3 - 174 + 106, 0xA9 - 161 + 94 + 256, '7' - 33 + 256, 0xC2 - 174 + 106,
        255 + 256, 513
    };

    (void)state;
    assert_true(comma_tokenizer_create((struct comma_bytes){ (const unsigned char *)"", 0 }, 514, &t, &err));
    assert_true(comma_tokenizer_encode(t,
                                       comma_text_of("AB \u00C9"
                                                     "7\u00AD"),
                                       ids, 16, &n, &err));
    assert_int_equal(n, 9);
    assert_memory_equal(ids, expected, sizeof(expected));
    comma_tokenizer_destroy(t);
}

/* Python's regex module, told not to care about case, finds U+0345 (its capital is a letter) in no class at all. */
static void the_iota_mark_is_dropped_as_clip_does(void **state)
{
    struct comma_tokenizer *t = NULL;
    struct comma_error err;
    int32_t ids[16];
    size_t n;

    (void)state;
    assert_true(comma_tokenizer_create((struct comma_bytes){ (const unsigned char *)"", 0 }, 514, &t, &err));
    assert_true(comma_tokenizer_encode(t, comma_text_of("!\u0345!"), ids, 16, &n, &err));
    assert_memory_equal(ids, ((int32_t[]){ 512, 256, 256, 513 }), 4 * sizeof(ids[0]));
    assert_int_equal(n, 4);
    comma_tokenizer_destroy(t);
}

/* By hand: merges in order, each over the whole word from left to right. */
static void merges_are_done_by_rank_and_then_from_left_to_right(void **state)
{
    static const char merges[] = "#version: 0.2\r\na a\r\nb c</w>\r\na b\r\naa a\r\na bc</w>";
    static const struct {
        const char *word;
        size_t n_merged;
        int32_t ids[3];
    } cases[] = {
        { "aaa", 2, { 512, 'a' - 33 + 256 } }, /* aa a': the last a bears the mark, so "aa a" does not fit */
        { "aaaa", 2, { 515, 'a' - 33 + 256 } },     { "abc", 1, { 516 } },       { "abb", 2, { 514, 'b' - 33 + 256 } },
        { "aaab", 2, { 515, 'b' - 33 + 256 } },     { "aabc", 2, { 512, 513 } }, /* the first a is taken before "a bc"
                                                                                    is due */
        { "bcbc", 3, { 'b' - 33, 'c' - 33, 513 } },
    };
    struct comma_tokenizer *t = NULL;
    struct comma_error err;

    (void)state;
    assert_true(comma_tokenizer_create((struct comma_bytes){ (const unsigned char *)merges, sizeof(merges) - 1 }, 519,
                                       &t, &err));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int32_t ids[8];
        size_t n = 0;

        assert_true(comma_tokenizer_encode(t, comma_text_of(cases[i].word), ids, 8, &n, &err));
        if (n != cases[i].n_merged + 2 || memcmp(ids + 1, cases[i].ids, (n - 2) * sizeof(ids[0])) != 0)
            fail_msg("%s", cases[i].word);
    }
    comma_tokenizer_destroy(t);
}

static void a_long_word_is_encoded_in_time(void **state)
{
    static char word[COMMA_MAX_TEXT_BYTES];
    static int32_t ids[COMMA_MAX_TEXT_BYTES + 2];
    struct comma_tokenizer *t = NULL;
    struct comma_error err;
    size_t n;

    (void)state;
    assert_true(comma_tokenizer_create((struct comma_bytes){ (const unsigned char *)"\na a\naa aa\naaaa aaaa", 20 },
                                       517, &t, &err));
    memset(word, 'a', sizeof(word));
    assert_true(comma_tokenizer_encode(t, (struct comma_text){ word, sizeof(word) }, ids, sizeof(ids) / sizeof(ids[0]),
                                       &n, &err));
    assert_int_equal(n, 2 + sizeof(word) / 8 - 1 + 4); /* the last eight: aaaa aa a a' */
    comma_tokenizer_destroy(t);
}

static void what_cannot_be_encoded_is_refused_in_words(void **state)
{
    static char long_text[COMMA_MAX_TEXT_BYTES + 1];
    struct comma_tokenizer *t = emoji_tokenizer();
    struct comma_error err;
    int32_t ids[5] = { 1, 2, 3, 4, 5 };
    size_t n = 99;

    (void)state;
    assert_false(comma_tokenizer_encode(t, comma_text_of("caf\xE9"), ids, 5, &n, &err));
    assert_int_equal(err.code, COMMA_E_INPUT);
    assert_string_equal(err.message, "the text is not valid UTF-8");
    memset(long_text, 'a', sizeof(long_text));
    assert_false(comma_tokenizer_encode(t, (struct comma_text){ long_text, sizeof(long_text) }, ids, 5, &n, &err));
    assert_int_equal(err.code, COMMA_E_LIMIT);
    assert_string_equal(err.message, "the text has 65537 bytes, at most 65536 are allowed");
    assert_int_equal(n, 99);
    assert_false(comma_tokenizer_encode(t, comma_text_of("1 2 3 4"), ids, 5, &n, &err));
    assert_int_equal(err.code, COMMA_E_INPUT);
    assert_string_equal(err.message, "the text has 6 tokens with start and end, at most 5 are allowed");
    assert_int_equal(n, 6);
    assert_int_equal(ids[0], 1); /* nothing is written */
    assert_false(comma_tokenizer_encode(t, comma_text_of(""), ids, 1, &n, &err));
    assert_int_equal(n, 2);
    assert_true(comma_tokenizer_encode(t, comma_text_of(""), ids, 2, &n, &err));
    comma_tokenizer_destroy(t);
    comma_tokenizer_destroy(NULL);
}

static void a_broken_list_of_merges_is_refused_by_line(void **state)
{
    static const struct {
        const char *what, *merges;
        size_t vocab_size;
        const char *words;
    } cases[] = {
        { "no room for the bytes", "", 513,
          "vocabulary of 513 tokens: 514 (bytes, SOS and EOT) to 16777216 are allowed" },
        { "more than anyone has", "", SIZE_MAX, "514 (bytes, SOS and EOT) to 16777216 are allowed" },
        { "empty", "", 515, "merges: 0 lines follow the header, but the vocabulary needs 1" },
        { "too few", "#version\na b\n", 516, "merges: 1 lines follow the header, but the vocabulary needs 2" },
        { "no space", "#\nab\n", 515, "merges line 2: expected two symbols with a space between them" },
        { "an empty line", "#\n\na b", 515, "merges line 2: expected two symbols" },
        { "three symbols", "#\na b\nc d e\n", 516, "merges line 3: expected exactly two symbols with one space" },
        { "two spaces", "#\na  b\n", 515, "merges line 2: expected exactly two symbols with one space" },
        { "nothing before the space", "#\n b\n", 515, "merges line 2: expected exactly two symbols with one space" },
        { "nothing behind the space", "#\na \n", 515, "merges line 2: expected exactly two symbols with one space" },
        { "a tab", "#\na\tb\n", 515, "merges line 2: expected two symbols" },
        { "unknown first", "#\nab c\n", 515, "line 2: its first symbol is neither a byte nor made by an earlier line" },
        { "unknown second", "#\nc ab\n", 515,
          "line 2: its second symbol is neither a byte nor made by an earlier line" },
        { "made by a later line", "#\nab c\na b\n", 516, "line 2: its first symbol is neither a byte nor made" },
        { "no spelling of a byte", "#\na \xC5\x84\n", 515, "line 2: its second symbol is neither a byte nor made" },
        { "not UTF-8", "#\na \xFF\n", 515, "line 2: its second symbol is neither a byte nor made" },
        { "an end mark in the middle", "#\na</w> b\n", 515, "line 2: only the second symbol can end in </w>" },
        { "only an end mark", "#\na </w>\n", 515, "merges line 2 makes what is a byte already" },
        { "twice the same line", "#\na b\na b\n", 516, "merges line 3 makes the same symbol as line 2" },
        { "twice the same symbol", "#\nb c\na b\na bc\nab c\n", 518, "merges line 5 makes the same symbol as line 4" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct comma_bytes merges = { (const unsigned char *)cases[i].merges, strlen(cases[i].merges) };
        struct comma_tokenizer *t = NULL;
        struct comma_error err = { 0 };

        if (comma_tokenizer_create(merges, cases[i].vocab_size, &t, &err))
            fail_msg("%s: accepted", cases[i].what);
        assert_null(t);
        assert_int_equal(err.code, COMMA_E_MODEL);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s: %s", cases[i].what, err.message);
    }
}

static void lines_behind_those_in_use_are_not_looked_at(void **state)
{
    static const char merges[] = "any header\na b\nthis is not a merge\n\n";
    struct comma_tokenizer *t = NULL;
    struct comma_error err;

    (void)state;
    assert_true(comma_tokenizer_create((struct comma_bytes){ (const unsigned char *)merges, sizeof(merges) - 1 }, 515,
                                       &t, &err));
    comma_tokenizer_destroy(t);
}

static void each_allocation_may_fail(void **state)
{
    static const char merges[] = "#\na b\nab c</w>\n";
    const struct comma_bytes bytes = { (const unsigned char *)merges, sizeof(merges) - 1 };
    struct comma_tokenizer *t = NULL;
    struct comma_error err = { 0 };
    bool ok = false;
    int32_t ids[64];
    size_t n, failures = 0;

    (void)state;
    for (long i = 1; !ok; i++, failures += !ok) {
        allocations_left = i;
        ok = comma_tokenizer_create(bytes, 516, &t, &err);
        allocations_left = -1;
        assert_true(ok || err.code == COMMA_E_NOMEM);
    }
    assert_in_range(failures, 5, 50);
    ok = false;
    failures = 0;
    for (long i = 1; !ok; i++, failures += !ok) {
        allocations_left = i;
        /* every step has something to do, and the marks are out of order */
        ok = comma_tokenizer_encode(t, comma_text_of("abc &amp;amp; ﬁ o\u0302\u0323 Σ"), ids, 64, &n, &err);
        allocations_left = -1;
        assert_true(ok || err.code == COMMA_E_NOMEM);
    }
    assert_in_range(failures, 5, 50);
    comma_tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_emoji_model_gets_the_ids_it_was_trained_with),
        cmocka_unit_test(clip_s_own_texts_get_clip_s_ids),
        cmocka_unit_test(prompts_get_clip_s_ids),
        cmocka_unit_test(a_text_of_more_tokens_than_the_context_is_refused),
        cmocka_unit_test(the_two_special_words_are_their_ids_in_any_case),
        cmocka_unit_test(without_merges_a_text_is_its_bytes),
        cmocka_unit_test(the_iota_mark_is_dropped_as_clip_does),
        cmocka_unit_test(merges_are_done_by_rank_and_then_from_left_to_right),
        cmocka_unit_test(a_long_word_is_encoded_in_time),
        cmocka_unit_test(what_cannot_be_encoded_is_refused_in_words),
        cmocka_unit_test(a_broken_list_of_merges_is_refused_by_line),
        cmocka_unit_test(lines_behind_those_in_use_are_not_looked_at),
        cmocka_unit_test(each_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
