/* SPDX-License-Identifier: MIT */
/* api_hostile.c - bodies that no honest client sends: broken and ambiguous multipart, JSON made to cost memory, bytes
 * cut anywhere, memory that runs out. Each ends in a clear refusal, and nothing is read past its end or leaked. */
#include <jansson.h>

#include "api/pages.h"
#include "tests/unit/api_support.h"

#define FORM       "multipart/form-data; boundary=B"
#define PART(name) "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"
#define LABELS     PART("labels") "cat\r\n"
#define END        "--B--\r\n"
#define JSON       "application/json"

/* ---- multipart ---- */

static void data_may_hold_what_looks_like_a_boundary(void **state)
{
    static const char *const images[] = { "a--Bb",     "\r\n--Bx", "\r\n-B",       "\n--B\r\n",    "\r\n", "\r\n\r\n--",
                                          "\r\n--B x", "\r--B--",  "\r\n--\r\n--", "\r\r\n--B\t-", "\r" };

    (void)state;
    for (size_t i = 0; i < sizeof(images) / sizeof(images[0]); i++) {
        char body[256];
        struct parsed p;

        snprintf(body, sizeof(body), PART("image") "%s\r\n" LABELS END, images[i]);
        p = parse_classify(FORM, NULL, body);
        assert_accepted(&p);
        assert_text((struct comma_text){ (const char *)p.request.image.data, p.request.image.size }, images[i]);
        release(&p);
    }
}

