/* SPDX-License-Identifier: MIT */
/* savings.c - each exact saving against the plain full computation: every token of every layer, padded to the context,
 * one label or picture at a time, straight from SPEC 3-6 in the simplest C. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden/golden.h"

/* ---- the plain computation ---- */

static float *weights(struct comma_tensor t)
{
    float *w = comma_alloc_floats(comma_tensor_count(&t));
    struct comma_error err;

    if (!w || !comma_tensor_to_f32(&t, w, &err))
        fail_msg("weights cannot be read");
    return w;
}

/* y[m, n] = x[m, k] w[n, k]^T + b */
static void linear(float *y, const float *x, size_t m, size_t k, struct comma_tensor weight, const float *b)
{
    const size_t n = weight.shape[0];
    float *w = weights(weight);

    for (size_t i = 0; i < m; i++)
        for (size_t o = 0; o < n; o++) {
            double sum = b ? b[o] : 0;

            for (size_t j = 0; j < k; j++)
                sum += (double)x[i * k + j] * w[o * k + j];
            y[i * n + o] = (float)sum;
        }
    free(w);
}

static void norm(float *y, const float *x, size_t m, size_t n, struct comma_tensor weight, struct comma_tensor bias)
{
    float *w = weights(weight), *b = weights(bias);

    for (size_t i = 0; i < m; i++) {
        double mean = 0, var = 0;

        for (size_t j = 0; j < n; j++)
            mean += x[i * n + j];
        mean /= (double)n;
        for (size_t j = 0; j < n; j++)
            var += (x[i * n + j] - mean) * (x[i * n + j] - mean);
        var = sqrt(var / (double)n + 1e-5);
        for (size_t j = 0; j < n; j++)
            y[i * n + j] = (float)((x[i * n + j] - mean) / var * w[j] + b[j]);
    }
    free(w);
    free(b);
}

/* One row of one head: softmax(q k^T / sqrt(d)) v over keys 0 .. n_keys - 1. */
static void attend(float *out, const float *q, const float *k, const float *v, size_t n_keys, size_t ld, size_t d)
{
    double s[256], most = -INFINITY, sum = 0;

    for (size_t i = 0; i < n_keys; i++) {
        s[i] = 0;
        for (size_t j = 0; j < d; j++)
            s[i] += (double)q[j] * k[i * ld + j] / sqrt((double)d);
        most = fmax(most, s[i]);
    }
    for (size_t i = 0; i < n_keys; i++)
        sum += s[i] = exp(s[i] - most);
    for (size_t j = 0; j < d; j++) {
        double o = 0;

        for (size_t i = 0; i < n_keys; i++)
            o += s[i] / sum * v[i * ld + j];
        out[j] = (float)o;
    }
}

static void plain_block(const struct comma_clip *clip, enum comma_tower tower, size_t layer, float *x, size_t m,
                        bool causal)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const struct comma_tower_config *t = tower == COMMA_VISION ? &c->vision : &c->text;
    const size_t D = t->width, d = D / t->heads;
    float *y = malloc(m * D * sizeof(float)), *a = malloc(m * D * sizeof(float)), *qkv[3], *bias;
    float *h = malloc(m * t->mlp_dim * sizeof(float));

#define W(role) comma_clip_block_tensor(clip, tower, layer, role)
    norm(y, x, m, D, W(COMMA_LN_1_WEIGHT), W(COMMA_LN_1_BIAS));
    for (int i = 0; i < 3; i++) {
        qkv[i] = malloc(m * D * sizeof(float));
        bias = weights(W(COMMA_Q_BIAS + 2 * (unsigned)i));
        linear(qkv[i], y, m, D, W(COMMA_Q_WEIGHT + 2 * (unsigned)i), bias);
        free(bias);
    }
    for (size_t i = 0; i < m; i++)
        for (size_t head = 0; head < t->heads; head++)
            attend(a + i * D + head * d, qkv[0] + i * D + head * d, qkv[1] + head * d, qkv[2] + head * d,
                   causal ? i + 1 : m, D, d);
    bias = weights(W(COMMA_OUT_BIAS));
    linear(y, a, m, D, W(COMMA_OUT_WEIGHT), bias);
    free(bias);
    for (size_t i = 0; i < m * D; i++)
        x[i] += y[i];
    norm(y, x, m, D, W(COMMA_LN_2_WEIGHT), W(COMMA_LN_2_BIAS));
    bias = weights(W(COMMA_FC_BIAS));
    linear(h, y, m, D, W(COMMA_FC_WEIGHT), bias);
    free(bias);
    for (size_t i = 0; i < m * t->mlp_dim; i++)
        h[i] = (float)(h[i] / (1 + exp(-1.702 * h[i])));
    bias = weights(W(COMMA_PROJ_BIAS));
    linear(y, h, m, t->mlp_dim, W(COMMA_PROJ_WEIGHT), bias);
    free(bias);
