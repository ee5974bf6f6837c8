/* SPDX-License-Identifier: MIT */
/* block.c - see block.h. Each step is a parallel region over rows, columns or (sequence, head) pairs. */
#include "engine/block.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/weights.h"

/* Below this many multiply-adds a step is over before a second thread has joined. */
#define MIN_CHUNK_MACS 400000

/* Below this many, packing keys and values into tiles costs more than it saves. */
#define MIN_TILE_QUERIES 16

static inline size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- linear layers over idle threads ---- */

struct linear_job {
    const struct comma_linear *l;
    const float *x;
    size_t ldx, m;
    void *input;
    float *y;
    size_t ldy;
    bool accumulate;
    const struct comma_block *activate; /* apply its activation to the columns just made, while they are in cache */
};

static void activate(const struct comma_block *b, float *x, size_t ldx, size_t rows, size_t width)
{
    if (b->activation == COMMA_GELU)
        comma_kernels()->gelu(x, ldx, rows, width);
    else
        comma_kernels()->quick_gelu(x, ldx, rows, width);
}

static void linear_chunk(void *arg, struct comma_worker *self, size_t chunk, size_t n_chunks)
{
    const struct linear_job *j = arg;
    const size_t n = comma_linear_n(j->l), panels = (n + COMMA_PANEL - 1) / COMMA_PANEL;
    const size_t n0 = comma_chunk_begin(panels, chunk, n_chunks) * COMMA_PANEL;
    const size_t end = comma_chunk_begin(panels, chunk + 1, n_chunks) * COMMA_PANEL, n1 = end < n ? end : n;

    const size_t step = j->activate ? comma_linear_group(j->l) : n1 - n0;
    const struct comma_mark mark = comma_arena_mark(&self->helper);
    void *workspace = comma_arena_take(&self->helper, comma_linear_workspace_bytes(j->l));

    for (size_t at = n0; at < n1; at += step) {
        const size_t to = n1 - at < step ? n1 : at + step;

        comma_linear_run(j->l, j->x, j->ldx, j->input, j->m, at, to, j->y, j->ldy, j->accumulate, workspace);
        if (j->activate)
            activate(j->activate, j->y + at, j->ldy, j->m, to - at);
    }
    comma_arena_release(&self->helper, mark);
}

static void prepare_chunk(void *arg, struct comma_worker *self, size_t chunk, size_t n_chunks)
{
    const struct linear_job *j = arg;
    const size_t tiles = (j->m + COMMA_ROW_TILE - 1) / COMMA_ROW_TILE;
    const size_t first = comma_chunk_begin(tiles, chunk, n_chunks) * COMMA_ROW_TILE;
    const size_t end = comma_chunk_begin(tiles, chunk + 1, n_chunks) * COMMA_ROW_TILE;

    (void)self;
    comma_linear_prepare(j->l, j->x, j->ldx, j->m, first, (end < j->m ? end : j->m) - first, j->input);
}

/* input NULL: made here from x; else what prepare_input() made for this x and a layer of the same back end and k. */
static void run_linear(struct linear_job *j, struct comma_worker *w)
{
    const size_t k = comma_linear_k(j->l), n = comma_linear_n(j->l), panels = (n + COMMA_PANEL - 1) / COMMA_PANEL;
    const size_t macs = j->m * k * COMMA_PANEL; /* of a panel */

    comma_parallel(w, comma_split(w, panels, MIN_CHUNK_MACS / (macs + 1) + 1), linear_chunk, j);
}

static void *prepare_input(struct linear_job *j, struct comma_worker *w)
{
    const size_t bytes = comma_linear_input_bytes(j->l, j->m);
    const size_t k = comma_linear_k(j->l), tiles = (j->m + COMMA_ROW_TILE - 1) / COMMA_ROW_TILE;

    if (!bytes)
        return NULL;
    j->input = comma_arena_take(&w->arena, bytes);
    comma_parallel(w, comma_split(w, tiles, MIN_CHUNK_MACS / 8 / (k * COMMA_ROW_TILE) + 1), prepare_chunk, j);
    return j->input;
}

void comma_linear_apply(const struct comma_linear *l, struct comma_worker *w, const float *x, size_t ldx, size_t m,
                        float *y, size_t ldy, bool accumulate)
{
    struct linear_job j = { .l = l, .x = x, .ldx = ldx, .m = m, .y = y, .ldy = ldy, .accumulate = accumulate };
    const struct comma_mark mark = comma_arena_mark(&w->arena);

    prepare_input(&j, w);
    run_linear(&j, w);
    comma_arena_release(&w->arena, mark);
}

