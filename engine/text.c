/* SPDX-License-Identifier: MIT */
/* text.c - see text.h. */
#include "engine/text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/weights.h"

bool comma_text_load(struct comma_text_tower *t, struct comma_gemm *g, const struct comma_clip *clip,
                     struct comma_error *err)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const struct comma_tensor projection = comma_clip_tensor(clip, COMMA_TEXT_PROJECTION);

    *t = (struct comma_text_tower){ .width = c->text.width,
                                    .context_length = c->context_length,
                                    .embed_dim = c->embed_dim,
                                    .token_embedding = comma_clip_tensor(clip, COMMA_TOKEN_EMBEDDING),
                                    .eps = c->text.layer_norm_eps };
    if (t->token_embedding.dtype > COMMA_F64)
        return comma_fail(err, COMMA_E_MODEL, "%s: dtype %s is not a float's", t->token_embedding.name,
                          comma_dtype_name(t->token_embedding.dtype));
    t->blocks = calloc(c->text.layers, sizeof(*t->blocks));
    if (!t->blocks) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the text tower");
        goto fail;
    }
    if (!comma_weights_copy_role(&t->position, clip, COMMA_TEXT_POSITION, err) ||
        !comma_weights_copy_role(&t->ln_final_weight, clip, COMMA_LN_FINAL_WEIGHT, err) ||
        !comma_weights_copy_role(&t->ln_final_bias, clip, COMMA_LN_FINAL_BIAS, err) ||
        !comma_linear_create(g, &projection, NULL, 1, true, &t->projection, err))
        goto fail;
    for (; t->n_layers < c->text.layers; t->n_layers++)
        if (!comma_block_load(&t->blocks[t->n_layers], g, clip, COMMA_TEXT, t->n_layers, err))
            goto fail;
    return true;
fail:
    comma_text_finish(t);
    return false;
}

void comma_text_finish(struct comma_text_tower *t)
{
    for (size_t i = 0; i < t->n_layers; i++)
        comma_block_finish(&t->blocks[i]);
    free(t->blocks);
    free(t->position);
    free(t->ln_final_weight);
    free(t->ln_final_bias);
    comma_linear_destroy(t->projection);
    *t = (struct comma_text_tower){ 0 };
}

size_t comma_text_bytes(const struct comma_text_tower *t)
{
    size_t bytes = comma_linear_bytes(t->projection) + (t->context_length + 2) * t->width * sizeof(float) +
                   comma_tensor_count(&t->token_embedding) * comma_dtype_bytes(t->token_embedding.dtype);

    for (size_t i = 0; i < t->n_layers; i++)
        bytes += comma_block_bytes(&t->blocks[i]);
    return bytes;
}

/* The block of application a: SPEC 6.4, block layers - k is run k times in place of the last k. */
static size_t block_of(const struct comma_text_tower *t, size_t last_layer, size_t a)
{
    const size_t repeated = t->n_layers - (last_layer ? last_layer : 1);

    return a < repeated ? a : repeated;
}

/* x = embedding of an id (or a learned row) + position */
static void embed_row(const struct comma_text_tower *t, const float *learned, int32_t id, size_t position, float *x)
{
    const float *p = t->position + position * t->width;

    if (id < 0) {
        memcpy(x, learned + (size_t)(-1 - id) * t->width, t->width * sizeof(float));
    } else {
        const struct comma_tensor row = comma_tensor_rows(&t->token_embedding, (size_t)id, 1);
        struct comma_error err;
        const bool ok = comma_tensor_to_f32(&row, x, &err);

        assert(ok); /* its dtype was checked at load */
        (void)ok;
    }
    for (size_t i = 0; i < t->width; i++)
        x[i] += p[i];
}

/* ---- prefixes ---- */

