/* SPDX-License-Identifier: MIT */
/* clip_config.c - see clip_config.h. */
#include "models/clip_config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/json.h"

/* What transformers' CLIPConfig assumes for a tower whose config does not say. */
struct tower_defaults {
    const char *key, *dict_key;
    size_t width, heads;
};

static const struct tower_defaults tower_defaults[] = {
    [COMMA_VISION] = { "vision_config", "vision_config_dict", 768, 12 },
    [COMMA_TEXT] = { "text_config", "text_config_dict", 512, 8 },
};

/* One tower's section of config.json: old files repeat it as <tower>_config_dict, which then comes first. */
struct section {
    const char *file, *key;
    const json_t *dict, *section;
};

static const json_t *section_get(const struct section *s, const char *field)
{
    const json_t *value = json_object_get(s->dict, field);

    if (!value || json_is_null(value))
        value = json_object_get(s->section, field);
    return json_is_null(value) ? NULL : value;
}

/* Compares a field, if it is there, with the tensors' size. */
static bool check_size(const struct section *s, const char *field, size_t actual, struct comma_error *err)
{
    const json_t *value = section_get(s, field);

    if (!value)
        return true;
    if (!json_is_integer(value))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s.%s is not a whole number", s->file, s->key, field);
    if (json_integer_value(value) != (json_int_t)actual)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s.%s is %lld, but the tensors say %zu", s->file, s->key, field,
                          (long long)json_integer_value(value), actual);
    return true;
}

static bool parse_heads(const struct section *s, const struct tower_defaults *defaults, struct comma_tower_config *t,
                        struct comma_error *err)
{
    const json_t *value = section_get(s, "num_attention_heads");

    if (!value && t->width == defaults->width)
        t->heads = defaults->heads;
    else if (!json_is_integer(value) || json_integer_value(value) < 1 ||
             t->width % (size_t)json_integer_value(value) != 0)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s.num_attention_heads must be a divisor of the width %zu", s->file,
                          s->key, t->width);
    else
        t->heads = (size_t)json_integer_value(value);
    return true;
}

static bool parse_activation(const struct section *s, struct comma_tower_config *t, struct comma_error *err)
{
    const json_t *value = section_get(s, "hidden_act");
    const char *act = json_string_value(value);

    if (!value || (act && strcmp(act, "quick_gelu") == 0))
        t->activation = COMMA_QUICK_GELU;
    else if (act && strcmp(act, "gelu") == 0)
        t->activation = COMMA_GELU;
    else
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: %s.hidden_act is %s; quick_gelu and gelu are known", s->file,
                          s->key, act ? comma_shown_name(act).text : "no string");
    return true;
}

static bool parse_epsilon(const struct section *s, struct comma_tower_config *t, struct comma_error *err)
{
    const json_t *value = section_get(s, "layer_norm_eps");
    const double eps = value ? json_number_value(value) : 1e-5;

    if ((value && !json_is_number(value)) || !((float)eps > 0 && eps < 0.1)) /* 1e-85 is a number, but no f32 */
        return comma_fail(err, COMMA_E_MODEL, "%s: %s.layer_norm_eps must be a small positive number", s->file, s->key);
    t->layer_norm_eps = (float)eps;
    return true;
}

static bool parse_tower(const json_t *json, const char *file, enum comma_tower tower, struct comma_tower_config *t,
                        struct comma_error *err)
{
    const struct tower_defaults *defaults = &tower_defaults[tower];
    const struct section s = { file, defaults->key, json_object_get(json, defaults->dict_key),
                               json_object_get(json, defaults->key) };

    return check_size(&s, "hidden_size", t->width, err) && check_size(&s, "num_hidden_layers", t->layers, err) &&
           check_size(&s, "intermediate_size", t->mlp_dim, err) && parse_heads(&s, defaults, t, err) &&
           parse_activation(&s, t, err) && parse_epsilon(&s, t, err);
}

static bool check_shared_sizes(const json_t *json, const char *file, const struct comma_clip_config *config,
                               struct comma_error *err)
{
    const struct section vision = { file, "vision_config", json_object_get(json, "vision_config_dict"),
                                    json_object_get(json, "vision_config") };
    const struct section text = { file, "text_config", json_object_get(json, "text_config_dict"),
                                  json_object_get(json, "text_config") };
    const struct section top = { file, "CLIPConfig", NULL, json };

