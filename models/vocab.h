/* SPDX-License-Identifier: MIT */
/* vocab.h - whether a directory's tokenizer files fit the token embedding (the id rule of SPEC 7.1). Inside models/
 * only; the tokenizer itself is engine/tokenizer.c. */
#ifndef COMMA_MODELS_VOCAB_H
#define COMMA_MODELS_VOCAB_H

#include "models/hf_dir.h"

/* Ids that are no merges: 256 bytes, 256 bytes with an end mark, start and end of text. */
#define COMMA_N_BASE_IDS 514

/* Either file may be absent. Fails with COMMA_E_MODEL naming both numbers. */
COMMA_MUST_CHECK
bool comma_vocab_check(const struct comma_model_file *merges, const struct comma_model_file *vocab, size_t vocab_size,
                       struct comma_error *err);

#endif
