/* SPDX-License-Identifier: MIT */
/* product.c - the kernels round a packed product: each level gives the bits of plain C.
 *
 * Each array is a heap block of just its size, so that the sanitizer build sees a read or write behind it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/cpu.h"
#include "engine/base/half.h"
#include "engine/kernels/kernels.h"

static const uint32_t levels[] = { COMMA_CPU_AVX2, COMMA_CPU_AVX2 | COMMA_CPU_AVX512, COMMA_CPU_NEON };
static struct comma_kernels c, fast;

static void on_each_level(void (*check)(void))
{
    comma_kernels_init(&c, 0);
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if ((comma_cpu_features() & levels[i]) == levels[i]) {
            comma_kernels_init(&fast, levels[i]);
            check();
        }
}

static uint32_t seed = 3;

static uint32_t bits(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed;
}

static float *floats(size_t n, float low, float high)
{
    float *x = malloc(n * sizeof(*x));

    for (size_t i = 0; i < n; i++)
        x[i] = low + (high - low) * (float)(bits() >> 8) * 0x1p-24f;
    return x;
}

/* ---- f32_to_bf16 ---- */

static void check_bf16(void)
{
    for (size_t n = 1; n <= 70; n++) {
        float *in = floats(n, -100, 100);
        uint16_t *out = malloc(n * sizeof(*out));

        fast.f32_to_bf16(out, in, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(out[i], comma_f32_to_bf16(in[i]));
        free(in);
        free(out);
    }
    for (uint32_t high = 0; high < 0x10000; high += 16) { /* every exponent and sign; ties, carries, NaN, infinities */
        static const uint32_t lows[] = { 0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF };
        float in[16 * 6];
        uint16_t got[16 * 6], want[16 * 6];

        for (uint32_t i = 0; i < 16 * 6; i++)
            in[i] = comma_float_of_bits((high + i / 6) << 16 | lows[i % 6]);
        fast.f32_to_bf16(got, in, 16 * 6);
        c.f32_to_bf16(want, in, 16 * 6);
        assert_memory_equal(got, want, sizeof(want));
    }
}

static void f32_becomes_bf16_as_in_c(void **state)
{
    (void)state;
    assert_int_equal(comma_f32_to_bf16(1.0f), 0x3F80);
    on_each_level(check_bf16);
}

/* ---- quantize_row ---- */

static void check_one_row(const float *x, size_t n)
{
    uint8_t *want = malloc(n), *got = malloc(n);
    float scale, fast_scale;
    int32_t zero, fast_zero;

    c.quantize_row(want, &scale, &zero, x, n);
    fast.quantize_row(got, &fast_scale, &fast_zero, x, n);
    assert_memory_equal(got, want, n);
    assert_int_equal(fast_zero, zero);
    assert_true(isnan(scale) ? isnan(fast_scale) : fast_scale == scale);
    free(want);
    free(got);
}

static void check_quantize(void)
{
    static const float ranges[][2] = { { -1, 1 },           { 0, 3 },         { -5, -1 }, { 2, 900 },
                                       { -1e-30f, 1e-30f }, { -3e38f, 3e37f } };
    static const float odd[] = { NAN, INFINITY, -INFINITY, 0, -0.0f, 1e-44f };

    for (size_t n = 1; n <= 100; n++) {
        for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
            float *x = floats(n, ranges[r][0], ranges[r][1]);

            check_one_row(x, n);
            free(x);
        }
        for (size_t o = 0; o < sizeof(odd) / sizeof(odd[0]); o++) {
            float *x = floats(n, -1, 1);

            x[n - 1] = odd[o];
            check_one_row(x, n);
            for (size_t i = 0; i < n; i++)
                x[i] = odd[o];
            check_one_row(x, n);
            free(x);
        }
    }
}

static void a_row_is_quantized_as_in_c(void **state)
{
    (void)state;
    on_each_level(check_quantize);
}

/* The definition itself: every value comes back within a step, 0 exactly. */
static void quantized_values_come_back(void **state)
{
    static const float ranges[][2] = { { -1, 1 }, { 0, 3 }, { -5, -1 }, { -0.17f, 40 } };

    (void)state;
    comma_kernels_init(&c, 0);
    for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
        enum { N = 500 };
        float *x = floats(N, ranges[r][0], ranges[r][1]), scale;
        uint8_t q[N];
        int32_t zero;

        x[7] = 0;
        c.quantize_row(q, &scale, &zero, x, N);
        assert_true(zero >= 0 && zero <= 255 && scale > 0);
        assert_int_equal(q[7], zero);
        for (size_t i = 0; i < N; i++)
            assert_true(fabsf(scale * (float)(q[i] - zero) - x[i]) <= scale * 1.001f);
        free(x);
    }
}

/* ---- finish ---- */

static void check_finish_f32(size_t rows, size_t width, int accumulate, int with_bias)
{
    const size_t ldy = width + 3, ld_sums = width + 5;
    float *sums = floats((rows - 1) * ld_sums + width, -9, 9), *bias = floats(width, -1, 1);
    float *got = floats((rows - 1) * ldy + width, -1, 1), *want = malloc(((rows - 1) * ldy + width) * sizeof(*want));

    memcpy(want, got, ((rows - 1) * ldy + width) * sizeof(*want));
    c.finish_f32(want, ldy, sums, ld_sums, with_bias ? bias : NULL, rows, width, accumulate);
    fast.finish_f32(got, ldy, sums, ld_sums, with_bias ? bias : NULL, rows, width, accumulate);
    assert_memory_equal(got, want, ((rows - 1) * ldy + width) * sizeof(*want)); /* what lies between rows as well */
    free(sums);
    free(bias);
    free(got);
    free(want);
}

