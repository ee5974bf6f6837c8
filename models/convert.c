/* SPDX-License-Identifier: MIT */
/* convert.c - see convert.h: the files of a model directory. */
#include "models/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/convert_files.h"
#include "models/merges.h"
#include "models/names.h"
#include "models/safetensors.h"

/* ---- weights ---- */

struct item_list {
    struct comma_stored_tensor *items; /* names are owned */
    size_t n;
};

static void finish_items(struct item_list *list)
{
    for (size_t i = 0; list->items && i < list->n; i++)
        free(list->items[i].name);
    free(list->items);
    *list = (struct item_list){ 0 };
}

static enum comma_dtype stored_dtype(const struct comma_store_options *options, enum comma_dtype dtype)
{
    if (!options->as_stored)
        return options->dtype;
    return dtype == COMMA_F64 ? COMMA_F32 : dtype;
}

static bool add_item(struct item_list *list, const char *name, const struct comma_tensor *view,
                     const struct comma_store_options *options)
{
    struct comma_stored_tensor *item = &list->items[list->n];

    *item = (struct comma_stored_tensor){ .name = strdup(name),
                                          .dtype = stored_dtype(options, view->dtype),
                                          .view = *view };
    list->n += item->name != NULL;
    return item->name != NULL;
}

/* All tensors of the model under Hugging Face's names. logit_scale is the one value that is not a view of the file. */
static bool list_items(const struct comma_clip *clip, const struct comma_store_options *options, struct item_list *list,
                       struct comma_error *err)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const struct comma_naming naming = comma_naming_hugging_face();
    const size_t n = 1 + COMMA_N_CLIP_ROLES + (c->vision.layers + c->text.layers) * COMMA_N_BLOCK_ROLES;
    const struct comma_tensor scale = { .dtype = COMMA_F32, .data = (const unsigned char *)&c->logit_scale };
    const struct comma_store_options exact = { .as_stored = true };
    bool ok;

    list->items = calloc(n, sizeof(*list->items));
    ok = list->items && add_item(list, comma_logit_scale_place(&naming).name, &scale, &exact);
    for (int role = 0; ok && role < COMMA_N_CLIP_ROLES; role++) {
        const struct comma_tensor view = comma_clip_tensor(clip, (enum comma_clip_role)role);

        ok = add_item(list, comma_clip_place(&naming, (enum comma_clip_role)role).name, &view, options);
    }
    for (int tower = COMMA_VISION; tower <= COMMA_TEXT; tower++)
        for (size_t i = 0; i < (tower == COMMA_VISION ? c->vision : c->text).layers * COMMA_N_BLOCK_ROLES; i++) {
            const enum comma_block_role role = (enum comma_block_role)(i % COMMA_N_BLOCK_ROLES);
            const size_t layer = i / COMMA_N_BLOCK_ROLES;
            const struct comma_tensor view = comma_clip_block_tensor(clip, (enum comma_tower)tower, layer, role);

            ok = ok &&
                 add_item(list, comma_block_place(&naming, (enum comma_tower)tower, layer, role).name, &view, options);
        }
    return ok || comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of weights");
}

size_t comma_convert_weight_bytes(const struct comma_clip *clip, const struct comma_store_options *options)
{
    struct item_list list = { 0 };
    size_t bytes = 0;

    if (list_items(clip, options, &list, NULL))
        for (size_t i = 0; i < list.n; i++)
            bytes += comma_tensor_count(&list.items[i].view) * comma_dtype_bytes(list.items[i].dtype);
    finish_items(&list);
    return bytes;
}

bool comma_convert_weights(const struct comma_stored_tensor *items, size_t n, struct comma_staging *staging,
                           const char *name, const struct comma_write_options *options, struct comma_error *err)
{
    struct comma_tensors *stored = NULL;
    char *path;
    bool ok;
    int fd;

    if (!comma_staging_create(staging, name, &fd, &path, err))
        return false;
    ok = comma_safetensors_write(fd, path, items, n, options, err);
    if (!comma_staging_close(fd, path, ok ? err : NULL))
        ok = false;
    ok = ok && comma_safetensors_open(path, &stored, err) && comma_safetensors_compare(stored, path, items, n, err);
    comma_tensors_close(stored);
    free(path);
    return ok;
}

static bool write_weights(const struct comma_clip *clip, struct comma_staging *staging,
                          const struct comma_store_options *options, struct comma_error *err)
{
    struct item_list list = { 0 };
    const bool ok = list_items(clip, options, &list, err) &&
                    comma_convert_weights(list.items, list.n, staging, "model.safetensors", &options->write, err);

    finish_items(&list);
    return ok;
}

/* ---- configuration ---- */

bool comma_convert_json(json_t *json, struct comma_staging *staging, const char *name, size_t flags,
                        struct comma_error *err)
{
    char *text = json ? json_dumps(json, flags) : NULL, *line = NULL;
    const bool ok = text && asprintf(&line, "%s\n", text) >= 0
                        ? comma_staging_write(staging, name, comma_text_of(line), err)
                        : comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", name);

    free(line);
    free(text);
    json_decref(json);
    return ok;
}

