/* SPDX-License-Identifier: MIT */
/* merges.c - any bytes as a list of merges, plain or gzip, cut to a small vocabulary; of what is accepted, every token
 * is spelt. */
#include <stdlib.h>
#include <string.h>

#include "models/gzip.h"
#include "models/merges.h"
#include "tests/fuzz/fuzz.h"

#define VOCAB_SIZE (514 + 8)

static void require(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct comma_bytes list = { data, size };
    struct comma_model_file merges = { 0 };
    struct comma_spellings s = { 0 };
    struct comma_error err;
    unsigned char *unpacked = NULL;
    char text[4096];

    if (comma_gzip_detect(list)) {
        if (!comma_gzip_unpack(list, "fuzz", 1 << 16, &unpacked, &list.size, &err))
            return 0;
        list.data = unpacked;
        require(list.size <= 1 << 16);
    }
    if (comma_merges_cut(list, "fuzz", VOCAB_SIZE, &merges, &err)) {
        require(comma_spellings_make(merges.bytes, VOCAB_SIZE, &s, &err) && s.n == VOCAB_SIZE);
        for (size_t id = 0; id < s.n; id++) {
            text[0] = '\0';
            require(comma_utf8_valid(s.text + s.at[id], strlen(s.text + s.at[id])));
            (void)comma_spellings_append(&s, id, text, sizeof(text));
            require(strlen(text) < sizeof(text));
        }
    }
    comma_spellings_finish(&s);
    comma_model_file_close(&merges);
    free(unpacked);
    return 0;
}