static void a_form_may_be_written_in_many_ways(void **state)
{
    static const struct {
        const char *type, *body;
    } cases[] = {
        { FORM, "preamble\r\n" PART("image") "X\r\n" LABELS END "epilogue --B\r\n" },
        { FORM, "\r\n" PART("image") "X\r\n" LABELS "--B--" },
        { FORM, "--Bx\r\n" PART("image") "X\r\n" LABELS "--B--" },
        { FORM, "--B \t \r\nContent-Disposition: form-data; name=image\r\n\r\nX\r\n" LABELS END },
        { FORM, "--B\r\ncontent-disposition:FORM-DATA;NAME=\"image\";filename=\"a;\\\"b\\\\.png\"\r\n"
                "Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\nX\r\n" LABELS END },
        { FORM,
          "--B\r\nContent-Type: text/plain; charset=utf-8\r\nX-Y: z\r\n"
          "Content-Disposition: form-data; filename*=UTF-8''%e2%82%ac.png; name=\"image\";\r\n\r\nX\r\n" LABELS END },
        { "Multipart/Form-Data; charset=utf-8; Boundary=\"B\"", PART("image") "X\r\n" LABELS END },
        { "multipart/form-data; boundary=\"a b'()+_,-./:=?c\"",
          "--a b'()+_,-./:=?c\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nX\r\n"
          "--a b'()+_,-./:=?c\r\nContent-Disposition: form-data; name=\"labels\"\r\n\r\ncat\r\n"
          "--a b'()+_,-./:=?c--" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct parsed p = parse_classify(cases[i].type, NULL, cases[i].body);

        assert_accepted(&p);
        assert_int_equal(p.request.image.size, 1);
        assert_memory_equal(p.request.image.data, "X", 1);
        assert_texts(p.request.labels, p.request.n_labels, "cat");
        release(&p);
    }
}

static void a_broken_form_is_refused_with_what_is_broken(void **state)
{
    static const struct {
        const char *type, *body, *pointer, *words;
    } cases[] = {
        { "multipart/form-data", END, "", "no boundary" },
        { "multipart/form-data; boundary=", END, "", "boundary of 1 to 70" },
        { "multipart/form-data; boundary=\"a\\b\"", END, "", "boundary of 1 to 70" },
        { "multipart/form-data; boundary=\"B", END, "", "no boundary" },
        { "multipart/form-data; boundary=\"B \"", END, "", "boundary of 1 to 70" },
        { "multipart/form-data; boundary="
          "01234567890123456789012345678901234567890123456789012345678901234567890",
          END, "", "boundary of 1 to 70" },
        { FORM, "", "", "does not hold the boundary \"B\"" },
        { FORM, "--C\r\n", "", "does not hold the boundary \"B\"" },
        { FORM, PART("image") "X\r\n" LABELS, "", "ends before its closing boundary" },
        { FORM, PART("image") "X\r\n--B\r\nContent-Dis", "", "ends inside a part's header" },
        { FORM, PART("image") "X", "", "ends before its closing boundary; was the upload cut?" },
        { FORM, PART("image") "X\r\n--B", "", "ends before its closing boundary" },
        { FORM, PART("image") "X\r\n--B-", "", "ends before its closing boundary" },
        { FORM, PART("image") "X\r\n--B\r", "", "ends before its closing boundary" },
        { FORM, PART("image") "X\n--B--\n", "", "ends before its closing boundary" },
        { FORM, "--B\nContent-Disposition: form-data; name=\"image\"\n\nX\n--B--\n", "",
          "LF alone; they must end with" },
        { FORM, "--B\r\n\r\nX\r\n" END, "", "no Content-Disposition" },
        { FORM, "--B\r\nContent-Type: image/png\r\n\r\nX\r\n" END, "", "no Content-Disposition" },
        { FORM, "--B\r\nContent-Disposition: form-data\r\n\r\nX\r\n" END, "", "has no name" },
        { FORM, "--B\r\nContent-Disposition: attachment; name=\"image\"\r\n\r\nX\r\n" END, "", "must be form-data" },
        { FORM, "--B\r\nContent-Disposition: form-data; name=\"image\r\n\r\nX\r\n" END, "", "malformed" },
        { FORM, "--B\r\nContent-Disposition: form-data; =x\r\n\r\nX\r\n" END, "", "malformed" },
        { FORM, "--B\r\nContent-Disposition: form-data; name=\"image\"x\r\n\r\nX\r\n" END, "", "malformed" },
        { FORM, "--B\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\nX\r\n" END, "", "two names" },
        { FORM, "--B\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n" END,
          "", "two Content-Disposition" },
        { FORM, "--B\r\nContent-Disposition: form-data;\r\n name=\"image\"\r\n\r\nX\r\n" END, "", "folded" },
        { FORM, "--B\r\nContent-Disposition\r\n\r\nX\r\n" END, "", "without a colon" },
        { FORM, "--B\r\nContent-Disposition: form-data; name=\"image\"\nX: y\r\n\r\nX\r\n" END, "", "bare line feed" },
        { FORM,
          "--B\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nX\r\n" END,
          "", "Content-Transfer-Encoding" },
        { FORM, PART("image") "X\r\n" PART("image") "X\r\n" LABELS END, "/image", "\"image\" is given twice" },
        { FORM, PART("im\\age") "X\r\n" LABELS END, "/im\\age", "no field" },
        { FORM, PART("") "X\r\n" LABELS END, "/", "no field \"\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct parsed p = parse_classify(cases[i].type, NULL, cases[i].body);

        assert_refused(&p, 400, cases[i].pointer, cases[i].words);
        release(&p);
    }
}

/* size bytes of fill between a head and a tail */
static char *padded(const char *head, char fill, size_t size, const char *tail, size_t *total)
{
    const size_t h = strlen(head), t = strlen(tail);
    char *body = malloc(h + size + t + 1);

    assert_non_null(body);
    memcpy(body, head, h);
    memset(body + h, fill, size);
    memcpy(body + h + size, tail, t + 1);
    *total = h + size + t;
    return body;
}

/* n items between head and tail */
static char *repeated(const char *head, const char *item, size_t n, const char *tail, size_t *size)
{
    char *body = malloc(strlen(head) + n * strlen(item) + strlen(tail) + 1), *p = body;

    assert_non_null(body);
    p = stpcpy(p, head);
    for (size_t i = 0; i < n; i++)
        p = stpcpy(p, item);
    p = stpcpy(p, tail);
    *size = (size_t)(p - body);
    return body;
}

static void sizes_inside_a_form_are_bounded(void **state)
{
    struct comma_api_limits limits = comma_api_default_limits();
    size_t size, n = 0;
    char *body = padded("--B\r\nX: ", 'a', 5000, "\r\n\r\n" END, &size), *many;
    struct parsed p = parse_bytes(COMMA_API_CLASSIFY, FORM, NULL, body, size, NULL);

    (void)state;
    assert_refused(&p, 400, "", "header is longer than 4096 bytes");
    release(&p);
    free(body);
    body = repeated("--B\r\n", "X-Y: z\r\n", 600, "\r\n" END, &size);
    p = parse_bytes(COMMA_API_CLASSIFY, FORM, NULL, body, size, NULL);
    assert_refused(&p, 400, "", "header is longer than 4096 bytes");
    release(&p);
    free(body);
    body = padded(PART("image"), 'a', 3 << 20, "\r\n" LABELS END, &size);
    p = parse_bytes(COMMA_API_CLASSIFY, FORM, NULL, body, size, NULL);
    assert_accepted(&p);
    assert_int_equal(p.request.image.size, 3 << 20);
    release(&p);
    free(body);
    limits.max_labels = 3;
    many = malloc(100 * sizeof(PART("labels") "\r\n"));
    assert_non_null(many);
    for (int i = 0; i < 68; i++)
        n += (size_t)sprintf(many + n, "%s", PART("labels") "\r\n");
    p = parse_bytes(COMMA_API_CLASSIFY, FORM, NULL, many, n, &limits);
    assert_refused(&p, 413, "", "more than 67 parts");
    release(&p);
    free(many);
}

/* ---- JSON ---- */

static size_t n_parser_allocations;

static void *counting_malloc(size_t size)
{
    n_parser_allocations++;
    return malloc(size);
}

static void json_that_would_cost_memory_is_refused_before_it_is_parsed(void **state)
{
    static const struct {
        const char *head, *item, *tail;
        unsigned status;
        const char *pointer, *words;
    } cases[] = {
        { "[", "{},", "{}]", 400, "", "must be a JSON object" },
        { "{\"labels\":[", "{},", "{}]}", 413, "", "commas, colons and brackets" },
        { "{\"x\":[", "{},", "{}]}", 413, "", "commas, colons and brackets" },
        { "{\"x\":[", "0,", "0]}", 413, "", "commas, colons and brackets" },
        { "{\"labels\":[", "0,", "0]}", 422, "/labels", "too many labels" },
        { "{\"labels\":[", "\"\",", "\"\"]}", 422, "/labels", "too many labels" },
        { "{\"texts\":[", "[],", "[]]}", 413, "", "commas, colons and brackets" },
        { "{\"x\":", "[", "", 413, "", "more than 8 levels" },
        { "{\"a\":", "{\"a\":", "", 413, "", "more than 8 levels" },
        { "{\"x\":\"", "aaa", "\"}", 413, "", "bytes in one string" },
        { "{\"labels\":[\"a\",\"", "aaa", "\"]}", 422, "/labels/1", "longer than 1024 bytes" },
        { "{\"", "aaa", "\":1}", 413, "", "bytes in one string" },
        { "{\"x\":\"", "aaa", "", 400, "", "ends inside the string that begins at offset 5" },
        { "{", "}", "", 413, "", "commas, colons and brackets" },
    };
    json_malloc_t plain_malloc;
    json_free_t plain_free;

    (void)state;
    json_get_alloc_funcs(&plain_malloc, &plain_free);
    json_set_alloc_funcs(counting_malloc, free);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t size;
        char *body = repeated(cases[i].head, cases[i].item, (1 << 20) / strlen(cases[i].item), cases[i].tail, &size);
        struct parsed p;

        n_parser_allocations = 0;
        p = parse_bytes(COMMA_API_CLASSIFY, JSON, NULL, body, size, NULL);
        assert_refused(&p, cases[i].status, cases[i].pointer, cases[i].words);
        assert_int_equal(n_parser_allocations, 0);
        release(&p);
        free(body);
    }
    json_set_alloc_funcs(plain_malloc, plain_free);
}

static void brackets_inside_strings_are_text(void **state)
{
    struct parsed p = parse_classify(
        JSON, NULL, "{\"labels\":[\"a\\\"],[[[[[[[[[[{{{\",\"\\\\\",\"b\\\\\\\",\"],\"image\":\"AAAA\"}");

    (void)state;
    assert_accepted(&p);
    assert_texts(p.request.labels, p.request.n_labels, "a\"],[[[[[[[[[[{{{|\\|b\\\",");
    assert_int_equal(p.request.image.size, 3);
    release(&p);
}

static void a_large_picture_costs_the_parser_nothing(void **state)
{
    json_malloc_t plain_malloc;
    json_free_t plain_free;
    size_t size, small;
    char *body;
    struct parsed p;

    (void)state;
    json_get_alloc_funcs(&plain_malloc, &plain_free);
    json_set_alloc_funcs(counting_malloc, free);
    for (int large = 0; large < 2; large++) {
        body = padded("{\"labels\":[\"cat\"],\"image\":\"", 'A', large ? 12 << 20 : 4, "\"}", &size);
        n_parser_allocations = 0;
        p = parse_bytes(COMMA_API_CLASSIFY, JSON, NULL, body, size, NULL);
        assert_accepted(&p);
        assert_int_equal(p.request.image.size, large ? 9 << 20 : 3);
        assert_in_range(p.request.pool.used, 1, 8192); /* decoded where it stood */
        if (!large)
            small = n_parser_allocations;
        else
            assert_int_equal(n_parser_allocations, small);
        release(&p);
        free(body);
    }
    json_set_alloc_funcs(plain_malloc, plain_free);
}

static void malformed_json_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *body, *words;
    } cases[] = {
        { "", "must be a JSON object" },
        { "\xEF\xBB\xBF{}", "must be a JSON object" },
        { "\"x\"", "must be a JSON object" },
        { "{", "near offset 1: it ends too early" },
        { "{\"image\":\"AAAA\"", "near offset 15: it ends too early" },
        { "{\"image\":\"AAAA\"}x", "near offset 17: something follows its end" },
        { "{\"image\" \"AAAA\"}", "a syntax error" },
        { "{\"image\":\"AAAA\",}", "a syntax error" },
        { "{'image':1}", "a syntax error" },
        { "{\"top_k\":NaN}", "a syntax error" },
        { "{\"top_k\":1e999}", "a number that is too large" },
        { "{\"top_k\":99999999999999999999}", "a number that is too large" },
        { "{\"model\":\"\\ud800\"}", "a syntax error" },
        { "{\"model\":\"\xC0\x80\"}", "bytes that are not UTF-8" },
        { "{\"model\":\"\\u0000\"}", "a NUL character" },
        { "{\"a\":1,\"a\":2}", "a name that is there already" },
        { "{\"model\":{\"a\":1,\"a\":2}}", "a name that is there already" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct parsed p = parse_classify(JSON, NULL, cases[i].body);

        assert_refused(&p, 400, "", cases[i].words);
        release(&p);
    }
}

