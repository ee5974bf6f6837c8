/* SPDX-License-Identifier: MIT */
/* hf_dir.c - see hf_dir.h. */
#include "models/hf_dir.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/json.h"
#include "models/tensor_list.h"
#include "models/tokenizer_json.h"
#include "models/torch_file.h"

char *comma_path_join(const char *dir, const char *name, struct comma_error *err)
{
    char *path = NULL;

    if (asprintf(&path, "%s%s%s", dir, dir[0] && dir[strlen(dir) - 1] == '/' ? "" : "/", name) < 0) {
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", dir);
        return NULL;
    }
    return path;
}

bool comma_model_file_open(const char *dir, const char *name, struct comma_model_file *out, struct comma_error *err)
{
    *out = (struct comma_model_file){ .path = comma_path_join(dir, name, err) };
    if (!out->path)
        return false;
    if (access(out->path, F_OK) != 0 && errno == ENOENT)
        return true;
    if (!comma_map_open(&out->map, out->path, err)) {
        comma_model_file_close(out);
        return false;
    }
    /* An empty file is there, so its bytes are not NULL. */
    out->bytes.data = out->map.data ? out->map.data : (const unsigned char *)"";
    out->bytes.size = out->map.size;
    return true;
}

void comma_model_file_close(struct comma_model_file *file)
{
    free(file->path);
    free(file->memory);
    comma_map_close(&file->map);
    *file = (struct comma_model_file){ 0 };
}

static bool check_is_directory(const char *dir, struct comma_error *err)
{
    struct stat st;

    if (stat(dir, &st) != 0)
        return comma_fail(err, COMMA_E_IO, "%s: %s", dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return comma_fail(err, COMMA_E_MODEL,
                          "%s: a model is a directory; `comma convert %s -o DIR` makes one of a checkpoint", dir, dir);
    return true;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0 || errno != ENOENT;
}

/* Opens the file that a part of an index names, once. */
static bool append_part(const char *dir, const char *index, const char *part, struct comma_tensors *all,
                        struct comma_error *err)
{
    struct comma_tensors *ts = NULL;
    char *path;
    bool ok;

    if (part[0] == '.' || strchr(part, '/'))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is no file of this directory", index,
                          comma_shown_name(part).text);
    path = comma_path_join(dir, part, err);
    ok = path && comma_checkpoint_open(path, &ts, err) && comma_tensors_append(all, ts, err);
    free(path);
    return ok;
}

/* weight_map: tensor -> file. Each file is opened once, then each tensor must be there. */
static bool open_parts(const char *dir, const char *index, const json_t *map, struct comma_tensors *all,
                       struct comma_error *err)
{
    json_t *seen = json_object();
    const char *tensor;
    const json_t *part;
    bool ok = seen != NULL || comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", index);

    json_object_foreach((json_t *)(uintptr_t)map, tensor, part)
    {
        if (!ok)
            break;
        if (!json_is_string(part))
            ok = comma_fail(err, COMMA_E_MODEL, "%s: weight_map must give a file for each tensor", index);
        else if (!json_object_get(seen, json_string_value(part)))
            ok = append_part(dir, index, json_string_value(part), all, err) &&
                 (json_object_set_new(seen, json_string_value(part), json_true()) == 0 ||
                  comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", index));
    }
    json_decref(seen);
    if (!ok || !comma_tensors_seal(all, err))
        return false;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, part) if (!comma_tensors_find(all, tensor)) return comma_fail(
        err, COMMA_E_MODEL, "%s: %s is in none of the files", index, comma_shown_name(tensor).text);
    return true;
}

/* A model split in several files. */
static bool open_index(const char *dir, const char *path, struct comma_tensors **out, struct comma_error *err)
{
    const struct comma_json_limits limits = { 16 << 20, 4, 2 * COMMA_MAX_TENSORS };
    struct comma_tensors *all = NULL;
    struct comma_map map = { 0 };
    json_t *json = NULL;
    bool ok = false;

    if (!comma_map_open(&map, path, err))
        return false;
    if (!comma_json_parse((struct comma_text){ (const char *)map.data, map.size }, path, limits, &json, err) ||
        !comma_tensors_create(path, &all, err))
        goto out;
    ok = open_parts(dir, path, json_object_get(json, "weight_map"), all, err);
out:
    json_decref(json);
    comma_map_close(&map);
    if (ok)
        *out = all;
    else
        comma_tensors_close(all);
    return ok;
}

