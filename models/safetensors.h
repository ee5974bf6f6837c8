/* SPDX-License-Identifier: MIT */
/* safetensors.h - the safetensors format (SPEC 2.2): a JSON header, then the bytes. The file is treated as hostile. */
#ifndef COMMA_MODELS_SAFETENSORS_H
#define COMMA_MODELS_SAFETENSORS_H

#include "engine/base/text.h"
#include "models/tensor.h"

/* Maps and checks a file; the tensors point into the mapping, which *out owns. Refused by name: header past the end or
 * over 16 MiB, bad JSON, duplicate keys, unknown dtype, shape that does not match its bytes, offsets past the end,
 * overlaps, holes, more than 20,000 tensors. Tensors come in the order of their bytes.
 * Fails with COMMA_E_MODEL, COMMA_E_IO or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_safetensors_open(const char *path, struct comma_tensors **out, struct comma_error *err);

/* The same from memory, which the caller keeps alive; name is used in messages. */
COMMA_MUST_CHECK
bool comma_safetensors_parse(struct comma_bytes file, const char *name, struct comma_tensors **out,
                             struct comma_error *err);

#endif
