/* SPDX-License-Identifier: MIT */
/* convert.c - comma_convert(): a checkpoint becomes a model directory, a prompt-learning checkpoint an adapter
 * directory.
 *
 * The readers and writers are models/'s; here is the order in which they are used, and what holds source, backbone and
 * result against one another. See comma.h and convert_impl.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/convert_impl.h"
#include "models/methods.h"
#include "models/torch_file.h"

void comma_convert_warn(const struct comma_conversion *c, const char *format, ...)
{
    char sentence[640];
    va_list args;

    if (!c->options->warn)
        return;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    c->options->warn(c->options->user, sentence);
}

bool comma_convert_step(struct comma_conversion *c, size_t bytes, struct comma_error *err)
{
    c->done += bytes;
    return !c->options->progress || c->options->progress(c->options->user, c->done, c->total) ||
           comma_fail(err, COMMA_E_CANCELLED, "interrupted; nothing was written");
}

static bool step(void *user, size_t bytes, struct comma_error *err)
{
    return comma_convert_step(user, bytes, err);
}

static void tell_doubt(void *user, const char *sentence)
{
    comma_convert_warn(user, "%s", sentence);
}

static bool open_tokenizer(struct comma_conversion *c, struct comma_error *err)
{
    const struct comma_bytes merges = comma_clip_merges(c->clip);

    return !merges.data || comma_tokenizer_create(merges, comma_clip_config(c->clip)->vocab_size, &c->tokenizer, err) ||
           comma_fail_within(err, "%s", c->options->merges ? c->options->merges : "merges.txt");
}

static struct comma_store_options store_options(struct comma_conversion *c)
{
    const char *dtype = c->options->dtype;

    return (struct comma_store_options){
        .as_stored = !dtype,
        .dtype = !dtype                       ? COMMA_F32
                 : strcmp(dtype, "f16") == 0  ? COMMA_F16
                 : strcmp(dtype, "bf16") == 0 ? COMMA_BF16
                                              : COMMA_F32,
        .write = { .allow_nan = c->options->allow_nan, .step = step, .user = c },
    };
}

/* Bytes of the adapters' tensors, most of which are written. */
static size_t adapter_bytes(const struct comma_conversion *c)
{
    size_t bytes = 0;

    for (size_t i = 0; i < c->n_adapters; i++) {
        const struct comma_tensors *ts = c->adapters[i].dir.tensors;

        for (size_t t = 0; t < comma_tensors_size(ts); t++)
            if (comma_method_keeps(comma_tensors_at(ts, t)->name))
                bytes +=
                    comma_tensor_count(comma_tensors_at(ts, t)) * comma_dtype_bytes(comma_tensors_at(ts, t)->dtype);
    }
    return bytes;
}

static bool write_adapters(struct comma_conversion *c, struct comma_error *err)
{
    const struct comma_write_options write = { .step = step, .user = c };

    if (c->n_adapters > 0 && !comma_staging_mkdir(&c->staging, "adapters", err))
        return false;
    for (size_t i = 0; i < c->n_adapters; i++) {
        const struct comma_convert_item *item = &c->adapters[i];
        char folder[80];

        snprintf(folder, sizeof(folder), "adapters/%s", item->name);
        if (!comma_staging_mkdir(&c->staging, folder, err) ||
            !comma_convert_adapter(&item->dir, &c->staging, folder, &write, err))
            return false;
    }
    return true;
}

/* The last part of where the result will lie: the name that a backbone is served under. */
static const char *result_name(const struct comma_conversion *c)
{
    const char *slash = strrchr(c->staging.target, '/');

    return slash ? slash + 1 : c->staging.target;
}

static bool convert_model(struct comma_conversion *c, struct comma_converted *out, struct comma_error *err)
{
    const struct comma_convert_options *o = c->options;
    const struct comma_clip_claims claims = { .activation = o->activation,
                                              .vision_heads = o->vision_heads,
                                              .text_heads = o->text_heads,
                                              .merges = o->merges,
                                              .doubt = tell_doubt,
                                              .user = c };
    const struct comma_store_options store = store_options(c);

    out->kind = COMMA_INSPECTED_MODEL;
    if (o->model_dir)
        return comma_fail(err, COMMA_E_INPUT, "--model is for prompts alone, but %s is a backbone itself", o->source);
    if (!comma_clip_open_source(o->source, &claims, &c->clip, err) || !open_tokenizer(c, err) ||
        !comma_convert_step(c, 0, err) || !comma_convert_open_adapters(c, result_name(c), err))
        return false;
    out->has_tokenizer = c->tokenizer != NULL;
    if (!out->has_tokenizer)
        comma_convert_warn(c,
                           "%s: comes without a tokenizer, so the result takes images only and cannot be served; for "
                           "labels give CLIP's "
                           "bpe_simple_vocab_16e6.txt.gz, or a merges.txt, as --merges",
                           o->source);
    c->total = comma_convert_weight_bytes(c->clip, &store) + adapter_bytes(c);
    if (!comma_convert_model(c->clip, &c->staging, &store, err) || !write_adapters(c, err))
        return false;
    out->tried = true;
    return comma_convert_try_model(c, &out->agreement, err);
}