static void a_picture_that_is_not_base64_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *image, *words;
    } cases[] = {
        { "AAAA AAAA", "character at offset 4 that is not base64" },
        { "AAAA\\nAAAA", "character at offset 4 that is not base64" },
        { "AAAAA-AA", "character at offset 5" },
        { "data:image/png;base64,AAA$", "character at offset 25" },
        { "AAAAA", "ends in the middle of a byte" },
        { "data:image/png,AAAA", "data URI without base64" },
        { "data:image/png;base64", "data URI without base64" },
        { "https://example.org/a.png", "is a URL, and this server fetches none" },
        { "\xFF\xFE", "character at offset 0" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[256];
        struct parsed p;

        snprintf(body, sizeof(body), "{\"labels\":[\"cat\"],\"image\":\"%s\"}", cases[i].image);
        p = parse_classify(JSON, NULL, body);
        assert_refused(&p, 400, "/image", cases[i].words);
        release(&p);
    }
}

/* ---- all kinds ---- */

static const struct {
    const char *type, *query, *body;
} whole[] = {
    { FORM, NULL, PART("image") "X\r\n" LABELS PART("templates") "[\"a {}\"]\r\n" PART("top_k") "1\r\n" END },
    { JSON, NULL,
      "{\"image\":\"data:image/png;base64,QUFB\",\"labels\":[\"a\",\"\\u00e9\"],\"model\":\"m\",\"top_k\":1}" },
    { "image/png", "labels=a,b&model=m&template={}", "X" },
};

