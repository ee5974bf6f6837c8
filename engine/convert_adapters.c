/* SPDX-License-Identifier: MIT */
/* convert_adapters.c - see convert_impl.h: the adapters of a conversion, opened, named, and held against the backbone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/convert_impl.h"
#include "engine/prompts.h"
#include "models/torch_file.h"

/* ---- names ---- */

static bool taken(const struct comma_conversion *c, const char *name, const char *backbone)
{
    if (strcmp(name, backbone) == 0)
        return true;
    for (size_t i = 0; i < c->n_adapters; i++)
        if (strcmp(c->adapters[i].name, name) == 0)
            return true;
    for (size_t i = 0; i < c->options->n_adapters; i++)
        if (c->options->adapters[i].name && strcmp(c->options->adapters[i].name, name) == 0)
            return true;
    return false;
}

/* The method, method-2, method-3, ...: the first that is free. */
static void choose_name(const struct comma_conversion *c, const char *backbone, struct comma_convert_item *item)
{
    char name[sizeof(item->name)];

    snprintf(name, sizeof(name), "%s", item->dir.config.method);
    for (size_t n = 2; taken(c, name, backbone); n++)
        snprintf(name, sizeof(name), "%s-%zu", item->dir.config.method, n);
    memcpy(item->name, name, sizeof(name));
}

static bool check_names(const struct comma_conversion *c, const char *backbone, struct comma_error *err)
{
    const struct comma_convert_adapter *list = c->options->adapters;

    for (size_t i = 0; i < c->options->n_adapters; i++) {
        if (!list[i].name)
            continue;
        if (!comma_adapter_name_valid(list[i].name) || list[i].name[0] == '.')
            return comma_fail(err, COMMA_E_INPUT,
                              "adapter name \"%.80s\" is not allowed: 1 to 64 letters, digits, '.', '_' or '-', and no "
                              "'.' in front",
                              list[i].name);
        if (strcmp(list[i].name, backbone) == 0)
            return comma_fail(err, COMMA_E_INPUT,
                              "adapter name \"%s\" would be the backbone's own, since -o ends in it; choose another",
                              list[i].name);
        for (size_t j = 0; j < i; j++)
            if (list[j].name && strcmp(list[j].name, list[i].name) == 0)
                return comma_fail(err, COMMA_E_INPUT, "adapter name \"%s\" is given twice", list[i].name);
    }
    return true;
}

/* ---- opening ---- */

static struct comma_adapter_claims claims_of(const struct comma_convert_options *o)
{
    return (struct comma_adapter_claims){ .ctx_init = o->ctx_init,
                                          .last_layer = o->last_layer,
                                          .class_token_position = o->class_token_position,
                                          .classnames = o->classnames,
                                          .n_classnames = o->n_classnames };
}

/* What the checkpoint says of its backbone's sizes, for base_model. */
static void name_base(const struct comma_conversion *c, struct comma_convert_item *item)
{
    char *out = item->dir.config.base_model;
    const size_t size = sizeof(item->dir.config.base_model);
    const struct comma_tensor *patch = comma_tensors_find(item->dir.tensors, "image_encoder.conv1.weight");

    if (out[0])
        return;
    if (c->clip) {
        const struct comma_clip_config *config = comma_clip_config(c->clip);

        comma_convert_backbone_name(config->vision.width, config->patch_size, config->image_size, out, size);
    } else if (patch && patch->n_dims == 4) {
        comma_convert_backbone_name(patch->shape[0], patch->shape[3], 0, out, size);
    }
}