#undef W
    for (size_t i = 0; i < m * D; i++)
        x[i] += y[i];
    for (int i = 0; i < 3; i++)
        free(qkv[i]);
    free(h);
    free(a);
    free(y);
}

/* All context_length positions; ids padded with 0. */
static void plain_text(const struct comma_clip *clip, const struct comma_prompts *p, const int32_t *ids, size_t n_ids,
                       float *feature)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const size_t D = c->text.width, C = c->context_length, k = p->last_layer ? p->last_layer : 1;
    float *x = malloc(C * D * sizeof(float)), *table = weights(comma_clip_tensor(clip, COMMA_TOKEN_EMBEDDING));
    float *position = weights(comma_clip_tensor(clip, COMMA_TEXT_POSITION));
    size_t injected = 0;

    for (size_t i = 0; i < C; i++)
        memcpy(x + i * D, table + (size_t)(i < n_ids ? ids[i] : 0) * D, D * sizeof(float));
    if (p->n_text)
        memcpy(x + D, p->text_input, p->n_text * D * sizeof(float));
    for (size_t i = 0; i < C * D; i++)
        x[i] += position[i];
    for (size_t a = 0; a < c->text.layers; a++) {
        const size_t block = a < c->text.layers - k ? a : c->text.layers - k;

        if (block > 0 && injected < p->n_text_deep)
            memcpy(x + D, p->text_deep + injected++ * p->n_text * D, p->n_text * D * sizeof(float));
        plain_block(clip, COMMA_TEXT, block, x, C, true);
    }
    norm(x, x, C, D, comma_clip_tensor(clip, COMMA_LN_FINAL_WEIGHT), comma_clip_tensor(clip, COMMA_LN_FINAL_BIAS));
    linear(feature, x + (n_ids - 1) * D, 1, D, comma_clip_tensor(clip, COMMA_TEXT_PROJECTION), NULL);
    free(position);
    free(table);
    free(x);
}

static void plain_picture(const struct comma_clip *clip, const struct comma_prompts *p, const float *pixels,
                          float *feature)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const size_t D = c->vision.width, g = c->grid, s = c->patch_size, side = c->image_size, k = 3 * s * s;
    const size_t body = 1 + g * g, m = body + p->n_vision;
    float *x = malloc(m * D * sizeof(float)), *patch = malloc(k * sizeof(float));
    float *position = weights(comma_clip_tensor(clip, COMMA_VISION_POSITION));
    float *class_embedding = weights(comma_clip_tensor(clip, COMMA_CLASS_EMBEDDING));
    struct comma_tensor kernel = comma_clip_tensor(clip, COMMA_PATCH_EMBEDDING);

    kernel.n_dims = 2;
    kernel.shape[1] = kernel.strides[0] = k;
    kernel.strides[1] = 1;
    memcpy(x, class_embedding, D * sizeof(float));
    for (size_t r = 0; r < g * g; r++) {
        for (size_t i = 0; i < k; i++)
            patch[i] = pixels[(i / (s * s) * side + r / g * s + i / s % s) * side + r % g * s + i % s];
        linear(x + (1 + r) * D, patch, 1, k, kernel, NULL);
    }
    for (size_t i = 0; i < body * D; i++)
        x[i] += position[i];
    if (p->n_vision)
        memcpy(x + body * D, p->vision_input, p->n_vision * D * sizeof(float));
    norm(x, x, m, D, comma_clip_tensor(clip, COMMA_LN_PRE_WEIGHT), comma_clip_tensor(clip, COMMA_LN_PRE_BIAS));
    for (size_t layer = 0; layer < c->vision.layers; layer++) {
        if (layer > 0 && layer <= p->n_vision_deep)
            memcpy(x + body * D, p->vision_deep + (layer - 1) * p->n_vision * D, p->n_vision * D * sizeof(float));
        plain_block(clip, COMMA_VISION, layer, x, m, false);
    }
    norm(x, x, 1, D, comma_clip_tensor(clip, COMMA_LN_POST_WEIGHT), comma_clip_tensor(clip, COMMA_LN_POST_BIAS));
    linear(feature, x, 1, D, comma_clip_tensor(clip, COMMA_VISION_PROJECTION), NULL);
    free(class_embedding);
    free(position);
    free(patch);
    free(x);
}

