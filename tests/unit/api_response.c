/* SPDX-License-Identifier: MIT */
/* api_response.c - answers as the contract shows them, problem documents, and the JSON pieces that both are made of.
 * What is written is read back by jansson and strtof(), which know nothing of how it was written. */
#include <math.h>

#include <jansson.h>

#include "api/base64.h"
#include "api/response.h"
#include "engine/base/half.h"
#include "tests/unit/api_support.h"

static void assert_written(struct comma_buffer *b, const char *expected)
{
    struct comma_error err;

    if (!comma_buffer_ok(b, &err))
        fail_msg("%s", err.message);
    assert_text((struct comma_text){ b->data, b->size }, expected);
    comma_buffer_finish(b);
}

static const struct comma_text three[] = { { "red apple", 9 }, { "dog", 3 }, { "\xE7\x8C\xAB \"x\"", 7 } };

static struct comma_job classified(float *scores, float *similarities)
{
    return (struct comma_job){ .kind = COMMA_JOB_CLASSIFY,
                               .texts = three,
                               .n_texts = 3,
                               .scores = scores,
                               .similarities = similarities,
                               .n_cached = 2,
                               .timing = { 0.1, 1.2, 9.8, 2, 13.3004 } };
}

static void a_classify_answer_is_as_the_contract_shows(void **state)
{
    float scores[] = { 0.25f, 0.5f, 0.25f }, similarities[] = { 0.41f, -0.0625f, 1e-9f };
    const struct comma_job job = classified(scores, similarities);
    struct comma_buffer b;
    struct comma_error err;

    (void)state;
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_classify(&b, &job, "emoji", SIZE_MAX, NULL, &err));
    assert_written(&b, "{\"model\":\"emoji\",\"results\":["
                       "{\"label\":\"dog\",\"score\":0.5,\"similarity\":-0.0625},"
                       "{\"label\":\"red apple\",\"score\":0.25,\"similarity\":0.41},"
                       "{\"label\":\"\xE7\x8C\xAB \\\"x\\\"\",\"score\":0.25,\"similarity\":1e-9}],"
                       "\"labels\":{\"count\":3,\"cached\":2},"
                       "\"timing_ms\":{\"queue\":0.1,\"decode\":1.2,\"image\":9.8,\"text\":2,\"total\":13.3}}");
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_classify(&b, &job, "emoji", 1, "a\nb\xFF.png", &err));
    assert_written(&b, "{\"image\":\"a\\nb\xEF\xBF\xBD.png\",\"model\":\"emoji\",\"results\":["
                       "{\"label\":\"dog\",\"score\":0.5,\"similarity\":-0.0625}],"
                       "\"labels\":{\"count\":3,\"cached\":2},"
                       "\"timing_ms\":{\"queue\":0.1,\"decode\":1.2,\"image\":9.8,\"text\":2,\"total\":13.3}}");
}

static void a_number_that_is_not_finite_never_becomes_json(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    struct comma_buffer b;
    struct comma_error err;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        float scores[] = { 0.25f, 0.5f, 0.25f }, similarities[] = { 0, bad[i], 0 };
        struct comma_job job = classified(scores, similarities);
        const struct comma_job embed = { .kind = COMMA_JOB_EMBED_IMAGE, .image_feature = similarities };

        comma_buffer_init(&b, 4096);
        assert_false(comma_api_write_classify(&b, &job, "m", 3, NULL, &err));
        assert_int_equal(err.code, COMMA_E_INTERNAL);
        comma_buffer_finish(&b);
        for (int base64 = 0; base64 < 2; base64++) {
            comma_buffer_init(&b, 4096);
            assert_false(comma_api_write_embed(&b, &embed, "m", 3, base64 ? COMMA_ENCODING_BASE64 : 0, &err));
            assert_int_equal(err.code, COMMA_E_INTERNAL);
            comma_buffer_finish(&b);
        }
        similarities[1] = 0;
        job.timing.queue = bad[i];
        comma_buffer_init(&b, 4096);
        assert_false(comma_api_write_classify(&b, &job, "m", 3, NULL, &err));
        comma_buffer_finish(&b);
    }
}

