/* SPDX-License-Identifier: MIT */
/* clip_config.h - config.json and preprocessor_config.json against the sizes that the tensors have. Inside models/
 * only.
 */
#ifndef COMMA_MODELS_CLIP_CONFIG_H
#define COMMA_MODELS_CLIP_CONFIG_H

#include "models/clip.h"

/* Fills in what tensors cannot tell (heads, activation, epsilon) from config.json and compares the rest with it.
 *
 *   json    the file's bytes; data NULL: there is none, and OpenAI's values are assumed (SPEC 2.1)
 *   config  in: sizes by the tensors; out: complete
 *
 * Fails with COMMA_E_MODEL where the two contradict one another, COMMA_E_UNSUPPORTED for an unknown hidden_act. */
COMMA_MUST_CHECK
bool comma_clip_config_apply(struct comma_bytes json, const char *name, struct comma_clip_config *config,
                             struct comma_error *err);

/* Mean and standard deviation; what else the file asks for must be what engine/preprocess.c does.
 *   json  data NULL: CLIP's values */
COMMA_MUST_CHECK
bool comma_preprocessor_config_apply(struct comma_bytes json, const char *name, struct comma_clip_config *config,
                                     struct comma_error *err);

#endif
