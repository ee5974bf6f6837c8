/* SPDX-License-Identifier: MIT */
/* pickle.c - any bytes as a pickle. */
#include "models/pickle.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct comma_pickle p = { 0 };
    struct comma_error err;

    if (!comma_pickle_parse((struct comma_bytes){ data, size }, "fuzz", &p, &err))
        return 0;
    (void)comma_pickle_get(&p, &p.values[p.root], "state_dict");
    for (uint32_t i = 0; i < p.n_values; i++)
        for (uint32_t j = 0; comma_pickle_item(&p, &p.values[i], j); j++)
            ;
    comma_pickle_finish(&p);
    return 0;
}
