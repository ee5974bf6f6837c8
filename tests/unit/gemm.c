/* SPDX-License-Identifier: MIT */
/* gemm.c - every GEMM back end and precision that this build and processor have, against sums in f64.
 *
 * Whole numbers that each precision holds exactly must come out exactly: a wrong order of packed weights, a row or
 * column off by one, a scale or a zero point cannot hide in a tolerance. Then real numbers, within a derived bound. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/arena.h"
#include "engine/base/cpu.h"
#include "engine/base/half.h"
#include "engine/gemm/gemm.h"

#define GUARD 1.25e33f

static const struct backend {
    const char *backend, *precision;
    uint32_t needs; /* COMMA_CPU_ */
} backends[] = {
    { "openblas", "f32", 0 },
    { "onednn", "f32", 0 },
    { "onednn", "bf16", COMMA_CPU_BF16 },
    { "onednn", "int8", COMMA_CPU_VNNI },
};
enum { N_BACKENDS = sizeof(backends) / sizeof(backends[0]) };

/* The back end, NULL where the build or the processor has it not; what it says then is tested below. */
static struct comma_gemm *open_backend(const struct backend *b)
{
    struct comma_gemm *g = NULL;
    struct comma_error err;

    if (comma_gemm_open(b->backend, b->precision, &g, &err)) {
        assert_string_equal(comma_gemm_backend(g), b->backend);
        assert_string_equal(comma_gemm_precision(g), b->precision);
        return g;
    }
    assert_int_equal(err.code, COMMA_E_UNSUPPORTED);
    return NULL;
}

static uint32_t seed = 7;

