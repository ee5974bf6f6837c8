/* SPDX-License-Identifier: MIT */
/* options.c - how command lines and the environment become settings; reads as the manual of server/options.h. */
#include "server/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct settings {
    unsigned port;
    size_t bytes;
    double seconds;
    bool quiet;
    const char *host, *mode;
    struct comma_strings adapters, images;
};

static const struct comma_option specs[] = {
    { "port", 'p', "TEST_COMMA_PORT", COMMA_UINT_FIELD(struct settings, port), "8080", 0, 65535, "N", "TCP port" },
    { "bytes", 0, NULL, COMMA_SIZE_FIELD(struct settings, bytes), "16", 1, 1e12, "N", "size" },
    { "seconds", 0, NULL, COMMA_NUMBER_FIELD(struct settings, seconds), "0.5", 0.1, 60, "S", "time" },
    { "quiet", 'q', "TEST_COMMA_QUIET", COMMA_FLAG_FIELD(struct settings, quiet), NULL, 0, 0, NULL, "less" },
    { "host", 0, NULL, COMMA_STRING_FIELD(struct settings, host), "127.0.0.1", 0, 0, "ADDRESS", "address" },
    { "mode", 0, NULL, COMMA_CHOICE_FIELD(struct settings, mode), "auto", 0, 0, "auto|on|off", "mode" },
    { "adapter", 0, "TEST_COMMA_ADAPTER", COMMA_STRINGS_FIELD(struct settings, adapters), NULL, 0, 0, "NAME=DIR",
      "adapter" },
    { "image", 0, NULL, COMMA_REST_FIELD(struct settings, images), NULL, 0, 0, "FILE", "images" },
};

static const struct comma_option_table table = { "test", "[option]...", "Tests.", specs, sizeof(specs) / sizeof(*specs),
                                                 NULL };

/* Parses a NULL-terminated list of arguments. */
static bool parse(const char *const *arguments, struct settings *s, struct comma_strings *rest, struct comma_error *err)
{
    const char *argv[16] = { "test" };
    int argc = 1;
    bool help;

    for (; *arguments; arguments++)
        argv[argc++] = *arguments;
    return comma_options_parse(&table, argc, (char *const *)argv, s, sizeof(*s), rest, &help, err);
}

static void clean_environment(void)
{
    unsetenv("TEST_COMMA_PORT");
    unsetenv("TEST_COMMA_QUIET");
    unsetenv("TEST_COMMA_ADAPTER");
}

static void what_is_not_given_has_its_default(void **state)
{
    struct settings s;
    struct comma_error err = { 0 };
    const char *none[] = { NULL };

    (void)state;
    clean_environment();
    assert_true(parse(none, &s, NULL, &err));
    assert_int_equal(s.port, 8080);
    assert_int_equal(s.bytes, 16);
    assert_true(s.seconds == 0.5);
    assert_false(s.quiet);
    assert_string_equal(s.host, "127.0.0.1");
    assert_string_equal(s.mode, "auto");
    assert_int_equal(s.adapters.n, 0);
    comma_options_finish(&table, &s);
}

static void every_way_to_write_an_option_is_understood(void **state)
{
    struct settings s;
    struct comma_strings rest;
    struct comma_error err = { 0 };
    const char *many[] = { "--port=1", "-q",    "--adapter", "a=x", "--adapter=b=y", "first",
                           "--image",  "1.png", "2.png",     "--",  "--port",        NULL };

    (void)state;
    clean_environment();
    assert_true(parse(many, &s, &rest, &err));
    assert_int_equal(s.port, 1);
    assert_true(s.quiet);
    assert_int_equal(s.adapters.n, 2);
    assert_string_equal(s.adapters.items[0], "a=x");
    assert_string_equal(s.adapters.items[1], "b=y");
    assert_int_equal(s.images.n, 2);
    assert_string_equal(s.images.items[1], "2.png");
    assert_int_equal(rest.n, 2);
    assert_string_equal(rest.items[0], "first");
    assert_string_equal(rest.items[1], "--port");
    comma_options_finish(&table, &s);
    comma_strings_finish(&rest);
}

