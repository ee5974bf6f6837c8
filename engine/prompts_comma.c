/* SPDX-License-Identifier: MIT */
/* prompts_comma.c - COMMA's prompt generation (SPEC 6.2, AAAI 2024): each vision prompt from the vision prompt and the
 * text prompt one layer before.
 *
 * It depends on the learner's weights alone, so it runs once, at load; it is a few thousand small products and written
 * for the reader. The image prompts stored in a checkpoint are one training step stale and are computed anew. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/kernels/kernels.h"
#include "engine/prompts.h"

/* One generator A's weights. */
struct generator {
    float *fc_weight, *fc_bias;     /* [Dv, Dt], [Dv] */
    float *ln_weight, *ln_bias;     /* [Dv] */
    float *mlp0_weight, *mlp0_bias; /* [Dv / 4, Dv], [Dv / 4] */
    float *mlp2_weight, *mlp2_bias; /* [Dv, Dv / 4], [Dv] */
};

static void generator_finish(struct generator *g)
{
    free(g->fc_weight);
    free(g->fc_bias);
    free(g->ln_weight);
    free(g->ln_bias);
    free(g->mlp0_weight);
    free(g->mlp0_bias);
    free(g->mlp2_weight);
    free(g->mlp2_bias);
}

/* prefix: "compound_prompt_projections_image_base" or "..._image.<j>" */
static bool generator_load(struct generator *g, const struct comma_adapter_dir *adapter, const char *prefix,
                           size_t width_v, size_t width_t, struct comma_error *err)
{
    const size_t q = width_v / 4;
    const struct {
        const char *name;
        float **out;
        unsigned n_dims;
        size_t shape[2];
    } tensors[] = {
        { "fc.weight", &g->fc_weight, 2, { width_v, width_t } }, { "fc.bias", &g->fc_bias, 1, { width_v } },
        { "ln.weight", &g->ln_weight, 1, { width_v } },          { "ln.bias", &g->ln_bias, 1, { width_v } },
        { "mlp.0.weight", &g->mlp0_weight, 2, { q, width_v } },  { "mlp.0.bias", &g->mlp0_bias, 1, { q } },
        { "mlp.2.weight", &g->mlp2_weight, 2, { width_v, q } },  { "mlp.2.bias", &g->mlp2_bias, 1, { width_v } },
    };

    *g = (struct generator){ 0 };
    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
        char name[128];

        snprintf(name, sizeof(name), "%s.%s", prefix, tensors[i].name);
        if (!comma_prompts_tensor(adapter, name, tensors[i].n_dims, tensors[i].shape, tensors[i].out, err)) {
            generator_finish(g);
            return false;
        }
    }
    return true;
}

/* SPEC 6.2, A(U, T):  K = T Fᵀ + f;  W = softmax(U Kᵀ / sqrt(Dv));  Z = LN(W K);  ReLU(Z M0ᵀ + m0) M2ᵀ + m2.
 *   u [n, Dv];  t [n, Dt];  out [n, Dv];  scratch [n (2 Dv + Dv / 4 + n)] */
static void generate(const struct generator *g, const float *u, const float *t, size_t n, size_t width_v,
                     size_t width_t, float *out, float *scratch)
{
    const struct comma_kernels *kernels = comma_kernels();
    const float scale = 1.0f / sqrtf((float)width_v);
    float *k = scratch, *z = k + n * width_v, *hidden = z + n * width_v, *w = hidden + n * (width_v / 4);

    comma_prompts_linear(k, t, n, width_t, g->fc_weight, g->fc_bias, width_v);
    for (size_t r = 0; r < n; r++) {
        float *row = w + r * n;

        kernels->dot_rows(row, u + r * width_v, k, width_v, n, width_v);
        for (size_t c = 0; c < n; c++)
            row[c] *= scale;
        kernels->softmax(row, n);
        for (size_t i = 0; i < width_v; i++) {
            float sum = 0;

            for (size_t c = 0; c < n; c++)
                sum += row[c] * k[c * width_v + i];
            z[r * width_v + i] = sum;
        }
    }
    kernels->layer_norm(z, width_v, z, width_v, g->ln_weight, g->ln_bias, n, width_v, 1e-5f);
    comma_prompts_linear(hidden, z, n, width_v, g->mlp0_weight, g->mlp0_bias, width_v / 4);
    for (size_t i = 0; i < n * (width_v / 4); i++)
        hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
    comma_prompts_linear(out, hidden, n, width_v / 4, g->mlp2_weight, g->mlp2_bias, width_v);
}

/* S = ctx Pᵀ + b */
static bool shared_input(struct comma_prompts *p, const struct comma_adapter_dir *adapter, size_t width_v,
                         size_t width_t, struct comma_error *err)
{
    float *weight = NULL, *bias = NULL;
    bool ok = false;

    p->vision_input = comma_alloc_floats(p->n_vision * width_v);
    if (!p->vision_input) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the prompts");
        goto out;
    }
    ok = comma_prompts_tensor(adapter, "proj.weight", 2, (size_t[]){ width_v, width_t }, &weight, err) &&
         comma_prompts_tensor(adapter, "proj.bias", 1, (size_t[]){ width_v }, &bias, err);
    if (ok)
        comma_prompts_linear(p->vision_input, p->text_input, p->n_vision, width_t, weight, bias, width_v);
out:
    free(weight);
    free(bias);
    return ok;
}

/* I0 = A_base(S, ctx);  Ij = A_{j-1}(I(j-1), T(j-1)) */
static bool deep_vision(struct comma_prompts *p, const struct comma_adapter_dir *adapter, size_t width_v,
                        size_t width_t, struct comma_error *err)
{
    const size_t n = p->n_vision, size_v = n * width_v, size_t_ = n * width_t;
    float *scratch = comma_alloc_floats(n * (2 * width_v + width_v / 4 + n));
    bool ok = false;

    p->vision_deep = comma_alloc_floats(p->n_vision_deep * size_v);
    if (!scratch || !p->vision_deep) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the prompts");
        goto out;
    }
    for (size_t j = 0; j < p->n_vision_deep; j++) {
        const float *u = j == 0 ? p->vision_input : p->vision_deep + (j - 1) * size_v;
        const float *t = j == 0 ? p->text_input : p->text_deep + (j - 1) * size_t_;
        struct generator g;
        char prefix[80] = "compound_prompt_projections_image_base";

        if (j > 0)
            snprintf(prefix, sizeof(prefix), "compound_prompt_projections_image.%zu", j - 1);
        if (!generator_load(&g, adapter, prefix, width_v, width_t, err))
            goto out;
        generate(&g, u, t, n, width_v, width_t, p->vision_deep + j * size_v, scratch);
        generator_finish(&g);
    }
    ok = true;
out:
    free(scratch);
    return ok;
}

bool comma_prompts_fold_comma(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                              const struct comma_clip_config *config, struct comma_error *err)
{
    const size_t n = adapter->config.n_ctx, deep = adapter->config.prompt_depth - 1;
    const size_t width_v = config->vision.width, width_t = config->text.width;

    p->n_text = p->n_vision = n;
    p->n_text_deep = p->n_vision_deep = deep;
    if (!comma_prompts_tensor(adapter, "ctx", 2, (size_t[]){ n, width_t }, &p->text_input, err) ||
        !shared_input(p, adapter, width_v, width_t, err))
        return false;
    return deep == 0 || (comma_prompts_tensor(adapter, "compound_prompts_text", 3, (size_t[]){ deep, n, width_t },
                                              &p->text_deep, err) &&
                         deep_vision(p, adapter, width_v, width_t, err));
}