/* ---- layer norm ---- */

struct norm_job {
    float *y;
    const float *x, *weight, *bias;
    size_t m, width;
    float eps;
};

static void norm_chunk(void *arg, struct comma_worker *self, size_t chunk, size_t n_chunks)
{
    const struct norm_job *j = arg;
    const size_t r0 = comma_chunk_begin(j->m, chunk, n_chunks), r1 = comma_chunk_begin(j->m, chunk + 1, n_chunks);

    (void)self;
    comma_kernels()->layer_norm(j->y + r0 * j->width, j->width, j->x + r0 * j->width, j->width, j->weight, j->bias,
                                r1 - r0, j->width, j->eps);
}

static void layer_norm(struct comma_worker *w, float *y, const float *x, const float *weight, const float *bias,
                       size_t m, const struct comma_block *b)
{
    struct norm_job j = { y, x, weight, bias, m, b->width, b->eps };

    comma_parallel(w, comma_split(w, m, MIN_CHUNK_MACS / 16 / b->width + 1), norm_chunk, &j);
}

/* ---- attention ---- */

struct attention_job {
    const struct comma_block *b;
    const struct comma_seq *seqs;
    size_t n_seqs;
    const float *q;         /* [m or n_seqs, width] */
    const float *kv;        /* [m, 2 width] */
    float *out;             /* as q */
    const size_t *selected; /* NULL: every row is a query; else one a sequence, q's row i */
    bool causal;
};

static void attend(const struct attention_job *j, struct comma_worker *self, size_t s, size_t head)
{
    const struct comma_seq *seq = &j->seqs[s];
    const size_t width = j->b->width, head_dim = width / j->b->heads, at = head * head_dim;
    const size_t q_row = j->selected ? s : seq->first;
    const struct comma_mark mark = comma_arena_mark(&self->helper);
    struct comma_attention a = {
        .q = j->q + q_row * width + at,
        .ldq = width,
        .shared_k = seq->n_shared ? seq->shared_kv + at : NULL,
        .shared_v = seq->n_shared ? seq->shared_kv + width + at : NULL,
        .ld_shared = 2 * width,
        .n_shared = seq->n_shared,
        .k = j->kv + seq->first * 2 * width + at,
        .v = j->kv + seq->first * 2 * width + width + at,
        .ldk = 2 * width,
        .ldv = 2 * width,
        .n_k = seq->n,
        .out = j->out + q_row * width + at,
        .ldo = width,
        .n_q = j->selected ? 1 : seq->n,
        .head_dim = head_dim,
        .scale = 1.0f / sqrtf((float)head_dim),
        .causal = j->causal,
        .causal_from = j->selected ? j->selected[s] : 0,
    };

    a.scratch = comma_arena_floats(&self->helper, comma_attention_scratch(a.n_shared + a.n_k, head_dim), 1, 1);
    if (j->b->coarse_attention && !a.causal && a.n_q >= MIN_TILE_QUERIES && head_dim % 32 == 0)
        comma_kernels()->attention_bf16(&a);
    else
        comma_kernels()->attention(&a);
    comma_arena_release(&self->helper, mark);
}

static void attention_chunk(void *arg, struct comma_worker *self, size_t chunk, size_t n_chunks)
{
    const struct attention_job *j = arg;
    const size_t pairs = j->n_seqs * j->b->heads, end = comma_chunk_begin(pairs, chunk + 1, n_chunks);

    for (size_t i = comma_chunk_begin(pairs, chunk, n_chunks); i < end; i++)
        attend(j, self, i / j->b->heads, i % j->b->heads);
}

static void attention(struct comma_worker *w, struct attention_job *j, size_t m)
{
    const size_t keys = j->seqs[0].n + j->seqs[0].n_shared, queries = j->selected ? 1 : m / j->n_seqs + 1;
    const size_t macs = 2 * keys * queries * (j->b->width / j->b->heads); /* of a pair, about */

    comma_parallel(w, comma_split(w, j->n_seqs * j->b->heads, MIN_CHUNK_MACS / (macs + 1) + 1), attention_chunk, j);
}

/* ---- the block ---- */

/* x += proj(act(fc(LN(x)))); y, h are scratch. */
static void mlp(const struct comma_block *b, struct comma_worker *w, float *x, size_t m, float *y, float *h)
{
    struct linear_job fc = { .l = b->fc, .x = y, .ldx = b->width, .m = m, .y = h, .ldy = b->mlp_dim, .activate = b };
    const struct comma_mark mark = comma_arena_mark(&w->arena);

    layer_norm(w, y, x, b->ln_2_weight, b->ln_2_bias, m, b);
    prepare_input(&fc, w);
    run_linear(&fc, w);
    comma_arena_release(&w->arena, mark);
    comma_linear_apply(b->proj, w, h, b->mlp_dim, m, x, b->width, true);
}