    return check_size(&vision, "image_size", config->image_size, err) &&
           check_size(&vision, "patch_size", config->patch_size, err) &&
           check_size(&text, "max_position_embeddings", config->context_length, err) &&
           check_size(&text, "vocab_size", config->vocab_size, err) &&
           check_size(&top, "projection_dim", config->embed_dim, err);
}

/* ---- without config.json ---- */

static void COMMA_PRINTF(2, 3) doubt(const struct comma_config_source *source, const char *format, ...)
{
    char sentence[480];
    va_list args;

    if (!source->claims || !source->claims->doubt)
        return;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    source->claims->doubt(source->claims->user, sentence);
}

/* Image towers of OpenCLIP whose heads are not 64 wide. */
static const struct {
    size_t width, heads;
    const char *name;
} wide_heads[] = { { 1280, 16, "ViT-H" }, { 1408, 16, "ViT-g" }, { 1664, 16, "ViT-bigG" } };

static bool assume_heads(const struct comma_config_source *source, enum comma_tower tower, size_t claimed,
                         struct comma_tower_config *t, struct comma_error *err)
{
    static const char *const towers[] = { "vision", "text" };

    t->heads = t->width / 64;
    if (claimed)
        return true; /* applied later */
    for (size_t i = 0; tower == COMMA_VISION && i < sizeof(wide_heads) / sizeof(*wide_heads); i++)
        if (wide_heads[i].width == t->width) {
            t->heads = wide_heads[i].heads;
            doubt(source,
                  "%s: no config tells the heads; the image tower is %zu wide and taken for a %s with %zu heads, "
                  "which --heads can contradict",
                  source->name, t->width, wide_heads[i].name, t->heads);
            return true;
        }
    if (t->width % 64 != 0)
        return comma_fail(err, COMMA_E_MODEL,
                          "%s: the %s width %zu is no multiple of 64, so that the number of heads cannot be told; "
                          "config.json says it as num_attention_heads, and comma convert takes it as --heads",
                          source->name, towers[tower], t->width);
    return true;
}

/* OpenAI's constants. */
static bool assume_openai(const struct comma_config_source *source, struct comma_clip_config *config,
                          struct comma_error *err)
{
    const struct comma_clip_claims none = { 0 }, *claims = source->claims ? source->claims : &none;

    if (!assume_heads(source, COMMA_VISION, claims->vision_heads, &config->vision, err) ||
        !assume_heads(source, COMMA_TEXT, claims->text_heads, &config->text, err))
        return false;
    config->vision.activation = config->text.activation = COMMA_QUICK_GELU;
    config->vision.layer_norm_eps = config->text.layer_norm_eps = 1e-5f;
    if (!source->from_openai && !claims->activation)
        doubt(source,
              "%s: nothing in the file tells the activation; quick_gelu is assumed, OpenAI's, but most weights of "
              "OpenCLIP (LAION, DataComp) want --activation gelu",
              source->name);
    return true;
}

/* ---- open_clip_config.json ---- */

static size_t get_count(const json_t *json, const char *field, size_t fallback)
{
    const json_t *value = json_object_get(json, field);

    return json_is_integer(value) && json_integer_value(value) > 0 ? (size_t)json_integer_value(value) : fallback;
}

static bool check_open_clip_towers(const json_t *vision, const json_t *text, const char *name, struct comma_error *err)
{
    if (!json_is_object(vision) || !json_is_object(text))
        return comma_fail(err, COMMA_E_MODEL, "%s: model_cfg needs vision_cfg and text_cfg", name);
    if (json_object_get(vision, "timm_model_name"))
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: an image tower of timm; only CLIP's own ViT is supported",
                          name);
    if (json_object_get(text, "hf_model_name"))
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "%s: a text tower of Hugging Face; only CLIP's own transformer is supported", name);
    if (json_is_array(json_object_get(vision, "layers")))
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "%s: a ResNet image tower; only vision transformers (ViT) are supported", name);
    return true;
}

