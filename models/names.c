/* SPDX-License-Identifier: MIT */
/* names.c - see names.h. */
#include "models/names.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without the tower's prefix for OpenAI, whole for Hugging Face. */
static const struct {
    enum comma_tower tower;
    const char *openai, *hugging_face;
    bool openai_transposed;
} clip_names[COMMA_N_CLIP_ROLES] = {
    [COMMA_CLASS_EMBEDDING] = { COMMA_VISION, "class_embedding", "vision_model.embeddings.class_embedding", false },
    [COMMA_PATCH_EMBEDDING] = { COMMA_VISION, "conv1.weight", "vision_model.embeddings.patch_embedding.weight", false },
    [COMMA_VISION_POSITION] = { COMMA_VISION, "positional_embedding",
                                "vision_model.embeddings.position_embedding.weight", false },
    [COMMA_LN_PRE_WEIGHT] = { COMMA_VISION, "ln_pre.weight", "vision_model.pre_layrnorm.weight", false },
    [COMMA_LN_PRE_BIAS] = { COMMA_VISION, "ln_pre.bias", "vision_model.pre_layrnorm.bias", false },
    [COMMA_LN_POST_WEIGHT] = { COMMA_VISION, "ln_post.weight", "vision_model.post_layernorm.weight", false },
    [COMMA_LN_POST_BIAS] = { COMMA_VISION, "ln_post.bias", "vision_model.post_layernorm.bias", false },
    [COMMA_VISION_PROJECTION] = { COMMA_VISION, "proj", "visual_projection.weight", true },
    [COMMA_TOKEN_EMBEDDING] = { COMMA_TEXT, "token_embedding.weight", "text_model.embeddings.token_embedding.weight",
                                false },
    [COMMA_TEXT_POSITION] = { COMMA_TEXT, "positional_embedding", "text_model.embeddings.position_embedding.weight",
                              false },
    [COMMA_LN_FINAL_WEIGHT] = { COMMA_TEXT, "ln_final.weight", "text_model.final_layer_norm.weight", false },
    [COMMA_LN_FINAL_BIAS] = { COMMA_TEXT, "ln_final.bias", "text_model.final_layer_norm.bias", false },
    [COMMA_TEXT_PROJECTION] = { COMMA_TEXT, "text_projection", "text_projection.weight", true },
};

static const struct {
    const char *openai, *hugging_face;
    unsigned part, n_parts;
} block_names[COMMA_N_BLOCK_ROLES] = {
    [COMMA_LN_1_WEIGHT] = { "ln_1.weight", "layer_norm1.weight", 0, 1 },
    [COMMA_LN_1_BIAS] = { "ln_1.bias", "layer_norm1.bias", 0, 1 },
    [COMMA_Q_WEIGHT] = { "attn.in_proj_weight", "self_attn.q_proj.weight", 0, 3 },
    [COMMA_Q_BIAS] = { "attn.in_proj_bias", "self_attn.q_proj.bias", 0, 3 },
    [COMMA_K_WEIGHT] = { "attn.in_proj_weight", "self_attn.k_proj.weight", 1, 3 },
    [COMMA_K_BIAS] = { "attn.in_proj_bias", "self_attn.k_proj.bias", 1, 3 },
    [COMMA_V_WEIGHT] = { "attn.in_proj_weight", "self_attn.v_proj.weight", 2, 3 },
    [COMMA_V_BIAS] = { "attn.in_proj_bias", "self_attn.v_proj.bias", 2, 3 },
    [COMMA_OUT_WEIGHT] = { "attn.out_proj.weight", "self_attn.out_proj.weight", 0, 1 },
    [COMMA_OUT_BIAS] = { "attn.out_proj.bias", "self_attn.out_proj.bias", 0, 1 },
    [COMMA_LN_2_WEIGHT] = { "ln_2.weight", "layer_norm2.weight", 0, 1 },
    [COMMA_LN_2_BIAS] = { "ln_2.bias", "layer_norm2.bias", 0, 1 },
    [COMMA_FC_WEIGHT] = { "mlp.c_fc.weight", "mlp.fc1.weight", 0, 1 },
    [COMMA_FC_BIAS] = { "mlp.c_fc.bias", "mlp.fc1.bias", 0, 1 },
    [COMMA_PROJ_WEIGHT] = { "mlp.c_proj.weight", "mlp.fc2.weight", 0, 1 },
    [COMMA_PROJ_BIAS] = { "mlp.c_proj.bias", "mlp.fc2.bias", 0, 1 },
};

static const char *const hugging_face_blocks[] = {
    [COMMA_VISION] = "vision_model.encoder.layers.",
    [COMMA_TEXT] = "text_model.encoder.layers.",
};
#define OPENAI_BLOCKS "transformer.resblocks."

/* Buffers that some files carry and nothing needs. */
static const char *const buffers[] = { "position_ids", "attn_mask", "input_resolution", "context_length",
                                       "vocab_size" };

struct comma_naming comma_naming_hugging_face(void)
{
    return (struct comma_naming){ .hugging_face = true, .prefix = "", .vision_prefix = "", .text_prefix = "" };
}

static bool has_role(const struct comma_tensors *ts, const struct comma_naming *naming, enum comma_clip_role role)
{
    return comma_tensors_find(ts, comma_clip_place(naming, role).name) != NULL;
}