static void a_body_cut_anywhere_is_refused_or_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (size_t n = 0; n < strlen(whole[i].body) - 2; n++) {
            struct parsed p = parse_bytes(COMMA_API_CLASSIFY, whole[i].type, NULL, whole[i].body, n, NULL);

            assert_false(p.ok);
            assert_in_range(comma_problem_status(p.problem.kind), 400, 422);
            release(&p);
        }
}

static void a_nul_anywhere_ends_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (size_t at = 0; at < strlen(whole[i].body); at++) {
            char body[512];
            const size_t n = strlen(whole[i].body);
            struct parsed p;

            memcpy(body, whole[i].body, n);
            body[at] = '\0';
            p = parse_bytes(COMMA_API_CLASSIFY, whole[i].type, NULL, body, n, NULL);
            if (p.ok) /* only where it is the picture's own, or behind the end */
                assert_true(memchr(p.request.image.data, '\0', p.request.image.size) || at + 2 >= n);
            release(&p);
        }
}

/* malloc of everything under test is wrapped by the linker, also of the allocator that jansson is given. */
static long allocations_left = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *data, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *data, size_t size);

static bool out_of_memory(void)
{
    if (allocations_left < 0)
        return false;
    if (allocations_left == 0)
        return true;
    allocations_left--;
    return false;
}

void *__wrap_malloc(size_t size)
{
    return out_of_memory() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return out_of_memory() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *data, size_t size)
{
    return out_of_memory() ? NULL : __real_realloc(data, size);
}