/* Whether it can be served over this backbone, and was trained on it. */
static bool check_backbone(const struct comma_conversion *c, struct comma_convert_item *item, struct comma_error *err)
{
    struct comma_prompts prompts = { 0 };
    size_t n_compared;

    if (!comma_convert_match(item->dir.tensors, item->path, c->clip, &n_compared, err))
        return false;
    if (item->from_checkpoint && n_compared == 0)
        comma_convert_warn(
            c, "%s: carries nothing of its backbone, so whether it was trained on this one is not checked", item->path);
    if (c->tokenizer && item->from_checkpoint && !comma_convert_find_words(c, item, err))
        return false;
    if (!comma_prompts_fold(&prompts, &item->dir, comma_clip_config(c->clip), err))
        return comma_fail_within(err, "%s", item->path);
    comma_prompts_finish(&prompts);
    return true;
}

static bool finish_item(const struct comma_conversion *c, struct comma_convert_item *item, struct comma_error *err)
{
    name_base(c, item);
    return !c->clip || check_backbone(c, item, err);
}

/* A directory, or a checkpoint. */
static bool open_path(const struct comma_conversion *c, struct comma_convert_item *item, struct comma_error *err)
{
    const struct comma_adapter_claims claims = claims_of(c->options);
    struct comma_tensors *tensors = NULL;
    struct stat st;

    if (stat(item->path, &st) != 0)
        return comma_fail(err, COMMA_E_IO, "%s: %s", item->path, strerror(errno));
    if (!S_ISDIR(st.st_mode)) {
        item->from_checkpoint = true;
        return comma_checkpoint_open(item->path, &tensors, err) &&
               comma_adapter_from_checkpoint(tensors, item->path, &claims, &item->dir, err);
    }
    if (claims.ctx_init || claims.last_layer || claims.class_token_position || claims.classnames)
        comma_convert_warn(c,
                           "%s: an adapter directory, whose adapter_config.json is followed; --ctx-init, --last-layer, "
                           "--classnames and --class-token-position are for checkpoints",
                           item->path);
    return comma_adapter_dir_open(item->path, &item->dir, err);
}

bool comma_convert_open_adapters(struct comma_conversion *c, const char *backbone, struct comma_error *err)
{
    const size_t own = comma_clip_n_adapters(c->clip), more = c->options->n_adapters;

    if (!check_names(c, backbone, err))
        return false;
    c->adapters = calloc(own + more + 1, sizeof(*c->adapters));
    if (!c->adapters)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu adapters", own + more);
    for (size_t i = 0; i < own + more; i++) {
        struct comma_convert_item *item = &c->adapters[i];
        const struct comma_convert_adapter *given = i < own ? NULL : &c->options->adapters[i - own];
        const char *name = given ? given->name : comma_clip_adapter_name(c->clip, i);

        c->n_adapters++; /* to be closed from here on; a name it gets below */
        item->path = given ? given->path : name;
        if (!(given ? open_path(c, item, err) : comma_clip_adapter_open(c->clip, i, &item->dir, err)))
            return false;
        if (name && !given && (taken(c, name, backbone) || !comma_adapter_name_valid(name)))
            return comma_fail(err, COMMA_E_INPUT,
                              "the name of the source's own adapter \"%.80s\" cannot be used here; give "
                              "another to --adapter-from, or end -o in another",
                              name);
        if (name)
            snprintf(item->name, sizeof(item->name), "%s", name);
        else
            choose_name(c, backbone, item);
        if (!finish_item(c, item, err) || !comma_convert_step(c, 0, err))
            return false;
    }
    return true;
}

bool comma_convert_open_lone(struct comma_conversion *c, struct comma_tensors *tensors, struct comma_error *err)
{
    const struct comma_adapter_claims claims = claims_of(c->options);

    c->adapters = calloc(1, sizeof(*c->adapters));
    if (!c->adapters) {
        comma_tensors_close(tensors);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for an adapter");
    }
    c->adapters[0].path = c->options->source;
    c->adapters[0].from_checkpoint = true;
    c->n_adapters = 1;
    return comma_adapter_from_checkpoint(tensors, c->options->source, &claims, &c->adapters[0].dir, err) &&
           finish_item(c, &c->adapters[0], err);
}