/* kv (and q where not NULL) of y's rows. */
static void project(const struct comma_block *b, struct comma_worker *w, const float *y, size_t m, float *q, float *kv)
{
    struct linear_job keys = { .l = b->kv, .x = y, .ldx = b->width, .m = m, .y = kv, .ldy = 2 * b->width };
    const struct comma_mark mark = comma_arena_mark(&w->arena);

    prepare_input(&keys, w);
    run_linear(&keys, w);
    if (q) {
        struct linear_job queries = {
            .l = b->q, .x = y, .ldx = b->width, .m = m, .input = keys.input, .y = q, .ldy = b->width
        };

        run_linear(&queries, w);
    }
    comma_arena_release(&w->arena, mark);
}

void comma_block_apply(const struct comma_block *b, struct comma_worker *w, float *x, size_t m,
                       const struct comma_seq *seqs, size_t n_seqs, bool causal, float *kv)
{
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t rows = comma_tile_rows(m);
    float *y = comma_arena_floats(&w->arena, rows, b->width, 1);
    float *own_kv = kv ? kv : comma_arena_floats(&w->arena, rows, 2 * b->width, 1);
    float *h = comma_arena_floats(&w->arena, rows, max(b->mlp_dim, b->width), 1);
    struct attention_job att = {
        .b = b, .seqs = seqs, .n_seqs = n_seqs, .q = h, .kv = own_kv, .out = y, .causal = causal
    };

    layer_norm(w, y, x, b->ln_1_weight, b->ln_1_bias, m, b);
    project(b, w, y, m, h, own_kv); /* h holds the queries until the MLP needs it; y the attention's output */
    attention(w, &att, m);
    comma_linear_apply(b->out, w, y, b->width, m, x, b->width, true);
    mlp(b, w, x, m, y, h);
    comma_arena_release(&w->arena, mark);
}

void comma_block_apply_last(const struct comma_block *b, struct comma_worker *w, const float *x, size_t m,
                            const struct comma_seq *seqs, size_t n_seqs, bool causal, const size_t *selected,
                            float *out)
{
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t rows = comma_tile_rows(m), few = comma_tile_rows(n_seqs), D = b->width;
    float *y = comma_arena_floats(&w->arena, rows, D, 1);
    float *kv = comma_arena_floats(&w->arena, rows, 2 * D, 1);
    float *ys = comma_arena_floats(&w->arena, few, D, 1);
    float *q = comma_arena_floats(&w->arena, few, D, 1);
    float *h = comma_arena_floats(&w->arena, few, b->mlp_dim, 1);
    struct attention_job att = {
        .b = b, .seqs = seqs, .n_seqs = n_seqs, .q = q, .kv = kv, .out = ys, .selected = selected, .causal = causal
    };

    layer_norm(w, y, x, b->ln_1_weight, b->ln_1_bias, m, b);
    project(b, w, y, m, NULL, kv);
    for (size_t i = 0; i < n_seqs; i++) {
        memcpy(ys + i * D, y + (seqs[i].first + selected[i]) * D, D * sizeof(float));
        memcpy(out + i * D, x + (seqs[i].first + selected[i]) * D, D * sizeof(float));
    }
    comma_linear_apply(b->q, w, ys, D, n_seqs, q, D, false);
    attention(w, &att, m);
    comma_linear_apply(b->out, w, ys, D, n_seqs, out, D, true);
    mlp(b, w, out, n_seqs, ys, h);
    comma_arena_release(&w->arena, mark);
}

void comma_block_keys(const struct comma_block *b, struct comma_worker *w, const float *x, size_t m, float *kv)
{
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    float *y = comma_arena_floats(&w->arena, comma_tile_rows(m), b->width, 1);

    layer_norm(w, y, x, b->ln_1_weight, b->ln_1_bias, m, b);
    project(b, w, y, m, NULL, kv);
    comma_arena_release(&w->arena, mark);
}

/* ---- loading and sizes ---- */

static bool load_vector(float **out, const struct comma_clip *clip, enum comma_tower tower, size_t layer,
                        enum comma_block_role role, struct comma_error *err)
{
    const struct comma_tensor t = comma_clip_block_tensor(clip, tower, layer, role);

    return comma_weights_copy(out, &t, err);
}

