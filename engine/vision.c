/* SPDX-License-Identifier: MIT */
/* vision.c - see vision.h. The rows of a picture are class token, patches, prompts, in this order; prompts are rows
 * only from the block on from which their outputs are read. */
#include "engine/vision.h"

#include <stdlib.h>
#include <string.h>

#include "engine/weights.h"

/* [width, 3, p, p] as the matrix [width, 3 p p]: the strides of a view may not allow it, so a view that is not
 * contiguous is not expected (no reader makes one of a patch embedding) and refused. */
static bool load_patch(struct comma_vision *v, struct comma_gemm *g, const struct comma_clip *clip,
                       struct comma_error *err)
{
    struct comma_tensor t = comma_clip_tensor(clip, COMMA_PATCH_EMBEDDING);

    if (!comma_tensor_contiguous(&t))
        return comma_fail(err, COMMA_E_MODEL, "%s: strides of a patch embedding must be row-major", t.name);
    t.n_dims = 2;
    t.shape[1] = t.strides[0] = 3 * v->patch_size * v->patch_size;
    t.strides[1] = 1;
    return comma_linear_create(g, &t, NULL, 1, true, &v->patch, err);
}

static bool load_position(struct comma_vision *v, const struct comma_clip *clip, struct comma_error *err)
{
    float *position = NULL, *class_embedding = NULL;
    bool ok = false;

    v->class_row = comma_alloc_floats(v->width);
    v->position = comma_alloc_floats(v->n_patches * v->width);
    if (!v->class_row || !v->position) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the position embedding");
        goto out;
    }
    if (!comma_weights_copy_role(&position, clip, COMMA_VISION_POSITION, err) ||
        !comma_weights_copy_role(&class_embedding, clip, COMMA_CLASS_EMBEDDING, err))
        goto out;
    memcpy(v->position, position + v->width, v->n_patches * v->width * sizeof(float));
    for (size_t i = 0; i < v->width; i++)
        v->class_row[i] = class_embedding[i] + position[i];
    comma_kernels()->layer_norm(v->class_row, v->width, v->class_row, v->width, v->ln_pre_weight, v->ln_pre_bias, 1,
                                v->width, v->eps);
    ok = true;
out:
    free(position);
    free(class_embedding);
    return ok;
}

bool comma_vision_load(struct comma_vision *v, struct comma_gemm *g, const struct comma_clip *clip,
                       struct comma_error *err)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const struct comma_tensor projection = comma_clip_tensor(clip, COMMA_VISION_PROJECTION);

    *v = (struct comma_vision){ .width = c->vision.width,
                                .image_size = c->image_size,
                                .patch_size = c->patch_size,
                                .n_patches = c->grid * c->grid,
                                .embed_dim = c->embed_dim,
                                .eps = c->vision.layer_norm_eps };
    v->blocks = calloc(c->vision.layers, sizeof(*v->blocks));
    if (!v->blocks) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the image tower");
        goto fail;
    }
    if (!comma_weights_copy_role(&v->ln_pre_weight, clip, COMMA_LN_PRE_WEIGHT, err) ||
        !comma_weights_copy_role(&v->ln_pre_bias, clip, COMMA_LN_PRE_BIAS, err) ||
        !comma_weights_copy_role(&v->ln_post_weight, clip, COMMA_LN_POST_WEIGHT, err) ||
        !comma_weights_copy_role(&v->ln_post_bias, clip, COMMA_LN_POST_BIAS, err) || !load_position(v, clip, err) ||
        !load_patch(v, g, clip, err) || !comma_linear_create(g, &projection, NULL, 1, true, &v->projection, err))
        goto fail;
    for (; v->n_layers < c->vision.layers; v->n_layers++)
        if (!comma_block_load(&v->blocks[v->n_layers], g, clip, COMMA_VISION, v->n_layers, err))
            goto fail;
    return true;
fail:
    comma_vision_finish(v);
    return false;
}

void comma_vision_finish(struct comma_vision *v)
{
    for (size_t i = 0; i < v->n_layers; i++)
        comma_block_finish(&v->blocks[i]);
    free(v->blocks);
    comma_linear_destroy(v->patch);
    comma_linear_destroy(v->projection);
    free(v->class_row);
    free(v->position);
    free(v->ln_pre_weight);
    free(v->ln_pre_bias);
    free(v->ln_post_weight);
    free(v->ln_post_bias);
    *v = (struct comma_vision){ 0 };
}

size_t comma_vision_bytes(const struct comma_vision *v)
{
    size_t bytes = comma_linear_bytes(v->patch) + comma_linear_bytes(v->projection) +
                   (v->n_patches + 5) * v->width * sizeof(float);

    for (size_t i = 0; i < v->n_layers; i++)
        bytes += comma_block_bytes(&v->blocks[i]);
    return bytes;
}

