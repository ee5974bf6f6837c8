/* SPDX-License-Identifier: MIT */
/* text.h - the text tower (SPEC 5): token ids in, feature out, causal, pooled at EOT.
 *
 * What stands in front of the label is the same for all labels of a prompt, so its keys and values are computed once, a
 * struct comma_prefix; a label then costs its own few rows, packed ragged with others', and nothing behind EOT is
 * computed (SPEC 9 (2)-(4)). */
#ifndef COMMA_ENGINE_TEXT_H
#define COMMA_ENGINE_TEXT_H

#include <stdint.h>

#include "engine/block.h"
#include "engine/prompts.h"
#include "engine/vision.h"

/* The backbone's text tower, read-only. */
struct comma_text_tower {
    size_t width, n_layers, context_length, embed_dim;
    struct comma_tensor token_embedding; /* [vocab_size, width], rows converted as they are read */
    float *position;                     /* [context_length, width] */
    float *ln_final_weight, *ln_final_bias;
    float eps;
    struct comma_linear *projection; /* [embed_dim, width] */
    struct comma_block *blocks;      /* [n_layers] */
};

/* The rows in front of a label, in every block application; read-only. */
struct comma_prefix {
    size_t n;             /* rows; at least 1, SOS */
    size_t last_layer;    /* of the schedule it was made with */
    const float *learned; /* [n_learned, width]: rows that ids below 0 name; borrowed */
    int32_t *ids;         /* [n]; id -1 - i is learned row i */
    float *kv;            /* [n_layers applications, tile_rows(n), 2 width] */
};

COMMA_MUST_CHECK
bool comma_text_load(struct comma_text_tower *t, struct comma_gemm *g, const struct comma_clip *clip,
                     struct comma_error *err);
void comma_text_finish(struct comma_text_tower *t); /* a zeroed one is fine */
size_t comma_text_bytes(const struct comma_text_tower *t);

/* Computes a prefix.
 *   ids      [n] from SOS on; where prompts has learned rows, n >= 1 + n_text and ids[1 .. n_text] name them (SPEC 6.1)
 *   prompts  deep ones take the place of rows 1 .. n_text as SPEC 6.3 and 6.4 say; must outlive the prefix */
COMMA_MUST_CHECK
bool comma_prefix_make(const struct comma_text_tower *t, struct comma_worker *w, const struct comma_prompts *prompts,
                       const int32_t *ids, size_t n, struct comma_prefix *out, struct comma_error *err);
void comma_prefix_finish(struct comma_prefix *p);
size_t comma_prefix_bytes(const struct comma_text_tower *t, const struct comma_prefix *p);

/* One label: its rows behind the prefix, up to and with EOT. */
struct comma_sentence {
    const struct comma_prefix *prefix;
    const int32_t *ids; /* [n] n >= 1; the last one is EOT; n + prefix->n <= context_length */
    size_t n;
    float *feature; /* out: [embed_dim], not normalised */
};

/* Encodes sentences whose rows together are at most max_rows of the scratch, as one batch; prefixes may differ, their
 * last_layer may not. */
void comma_text_encode(const struct comma_text_tower *t, struct comma_worker *w, const struct comma_sentence *s,
                       size_t n, comma_trace_fn trace, void *trace_user);
size_t comma_text_scratch_bytes(const struct comma_text_tower *t, size_t max_rows);

#endif