static bool apply_model_cfg(const json_t *model, const char *name, struct comma_clip_config *c, struct comma_error *err)
{
    const json_t *vision = json_object_get(model, "vision_cfg"), *text = json_object_get(model, "text_cfg");
    const struct section top = { name, "model_cfg", NULL, model }, v = { name, "vision_cfg", NULL, vision },
                         t = { name, "text_cfg", NULL, text };
    size_t head_width;

    if (!check_open_clip_towers(vision, text, name, err) || !check_size(&top, "embed_dim", c->embed_dim, err) ||
        !check_size(&v, "image_size", c->image_size, err) || !check_size(&v, "patch_size", c->patch_size, err) ||
        !check_size(&v, "width", c->vision.width, err) || !check_size(&v, "layers", c->vision.layers, err) ||
        !check_size(&t, "width", c->text.width, err) || !check_size(&t, "layers", c->text.layers, err) ||
        !check_size(&t, "context_length", c->context_length, err) || !check_size(&t, "vocab_size", c->vocab_size, err))
        return false;
    head_width = get_count(vision, "head_width", 64);
    c->text.heads = get_count(text, "heads", 8);
    if (c->vision.width % head_width != 0 || c->text.width % c->text.heads != 0)
        return comma_fail(err, COMMA_E_MODEL, "%s: heads %zu wide and %zu heads do not divide the widths %zu and %zu",
                          name, head_width, c->text.heads, c->vision.width, c->text.width);
    c->vision.heads = c->vision.width / head_width;
    c->vision.activation = c->text.activation =
        json_is_true(json_object_get(model, "quick_gelu")) ? COMMA_QUICK_GELU : COMMA_GELU;
    c->vision.layer_norm_eps = c->text.layer_norm_eps = 1e-5f;
    return true;
}

static bool parse_channels(const json_t *json, const char *name, const char *field, double smallest, float out[3],
                           struct comma_error *err);

static bool apply_open_clip(const json_t *json, const char *name, struct comma_clip_config *c, struct comma_error *err)
{
    const json_t *model = json_object_get(json, "model_cfg"), *pixels = json_object_get(json, "preprocess_cfg");
    const char *interpolation = json_string_value(json_object_get(pixels, "interpolation"));
    const char *resize = json_string_value(json_object_get(pixels, "resize_mode"));

    if (!json_is_object(model))
        return comma_fail(err, COMMA_E_MODEL, "%s: model_cfg is missing", name);
    if ((interpolation && strcmp(interpolation, "bicubic") != 0) || (resize && strcmp(resize, "shortest") != 0))
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "%s: preprocess_cfg must be bicubic and shortest; no other preprocessing is supported", name);
    return apply_model_cfg(model, name, c, err) && parse_channels(pixels, name, "mean", 0, c->image_mean, err) &&
           parse_channels(pixels, name, "std", 1e-6, c->image_std, err);
}

/* ---- claims ---- */

static const char *activation_name(enum comma_activation a)
{
    return a == COMMA_GELU ? "gelu" : "quick_gelu";
}

static bool claim_heads(const struct comma_config_source *source, const char *tower, size_t claimed,
                        struct comma_tower_config *t, struct comma_error *err)
{
    if (!claimed)
        return true;
    if (t->width % claimed != 0)
        return comma_fail(err, COMMA_E_INPUT, "--heads: %zu heads do not divide the %s width %zu", claimed, tower,
                          t->width);
    if (source->json.data && claimed != t->heads)
        doubt(source, "%s says %zu heads for the %s tower; --heads %zu is followed", source->name, t->heads, tower,
              claimed);
    t->heads = claimed;
    return true;
}

static bool apply_claims(const struct comma_config_source *source, struct comma_clip_config *c, struct comma_error *err)
{
    const struct comma_clip_claims *claims = source->claims;
    enum comma_activation activation;

    if (!claims)
        return true;
    if (!claim_heads(source, "vision", claims->vision_heads, &c->vision, err) ||
        !claim_heads(source, "text", claims->text_heads, &c->text, err))
        return false;
    if (!claims->activation)
        return true;
    activation = strcmp(claims->activation, "gelu") == 0 ? COMMA_GELU : COMMA_QUICK_GELU;
    if (source->json.data && (activation != c->vision.activation || activation != c->text.activation))
        doubt(source, "%s says %s; --activation %s is followed", source->name,
              activation_name(activation == COMMA_GELU ? COMMA_QUICK_GELU : COMMA_GELU), activation_name(activation));
    if (!source->json.data && source->from_openai && activation == COMMA_GELU)
        doubt(source, "%s: the tensors look like OpenAI's, which use quick_gelu; --activation gelu is followed",
              source->name);
    c->vision.activation = c->text.activation = activation;
    return true;
}

static bool check_model_type(const json_t *json, const char *name, struct comma_error *err)
{
    const json_t *type = json_object_get(json, "model_type");

    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "clip") != 0))
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: model_type is %s; only clip is supported", name,
                          json_is_string(type) ? comma_shown_name(json_string_value(type)).text : "no string");
    return true;
}

