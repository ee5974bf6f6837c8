/* SPDX-License-Identifier: MIT */
/* prompts_maple.c - MaPLe's prompts (SPEC 10): each vision prompt is a linear image of the text prompt of its layer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/prompts.h"

/* out[n, width_v] = x[n, width_t] W^T + b, W and b being <name>.weight and <name>.bias */
static bool project(const struct comma_adapter_dir *adapter, const char *name, const float *x, size_t n,
                    const struct comma_clip_config *config, float *out, struct comma_error *err)
{
    const size_t width_v = config->vision.width, width_t = config->text.width;
    float *weight = NULL, *bias = NULL;
    char weight_name[96], bias_name[96];
    bool ok;

    snprintf(weight_name, sizeof(weight_name), "%s.weight", name);
    snprintf(bias_name, sizeof(bias_name), "%s.bias", name);
    ok = comma_prompts_tensor(adapter, weight_name, 2, (size_t[]){ width_v, width_t }, &weight, err) &&
         comma_prompts_tensor(adapter, bias_name, 1, (size_t[]){ width_v }, &bias, err);
    if (ok)
        comma_prompts_linear(out, x, n, width_t, weight, bias, width_v);
    free(weight);
    free(bias);
    return ok;
}

bool comma_prompts_fold_maple(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                              const struct comma_clip_config *config, struct comma_error *err)
{
    const size_t n = adapter->config.n_ctx, deep = adapter->config.prompt_depth - 1;
    const size_t width_v = config->vision.width, width_t = config->text.width;

    p->n_text = p->n_vision = n;
    p->n_text_deep = p->n_vision_deep = deep;
    p->vision_input = comma_alloc_floats(n * width_v);
    p->vision_deep = comma_alloc_floats(deep * n * width_v);
    p->text_deep = comma_alloc_floats(deep * n * width_t);
    if (!p->vision_input || !p->vision_deep || !p->text_deep)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the prompts");
    if (!comma_prompts_tensor(adapter, "ctx", 2, (size_t[]){ n, width_t }, &p->text_input, err) ||
        !project(adapter, "proj", p->text_input, n, config, p->vision_input, err))
        return false;
    for (size_t j = 0; j < deep; j++) {
        char name[80];
        float *t = NULL;

        snprintf(name, sizeof(name), "compound_prompts_text.%zu", j);
        if (!comma_prompts_tensor(adapter, name, 2, (size_t[]){ n, width_t }, &t, err))
            return false;
        memcpy(p->text_deep + j * n * width_t, t, n * width_t * sizeof(float));
        free(t);
        snprintf(name, sizeof(name), "compound_prompt_projections.%zu", j);
        if (!project(adapter, name, p->text_deep + j * n * width_t, n, config, p->vision_deep + j * n * width_v, err))
            return false;
    }
    return true;
}