/* ---- made-up prompts ---- */

static uint32_t seed = 1;

static float noise(void)
{
    seed = seed * 1664525 + 1013904223;
    return (float)(int32_t)seed * 0x1p-31f;
}

static float *noise_rows(size_t n)
{
    float *x = comma_alloc_floats(n);

    for (size_t i = 0; i < n; i++)
        x[i] = noise();
    return x;
}

static struct comma_prompts made_up(const struct comma_clip_config *c, size_t n, size_t deep, size_t last_layer)
{
    struct comma_prompts p = {
        .n_text = n, .n_vision = n, .n_text_deep = deep, .n_vision_deep = deep, .last_layer = last_layer
    };

    if (n) {
        p.text_input = noise_rows(n * c->text.width);
        p.text_deep = noise_rows(deep * n * c->text.width);
        p.vision_input = noise_rows(n * c->vision.width);
        p.vision_deep = noise_rows(deep * n * c->vision.width);
    }
    return p;
}

#define EMBED      48
#define MAX_LABELS 40

struct run {
    struct comma_engine *e;
    const struct comma_prompts *prompts; /* [n_prompts] one prefix each, labels and pictures take them in turn */
    size_t n_prompts, n_labels, n_prefix;
    int32_t ids[MAX_LABELS][77];
    size_t n_ids[MAX_LABELS];
    const float *pixels[MAX_LABELS];
    float features[MAX_LABELS * EMBED];
    bool ok;
    struct comma_error err;
};

static void encode_labels(void *arg, struct comma_worker *w)
{
    struct run *r = arg;
    struct comma_prefix prefix[4];
    struct comma_sentence s[MAX_LABELS];

    for (size_t i = 0; i < r->n_prompts; i++) {
        int32_t ids[77];

        memcpy(ids, r->ids[0], sizeof(ids));
        for (size_t j = 0; j < r->prompts[i].n_text; j++)
            ids[1 + j] = -1 - (int32_t)j;
        r->ok = comma_prefix_make(&r->e->text, w, &r->prompts[i], ids, r->n_prefix, &prefix[i], &r->err);
        if (!r->ok)
            return;
    }
    for (size_t i = 0; i < r->n_labels; i++)
        s[i] = (struct comma_sentence){ &prefix[i % r->n_prompts], r->ids[i] + r->n_prefix, r->n_ids[i] - r->n_prefix,
                                        r->features + i * EMBED };
    comma_text_encode(&r->e->text, w, s, r->n_labels, NULL, NULL);
    for (size_t i = 0; i < r->n_prompts; i++)
        comma_prefix_finish(&prefix[i]);
}

static void check_labels(struct run *r)
{
    const size_t vocab = comma_clip_config(r->e->clip)->vocab_size;
    float want[EMBED];

    for (size_t i = 0; i < r->n_labels; i++) {
        r->n_ids[i] = r->n_prefix + 1 + (size_t)(i * 7 % (77 - r->n_prefix));
        for (size_t j = 0; j < r->n_ids[i]; j++)
            r->ids[i][j] = j < r->n_prefix ? (int32_t)j * 3 : (int32_t)(fabsf(noise()) * 900);
        r->ids[i][r->n_ids[i] - 1] = (int32_t)vocab - 1;
    }
    golden_run(r->e, encode_labels, r);
    if (!r->ok)
        fail_msg("%s", r->err.message);
    for (size_t i = 0; i < r->n_labels; i++) {
        plain_text(r->e->clip, &r->prompts[i % r->n_prompts], r->ids[i], r->n_ids[i], want);
        golden_normalise(want, 1, EMBED);
        golden_normalise(r->features + i * EMBED, 1, EMBED);
        if (!(golden_deviation(r->features + i * EMBED, want, EMBED) <= FEATURE_LIMIT))
            fail_msg("label %zu of %zu tokens deviates", i, r->n_ids[i]);
    }
}

