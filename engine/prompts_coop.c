/* SPDX-License-Identifier: MIT */
/* prompts_coop.c - CoOp and CoCoOp (SPEC 10): learned context vectors in the text tower alone. CoCoOp's are shifted by
 * a small network of the image's feature. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/prompts.h"

static const struct comma_tensor *find_ctx(const struct comma_adapter_dir *adapter)
{
    const struct comma_tensor *t = comma_tensors_find(adapter->tensors, "ctx");

    return t ? t : comma_tensors_find(adapter->tensors, "prompt_learner.ctx");
}

static bool set_position(struct comma_prompts *p, const struct comma_adapter_config *config, struct comma_error *err)
{
    static const char *const names[] = {
        [COMMA_CLASS_END] = "end", [COMMA_CLASS_MIDDLE] = "middle", [COMMA_CLASS_FRONT] = "front"
    };

    if (!config->class_token_position[0])
        return true; /* at the end, the authors' default */
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(config->class_token_position, names[i]) == 0) {
            p->class_position = (enum comma_class_position)i;
            return true;
        }
    }
    return comma_fail(err, COMMA_E_MODEL, "class_token_position \"%s\" is not end, middle or front",
                      config->class_token_position);
}

static bool copy_class_names(struct comma_prompts *p, const struct comma_adapter_config *config,
                             struct comma_error *err)
{
    if (config->n_classnames != p->n_classes)
        return comma_fail(err, COMMA_E_MODEL,
                          "ctx is class-specific for %zu classes, but adapter_config.json has %zu classnames",
                          p->n_classes, config->n_classnames);
    p->class_names = calloc(p->n_classes, sizeof(*p->class_names));
    for (size_t i = 0; i < p->n_classes; i++)
        if (!p->class_names || !(p->class_names[i] = strdup(config->classnames[i])))
            return comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu class names", p->n_classes);
    return true;
}

bool comma_prompts_fold_coop(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                             const struct comma_clip_config *config, struct comma_error *err)
{
    const struct comma_tensor *ctx = find_ctx(adapter);
    const size_t width = config->text.width, n = adapter->config.n_ctx;

    p->n_text = n;
    if (!set_position(p, &adapter->config, err))
        return false;
    if (!ctx || ctx->n_dims != 3)
        return comma_prompts_tensor(adapter, "ctx", 2, (size_t[]){ n, width }, &p->text_input, err);
    p->n_classes = ctx->shape[0];
    return copy_class_names(p, &adapter->config, err) &&
           comma_prompts_tensor(adapter, "ctx", 3, (size_t[]){ p->n_classes, n, width }, &p->text_input, err);
}

bool comma_prompts_fold_cocoop(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                               const struct comma_clip_config *config, struct comma_error *err)
{
    const size_t width = config->text.width, embed = config->embed_dim, dim = embed / 16;

    p->n_text = adapter->config.n_ctx;
    p->meta_dim = dim;
    return comma_prompts_tensor(adapter, "ctx", 2, (size_t[]){ p->n_text, width }, &p->text_input, err) &&
           comma_prompts_tensor(adapter, "meta_net.linear1.weight", 2, (size_t[]){ dim, embed }, &p->meta_1_weight,
                                err) &&
           comma_prompts_tensor(adapter, "meta_net.linear1.bias", 1, (size_t[]){ dim }, &p->meta_1_bias, err) &&
           comma_prompts_tensor(adapter, "meta_net.linear2.weight", 2, (size_t[]){ width, dim }, &p->meta_2_weight,
                                err) &&
           comma_prompts_tensor(adapter, "meta_net.linear2.bias", 1, (size_t[]){ width }, &p->meta_2_bias, err);
}

size_t comma_prompts_condition_scratch(const struct comma_prompts *p, const struct comma_clip_config *config)
{
    return p->meta_dim + config->text.width;
}

void comma_prompts_condition(const struct comma_prompts *p, const struct comma_clip_config *config,
                             const float *feature, float *out, float *scratch)
{
    const size_t width = config->text.width;
    float *hidden = scratch, *shift = scratch + p->meta_dim;

    comma_prompts_linear(hidden, feature, 1, config->embed_dim, p->meta_1_weight, p->meta_1_bias, p->meta_dim);
    for (size_t i = 0; i < p->meta_dim; i++)
        hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
    comma_prompts_linear(shift, hidden, 1, p->meta_dim, p->meta_2_weight, p->meta_2_bias, width);
    for (size_t r = 0; r < p->n_text; r++)
        for (size_t i = 0; i < width; i++)
            out[r * width + i] = p->text_input[r * width + i] + shift[i];
}
