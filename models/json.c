/* SPDX-License-Identifier: MIT */
/* json.c - see json.h. */
#include "models/json.h"

struct comma_json_limits comma_json_config_limits(void)
{
    return (struct comma_json_limits){ .max_bytes = 1 << 20, .max_depth = 16, .max_values = 20000 };
}

/* One pass over the text. What is no JSON may be miscounted, but never too low for what jansson would allocate: it
 * stops at the first error, and up to there strings and brackets are seen as it sees them. */
static bool within_budget(struct comma_text text, const char *name, struct comma_json_limits limits,
                          struct comma_error *err)
{
    size_t depth = 0, values = 0;
    bool in_string = false;

    if (text.size > limits.max_bytes)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu bytes of JSON; at most %zu are read", name, text.size,
                          limits.max_bytes);
    for (size_t i = 0; i < text.size; i++) {
        const char c = text.data[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"')
            in_string = true;
        else if (c == '}' || c == ']')
            depth -= depth > 0;
        else if (c == ',')
            values++;
        else if (c == '{' || c == '[') {
            values++;
            if (++depth > limits.max_depth)
                return comma_fail(err, COMMA_E_MODEL, "%s: JSON nested deeper than %zu", name, limits.max_depth);
        }
        if (values > limits.max_values)
            return comma_fail(err, COMMA_E_MODEL, "%s: more than %zu JSON values", name, limits.max_values);
    }
    return true;
}

bool comma_json_parse(struct comma_text text, const char *name, struct comma_json_limits limits, json_t **out,
                      struct comma_error *err)
{
    json_error_t error;
    json_t *json;

    if (!within_budget(text, name, limits, err))
        return false;
    json = json_loadb(text.size > 0 ? text.data : "", text.size, JSON_REJECT_DUPLICATES, &error);
    if (!json && json_error_code(&error) == json_error_out_of_memory)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", name);
    if (!json) /* the position, not jansson's text, which quotes the file */
        return comma_fail(err, COMMA_E_MODEL, "%s: %s at line %d, column %d", name,
                          json_error_code(&error) == json_error_duplicate_key ? "the same JSON key twice" : "bad JSON",
                          error.line, error.column);
    if (!json_is_object(json)) {
        json_decref(json);
        return comma_fail(err, COMMA_E_MODEL, "%s: not a JSON object", name);
    }
    *out = json;
    return true;
}
