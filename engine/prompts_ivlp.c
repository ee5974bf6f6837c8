/* SPDX-License-Identifier: MIT */
/* prompts_ivlp.c - IVLP and VPT (SPEC 10): prompts that are parameters themselves, each tower with its own number and
 * depth. VPT has those of the image tower only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/prompts.h"

/* Tensors <tower>.transformer.resblocks.<i>.VPT_shallow [n, width], i = 1, 2, ... as far as they go. */
static bool deep_prompts(const struct comma_adapter_dir *adapter, const char *tower, size_t n, size_t width,
                         size_t layers, float **out, size_t *n_deep, struct comma_error *err)
{
    char name[96];
    size_t deep = 0;

    for (; deep + 1 < layers; deep++) {
        snprintf(name, sizeof(name), "%s.transformer.resblocks.%zu.VPT_shallow", tower, deep + 1);
        if (!comma_tensors_find(adapter->tensors, name))
            break;
    }
    *out = comma_alloc_floats(deep * n * width);
    if (!*out)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the prompts");
    for (size_t i = 0; i < deep; i++) {
        float *rows = NULL;

        snprintf(name, sizeof(name), "%s.transformer.resblocks.%zu.VPT_shallow", tower, i + 1);
        if (!comma_prompts_tensor(adapter, name, 2, (size_t[]){ n, width }, &rows, err))
            return false;
        memcpy(*out + i * n * width, rows, n * width * sizeof(float));
        free(rows);
    }
    *n_deep = deep;
    return true;
}

/* image_encoder.VPT [n, width]: its first dimension is n_vision. Absent where the vision depth is 0. */
static bool vision_prompts(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                           const struct comma_clip_config *config, bool required, struct comma_error *err)
{
    const struct comma_tensor *t = comma_tensors_find(adapter->tensors, "image_encoder.VPT");
    const size_t width = config->vision.width;

    if (!t && !required)
        return true;
    p->n_vision = t && t->n_dims == 2 ? t->shape[0] : 1;
    return comma_prompts_tensor(adapter, "image_encoder.VPT", 2, (size_t[]){ p->n_vision, width }, &p->vision_input,
                                err) &&
           deep_prompts(adapter, "image_encoder", p->n_vision, width, config->vision.layers, &p->vision_deep,
                        &p->n_vision_deep, err);
}

bool comma_prompts_fold_ivlp(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                             const struct comma_clip_config *config, struct comma_error *err)
{
    const size_t width = config->text.width;

    p->n_text = adapter->config.n_ctx;
    return comma_prompts_tensor(adapter, "ctx", 2, (size_t[]){ p->n_text, width }, &p->text_input, err) &&
           deep_prompts(adapter, "text_encoder", p->n_text, width, config->text.layers, &p->text_deep, &p->n_text_deep,
                        err) &&
           vision_prompts(p, adapter, config, false, err);
}

bool comma_prompts_fold_vpt(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                            const struct comma_clip_config *config, struct comma_error *err)
{
    return vision_prompts(p, adapter, config, true, err);
}
