/* SPDX-License-Identifier: MIT */
/* methods.h - the prompt-learning methods by their tensors' names (SPEC 2.5, 10). Inside models/ only; what the tensors
 * do is engine/prompts_*.c's. */
#ifndef COMMA_MODELS_METHODS_H
#define COMMA_MODELS_METHODS_H

#include "models/tensor.h"

/* "comma", "maple", "ivlp", "vpt", "coop" or "cocoop"; NULL if no prompts are there. */
const char *comma_method_detect(const struct comma_tensors *ts);

/* The learned context, with or without "prompt_learner." before it; NULL if there is none. */
const struct comma_tensor *comma_method_ctx(const struct comma_tensors *ts);

/* The embeddings of the prompts that were trained with, from SOS to the learned rows and from behind them on
 * (SPEC 2.5); NULL if they are not there. */
const struct comma_tensor *comma_method_token_prefix(const struct comma_tensors *ts);
const struct comma_tensor *comma_method_token_suffix(const struct comma_tensors *ts);

/* What the tensors say about a method's sizes.
 *   n_ctx     learned rows of the text input; of the image input for vpt
 *   depth     layers that take prompts, the input counted; of the deeper tower
 *   n_classes CoOp with a context for each class: how many; else 0
 * Fails with COMMA_E_MODEL (the sentence names the tensor), COMMA_E_UNSUPPORTED for an unknown method. */
struct comma_method_sizes {
    size_t n_ctx, depth, n_classes;
};
COMMA_MUST_CHECK
bool comma_method_measure(const char *method, const struct comma_tensors *ts, const char *file,
                          struct comma_method_sizes *out, struct comma_error *err);

/* True if a checkpoint's tensor belongs into the adapter: prompts and generators, not CLIP's own tensors, not the
 * embeddings of the training classes and not COMMA's stored image prompts, which are computed anew (SPEC 6.2). */
bool comma_method_keeps(const char *tensor);

#endif