/* tensors: the source's, taken over. */
static bool convert_adapter(struct comma_conversion *c, struct comma_tensors *tensors, struct comma_converted *out,
                            struct comma_error *err)
{
    const struct comma_convert_options *o = c->options;
    const struct comma_write_options write = { .allow_nan = o->allow_nan, .step = step, .user = c };

    out->kind = COMMA_INSPECTED_ADAPTER;
    if (o->n_adapters > 0 || o->merges || o->activation || o->vision_heads || o->text_heads || o->dtype) {
        comma_tensors_close(tensors);
        return comma_fail(err, COMMA_E_INPUT,
                          "%s holds prompts and no backbone of its own, so it becomes an adapter directory; "
                          "--adapter-from, --merges, --activation, --heads and --dtype are for backbones",
                          o->source);
    }
    if ((o->model_dir && (!comma_clip_open(o->model_dir, &c->clip, err) || !open_tokenizer(c, err)))) {
        comma_tensors_close(tensors);
        return false;
    }
    if (!comma_convert_open_lone(c, tensors, err))
        return false;
    if (!c->clip)
        comma_convert_warn(c, "%s: not held against a backbone; --model DIR does that, and finds out ctx_init",
                           o->source);
    c->total = adapter_bytes(c);
    if (!comma_convert_adapter(&c->adapters[0].dir, &c->staging, "", &write, err))
        return false;
    out->tried = c->clip != NULL;
    return !c->clip || comma_convert_try_adapter(c, &out->agreement, err);
}

/* A file is opened to see what it holds; a directory is a model. */
static bool convert_source(struct comma_conversion *c, struct comma_converted *out, struct comma_error *err)
{
    const char *source = c->options->source;
    struct comma_tensors *tensors = NULL;
    struct stat st;

    if (stat(source, &st) == 0 && S_ISDIR(st.st_mode))
        return convert_model(c, out, err);
    if (!comma_checkpoint_open(source, &tensors, err))
        return false;
    if (comma_method_detect(tensors))
        return convert_adapter(c, tensors, out, err);
    comma_tensors_close(tensors);
    return convert_model(c, out, err);
}

static bool describe(const struct comma_conversion *c, struct comma_converted *out, struct comma_error *err)
{
    out->adapters = calloc(c->n_adapters + 1, sizeof(*out->adapters));
    if (!out->adapters)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
    for (size_t i = 0; i < c->n_adapters; i++) {
        const struct comma_adapter_config *config = &c->adapters[i].dir.config;
        struct comma_adapter_info *info = &out->adapters[out->n_adapters++];

        *info = (struct comma_adapter_info){ .n_ctx = config->n_ctx,
                                             .prompt_depth = config->prompt_depth,
                                             .last_layer = config->last_layer,
                                             .n_classes = config->n_classnames };
        snprintf(info->name, sizeof(info->name), "%.64s",
                 out->kind == COMMA_INSPECTED_ADAPTER ? result_name(c) : c->adapters[i].name);
        memcpy(info->method, config->method, sizeof(info->method));
        memcpy(info->ctx_init, config->ctx_init, sizeof(info->ctx_init));
    }
    return true;
}

bool comma_convert(const struct comma_convert_options *options, struct comma_converted *out, struct comma_error *err)
{
    struct comma_conversion c = { .options = options };
    struct comma_converted converted = { 0 };
    char *leftover = NULL;
    bool ok;

    ok = comma_staging_begin(options->out, options->force, &c.staging, err) && convert_source(&c, &converted, err) &&
         describe(&c, &converted, err) && comma_convert_step(&c, 0, err) &&
         comma_staging_commit(&c.staging, &leftover, err);
    if (leftover)
        comma_convert_warn(&c, "%s is what was replaced and could not be removed", leftover);
    free(leftover);
    for (size_t i = 0; i < c.n_adapters; i++)
        comma_adapter_dir_close(&c.adapters[i].dir);
    free(c.adapters);
    comma_tokenizer_destroy(c.tokenizer);
    comma_clip_close(c.clip);
    comma_staging_abandon(&c.staging);
    if (ok)
        *out = converted;
    else
        comma_converted_finish(&converted);
    return ok;
}

void comma_converted_finish(struct comma_converted *converted)
{
    free(converted->adapters);
    *converted = (struct comma_converted){ 0 };
}
