/* SPDX-License-Identifier: MIT */
/* torch_file.c - any bytes as a checkpoint: archive, pickle and tensors; of what is accepted, every element is read. */
#include <stdlib.h>

#include "models/torch_file.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct comma_tensors *ts = NULL;
    struct comma_error err;

    if (!comma_torch_parse((struct comma_bytes){ data, size }, "fuzz", &ts, &err))
        return 0;
    for (size_t i = 0; i < comma_tensors_size(ts); i++) {
        const struct comma_tensor *t = comma_tensors_at(ts, i);
        float *out = malloc((comma_tensor_count(t) + 1) * sizeof(*out));

        if (out && comma_dtype_is_float(t->dtype) && !comma_tensor_to_f32(t, out, &err))
            abort();
        free(out);
    }
    comma_tensors_close(ts);
    return 0;
}
