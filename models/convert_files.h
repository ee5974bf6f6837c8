/* SPDX-License-Identifier: MIT */
/* convert_files.h - the two kinds of file that convert.c and convert_adapter.c write. Inside models/ only. */
#ifndef COMMA_MODELS_CONVERT_FILES_H
#define COMMA_MODELS_CONVERT_FILES_H

#include <jansson.h>

#include "models/safetensors_write.h"
#include "models/staging.h"

/* Writes name, a safetensors file of items [n], reads it back and compares. */
COMMA_MUST_CHECK
bool comma_convert_weights(const struct comma_stored_tensor *items, size_t n, struct comma_staging *staging,
                           const char *name, const struct comma_write_options *options, struct comma_error *err);

/* Writes json, which is given up, as name. json NULL: memory ran out while it was made. flags: json_dumps()'s. */
COMMA_MUST_CHECK
bool comma_convert_json(json_t *json, struct comma_staging *staging, const char *name, size_t flags,
                        struct comma_error *err);

#endif
