/* SPDX-License-Identifier: MIT */
/* prompts.c - the table of methods, and what they share. See prompts.h. */
#include "engine/prompts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "engine/weights.h"

static const struct method {
    const char *name;
    bool (*fold)(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                 const struct comma_clip_config *config, struct comma_error *err);
} methods[] = {
    { "comma", comma_prompts_fold_comma }, { "maple", comma_prompts_fold_maple },
    { "ivlp", comma_prompts_fold_ivlp },   { "vpt", comma_prompts_fold_vpt },
    { "coop", comma_prompts_fold_coop },   { "cocoop", comma_prompts_fold_cocoop },
};

bool comma_prompts_tensor(const struct comma_adapter_dir *adapter, const char *name, unsigned n_dims,
                          const size_t *shape, float **out, struct comma_error *err)
{
    char full[256], got[96], want[96];
    const struct comma_tensor *t = comma_tensors_find(adapter->tensors, name);
    struct comma_tensor expected = { .n_dims = n_dims };

    if (!t && snprintf(full, sizeof(full), "prompt_learner.%s", name) < (int)sizeof(full))
        t = comma_tensors_find(adapter->tensors, full);
    if (!t)
        return comma_fail(err, COMMA_E_MODEL, "tensor prompt_learner.%s is missing", name);
    if (n_dims)
        memcpy(expected.shape, shape, n_dims * sizeof(*shape));
    if (!comma_tensor_has_shape(t, n_dims, shape))
        return comma_fail(err, COMMA_E_MODEL, "%s: shape %s, but %s goes with this backbone", t->name,
                          comma_tensor_shape_text(t, got, sizeof(got)),
                          comma_tensor_shape_text(&expected, want, sizeof(want)));
    return comma_weights_copy(out, t, err);
}

void comma_prompts_linear(float *y, const float *x, size_t n, size_t in, const float *w, const float *b, size_t out)
{
    const struct comma_kernels *kernels = comma_kernels();

    for (size_t r = 0; r < n; r++) {
        kernels->dot_rows(y + r * out, x + r * in, w, in, out, in);
        kernels->add_bias(y + r * out, out, b, 1, out);
    }
}

/* Methods whose ctx_init is the prefix whatever its length: one learned row for each of its words. */
static bool any_length(const struct comma_adapter_config *config)
{
    return strcmp(config->method, "coop") == 0 || strcmp(config->method, "cocoop") == 0;
}

/* SPEC 6.1: ctx_init with _ as spaces where it is given and there are at most 4 learned rows, else "X X ... X", all of
 * it overwritten. */
static bool set_words(struct comma_prompts *p, const struct comma_adapter_config *config, struct comma_error *err)
{
    const bool literal = config->ctx_init[0] && (p->n_text <= 4 || any_length(config));
    const size_t size = literal ? strlen(config->ctx_init) + 1 : 2 * p->n_text + 1;

    p->text_before = malloc(size);
    p->text_after = strdup(".");
    if (!p->text_before || !p->text_after)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the prompt's words");
    if (literal) {
        memcpy(p->text_before, config->ctx_init, size);
        for (char *c = p->text_before; *c; c++)
            if (*c == '_')
                *c = ' ';
    } else {
        for (size_t i = 0; i < p->n_text; i++)
            memcpy(p->text_before + 2 * i, "X ", 2);
        p->text_before[p->n_text ? 2 * p->n_text - 1 : 0] = '\0';
    }
    return true;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; x && i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* A broken file must not take the place of an adapter that works: NaN is found here, not by its first client. */
static bool check_finite(const struct comma_prompts *p, const struct comma_clip_config *config, struct comma_error *err)
{
    const size_t contexts = p->n_classes ? p->n_classes : 1, width = config->text.width;
    const size_t vision = p->n_vision * config->vision.width;

    if (all_finite(p->text_input, contexts * p->n_text * width) &&
        all_finite(p->text_deep, p->n_text_deep * p->n_text * width) && all_finite(p->vision_input, vision) &&
        all_finite(p->vision_deep, p->n_vision_deep * vision) &&
        all_finite(p->meta_1_weight, p->meta_dim * config->embed_dim) && all_finite(p->meta_1_bias, p->meta_dim) &&
        all_finite(p->meta_2_weight, p->meta_dim * width) && all_finite(p->meta_2_bias, p->meta_dim ? width : 0))
        return true;
    return comma_fail(err, COMMA_E_MODEL,
                      "its prompts are not all finite numbers; is the checkpoint one of a training "
                      "that diverged?");
}

bool comma_prompts_fold(struct comma_prompts *p, const struct comma_adapter_dir *adapter,
                        const struct comma_clip_config *config, struct comma_error *err)
{
    const struct comma_adapter_config *a = &adapter->config;

    *p = (struct comma_prompts){ .last_layer = a->last_layer };
    if (a->last_layer < 1 || a->last_layer > config->text.layers)
        return comma_fail(err, COMMA_E_MODEL, "last_layer is %zu; with this backbone it is 1 to %zu", a->last_layer,
                          config->text.layers);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(a->method, methods[i].name) != 0)
            continue;
        if (methods[i].fold(p, adapter, config, err) && check_finite(p, config, err) && set_words(p, a, err))
            return true;
        comma_prompts_finish(p);
        return false;
    }
    return comma_fail(err, COMMA_E_UNSUPPORTED, "method '%s' is not one that is served", a->method);
}

void comma_prompts_finish(struct comma_prompts *p)
{
    free(p->text_input);
    free(p->text_deep);
    free(p->vision_input);
    free(p->vision_deep);
    for (size_t i = 0; p->class_names && i < p->n_classes; i++)
        free(p->class_names[i]);
    free(p->class_names);
    free(p->meta_1_weight);
    free(p->meta_1_bias);
    free(p->meta_2_weight);
    free(p->meta_2_bias);
    free(p->text_before);
    free(p->text_after);
    *p = (struct comma_prompts){ 0 };
}

size_t comma_prompts_bytes(const struct comma_prompts *p, const struct comma_clip_config *config)
{
    const size_t contexts = p->n_classes ? p->n_classes : 1;

    return sizeof(float) * (p->n_text * (contexts + p->n_text_deep) * config->text.width +
                            p->meta_dim * (1 + config->embed_dim + config->text.width) +
                            p->n_vision * (1 + p->n_vision_deep) * config->vision.width);
}