/* Shared prefix, nothing after EOT, ragged packing, EOT only in the last application; with prompts of adapters side by
 * side in one batch, and with a repeated last block. */
static void labels_equal_the_full_computation(void **state)
{
    static const struct {
        size_t n_ctx, deep, last_layer, n_prefix;
    } cases[] = { { 0, 0, 1, 1 }, { 0, 0, 1, 9 }, { 2, 0, 1, 3 }, { 2, 2, 1, 5 }, { 4, 1, 3, 5 }, { 3, 5, 2, 6 } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct run *r = calloc(1, sizeof(*r));
        struct comma_prompts prompts[3];

        r->e = golden_engine("tiny/clip", 1 + (unsigned)i % 3);
        for (size_t j = 0; j < 3; j++)
            prompts[j] = made_up(comma_clip_config(r->e->clip), cases[i].n_ctx, cases[i].deep, cases[i].last_layer);
        r->prompts = prompts;
        r->n_prompts = 3;
        r->n_labels = 20;
        r->n_prefix = cases[i].n_prefix;
        check_labels(r);
        for (size_t j = 0; j < 3; j++)
            comma_prompts_finish(&prompts[j]);
        comma_engine_close(r->e);
        free(r);
    }
}

static void encode_pictures(void *arg, struct comma_worker *w)
{
    struct run *r = arg;
    struct comma_vision_prompts folded[4];
    struct comma_picture pictures[MAX_LABELS];

    for (size_t i = 0; i < r->n_prompts; i++) {
        r->ok = comma_vision_fold(&r->e->vision, w, &r->prompts[i], &folded[i], &r->err);
        if (!r->ok)
            return;
    }
    for (size_t i = 0; i < r->n_labels; i++)
        pictures[i] = (struct comma_picture){ r->pixels[i], &folded[i % r->n_prompts], r->features + i * EMBED };
    comma_vision_encode(&r->e->vision, w, pictures, r->n_labels, NULL, NULL);
    for (size_t i = 0; i < r->n_prompts; i++)
        comma_vision_prompts_finish(&folded[i]);
}

/* Constant keys of replaced prompts, class token only in the last block; one batch mixes plain CLIP with prompts of
 * several numbers and depths, so that rows enter at different blocks. */
static void pictures_equal_the_full_computation(void **state)
{
    struct run *r = calloc(1, sizeof(*r));
    struct comma_prompts prompts[4];
    float want[EMBED];

    (void)state;
    r->e = golden_engine("tiny/clip", 2);
    prompts[0] = made_up(comma_clip_config(r->e->clip), 0, 0, 1);
    prompts[1] = made_up(comma_clip_config(r->e->clip), 2, 0, 1);
    prompts[2] = made_up(comma_clip_config(r->e->clip), 5, 1, 1);
    prompts[3] = made_up(comma_clip_config(r->e->clip), 3, 7, 1); /* more than there are blocks: the rest is ignored */
    r->prompts = prompts;
    r->n_prompts = 4;
    r->n_labels = 8;
    for (size_t i = 0; i < r->n_labels; i++)
        r->pixels[i] = noise_rows(3 * 32 * 32);
    golden_run(r->e, encode_pictures, r);
    if (!r->ok)
        fail_msg("%s", r->err.message);
    for (size_t i = 0; i < r->n_labels; i++) {
        plain_picture(r->e->clip, &prompts[i % 4], r->pixels[i], want);
        golden_normalise(want, 1, EMBED);
        golden_normalise(r->features + i * EMBED, 1, EMBED);
        if (!(golden_deviation(r->features + i * EMBED, want, EMBED) <= FEATURE_LIMIT))
            fail_msg("picture %zu deviates by %g", i, golden_deviation(r->features + i * EMBED, want, EMBED));
        free((float *)(uintptr_t)r->pixels[i]);
    }
    for (size_t i = 0; i < 4; i++)
        comma_prompts_finish(&prompts[i]);
    comma_engine_close(r->e);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_equal_the_full_computation),
        cmocka_unit_test(pictures_equal_the_full_computation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
