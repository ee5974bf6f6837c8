/* SPDX-License-Identifier: MIT */
/* tensor_list.h - how a reader makes a struct comma_tensors. Inside models/ only.
 *
 * create, own what the data lies in, add each tensor, seal. One thread; after sealing it is read-only. */
#ifndef COMMA_MODELS_TENSOR_LIST_H
#define COMMA_MODELS_TENSOR_LIST_H

#include "engine/base/map.h"
#include "models/tensor.h"

#define COMMA_MAX_TENSORS 20000 /* bigG, the largest CLIP, has 1,300 */

/* Empty; file is used in messages and copied. Fails with COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_tensors_create(const char *file, struct comma_tensors **out, struct comma_error *err);

/* Hands over a mapping or heap memory that tensors point into; freed with the list, also when this fails. */
COMMA_MUST_CHECK
bool comma_tensors_own_map(struct comma_tensors *ts, struct comma_map map, struct comma_error *err);
COMMA_MUST_CHECK
bool comma_tensors_own_memory(struct comma_tensors *ts, void *memory, struct comma_error *err);

/* Adds a view under a name (copied; t->name is not used). The caller has checked that it lies inside its file. */
COMMA_MUST_CHECK
bool comma_tensors_add(struct comma_tensors *ts, const char *name, const struct comma_tensor *t,
                       struct comma_error *err);

/* Moves all of from, tensors and memory, behind those of ts; from is closed, also when this fails. */
COMMA_MUST_CHECK
bool comma_tensors_append(struct comma_tensors *ts, struct comma_tensors *from, struct comma_error *err);

/* Makes names findable; two equal names fail with COMMA_E_MODEL. */
COMMA_MUST_CHECK
bool comma_tensors_seal(struct comma_tensors *ts, struct comma_error *err);

/* Fills strides for row-major order from n_dims and shape. */
void comma_tensor_set_strides(struct comma_tensor *t);

#endif
