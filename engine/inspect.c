/* SPDX-License-Identifier: MIT */
/* inspect.c - what a model, an adapter or a tensor file holds, for comma inspect: the readers of models/ and no engine.
 *
 * Whether an adapter fits a backbone is not judged by rules of its own: its prompts are folded for that backbone, as
 * they are when it is served. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/comma.h"
#include "engine/prompts.h"
#include "models/clip.h"
#include "models/convert.h"
#include "models/methods.h"
#include "models/torch_file.h"

/* Kept open as long as the inspection. */
struct comma_inspected_files {
    struct comma_clip *clip;
    struct comma_adapter_dir adapter;
    struct comma_tensors *tensors;
};

_Static_assert(COMMA_N_DTYPES <=
                       sizeof(((struct comma_inspection *)0)->dtypes) / sizeof(struct comma_inspected_dtype) &&
                   sizeof(((struct comma_inspected_tensor *)0)->shape) == sizeof(((struct comma_tensor *)0)->shape),
               "comma.h has room for every dtype and shape");

static void count_tensor(struct comma_inspection *in, const struct comma_tensor *t)
{
    const char *name = comma_dtype_name(t->dtype);
    const size_t n = comma_tensor_count(t);
    size_t i = 0;

    while (i < in->n_dtypes && strcmp(in->dtypes[i].name, name) != 0)
        i++;
    if (i == in->n_dtypes)
        in->dtypes[in->n_dtypes++] = (struct comma_inspected_dtype){ .name = name };
    in->dtypes[i].n_tensors++;
    in->dtypes[i].n_parameters += n;
    in->dtypes[i].bytes += n * comma_dtype_bytes(t->dtype);
}

static bool list_tensors(struct comma_inspection *in, const struct comma_tensors *tensors, struct comma_error *err)
{
    const size_t n = comma_tensors_size(tensors);

    in->tensors = calloc(n + 1, sizeof(*in->tensors));
    if (!in->tensors)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory for %zu tensors", in->name, n);
    for (size_t i = 0; i < n; i++) {
        const struct comma_tensor *t = comma_tensors_at(tensors, i);
        struct comma_inspected_tensor *row = &in->tensors[in->n_tensors++];

        row->name = t->name;
        row->dtype = comma_dtype_name(t->dtype);
        row->n_dims = t->n_dims;
        memcpy(row->shape, t->shape, sizeof(row->shape));
        row->bytes = comma_tensor_count(t) * comma_dtype_bytes(t->dtype);
        count_tensor(in, t);
    }
    return true;
}

/* ---- adapters ---- */

/* whole: also what comma convert would leave out. */
static void describe_adapter(const char *name, const struct comma_adapter_dir *dir, bool whole,
                             const struct comma_clip *clip, struct comma_inspected_adapter *out)
{
    const struct comma_adapter_config *config = &dir->config;
    struct comma_prompts prompts = { 0 };
    struct comma_error err;

    snprintf(out->info.name, sizeof(out->info.name), "%.64s", name);
    memcpy(out->info.method, config->method, sizeof(out->info.method));
    memcpy(out->info.ctx_init, config->ctx_init, sizeof(out->info.ctx_init));
    memcpy(out->base_model, config->base_model, sizeof(out->base_model));
    out->info.n_ctx = config->n_ctx;
    out->info.prompt_depth = config->prompt_depth;
    out->info.last_layer = config->last_layer;
    for (size_t i = 0; i < comma_tensors_size(dir->tensors); i++) {
        const struct comma_tensor *t = comma_tensors_at(dir->tensors, i);

        if (!whole && !comma_method_keeps(t->name))
            continue;
        out->n_parameters += comma_tensor_count(t);
        out->info.bytes += comma_tensor_count(t) * comma_dtype_bytes(t->dtype);
    }
    if (!clip)
        return;
    out->compared = true;
    out->fits = comma_prompts_fold(&prompts, dir, comma_clip_config(clip), &err);
    if (out->fits)
        comma_prompts_finish(&prompts);
    else
        memcpy(out->reason, err.message, sizeof(out->reason));
}

