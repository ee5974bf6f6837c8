/* SPDX-License-Identifier: MIT */
/* base.c - the floor that all stand on: errors, UTF-8, half floats, arena, CPU count. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/arena.h"
#include "engine/base/checked.h"
#include "engine/base/cpu.h"
#include "engine/base/half.h"
#include "engine/base/map.h"
#include "engine/base/text.h"

static void a_long_message_is_cut_at_a_character(void **state)
{
    struct comma_error err = { 0 };
    char name[600];

    (void)state;
    memset(name, 'a', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    for (size_t i = 470; i + 1 < sizeof(name) - 1; i += 2)
        memcpy(name + i, "\xC3\xA9", 2);
    assert_false(comma_fail(&err, COMMA_E_INPUT, "%s", name));
    assert_true(comma_utf8_valid(err.message, strlen(err.message)));
    assert_in_range(strlen(err.message), sizeof(err.message) - 4, sizeof(err.message) - 1);
    assert_false(comma_fail(&err, COMMA_E_INPUT, "b%s", name));
    assert_true(comma_utf8_valid(err.message, strlen(err.message)));
}

static void context_is_put_in_front_and_the_code_kept(void **state)
{
    struct comma_error err = { 0 };

    (void)state;
    comma_fail(&err, COMMA_E_MODEL, "shape is %d", 3);
    comma_fail_within(&err, "adapter %s", "pets");
    assert_string_equal(err.message, "adapter pets: shape is 3");
    assert_int_equal(err.code, COMMA_E_MODEL);
    assert_false(comma_fail(NULL, COMMA_E_IO, "nobody listens"));
}

static void utf8_is_what_the_standard_says(void **state)
{
    static const struct {
        const char *bytes;
        bool valid;
    } cases[] = {
        { "", true },
        { "cat", true },
        { "caf\xC3\xA9", true },
        { "\xE2\x98\x83", true },
        { "\xF0\x9F\x98\x80", true },
        { "\xED\x9F\xBF", true },      /* U+D7FF */
        { "\xED\xA0\x80", false },     /* surrogate */
        { "\xC0\xAF", false },         /* overlong */
        { "\xE0\x80\xAF", false },     /* overlong */
        { "\xF0\x80\x80\xAF", false }, /* overlong */
        { "\xF4\x90\x80\x80", false }, /* above U+10FFFF */
        { "\xC3", false },             /* cut */
        { "\x80", false },             /* lone continuation */
        { "\xE2\x98", false },         /* cut */
        { "a\xFFz", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(comma_utf8_valid(cases[i].bytes, strlen(cases[i].bytes)), cases[i].valid);
}

static void every_f16_survives_the_way_through_f32(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = comma_f16_to_f32((uint16_t)h);

        if (isnan(f))
            assert_true(isnan(comma_f16_to_f32(comma_f32_to_f16(f))));
        else
            assert_int_equal(comma_f32_to_f16(f), h);
    }
    assert_true(comma_f16_to_f32(0x3C00) == 1.0f && comma_f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(isinf(comma_f16_to_f32(0x7C00)));
}

static void rounding_to_16_bits_is_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(comma_f32_to_f16(1.0f + 0x1p-11f), 0x3C00);     /* tie: down to even */
    assert_int_equal(comma_f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3C02); /* tie: up to even */
    assert_int_equal(comma_f32_to_f16(65519.0f), 0x7BFF);
    assert_int_equal(comma_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(comma_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(comma_f32_to_f16(0x1.8p-25f), 1);
    assert_int_equal(comma_f32_to_bf16(1.0f + 0x1p-8f), 0x3F80);
    assert_int_equal(comma_f32_to_bf16(1.0f + 3 * 0x1p-8f), 0x3F82);
    assert_true(isnan(comma_bf16_to_f32(comma_f32_to_bf16(NAN))));
}

static void an_arena_gives_aligned_memory_and_takes_it_back(void **state)
{
    struct comma_arena arena;
    struct comma_error err;
    struct comma_mark mark;
    float *a, *b;

    (void)state;
    assert_true(comma_arena_init(&arena, 4 * comma_arena_float_bytes(3 * 5 * 7), &err));
    a = comma_arena_floats(&arena, 3, 5, 7);
    mark = comma_arena_mark(&arena);
    b = comma_arena_floats(&arena, 3, 5, 7);
    assert_int_equal((uintptr_t)a % COMMA_ALIGN, 0);
    assert_int_equal((uintptr_t)b % COMMA_ALIGN, 0);
    assert_true(b >= a + 3 * 5 * 7);
    comma_arena_release(&arena, mark);
    assert_ptr_equal(comma_arena_floats(&arena, 1, 1, 1), b);
    comma_arena_finish(&arena);
    comma_arena_finish(&arena);
    assert_false(comma_arena_init(&arena, SIZE_MAX, &err));
    assert_int_equal(err.code, COMMA_E_NOMEM);
}

static void sizes_that_overflow_are_noticed(void **state)
{
    size_t n;

    (void)state;
    assert_true(comma_mul(3, 4, &n) && n == 12);
    assert_false(comma_mul(SIZE_MAX / 2, 3, &n));
    assert_false(comma_add(SIZE_MAX, 1, &n));
    assert_null(comma_alloc_floats(SIZE_MAX / 2));
}

static void only_a_regular_file_is_mapped(void **state)
{
    struct comma_map map = { 0 };
    struct comma_error err;

    (void)state;
    assert_false(comma_map_open(&map, "/no/such/file", &err));
    assert_non_null(strstr(err.message, "/no/such/file"));
    assert_int_equal(err.code, COMMA_E_IO);
    assert_false(comma_map_open(&map, "/", &err));
    assert_false(comma_map_open(&map, "/dev/null", &err));
    assert_true(comma_map_open(&map, "/proc/self/exe", &err));
    assert_true(map.size > 4 && memcmp(map.data, "\177ELF", 4) == 0);
    comma_map_close(&map);
    assert_null(map.data);
}

static void cores_are_counted_within_the_machine(void **state)
{
    (void)state;
    assert_in_range(comma_cpu_count(), 1, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
    assert_true(comma_cpu_memory_limit() > 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_message_is_cut_at_a_character),
        cmocka_unit_test(context_is_put_in_front_and_the_code_kept),
        cmocka_unit_test(utf8_is_what_the_standard_says),
        cmocka_unit_test(every_f16_survives_the_way_through_f32),
        cmocka_unit_test(rounding_to_16_bits_is_to_nearest_even),
        cmocka_unit_test(an_arena_gives_aligned_memory_and_takes_it_back),
        cmocka_unit_test(sizes_that_overflow_are_noticed),
        cmocka_unit_test(only_a_regular_file_is_mapped),
        cmocka_unit_test(cores_are_counted_within_the_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
