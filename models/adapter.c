/* SPDX-License-Identifier: MIT */
/* adapter.c - see adapter.h, and the adapter half of clip.h. */
#include "models/adapter.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/hf_dir.h"
#include "models/json.h"
#include "models/methods.h"
#include "models/safetensors.h"

#define WEIGHTS      "adapter_model.safetensors"
#define CONFIG       "adapter_config.json"
#define MAX_ADAPTERS 10000

/* ---- one adapter ---- */

/* A string field into out; absent leaves out as it is. */
static bool get_string(const json_t *json, const char *path, const char *field, char *out, size_t size,
                       struct comma_error *err)
{
    const json_t *value = json_object_get(json, field);

    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || json_string_length(value) >= size)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s must be a string of at most %zu bytes", path, field, size - 1);
    memcpy(out, json_string_value(value), json_string_length(value) + 1);
    return true;
}

/* A count from 1 to 10,000 into *out; absent leaves it as it is. */
static bool get_count(const json_t *json, const char *path, const char *field, size_t *out, struct comma_error *err)
{
    const json_t *value = json_object_get(json, field);

    if (!value || json_is_null(value))
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > 10000)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s must be a whole number from 1 to 10000", path, field);
    *out = (size_t)json_integer_value(value);
    return true;
}

static bool get_classnames(const json_t *json, const char *path, struct comma_adapter_config *c,
                           struct comma_error *err)
{
    const json_t *list = json_object_get(json, "classnames");

    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list))
        return comma_fail(err, COMMA_E_MODEL, "%s: classnames must be a list", path);
    c->classnames = calloc(json_array_size(list) + 1, sizeof(*c->classnames));
    for (size_t i = 0; c->classnames && i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (!name || !*name)
            return comma_fail(err, COMMA_E_MODEL, "%s: classnames must be strings", path);
        if (!(c->classnames[i] = strdup(name)))
            break;
        c->n_classnames++;
    }
    return c->n_classnames == json_array_size(list) || comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);
}

bool comma_adapter_config_parse(struct comma_bytes bytes, const char *path, struct comma_adapter_config *c,
                                struct comma_error *err)
{
    json_t *json = NULL;
    bool ok;

    *c = (struct comma_adapter_config){ .ctx_init = "a photo of a", .last_layer = 1 };
    if (!bytes.data)
        return true;
    if (!comma_json_parse((struct comma_text){ (const char *)bytes.data, bytes.size }, path, comma_json_config_limits(),
                          &json, err))
        return false;
    ok =
        get_string(json, path, "method", c->method, sizeof(c->method), err) &&
        get_string(json, path, "ctx_init", c->ctx_init, sizeof(c->ctx_init), err) &&
        get_string(json, path, "base_model", c->base_model, sizeof(c->base_model), err) &&
        get_count(json, path, "n_ctx", &c->n_ctx, err) &&
        get_count(json, path, "prompt_depth", &c->prompt_depth, err) &&
        get_count(json, path, "last_layer", &c->last_layer, err) &&
        get_string(json, path, "class_token_position", c->class_token_position, sizeof(c->class_token_position), err) &&
        get_classnames(json, path, c, err);
    json_decref(json);
    return ok;
}

/* Sets *value to what the tensors say, or refuses a config that says otherwise. */
static bool agree(const char *path, const char *field, size_t by_tensors, size_t *value, struct comma_error *err)
{
    if (*value != 0 && *value != by_tensors)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is %zu, but the tensors say %zu", path, field, *value,
                          by_tensors);
    *value = by_tensors;
    return true;
}

static bool check_adapter(struct comma_adapter_dir *a, const char *path, const char *weights, struct comma_error *err)
{
    struct comma_adapter_config *c = &a->config;
    struct comma_method_sizes sizes;
    const char *method = comma_method_detect(a->tensors);

    if (!method)
        return comma_fail(err, COMMA_E_MODEL, "%s: prompt_learner.ctx is missing, and no other prompts are there",
                          weights);
    if (!c->method[0])
        snprintf(c->method, sizeof(c->method), "%s", method);
    if (!comma_method_measure(c->method, a->tensors, weights, &sizes, err) ||
        !agree(path, "n_ctx", sizes.n_ctx, &c->n_ctx, err) ||
        !agree(path, "prompt_depth", sizes.depth, &c->prompt_depth, err))
        return false;
    if (sizes.n_classes > 0 && sizes.n_classes != c->n_classnames)
        return comma_fail(err, COMMA_E_MODEL,
                          "%s: the contexts are those of %zu classes, so classnames must list them in the order of the "
                          "training; it has %zu",
                          path, sizes.n_classes, c->n_classnames);
    return true;
}

