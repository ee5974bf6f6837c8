/* SPDX-License-Identifier: MIT */
/* convert_adapter.c - see convert.h: the files of an adapter directory, and whether its checkpoint and a backbone
 * belong together. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/convert.h"
#include "models/convert_files.h"
#include "models/methods.h"
#include "models/names.h"

/* ---- writing ---- */

static bool write_config(const struct comma_adapter_config *c, struct comma_staging *staging, const char *name,
                         struct comma_error *err)
{
    json_t *json = json_pack("{s:s, s:I, s:I, s:s, s:I, s:s}", "method", c->method, "n_ctx", (json_int_t)c->n_ctx,
                             "prompt_depth", (json_int_t)c->prompt_depth, "ctx_init", c->ctx_init, "last_layer",
                             (json_int_t)c->last_layer, "base_model", c->base_model);
    bool ok = json != NULL;

    if (ok && c->class_token_position[0])
        ok = json_object_set_new(json, "class_token_position", json_string(c->class_token_position)) == 0;
    if (ok && c->n_classnames > 0) {
        json_t *names = json_array();

        for (size_t i = 0; i < c->n_classnames; i++)
            ok = ok && json_array_append_new(names, json_string(c->classnames[i])) == 0;
        ok = json_object_set_new(json, "classnames", names) == 0 && ok;
    }
    if (!ok) {
        json_decref(json);
        json = NULL;
    }
    return comma_convert_json(json, staging, name, JSON_INDENT(2), err);
}

/* Views of the tensors that inference needs. Names are borrowed. */
static bool list_items(const struct comma_adapter_dir *adapter, struct comma_stored_tensor **out, size_t *n,
                       struct comma_error *err)
{
    const size_t most = comma_tensors_size(adapter->tensors);
    struct comma_stored_tensor *items = calloc(most + 1, sizeof(*items));

    *n = 0;
    if (!items)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of prompts");
    for (size_t i = 0; i < most; i++) {
        const struct comma_tensor *t = comma_tensors_at(adapter->tensors, i);

        if (!comma_method_keeps(t->name))
            continue;
        if (!comma_dtype_is_float(t->dtype)) {
            free(items);
            return comma_fail(err, COMMA_E_MODEL, "%s is %s; prompts are F32, F16, BF16 or F64",
                              comma_shown_name(t->name).text, comma_dtype_name(t->dtype));
        }
        items[(*n)++] = (struct comma_stored_tensor){ .name = (char *)(uintptr_t)t->name,
                                                      .dtype = t->dtype == COMMA_F64 ? COMMA_F32 : t->dtype,
                                                      .view = *t };
    }
    *out = items;
    return true;
}

bool comma_convert_adapter(const struct comma_adapter_dir *adapter, struct comma_staging *staging, const char *folder,
                           const struct comma_write_options *options, struct comma_error *err)
{
    const char *slash = folder[0] ? "/" : "";
    struct comma_stored_tensor *items = NULL;
    char config[160], weights[160];
    size_t n = 0;
    bool ok;

    snprintf(config, sizeof(config), "%s%sadapter_config.json", folder, slash);
    snprintf(weights, sizeof(weights), "%s%sadapter_model.safetensors", folder, slash);
    ok = list_items(adapter, &items, &n, err) && write_config(&adapter->config, staging, config, err) &&
         comma_convert_weights(items, n, staging, weights, options, err);
    free(items);
    return ok;
}

/* ---- belonging together ---- */

/* Equal but for the rounding of 16-bit formats: bf16, the coarsest, has 8 bits of precision, and either side may have
 * been rounded. Weights of another model differ by more in nearly every value. */
static bool nearly_equal(float a, float b)
{
    const float larger = fmaxf(fabsf(a), fabsf(b));

    return fabsf(a - b) <= larger * 0x1p-7f + 1e-6f || (isnan(a) && isnan(b));
}

static bool floats_of(const struct comma_tensor *t, float **out, struct comma_error *err)
{
    *out = malloc((comma_tensor_count(t) + 1) * sizeof(**out));
    return *out ? comma_tensor_to_f32(t, *out, err) : comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", t->name);
}

/* One tensor of the checkpoint against the backbone's. */
static bool compare(const struct comma_tensor *theirs, const struct comma_tensor *ours, const char *file,
                    const char *name, struct comma_error *err)
{
    float *a = NULL, *b = NULL;
    size_t n = 0, different = 0;
    char is[160], wanted[160];
    bool ok;

    if (!comma_tensor_has_shape(theirs, ours->n_dims, ours->shape))
        return comma_fail(err, COMMA_E_MODEL, "%s: trained on another backbone: %s is %s, but this one's is %s", file,
                          comma_shown_name(name).text, comma_tensor_shape_text(theirs, is, sizeof(is)),
                          comma_tensor_shape_text(ours, wanted, sizeof(wanted)));
    ok = floats_of(theirs, &a, err) && floats_of(ours, &b, err);
    n = ok ? comma_tensor_count(ours) : 0;
    for (size_t i = 0; i < n; i++)
        different += !nearly_equal(a[i], b[i]);
    if (ok && different > 0 && n == 1)
        ok = comma_fail(err, COMMA_E_MODEL, "%s: trained on another backbone: %s is %g, but this one's is %g", file,
                        comma_shown_name(name).text, (double)a[0], (double)b[0]);
    free(a);
    free(b);
    if (ok && different > 0)
        return comma_fail(err, COMMA_E_MODEL, "%s: trained on another backbone: %zu of the %zu values of %s differ",
                          file, different, n, comma_shown_name(name).text);
    return ok;
}

