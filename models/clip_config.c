/* SPDX-License-Identifier: MIT */
/* clip_config.c - see clip_config.h. */
#include "models/clip_config.h"

#include <math.h>
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

    if ((value && !json_is_number(value)) || !(eps > 0 && eps < 0.1))
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

/* Without config.json: OpenAI's constants. */
static bool assume_openai(const char *name, enum comma_tower tower, struct comma_tower_config *t,
                          struct comma_error *err)
{
    if (t->width % 64 != 0)
        return comma_fail(
            err, COMMA_E_MODEL,
            "%s: missing, and the %s width %zu is no multiple of 64, so that the number of heads cannot be "
            "told; it belongs into config.json as num_attention_heads",
            name, tower == COMMA_VISION ? "vision" : "text", t->width);
    t->heads = t->width / 64;
    t->activation = COMMA_QUICK_GELU;
    t->layer_norm_eps = 1e-5f;
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

bool comma_clip_config_apply(struct comma_bytes bytes, const char *name, struct comma_clip_config *config,
                             struct comma_error *err)
{
    const struct comma_text text = { (const char *)bytes.data, bytes.size };
    json_t *json = NULL;
    bool ok;

    if (!bytes.data)
        return assume_openai(name, COMMA_VISION, &config->vision, err) &&
               assume_openai(name, COMMA_TEXT, &config->text, err);
    if (!comma_json_parse(text, name, comma_json_config_limits(), &json, err))
        return false;
    ok = check_model_type(json, name, err) && parse_tower(json, name, COMMA_VISION, &config->vision, err) &&
         parse_tower(json, name, COMMA_TEXT, &config->text, err) && check_shared_sizes(json, name, config, err);
    json_decref(json);
    return ok;
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