static void each_allocation_that_fails_is_a_503(void **state)
{
    const struct comma_api_limits limits = comma_api_default_limits();

    (void)state;
    comma_api_init();
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        bool ok = false;

        for (long n = 0; !ok; n++) {
            unsigned char *body = malloc(strlen(whole[i].body));
            const struct comma_api_input input = { whole[i].type, comma_text_of(whole[i].query ? whole[i].query : ""),
                                                   body, strlen(whole[i].body) };
            struct comma_api_request request;
            struct comma_problem problem;

            assert_non_null(body);
            memcpy(body, whole[i].body, strlen(whole[i].body));
            allocations_left = n;
            ok = comma_api_request_parse(COMMA_API_CLASSIFY, &input, &limits, &request, &problem);
            allocations_left = -1;
            if (ok)
                comma_api_request_finish(&request);
            else
                assert_int_equal(comma_problem_status(problem.kind), 503);
            free(body);
            assert_in_range(n, 0, 200);
        }
    }
}

static void a_pool_never_passes_its_maximum(void **state)
{
    struct comma_pool pool;
    size_t taken = 0;
    void *piece;

    (void)state;
    comma_pool_init(&pool, 100000);
    while ((piece = comma_pool_take(&pool, 1000))) {
        memset(piece, 1, 1000);
        taken += 1000;
    }
    assert_in_range(taken, 90000, 100000);
    assert_in_range(pool.used, taken, 100000);
    assert_null(comma_pool_take(&pool, SIZE_MAX));
    assert_null(comma_pool_array(&pool, SIZE_MAX / 4, 8));
    assert_null(comma_pool_copy(&pool, "", SIZE_MAX));
    comma_pool_finish(&pool);
    assert_int_equal(pool.used, 0);
    comma_pool_init(&pool, 10); /* not even a chunk's head */
    assert_null(comma_pool_take(&pool, 1));
    comma_pool_finish(&pool);
}

static void an_answer_without_memory_says_so(void **state)
{
    struct comma_buffer b;
    struct comma_error err;

    (void)state;
    for (long n = 0; n < 2; n++) { /* the first piece of memory, and the growth of it */
        comma_buffer_init(&b, 1 << 20);
        allocations_left = n;
        for (int i = 0; i < 1000; i++)
            comma_buffer_puts(&b, "0123456789");
        allocations_left = -1;
        assert_false(comma_buffer_ok(&b, &err));
        assert_int_equal(err.code, COMMA_E_NOMEM);
        comma_buffer_finish(&b);
    }
}

/* ---- pages ---- */

static void the_pages_are_in_the_binary(void **state)
{
    static const struct {
        enum comma_route route;
        const char *type, *front;
    } cases[] = { { COMMA_ROUTE_OPENAPI, "application/yaml", "openapi: 3.1.0\n" },
                  { COMMA_ROUTE_PLAYGROUND, "text/html; charset=utf-8", "<!DOCTYPE html>\n" },
                  { COMMA_ROUTE_PLAYGROUND_JS, "text/javascript; charset=utf-8", "/* SPDX" },
                  { COMMA_ROUTE_PLAYGROUND_CSS, "text/css; charset=utf-8", ":root" } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct comma_page page = comma_page_of(cases[i].route);

        assert_string_equal(page.content_type, cases[i].type);
        assert_memory_equal(page.body.data, cases[i].front, strlen(cases[i].front));
        assert_int_equal(page.body.data[page.body.size - 1], '\n');
    }
    assert_int_equal(comma_page_of(COMMA_ROUTE_CLASSIFY).body.size, 0);
    assert_non_null(strstr(comma_page_csp(), "default-src 'none'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_may_hold_what_looks_like_a_boundary),
        cmocka_unit_test(a_form_may_be_written_in_many_ways),
        cmocka_unit_test(a_broken_form_is_refused_with_what_is_broken),
        cmocka_unit_test(sizes_inside_a_form_are_bounded),
        cmocka_unit_test(json_that_would_cost_memory_is_refused_before_it_is_parsed),
        cmocka_unit_test(brackets_inside_strings_are_text),
        cmocka_unit_test(a_large_picture_costs_the_parser_nothing),
        cmocka_unit_test(malformed_json_is_refused_with_its_place),
        cmocka_unit_test(a_picture_that_is_not_base64_is_refused_with_its_place),
        cmocka_unit_test(a_body_cut_anywhere_is_refused_or_whole),
        cmocka_unit_test(a_nul_anywhere_ends_nothing),
        cmocka_unit_test(each_allocation_that_fails_is_a_503),
        cmocka_unit_test(a_pool_never_passes_its_maximum),
        cmocka_unit_test(an_answer_without_memory_says_so),
        cmocka_unit_test(the_pages_are_in_the_binary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