struct match {
    const struct comma_tensors *checkpoint;
    const char *file;
    size_t n;
    struct comma_error *err;
};

/* What the checkpoint does not have is not compared. */
static bool match_place(struct match *m, const struct comma_place *place, const struct comma_tensor *ours)
{
    const struct comma_tensor *stored = comma_tensors_find(m->checkpoint, place->name);
    struct comma_tensor view;

    if (!stored)
        return true;
    m->n++;
    if (!comma_dtype_is_float(stored->dtype) || !comma_place_view(place, stored, &view))
        view = *stored;
    if (ours->n_dims == 0 && view.n_dims == 1 && view.shape[0] == 1) /* a logit scale: both [] and [1] are in use */
        view.n_dims = 0;
    return compare(&view, ours, m->file, place->name, m->err);
}

static bool match_towers(struct match *m, const struct comma_naming *naming, const struct comma_clip *clip)
{
    const float scale = comma_clip_config(clip)->logit_scale;
    const struct comma_tensor ours = { .dtype = COMMA_F32, .data = (const unsigned char *)&scale };
    struct comma_place place = comma_logit_scale_place(naming);

    if (!match_place(m, &place, &ours))
        return false;
    for (int role = 0; role < COMMA_N_CLIP_ROLES; role++) {
        const struct comma_tensor t = comma_clip_tensor(clip, (enum comma_clip_role)role);

        place = comma_clip_place(naming, (enum comma_clip_role)role);
        if (!match_place(m, &place, &t))
            return false;
    }
    for (int tower = COMMA_VISION; tower <= COMMA_TEXT; tower++)
        for (int role = 0; role < COMMA_N_BLOCK_ROLES; role++) {
            const struct comma_tensor t =
                comma_clip_block_tensor(clip, (enum comma_tower)tower, 0, (enum comma_block_role)role);

            place = comma_block_place(naming, (enum comma_tower)tower, 0, (enum comma_block_role)role);
            if (!match_place(m, &place, &t))
                return false;
        }
    return true;
}

/* token_prefix [classes, 1, D]: the embedding of SOS, the last but one row. */
static bool match_start(struct match *m, const struct comma_clip *clip)
{
    const struct comma_tensor *prefix = comma_method_token_prefix(m->checkpoint);
    const struct comma_tensor embedding = comma_clip_tensor(clip, COMMA_TOKEN_EMBEDDING);
    struct comma_tensor theirs, ours;

    if (!prefix || prefix->n_dims != 3 || prefix->shape[0] == 0 || prefix->shape[1] != 1)
        return true;
    theirs = comma_tensor_rows(prefix, 0, 1);
    theirs.n_dims = 2; /* [1, 1, D] to [1, D] */
    theirs.shape[1] = theirs.shape[2];
    theirs.strides[1] = theirs.strides[2];
    ours = comma_tensor_rows(&embedding, embedding.shape[0] - 2, 1);
    m->n++;
    return compare(&theirs, &ours, m->file, prefix->name, m->err);
}

bool comma_convert_match(const struct comma_tensors *checkpoint, const char *file, const struct comma_clip *clip,
                         size_t *n_compared, struct comma_error *err)
{
    struct match m = { checkpoint, file, 0, err };
    struct comma_naming naming;

    if ((comma_naming_detect(checkpoint, &naming) && !match_towers(&m, &naming, clip)) || !match_start(&m, clip))
        return false;
    *n_compared = m.n;
    return true;
}

void comma_convert_backbone_name(size_t width, size_t patch_size, size_t image_size, char *out, size_t size)
{
    static const struct {
        size_t width;
        const char *letter;
    } sizes[] = { { 384, "S" }, { 768, "B" }, { 1024, "L" }, { 1280, "H" }, { 1408, "g" }, { 1664, "bigG" } };

    out[0] = '\0';
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        if (sizes[i].width == width && patch_size > 0 && image_size > 0 && image_size != 224)
            snprintf(out, size, "ViT-%s/%zu@%zupx", sizes[i].letter, patch_size, image_size);
        else if (sizes[i].width == width && patch_size > 0)
            snprintf(out, size, "ViT-%s/%zu", sizes[i].letter, patch_size);
}
