/* SPDX-License-Identifier: MIT */
/* api_request.c - the manual of POST /classify and POST /embed bodies: what each of the three kinds may hold, and with
 * which status, pointer and words the rest is refused. Hostile multipart and JSON have files of their own. */
#include "tests/unit/api_support.h"

#define FORM               "multipart/form-data; boundary=B"
#define IMAGE              "--B\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\nPIXELS\r\n"
#define FIELD(name, value) "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define END                "--B--\r\n"

#define PIXELS64 "UElYRUxT" /* "PIXELS" */

static void assert_image(const struct parsed *p)
{
    assert_accepted(p);
    assert_int_equal(p->request.image.size, 6);
    assert_memory_equal(p->request.image.data, "PIXELS", 6);
}

static void a_form_a_json_object_and_a_raw_body_say_the_same(void **state)
{
    static const struct {
        const char *type, *query, *body;
    } cases[] = {
        { FORM, NULL,
          IMAGE FIELD("labels", "cat,red apple") FIELD("model", "pets") FIELD("top_k", "2")
              FIELD("template", "a {}, cropped.") FIELD("template", "art of a {}") FIELD("auto_orient", "false")
                  FIELD("timeout_ms", "1500") END },
        { "application/json", NULL,
          "{\"image\":\"" PIXELS64 "\",\"labels\":[\"cat\",\"red apple\"],\"model\":\"pets\",\"top_k\":2,"
          "\"templates\":[\"a {}, cropped.\",\"art of a {}\"],\"auto_orient\":false,\"timeout_ms\":1500}" },
        { "image/png",
          "labels=cat,red+apple&model=pets&top_k=2&template=a+%7B%7D,+cropped.&template=art%20of%20a%20{}&"
          "auto_orient=false&timeout_ms=1500",
          "PIXELS" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct parsed p = parse_classify(cases[i].type, cases[i].query, cases[i].body);
        struct comma_job job = { 0 };

        assert_image(&p);
        assert_texts(p.request.labels, p.request.n_labels, "cat|red apple");
        assert_texts(p.request.templates, p.request.n_templates, "a {}, cropped.|art of a {}");
        assert_string_equal(p.request.model, "pets");
        assert_int_equal(p.request.top_k, 2);
        assert_int_equal(p.request.timeout_ms, 1500);
        assert_false(p.request.auto_orient);
        comma_api_request_to_job(&p.request, &job);
        assert_int_equal(job.kind, COMMA_JOB_CLASSIFY);
        assert_true(job.raw_orientation);
        assert_int_equal(job.n_texts, 2);
        assert_int_equal(job.n_templates, 2);
        release(&p);
    }
}

static void what_is_left_out_has_its_default(void **state)
{
    struct parsed p = parse_classify("application/octet-stream", "labels=cat&model=", "PIXELS");

    (void)state;
    assert_image(&p);
    assert_null(p.request.model);
    assert_true(p.request.top_k == SIZE_MAX);
    assert_true(p.request.auto_orient);
    assert_true(p.request.normalize);
    assert_int_equal(p.request.timeout_ms, 0);
    assert_int_equal(p.request.n_templates, 0);
    release(&p);
    p = parse_classify("application/json", NULL,
                       " \r\n\t{\"image\":\"" PIXELS64 "\",\"labels\":[\"\"],\"model\":null,\"top_k\":null}\n");
    assert_image(&p);
    assert_null(p.request.model);
    assert_int_equal(p.request.n_labels, 1); /* "" is a class name like any other */
    release(&p);
}

static void labels_are_a_json_array_or_lines_or_between_commas(void **state)
{
    static const struct {
        const char *value, *labels;
    } cases[] = {
        { "cat", "cat" },
        { "cat,dog", "cat|dog" },
        { " cat , red apple ,, dog ,", "cat|red apple|dog" },
        { "cat\ndog", "cat|dog" },
        { "cat, big\r\n\r\n  dog\r\n", "cat, big|dog" },
        { "cat\n", "cat" },
        { "[\"cat\",\"dog\"]", "cat|dog" },
        { " \n[ \" cat, big \" , \"\" , \"\\u00e9\\ud83d\\ude00\" ] ", " cat, big ||\xC3\xA9\xF0\x9F\x98\x80" },
        { "\xD9\x82\xD8\xB7\xD8\xA9,\xE7\x8C\xAB", "\xD9\x82\xD8\xB7\xD8\xA9|\xE7\x8C\xAB" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[512];
        struct parsed p;

        snprintf(body, sizeof(body), IMAGE FIELD("labels", "%s") END, cases[i].value);
        p = parse_classify(FORM, NULL, body);
        assert_accepted(&p);
        assert_texts(p.request.labels, p.request.n_labels, cases[i].labels);
        release(&p);
    }
}

static void repeated_labels_fields_are_one_list(void **state)
{
    struct parsed p = parse_classify(FORM, NULL,
                                     IMAGE FIELD("labels", "cat,dog") FIELD("labels", "[\"a,b\"]") FIELD("labels", "")
                                         FIELD("labels", "x\ny") END);

    (void)state;
    assert_accepted(&p);
    assert_texts(p.request.labels, p.request.n_labels, "cat|dog|a,b|x|y");
    release(&p);
    p = parse_classify("image/jpeg", "labels=cat&labels=%5B%22dog%22%5D&labels=a%0Ab", "PIXELS");
    assert_image(&p);
    assert_texts(p.request.labels, p.request.n_labels, "cat|dog|a|b");
    release(&p);
}

static void templates_are_one_each_or_a_list(void **state)
{
    struct parsed p = parse_classify(FORM, NULL,
                                     IMAGE FIELD("labels", "cat") FIELD("templates", "[\"a {}.\",\"b {}\"]")
                                         FIELD("template", "c, {}") FIELD("templates", "d {}, e")
                                             FIELD("templates", "f {}\r\ng {}\r\n") END);

    (void)state;
    assert_accepted(&p);
    assert_texts(p.request.templates, p.request.n_templates, "a {}.|b {}|c, {}|d {}, e|f {}|g {}");
    release(&p);
    p = parse_classify("application/json", NULL,
                       "{\"template\":\"a {}\",\"labels\":[\"x\"],\"image\":\"" PIXELS64 "\"}");
    assert_image(&p);
    assert_texts(p.request.templates, p.request.n_templates, "a {}");
    release(&p);
}

static void a_picture_in_json_is_base64_or_a_data_uri(void **state)
{
    static const char *const images[] = {
        PIXELS64,
        "UElYRUxTIQ==",
        "UElYRUxTIQ",
        "data:image/png;base64," PIXELS64,
        "DATA:image\\/png;name=a;BASE64," PIXELS64,
        "data:;base64," PIXELS64,
        "UElYRUx\\u0054",
        "UElYRUxT\\u0049\\u0051=\\u003d",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(images) / sizeof(images[0]); i++) {
        char body[256];
        struct parsed p;

        snprintf(body, sizeof(body), "{\"labels\":[\"cat\"],\"image\":\"%s\"}", images[i]);
        p = parse_classify("application/json; charset=UTF-8", NULL, body);
        assert_accepted(&p);
        assert_in_range(p.request.image.size, 6, 7);
        assert_memory_equal(p.request.image.data, "PIXELS!", p.request.image.size);
        release(&p);
    }
}

static void embed_takes_an_image_or_texts(void **state)
{
    struct comma_job job = { 0 };
    const char *body = "{\"texts\":[\"a\",\"b,c\"],\"encoding\":\"base64\",\"normalize\":false}";
    struct parsed p = parse_bytes(COMMA_API_EMBED, "application/json", NULL, body, strlen(body), NULL);

    (void)state;
    assert_accepted(&p);
    assert_texts(p.request.texts, p.request.n_texts, "a|b,c");
    assert_int_equal(p.request.encoding, COMMA_ENCODING_BASE64);
    comma_api_request_to_job(&p.request, &job);
    assert_int_equal(job.kind, COMMA_JOB_EMBED_TEXTS);
    assert_true(job.not_normalized);
    assert_int_equal(job.n_texts, 2);
    release(&p);
    p = parse_bytes(COMMA_API_EMBED, "image/png", "encoding=float&normalize=1", "PIXELS", 6, NULL);
    assert_image(&p);
    comma_api_request_to_job(&p.request, &job);
    assert_int_equal(job.kind, COMMA_JOB_EMBED_IMAGE);
    assert_false(job.not_normalized);
    release(&p);
    p = parse_bytes(COMMA_API_EMBED, FORM, NULL, FIELD("texts", "a,b") END, strlen(FIELD("texts", "a,b") END), NULL);
    assert_accepted(&p);
    assert_texts(p.request.texts, p.request.n_texts, "a|b");
    release(&p);
}

struct refusal {
    const char *type, *query, *body;
    unsigned status;
    const char *pointer, *words;
};

static void assert_refusals(enum comma_api_endpoint endpoint, const struct refusal *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct parsed p =
            parse_bytes(endpoint, cases[i].type, cases[i].query, cases[i].body, strlen(cases[i].body), NULL);

        assert_refused(&p, cases[i].status, cases[i].pointer, cases[i].words);
        release(&p);
    }
}

#define JSON "application/json"
#define WITH "{\"image\":\"" PIXELS64 "\",\"labels\":[\"cat\"],"

static void a_body_of_another_type_is_refused_with_those_that_are_read(void **state)
{
    static const struct refusal cases[] = {
        { NULL, NULL, "x", 415, "", "Content-Type is missing; send multipart/form-data, application/json, or the" },
        { "", NULL, "x", 415, "", "\"\" is not read here" },
        { "text/plain", NULL, "x", 415, "", "\"text/plain\" is not read here; send multipart/form-data" },
        { "application/x-www-form-urlencoded", NULL, "labels=cat", 415, "", "application/json" },
        { "image/", "labels=cat", "x", 415, "", "\"image/\" is not read here" },
        { "application/json; charset=latin1", NULL, "{}", 415, "", "as JSON is UTF-8" },
        { "application/jsonx", NULL, "{}", 415, "", "not read here" },
    };

    (void)state;
    assert_refusals(COMMA_API_CLASSIFY, cases, sizeof(cases) / sizeof(cases[0]));
}

static void what_is_missing_is_named(void **state)
{
    static const struct refusal classify[] = {
        { JSON, NULL, "{}", 400, "/image", "image is missing" },
        { JSON, NULL, "{\"labels\":[\"cat\"]}", 400, "/image", "image is missing" },
        { JSON, NULL, "{\"labels\":[\"cat\"],\"image\":null}", 400, "/image", "image is missing" },
        { JSON, NULL, "{\"labels\":[\"cat\"],\"image\":\"\"}", 400, "/image", "image is empty" },
        { JSON, NULL, "{\"image\":\"" PIXELS64 "\"}", 422, "/labels", "no labels" },
        { JSON, NULL, "{\"image\":\"" PIXELS64 "\",\"labels\":[]}", 422, "/labels", "at least one class name" },
        { FORM, NULL, FIELD("labels", "cat") END, 400, "/image", "image is missing" },
        { FORM, NULL, FIELD("image", "") FIELD("labels", "cat") END, 400, "/image", "image is empty" },
        { FORM, NULL, IMAGE END, 422, "/labels", "no labels" },
        { FORM, NULL, IMAGE FIELD("labels", " , ,") END, 422, "/labels", "no labels" },
        { "image/png", NULL, "PIXELS", 422, "/labels", "no labels" },
        { "image/png", "labels=cat", "", 400, "/image", "image is empty" },
    };
    static const struct refusal embed[] = {
        { JSON, NULL, "{}", 400, "", "send \"image\" or \"texts\"" },
        { JSON, NULL, "{\"texts\":[]}", 422, "/texts", "no texts" },
        { JSON, NULL, "{\"texts\":[\"a\"],\"image\":\"" PIXELS64 "\"}", 400, "/texts", "not both" },
        { JSON, NULL, "{\"texts\":[\"a\"],\"labels\":[\"a\"]}", 400, "/labels",
          "no field \"labels\" here; the fields are image, texts, model, auto_orient, timeout_ms, encoding, "
          "normalize" },
    };

    (void)state;
    assert_refusals(COMMA_API_CLASSIFY, classify, sizeof(classify) / sizeof(classify[0]));
    assert_refusals(COMMA_API_EMBED, embed, sizeof(embed) / sizeof(embed[0]));
}

static void a_wrong_value_is_refused_with_its_field(void **state)
{
    static const struct refusal cases[] = {
        { JSON, NULL, WITH "\"top_k\":0}", 400, "/top_k", "\"top_k\" must be a whole number of at least 1" },
        { JSON, NULL, WITH "\"top_k\":-3}", 400, "/top_k", "at least 1" },
        { JSON, NULL, WITH "\"top_k\":1.5}", 400, "/top_k", "whole number" },
        { JSON, NULL, WITH "\"top_k\":\"5\"}", 400, "/top_k", "whole number" },
        { JSON, NULL, WITH "\"top_k\":true}", 400, "/top_k", "whole number" },
        { JSON, NULL, WITH "\"timeout_ms\":0}", 400, "/timeout_ms", "from 1 to 30000" },
        { JSON, NULL, WITH "\"timeout_ms\":30001}", 400, "/timeout_ms", "from 1 to 30000" },
        { JSON, NULL, WITH "\"auto_orient\":\"yes\"}", 400, "/auto_orient", "true or false" },
        { JSON, NULL, WITH "\"model\":7}", 400, "/model", "GET /models" },
        { JSON, NULL, WITH "\"model\":\"a\\u0007\"}", 400, "/model", "control character" },
        { JSON, NULL, WITH "\"templates\":5}", 400, "/templates", "array of strings" },
        { JSON, NULL, WITH "\"colour\":5}", 400, "/colour", "no field \"colour\" here; the fields are image, labels" },
        { JSON, NULL, WITH "\"a~b/c\":5}", 400, "/a~0b~1c", "no field" },
        { JSON, NULL, WITH "\"top_k\":1,\"top_k\":1}", 400, "/top_k", "\"top_k\" is given twice" },
        { JSON, NULL, WITH "\"labels\":[\"x\"]}", 400, "/labels", "\"labels\" is given twice" },
        { JSON, NULL, WITH "\"image\":\"" PIXELS64 "\"}", 400, "/image", "\"image\" is given twice" },
        { JSON, NULL, WITH "\"im\\u0061ge\":\"" PIXELS64 "\"}", 400, "", "give each field once" },
        { JSON, "top_k=1", WITH "\"top_k\":1}", 400, "/top_k", "twice" },
        { JSON, NULL, "{\"labels\":\"cat,dog\",\"image\":\"" PIXELS64 "\"}", 400, "/labels", "an array of strings" },
        { JSON, NULL, "{\"labels\":[\"cat\",1],\"image\":\"" PIXELS64 "\"}", 400, "/labels/1", "must be a string" },
        { JSON, NULL, "{\"labels\":[\"cat\"],\"image\":5}", 400, "/image", "base64" },
        { JSON, NULL, "{\"labels\":[\"cat\"],\"image\":[\"" PIXELS64 "\"]}", 400, "/image", "base64" },
        { FORM, NULL, IMAGE FIELD("labels", "cat") FIELD("top_k", "zwei") END, 400, "/top_k", "whole number" },
        { FORM, NULL, IMAGE FIELD("labels", "cat") FIELD("top_k", "0") END, 400, "/top_k", "at least 1" },
        { FORM, NULL, IMAGE FIELD("labels", "cat") FIELD("top_k", "1") FIELD("top_k", "1") END, 400, "/top_k",
          "\"top_k\" is given twice" },
        { FORM, NULL, IMAGE FIELD("label", "cat") END, 400, "/label", "no field \"label\"" },
        { FORM, NULL, IMAGE FIELD("labels", "[\"cat\"") END, 400, "/labels", "ends too early" },
        { FORM, NULL, IMAGE FIELD("labels", "[1]") END, 400, "/labels/0", "must be a string" },
        { "image/png", "labels=cat&top_k=", "x", 400, "/top_k", "whole number" },
        { "image/png", "labels=cat&auto_orient=ja", "x", 400, "/auto_orient", "true or false" },
        { "image/png", "labels=cat&image=x", "x", 400, "/image", "cannot stand in the query" },
        { "image/png", "labels=cat&q", "x", 400, "/q", "no field" },
        { "image/png", "labels=%", "x", 400, "", "hexadecimal" },
        { "image/png", "labels=%4", "x", 400, "", "hexadecimal" },
        { "image/png", "labels=%4g", "x", 400, "", "hexadecimal" },
    };

    (void)state;
    assert_refusals(COMMA_API_CLASSIFY, cases, sizeof(cases) / sizeof(cases[0]));
}

static void a_wrong_value_of_embed_is_refused_with_its_field(void **state)
{
    static const struct refusal cases[] = {
        { JSON, NULL, "{\"texts\":[\"a\"],\"encoding\":\"hex\"}", 400, "/encoding", "\"float\" or \"base64\"" },
        { JSON, NULL, "{\"texts\":[\"a\"],\"encoding\":1}", 400, "/encoding", "\"float\" or \"base64\"" },
        { JSON, NULL, "{\"texts\":[\"a\"],\"normalize\":1}", 400, "/normalize", "true or false" },
        { JSON, NULL, "{\"texts\":[\"a\"],\"top_k\":1}", 400, "/top_k", "no field" },
        { JSON, NULL, "{\"texts\":[\"a\"],\"templates\":[\"a {}\"]}", 400, "/templates", "no field" },
        { "image/png", "encoding=", "x", 400, "/encoding", "\"float\" or \"base64\"" },
    };

    (void)state;
    assert_refusals(COMMA_API_EMBED, cases, sizeof(cases) / sizeof(cases[0]));
}

static void texts_are_utf8_without_control_characters(void **state)
{
    static const struct refusal cases[] = {
        { "image/png", "labels=cat,%FF", "x", 400, "/labels/1", "Item 1 of \"labels\" is not UTF-8" },
        { "image/png", "labels=%C0%80", "x", 400, "/labels/0", "not UTF-8" },
        { "image/png", "labels=%ED%A0%80", "x", 400, "/labels/0", "not UTF-8" },
        { "image/png", "labels=a%00b", "x", 400, "/labels/0", "control character" },
        { "image/png", "labels=a%1Bb", "x", 400, "/labels/0", "control character" },
        { "image/png", "labels=%EF%BF%BF", "x", 400, "/labels/0", "noncharacter" },
        { "image/png", "labels=%F4%8F%BF%BE", "x", 400, "/labels/0", "noncharacter" },
        { "image/png", "labels=%EF%B7%90", "x", 400, "/labels/0", "noncharacter" },
        { "image/png", "labels=a&model=%FE", "x", 400, "/model", "\"model\" is not UTF-8" },
        { "image/png", "labels=a&template=%FE{}", "x", 400, "/templates/0", "not UTF-8" },
        { FORM, NULL, IMAGE FIELD("labels", "ok\nb\xE9z") END, 400, "/labels/1", "not UTF-8" },
        { JSON, NULL, "{\"image\":\"" PIXELS64 "\",\"labels\":[\"a\xFF\"]}", 400, "", "not UTF-8" },
        { JSON, NULL, "{\"image\":\"" PIXELS64 "\",\"labels\":[\"a\\u0000\"]}", 400, "", "a NUL character" },
        { JSON, NULL, "{\"image\":\"" PIXELS64 "\",\"labels\":[\"a\\u0001\"]}", 400, "/labels/0", "control" },
        { JSON, NULL, "{\"image\":\"" PIXELS64 "\",\"labels\":[\"\\ud800\"]}", 400, "", "JSON is wrong near" },
    };
    struct parsed p = parse_classify("image/png", "labels=%5B%22a\\tb%22%5D", "x");

    (void)state;
    assert_accepted(&p); /* a tab is whitespace to the tokenizer */
    assert_texts(p.request.labels, p.request.n_labels, "a\tb");
    release(&p);
    assert_refusals(COMMA_API_CLASSIFY, cases, sizeof(cases) / sizeof(cases[0]));
}

static void a_template_holds_one_place_for_the_label(void **state)
{
    static const struct refusal cases[] = {
        { JSON, NULL, WITH "\"templates\":[\"a {}\",\"a photo\"]}", 422, "/templates/1", "must hold {} once" },
        { JSON, NULL, WITH "\"templates\":[\"{} {}\"]}", 422, "/templates/0", "must hold {} once" },
        { JSON, NULL, WITH "\"template\":\"{c}\"}", 422, "/templates/0", "must hold {} once" },
        { FORM, NULL, IMAGE FIELD("labels", "cat") FIELD("template", "") END, 422, "/templates/0", "{} once" },
    };
    struct parsed p = parse_classify("image/png", "labels=cat&template=a+{}", "PIXELS");
    struct comma_problem problem;

    (void)state;
    assert_refusals(COMMA_API_CLASSIFY, cases, sizeof(cases) / sizeof(cases[0]));
    assert_accepted(&p);
    assert_true(comma_api_request_fits(&p.request, false, &problem));
    assert_false(comma_api_request_fits(&p.request, true, &problem));
    assert_int_equal(comma_problem_status(problem.kind), 422);
    assert_string_equal(problem.pointer, "/templates");
    assert_non_null(strstr(problem.detail, "leave the templates out"));
    release(&p);
}

/* n labels "l0" .. as JSON, as lines. */
static char *many_labels(size_t n, bool json)
{
    char *body = malloc(n * 16 + 256), *p = body;

    assert_non_null(body);
    p += sprintf(p, "%s",
                 json ? "{\"image\":\"" PIXELS64 "\",\"labels\":["
                      : IMAGE "--B\r\nContent-Disposition: form-data; name=\"labels\"\r\n\r\n");
    for (size_t i = 0; i < n; i++)
        p += sprintf(p, json ? "%s\"l%zu\"" : "%sl%zu", i == 0 ? "" : json ? "," : "\n", i);
    sprintf(p, "%s", json ? "]}" : "\r\n" END);
    return body;
}

static void labels_are_counted(void **state)
{
    static const struct {
        size_t max, n;
    } cases[] = { { 10000, 1000 }, { 10000, 10000 }, { 10000, 10001 }, { 10000, 100000 }, { 100000, 100000 } };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const size_t n = cases[i / 2].n;
        struct comma_api_limits limits = comma_api_default_limits();
        char *body = many_labels(n, i % 2), last[16];
        struct parsed p;

        limits.max_labels = cases[i / 2].max;
        p = parse_bytes(COMMA_API_CLASSIFY, i % 2 ? JSON : FORM, NULL, body, strlen(body), &limits);
        if (n > limits.max_labels) {
            assert_refused(&p, 422, "/labels", "too many labels; at most 10000 are allowed");
        } else {
            assert_accepted(&p);
            assert_int_equal(p.request.n_labels, n);
            snprintf(last, sizeof(last), "l%zu", n - 1);
            assert_text(p.request.labels[n - 1], last);
        }
        release(&p);
        free(body);
    }
}

