/* SPDX-License-Identifier: MIT */
/* prompts.h - what a prompt-learning method comes down to once its generators have run: vectors per layer and tower.
 *
 * Each method (prompts_comma.c, ...) folds its tensors into this one form at load (SPEC 9 (1)); the towers know no
 * method. Plain CLIP is a zeroed struct. */
#ifndef COMMA_ENGINE_PROMPTS_H
#define COMMA_ENGINE_PROMPTS_H

#include "models/clip.h"

struct comma_prompts {
    /* Text (SPEC 6.1, 6.3): rows 1 .. n_text of the input are text_input, without which there are none; deep ones take
     * their place before later block applications. */
    size_t n_text, n_text_deep;
    float *text_input; /* [n_text, text width] */
    float *text_deep;  /* [n_text_deep, n_text, text width] */
    /* Vision: n_vision rows behind the patches; deep ones take their place before block i = 1 .. n_vision_deep. */
    size_t n_vision, n_vision_deep;
    float *vision_input; /* [n_vision, vision width], before ln_pre */
    float *vision_deep;  /* [n_vision_deep, n_vision, vision width] */
    /* CoOp (SPEC 10): where the class name stands among the learned rows; with class-specific contexts text_input is
     * [n_classes, n_text, text width] and only class_names can be labels. */
    enum comma_class_position { COMMA_CLASS_END, COMMA_CLASS_MIDDLE, COMMA_CLASS_FRONT } class_position;
    size_t n_classes; /* 0: one context for all */
    char **class_names;
    /* CoCoOp (SPEC 10): the context is shifted by a function of the image's feature, so texts belong to one image. */
    size_t meta_dim;                    /* 0: not so */
    float *meta_1_weight, *meta_1_bias; /* [meta_dim, embed_dim], [meta_dim] */
    float *meta_2_weight, *meta_2_bias; /* [text width, meta_dim], [text width] */
    /* The words around a label, and what stands behind it: "a photo of a" and ".". NULL: templates are used. */
    char *text_before, *text_after;
    /* SPEC 6.4: the text tower runs its blocks 0 .. layers - last_layer - 1, then block layers - last_layer
     * last_layer times. 0 means 1. */
    size_t last_layer;
};

/* Folds an adapter for a backbone of these sizes, by its method. Fails with COMMA_E_MODEL (tensors missing, or of
 * another backbone's width), COMMA_E_UNSUPPORTED (method) or COMMA_E_NOMEM, naming the tensor. */
COMMA_MUST_CHECK
bool comma_prompts_fold(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                        const struct comma_clip_config *config, struct comma_error *err);
void comma_prompts_finish(struct comma_prompts *p); /* a zeroed one is fine */

size_t comma_prompts_bytes(const struct comma_prompts *p, const struct comma_clip_config *config);

/* One method each: tensors to vectors; the words and last_layer are comma_prompts_fold's. */
COMMA_MUST_CHECK
bool comma_prompts_fold_comma(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                              const struct comma_clip_config *config, struct comma_error *err);

COMMA_MUST_CHECK
bool comma_prompts_fold_maple(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                              const struct comma_clip_config *config, struct comma_error *err);
COMMA_MUST_CHECK
bool comma_prompts_fold_ivlp(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                             const struct comma_clip_config *config, struct comma_error *err);
COMMA_MUST_CHECK
bool comma_prompts_fold_vpt(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                            const struct comma_clip_config *config, struct comma_error *err);

COMMA_MUST_CHECK
bool comma_prompts_fold_coop(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                             const struct comma_clip_config *config, struct comma_error *err);
COMMA_MUST_CHECK
bool comma_prompts_fold_cocoop(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                               const struct comma_clip_config *config, struct comma_error *err);

/* CoCoOp's context for an image: text_input + linear2(ReLU(linear1(feature))), the same shift for each row.
 *   feature  [embed_dim] of L2 norm 1;  out [n_text, text width] */
void comma_prompts_condition(const struct comma_prompts *p, const struct comma_clip_config *config,
                             const float *feature, float *out, float *scratch);

/* Floats of scratch for comma_prompts_condition(). */
size_t comma_prompts_condition_scratch(const struct comma_prompts *p, const struct comma_clip_config *config);

/* y[n, out] = x[n, in] w[out, in]^T + b[out]: the few small products of the generators. */
void comma_prompts_linear(float *y, const float *x, size_t n, size_t in, const float *w, const float *b, size_t out);

/* A tensor of the adapter as f32 in memory of its own (free()), its shape checked; for the methods' files.
 *   name   as in the file; "prompt_learner." in front is tried too */
COMMA_MUST_CHECK
bool comma_prompts_tensor(const struct comma_adapter_dir *adapter, const char *name, unsigned n_dims,
                          const size_t *shape, float **out, struct comma_error *err);

#endif
