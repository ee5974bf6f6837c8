/* SPDX-License-Identifier: MIT */
/* weights.h - small tensors (biases, norms, positions) as f32 in memory of their own. */
#ifndef COMMA_ENGINE_WEIGHTS_H
#define COMMA_ENGINE_WEIGHTS_H

#include "models/clip.h"

/* *out = all elements as f32, COMMA_ALIGN-aligned, to free(). Fails with COMMA_E_NOMEM or COMMA_E_MODEL by name. */
COMMA_MUST_CHECK
bool comma_weights_copy(float **out, const struct comma_tensor *t, struct comma_error *err);

/* The same for a role outside the blocks. */
COMMA_MUST_CHECK
bool comma_weights_copy_role(float **out, const struct comma_clip *clip, enum comma_clip_role role,
                             struct comma_error *err);

#endif
