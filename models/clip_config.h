/* SPDX-License-Identifier: MIT */
/* clip_config.h - config.json and preprocessor_config.json against the sizes that the tensors have. Inside models/
 * only.
 */
#ifndef COMMA_MODELS_CLIP_CONFIG_H
#define COMMA_MODELS_CLIP_CONFIG_H

#include "models/clip.h"

/* Where a model's config comes from. */
struct comma_config_source {
    struct comma_bytes json; /* data NULL: there is none, and OpenAI's values are assumed (SPEC 2.1) */
    const char *name;        /* of the file, for messages */
    bool open_clip;          /* open_clip_config.json, not CLIPConfig */
    bool from_openai;        /* the tensors show that the weights are OpenAI's, so that nothing is assumed about them */
    const struct comma_clip_claims *claims; /* NULL: none */
};

/* Fills in what tensors cannot tell (heads, activation, epsilon) and compares the rest with the file.
 *
 *   config  in: sizes by the tensors; out: complete
 *
 * Fails with COMMA_E_MODEL where the two contradict one another, COMMA_E_UNSUPPORTED for an unknown hidden_act,
 * COMMA_E_INPUT for a claim that cannot be. */
COMMA_MUST_CHECK
bool comma_clip_config_apply(const struct comma_config_source *source, struct comma_clip_config *config,
                             struct comma_error *err);

/* Mean and standard deviation; what else the file asks for must be what engine/preprocess.c does.
 *   json  data NULL: CLIP's values */
COMMA_MUST_CHECK
bool comma_preprocessor_config_apply(struct comma_bytes json, const char *name, struct comma_clip_config *config,
                                     struct comma_error *err);

#endif
