/* SPDX-License-Identifier: MIT */
/* tensor.h - what every weight reader yields: named, typed, strided views of bytes that stay where they are.
 *
 * A reader (safetensors.c, torch_zip.c) knows one file format and no model; it makes a struct comma_tensors. That owns
 * the mapping and all that its tensors point to, is read-only once made, and may be shared by threads.
 * Offsets, sizes and strides have been checked against the file: whoever follows shape and strides stays inside. */
#ifndef COMMA_MODELS_TENSOR_H
#define COMMA_MODELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

enum comma_dtype {
    COMMA_F32,
    COMMA_F16,
    COMMA_BF16,
    COMMA_F64,
    COMMA_I64,
    COMMA_I32,
    COMMA_I16,
    COMMA_I8,
    COMMA_U8,
    COMMA_BOOL,
    COMMA_N_DTYPES
};

#define COMMA_MAX_DIMS 8

/* A view: borrowed from the struct comma_tensors it came from. A scalar has n_dims 0. */
struct comma_tensor {
    const char *name; /* NUL-terminated, as in the file */
    enum comma_dtype dtype;
    unsigned n_dims;
    size_t shape[COMMA_MAX_DIMS];
    size_t strides[COMMA_MAX_DIMS]; /* in elements */
    const unsigned char *data;      /* little-endian; may be unaligned */
};

struct comma_tensors;

size_t comma_dtype_bytes(enum comma_dtype dtype);
const char *comma_dtype_name(enum comma_dtype dtype); /* "F32", as safetensors spells it */
bool comma_dtype_is_float(enum comma_dtype dtype);    /* F32, F16, BF16, F64: what weights may be */

/* Product of the shape; 1 for a scalar. */
size_t comma_tensor_count(const struct comma_tensor *t);

/* True if the elements stand one after another in row-major order. */
bool comma_tensor_contiguous(const struct comma_tensor *t);

/* "[768, 3, 16, 16]" into out; for messages. Returns out. */
const char *comma_tensor_shape_text(const struct comma_tensor *t, char *out, size_t size);

/* True if t's n_dims and shape are as given: comma_tensor_has_shape(&t, 2, (size_t[]){ rows, columns }). */
bool comma_tensor_has_shape(const struct comma_tensor *t, unsigned n_dims, const size_t *shape);

/* The f32 at t->data if t is F32, contiguous and aligned, so that it can be used where it lies; else NULL. */
const float *comma_tensor_as_f32(const struct comma_tensor *t);

/* Writes all elements to out in row-major order as f32. Floating dtypes only: others fail with COMMA_E_MODEL.
 *   out  [comma_tensor_count(t)] f32 */
COMMA_MUST_CHECK
bool comma_tensor_to_f32(const struct comma_tensor *t, float *out, struct comma_error *err);

/* Rows first .. first + n of dimension 0; n_dims >= 1, in range. */
struct comma_tensor comma_tensor_rows(const struct comma_tensor *t, size_t first, size_t n);

/* A 2-D tensor with its dimensions swapped; nothing is copied. */
struct comma_tensor comma_tensor_transposed(const struct comma_tensor *t);

/* A name out of a file as a message may show it: control characters replaced, long ones cut with "...". Use it as
 * comma_shown_name(t->name).text inside one call. */
struct comma_shown_name {
    char text[100];
};
struct comma_shown_name comma_shown_name(const char *name);

/* ---- a file's tensors ---- */

size_t comma_tensors_size(const struct comma_tensors *ts);
const struct comma_tensor *comma_tensors_at(const struct comma_tensors *ts, size_t i); /* in the order of the bytes */
const struct comma_tensor *comma_tensors_find(const struct comma_tensors *ts, const char *name); /* NULL if absent */

/* Gives the memory of mapped pages back until they are read again: after the weights have been copied into another
 * form. Nothing becomes invalid. */
void comma_tensors_trim(const struct comma_tensors *ts);
void comma_tensors_close(struct comma_tensors *ts); /* NULL is fine */

#endif
