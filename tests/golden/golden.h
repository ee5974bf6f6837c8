/* SPDX-License-Identifier: MIT */
/* golden.h - what the golden tests share: the sets under tests/golden/data, tensors of expected values, an engine over
 * the tiny model, and comparisons that say by how much they failed.
 *
 * Expected values are outputs of the authors' own code (the project's SPEC, section 12). */
#ifndef COMMA_TESTS_GOLDEN_H
#define COMMA_TESTS_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/engine_impl.h"
#include "models/safetensors.h"

#define GOLDEN_DATA COMMA_SOURCE_ROOT "/tests/golden/data/"

/* SPEC 12: suggested limits for normalised features and for logits of the small sets; hidden states of the reference
 * deviate by 8e-6 where values reach 30, so ten times that. */
#define FEATURE_LIMIT 1e-5
#define LOGIT_LIMIT   2e-4
#define STATE_LIMIT   1e-4

/* Expected tensors of a file under GOLDEN_DATA; fails the test if it cannot be read. */
struct comma_tensors *golden_open(const char *name);

/* A tensor's values as f32, to free(); *n how many. The test fails if it is absent. */
float *golden_floats(const struct comma_tensors *ts, const char *name, size_t *n);

/* I32 tokens [n_labels, 77]. */
const int32_t *golden_tokens(const struct comma_tensors *ts, size_t *n_labels);

/* Opens a model directory under GOLDEN_DATA on n_threads threads. */
struct comma_engine *golden_engine(const char *dir, unsigned n_threads);

/* The same with a back end and a precision (NULL: the default); NULL where this build or processor has it not. */
struct comma_engine *golden_engine_on(const char *dir, unsigned n_threads, const char *backend, const char *precision);

/* Runs a test's body on one of the engine's threads, where working memory is. Assertions of cmocka must not leave that
 * thread, so the body only computes. */
void golden_run(struct comma_engine *e, void (*fn)(void *arg, struct comma_worker *w), void *arg);

double golden_deviation(const float *got, const float *want, size_t n);

/* Fails, saying what and by how much, if any value deviates by more than limit. */
void golden_compare(const char *what, const float *got, const float *want, size_t n, double limit);

/* Rows of x [n, dim] to L2 norm 1. */
void golden_normalise(float *x, size_t n, size_t dim);

#endif