static bool open_weights(const char *dir, struct comma_model_files *files, struct comma_error *err)
{
    static const struct {
        const char *name;
        bool index;
    } kinds[] = {
        { "model.safetensors", false },           { "model.safetensors.index.json", true },
        { "pytorch_model.bin", false },           { "pytorch_model.bin.index.json", true },
        { "open_clip_model.safetensors", false }, { "open_clip_pytorch_model.bin", false },
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        free(files->weights_path);
        files->weights_path = comma_path_join(dir, kinds[i].name, err);
        if (!files->weights_path)
            return false;
        if (!is_there(files->weights_path))
            continue;
        return kinds[i].index ? open_index(dir, files->weights_path, &files->tensors, err)
                              : comma_checkpoint_open(files->weights_path, &files->tensors, err);
    }
    return comma_fail(err, COMMA_E_MODEL,
                      "%s: no model.safetensors or pytorch_model.bin there; is it a model directory?", dir);
}

/* merges.txt, or the merges of tokenizer.json. */
static bool open_merges(const char *dir, struct comma_model_file *merges, struct comma_error *err)
{
    struct comma_model_file json = { 0 };
    bool ok;

    if (!comma_model_file_open(dir, "merges.txt", merges, err))
        return false;
    if (merges->bytes.data)
        return true;
    ok = comma_model_file_open(dir, "tokenizer.json", &json, err) &&
         (!json.bytes.data || comma_tokenizer_json_merges(&json, merges, err));
    comma_model_file_close(&json);
    return ok;
}

#define OPEN_CLIP_CONFIG "open_clip_config.json"

/* config.json; for OpenCLIP's own files the one that they come with, if it does. */
static bool open_config(const char *dir, struct comma_model_files *files, struct comma_error *err)
{
    const char *slash = strrchr(files->weights_path, '/'), *name = slash ? slash + 1 : files->weights_path;

    if (strncmp(name, "open_clip_", strlen("open_clip_")) == 0) {
        if (!comma_model_file_open(dir, OPEN_CLIP_CONFIG, &files->config, err))
            return false;
        files->open_clip_config = files->config.bytes.data != NULL;
        if (files->open_clip_config)
            return true;
        comma_model_file_close(&files->config);
    }
    return comma_model_file_open(dir, "config.json", &files->config, err);
}

bool comma_model_files_open(const char *dir, struct comma_model_files *out, struct comma_error *err)
{
    struct comma_model_files files = { 0 };

    if (check_is_directory(dir, err) && open_weights(dir, &files, err) && open_config(dir, &files, err) &&
        comma_model_file_open(dir, "preprocessor_config.json", &files.preprocessor, err) &&
        open_merges(dir, &files.merges, err) && comma_model_file_open(dir, "vocab.json", &files.vocab, err)) {
        *out = files;
        return true;
    }
    comma_model_files_close(&files);
    return false;
}

bool comma_model_files_open_file(const char *path, struct comma_model_files *out, struct comma_error *err)
{
    struct comma_model_files files = { .weights_path = strdup(path) };
    char *dir = strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;
    bool ok = files.weights_path && dir;

    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    if (!ok)
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);
    ok = ok && comma_checkpoint_open(path, &files.tensors, err) &&
         comma_model_file_open(slash ? dir : ".", OPEN_CLIP_CONFIG, &files.config, err);
    files.open_clip_config = files.config.bytes.data != NULL;
    free(dir);
    if (ok)
        *out = files;
    else
        comma_model_files_close(&files);
    return ok;
}

void comma_model_files_close(struct comma_model_files *files)
{
    comma_tensors_close(files->tensors);
    comma_model_file_close(&files->config);
    comma_model_file_close(&files->preprocessor);
    comma_model_file_close(&files->merges);
    comma_model_file_close(&files->vocab);
    free(files->weights_path);
    *files = (struct comma_model_files){ 0 };
}
