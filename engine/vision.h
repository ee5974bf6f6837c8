/* SPDX-License-Identifier: MIT */
/* vision.h - the image tower (SPEC 4): pixels in, feature out. */
#ifndef COMMA_ENGINE_VISION_H
#define COMMA_ENGINE_VISION_H

#include "engine/block.h"
#include "engine/prompts.h"

/* The backbone's image tower, read-only. */
struct comma_vision {
    size_t width, n_layers, image_size, patch_size, n_patches, embed_dim;
    struct comma_linear *patch; /* [width, 3 patch patch] */
    float *class_row;           /* [width]: class embedding + position, through ln_pre (SPEC 9 (8)) */
    float *position;            /* [n_patches, width], without the class token's */
    float *ln_pre_weight, *ln_pre_bias, *ln_post_weight, *ln_post_bias;
    float eps;
    struct comma_linear *projection; /* [embed_dim, width] */
    struct comma_block *blocks;      /* [n_layers] */
};

/* An adapter's share of the tower, folded at load: keys and values of its prompt rows in the blocks before which they
 * are replaced are constants (SPEC 9 (7)), and so are the rows that then flow on. A zeroed struct is plain CLIP. */
struct comma_vision_prompts {
    size_t n;        /* prompt rows */
    size_t n_shared; /* blocks 0 .. n_shared - 1 see them as constant keys */
    float *kv;       /* [n_shared, tile_rows(n), 2 width] */
    float *rows;     /* [n, width]: what enters block n_shared as ordinary rows; NULL if n_shared is n_layers */
};

COMMA_MUST_CHECK
bool comma_vision_load(struct comma_vision *v, struct comma_gemm *g, const struct comma_clip *clip,
                       struct comma_error *err);
void comma_vision_finish(struct comma_vision *v); /* a zeroed one is fine */
size_t comma_vision_bytes(const struct comma_vision *v);

COMMA_MUST_CHECK
bool comma_vision_fold(const struct comma_vision *v, struct comma_worker *w, const struct comma_prompts *p,
                       struct comma_vision_prompts *out, struct comma_error *err);
void comma_vision_prompts_finish(struct comma_vision_prompts *p);
size_t comma_vision_prompts_bytes(const struct comma_vision *v, const struct comma_vision_prompts *p);

/* One picture of a batch. */
struct comma_picture {
    const float *pixels; /* [3, image_size, image_size], normalised */
    const struct comma_vision_prompts *prompts;
    float *feature; /* out: [embed_dim], as the projection gives it, not normalised */
};

/* Called after each block with all rows of it; for tests. NULL otherwise. In the last block only the class row is
 * right. */
typedef void (*comma_trace_fn)(void *user, size_t application, const float *x, size_t m);

/* Encodes pictures as one batch; their prompts may differ. max_prompts bounds prompts->n.
 * Takes comma_vision_scratch_bytes(n) of the worker's arena. */
void comma_vision_encode(const struct comma_vision *v, struct comma_worker *w, const struct comma_picture *pictures,
                         size_t n, comma_trace_fn trace, void *trace_user);
size_t comma_vision_scratch_bytes(const struct comma_vision *v, size_t n_pictures, size_t max_prompts);

#endif