static void the_environment_counts_less_than_the_command_line(void **state)
{
    struct settings s;
    struct comma_error err = { 0 };
    const char *none[] = { NULL }, *given[] = { "-p", "7", "--quiet=off", NULL };

    (void)state;
    setenv("TEST_COMMA_PORT", "9", 1);
    setenv("TEST_COMMA_QUIET", "yes", 1);
    setenv("TEST_COMMA_ADAPTER", "a=x, b=y,", 1);
    assert_true(parse(none, &s, NULL, &err));
    assert_int_equal(s.port, 9);
    assert_true(s.quiet);
    assert_int_equal(s.adapters.n, 2);
    assert_string_equal(s.adapters.items[1], "b=y");
    comma_options_finish(&table, &s);
    assert_true(parse(given, &s, NULL, &err));
    assert_int_equal(s.port, 7);
    assert_false(s.quiet);
    comma_options_finish(&table, &s);
    clean_environment();
}

static void a_bad_value_is_refused_with_what_is_allowed(void **state)
{
    static const struct {
        const char *argument;
        const char *says;
    } bad[] = {
        { "--port=65536", "--port: 65536 is out of range; allowed is 0 to 65535" },
        { "--port=-1", "--port: -1 is out of range" },
        { "--port=x", "--port: \"x\" is not a number" },
        { "--port=0x10", "is not a number" },
        { "--port=nan", "is not a number" },
        { "--port= 5", "is not a number" },
        { "--port=1e99999", "is not a number" },
        { "--port=1.5", "is not a whole number" },
        { "--seconds=0", "out of range; allowed is 0.1 to 60" },
        { "--mode=of", "--mode: \"of\" is not one of auto|on|off" },
        { "--mode=", "is not one of" },
        { "--quiet=maybe", "neither on nor off" },
        { "--prot=1", "unknown option --prot=1; comma test --help lists them" },
        { "-x", "unknown option -x" },
        { "--adapter", "--adapter wants a value: --adapter NAME=DIR" },
        { "word", "takes options only, not \"word\"" },
    };

    (void)state;
    clean_environment();
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct settings s;
        struct comma_error err = { 0 };
        const char *arguments[] = { bad[i].argument, NULL };

        assert_false(parse(arguments, &s, NULL, &err));
        assert_int_equal(err.code, COMMA_E_INPUT);
        if (!strstr(err.message, bad[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].argument, err.message, bad[i].says);
        comma_options_finish(&table, &s);
    }
}

static void a_bad_variable_is_refused_by_its_name(void **state)
{
    struct settings s;
    struct comma_error err = { 0 };
    const char *none[] = { NULL };

    (void)state;
    setenv("TEST_COMMA_PORT", "http", 1);
    assert_false(parse(none, &s, NULL, &err));
    assert_non_null(strstr(err.message, "TEST_COMMA_PORT: \"http\" is not a number"));
    comma_options_finish(&table, &s);
    clean_environment();
}

static void help_names_each_option_its_default_and_its_variable(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    assert_non_null(out);
    comma_options_print_help(&table, out);
    fclose(out);
    assert_non_null(strstr(text, "usage: comma test [option]..."));
    assert_non_null(strstr(text, "--port N, -p"));
    assert_non_null(strstr(text, "TCP port (default 8080) [TEST_COMMA_PORT]"));
    assert_non_null(strstr(text, "--adapter NAME=DIR..."));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_given_has_its_default),
        cmocka_unit_test(every_way_to_write_an_option_is_understood),
        cmocka_unit_test(the_environment_counts_less_than_the_command_line),
        cmocka_unit_test(a_bad_value_is_refused_with_what_is_allowed),
        cmocka_unit_test(a_bad_variable_is_refused_by_its_name),
        cmocka_unit_test(help_names_each_option_its_default_and_its_variable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