/* A layer of the weights first .. first + 2 (n_parts - 1), each followed by its bias in the enum. q and kv share one
 * prepared input, so they are exact together or not at all: the text tower's are, since its short rows lose most of
 * what int8 costs there (cosine 0.9989 to 0.9997 on the golden sets), and a label is encoded once. */
static bool load_linear(struct comma_linear **out, struct comma_gemm *g, const struct comma_clip *clip,
                        enum comma_tower tower, size_t layer, enum comma_block_role first, size_t n_parts,
                        struct comma_error *err)
{
    struct comma_tensor weights[2], biases[2];

    assert(n_parts <= 2);
    for (size_t i = 0; i < n_parts; i++) {
        weights[i] = comma_clip_block_tensor(clip, tower, layer, first + 2 * i);
        biases[i] = comma_clip_block_tensor(clip, tower, layer, first + 2 * i + 1);
    }
    return comma_linear_create(g, weights, biases, n_parts, tower == COMMA_TEXT && first < COMMA_OUT_WEIGHT, out, err);
}

bool comma_block_load(struct comma_block *b, struct comma_gemm *g, const struct comma_clip *clip,
                      enum comma_tower tower, size_t layer, struct comma_error *err)
{
    const struct comma_clip_config *config = comma_clip_config(clip);
    const struct comma_tower_config *t = tower == COMMA_VISION ? &config->vision : &config->text;

    *b = (struct comma_block){ .width = t->width,
                               .heads = t->heads,
                               .mlp_dim = t->mlp_dim,
                               .activation = t->activation,
                               .eps = t->layer_norm_eps,
                               .coarse_attention = strcmp(comma_gemm_precision(g), "f32") != 0 };
    if (load_vector(&b->ln_1_weight, clip, tower, layer, COMMA_LN_1_WEIGHT, err) &&
        load_vector(&b->ln_1_bias, clip, tower, layer, COMMA_LN_1_BIAS, err) &&
        load_vector(&b->ln_2_weight, clip, tower, layer, COMMA_LN_2_WEIGHT, err) &&
        load_vector(&b->ln_2_bias, clip, tower, layer, COMMA_LN_2_BIAS, err) &&
        load_linear(&b->q, g, clip, tower, layer, COMMA_Q_WEIGHT, 1, err) &&
        load_linear(&b->kv, g, clip, tower, layer, COMMA_K_WEIGHT, 2, err) &&
        load_linear(&b->out, g, clip, tower, layer, COMMA_OUT_WEIGHT, 1, err) &&
        load_linear(&b->fc, g, clip, tower, layer, COMMA_FC_WEIGHT, 1, err) &&
        load_linear(&b->proj, g, clip, tower, layer, COMMA_PROJ_WEIGHT, 1, err))
        return true;
    comma_block_finish(b);
    return false;
}

void comma_block_finish(struct comma_block *b)
{
    free(b->ln_1_weight);
    free(b->ln_1_bias);
    free(b->ln_2_weight);
    free(b->ln_2_bias);
    comma_linear_destroy(b->q);
    comma_linear_destroy(b->kv);
    comma_linear_destroy(b->out);
    comma_linear_destroy(b->fc);
    comma_linear_destroy(b->proj);
    *b = (struct comma_block){ 0 };
}

size_t comma_block_bytes(const struct comma_block *b)
{
    return comma_linear_bytes(b->q) + comma_linear_bytes(b->kv) + comma_linear_bytes(b->out) +
           comma_linear_bytes(b->fc) + comma_linear_bytes(b->proj) + 4 * b->width * sizeof(float);
}

size_t comma_block_scratch_bytes(const struct comma_block *b, size_t m)
{
    const size_t rows = comma_tile_rows(m);
    const size_t input = max(comma_linear_input_bytes(b->kv, m),
                             max(comma_linear_input_bytes(b->fc, m), comma_linear_input_bytes(b->proj, m)));

    /* apply_last with as many sequences as rows: y, kv, ys, q, h; apply needs less */
    return 3 * comma_arena_float_bytes(rows * b->width) + comma_arena_float_bytes(rows * 2 * b->width) +
           comma_arena_float_bytes(rows * max(b->mlp_dim, b->width)) + input + COMMA_ALIGN;
}

size_t comma_block_helper_bytes(const struct comma_block *b, size_t max_keys)
{
    const struct comma_linear *layers[] = { b->q, b->kv, b->out, b->fc, b->proj };
    size_t most = comma_arena_float_bytes(comma_attention_scratch(max_keys, b->width / b->heads));

    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++)
        most = max(most, comma_linear_workspace_bytes(layers[i]) + COMMA_ALIGN);
    return most;
}
