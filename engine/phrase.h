/* SPDX-License-Identifier: MIT */
/* phrase.h - the words round a label: a template's, or those of an adapter's prompt, with their prefix computed.
 *
 * A phrase is read-only once made. The cache keeps the phrases of templates that requests bring, bounded in number. */
#ifndef COMMA_ENGINE_PHRASE_H
#define COMMA_ENGINE_PHRASE_H

#include "engine/base/text.h"
#include "engine/text.h"
#include "engine/tokenizer.h"

struct comma_phrase {
    char *before, *after; /* "a photo of a ", "."; NUL-terminated */
    size_t n_before;      /* rows of the prefix */
    int32_t *ids;         /* [n_words] SOS and before's tokens, before learned rows took their places */
    struct comma_prefix prefix;
    const struct comma_prompts *prompts; /* borrowed: where the class name stands among learned rows */
    size_t n_words; /* tokens of before, SOS included; n_before unless the class name stands further in front */
    bool learned;   /* the prefix has learned rows: a text that does not begin with it cannot be encoded */
};

/* Makes a phrase. Where prompts has learned rows, before must have at least as many tokens: fails with COMMA_E_MODEL
 * otherwise (SPEC 6.1: the authors' code would overwrite the label). */
COMMA_MUST_CHECK
bool comma_phrase_make(struct comma_phrase *p, const struct comma_text_tower *tower,
                       const struct comma_tokenizer *tokenizer, struct comma_worker *w,
                       const struct comma_prompts *prompts, struct comma_text before, struct comma_text after,
                       struct comma_error *err);
void comma_phrase_finish(struct comma_phrase *p); /* a zeroed one is fine */

/* Ids of the phrase round a label that stand behind the prefix, up to and with the first EOT.
 *
 *   spaces  '_' in the label counts as a space, as the authors' code has it
 *   room    [2 context_length]
 *   ids     out: into room
 *   prefix  out: the phrase's, or sos where the text does not begin with it
 *
 * Fails with COMMA_E_INPUT naming the label where it is none of an adapter's own classes, or where the whole is longer
 * than the context or not UTF-8. */
COMMA_MUST_CHECK
bool comma_phrase_ids(const struct comma_phrase *p, const struct comma_text_tower *tower,
                      const struct comma_tokenizer *tokenizer, const struct comma_prefix *sos, struct comma_text label,
                      bool spaces, int32_t *room, const int32_t **ids, size_t *n, const struct comma_prefix **prefix,
                      struct comma_error *err);

/* ---- phrases of templates ---- */

struct comma_phrase_cache;

COMMA_MUST_CHECK
bool comma_phrase_cache_create(size_t max_phrases, struct comma_phrase_cache **out, struct comma_error *err);
void comma_phrase_cache_destroy(struct comma_phrase_cache *cache); /* NULL is fine */

/* The phrase of a template with one {}; made on w if it is new. Give it back with _put. Fails with COMMA_E_INPUT where
 * the template has no {} or two, or leaves no room in the context. */
COMMA_MUST_CHECK
bool comma_phrase_cache_get(struct comma_phrase_cache *cache, const struct comma_text_tower *tower,
                            const struct comma_tokenizer *tokenizer, struct comma_worker *w, struct comma_text template,
                            const struct comma_phrase **out, struct comma_error *err);
void comma_phrase_cache_put(struct comma_phrase_cache *cache, const struct comma_phrase *p);

#endif