static uint32_t bits(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static float whole(int most)
{
    return (float)((int)(bits() % (2 * (unsigned)most + 1)) - most);
}

static float real(void)
{
    return (float)bits() * 0x1p-23f - 1;
}

/* ---- one product ---- */

struct shape {
    size_t m, n, k;
};

/* A layer of up to three parts whose weights may be stored as f16, as checkpoints do. */
struct layer {
    struct shape s;
    size_t n_parts;
    float *w, *bias, *x; /* [n, k], [n], [tile, k] */
    uint16_t *half;      /* w as f16 or NULL */
    struct comma_tensor weights[3], biases[3];
};

static struct comma_tensor matrix(const void *data, enum comma_dtype dtype, size_t rows, size_t columns)
{
    return (struct comma_tensor){
        .name = "w", .dtype = dtype, .n_dims = 2, .shape = { rows, columns }, .strides = { columns, 1 }, .data = data
    };
}

static void make_layer(struct layer *l, struct shape s, size_t n_parts, bool half, bool exact_numbers)
{
    const size_t rows = (s.m + COMMA_ROW_TILE - 1) / COMMA_ROW_TILE * COMMA_ROW_TILE;

    *l = (struct layer){ .s = s, .n_parts = n_parts };
    l->w = comma_alloc_floats(s.n * s.k);
    l->bias = comma_alloc_floats(s.n);
    l->x = comma_alloc_floats(rows * s.k);
    for (size_t i = 0; i < s.n * s.k; i++)
        l->w[i] = exact_numbers ? whole(8) : real();
    for (size_t i = 0; i < s.n; i++)
        l->bias[i] = exact_numbers ? whole(100) : real();
    memset(l->x, 0, rows * s.k * sizeof(float));
    for (size_t i = 0; i < s.m * s.k; i++)
        l->x[i] = exact_numbers ? whole(8) : real();
    if (exact_numbers) { /* int8: 127 makes a weight's scale 1; a range of 255 an input's */
        for (size_t i = 0; i < s.n; i++)
            l->w[i * s.k + i % s.k] = i % 2 ? 127 : -127;
        for (size_t i = 0; i < s.m; i++) {
            const float zero = (float)(8 + bits() % 240);

            l->x[i * s.k + i % s.k] = -zero;
            l->x[i * s.k + (i + 1) % s.k] = 255 - zero;
        }
    }
    if (half) {
        l->half = malloc(s.n * s.k * sizeof(*l->half));
        for (size_t i = 0; i < s.n * s.k; i++) {
            l->half[i] = comma_f32_to_f16(l->w[i]);
            l->w[i] = comma_f16_to_f32(l->half[i]);
        }
    }
    for (size_t p = 0, at = 0; p < n_parts; p++) {
        const size_t n = p + 1 < n_parts ? s.n / n_parts : s.n - at;

        l->weights[p] =
            half ? matrix(l->half + at * s.k, COMMA_F16, n, s.k) : matrix(l->w + at * s.k, COMMA_F32, n, s.k);
        l->biases[p] = (struct comma_tensor){
            .name = "b", .n_dims = 1, .shape = { n }, .strides = { 1 }, .data = (unsigned char *)(l->bias + at)
        };
        at += n;
    }
}

static void free_layer(struct layer *l)
{
    free(l->w);
    free(l->bias);
    free(l->x);
    free(l->half);
}

static void *aligned(size_t bytes)
{
    return aligned_alloc(COMMA_ALIGN, (bytes + COMMA_ALIGN) / COMMA_ALIGN * COMMA_ALIGN);
}

/* Runs the layer in n_chunks column ranges and rows prepared in two calls. y [tile, ldy] in and out. */
static void run_layer(const struct comma_linear *linear, const struct layer *l, size_t n_chunks, float *y, size_t ldy,
                      bool accumulate)
{
    const size_t m = l->s.m, n = l->s.n, k = l->s.k, panels = (n + COMMA_PANEL - 1) / COMMA_PANEL;
    const size_t bytes = comma_linear_input_bytes(linear, m);
    const size_t half = m / 2 / COMMA_ROW_TILE * COMMA_ROW_TILE;
    void *input = bytes ? aligned(bytes) : NULL, *workspace = aligned(comma_linear_workspace_bytes(linear));

    if (input) {
        memset(input, 0xA5, bytes);
        comma_linear_prepare(linear, l->x, k, m, half, m - half, input);
        comma_linear_prepare(linear, l->x, k, m, 0, half, input);
    }
    for (size_t i = 0; i < n_chunks; i++) {
        const size_t n0 = panels * i / n_chunks * COMMA_PANEL, end = panels * (i + 1) / n_chunks * COMMA_PANEL;

        if (n0 < end)
            comma_linear_run(linear, l->x, k, input, m, n0, end < n ? end : n, y, ldy, accumulate, workspace);
    }
    free(input);
    free(workspace);
}

/* Largest error that the precision allows for y[i, j]: see the file's head. */
static double bound(const char *precision, const struct layer *l, size_t i, size_t j)
{
    const float *x = l->x + i * l->s.k, *w = l->w + j * l->s.k;
    double magnitude = 0, least = 0, most = 0, w_most = 0, inputs = 0, weights = 0;

    for (size_t c = 0; c < l->s.k; c++) {
        magnitude += fabs((double)x[c] * w[c]);
        least = fmin(least, x[c]);
        most = fmax(most, x[c]);
        w_most = fmax(w_most, fabs(w[c]));
        inputs += fabs(x[c]);
        weights += fabs(w[c]);
    }
    if (strcmp(precision, "bf16") == 0) /* each factor is off by 2^-9 of itself */
        return magnitude * 0x1.02p-8 + (double)(l->s.k + 4) * 0x1p-24 * (magnitude + 4);
    if (strcmp(precision, "int8") == 0) { /* an input by one step (half for itself, half for the zero point's) */
        const double x_step = (most - least) / 255, w_step = w_most / 127;

        return weights * x_step + inputs * w_step / 2 + (double)l->s.k * x_step * w_step / 2 + 1e-5;
    }
    return (double)(l->s.k + 4) * 0x1p-24 * (magnitude + 4);
}

static void check_product(struct comma_gemm *g, struct shape s, size_t n_parts, bool half, bool exact_numbers,
                          bool exact_layer, size_t n_chunks, bool with_bias, bool accumulate)
{
    const size_t ldy = s.n + 5, rows = (s.m + COMMA_ROW_TILE - 1) / COMMA_ROW_TILE * COMMA_ROW_TILE;
    struct comma_linear *linear;
    struct comma_error err;
    struct layer l;
    float *y = comma_alloc_floats(rows * ldy);

    make_layer(&l, s, n_parts, half, exact_numbers);
    if (!comma_linear_create(g, l.weights, with_bias ? l.biases : NULL, n_parts, exact_layer, &linear, &err))
        fail_msg("%s", err.message);
    assert_int_equal(comma_linear_n(linear), s.n);
    assert_int_equal(comma_linear_k(linear), s.k);
    assert_int_equal(comma_linear_group(linear) % COMMA_PANEL, 0);
    assert_true(comma_linear_bytes(linear) >= s.n * s.k);
    for (size_t i = 0; i < rows * ldy; i++)
        y[i] = i % ldy < s.n ? 3 : GUARD;
    run_layer(linear, &l, n_chunks, y, ldy, accumulate);
    for (size_t i = 0; i < s.m; i++) {
        for (size_t j = 0; j < s.n; j++) {
            double want = (accumulate ? 3 : 0) + (with_bias ? (double)l.bias[j] : 0);
            const double limit = exact_numbers ? 0 : bound(comma_gemm_precision(g), &l, i, j);

            for (size_t c = 0; c < s.k; c++)
                want += (double)l.x[i * s.k + c] * l.w[j * s.k + c];
            if (!(fabs(y[i * ldy + j] - want) <= limit))
                fail_msg("%s %s, %zu x %zu x %zu in %zu chunks: y[%zu][%zu] is %.9g, not %.9g within %.3g",
                         comma_gemm_backend(g), comma_gemm_precision(g), s.m, s.n, s.k, n_chunks, i, j,
                         (double)y[i * ldy + j], want, limit);
        }
        for (size_t j = s.n; j < ldy; j++)
            assert_true(y[i * ldy + j] == GUARD);
    }
    comma_linear_destroy(linear);
    free_layer(&l);
    free(y);
}

/* ---- tests ---- */

static void whole_numbers_come_out_exactly(void **state)
{
    static const struct shape shapes[] = { { 1, 64, 64 },    { 3, 30, 48 },    { 5, 100, 7 },    { 17, 192, 588 },
                                           { 50, 333, 64 },  { 197, 256, 64 }, { 199, 320, 96 }, { 208, 64, 33 },
                                           { 209, 130, 65 }, { 260, 64, 128 }, { 421, 192, 70 }, { 12, 128, 1540 } };

    (void)state;
    for (size_t b = 0; b < N_BACKENDS; b++) {
        struct comma_gemm *g = open_backend(&backends[b]);

        for (size_t i = 0; g && i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            check_product(g, shapes[i], 1, false, true, false, 1, true, false);
            check_product(g, shapes[i], 1 + i % 3, i % 2, true, i % 4 == 1, 1 + i % 4, i % 2 == 0, i % 3 == 0);
        }
        comma_gemm_close(g);
    }
}

/* Each number of rows is put together from other blocks. */
static void any_number_of_rows(void **state)
{
    (void)state;
    for (size_t b = 0; b < N_BACKENDS; b++) {
        struct comma_gemm *g = open_backend(&backends[b]);

        for (size_t m = 1; g && m <= 70; m++)
            check_product(g, (struct shape){ m, 70, 24 }, 1, false, true, false, 2, true, m % 2);
        comma_gemm_close(g);
    }
}

static void real_numbers_stay_within_the_precision(void **state)
{
    static const struct shape shapes[] = { { 7, 70, 64 }, { 199, 192, 768 }, { 33, 64, 3072 }, { 212, 96, 192 } };

    (void)state;
    for (size_t b = 0; b < N_BACKENDS; b++) {
        struct comma_gemm *g = open_backend(&backends[b]);

        for (size_t i = 0; g && i < sizeof(shapes) / sizeof(shapes[0]); i++)
            check_product(g, shapes[i], 1, false, false, false, 1, true, i % 2);
        comma_gemm_close(g);
    }
}

/* Rows of zeros, and rows that are not numbers, which must not come out as numbers. */
static void odd_rows(void **state)
{
    const struct shape s = { 4, 64, 64 };

    (void)state;
    for (size_t b = 0; b < N_BACKENDS; b++) {
        struct comma_gemm *g = open_backend(&backends[b]);
        struct comma_linear *linear;
        struct comma_error err;
        struct layer l;
        float y[4 * 64];

        if (!g)
            continue;
        make_layer(&l, s, 1, false, false);
        memset(l.x, 0, s.k * sizeof(float));
        for (size_t i = 0; i < s.k; i++)
            l.x[s.k + i] = 1e-42f; /* less than any step */
        l.x[2 * s.k + 5] = NAN;
        l.x[3 * s.k + 63] = INFINITY;
        assert_true(comma_linear_create(g, l.weights, l.biases, 1, false, &linear, &err));
        run_layer(linear, &l, 1, y, 64, false);
        for (size_t j = 0; j < s.n; j++) {
            assert_true(y[j] == l.bias[j]);
            assert_true(fabsf(y[s.n + j] - l.bias[j]) < 1e-30f);
            assert_false(isfinite(y[2 * s.n + j]));
            assert_false(isfinite(y[3 * s.n + j]));
        }
        comma_linear_destroy(linear);
        free_layer(&l);
        comma_gemm_close(g);
    }
}

static void int8_refuses_weights_that_are_not_finite(void **state)
{
    struct comma_gemm *g = open_backend(&backends[3]);
    struct comma_linear *linear;
    struct comma_error err;
    struct layer l;

    (void)state;
    if (!g)
        skip();
    make_layer(&l, (struct shape){ 1, 64, 64 }, 1, false, false);
    l.w[100] = NAN;
    assert_false(comma_linear_create(g, l.weights, NULL, 1, false, &linear, &err));
    assert_int_equal(err.code, COMMA_E_MODEL);
    assert_non_null(strstr(err.message, "not finite"));
    free_layer(&l);
    comma_gemm_close(g);
}

static void what_cannot_be_had_is_refused_with_what_can(void **state)
{
    static const struct {
        const char *backend, *precision, *words;
    } cases[] = { { "openblas", "bf16", "--backend onednn" },
                  { "openblas", "int8", "--backend onednn" },
                  { "openblas", "f64", "f32, bf16, int8" },
                  { "abacus", "f32", "openblas" } };
    struct comma_gemm *g;
    struct comma_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_false(comma_gemm_open(cases[i].backend, cases[i].precision, &g, &err));
        assert_int_equal(err.code, COMMA_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, cases[i].words));
    }
