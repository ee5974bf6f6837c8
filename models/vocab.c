/* SPDX-License-Identifier: MIT */
/* vocab.c - see vocab.h. */
#include "models/vocab.h"

#include <string.h>

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

/* Finds "token": id in vocab.json's text. The file is not parsed: 49,408 entries cost more than the rest of the load,
 * and nothing but these two is read from it. */
static bool check_special(const struct comma_model_file *vocab, const char *token, size_t id, struct comma_error *err)
{
    const unsigned char *end = vocab->bytes.data + vocab->bytes.size;
    const unsigned char *p = memmem(vocab->bytes.data, vocab->bytes.size, token, strlen(token));
    size_t value = 0, digits = 0;

    if (p)
        for (p += strlen(token); p < end && (*p == ' ' || *p == ':');)
            p++;
    for (; p && p < end && *p >= '0' && *p <= '9' && digits < 9; digits++)
        value = value * 10 + (size_t)(*p++ - '0');
    if (!digits || value != id)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s must have the id %zu: the last two rows of the token embedding",
                          vocab->path, token, id);
    return true;
}

bool comma_vocab_check(const struct comma_model_file *merges, const struct comma_model_file *vocab, size_t vocab_size,
                       struct comma_error *err)
{
    const size_t n_merges = merges->bytes.data ? count_merges(merges->bytes) : 0;

    if (!merges->bytes.data)
        return true; /* images only: vocab.json is not used without the merges */
    if (vocab_size < COMMA_N_BASE_IDS || n_merges < vocab_size - COMMA_N_BASE_IDS)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu merges, but the token embedding of %zu rows needs its rows - %d",
                          merges->path, n_merges, vocab_size, COMMA_N_BASE_IDS);
    if (!vocab->bytes.data)
        return true;
    return check_special(vocab, "\"<|startoftext|>\"", vocab_size - 2, err) &&
           check_special(vocab, "\"<|endoftext|>\"", vocab_size - 1, err);
}
