/* SPDX-License-Identifier: MIT */
/* convert_impl.h - the parts of comma_convert(): convert.c leads, convert_adapters.c opens what is to be bundled,
 * convert_words.c finds ctx_init, convert_trial.c encodes with source and result. */
#ifndef COMMA_ENGINE_CONVERT_IMPL_H
#define COMMA_ENGINE_CONVERT_IMPL_H

#include "engine/engine_impl.h"
#include "models/convert.h"

/* One adapter on its way into the result. */
struct comma_convert_item {
    char name[65];
    const char *path; /* for messages */
    struct comma_adapter_dir dir;
    bool from_checkpoint; /* else an adapter directory, which says all of itself */
};

struct comma_conversion {
    const struct comma_convert_options *options;
    struct comma_clip *clip;             /* the backbone; NULL for prompts alone without --model */
    struct comma_tokenizer *tokenizer;   /* its own; NULL: it has none */
    struct comma_convert_item *adapters; /* [n_adapters] */
    size_t n_adapters;
    struct comma_staging staging;
    size_t done, total; /* bytes, for the progress bar */
};

/* Tells the caller one sentence. */
void comma_convert_warn(const struct comma_conversion *c, const char *format, ...) COMMA_PRINTF(2, 3);

/* Asks the caller whether to go on, so many bytes later. Fails with COMMA_E_CANCELLED. */
COMMA_MUST_CHECK
bool comma_convert_step(struct comma_conversion *c, size_t bytes, struct comma_error *err);

/* Opens the adapters of the source's own folder and those of the options, under their names; backbone is the name that
 * the result will have, which none of them may bear. */
COMMA_MUST_CHECK
bool comma_convert_open_adapters(struct comma_conversion *c, const char *backbone, struct comma_error *err);

/* Opens one that is the whole result: c->clip may be NULL. Takes tensors over. */
COMMA_MUST_CHECK
bool comma_convert_open_lone(struct comma_conversion *c, struct comma_tensors *tensors, struct comma_error *err);

/* Holds item's ctx_init against the embeddings of the prompts it was trained with, and where nobody said one, takes the
 * one that they tell (SPEC 2.5). c->clip and c->tokenizer are there. Fails with COMMA_E_NOMEM only; what it finds out
 * is warned of. */
COMMA_MUST_CHECK
bool comma_convert_find_words(const struct comma_conversion *c, struct comma_convert_item *item,
                              struct comma_error *err);

/* Encodes a picture and a label with the backbone and with each adapter, from the source and from what was staged.
 * Gives c->clip up: it is NULL afterwards. *agreement: the smallest cosine between the two; 1 if some are no numbers.
 * Fails with COMMA_E_MODEL where they differ by more than the stored dtype explains, or are not finite. */
COMMA_MUST_CHECK
bool comma_convert_try_model(struct comma_conversion *c, double *agreement, struct comma_error *err);

/* The same of one adapter over the model it was compared with. */
COMMA_MUST_CHECK
bool comma_convert_try_adapter(struct comma_conversion *c, double *agreement, struct comma_error *err);

#endif