bool comma_adapter_dir_open(const char *dir, struct comma_adapter_dir *out, struct comma_error *err)
{
    struct comma_adapter_dir a = { 0 };
    struct comma_model_file config = { 0 };
    char *weights = comma_path_join(dir, WEIGHTS, err);
    bool ok = false;

    if (!weights)
        return false;
    if (!comma_model_file_open(dir, CONFIG, &config, err) ||
        !comma_adapter_config_parse(config.bytes, config.path, &a.config, err) ||
        !comma_safetensors_open(weights, &a.tensors, err))
        goto out;
    ok = check_adapter(&a, config.path, weights, err);
out:
    comma_model_file_close(&config);
    free(weights);
    if (ok)
        *out = a;
    else
        comma_adapter_dir_close(&a);
    return ok;
}

static bool open_embedded(size_t i, struct comma_adapter_dir *out, struct comma_error *err)
{
    const struct comma_embedded_adapter e = comma_embedded_adapter_at(i);
    struct comma_adapter_dir a = { 0 };

    if (!comma_adapter_config_parse(e.config, e.name, &a.config, err) ||
        !comma_safetensors_parse(e.tensors, e.name, &a.tensors, err) || !check_adapter(&a, e.name, e.name, err)) {
        comma_adapter_dir_close(&a);
        return false;
    }
    *out = a;
    return true;
}

void comma_adapter_dir_close(struct comma_adapter_dir *a)
{
    comma_tensors_close(a->tensors);
    comma_adapter_config_finish(&a->config);
    *a = (struct comma_adapter_dir){ 0 };
}

void comma_adapter_config_finish(struct comma_adapter_config *config)
{
    for (size_t i = 0; i < config->n_classnames; i++)
        free(config->classnames[i]);
    free(config->classnames);
    *config = (struct comma_adapter_config){ 0 };
}

/* ---- out of a checkpoint ---- */

static bool claim_classnames(struct comma_adapter_config *c, const struct comma_adapter_claims *claims,
                             const char *file, struct comma_error *err)
{
    c->classnames = calloc(claims->n_classnames + 1, sizeof(*c->classnames));
    for (size_t i = 0; c->classnames && i < claims->n_classnames; i++) {
        if (!(c->classnames[i] = strdup(claims->classnames[i])))
            break;
        c->n_classnames++;
    }
    return c->n_classnames == claims->n_classnames || comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", file);
}

/* What the authors train with where nobody says otherwise: CoCoOp as the others but only with its 4 vectors, CoOp
 * without words. */
static const char *default_words(const char *method, size_t n_ctx)
{
    return strcmp(method, "coop") == 0 || (strcmp(method, "cocoop") == 0 && n_ctx != 4) ? "" : "a photo of a";
}

static bool claim(struct comma_adapter_dir *a, const char *method, const char *file,
                  const struct comma_adapter_claims *claims, struct comma_error *err)
{
    struct comma_adapter_config *c = &a->config;
    struct comma_method_sizes sizes;

    if (!comma_method_measure(method, a->tensors, file, &sizes, err))
        return false;
    c->n_ctx = sizes.n_ctx;
    c->prompt_depth = sizes.depth;
    c->last_layer = claims->last_layer ? claims->last_layer : 1;
    snprintf(c->method, sizeof(c->method), "%s", method);
    if ((size_t)snprintf(c->ctx_init, sizeof(c->ctx_init), "%s",
                         claims->ctx_init ? claims->ctx_init : default_words(method, c->n_ctx)) >= sizeof(c->ctx_init))
        return comma_fail(err, COMMA_E_INPUT, "--ctx-init: at most %zu bytes", sizeof(c->ctx_init) - 1);
    if (strcmp(method, "coop") == 0)
        snprintf(c->class_token_position, sizeof(c->class_token_position), "%s",
                 claims->class_token_position ? claims->class_token_position : "end");
    if (sizes.n_classes == 0)
        return true;
    if (!claims->classnames)
        return comma_fail(err, COMMA_E_INPUT,
                          "%s: CoOp with a context for each of %zu classes; --classnames FILE must list them, a line "
                          "each, in the order of the training",
                          file, sizes.n_classes);
    if (claims->n_classnames != sizes.n_classes)
        return comma_fail(err, COMMA_E_INPUT, "%s: contexts of %zu classes, but --classnames lists %zu", file,
                          sizes.n_classes, claims->n_classnames);
    return claim_classnames(c, claims, file, err);
}

