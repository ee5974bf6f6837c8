/* SPDX-License-Identifier: MIT */
/* tokenizer_json.c - see tokenizer_json.h. */
#include "models/tokenizer_json.h"

#include <stdlib.h>
#include <string.h>

#include "models/json.h"

static const char header[] = "#version: 0.2\n";

/* A merge is "left right" or ["left", "right"]; out is NULL to measure. Returns its bytes with the newline, 0 if it is
 * neither. */
static size_t put_merge(const json_t *merge, char *out)
{
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    size_t n;

    if (json_is_string(merge)) {
        n = json_string_length(merge);
        if (out)
            memcpy(out, json_string_value(merge), n);
    } else if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right)) {
        n = json_string_length(left) + 1 + json_string_length(right);
        if (out) {
            memcpy(out, json_string_value(left), json_string_length(left));
            out[json_string_length(left)] = ' ';
            memcpy(out + json_string_length(left) + 1, json_string_value(right), json_string_length(right));
        }
    } else {
        return 0;
    }
    if (out)
        out[n] = '\n';
    return n + 1;
}

static bool write_merges(const json_t *list, const char *path, struct comma_model_file *merges, struct comma_error *err)
{
    size_t size = sizeof(header) - 1, i;
    const json_t *merge;
    char *text, *p;

    json_array_foreach(list, i, merge)
    {
        const size_t n = put_merge(merge, NULL);

        if (n == 0)
            return comma_fail(err, COMMA_E_MODEL, "%s: merge %zu is no pair of strings", path, i);
        size += n;
    }
    if (!(text = malloc(size)))
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);
    memcpy(text, header, sizeof(header) - 1);
    p = text + sizeof(header) - 1;
    json_array_foreach(list, i, merge) p += put_merge(merge, p);
    merges->memory = text;
    merges->bytes = (struct comma_bytes){ (unsigned char *)text, size };
    return true;
}

bool comma_tokenizer_json_merges(const struct comma_model_file *file, struct comma_model_file *merges,
                                 struct comma_error *err)
{
    const struct comma_json_limits limits = { 32 << 20, 16, 1000000 };
    const json_t *model, *type, *list;
    json_t *json = NULL;
    bool ok;

    if (!comma_json_parse((struct comma_text){ (const char *)file->bytes.data, file->bytes.size }, file->path, limits,
                          &json, err))
        return false;
    model = json_object_get(json, "model");
    type = json_object_get(model, "type");
    list = json_object_get(model, "merges");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0))
        ok = comma_fail(err, COMMA_E_UNSUPPORTED, "%s: no byte-level BPE, which is CLIP's tokenizer", file->path);
    else if (!json_is_array(list))
        ok = comma_fail(err, COMMA_E_MODEL, "%s: model.merges is missing", file->path);
    else
        ok = write_merges(list, file->path, merges, err);
    json_decref(json);
    return ok;
}