static void features_are_numbers_or_base64(void **state)
{
    float features[] = { 1, -0.5f, 0, 0.1f };
    struct comma_job job = { .kind = COMMA_JOB_EMBED_TEXTS, .text_features = features, .texts = three, .n_texts = 2 };
    struct comma_buffer b;
    struct comma_error err;

#define TIMING "\"timing_ms\":{\"queue\":0,\"decode\":0,\"image\":0,\"text\":0,\"total\":0}}"
    (void)state;
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_embed(&b, &job, "m", 2, COMMA_ENCODING_FLOAT, &err));
    assert_written(&b, "{\"model\":\"m\",\"dim\":2,\"encoding\":\"float\",\"features\":[[1,-0.5],[0,0.1]]," TIMING);
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_embed(&b, &job, "m", 2, COMMA_ENCODING_BASE64, &err));
    /* python3: base64.b64encode(struct.pack("<2f", 1, -.5)), and of (0, .1) */
    assert_written(&b, "{\"model\":\"m\",\"dim\":2,\"encoding\":\"base64\","
                       "\"features\":[\"AACAPwAAAL8=\",\"AAAAAM3MzD0=\"]," TIMING);
    job = (struct comma_job){ .kind = COMMA_JOB_EMBED_IMAGE, .image_feature = features };
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_embed(&b, &job, "m", 4, COMMA_ENCODING_FLOAT, &err));
    assert_written(&b, "{\"model\":\"m\",\"dim\":4,\"encoding\":\"float\",\"features\":[[1,-0.5,0,0.1]]," TIMING);
}

static void lines_of_the_command_line(void **state)
{
    static const float feature[] = { 0.25f, -1 };
    static const int32_t ids[] = { 49406, 2368, 49407 };
    struct comma_buffer b;
    struct comma_error err;

    (void)state;
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_embed_line(&b, comma_text_of("a.png"), feature, 2, &err));
    assert_written(&b, "{\"input\":\"a.png\",\"features\":[0.25,-1]}");
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_tokenize_line(&b, comma_text_of("cat"), ids, 3, &err));
    assert_written(&b, "{\"text\":\"cat\",\"ids\":[49406,2368,49407]}");
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_status(&b, "ok", &err));
    assert_written(&b, "{\"status\":\"ok\"}");
}

static void models_are_listed_with_their_shapes(void **state)
{
    const struct comma_engine_info info = { .name = "vit",
                                            .image_size = 224,
                                            .patch_size = 16,
                                            .vision_width = 768,
                                            .vision_layers = 12,
                                            .vision_heads = 12,
                                            .text_width = 512,
                                            .text_layers = 11,
                                            .text_heads = 8,
                                            .context_length = 77,
                                            .vocab_size = 49408,
                                            .embed_dim = 512,
                                            .activation = "quick_gelu",
                                            .logit_scale = 4.5f,
                                            .n_parameters = 149620737,
                                            .dtype = "F16",
                                            .has_tokenizer = true,
                                            .backend = "openblas",
                                            .precision = "f32" };
    const struct comma_adapter_info adapters[] = { { "pets", "comma", "a photo of a", 2, 9, 1, 300000 },
                                                   { "food", "maple", "", 4, 3, 1, 1 } };
    struct comma_buffer b;
    struct comma_error err;

    (void)state;
    comma_buffer_init(&b, 4096);
    assert_true(comma_api_write_models(&b, &info, adapters, 2, "pets", &err));
    assert_written(&b, "{\"default\":\"pets\",\"models\":[\"vit\",\"pets\",\"food\"],"
                       "\"backbone\":{\"name\":\"vit\",\"embed_dim\":512,\"logit_scale\":4.5,"
                       "\"activation\":\"quick_gelu\",\"vision\":{\"image_size\":224,\"patch_size\":16,\"width\":768,"
                       "\"layers\":12,\"heads\":12},\"text\":{\"context_length\":77,\"vocab_size\":49408,\"width\":512,"
                       "\"layers\":11,\"heads\":8,\"tokenizer\":true},\"parameters\":149620737,"
                       "\"stored_dtype\":\"F16\",\"precision\":\"f32\",\"backend\":\"openblas\"},"
                       "\"adapters\":[{\"name\":\"pets\",\"method\":\"comma\",\"n_ctx\":2,\"prompt_depth\":9,"
                       "\"ctx_init\":\"a photo of a\",\"last_layer\":1,\"bytes\":300000},"
                       "{\"name\":\"food\",\"method\":\"maple\",\"n_ctx\":4,\"prompt_depth\":3,\"ctx_init\":\"\","
                       "\"last_layer\":1,\"bytes\":1}]}");
}

/* ---- the pieces ---- */