bool comma_naming_detect(const struct comma_tensors *ts, struct comma_naming *out)
{
    static const char *const prefixes[] = { "", "module." };
    static const char *const vision_prefixes[] = { "visual.", "image_encoder." };

    for (size_t p = 0; p < 2; p++) {
        struct comma_naming naming = comma_naming_hugging_face();

        naming.prefix = prefixes[p];
        if (has_role(ts, &naming, COMMA_PATCH_EMBEDDING)) {
            *out = naming;
            return true;
        }
        naming.hugging_face = false;
        for (size_t v = 0; v < 2; v++) {
            naming.vision_prefix = vision_prefixes[v];
            if (!has_role(ts, &naming, COMMA_PATCH_EMBEDDING))
                continue;
            naming.text_prefix = v == 1 ? "text_encoder." : "text.";
            if (v == 0 && !has_role(ts, &naming, COMMA_LN_FINAL_WEIGHT))
                naming.text_prefix = "";
            *out = naming;
            return true;
        }
    }
    return false;
}

struct comma_place comma_clip_place(const struct comma_naming *naming, enum comma_clip_role role)
{
    struct comma_place place = { .n_parts = 1 };
    const char *tower = clip_names[role].tower == COMMA_VISION ? naming->vision_prefix : naming->text_prefix;

    if (naming->hugging_face) {
        snprintf(place.name, sizeof(place.name), "%s%s", naming->prefix, clip_names[role].hugging_face);
        return place;
    }
    snprintf(place.name, sizeof(place.name), "%s%s%s", naming->prefix, tower, clip_names[role].openai);
    place.transposed = clip_names[role].openai_transposed;
    return place;
}

/* Up to and with the dot before the layer's number. */
static void block_prefix(const struct comma_naming *naming, enum comma_tower tower, char *out, size_t size)
{
    if (naming->hugging_face)
        snprintf(out, size, "%s%s", naming->prefix, hugging_face_blocks[tower]);
    else
        snprintf(out, size, "%s%s%s", naming->prefix,
                 tower == COMMA_VISION ? naming->vision_prefix : naming->text_prefix, OPENAI_BLOCKS);
}

struct comma_place comma_block_place(const struct comma_naming *naming, enum comma_tower tower, size_t layer,
                                     enum comma_block_role role)
{
    struct comma_place place = { .n_parts = 1 };
    char prefix[COMMA_MAX_NAME / 2];

    block_prefix(naming, tower, prefix, sizeof(prefix));
    if (naming->hugging_face) {
        snprintf(place.name, sizeof(place.name), "%s%zu.%s", prefix, layer, block_names[role].hugging_face);
        return place;
    }
    snprintf(place.name, sizeof(place.name), "%s%zu.%s", prefix, layer, block_names[role].openai);
    place.part = block_names[role].part;
    place.n_parts = block_names[role].n_parts;
    return place;
}

struct comma_place comma_logit_scale_place(const struct comma_naming *naming)
{
    struct comma_place place = { .n_parts = 1 };

    snprintf(place.name, sizeof(place.name), "%slogit_scale", naming->prefix);
    return place;
}

bool comma_place_view(const struct comma_place *place, const struct comma_tensor *stored, struct comma_tensor *out)
{
    *out = *stored;
    if (place->transposed) {
        if (stored->n_dims != 2)
            return false;
        *out = comma_tensor_transposed(stored);
    }
    if (place->n_parts > 1) {
        if (stored->n_dims < 1 || stored->shape[0] % place->n_parts != 0)
            return false;
        *out = comma_tensor_rows(stored, place->part * (stored->shape[0] / place->n_parts),
                                 stored->shape[0] / place->n_parts);
    }
    return true;
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* True if name is buffer, or ends in ".buffer". */
static bool is_buffer(const char *name, const char *buffer)
{
    const size_t n = strlen(name), m = strlen(buffer);

    return n >= m && strcmp(name + n - m, buffer) == 0 && (n == m || name[n - m - 1] == '.');
}

enum comma_stray comma_naming_stray(const struct comma_naming *naming, const char *name, enum comma_tower *tower,
                                    size_t *layer)
{
    /* What the two towers' names begin with; OpenAI's text tower has no prefix of its own. */
    static const char *const towers[] = { "visual.",       "vision_model.",   "text_model.",
                                          "transformer.",  "text.",           "image_encoder.",
                                          "text_encoder.", "text_projection", "visual_projection",
                                          "logit_" };
    char prefix[COMMA_MAX_NAME / 2];

    for (size_t i = 0; i < sizeof(buffers) / sizeof(*buffers); i++)
        if (is_buffer(name, buffers[i]))
            return COMMA_STRAY_HARMLESS;
    for (int t = COMMA_VISION; t <= COMMA_TEXT; t++) {
        block_prefix(naming, (enum comma_tower)t, prefix, sizeof(prefix));
        if (starts_with(name, prefix) && isdigit((unsigned char)name[strlen(prefix)])) {
            *tower = (enum comma_tower)t;
            *layer = strtoul(name + strlen(prefix), NULL, 10);
            return COMMA_STRAY_BLOCK;
        }
    }
    if (starts_with(name, naming->prefix))
        name += strlen(naming->prefix);
    for (size_t i = 0; i < sizeof(towers) / sizeof(*towers); i++)
        if (starts_with(name, towers[i]))
            return COMMA_STRAY_UNKNOWN;
    return COMMA_STRAY_HARMLESS;
}
