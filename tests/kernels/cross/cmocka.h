/* SPDX-License-Identifier: MIT */
/* cmocka.h - the few words of cmocka that kernels.c says, for a processor whose cmocka is not installed: aarch64.sh
 * puts this file in its place, so that building for another processor needs a compiler and its C library alone. A check
 * that fails ends the process with 1 and its place. */
#ifndef COMMA_TESTS_KERNELS_CROSS_CMOCKA_H
#define COMMA_TESTS_KERNELS_CROSS_CMOCKA_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(function)                                                                                     \
    {                                                                                                                  \
#function, function                                                                                            \
    }

#define fail_msg(...)                                                                                                  \
    do {                                                                                                               \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
        exit(1);                                                                                                       \
    } while (0)

#define assert_true(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_msg("%s", #condition);                                                                                \
    } while (0)

#define assert_int_equal(a, b)       assert_true((a) == (b))
#define assert_ptr_equal(a, b)       assert_true((a) == (b))
#define assert_string_equal(a, b)    assert_true(strcmp((a), (b)) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp((a), (b), (n)) == 0)

#define cmocka_run_group_tests(tests, setup, teardown) run_group(tests, sizeof(tests) / sizeof((tests)[0]))

static inline int run_group(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        printf("[ RUN ] %s\n", tests[i].name);
        fflush(stdout);
        tests[i].run(NULL);
    }
    printf("%zu tests passed\n", n);
    return 0;
}

#endif
