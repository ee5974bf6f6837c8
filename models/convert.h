/* SPDX-License-Identifier: MIT */
/* convert.h - what comma convert writes: a model directory in Hugging Face layout and adapter directories (DESIGN
 * "Models on disk"), and whether a prompt-learning checkpoint was trained on a backbone. */
#ifndef COMMA_MODELS_CONVERT_H
#define COMMA_MODELS_CONVERT_H

#include "models/clip.h"
#include "models/safetensors_write.h"
#include "models/staging.h"

/* How weights are stored. */
struct comma_store_options {
    bool as_stored;         /* each in its own dtype, but F64 as F32; else in dtype */
    enum comma_dtype dtype; /* F32, F16 or BF16. The logit scale stays F32: rounding it would scale all logits */
    struct comma_write_options write;
};

/* Bytes that comma_convert_model() will write as weights, for a progress bar. */
size_t comma_convert_weight_bytes(const struct comma_clip *clip, const struct comma_store_options *options);

/* Writes config.json, model.safetensors, preprocessor_config.json and, if the model has merges, merges.txt and
 * vocab.json into the staging directory; the weights are read back and compared. Fails with COMMA_E_MODEL, COMMA_E_IO,
 * COMMA_E_NOMEM, or as options->write.step did. */
COMMA_MUST_CHECK
bool comma_convert_model(const struct comma_clip *clip, struct comma_staging *staging,
                         const struct comma_store_options *options, struct comma_error *err);

/* Writes adapter_config.json and adapter_model.safetensors into folder of the staging directory, "" for itself: only
 * the tensors that inference needs, in the dtypes that they have. They are read back and compared. */
COMMA_MUST_CHECK
bool comma_convert_adapter(const struct comma_adapter_dir *adapter, struct comma_staging *staging, const char *folder,
                           const struct comma_write_options *options, struct comma_error *err);

/* Compares what a checkpoint carries of its backbone with clip: the logit scale, the tensors outside the blocks and the
 * first block of each tower, or for CoOp and CoCoOp the embedding of SOS. *n_compared: of how many tensors; 0: it
 * carries none. Values may differ by the rounding of 16-bit formats. Fails with COMMA_E_MODEL, naming the tensor. */
COMMA_MUST_CHECK
bool comma_convert_match(const struct comma_tensors *checkpoint, const char *file, const struct comma_clip *clip,
                         size_t *n_compared, struct comma_error *err);

/* "ViT-B/16", "ViT-L/14@336px" by the image tower's sizes, "" for others. image_size 0: not known.
 *   out  [size] */
void comma_convert_backbone_name(size_t width, size_t patch_size, size_t image_size, char *out, size_t size);

#endif