/* ---- prompts ---- */

bool comma_vision_fold(const struct comma_vision *v, struct comma_worker *w, const struct comma_prompts *p,
                       struct comma_vision_prompts *out, struct comma_error *err)
{
    const size_t n = p->n_vision, tile = comma_tile_rows(n), row = n * v->width;
    const size_t deep = p->n_vision_deep < v->n_layers - 1 ? p->n_vision_deep : v->n_layers - 1;
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    struct comma_vision_prompts f = { .n = n };
    float *x;

    *out = (struct comma_vision_prompts){ 0 };
    if (n == 0)
        return true;
    /* Rows are replaced before blocks 1 .. deep, so in blocks 0 .. deep - 1 nobody reads their output; in the last
     * block nobody does either. */
    f.n_shared = deep == v->n_layers - 1 ? v->n_layers : deep;
    f.kv = comma_alloc_floats(f.n_shared * tile * 2 * v->width);
    f.rows = comma_alloc_floats(row);
    if (!f.kv || !f.rows) {
        comma_vision_prompts_finish(&f);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the prompts");
    }
    x = comma_arena_floats(&w->arena, tile, v->width, 1);
    memset(x, 0, tile * v->width * sizeof(float));
    for (size_t i = 0; i <= deep; i++) {
        if (i == 0) /* prompt rows get ln_pre but no position: SPEC 4 (3), (4) */
            comma_kernels()->layer_norm(x, v->width, p->vision_input, v->width, v->ln_pre_weight, v->ln_pre_bias, n,
                                        v->width, v->eps);
        else
            memcpy(x, p->vision_deep + (i - 1) * row, row * sizeof(float));
        if (i < f.n_shared)
            comma_block_keys(&v->blocks[i], w, x, n, f.kv + i * tile * 2 * v->width);
        else
            memcpy(f.rows, x, row * sizeof(float));
    }
    comma_arena_release(&w->arena, mark);
    *out = f;
    return true;
}

void comma_vision_prompts_finish(struct comma_vision_prompts *p)
{
    free(p->kv);
    free(p->rows);
    *p = (struct comma_vision_prompts){ 0 };
}

size_t comma_vision_prompts_bytes(const struct comma_vision *v, const struct comma_vision_prompts *p)
{
    return (p->n_shared * comma_tile_rows(p->n) * 2 + p->n) * v->width * sizeof(float);
}

/* ---- encoding ---- */

/* A picture's patches as rows [n_patches, 3 patch patch], in the order of the weight: channel, y, x. */
static void cut_patches(const struct comma_vision *v, const float *pixels, float *rows)
{
    const size_t p = v->patch_size, side = v->image_size, grid = side / p;

    for (size_t gy = 0; gy < grid; gy++)
        for (size_t gx = 0; gx < grid; gx++)
            for (size_t c = 0; c < 3; c++)
                for (size_t y = 0; y < p; y++, rows += p)
                    memcpy(rows, pixels + (c * side + gy * p + y) * side + gx * p, p * sizeof(float));
}

/* Patch embedding, class token, positions, ln_pre: x [n (1 + n_patches), width]. */
static void embed(const struct comma_vision *v, struct comma_worker *w, const struct comma_picture *pictures, size_t n,
                  float *x)
{
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t D = v->width, k = 3 * v->patch_size * v->patch_size, rows = n * v->n_patches;
    float *patches = comma_arena_floats(&w->arena, comma_tile_rows(rows), k, 1);
    float *y = comma_arena_floats(&w->arena, comma_tile_rows(rows), D, 1);

    for (size_t i = 0; i < n; i++)
        cut_patches(v, pictures[i].pixels, patches + i * v->n_patches * k);
    memset(patches + rows * k, 0, (comma_tile_rows(rows) - rows) * k * sizeof(float));
    comma_linear_apply(v->patch, w, patches, k, rows, y, D, false);
    for (size_t i = 0; i < n; i++) {
        float *to = x + i * (1 + v->n_patches) * D;
        const float *from = y + i * v->n_patches * D;

        memcpy(to, v->class_row, D * sizeof(float));
        for (size_t j = 0; j < v->n_patches * D; j++)
            to[D + j] = from[j] + v->position[j];
        comma_kernels()->layer_norm(to + D, D, to + D, D, v->ln_pre_weight, v->ln_pre_bias, v->n_patches, D, v->eps);
    }
    comma_arena_release(&w->arena, mark);
}

/* Puts the prompt rows of those pictures whose prompts become ordinary rows at this block behind their patches, the
 * last picture first since rows move up. Returns the new number of rows. */
