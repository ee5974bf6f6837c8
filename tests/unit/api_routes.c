/* SPDX-License-Identifier: MIT */
/* api_routes.c - which path and method is answered by what. */
#include "api/routes.h"
#include "tests/unit/api_support.h"

enum { MAIN = COMMA_LISTENER_MAIN, ADMIN = COMMA_LISTENER_ADMIN };

static void a_path_and_a_method_name_a_route(void **state)
{
    static const struct {
        const char *method, *target;
        unsigned listeners;
        enum comma_route_verdict verdict;
        enum comma_route route;
        const char *allow;
    } cases[] = {
        { "POST", "/classify", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_CLASSIFY, "POST, OPTIONS" },
        { "POST", "/classify?labels=a", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_CLASSIFY, "POST, OPTIONS" },
        { "GET", "/classify", MAIN, COMMA_ROUTE_WRONG_METHOD, COMMA_ROUTE_CLASSIFY, "POST, OPTIONS" },
        { "HEAD", "/classify", MAIN, COMMA_ROUTE_WRONG_METHOD, COMMA_ROUTE_CLASSIFY, "POST, OPTIONS" },
        { "TRACE", "/classify", MAIN, COMMA_ROUTE_WRONG_METHOD, COMMA_ROUTE_CLASSIFY, "POST, OPTIONS" },
        { "post", "/classify", MAIN, COMMA_ROUTE_WRONG_METHOD, COMMA_ROUTE_CLASSIFY, "POST, OPTIONS" },
        { "OPTIONS", "/classify", MAIN, COMMA_ROUTE_OPTIONS, COMMA_ROUTE_CLASSIFY, "POST, OPTIONS" },
        { "POST", "/embed", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_EMBED, "POST, OPTIONS" },
        { "GET", "/models", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_MODELS, "GET, HEAD, OPTIONS" },
        { "HEAD", "/models", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_MODELS, "GET, HEAD, OPTIONS" },
        { "DELETE", "/models", MAIN, COMMA_ROUTE_WRONG_METHOD, COMMA_ROUTE_MODELS, "GET, HEAD, OPTIONS" },
        { "GET", "/healthz", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_HEALTHZ, "GET, HEAD, OPTIONS" },
        { "GET", "/healthz", ADMIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_HEALTHZ, "GET, HEAD, OPTIONS" },
        { "GET", "/readyz", ADMIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_READYZ, "GET, HEAD, OPTIONS" },
        { "GET", "/metrics", ADMIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_METRICS, "GET, HEAD, OPTIONS" },
        { "GET", "/openapi.yaml", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_OPENAPI, "GET, HEAD, OPTIONS" },
        { "GET", "/", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_PLAYGROUND, "GET, HEAD, OPTIONS" },
        { "GET", "/playground.js", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_PLAYGROUND_JS, "GET, HEAD, OPTIONS" },
        { "POST", "/admin/reload", ADMIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_ADMIN_RELOAD, "POST, OPTIONS" },
        { "POST", "/admin/reload", MAIN | ADMIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_ADMIN_RELOAD, "POST, OPTIONS" },
        { "POST", "/admin/reload", MAIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "POST", "/classify", ADMIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "OPTIONS", "*", MAIN, COMMA_ROUTE_OPTIONS, COMMA_ROUTE_SERVER, "GET, HEAD, POST, OPTIONS" },
        { "GET", "*", MAIN, COMMA_ROUTE_WRONG_METHOD, COMMA_ROUTE_SERVER, "GET, HEAD, POST, OPTIONS" },
        { "GET", "/classify/", MAIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "GET", "//healthz", MAIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "GET", "/./healthz", MAIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "GET", "/%68ealthz", MAIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "GET", "/Healthz", MAIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "GET", "healthz", MAIN, COMMA_ROUTE_NOT_FOUND, 0, NULL },
        { "GET", "HTTP://a:80/healthz?x", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_HEALTHZ, "GET, HEAD, OPTIONS" },
        { "GET", "http://a", MAIN, COMMA_ROUTE_FOUND, COMMA_ROUTE_PLAYGROUND, "GET, HEAD, OPTIONS" },
        { "GET", "", MAIN, COMMA_ROUTE_BAD_TARGET, 0, NULL },
        { "GET", "/healthz%00", MAIN, COMMA_ROUTE_BAD_TARGET, 0, NULL },
        { "GET", "/models?a=%00", MAIN, COMMA_ROUTE_BAD_TARGET, 0, NULL },
        { "GET", "/health z", MAIN, COMMA_ROUTE_BAD_TARGET, 0, NULL },
        { "GET", "/healthz\x7F", MAIN, COMMA_ROUTE_BAD_TARGET, 0, NULL },
        { "GET", "/caf\xC3\xA9", MAIN, COMMA_ROUTE_BAD_TARGET, 0, NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct comma_route_match m =
            comma_route_find(cases[i].method, comma_text_of(cases[i].target), cases[i].listeners);

        if (m.verdict != cases[i].verdict)
            fail_msg("%s %s: verdict %d", cases[i].method, cases[i].target, m.verdict);
        if (cases[i].allow) {
            assert_int_equal(m.route, cases[i].route);
            assert_string_equal(m.allow, cases[i].allow);
        }
    }
}

static void the_query_is_what_follows_the_question_mark(void **state)
{
    struct comma_route_match m = comma_route_find("POST", comma_text_of("/classify?a=b?c"), MAIN);

    (void)state;
    assert_text(m.path, "/classify");
    assert_text(m.query, "a=b?c");
    m = comma_route_find("POST", comma_text_of("/classify"), MAIN);
    assert_text(m.query, "");
}

static void names_for_metrics_are_never_the_clients(void **state)
{
    (void)state;
    assert_string_equal(comma_route_path(COMMA_ROUTE_CLASSIFY), "/classify");
    assert_string_equal(comma_route_path(COMMA_N_ROUTES), "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_and_a_method_name_a_route),
        cmocka_unit_test(the_query_is_what_follows_the_question_mark),
        cmocka_unit_test(names_for_metrics_are_never_the_clients),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
