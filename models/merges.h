/* SPDX-License-Identifier: MIT */
/* merges.h - CLIP's list of BPE merges, as it is handed round and as a model directory holds it, and the tokens that it
 * makes (SPEC 7.1, "Ids"). Inside models/ and for the converter; what is done with the merges is engine/bpe.c's. */
#ifndef COMMA_MODELS_MERGES_H
#define COMMA_MODELS_MERGES_H

#include "models/hf_dir.h"

/* Reads bpe_simple_vocab_16e6.txt (plain or gzip) or a merges.txt, and keeps the merges that a vocabulary of that size
 * uses: its rows without the 512 bytes, start and end. out->bytes is then a merges.txt.
 * Fails with COMMA_E_MODEL (naming the line, from 1), COMMA_E_IO or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_merges_load(const char *path, size_t vocab_size, struct comma_model_file *out, struct comma_error *err);

/* The same of a list in memory: the text of a merges.txt is cut to what the vocabulary uses. name is used in messages
 * and becomes out->path. */
COMMA_MUST_CHECK
bool comma_merges_cut(struct comma_bytes list, const char *name, size_t vocab_size, struct comma_model_file *out,
                      struct comma_error *err);

/* The spelling of every token, as vocab.json has it: one printable character a byte, "</w>" at the end of a word. */
struct comma_spellings {
    char *text; /* all of them, each with its NUL */
    size_t *at; /* [n] where in text */
    size_t n;
};

/* merges: what comma_merges_cut() made for this vocabulary. Fails with COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_spellings_make(struct comma_bytes merges, size_t vocab_size, struct comma_spellings *out,
                          struct comma_error *err);
void comma_spellings_finish(struct comma_spellings *s); /* a zeroed one is fine */

/* Appends the text of a token to out [size], NUL-terminated: bytes in place of their characters, a blank for "</w>".
 * False if it does not fit. Start and end of text have none. */
bool comma_spellings_append(const struct comma_spellings *s, size_t id, char *out, size_t size);

#endif
