/* SPDX-License-Identifier: MIT */
/* tokenizer_json.h - the BPE merges out of Hugging Face's tokenizer.json, as the text of a merges.txt. Inside models/
 * only. */
#ifndef COMMA_MODELS_TOKENIZER_JSON_H
#define COMMA_MODELS_TOKENIZER_JSON_H

#include "models/hf_dir.h"

/* Fills merges->memory and ->bytes from file. Fails with COMMA_E_MODEL, COMMA_E_UNSUPPORTED (not BPE) or
 * COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_tokenizer_json_merges(const struct comma_model_file *file, struct comma_model_file *merges,
                                 struct comma_error *err);

#endif
