/* SPDX-License-Identifier: MIT */
/* golden_text.h - golden files for the tests of the tokenizer, found from $COMMA_GOLDEN, which meson sets.
 *
 * All of it asserts instead of failing. */
#ifndef COMMA_TESTS_GOLDEN_TEXT_H
#define COMMA_TESTS_GOLDEN_TEXT_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "engine/base/text.h"

/* The path of a file below $COMMA_GOLDEN; good until the next call. */
static inline const char *golden_path(const char *name)
{
    static char path[4096];
    const char *folder = getenv("COMMA_GOLDEN");
    const int n = snprintf(path, sizeof(path), "%s/%s", folder ? folder : "tests/golden/data", name);

    assert(n > 0 && (size_t)n < sizeof(path));
    return path;
}

/* The caller gives it back with json_decref(). */
static inline json_t *golden_json(const char *name)
{
    json_error_t error;
    json_t *json = json_load_file(golden_path(name), 0, &error);

    if (!json)
        fprintf(stderr, "%s: %s\n", name, error.text);
    assert(json);
    return json;
}

static inline struct comma_text json_text(const json_t *string)
{
    assert(json_is_string(string));
    return (struct comma_text){ json_string_value(string), json_string_length(string) };
}

#endif
