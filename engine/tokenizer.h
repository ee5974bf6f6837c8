/* SPDX-License-Identifier: MIT */
/* tokenizer.h - CLIP's byte-level BPE (SPEC 7): UTF-8 text in, token ids with SOS and EOT out.
 *
 * The text is cleaned as CLIP's own code cleans it (ftfy's certain repairs, HTML entities, white space, lower case)
 * before it is split. A tokenizer is read-only once made; threads may share it. */
#ifndef COMMA_ENGINE_TOKENIZER_H
#define COMMA_ENGINE_TOKENIZER_H

#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

/* A longer text is refused before anything is done with it. */
#define COMMA_MAX_TEXT_BYTES 65536

struct comma_tokenizer;

/* merges: a header line, then "left right" lines, of which the first vocab_size - 514 are used. The bytes are copied.
 * Fails with COMMA_E_MODEL (naming the line) or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_tokenizer_create(struct comma_bytes merges, size_t vocab_size, struct comma_tokenizer **out,
                            struct comma_error *err);
void comma_tokenizer_destroy(struct comma_tokenizer *t); /* NULL is fine */

/* Ids of text with SOS in front and EOT behind, no padding.
 *
 *   ids    out: [max_ids]
 *   n_ids  out: how many; when the text has more than max_ids, the number it would need, and the call fails
 *
 * Fails with COMMA_E_INPUT (not UTF-8; too many tokens: the sentence gives both numbers, not the text),
 * COMMA_E_LIMIT (more than COMMA_MAX_TEXT_BYTES) or COMMA_E_NOMEM. n_ids is also written when there are too many
 * tokens. The time is O(n log n) in the size of the text, whatever it holds. */
COMMA_MUST_CHECK
bool comma_tokenizer_encode(const struct comma_tokenizer *t, struct comma_text text, int32_t *ids, size_t max_ids,
                            size_t *n_ids, struct comma_error *err);

int32_t comma_tokenizer_sos(const struct comma_tokenizer *t); /* vocab_size - 2 */
int32_t comma_tokenizer_eot(const struct comma_tokenizer *t); /* vocab_size - 1: the largest id */

#endif
