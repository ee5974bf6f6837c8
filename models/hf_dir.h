/* SPDX-License-Identifier: MIT */
/* hf_dir.h - the files of a model directory in Hugging Face layout, found and mapped but not yet understood.
 * Inside models/ only. */
#ifndef COMMA_MODELS_HF_DIR_H
#define COMMA_MODELS_HF_DIR_H

#include "engine/base/map.h"
#include "engine/base/text.h"
#include "models/tensor.h"

/* One file: data NULL if it is not there. */
struct comma_model_file {
    char *path; /* for messages */
    struct comma_bytes bytes;
    struct comma_map map; /* empty if bytes lie elsewhere */
    void *memory;         /* what bytes lie in where they were made here; free() */
};

struct comma_model_files {
    char *weights_path; /* for messages */
    struct comma_tensors *tensors;
    struct comma_model_file config, preprocessor, merges, vocab;
    bool open_clip_config; /* config is open_clip_config.json, not config.json */
};

/* Opens what is in dir; the weights must be there. Fails with COMMA_E_MODEL, COMMA_E_IO or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_model_files_open(const char *dir, struct comma_model_files *out, struct comma_error *err);
/* The same of one file with weights, which comes without all others but for an open_clip_config.json beside it. */
COMMA_MUST_CHECK
bool comma_model_files_open_file(const char *path, struct comma_model_files *out, struct comma_error *err);
void comma_model_files_close(struct comma_model_files *files); /* a zeroed one is fine */

/* The same of the model in the binary. */
COMMA_MUST_CHECK
bool comma_model_files_embedded(struct comma_model_files *out, struct comma_error *err);

/* The embedded model's adapters: name NULL behind the last. */
struct comma_embedded_adapter {
    const char *name;
    struct comma_bytes config, tensors;
};
struct comma_embedded_adapter comma_embedded_adapter_at(size_t i);

/* Maps dir/name if it is there; *out zeroed but for its path if not. */
COMMA_MUST_CHECK
bool comma_model_file_open(const char *dir, const char *name, struct comma_model_file *out, struct comma_error *err);
void comma_model_file_close(struct comma_model_file *file); /* a zeroed one is fine */

/* "dir/name" in heap memory. NULL and an error when memory ran out. */
char *comma_path_join(const char *dir, const char *name, struct comma_error *err);

#endif
