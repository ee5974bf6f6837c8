/* SPDX-License-Identifier: MIT */
/* safetensors.c - hostile headers and the words they are refused with; views of what is well-formed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/safetensors.h"

/* A file of header and n_data bytes 0, 1, 2...; exactly as long as it says, so that ASan sees what lies behind. */
static struct comma_bytes make_file(const char *header, size_t n_data)
{
    const uint64_t n = strlen(header);
    unsigned char *p = malloc(8 + n + n_data);

    assert_non_null(p);
    memcpy(p, &n, 8);
    memcpy(p + 8, header, n);
    for (size_t i = 0; i < n_data; i++)
        p[8 + n + i] = (unsigned char)i;
    return (struct comma_bytes){ p, 8 + n + n_data };
}

static void assert_refused(struct comma_bytes file, const char *words)
{
    struct comma_tensors *ts = NULL;
    struct comma_error err = { 0 };

    assert_false(comma_safetensors_parse(file, "file", &ts, &err));
    assert_int_equal(err.code, COMMA_E_MODEL);
    assert_null(ts);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

#define W(shape, begin, end) "\"w\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void a_hostile_header_is_refused_by_name(void **state)
{
    static const struct {
        const char *what, *header, *words;
    } cases[] = {
        { "not an object", "[]", "not a JSON object" },
        { "no JSON", "hello", "bad JSON" },
        { "JSON cut off", "{\"w\":", "bad JSON" },
        { "trailing text", "{}x", "bad JSON" },
        { "a key twice", "{" W("[2]", "0", "8") "," W("[2]", "0", "8") "}", "the same JSON key twice" },
        { "an entry that is a list", "{\"w\":[]}", "w is not described by an object" },
        { "no dtype", "{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "w has no dtype" },
        { "an unknown dtype", "{\"w\":{\"dtype\":\"F8\",\"shape\":[2],\"data_offsets\":[0,2]}}", "unknown dtype F8" },
        { "no shape", "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", "w has no shape" },
        { "a negative size", "{" W("[-2]", "0", "8") "}", "the shape of w is not a list of sizes" },
        { "a fraction", "{" W("[2.0]", "0", "8") "}", "the shape of w is not a list of sizes" },
        { "nine dimensions", "{" W("[1,1,1,1,1,1,1,1,2]", "0", "8") "}", "w has 9 dimensions; at most 8" },
        { "a product past 2^64", "{" W("[4294967296,4294967296]", "0", "8") "}", "the shape of w is too large" },
        { "the same behind a zero", "{" W("[0,4294967296,4294967296]", "0", "0") "}", "the shape of w is too large" },
        { "no offsets", "{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", "w: data_offsets must be two sizes" },
        { "one offset", "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", "must be two sizes" },
        { "a negative offset", "{" W("[2]", "-8", "0") "}", "must be two sizes" },
        { "an offset past 2^63", "{" W("[2]", "0", "18446744073709551615") "}", "bad JSON" },
        { "end before start", "{" W("[2]", "8", "0") "}", "w: data_offsets end before they begin" },
        { "past the end", "{" W("[2]", "4", "12") "}", "w lies past the end" },
        { "far past the end", "{" W("[2]", "9223372036854775799", "9223372036854775807") "}", "w lies past the end" },
        { "too few bytes", "{" W("[2]", "0", "4") "}", "w has 4 bytes, but its shape [2] of F32 takes 8" },
        { "a hole before", "{" W("[1]", "4", "8") "}", "4 bytes before w belong to no tensor" },
        { "a hole behind", "{" W("[1]", "0", "4") "}", "4 bytes at the end belong to no tensor" },
        { "an overlap", "{" W("[2]", "0", "8") ",\"v\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[7,8]}}",
          "v overlaps w" },
        { "an escape in a name", "{\"a\\u001b[31m\":1}", "a?[31m is not described" },
        { "NUL in a name", "{\"a\\u0000b\":1}", "bad JSON" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct comma_bytes file = make_file(cases[i].header, 8);

        print_message("%s\n", cases[i].what);
        assert_refused(file, cases[i].words);
        free((void *)(uintptr_t)file.data);
    }
}

static void a_header_longer_than_its_file_is_refused(void **state)
{
    unsigned char file[16] = { 0 };

    (void)state;
    for (size_t size = 0; size < 8; size++)
        assert_refused((struct comma_bytes){ file, size }, "no safetensors file");
    memset(file, 0xFF, 8);
    assert_refused((struct comma_bytes){ file, 16 }, "runs past the end");
    memcpy(file, "\x09\0\0\0\0\0\0\0", 8);
    assert_refused((struct comma_bytes){ file, 16 }, "runs past the end");
}

/* header repeated text n times between head and tail. */
static struct comma_bytes make_repeated(const char *head, const char *text, size_t n, const char *tail)
{
    char *header = malloc(strlen(head) + n * strlen(text) + strlen(tail) + 1), *p = header;
    struct comma_bytes file;

    assert_non_null(header);
    p = stpcpy(p, head);
    for (size_t i = 0; i < n; i++)
        p = stpcpy(p, text);
    strcpy(p, tail);
    file = make_file(header, 0);
    free(header);
    return file;
}

static void a_header_that_would_cost_much_is_refused_before_it_is_parsed(void **state)
{
    static const struct {
        const char *head, *text;
        size_t n;
        const char *words;
    } cases[] = {
        { "{\"w\":", "[", 100000, "nested deeper than 8" },
        { "{\"w\":[0", ",{}", 500000, "more than 400000 JSON values" },
        { "{\"w\":\"", "aaaaaaaaaaaaaaaa", (17 << 20) / 16, "at most 16777216 are read" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct comma_bytes file = make_repeated(cases[i].head, cases[i].text, cases[i].n, "");

        assert_refused(file, cases[i].words);
        free((void *)(uintptr_t)file.data);
    }
}

static struct comma_tensors *parse(struct comma_bytes file)
{
    struct comma_tensors *ts = NULL;
    struct comma_error err = { 0 };

    if (!comma_safetensors_parse(file, "file", &ts, &err))
        fail_msg("%s", err.message);
    return ts;
}

static void tensors_come_in_the_order_of_their_bytes(void **state)
{
    struct comma_bytes file =
        make_file("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]},"
                  "\"__metadata__\":{\"format\":\"pt\"},"
                  "\"empty\":{\"dtype\":\"F64\",\"shape\":[7,0],\"data_offsets\":[1,1]},"
                  "\"a\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1]},"
                  "\"c\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[4,8],\"more\":1}}   ",
                  8);
    struct comma_tensors *ts = parse(file);
    char shape[32];

    (void)state;
    assert_int_equal(comma_tensors_size(ts), 4);
    assert_string_equal(comma_tensors_at(ts, 0)->name, "a");
    assert_string_equal(comma_tensors_at(ts, 1)->name, "empty");
    assert_string_equal(comma_tensors_at(ts, 2)->name, "b");
    assert_int_equal(comma_tensors_find(ts, "b")->data[0], 1);
    assert_int_equal(comma_tensors_find(ts, "c")->data[3], 7);
    assert_null(comma_tensors_find(ts, "d"));
    assert_null(comma_tensors_find(ts, "__metadata__"));
    assert_int_equal(comma_tensor_count(comma_tensors_find(ts, "a")), 1);
    assert_int_equal(comma_tensor_count(comma_tensors_find(ts, "empty")), 0);
    assert_string_equal(comma_tensor_shape_text(comma_tensors_find(ts, "c"), shape, sizeof(shape)), "[1, 2]");
    assert_string_equal(comma_tensor_shape_text(comma_tensors_find(ts, "a"), shape, sizeof(shape)), "[]");
    comma_tensors_close(ts);
    free((void *)(uintptr_t)file.data);
}

static void views_read_every_element_once_and_in_order(void **state)
{
    struct comma_bytes file = make_file("{\"w\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[0,48]}}", 48);
    const float values[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
    const float rows_transposed[] = { 3, 6, 4, 7, 5, 8 };
    struct comma_tensor view;
    struct comma_tensors *ts;
    struct comma_error err = { 0 };
    float out[12];

    (void)state;
    memcpy((void *)(uintptr_t)(file.data + file.size - 48), values, 48);
    ts = parse(file);
    view = comma_tensor_rows(comma_tensors_find(ts, "w"), 1, 2);
    assert_true(comma_tensor_contiguous(&view));
    view = comma_tensor_transposed(&view);
    assert_false(comma_tensor_contiguous(&view));
    assert_null(comma_tensor_as_f32(&view));
    assert_true(comma_tensor_has_shape(&view, 2, (size_t[]){ 3, 2 }));
    assert_true(comma_tensor_to_f32(&view, out, &err));
    assert_memory_equal(out, rows_transposed, sizeof(rows_transposed));
    view = *comma_tensors_find(ts, "w");
    view.dtype = COMMA_I32;
    assert_false(comma_tensor_to_f32(&view, out, &err));
    assert_non_null(strstr(err.message, "w: I32 cannot be a weight"));
    comma_tensors_close(ts);
    free((void *)(uintptr_t)file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hostile_header_is_refused_by_name),
        cmocka_unit_test(a_header_longer_than_its_file_is_refused),
        cmocka_unit_test(a_header_that_would_cost_much_is_refused_before_it_is_parsed),
        cmocka_unit_test(tensors_come_in_the_order_of_their_bytes),
        cmocka_unit_test(views_read_every_element_once_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