static bool inspect_adapter(struct comma_inspection *in, const char *dir, const char *model_dir,
                            struct comma_error *err)
{
    in->kind = COMMA_INSPECTED_ADAPTER;
    in->adapters = calloc(1, sizeof(*in->adapters));
    if (!in->adapters)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", dir);
    if (!comma_adapter_dir_open(dir, &in->files->adapter, err))
        return false;
    if (model_dir && !comma_clip_open(model_dir, &in->files->clip, err))
        return false;
    describe_adapter(in->name, &in->files->adapter, true, in->files->clip, &in->adapters[0]);
    in->n_adapters = 1;
    return list_tensors(in, in->files->adapter.tensors, err);
}

/* ---- models ---- */

static bool list_own_adapters(struct comma_inspection *in, struct comma_error *err)
{
    const struct comma_clip *clip = in->files->clip;
    const size_t n = comma_clip_n_adapters(clip);

    in->adapters = calloc(n + 1, sizeof(*in->adapters));
    if (!in->adapters)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory for %zu adapters", in->name, n);
    for (size_t i = 0; i < n; i++) {
        struct comma_inspected_adapter *row = &in->adapters[in->n_adapters++];
        const char *name = comma_clip_adapter_name(clip, i);
        struct comma_adapter_dir dir = { 0 };
        struct comma_error broken;

        if (comma_clip_adapter_open(clip, i, &dir, &broken)) {
            describe_adapter(name, &dir, true, clip, row);
        } else {
            snprintf(row->info.name, sizeof(row->info.name), "%s", name);
            row->compared = true;
            memcpy(row->reason, broken.message, sizeof(row->reason));
        }
        comma_adapter_dir_close(&dir);
    }
    return true;
}

static void describe_model(struct comma_inspection *in, bool count)
{
    const struct comma_clip *clip = in->files->clip;
    const struct comma_clip_config *c = comma_clip_config(clip);

    in->model = (struct comma_engine_info){
        .name = comma_clip_name(clip),
        .image_size = c->image_size,
        .patch_size = c->patch_size,
        .vision_width = c->vision.width,
        .vision_layers = c->vision.layers,
        .vision_heads = c->vision.heads,
        .text_width = c->text.width,
        .text_layers = c->text.layers,
        .text_heads = c->text.heads,
        .context_length = c->context_length,
        .vocab_size = c->vocab_size,
        .embed_dim = c->embed_dim,
        .activation = c->vision.activation == COMMA_QUICK_GELU ? "quick_gelu" : "gelu",
        .logit_scale = c->logit_scale,
        .n_parameters = comma_clip_n_parameters(clip),
        .stored_bytes = comma_clip_stored_bytes(clip),
        .dtype = comma_dtype_name(comma_clip_dtype(clip)),
        .has_tokenizer = comma_clip_merges(clip).data != NULL,
    };
    for (int role = 0; count && role < COMMA_N_CLIP_ROLES; role++) {
        const struct comma_tensor t = comma_clip_tensor(clip, (enum comma_clip_role)role);

        count_tensor(in, &t);
    }
    for (int tower = COMMA_VISION; count && tower <= COMMA_TEXT; tower++)
        for (size_t layer = 0; layer < (tower == COMMA_VISION ? c->vision : c->text).layers; layer++)
            for (int role = 0; role < COMMA_N_BLOCK_ROLES; role++) {
                const struct comma_tensor t =
                    comma_clip_block_tensor(clip, (enum comma_tower)tower, layer, (enum comma_block_role)role);

                count_tensor(in, &t);
            }
}

static bool inspect_model(struct comma_inspection *in, const char *dir, struct comma_error *err)
{
    in->kind = COMMA_INSPECTED_MODEL;
    if (!(dir ? comma_clip_open(dir, &in->files->clip, err) : comma_clip_open_embedded(&in->files->clip, err)))
        return false;
    describe_model(in, true);
    snprintf(in->name, sizeof(in->name), "%s", comma_clip_name(in->files->clip));
    return list_own_adapters(in, err);
}

/* ---- files ---- */

static void note(void *user, const char *sentence)
{
    struct comma_inspection *in = user;

    if (!in->note[0])
        snprintf(in->note, sizeof(in->note), "%s", sentence);
}

