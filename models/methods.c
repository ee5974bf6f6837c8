/* SPDX-License-Identifier: MIT */
/* methods.c - see methods.h. */
#include "models/methods.h"

#include <stdio.h>
#include <string.h>

#define LEARNER "prompt_learner."

static const struct comma_tensor *find(const struct comma_tensors *ts, const char *name)
{
    const struct comma_tensor *t = comma_tensors_find(ts, name);

    /* CoOp and CoCoOp save the learner alone, without its prefix. */
    return t || strncmp(name, LEARNER, strlen(LEARNER)) != 0 ? t : comma_tensors_find(ts, name + strlen(LEARNER));
}

const struct comma_tensor *comma_method_ctx(const struct comma_tensors *ts)
{
    return find(ts, LEARNER "ctx");
}

const struct comma_tensor *comma_method_token_prefix(const struct comma_tensors *ts)
{
    return find(ts, LEARNER "token_prefix");
}

const struct comma_tensor *comma_method_token_suffix(const struct comma_tensors *ts)
{
    return find(ts, LEARNER "token_suffix");
}

/* How many of the names, made of format and first, first + 1, ..., are there in a row. */
static size_t count(const struct comma_tensors *ts, const char *head, size_t first, const char *tail)
{
    char name[128];
    size_t n = 0;

    do
        snprintf(name, sizeof(name), "%s%zu%s", head, first + n, tail);
    while (find(ts, name) && ++n);
    return n;
}

static size_t count_deep(const struct comma_tensors *ts, const char *tower)
{
    char head[64];

    snprintf(head, sizeof(head), "%s.transformer.resblocks.", tower);
    return count(ts, head, 1, ".VPT_shallow");
}

const char *comma_method_detect(const struct comma_tensors *ts)
{
    if (find(ts, LEARNER "compound_prompt_projections_image_base.fc.weight"))
        return "comma";
    if (find(ts, LEARNER "meta_net.linear1.weight"))
        return "cocoop";
    if (find(ts, LEARNER "proj.weight") && comma_method_ctx(ts))
        return "maple";
    if (find(ts, "image_encoder.VPT") || count_deep(ts, "text_encoder") > 0)
        return comma_method_ctx(ts) ? "ivlp" : "vpt";
    return comma_method_ctx(ts) ? "coop" : NULL;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* COMMA keeps the deep text prompts in one tensor [depth - 1, n_ctx, D], which depth 1 may leave out. */
static bool comma_depth(const struct comma_tensors *ts, const char *file, const struct comma_tensor *ctx, size_t *out,
                        struct comma_error *err)
{
    const struct comma_tensor *deep = find(ts, LEARNER "compound_prompts_text");
    char shape[200];

    if (deep && (deep->n_dims != 3 || deep->shape[1] != ctx->shape[0] || deep->shape[2] != ctx->shape[1]))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is %s, but must be [prompt_depth - 1, %zu, %zu]", file,
                          deep->name, comma_tensor_shape_text(deep, shape, sizeof(shape)), ctx->shape[0],
                          ctx->shape[1]);
    *out = deep ? deep->shape[0] + 1 : 1;
    return true;
}

/* The tensor that says n_ctx: rows x width, or for CoOp classes x rows x width. */
static bool measure_ctx(const struct comma_tensor *ctx, const char *file, const char *name, bool class_specific,
                        struct comma_method_sizes *out, struct comma_error *err)
{
    char shape[200];

    if (!ctx)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is missing", file, name);
    if (comma_tensor_count(ctx) == 0 || (ctx->n_dims != 2 && !(class_specific && ctx->n_dims == 3)))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is %s, but must be [n_ctx, width]", file, ctx->name,
                          comma_tensor_shape_text(ctx, shape, sizeof(shape)));
    out->n_ctx = ctx->shape[ctx->n_dims - 2];
    out->n_classes = ctx->n_dims == 3 ? ctx->shape[0] : 0;
    return true;
}

bool comma_method_measure(const char *method, const struct comma_tensors *ts, const char *file,
                          struct comma_method_sizes *out, struct comma_error *err)
{
    const bool vpt = strcmp(method, "vpt") == 0;
    const char *name = vpt ? "image_encoder.VPT" : LEARNER "ctx";
    const struct comma_tensor *ctx = find(ts, name);

    *out = (struct comma_method_sizes){ .depth = 1 };
    if (!measure_ctx(ctx, file, name, strcmp(method, "coop") == 0, out, err))
        return false;
    if (strcmp(method, "comma") == 0)
        return comma_depth(ts, file, ctx, &out->depth, err);
    if (strcmp(method, "maple") == 0)
        out->depth = 1 + count(ts, LEARNER "compound_prompts_text.", 0, "");
    else if (vpt || strcmp(method, "ivlp") == 0)
        out->depth = 1 + larger(count_deep(ts, "image_encoder"), count_deep(ts, "text_encoder"));
    else if (strcmp(method, "coop") != 0 && strcmp(method, "cocoop") != 0)
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "%s: the method %s; comma, maple, ivlp, vpt, coop and cocoop are "
                          "supported",
                          file, comma_shown_name(method).text);
    return true;
}

bool comma_method_keeps(const char *tensor)
{
    const char *dot = strrchr(tensor, '.'), *last = dot ? dot + 1 : tensor;

    if (strcmp(last, "token_prefix") == 0 || strcmp(last, "token_suffix") == 0 ||
        strcmp(last, "compound_prompts_image") == 0)
        return false;
    return strncmp(tensor, LEARNER, strlen(LEARNER)) == 0 || strcmp(tensor, "ctx") == 0 ||
           strncmp(tensor, "meta_net.", 9) == 0 || strcmp(last, "VPT") == 0 || strcmp(last, "VPT_shallow") == 0;
}