bool comma_prefix_make(const struct comma_text_tower *t, struct comma_worker *w, const struct comma_prompts *prompts,
                       const int32_t *ids, size_t n, struct comma_prefix *out, struct comma_error *err)
{
    const size_t tile = comma_tile_rows(n), kv_size = tile * 2 * t->width;
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const struct comma_seq seq = { .n = n };
    struct comma_prefix p = { .n = n,
                              .last_layer = prompts->last_layer ? prompts->last_layer : 1,
                              .learned = prompts->text_input };
    size_t injected = 0;
    float *x;

    assert(n >= 1 && (prompts->n_text_deep == 0 || n >= 1 + prompts->n_text));
    p.ids = malloc(n * sizeof(*ids));
    p.kv = comma_alloc_floats(t->n_layers * kv_size);
    if (!p.ids || !p.kv) {
        comma_prefix_finish(&p);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a prompt's prefix");
    }
    memcpy(p.ids, ids, n * sizeof(*ids));
    x = comma_arena_floats(&w->arena, tile, t->width, 1);
    memset(x, 0, tile * t->width * sizeof(float));
    for (size_t i = 0; i < n; i++)
        embed_row(t, p.learned, ids[i], i, x + i * t->width);
    for (size_t a = 0; a < t->n_layers; a++) {
        const size_t block = block_of(t, prompts->last_layer, a);

        /* each application of a block other than the first takes the next unused deep prompt: SPEC 6.4 */
        if (block > 0 && injected < prompts->n_text_deep)
            memcpy(x + t->width, prompts->text_deep + injected++ * prompts->n_text * t->width,
                   prompts->n_text * t->width * sizeof(float));
        if (a + 1 < t->n_layers)
            comma_block_apply(&t->blocks[block], w, x, n, &seq, 1, true, p.kv + a * kv_size);
        else
            comma_block_keys(&t->blocks[block], w, x, n, p.kv + a * kv_size);
    }
    comma_arena_release(&w->arena, mark);
    *out = p;
    return true;
}

void comma_prefix_finish(struct comma_prefix *p)
{
    free(p->ids);
    free(p->kv);
    *p = (struct comma_prefix){ 0 };
}

size_t comma_prefix_bytes(const struct comma_text_tower *t, const struct comma_prefix *p)
{
    return t->n_layers * comma_tile_rows(p->n) * 2 * t->width * sizeof(float) + p->n * sizeof(*p->ids);
}

/* ---- encoding ---- */

void comma_text_encode(const struct comma_text_tower *t, struct comma_worker *w, const struct comma_sentence *s,
                       size_t n, comma_trace_fn trace, void *trace_user)
{
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    struct comma_seq *seqs = comma_arena_take(&w->arena, n * sizeof(*seqs));
    size_t *selected = comma_arena_take(&w->arena, n * sizeof(*selected));
    const size_t D = t->width, last_layer = s[0].prefix->last_layer;
    size_t m = 0, tile;
    float *x, *last, *features;

    for (size_t i = 0; i < n; i++) {
        seqs[i] = (struct comma_seq){ .first = m, .n = s[i].n, .n_shared = s[i].prefix->n };
        selected[i] = s[i].n - 1; /* EOT */
        m += s[i].n;
    }
    tile = comma_tile_rows(m);
    x = comma_arena_floats(&w->arena, tile, D, 1);
    last = comma_arena_floats(&w->arena, comma_tile_rows(n), D, 1);
    features = comma_arena_floats(&w->arena, comma_tile_rows(n), t->embed_dim, 1);
    memset(x + m * D, 0, (tile - m) * D * sizeof(float));
    memset(last, 0, comma_tile_rows(n) * D * sizeof(float));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < s[i].n; j++)
            embed_row(t, s[i].prefix->learned, s[i].ids[j], s[i].prefix->n + j, x + (seqs[i].first + j) * D);
    for (size_t a = 0; a < t->n_layers; a++) {
        const struct comma_block *b = &t->blocks[block_of(t, last_layer, a)];
        const bool is_last = a + 1 == t->n_layers;

        for (size_t i = 0; i < n; i++)
            seqs[i].shared_kv = s[i].prefix->kv + a * comma_tile_rows(s[i].prefix->n) * 2 * D;
        if (is_last)
            comma_block_apply_last(b, w, x, m, seqs, n, true, selected, last);
        else
            comma_block_apply(b, w, x, m, seqs, n, true, NULL);
        if (trace)
            trace(trace_user, a, is_last ? last : x, is_last ? n : m);
    }
    comma_kernels()->layer_norm(last, D, last, D, t->ln_final_weight, t->ln_final_bias, n, D, t->eps);
    comma_linear_apply(t->projection, w, last, D, n, features, t->embed_dim, false);
    for (size_t i = 0; i < n; i++)
        memcpy(s[i].feature, features + i * t->embed_dim, t->embed_dim * sizeof(float));
    comma_arena_release(&w->arena, mark);
}

size_t comma_text_scratch_bytes(const struct comma_text_tower *t, size_t max_rows)
{
    const size_t rows = comma_tile_rows(max_rows);

    return max_rows * (sizeof(struct comma_seq) + sizeof(size_t)) + 2 * COMMA_ALIGN +
           2 * comma_arena_float_bytes(rows * t->width) + comma_arena_float_bytes(rows * t->embed_dim) +
           comma_block_scratch_bytes(&t->blocks[0], max_rows) + comma_linear_input_bytes(t->projection, max_rows) +
           COMMA_ALIGN;
}
