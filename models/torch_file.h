/* SPDX-License-Identifier: MIT */
/* torch_file.h - a PyTorch checkpoint's tensors: what torch.save and torch.jit.save write (SPEC 2.2).
 *
 * Of a dictionary with a "state_dict" in it (training checkpoints) only that is read; of a plain dictionary its
 * tensors; of a TorchScript archive the tree of modules, names joined with dots. Nothing in the file is executed. The
 * tensors are views of the mapping, which *out owns. */
#ifndef COMMA_MODELS_TORCH_FILE_H
#define COMMA_MODELS_TORCH_FILE_H

#include "engine/base/text.h"
#include "models/tensor.h"

/* Fails with COMMA_E_MODEL, COMMA_E_UNSUPPORTED, COMMA_E_IO or COMMA_E_NOMEM; the sentence names the tensor. */
COMMA_MUST_CHECK
bool comma_torch_open(const char *path, struct comma_tensors **out, struct comma_error *err);

/* The same from memory, which the caller keeps alive; name is used in messages. */
COMMA_MUST_CHECK
bool comma_torch_parse(struct comma_bytes file, const char *name, struct comma_tensors **out, struct comma_error *err);

/* Opens a checkpoint of either kind: the file's first bytes tell torch's from safetensors. */
COMMA_MUST_CHECK
bool comma_checkpoint_open(const char *path, struct comma_tensors **out, struct comma_error *err);

/* "torch" or "safetensors", by the first bytes; NULL if the file cannot be read. */
const char *comma_checkpoint_container(const char *path);

#endif