static void assert_float_round_trips(float value)
{
    char s[64];
    struct comma_buffer b;

    comma_buffer_init_fixed(&b, s, sizeof(s) - 1);
    comma_json_float(&b, value);
    assert_int_equal(b.why, COMMA_OK);
    s[b.size] = '\0';
    if (comma_bits_of_float(strtof(s, NULL)) != comma_bits_of_float(value) || b.size > 16)
        fail_msg("%a is written as %s", (double)value, s);
}

static void every_float_is_read_back_as_itself(void **state)
{
    uint32_t bits = 1;

    (void)state;
    for (int exponent = -149; exponent < 128; exponent++)
        for (int step = -2; step <= 2; step++) {
            const float v = comma_float_of_bits(comma_bits_of_float(ldexpf(1, exponent)) + (uint32_t)step);

            if (isfinite(v))
                assert_float_round_trips(v);
        }
    for (int exponent = -45; exponent <= 38; exponent++) {
        char s[16];

        snprintf(s, sizeof(s), "9.999999e%d", exponent);
        if (isfinite(strtof(s, NULL)))
            assert_float_round_trips(strtof(s, NULL));
    }
    for (int i = 0; i < 300000; i++) {
        bits = bits * 1664525 + 1013904223; /* Numerical Recipes' generator: any will do */
        if (isfinite(comma_float_of_bits(bits)))
            assert_float_round_trips(comma_float_of_bits(bits));
    }
}

static void numbers_are_short_and_valid_json(void **state)
{
    static const struct {
        float value;
        const char *text;
    } cases[] = { { 0, "0" },
                  { 1, "1" },
                  { -1, "-1" },
                  { 0.94f, "0.94" },
                  { 100, "100" },
                  { 1e9f, "1e9" },
                  { 123456.0f, "123456" },
                  { 0.001f, "0.001" },
                  { 0.00001f, "0.00001" },
                  { 1.5e-7f, "1.5e-7" },
                  { 16777217.0f, "16777216" },
                  { 3.4028235e38f, "3.4028235e38" },
                  { 1e-45f, "1.4012985e-45" } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct comma_buffer b;

        comma_buffer_init(&b, 64);
        comma_json_float(&b, cases[i].value);
        assert_written(&b, cases[i].text);
    }
}