bool comma_adapter_from_checkpoint(struct comma_tensors *tensors, const char *file,
                                   const struct comma_adapter_claims *claims, struct comma_adapter_dir *out,
                                   struct comma_error *err)
{
    struct comma_adapter_dir a = { .tensors = tensors };
    const char *method = comma_method_detect(tensors);
    bool ok = method || comma_fail(err, COMMA_E_MODEL,
                                   "%s: holds no prompts of COMMA, MaPLe, IVLP, VPT, CoOp or CoCoOp: neither "
                                   "prompt_learner.ctx nor image_encoder.VPT is there",
                                   file);

    ok = ok && claim(&a, method, file, claims, err);
    if (ok)
        *out = a;
    else
        comma_adapter_dir_close(&a);
    return ok;
}

/* ---- the list ---- */

static bool add_name(struct comma_adapter_list *list, const char *name, struct comma_error *err)
{
    char **names;

    if (list->n == MAX_ADAPTERS)
        return comma_fail(err, COMMA_E_MODEL, "%s is one too many: at most %d adapters can lie beside a model", name,
                          MAX_ADAPTERS);
    names = realloc(list->names, (list->n + 1) * sizeof(*names));
    if (names)
        list->names = names;
    if (!names || !(names[list->n] = strdup(name)))
        return comma_fail(err, COMMA_E_NOMEM, "adapter %s: out of memory", name);
    list->n++;
    return true;
}

/* True if dir/name/adapter_model.safetensors is there; names with a dot first are temporary ones of convert. */
static bool is_adapter(const char *dir, const char *name)
{
    char *sub = name[0] == '.' ? NULL : comma_path_join(dir, name, NULL);
    char *weights = sub ? comma_path_join(sub, WEIGHTS, NULL) : NULL;
    const bool there = weights && access(weights, F_OK) == 0;

    free(weights);
    free(sub);
    return there;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool comma_adapter_list_directory(const char *model_dir, struct comma_adapter_list *out, struct comma_error *err)
{
    struct comma_adapter_list list = { .dir = comma_path_join(model_dir, "adapters", err) };
    const struct dirent *entry;
    DIR *dir = NULL;
    bool ok = false;

    if (!list.dir)
        return false;
    dir = opendir(list.dir);
    if (!dir && errno != ENOENT) {
        comma_fail(err, COMMA_E_IO, "%s: %s", list.dir, strerror(errno));
        goto out;
    }
    while (dir && (entry = readdir(dir)))
        if (is_adapter(list.dir, entry->d_name) && !add_name(&list, entry->d_name, err))
            goto out;
    if (list.n > 0)
        qsort(list.names, list.n, sizeof(*list.names), compare_names);
    ok = true;
out:
    if (dir)
        closedir(dir);
    if (ok)
        *out = list;
    else
        comma_adapter_list_finish(&list);
    return ok;
}

bool comma_adapter_list_embedded(struct comma_adapter_list *out, struct comma_error *err)
{
    struct comma_adapter_list list = { 0 };

    for (size_t i = 0; comma_embedded_adapter_at(i).name; i++)
        if (!add_name(&list, comma_embedded_adapter_at(i).name, err)) {
            comma_adapter_list_finish(&list);
            return false;
        }
    *out = list;
    return true;
}

void comma_adapter_list_finish(struct comma_adapter_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->names[i]);
    free(list->names);
    free(list->dir);
    *list = (struct comma_adapter_list){ 0 };
}

bool comma_adapter_list_open(const struct comma_adapter_list *list, size_t i, struct comma_adapter_dir *out,
                             struct comma_error *err)
{
    char *dir;
    bool ok;

    if (!list->dir)
        return open_embedded(i, out, err);
    dir = comma_path_join(list->dir, list->names[i], err);
    if (!dir)
        return false;
    ok = comma_adapter_dir_open(dir, out, err);
    free(dir);
    return ok;
}
