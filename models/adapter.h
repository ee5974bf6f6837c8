/* SPDX-License-Identifier: MIT */
/* adapter.h - the adapters that lie beside a model: a folder's, or those in the binary. Inside models/ only. */
#ifndef COMMA_MODELS_ADAPTER_H
#define COMMA_MODELS_ADAPTER_H

#include "models/clip.h"

struct comma_adapter_list {
    char *dir;    /* .../adapters; NULL for the embedded ones */
    char **names; /* [n], sorted */
    size_t n;
};

/* The sub-directories of model_dir/adapters that hold an adapter's weights; none if there is no such folder. */
COMMA_MUST_CHECK
bool comma_adapter_list_directory(const char *model_dir, struct comma_adapter_list *out, struct comma_error *err);
COMMA_MUST_CHECK
bool comma_adapter_list_embedded(struct comma_adapter_list *out, struct comma_error *err);
void comma_adapter_list_finish(struct comma_adapter_list *list); /* a zeroed one is fine */

COMMA_MUST_CHECK
bool comma_adapter_list_open(const struct comma_adapter_list *list, size_t i, struct comma_adapter_dir *out,
                             struct comma_error *err);

/* Reads adapter_config.json's text; data NULL: there is none, and *out has the defaults. On failure *out is to be
 * finished, too. */
COMMA_MUST_CHECK
bool comma_adapter_config_parse(struct comma_bytes json, const char *path, struct comma_adapter_config *out,
                                struct comma_error *err);
void comma_adapter_config_finish(struct comma_adapter_config *config); /* a zeroed one is fine */

#endif
