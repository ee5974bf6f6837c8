/* SPDX-License-Identifier: MIT */
/* hf_dir.c - see hf_dir.h. */
#include "models/hf_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/safetensors.h"

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

static bool open_weights(const char *dir, struct comma_model_files *files, struct comma_error *err)
{
    files->weights_path = comma_path_join(dir, "model.safetensors", err);
    if (!files->weights_path)
        return false;
    if (access(files->weights_path, F_OK) != 0 && errno == ENOENT)
        return comma_fail(err, COMMA_E_MODEL, "%s: no model.safetensors there; is it a model directory?", dir);
    return comma_safetensors_open(files->weights_path, &files->tensors, err);
}

bool comma_model_files_open(const char *dir, struct comma_model_files *out, struct comma_error *err)
{
    struct comma_model_files files = { 0 };

    if (check_is_directory(dir, err) && open_weights(dir, &files, err) &&
        comma_model_file_open(dir, "config.json", &files.config, err) &&
        comma_model_file_open(dir, "preprocessor_config.json", &files.preprocessor, err) &&
        comma_model_file_open(dir, "merges.txt", &files.merges, err) &&
        comma_model_file_open(dir, "vocab.json", &files.vocab, err)) {
        *out = files;
        return true;
    }
    comma_model_files_close(&files);
    return false;
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