/* A learner's prompts, as comma convert would take them. Class names, which the file does not have, are made up. */
static bool inspect_prompts(struct comma_inspection *in, const char *path, struct comma_tensors *tensors,
                            const char *model_dir, struct comma_error *err)
{
    struct comma_inspected_adapter *row;
    struct comma_adapter_claims claims = { 0 };
    struct comma_method_sizes sizes;
    struct comma_error unlike;
    static char name[] = "-";
    char **names = NULL;
    size_t n_compared;
    bool ok;

    in->kind = COMMA_INSPECTED_PROMPTS;
    if (!comma_method_measure(comma_method_detect(tensors), tensors, path, &sizes, err)) {
        comma_tensors_close(tensors);
        return false;
    }
    in->adapters = calloc(1, sizeof(*in->adapters));
    names = calloc(sizes.n_classes + 1, sizeof(*names));
    if (!in->adapters || !names) {
        free(names);
        comma_tensors_close(tensors);
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);
    }
    for (size_t i = 0; i < sizes.n_classes; i++)
        names[i] = name;
    claims.classnames = names;
    claims.n_classnames = sizes.n_classes;
    ok = comma_adapter_from_checkpoint(tensors, path, &claims, &in->files->adapter, err) &&
         (!model_dir || comma_clip_open(model_dir, &in->files->clip, err));
    free(names);
    if (!ok)
        return false;
    note(in, "ctx_init and last_layer do not stand in a checkpoint; shown is what the authors train with");
    row = &in->adapters[in->n_adapters++];
    describe_adapter(in->name, &in->files->adapter, false, in->files->clip, row);
    row->info.n_classes = sizes.n_classes;
    if (row->fits && !comma_convert_match(in->files->adapter.tensors, path, in->files->clip, &n_compared, &unlike)) {
        row->fits = false;
        memcpy(row->reason, unlike.message, sizeof(row->reason));
    }
    return list_tensors(in, in->files->adapter.tensors, err);
}

/* A backbone, or if it is none, whatever tensors there are. */
static bool inspect_file(struct comma_inspection *in, const char *path, const char *model_dir, struct comma_error *err)
{
    const struct comma_clip_claims claims = { .doubt = note, .user = in };
    struct comma_tensors *tensors = NULL;
    struct comma_error none;

    in->container = comma_checkpoint_container(path);
    if (!comma_checkpoint_open(path, &tensors, err))
        return false;
    if (comma_method_detect(tensors))
        return inspect_prompts(in, path, tensors, model_dir, err);
    in->files->tensors = tensors;
    if (comma_clip_open_source(path, &claims, &in->files->clip, &none)) {
        in->kind = COMMA_INSPECTED_BACKBONE;
        describe_model(in, false);
    } else {
        in->kind = COMMA_INSPECTED_TENSORS;
        memcpy(in->note, none.message, sizeof(in->note));
    }
    return list_tensors(in, tensors, err);
}

/* ---- any path ---- */

static bool exists_in(const char *dir, const char *file)
{
    char path[4096];
    struct stat st;

    return snprintf(path, sizeof(path), "%s/%s", dir, file) < (int)sizeof(path) && stat(path, &st) == 0;
}

/* Last part of the path, without slashes at its end. */
static void take_name(const char *path, char *out, size_t size)
{
    size_t end = strlen(path), begin;

    while (end > 1 && path[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/';)
        begin--;
    snprintf(out, size, "%.*s", (int)(end - begin), path + begin);
}

bool comma_inspect(const char *path, const char *model_dir, struct comma_inspection *out, struct comma_error *err)
{
    struct comma_inspection in = { 0 };
    struct stat st;
    bool ok = false;

    in.files = calloc(1, sizeof(*in.files));
    if (!in.files)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory");
    if (path)
        take_name(path, in.name, sizeof(in.name));
    if (path && stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        ok = inspect_file(&in, path, model_dir, err);
    } else if (path && (exists_in(path, "adapter_config.json") || exists_in(path, "adapter_model.safetensors"))) {
        ok = inspect_adapter(&in, path, model_dir, err);
    } else {
        ok = inspect_model(&in, path, err);
    }
    if (ok)
        *out = in;
    else
        comma_inspection_close(&in);
    return ok;
}

void comma_inspection_close(struct comma_inspection *inspection)
{
    if (inspection->files) {
        comma_clip_close(inspection->files->clip);
        comma_adapter_dir_close(&inspection->files->adapter);
        comma_tensors_close(inspection->files->tensors);
    }
    free(inspection->files);
    free(inspection->adapters);
    free(inspection->tensors);
    *inspection = (struct comma_inspection){ 0 };
}