/* config.json */
static bool apply_hugging_face(const json_t *json, const char *name, struct comma_clip_config *config,
                               struct comma_error *err)
{
    return check_model_type(json, name, err) && parse_tower(json, name, COMMA_VISION, &config->vision, err) &&
           parse_tower(json, name, COMMA_TEXT, &config->text, err) && check_shared_sizes(json, name, config, err);
}

bool comma_clip_config_apply(const struct comma_config_source *source, struct comma_clip_config *config,
                             struct comma_error *err)
{
    const struct comma_text text = { (const char *)source->json.data, source->json.size };
    json_t *json = NULL;
    bool ok;

    if (!source->json.data)
        return assume_openai(source, config, err) && apply_claims(source, config, err);
    if (!comma_json_parse(text, source->name, comma_json_config_limits(), &json, err))
        return false;
    ok = source->open_clip ? apply_open_clip(json, source->name, config, err)
                           : apply_hugging_face(json, source->name, config, err);
    json_decref(json);
    return ok && apply_claims(source, config, err);
}

/* ---- preprocessor_config.json ---- */

static bool parse_channels(const json_t *json, const char *name, const char *field, double smallest, float out[3],
                           struct comma_error *err)
{
    const json_t *list = json_object_get(json, field);

    if (!list)
        return true;
    for (size_t i = 0; i < 3; i++) {
        const json_t *value = json_array_get(list, i);
        const double v = json_number_value(value);

        if (json_array_size(list) != 3 || !json_is_number(value) || !(v >= smallest && v <= 1000))
            return comma_fail(err, COMMA_E_MODEL, "%s: %s must be three numbers from %g to 1000", name, field,
                              smallest);
        out[i] = (float)v;
    }
    return true;
}

/* A step that is always done must not be switched off. */
static bool check_step(const json_t *json, const char *name, const char *field, struct comma_error *err)
{
    const json_t *value = json_object_get(json, field);

    if (value && !json_is_true(value))
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: %s must be true; no other preprocessing is supported", name,
                          field);
    return true;
}

/* size or crop_size: 224, {"shortest_edge": 224} or {"height": 224, "width": 224}. */
static bool check_pixels(const json_t *json, const char *name, const char *field, const char *const *keys, size_t side,
                         struct comma_error *err)
{
    const json_t *value = json_object_get(json, field);
    bool fits = !value || (json_is_integer(value) && json_integer_value(value) == (json_int_t)side);

    if (json_is_object(value)) {
        fits = true;
        for (; *keys; keys++)
            fits &= json_integer_value(json_object_get(value, *keys)) == (json_int_t)side;
    }
    if (!fits)
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: %s must be the model's image size, %zu, as %s", name, field,
                          side, strcmp(field, "size") == 0 ? "shortest_edge" : "height and width");
    return true;
}

static bool check_numbers(const json_t *json, const char *name, struct comma_error *err)
{
    const json_t *resample = json_object_get(json, "resample"), *factor = json_object_get(json, "rescale_factor");

    if (resample && (!json_is_integer(resample) || json_integer_value(resample) != 3))
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: resample must be 3 (bicubic)", name);
    if (factor && !(fabs(json_number_value(factor) - 1.0 / 255) < 1e-6))
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: rescale_factor must be 1/255", name);
    return true;
}

bool comma_preprocessor_config_apply(struct comma_bytes bytes, const char *name, struct comma_clip_config *config,
                                     struct comma_error *err)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    static const char *const edge[] = { "shortest_edge", NULL }, *const sides[] = { "height", "width", NULL };
    const struct comma_text text = { (const char *)bytes.data, bytes.size };
    json_t *json = NULL;
    bool ok;

    memcpy(config->image_mean, mean, sizeof(mean));
    memcpy(config->image_std, std, sizeof(std));
    if (!bytes.data)
        return true;
    if (!comma_json_parse(text, name, comma_json_config_limits(), &json, err))
        return false;
    ok = check_step(json, name, "do_resize", err) && check_step(json, name, "do_center_crop", err) &&
         check_step(json, name, "do_normalize", err) && check_step(json, name, "do_rescale", err) &&
         check_numbers(json, name, err) && check_pixels(json, name, "size", edge, config->image_size, err) &&
         check_pixels(json, name, "crop_size", sides, config->image_size, err) &&
         parse_channels(json, name, "image_mean", 0, config->image_mean, err) &&
         parse_channels(json, name, "image_std", 1e-6, config->image_std, err);
    json_decref(json);
    return ok;
}