static void sizes_have_limits(void **state)
{
    struct comma_api_limits limits = comma_api_default_limits();
    struct parsed p;

    (void)state;
    limits.max_label_bytes = 4;
    limits.max_labels_bytes = 8;
    limits.max_templates = 2;
    limits.max_body_bytes = 200;
#define REFUSED(type, query, body, status, pointer, words)                                                             \
    do {                                                                                                               \
        p = parse_bytes(COMMA_API_CLASSIFY, type, query, body, strlen(body), &limits);                                 \
        assert_refused(&p, status, pointer, words);                                                                    \
        release(&p);                                                                                                   \
    } while (0)
    REFUSED("image/png", "labels=abcd,abcde", "x", 422, "/labels/1", "is 5 bytes long; at most 4 are allowed");
    REFUSED("image/png", "labels=abcd,abcd,a", "x", 422, "/labels/2", "longer than 8 bytes in all");
    REFUSED("image/png", "labels=a&template=abc{}", "x", 422, "/templates/0", "5 bytes long; at most 4");
    REFUSED("image/png", "labels=a&template={}&template={}&template={}", "x", 422, "/templates", "at most 2");
    REFUSED(JSON, NULL, "{\"labels\":[\"a\",\"aaaaa\"],\"image\":\"" PIXELS64 "\"}", 422, "/labels/1", "at most 4");
    REFUSED(JSON, NULL, "{\"labels\":[\"a\",\"aaaaaaaaaaaaaaaaaaaaaaaaa\"]}", 422, "/labels/1", "longer than 4 bytes");
    REFUSED(JSON, NULL, "{\"model\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", 413, "", "bytes in one string");
    REFUSED(JSON, NULL, "{\"templates\":[\"{}\",\"{}\",\"{}\"]}", 422, "/templates", "too many templates; at most 2");
#undef REFUSED
    limits = comma_api_default_limits();
    {
        char *query = malloc(300000);

        assert_non_null(query);
        memset(query, 'a', 299999);
        query[299999] = '\0';
        p = parse_bytes(COMMA_API_CLASSIFY, "image/png", query, "x", 1, &limits);
        assert_refused(&p, 414, "", "send the labels as multipart/form-data or JSON");
        release(&p);
        memcpy(query, "labels=a&model=", 15);
        query[15 + 257] = '\0';
        p = parse_bytes(COMMA_API_CLASSIFY, "image/png", query, "x", 1, &limits);
        assert_refused(&p, 400, "/model", "longer than 256 bytes");
        release(&p);
        free(query);
    }
    limits.max_label_bytes = 4;
    limits.max_labels_bytes = 8;
    limits.max_templates = 2;
    p = parse_bytes(COMMA_API_CLASSIFY, "image/png", "labels=abcd,abcd&template={}&template={}", "x", 1, &limits);
    assert_accepted(&p);
    release(&p);
    limits.max_body_bytes = 5;
    p = parse_bytes(COMMA_API_CLASSIFY, "image/png", "labels=a", "PIXELS", 6, &limits);
    assert_refused(&p, 413, "", "The body is 6 bytes long; at most 5 are allowed");
    release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_form_a_json_object_and_a_raw_body_say_the_same),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(labels_are_a_json_array_or_lines_or_between_commas),
        cmocka_unit_test(repeated_labels_fields_are_one_list),
        cmocka_unit_test(templates_are_one_each_or_a_list),
        cmocka_unit_test(a_picture_in_json_is_base64_or_a_data_uri),
        cmocka_unit_test(embed_takes_an_image_or_texts),
        cmocka_unit_test(a_body_of_another_type_is_refused_with_those_that_are_read),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(a_wrong_value_is_refused_with_its_field),
        cmocka_unit_test(a_wrong_value_of_embed_is_refused_with_its_field),
        cmocka_unit_test(texts_are_utf8_without_control_characters),
        cmocka_unit_test(a_template_holds_one_place_for_the_label),
        cmocka_unit_test(labels_are_counted),
        cmocka_unit_test(sizes_have_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
