/* SPDX-License-Identifier: MIT */
/* json.h - jansson behind a budget. Inside models/ only.
 *
 * jansson needs up to 80 times the text's size in memory, so size, depth and the number of values are counted before
 * it sees the text. Duplicate keys are refused. */
#ifndef COMMA_MODELS_JSON_H
#define COMMA_MODELS_JSON_H

#include <jansson.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

struct comma_json_limits {
    size_t max_bytes, max_depth;
    size_t max_values; /* commas and opening brackets outside of strings */
};

/* Parses text, which must be an object; *out is the caller's, json_decref(). name is used in messages.
 * Fails with COMMA_E_MODEL or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_json_parse(struct comma_text text, const char *name, struct comma_json_limits limits, json_t **out,
                      struct comma_error *err);

/* The limits of config.json and its like: 1 MiB, depth 16, 20,000 values. */
struct comma_json_limits comma_json_config_limits(void);

#endif
