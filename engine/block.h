/* SPDX-License-Identifier: MIT */
/* block.h - one pre-LN transformer block over ragged rows (SPEC 3); both towers use it.
 *
 * Sequences of different lengths stand one after another in one matrix, so that the linear layers see a single GEMM.
 * Keys and values that are the same for many sequences (a prompt's prefix in the text tower, prompts that the next
 * layer replaces in the vision tower) are computed once and stand beside the sequence's own: SPEC 9 (3), (6), (7). */
#ifndef COMMA_ENGINE_BLOCK_H
#define COMMA_ENGINE_BLOCK_H

#include "engine/gemm/gemm.h"
#include "engine/kernels/kernels.h"
#include "engine/workers.h"
#include "models/clip.h"

/* Weights of one block, read-only. */
struct comma_block {
    size_t width, heads, mlp_dim;
    enum comma_activation activation;
    float eps;
    bool coarse_attention; /* its products may be in bf16, as those of the linear layers are in less than f32 */
    float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias; /* [width] */
    struct comma_linear *q;                                   /* [width, width] */
    struct comma_linear *kv;                                  /* [2 width, width]: keys, then values */
    struct comma_linear *out;                                 /* [width, width] */
    struct comma_linear *fc;                                  /* [mlp_dim, width] */
    struct comma_linear *proj;                                /* [width, mlp_dim] */
};

/* One sequence's rows in x, and the keys it sees beside its own. */
struct comma_seq {
    size_t first, n;        /* rows first .. first + n */
    const float *shared_kv; /* [n_shared, 2 width] of this block, keys then values in a row; NULL if n_shared is 0 */
    size_t n_shared;
};

/* Rows of working memory that m rows take: m rounded up to whole GEMM tiles. */
static inline size_t comma_tile_rows(size_t m)
{
    return (m + COMMA_ROW_TILE - 1) / COMMA_ROW_TILE * COMMA_ROW_TILE;
}

/* Loads block `layer` of a tower. Fails with COMMA_E_NOMEM or COMMA_E_MODEL. */
COMMA_MUST_CHECK
bool comma_block_load(struct comma_block *b, struct comma_gemm *g, const struct comma_clip *clip,
                      enum comma_tower tower, size_t layer, struct comma_error *err);
void comma_block_finish(struct comma_block *b); /* a zeroed one is fine */

size_t comma_block_bytes(const struct comma_block *b); /* of weights as served */

/* Arena bytes that apply and apply_last take for m rows. */
size_t comma_block_scratch_bytes(const struct comma_block *b, size_t m);

/* Bytes that a thread needs to help. */
size_t comma_block_helper_bytes(const struct comma_block *b, size_t max_keys);

/* x = the block's output for all rows.
 *   x    [tile_rows(m), width] in, out; rows past m hold finite values
 *   kv   out: [tile_rows(m), 2 width] keys and values of x's rows; NULL: not wanted
 *   causal  row r of a sequence sees the shared rows and its own 0 .. r; else all */
void comma_block_apply(const struct comma_block *b, struct comma_worker *w, float *x, size_t m,
                       const struct comma_seq *seqs, size_t n_seqs, bool causal, float *kv);

/* The last block needs the output of one row a sequence (class token, EOT): keys and values for all rows, the rest for
 * these (SPEC 9 (4), (5)).
 *   x         [tile_rows(m), width] in, unchanged
 *   selected  [n_seqs] row within each sequence; if causal it sees rows up to itself
 *   out       [tile_rows(n_seqs), width] */
void comma_block_apply_last(const struct comma_block *b, struct comma_worker *w, const float *x, size_t m,
                            const struct comma_seq *seqs, size_t n_seqs, bool causal, const size_t *selected,
                            float *out);

/* Only the keys and values of x's rows: for prompts, at load.
 *   kv  out: [tile_rows(m), 2 width] */
void comma_block_keys(const struct comma_block *b, struct comma_worker *w, const float *x, size_t m, float *kv);

/* y = x w^T + bias (+=), split over idle threads. input: scratch from w's arena is taken and released. */
void comma_linear_apply(const struct comma_linear *l, struct comma_worker *w, const float *x, size_t ldx, size_t m,
                        float *y, size_t ldy, bool accumulate);

#endif