#ifdef COMMA_HAVE_ONEDNN
    /* A processor without the units, as COMMA_CPU makes believe. */
    assert_int_equal(setenv("COMMA_CPU", "avx2", 1), 0);
    for (size_t i = 2; i < N_BACKENDS; i++) {
        assert_false(comma_gemm_open("onednn", backends[i].precision, &g, &err));
        assert_int_equal(err.code, COMMA_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, backends[i].precision));
        assert_non_null(strstr(err.message, "--precision f32"));
    }
    unsetenv("COMMA_CPU");
    for (size_t i = 1; i < N_BACKENDS && !getenv("DNNL_MAX_CPU_ISA"); i++) {
        if ((comma_cpu_features() & backends[i].needs) != backends[i].needs)
            continue;
        assert_true(comma_gemm_open("onednn", backends[i].precision, &g, &err));
        assert_true(comma_gemm_packs(g));
        comma_gemm_close(g);
    }
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_come_out_exactly),
        cmocka_unit_test(any_number_of_rows),
        cmocka_unit_test(real_numbers_stay_within_the_precision),
        cmocka_unit_test(odd_rows),
        cmocka_unit_test(int8_refuses_weights_that_are_not_finite),
        cmocka_unit_test(what_cannot_be_had_is_refused_with_what_can),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
