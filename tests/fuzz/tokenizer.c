/* SPDX-License-Identifier: MIT */
/* tokenizer.c - any bytes as a list of merges, any bytes as a text.
 *
 * An input is one byte that says how many merges the vocabulary wants, the list of merges, a byte 0xFF, which UTF-8
 * never has, and the text. Held: what is accepted gives ids below the vocabulary's size between SOS and EOT, and twice
 * the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer.h"
#include "tests/fuzz/fuzz.h"

#define MAX_IDS 4096

static void require(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t ids[MAX_IDS], again[MAX_IDS];
    struct comma_tokenizer *t = NULL;
    struct comma_error err = { 0 };
    struct comma_bytes merges;
    struct comma_text text;
    const uint8_t *mark;
    size_t n = 0, n_again = 0;

    if (size < 1 || !(mark = memchr(data + 1, 0xFF, size - 1)))
        return 0;
    merges = (struct comma_bytes){ data + 1, (size_t)(mark - data) - 1 };
    text = (struct comma_text){ (const char *)mark + 1, size - merges.size - 2 };
    if (!comma_tokenizer_create(merges, 514 + (size_t)data[0], &t, &err)) {
        require(err.code == COMMA_E_MODEL && err.message[0] != '\0');
        /* the text is worth a try all the same */
        require(comma_tokenizer_create((struct comma_bytes){ (const uint8_t *)"", 0 }, 514, &t, &err));
    }
    if (comma_tokenizer_encode(t, text, ids, MAX_IDS, &n, &err)) {
        require(n >= 2 && n <= MAX_IDS && ids[0] == comma_tokenizer_sos(t) && ids[n - 1] == comma_tokenizer_eot(t));
        for (size_t i = 0; i < n; i++)
            require(ids[i] >= 0 && ids[i] <= comma_tokenizer_eot(t));
        require(comma_tokenizer_encode(t, text, again, MAX_IDS, &n_again, &err));
        require(n == n_again && memcmp(ids, again, n * sizeof(ids[0])) == 0);
    } else {
        require(err.code == COMMA_E_INPUT || err.code == COMMA_E_LIMIT);
    }
    comma_tokenizer_destroy(t);
    return 0;
}
