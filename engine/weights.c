/* SPDX-License-Identifier: MIT */
/* weights.c - see weights.h. */
#include "engine/weights.h"

#include <stdlib.h>

#include "engine/base/arena.h"

bool comma_weights_copy(float **out, const struct comma_tensor *t, struct comma_error *err)
{
    float *values = comma_alloc_floats(comma_tensor_count(t));

    if (!values)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %s", t->name);
    if (!comma_tensor_to_f32(t, values, err)) {
        free(values);
        return false;
    }
    *out = values;
    return true;
}

bool comma_weights_copy_role(float **out, const struct comma_clip *clip, enum comma_clip_role role,
                             struct comma_error *err)
{
    const struct comma_tensor t = comma_clip_tensor(clip, role);

    return comma_weights_copy(out, &t, err);
}