static void check_finish_int8(size_t rows, size_t width, int accumulate, int with_bias)
{
    const size_t ldy = width + 1, ld_sums = width + 2, n_sums = (rows - 1) * ld_sums + width;
    float *row_scale = floats(rows, 0, 0.1f), *column_scale = floats(width, 0, 0.01f), *bias = floats(width, -1, 1);
    int32_t *row_zero = malloc(rows * sizeof(*row_zero)), *column_sum = malloc(width * sizeof(*column_sum));
    int32_t *sums = malloc(n_sums * sizeof(*sums));
    float *got = floats((rows - 1) * ldy + width, -1, 1), *want = malloc(((rows - 1) * ldy + width) * sizeof(*want));
    const struct comma_int8_scales s = { row_scale, row_zero, column_scale, column_sum, with_bias ? bias : NULL };

    memcpy(want, got, ((rows - 1) * ldy + width) * sizeof(*want));
    for (size_t i = 0; i < rows; i++)
        row_zero[i] = (int32_t)(bits() >> 24);
    for (size_t i = 0; i < width; i++)
        column_sum[i] = (int32_t)(bits() >> 14) - (1 << 17);
    for (size_t i = 0; i < n_sums; i++)
        sums[i] = (int32_t)(bits() >> 5) - (1 << 26);
    c.finish_int8(want, ldy, sums, ld_sums, &s, rows, width, accumulate);
    fast.finish_int8(got, ldy, sums, ld_sums, &s, rows, width, accumulate);
    assert_memory_equal(got, want, ((rows - 1) * ldy + width) * sizeof(*want));
    free(row_scale);
    free(column_scale);
    free(bias);
    free(row_zero);
    free(column_sum);
    free(sums);
    free(got);
    free(want);
}

static void check_finish(void)
{
    for (size_t width = 1; width <= 80; width++)
        for (int way = 0; way < 4; way++) {
            check_finish_f32(1 + width % 3, width, way & 1, way & 2);
            check_finish_int8(1 + width % 3, width, way & 1, way & 2);
        }
}

static void sums_are_finished_as_in_c(void **state)
{
    (void)state;
    on_each_level(check_finish);
}

/* ---- few_rows ---- */

static void check_few_rows_of(size_t m, size_t n, size_t k, int accumulate, int with_bias)
{
    const size_t ldx = k + 1, ldw = k + 3, ldy = n + 2, n_y = (m - 1) * ldy + n;
    float *x = floats((m - 1) * ldx + k, -1, 1), *w = floats((n - 1) * ldw + k, -1, 1), *bias = floats(n, -1, 1);
    float *got = floats(n_y, -1, 1), *want = malloc(n_y * sizeof(*want));

    memcpy(want, got, n_y * sizeof(*want));
    c.few_rows(want, ldy, x, ldx, m, w, ldw, n, k, with_bias ? bias : NULL, accumulate);
    fast.few_rows(got, ldy, x, ldx, m, w, ldw, n, k, with_bias ? bias : NULL, accumulate);
    for (size_t i = 0; i < n_y; i++) /* k products below 1, each rounded, in either order */
        assert_true(fabsf(got[i] - want[i]) <= (float)(k + 4) * 0x1p-23f * (float)k);
    for (size_t r = 0; r + 1 < m; r++)
        assert_memory_equal(got + r * ldy + n, want + r * ldy + n, 2 * sizeof(float));
    free(x);
    free(w);
    free(bias);
    free(got);
    free(want);
}

static void check_few_rows(void)
{
    for (size_t m = 1; m <= 15; m++)
        for (size_t n = 1; n <= 10; n++)
            check_few_rows_of(m, n, 1 + (m * 7 + n * 13) % 70, (int)(m % 2), (int)(n % 2));
    check_few_rows_of(24, 64, 768, 1, 1);
}

static void few_rows_are_as_in_c(void **state)
{
    (void)state;
    on_each_level(check_few_rows);
}

/* The definition: small whole numbers, counted by hand. */
static void few_rows_in_c_is_a_product(void **state)
{
    const float x[] = { 1, 2, 3, 4 }, w[] = { 5, 6, 7, 8, 9, 10 }, bias[] = { 100, 200, 300 };
    float y[] = { 1, 1, 1, 1, 1, 1 };
    const float want[] = { 118, 224, 330, 140, 254, 368 };

    (void)state;
    comma_kernels_init(&c, 0);
    c.few_rows(y, 3, x, 2, 2, w, 2, 3, 2, bias, 1);
    for (size_t i = 0; i < 6; i++)
        assert_true(y[i] == want[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_becomes_bf16_as_in_c),   cmocka_unit_test(a_row_is_quantized_as_in_c),
        cmocka_unit_test(quantized_values_come_back), cmocka_unit_test(sums_are_finished_as_in_c),
        cmocka_unit_test(few_rows_are_as_in_c),       cmocka_unit_test(few_rows_in_c_is_a_product),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
