/* SPDX-License-Identifier: MIT */
/* gemm.h - linear layers, y = x w^T + bias, behind one small interface with a file per library.
 *
 * A back end makes a struct comma_linear of a weight once, at load: it may use the mapped f32 where it lies, convert,
 * or pack. Afterwards a linear is read-only and any number of threads may run it at once, each on its own columns:
 * threads are the engine's, and a library is called single-threaded on slices. w is [n, k] as torch stores a Linear. */
#ifndef COMMA_ENGINE_GEMM_H
#define COMMA_ENGINE_GEMM_H

#include <stddef.h>

#include "engine/base/error.h"
#include "models/tensor.h"

struct comma_gemm;   /* a back end at a precision */
struct comma_linear; /* one layer's weights, in the back end's form */

/* Columns come in panels of this many (the last may be narrower): where threads may split a product. */
#define COMMA_PANEL 64

/* Rows of x and y that a caller must have room for: m rounded up to this; rows past m may be read (whatever finite
 * values they hold) and written. OpenBLAS runs 4-5 % faster on whole tiles. */
#define COMMA_ROW_TILE 4

/* backend: "openblas", "onednn" or NULL for the default; precision: "f32", "bf16", "int8" or NULL.
 * Fails with COMMA_E_UNSUPPORTED, saying what there is. */
COMMA_MUST_CHECK
bool comma_gemm_open(const char *backend, const char *precision, struct comma_gemm **out, struct comma_error *err);
void comma_gemm_close(struct comma_gemm *g); /* NULL is fine; linears go first */
const char *comma_gemm_backend(const struct comma_gemm *g);
const char *comma_gemm_precision(const struct comma_gemm *g);

/* True if layers copy f32 weights that lie in a mapping, so that the mapping is not needed for them any more. */
bool comma_gemm_packs(const struct comma_gemm *g);

/* Makes a layer of up to three weights stacked by rows (q, k, v), each [n_i, k], with biases [n_i] or none (biases
 * NULL). f32 weights that lie contiguous in a mapping are used in place by back ends that can, so the tensors must
 * outlive the linear. exact: keep full precision, for layers that lose accuracy. */
COMMA_MUST_CHECK
bool comma_linear_create(struct comma_gemm *g, const struct comma_tensor *weights, const struct comma_tensor *biases,
                         size_t n_parts, bool exact, struct comma_linear **out, struct comma_error *err);
void comma_linear_destroy(struct comma_linear *l); /* NULL is fine */

size_t comma_linear_n(const struct comma_linear *l);
size_t comma_linear_k(const struct comma_linear *l);
size_t comma_linear_bytes(const struct comma_linear *l); /* that its weights take, mapped ones included */

/* Bytes of working memory that a product with m rows needs beside x and y; 0 where x is taken as it is. */
size_t comma_linear_input_bytes(const struct comma_linear *l, size_t m);

/* Brings rows first .. first + n of x into the form the back end multiplies (bf16, int8 with a scale a row); input is
 * [comma_linear_input_bytes(l, m)], shared by all columns. Threads may prepare different rows at once; first is a
 * multiple of COMMA_ROW_TILE. Does nothing where input_bytes is 0. */
void comma_linear_prepare(const struct comma_linear *l, const float *x, size_t ldx, size_t m, size_t first, size_t n,
                          void *input);

/* Bytes of working memory that a call of run needs for itself; may be 0. */
size_t comma_linear_workspace_bytes(const struct comma_linear *l);

/* Columns that a thread does best to ask for at once where it works on them again afterwards (an activation), so that
 * they are still in its cache; a multiple of COMMA_PANEL. */
size_t comma_linear_group(const struct comma_linear *l);

/* y[0:m, n0:n1] = x w^T + bias, or += with accumulate. n0 is a multiple of COMMA_PANEL, n1 one or n.
 *   x          [m, k] f32, ldx; used where input_bytes is 0
 *   input      what prepare made of all m rows, else NULL
 *   y          [m, n] f32, ldy: the pointer to column 0, whatever n0 is
 *   workspace  [comma_linear_workspace_bytes(l)], COMMA_ALIGN-aligned, this thread's
 * Where a library has no memory for a call's few hundred bytes, y becomes NaN, which callers report as they do for
 * weights that are not finite. */
void comma_linear_run(const struct comma_linear *l, const float *x, size_t ldx, const void *input, size_t m, size_t n0,
                      size_t n1, float *y, size_t ldy, bool accumulate, void *workspace);

#endif
