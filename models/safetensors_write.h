/* SPDX-License-Identifier: MIT */
/* safetensors_write.h - writes a safetensors file tensor by tensor, and reads one back against what it should hold.
 * Inside models/ only. */
#ifndef COMMA_MODELS_SAFETENSORS_WRITE_H
#define COMMA_MODELS_SAFETENSORS_WRITE_H

#include "models/tensor.h"

/* A tensor to be stored: a view of any floating dtype, written row-major as dtype. */
struct comma_stored_tensor {
    char *name;
    enum comma_dtype dtype; /* F32, F16 or BF16 */
    struct comma_tensor view;
};

struct comma_write_options {
    bool allow_nan; /* else NaN and infinities are refused by name */
    bool (*step)(void *user, size_t bytes,
                 struct comma_error *err); /* so many bytes more; false: stop. NULL: not asked */
    void *user;
};

/* Writes items [n] to fd, in their order; path is used in messages. A value that is finite and becomes infinite in its
 * dtype is refused whatever the options say. Fails with COMMA_E_MODEL, COMMA_E_IO, COMMA_E_NOMEM, or as step did. */
COMMA_MUST_CHECK
bool comma_safetensors_write(int fd, const char *path, const struct comma_stored_tensor *items, size_t n,
                             const struct comma_write_options *options, struct comma_error *err);

/* Compares stored, a file that was read back, with items: the same names, and the values that the views have in that
 * dtype, bit for bit but for NaN. Fails with COMMA_E_IO naming the tensor. */
COMMA_MUST_CHECK
bool comma_safetensors_compare(const struct comma_tensors *stored, const char *path,
                               const struct comma_stored_tensor *items, size_t n, struct comma_error *err);

#endif