static void text_is_escaped_and_bad_bytes_are_replaced(void **state)
{
    static const struct {
        const char *text, *json;
    } cases[] = {
        { "", "\"\"" },
        { "a\"b\\c/d", "\"a\\\"b\\\\c/d\"" },
        { "\b\t\n\f\r\x01\x1F\x7F", "\"\\b\\t\\n\\f\\r\\u0001\\u001f\\u007f\"" },
        { "\xD9\x82 \xF0\x9F\x98\x80", "\"\xD9\x82 \xF0\x9F\x98\x80\"" },
        { "a\xFFz\xE7\x8C", "\"a\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct comma_buffer b;

        comma_buffer_init(&b, 256);
        comma_json_string(&b, cases[i].text);
        assert_written(&b, cases[i].json);
    }
}

static void a_buffer_stops_at_its_maximum(void **state)
{
    struct comma_buffer b;
    struct comma_error err;
    size_t size;
    char *data;

    (void)state;
    comma_buffer_init(&b, 1000);
    for (int i = 0; i < 100; i++)
        comma_buffer_puts(&b, "0123456789");
    assert_true(comma_buffer_ok(&b, &err));
    comma_buffer_puts(&b, "x");
    assert_false(comma_buffer_ok(&b, &err));
    assert_int_equal(err.code, COMMA_E_LIMIT);
    assert_non_null(strstr(err.message, "longer than 1000 bytes"));
    comma_buffer_finish(&b);
    comma_buffer_init(&b, 10);
    comma_buffer_puts(&b, "abc");
    data = comma_buffer_steal(&b, &size);
    assert_int_equal(size, 3);
    assert_memory_equal(data, "abc", 3);
    free(data);
    comma_buffer_finish(&b);
}

static void base64_is_that_of_the_rfc(void **state)
{
    /* RFC 4648 section 10 */
    static const struct {
        const char *bytes, *text;
    } cases[] = { { "", "" },
                  { "f", "Zg==" },
                  { "fo", "Zm8=" },
                  { "foo", "Zm9v" },
                  { "foob", "Zm9vYg==" },
                  { "fooba", "Zm9vYmE=" },
                  { "foobar", "Zm9vYmFy" } };
    static const struct {
        const char *text;
        size_t bad;
    } refused[] = { { "Z", 1 },          { "Zm9vY", 5 },     { "Zm9v\nYg==", 4 }, { "Zm9 v", 3 },  { "Zm8_", 3 },
                    { "Zg=", 3 },        { "Zg==Zg==", 4 },  { "Zg===", 4 },      { "=", 0 },      { "Z===", 1 },
                    { "Zm9v=", 4 },      { "Zh==", 4 },      { "Zm9=", 4 },       { "Zm9\\n", 3 }, { "Zm9\\u00", 3 },
                    { "Zm9\\u006G", 3 }, { "Zm9\\u2260", 3 } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char data[16];
        size_t n, bad;
        struct comma_buffer b;
        char quoted[20];

        memcpy(data, cases[i].text, strlen(cases[i].text));
        assert_true(comma_base64_decode(data, strlen(cases[i].text), false, &n, &bad));
        assert_text((struct comma_text){ (char *)data, n }, cases[i].bytes);
        comma_buffer_init(&b, 64);
        comma_json_base64(&b, (struct comma_bytes){ (const unsigned char *)cases[i].bytes, strlen(cases[i].bytes) });
        snprintf(quoted, sizeof(quoted), "\"%s\"", cases[i].text);
        assert_written(&b, quoted);
    }
    {
        unsigned char data[] = "\\/\\/\\u002B\\u002b8=";
        size_t n, bad;

        assert_false(comma_base64_decode(data, sizeof(data) - 1, true, &n, &bad)); /* five letters and a pad */
        memcpy(data, "\\/\\/\\u002B\\u002b", 16);
        assert_true(comma_base64_decode(data, 16, true, &n, &bad));
        assert_int_equal(n, 3);
        assert_memory_equal(data, "\xFF\xFF\xBE", 3); /* "//++" */
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        unsigned char data[16];
        size_t n, bad = 99;

        memcpy(data, refused[i].text, strlen(refused[i].text));
        if (comma_base64_decode(data, strlen(refused[i].text), true, &n, &bad) || bad != refused[i].bad)
            fail_msg("%s: offset %zu", refused[i].text, bad);
    }
}

/* ---- problems ---- */

static void a_problem_is_a_document_of_rfc_9457(void **state)
{
    struct comma_problem p;
    char out[COMMA_PROBLEM_BYTES];
    size_t n;

    (void)state;
    assert_false(comma_problem_set_at(&p, COMMA_PROBLEM_TEXT_TOO_LONG, "labels", 3, "Item %d is \"too\" long.", 3));
    n = comma_problem_write(&p, NULL, out);
    assert_text((struct comma_text){ out, n },
                "{\"type\":\"urn:comma:problem:text-too-long\",\"title\":\"A text is too long\",\"status\":422,"
                "\"detail\":\"Item 3 is \\\"too\\\" long.\",\"pointer\":\"/labels/3\"}");
    comma_problem_set(&p, COMMA_PROBLEM_OVERLOADED, NULL, "Full.");
    n = comma_problem_write(&p, "id-1", out);
    assert_text((struct comma_text){ out, n },
                "{\"type\":\"urn:comma:problem:overloaded\",\"title\":\"The server has no room now\",\"status\":503,"
                "\"detail\":\"Full.\",\"request_id\":\"id-1\"}");
    assert_true(comma_problem_retry(p.kind));
}

static void the_longest_problem_still_is_json(void **state)
{
    struct comma_problem p;
    char out[COMMA_PROBLEM_BYTES], long_text[2000], id[129];
    json_t *root;

    (void)state;
    memset(long_text, 1, sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    memset(id, '"', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    comma_problem_set(&p, COMMA_PROBLEM_UNPROCESSABLE, long_text, "%s", long_text);
    root = json_loadb(out, comma_problem_write(&p, id, out), 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_string_length(json_object_get(root, "detail")), 479);
    json_decref(root);
}

static void every_kind_has_its_row(void **state)
{
    (void)state;
    for (enum comma_problem_kind k = 0; k < COMMA_N_PROBLEM_KINDS; k++) {
        assert_in_range(comma_problem_status(k), 400, 504);
        assert_non_null(comma_problem_title(k));
        for (enum comma_problem_kind other = 0; other < k; other++)
            assert_string_not_equal(comma_problem_slug(k), comma_problem_slug(other));
    }
    assert_int_equal(comma_exit_status(COMMA_OK), 0);
    for (enum comma_code c = COMMA_OK + 1; c < COMMA_N_CODES; c++)
        assert_int_equal(comma_exit_status(c), 1);
}

static void the_engines_errors_become_problems(void **state)
{
    static const struct {
        enum comma_code code;
        enum comma_job_kind kind;
        size_t text;
        unsigned status;
        const char *pointer;
        bool fixed;
    } cases[] = {
        { COMMA_E_INPUT, COMMA_JOB_CLASSIFY, 1, 422, "/labels/1", false },
        { COMMA_E_INPUT, COMMA_JOB_EMBED_TEXTS, 2, 422, "/texts/2", false },
        { COMMA_E_INPUT, COMMA_JOB_CLASSIFY, SIZE_MAX, 422, "/image", false },
        { COMMA_E_LIMIT, COMMA_JOB_EMBED_IMAGE, SIZE_MAX, 413, "/image", false },
        { COMMA_E_FORMAT, COMMA_JOB_CLASSIFY, SIZE_MAX, 415, "/image", false },
        { COMMA_E_UNSUPPORTED, COMMA_JOB_EMBED_TEXTS, SIZE_MAX, 422, "", false },
        { COMMA_E_MODEL, COMMA_JOB_CLASSIFY, SIZE_MAX, 500, "", true },
        { COMMA_E_IO, COMMA_JOB_CLASSIFY, SIZE_MAX, 500, "", true },
        { COMMA_E_INTERNAL, COMMA_JOB_CLASSIFY, SIZE_MAX, 500, "", true },
        { COMMA_E_BUSY, COMMA_JOB_CLASSIFY, SIZE_MAX, 503, "", true },
        { COMMA_E_NOMEM, COMMA_JOB_CLASSIFY, SIZE_MAX, 503, "", true },
        { COMMA_E_CANCELLED, COMMA_JOB_CLASSIFY, SIZE_MAX, 504, "", true },
        { (enum comma_code)77, COMMA_JOB_CLASSIFY, SIZE_MAX, 500, "", true },
    };
    struct comma_problem p;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct comma_job job = { .kind = cases[i].kind,
                                       .n_texts = cases[i].kind == COMMA_JOB_EMBED_IMAGE ? 0 : 3,
                                       .error = { cases[i].code, "/srv/secret: words" },
                                       .error_text = cases[i].text };

        comma_problem_from_job(&p, &job);
        assert_int_equal(comma_problem_status(p.kind), cases[i].status);
        assert_string_equal(p.pointer, cases[i].pointer);
        assert_int_equal(strstr(p.detail, "secret") == NULL, cases[i].fixed);
    }
    comma_problem_unknown_model(&p, "dogs");
    assert_int_equal(comma_problem_status(p.kind), 404);
    assert_string_equal(p.pointer, "/model");
    assert_string_equal(p.detail, "No model is called \"dogs\" here; GET /models lists those that are.");
}

static void a_hundred_thousand_results_are_an_answer(void **state)
{
    const size_t n = 100000;
    struct comma_text *labels = calloc(n, sizeof(*labels));
    float *scores = calloc(n, sizeof(*scores));
    struct comma_job job = { .kind = COMMA_JOB_CLASSIFY, .texts = labels, .n_texts = n, .scores = scores };
    struct comma_buffer b;
    struct comma_error err;
    json_t *root;

    (void)state;
    job.similarities = scores;
    for (size_t i = 0; i < n; i++) {
        labels[i] = comma_text_of("label");
        scores[i] = 1 / (float)(i + 3);
    }
    comma_buffer_init(&b, 64 << 20);
    assert_true(comma_api_write_classify(&b, &job, "m", SIZE_MAX, NULL, &err));
    root = json_loadb(b.data, b.size, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_array_size(json_object_get(root, "results")), n);
    json_decref(root);
    comma_buffer_finish(&b);
    free(labels);
    free(scores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_classify_answer_is_as_the_contract_shows),
        cmocka_unit_test(a_number_that_is_not_finite_never_becomes_json),
        cmocka_unit_test(features_are_numbers_or_base64),
        cmocka_unit_test(lines_of_the_command_line),
        cmocka_unit_test(models_are_listed_with_their_shapes),
        cmocka_unit_test(every_float_is_read_back_as_itself),
        cmocka_unit_test(numbers_are_short_and_valid_json),
        cmocka_unit_test(text_is_escaped_and_bad_bytes_are_replaced),
        cmocka_unit_test(a_buffer_stops_at_its_maximum),
        cmocka_unit_test(base64_is_that_of_the_rfc),
        cmocka_unit_test(a_problem_is_a_document_of_rfc_9457),
        cmocka_unit_test(the_longest_problem_still_is_json),
        cmocka_unit_test(every_kind_has_its_row),
        cmocka_unit_test(the_engines_errors_become_problems),
        cmocka_unit_test(a_hundred_thousand_results_are_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
