/* SPDX-License-Identifier: MIT */
/* tool.c - see tool.h. */
#include "server/tool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Opens the directory under the last part of its full path: "." and "x/.." have names, too. */
static bool open_directory(struct comma_tool *tool, const char *dir, struct comma_error *err)
{
    char *path = realpath(dir, NULL);
    const char *slash = path ? strrchr(path, '/') : NULL;
    bool ok = false;

    if (!slash)
        comma_fail(err, COMMA_E_IO, "%s: this path cannot be resolved", dir);
    else if (comma_engine_add_adapter(tool->engine, slash + 1, dir, err))
        ok = (tool->adapter = comma_engine_get_adapter(tool->engine, slash + 1)) != NULL ||
             comma_fail(err, COMMA_E_INTERNAL, "%s: the adapter was opened and is not there", dir);
    free(path);
    return ok;
}

/* The names of the adapters that the model came with, for a message. */
static void list_names(struct comma_tool *tool, char *out, size_t size)
{
    struct comma_adapter_info *adapters = NULL;
    size_t n = 0, used = 0;

    out[0] = '\0';
    if (!comma_engine_list_adapters(tool->engine, &adapters, &n, NULL))
        return;
    for (size_t i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", adapters[i].name);
    free(adapters);
}

static bool open_adapter(struct comma_tool *tool, const char *name, struct comma_error *err)
{
    char names[200];

    if (is_directory(name))
        return open_directory(tool, name, err);
    tool->adapter = comma_engine_get_adapter(tool->engine, name);
    if (tool->adapter)
        return true;
    list_names(tool, names, sizeof(names));
    return comma_fail(err, COMMA_E_IO, "adapter %.120s: no such directory, and the model's own adapters are: %s", name,
                      names[0] ? names : "none");
}

bool comma_tool_open(const struct comma_tool_settings *settings, struct comma_engine_options options,
                     struct comma_tool *out, struct comma_error *err)
{
    struct comma_tool tool = { 0 };
    bool ok = false;

    options.model_dir = settings->model;
    options.backend = settings->backend;
    options.precision = settings->precision;
    options.n_threads = settings->threads;
    options.fast_decode = settings->fast_decode;
    if (settings->max_megapixels > 0)
        options.image.max_pixels = (size_t)(settings->max_megapixels * 1e6);
    if (!comma_engine_open(&options, &tool.engine, err))
        goto out;
    if (settings->adapter && !open_adapter(&tool, settings->adapter, err))
        goto out;
    comma_engine_get_info(tool.engine, &tool.info); /* counts the adapter's prompts in */
    tool.model = tool.adapter ? comma_adapter_name(tool.adapter) : tool.info.name;
    ok = true;
out:
    if (ok)
        *out = tool;
    else
        comma_tool_close(&tool);
    return ok;
}

void comma_tool_close(struct comma_tool *tool)
{
    comma_adapter_unref(tool->adapter);
    comma_engine_close(tool->engine);
    *tool = (struct comma_tool){ 0 };
}