static size_t enter_prompts(const struct comma_vision *v, const struct comma_picture *pictures, struct comma_seq *seqs,
                            size_t n, size_t layer, float *x, size_t m)
{
    const size_t D = v->width;
    size_t added = 0, end;

    for (size_t i = 0; i < n; i++)
        if (pictures[i].prompts->n && pictures[i].prompts->n_shared == layer)
            added += pictures[i].prompts->n;
    if (added == 0)
        return m;
    end = m + added;
    for (size_t i = n; i-- > 0;) {
        const struct comma_vision_prompts *p = pictures[i].prompts;

        if (p->n && p->n_shared == layer) {
            end -= p->n;
            memcpy(x + end * D, p->rows, p->n * D * sizeof(float));
        }
        end -= seqs[i].n;
        memmove(x + end * D, x + seqs[i].first * D, seqs[i].n * D * sizeof(float));
        seqs[i].first = end;
        if (p->n && p->n_shared == layer)
            seqs[i].n += p->n;
    }
    memset(x + (m + added) * D, 0, (comma_tile_rows(m + added) - m - added) * D * sizeof(float));
    return m + added;
}

/* Which constant keys each picture sees in this block. */
static void share_keys(const struct comma_vision *v, const struct comma_picture *pictures, struct comma_seq *seqs,
                       size_t n, size_t layer)
{
    for (size_t i = 0; i < n; i++) {
        const struct comma_vision_prompts *p = pictures[i].prompts;
        const bool shared = layer < p->n_shared;

        seqs[i].n_shared = shared ? p->n : 0;
        seqs[i].shared_kv = shared ? p->kv + layer * comma_tile_rows(p->n) * 2 * v->width : NULL;
    }
}

void comma_vision_encode(const struct comma_vision *v, struct comma_worker *w, const struct comma_picture *pictures,
                         size_t n, comma_trace_fn trace, void *trace_user)
{
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t D = v->width, rows = 1 + v->n_patches;
    size_t m = n * rows, most = m;
    struct comma_seq *seqs = comma_arena_take(&w->arena, n * sizeof(*seqs));
    size_t *selected = comma_arena_take(&w->arena, n * sizeof(*selected));
    float *x, *last, *features;

    for (size_t i = 0; i < n; i++)
        most += pictures[i].prompts->n;
    x = comma_arena_floats(&w->arena, comma_tile_rows(most), D, 1);
    last = comma_arena_floats(&w->arena, comma_tile_rows(n), D, 1);
    features = comma_arena_floats(&w->arena, comma_tile_rows(n), v->embed_dim, 1);
    memset(last, 0, comma_tile_rows(n) * D * sizeof(float));
    memset(x + m * D, 0, (comma_tile_rows(most) - m) * D * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        seqs[i] = (struct comma_seq){ .first = i * rows, .n = rows };
        selected[i] = 0; /* the class token */
    }
    embed(v, w, pictures, n, x);
    for (size_t layer = 0; layer < v->n_layers; layer++) {
        m = enter_prompts(v, pictures, seqs, n, layer, x, m);
        share_keys(v, pictures, seqs, n, layer);
        if (layer + 1 < v->n_layers)
            comma_block_apply(&v->blocks[layer], w, x, m, seqs, n, false, NULL);
        else
            comma_block_apply_last(&v->blocks[layer], w, x, m, seqs, n, false, selected, last);
        if (trace)
            trace(trace_user, layer, layer + 1 < v->n_layers ? x : last, layer + 1 < v->n_layers ? m : n);
    }
    comma_kernels()->layer_norm(last, D, last, D, v->ln_post_weight, v->ln_post_bias, n, D, v->eps);
    comma_linear_apply(v->projection, w, last, D, n, features, v->embed_dim, false);
    for (size_t i = 0; i < n; i++)
        memcpy(pictures[i].feature, features + i * v->embed_dim, v->embed_dim * sizeof(float));
    comma_arena_release(&w->arena, mark);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t comma_vision_scratch_bytes(const struct comma_vision *v, size_t n, size_t max_prompts)
{
    const size_t D = v->width, k = 3 * v->patch_size * v->patch_size, m = n * (1 + v->n_patches + max_prompts);
    const size_t embedding = comma_arena_float_bytes(comma_tile_rows(n * v->n_patches) * k) +
                             comma_arena_float_bytes(comma_tile_rows(n * v->n_patches) * D) +
                             comma_linear_input_bytes(v->patch, n * v->n_patches) + COMMA_ALIGN;

    return comma_arena_float_bytes(comma_tile_rows(m) * D) + comma_arena_float_bytes(comma_tile_rows(n) * D) +
           comma_arena_float_bytes(comma_tile_rows(n) * v->embed_dim) +
           n * (sizeof(struct comma_seq) + sizeof(size_t)) + 2 * COMMA_ALIGN +
           larger(embedding, comma_block_scratch_bytes(&v->blocks[0], m)) + comma_linear_input_bytes(v->projection, n) +
           COMMA_ALIGN;
}
