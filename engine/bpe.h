/* SPDX-License-Identifier: MIT */
/* bpe.h - byte pair encoding of one word by a list of merges (SPEC 7.1 step 4).
 *
 * Ids: 0..255 the bytes in CLIP's order, 256..511 the same with the end mark, 512 + m what merge m makes.
 * Read-only once made; threads may share it. */
#ifndef COMMA_ENGINE_BPE_H
#define COMMA_ENGINE_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

#define COMMA_BPE_BYTE_IDS 512

struct comma_bpe;

/* Reads the first n_merges (below 2^30) merges: a header line, then "left right" lines. The bytes are copied.
 *
 * The list comes from outside, so every symbol of a line must be a byte or made by an earlier line, and no two lines
 * may make the same one. Fails with COMMA_E_MODEL, naming the line (from 1, as editors count), or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_bpe_create(struct comma_bytes merges, size_t n_merges, struct comma_bpe **out, struct comma_error *err);
void comma_bpe_destroy(struct comma_bpe *bpe); /* NULL is fine */

/* Bytes of scratch, aligned as malloc() aligns, that a word of so many bytes needs; false where that overflows. */
COMMA_MUST_CHECK
bool comma_bpe_scratch_bytes(size_t word_size, size_t *bytes);

/* Ids of word, at least one byte, written to ids [word.size]; returns how many. O(n log n) in its size. */
size_t comma_bpe_encode(const struct comma_bpe *bpe, struct comma_bytes word, void *scratch, int32_t *ids);

#endif