/* The shortest decimal that is this float: 0.48145466, not 0.48145466089248657. */
static json_t *json_of_float(float x)
{
    char text[32];

    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x)
            break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *json_of_tower(const char *type, const struct comma_tower_config *t, size_t embed_dim)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:I}", "model_type", type, "hidden_act",
                     t->activation == COMMA_GELU ? "gelu" : "quick_gelu", "hidden_size", (json_int_t)t->width,
                     "intermediate_size", (json_int_t)t->mlp_dim, "num_hidden_layers", (json_int_t)t->layers,
                     "num_attention_heads", (json_int_t)t->heads, "layer_norm_eps", json_of_float(t->layer_norm_eps),
                     "projection_dim", (json_int_t)embed_dim);
}

static bool add_size(json_t *json, const char *key, size_t value)
{
    return json_object_set_new(json, key, json_integer((json_int_t)value)) == 0;
}

static bool write_config(const struct comma_clip *clip, struct comma_staging *staging,
                         const struct comma_store_options *options, struct comma_error *err)
{
    static const char *const torch_names[] = {
        [COMMA_F32] = "float32", [COMMA_F16] = "float16", [COMMA_BF16] = "bfloat16"
    };
    const struct comma_clip_config *c = comma_clip_config(clip);
    json_t *vision = json_of_tower("clip_vision_model", &c->vision, c->embed_dim);
    json_t *text = json_of_tower("clip_text_model", &c->text, c->embed_dim), *json;
    const bool ok = vision && text && add_size(vision, "image_size", c->image_size) &&
                    add_size(vision, "patch_size", c->patch_size) &&
                    add_size(text, "max_position_embeddings", c->context_length) &&
                    add_size(text, "vocab_size", c->vocab_size) && add_size(text, "bos_token_id", c->vocab_size - 2) &&
                    add_size(text, "eos_token_id", c->vocab_size - 1);

    json = ok ? json_pack("{s:[s], s:s, s:I, s:f, s:s, s:O, s:O}", "architectures", "CLIPModel", "model_type", "clip",
                          "projection_dim", (json_int_t)c->embed_dim, "logit_scale_init_value", 2.6592, "torch_dtype",
                          torch_names[stored_dtype(options, comma_clip_dtype(clip))], "text_config", text,
                          "vision_config", vision)
              : NULL;
    json_decref(vision);
    json_decref(text);
    return comma_convert_json(json, staging, "config.json", JSON_INDENT(2) | JSON_REAL_PRECISION(15), err);
}

static json_t *json_of_channels(const float x[3])
{
    return json_pack("[o, o, o]", json_of_float(x[0]), json_of_float(x[1]), json_of_float(x[2]));
}

static bool write_preprocessor(const struct comma_clip *clip, struct comma_staging *staging, struct comma_error *err)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const json_int_t side = (json_int_t)c->image_size;
    json_t *json = json_pack(
        "{s:s, s:b, s:b, s:{s:I}, s:i, s:b, s:{s:I, s:I}, s:b, s:f, s:b, s:o, s:o}", "image_processor_type",
        "CLIPImageProcessor", "do_convert_rgb", 1, "do_resize", 1, "size", "shortest_edge", side, "resample", 3,
        "do_center_crop", 1, "crop_size", "height", side, "width", side, "do_rescale", 1, "rescale_factor", 1.0 / 255,
        "do_normalize", 1, "image_mean", json_of_channels(c->image_mean), "image_std", json_of_channels(c->image_std));

    return comma_convert_json(json, staging, "preprocessor_config.json", JSON_INDENT(2) | JSON_REAL_PRECISION(15), err);
}

/* ---- tokenizer ---- */

static bool write_vocab(const struct comma_spellings *s, struct comma_staging *staging, struct comma_error *err)
{
    json_t *json = json_object();
    bool ok = json != NULL;

    for (size_t id = 0; ok && id < s->n; id++)
        ok = json_object_set_new(json, s->text + s->at[id], json_integer((json_int_t)id)) == 0;
    if (ok && json_object_size(json) != s->n) {
        json_decref(json);
        return comma_fail(err, COMMA_E_MODEL, "merges: %zu tokens, of which %zu are the same as others", s->n,
                          s->n - json_object_size(json));
    }
    if (!ok) {
        json_decref(json);
        json = NULL;
    }
    return comma_convert_json(json, staging, "vocab.json", JSON_COMPACT, err);
}

static bool write_tokenizer(const struct comma_clip *clip, struct comma_staging *staging, struct comma_error *err)
{
    const struct comma_bytes own = comma_clip_merges(clip);
    const size_t vocab_size = comma_clip_config(clip)->vocab_size;
    struct comma_model_file merges = { 0 };
    struct comma_spellings spellings = { 0 };
    bool ok;

    if (!own.data)
        return true;
    ok = comma_merges_cut(own, "merges.txt", vocab_size, &merges, err) &&
         comma_spellings_make(merges.bytes, vocab_size, &spellings, err) &&
         comma_staging_write(staging, "merges.txt",
                             (struct comma_text){ (const char *)merges.bytes.data, merges.bytes.size }, err) &&
         write_vocab(&spellings, staging, err);
    comma_spellings_finish(&spellings);
    comma_model_file_close(&merges);
    return ok;
}

bool comma_convert_model(const struct comma_clip *clip, struct comma_staging *staging,
                         const struct comma_store_options *options, struct comma_error *err)
{
    return write_config(clip, staging, options, err) && write_preprocessor(clip, staging, err) &&
           write_tokenizer(clip, staging, err) && write_weights(clip, staging, options, err);
}
