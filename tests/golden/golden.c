/* SPDX-License-Identifier: MIT */
/* golden.c - see golden.h. */
#include "tests/golden/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct comma_tensors *golden_open(const char *name)
{
    struct comma_tensors *ts = NULL;
    struct comma_error err;
    char path[512];

    snprintf(path, sizeof(path), "%s%s", GOLDEN_DATA, name);
    if (!comma_safetensors_open(path, &ts, &err))
        fail_msg("%s", err.message);
    return ts;
}

float *golden_floats(const struct comma_tensors *ts, const char *name, size_t *n)
{
    const struct comma_tensor *t = comma_tensors_find(ts, name);
    struct comma_error err;
    float *values;

    if (!t)
        fail_msg("expected tensor %s is missing", name);
    *n = comma_tensor_count(t);
    values = comma_alloc_floats(*n);
    assert_non_null(values);
    if (!comma_tensor_to_f32(t, values, &err))
        fail_msg("%s", err.message);
    return values;
}

const int32_t *golden_tokens(const struct comma_tensors *ts, size_t *n_labels)
{
    const struct comma_tensor *t = comma_tensors_find(ts, "tokens");

    assert_non_null(t);
    assert_int_equal(t->dtype, COMMA_I32);
    *n_labels = t->shape[0];
    return (const int32_t *)(const void *)t->data;
}

struct comma_engine *golden_engine_on(const char *dir, unsigned n_threads, const char *backend, const char *precision)
{
    struct comma_engine_options options = comma_engine_default_options();
    struct comma_engine *e = NULL;
    struct comma_error err;
    char path[512];

    snprintf(path, sizeof(path), "%s%s", GOLDEN_DATA, dir);
    options.model_dir = path;
    options.n_threads = n_threads;
    options.backend = backend;
    options.precision = precision;
    if (!comma_engine_open(&options, &e, &err) && !(backend && err.code == COMMA_E_UNSUPPORTED))
        fail_msg("%s", err.message);
    return e;
}

struct comma_engine *golden_engine(const char *dir, unsigned n_threads)
{
    return golden_engine_on(dir, n_threads, NULL, NULL);
}

void golden_run(struct comma_engine *e, void (*fn)(void *arg, struct comma_worker *w), void *arg)
{
    comma_engine_call(e, fn, arg);
}

double golden_deviation(const float *got, const float *want, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - want[i]);

        if (!(d <= most))
            most = d; /* NaN too */
    }
    return most;
}

void golden_compare(const char *what, const float *got, const float *want, size_t n, double limit)
{
    const double d = golden_deviation(got, want, n);

    if (!(d <= limit))
        fail_msg("%s: deviates by %.3g, allowed %.3g", what, d, limit);
    print_message("             %-44s max abs deviation %.2g\n", what, d);
}

void golden_normalise(float *x, size_t n, size_t dim)
{
    for (size_t i = 0; i < n; i++)
        assert_true(comma_normalise(x + i * dim, dim));
}
