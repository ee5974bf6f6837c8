/* SPDX-License-Identifier: MIT */
/* vocab.c - see vocab.h. */
#include "models/vocab.h"

#include <string.h>

#include "models/json.h"

/* Lines with something in them, behind the header line. */
static size_t count_merges(struct comma_bytes file)
{
    const unsigned char *p = file.data, *end = file.data + file.size;
    size_t n = 0, line = 0;

    for (; p < end; line++) {
        const unsigned char *newline = memchr(p, '\n', (size_t)(end - p));
        const unsigned char *stop = newline ? newline : end;

        n += line > 0 && stop > p && *p != '\r';
        p = stop + 1;
    }
    return n;
}

static bool check_special(const json_t *vocab, const char *path, const char *token, size_t id, struct comma_error *err)
{
    const json_t *value = json_object_get(vocab, token);

    if (!json_is_integer(value) || json_integer_value(value) != (json_int_t)id)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s must have the id %zu: the last two rows of the token embedding",
                          path, token, id);
    return true;
}

bool comma_vocab_check(const struct comma_model_file *merges, const struct comma_model_file *vocab, size_t vocab_size,
                       struct comma_error *err)
{
    const struct comma_json_limits limits = { 64 << 20, 2, 2000000 };
    const size_t n_merges = merges->bytes.data ? count_merges(merges->bytes) : 0;
    json_t *json = NULL;
    bool ok;

    if (!merges->bytes.data)
        return true; /* images only: vocab.json is not used without the merges */
    if (vocab_size < COMMA_N_BASE_IDS || n_merges < vocab_size - COMMA_N_BASE_IDS)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu merges, but the token embedding of %zu rows needs its rows - %d",
                          merges->path, n_merges, vocab_size, COMMA_N_BASE_IDS);
    if (!vocab->bytes.data)
        return true;
    if (!comma_json_parse((struct comma_text){ (const char *)vocab->bytes.data, vocab->bytes.size }, vocab->path,
                          limits, &json, err))
        return false;
    if (json_object_size(json) != vocab_size)
        ok = comma_fail(err, COMMA_E_MODEL, "%s: %zu entries, but the token embedding has %zu rows", vocab->path,
                        json_object_size(json), vocab_size);
    else
        ok = check_special(json, vocab->path, "<|startoftext|>", vocab_size - 2, err) &&
             check_special(json, vocab->path, "<|endoftext|>", vocab_size - 1, err);
    json_decref(json);
    return ok;
}
