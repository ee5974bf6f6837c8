/* SPDX-License-Identifier: MIT */
/* cmd_inspect.c - comma inspect: what a model, an adapter or a tensor file holds, without running it. */
#include <stdarg.h>
#include <stdio.h>

#include "api/buffer.h"
#include "api/problem.h"
#include "server/command.h"
#include "server/options.h"
#include "server/terminal.h"

#define MAX_LINE_BYTES ((size_t)1 << 30)

struct settings {
    const char *model;
    bool json;
};

static const struct comma_option options[] = {
    { "model", 'm', NULL, COMMA_STRING_FIELD(struct settings, model), NULL, 0, 0, "DIR",
      "model directory to compare an adapter, or the prompts of a checkpoint, with" },
    { "json", 0, NULL, COMMA_FLAG_FIELD(struct settings, json), NULL, 0, 0, NULL, "one JSON object" },
};

static const struct comma_option_table table = {
    "inspect",
    "[option]... [PATH]",
    "Shows what a model directory, an adapter directory or a checkpoint (.pt, .pth.tar-N, .bin, .safetensors) holds; "
    "without\n"
    "PATH, the embedded model.",
    options,
    sizeof(options) / sizeof(*options),
    "Exit status: 0 done, 1 it cannot be read, or the adapter does not fit the model, 2 wrong usage.",
};

static const char *const kind_names[] = {
    [COMMA_INSPECTED_MODEL] = "model",       [COMMA_INSPECTED_ADAPTER] = "adapter",
    [COMMA_INSPECTED_BACKBONE] = "backbone", [COMMA_INSPECTED_PROMPTS] = "prompts",
    [COMMA_INSPECTED_TENSORS] = "tensors",
};

static bool is_backbone(const struct comma_inspection *in)
{
    return in->kind == COMMA_INSPECTED_MODEL || in->kind == COMMA_INSPECTED_BACKBONE;
}

static bool is_adapter(const struct comma_inspection *in)
{
    return in->kind == COMMA_INSPECTED_ADAPTER || in->kind == COMMA_INSPECTED_PROMPTS;
}

/* "[768, 3, 16, 16]" */
static void shape_text(const struct comma_inspected_tensor *t, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "[");

    for (unsigned d = 0; d < t->n_dims && used < size; d++)
        used += (size_t)snprintf(out + used, size - used, "%s%zu", d ? ", " : "", t->shape[d]);
    if (used < size)
        snprintf(out + used, size - used, "]");
}

/* ---- JSON ---- */

static void put_key(struct comma_buffer *b, const char *key)
{
    if (b->size > 0 && b->data[b->size - 1] != '{')
        comma_buffer_puts(b, ",");
    comma_json_string(b, key);
    comma_buffer_puts(b, ":");
}

static void put_string(struct comma_buffer *b, const char *key, const char *value)
{
    put_key(b, key);
    comma_json_string(b, value);
}

static void put_size(struct comma_buffer *b, const char *key, size_t value)
{
    put_key(b, key);
    comma_json_size(b, value);
}

static void put_bool(struct comma_buffer *b, const char *key, bool value)
{
    put_key(b, key);
    comma_buffer_puts(b, value ? "true" : "false");
}

static void put_tower(struct comma_buffer *b, const char *key, size_t width, size_t layers, size_t heads)
{
    put_key(b, key);
    comma_buffer_puts(b, "{");
    put_size(b, "width", width);
    put_size(b, "layers", layers);
    put_size(b, "heads", heads);
    comma_buffer_puts(b, "}");
}

static void put_model(struct comma_buffer *b, const struct comma_engine_info *m)
{
    put_size(b, "image_size", m->image_size);
    put_size(b, "patch_size", m->patch_size);
    put_size(b, "embed_dim", m->embed_dim);
    put_tower(b, "vision", m->vision_width, m->vision_layers, m->vision_heads);
    put_tower(b, "text", m->text_width, m->text_layers, m->text_heads);
    put_size(b, "context_length", m->context_length);
    put_size(b, "vocab_size", m->vocab_size);
    put_string(b, "activation", m->activation);
    put_key(b, "logit_scale");
    comma_json_float(b, m->logit_scale);
    put_bool(b, "tokenizer", m->has_tokenizer);
    put_size(b, "parameters", m->n_parameters);
    put_size(b, "stored_bytes", m->stored_bytes);
}

static void put_adapter(struct comma_buffer *b, const struct comma_inspected_adapter *a)
{
    put_string(b, "method", a->info.method);
    put_size(b, "n_ctx", a->info.n_ctx);
    put_size(b, "prompt_depth", a->info.prompt_depth);
    put_size(b, "last_layer", a->info.last_layer);
    put_string(b, "ctx_init", a->info.ctx_init);
    if (a->info.n_classes)
        put_size(b, "classes", a->info.n_classes);
    put_string(b, "base_model", a->base_model);
    put_size(b, "parameters", a->n_parameters);
    put_size(b, "stored_bytes", a->info.bytes);
    if (a->compared)
        put_bool(b, "fits", a->fits);
    if (a->compared && !a->fits)
        put_string(b, "reason", a->reason);
}

static void put_adapters(struct comma_buffer *b, const struct comma_inspection *in)
{
    put_key(b, "adapters");
    comma_buffer_puts(b, "[");
    for (size_t i = 0; i < in->n_adapters; i++) {
        comma_buffer_puts(b, i ? ",{" : "{");
        put_string(b, "name", in->adapters[i].info.name);
        put_adapter(b, &in->adapters[i]);
        comma_buffer_puts(b, "}");
    }
    comma_buffer_puts(b, "]");
}

static void put_dtypes(struct comma_buffer *b, const struct comma_inspection *in)
{
    put_key(b, "dtypes");
    comma_buffer_puts(b, "[");
    for (size_t i = 0; i < in->n_dtypes; i++) {
        comma_buffer_puts(b, i ? ",{" : "{");
        put_string(b, "dtype", in->dtypes[i].name);
        put_size(b, "tensors", in->dtypes[i].n_tensors);
        put_size(b, "parameters", in->dtypes[i].n_parameters);
        put_size(b, "bytes", in->dtypes[i].bytes);
        comma_buffer_puts(b, "}");
    }
    comma_buffer_puts(b, "]");
}

static void put_tensors(struct comma_buffer *b, const struct comma_inspection *in)
{
    char shape[256];

    put_key(b, "tensors");
    comma_buffer_puts(b, "[");
    for (size_t i = 0; i < in->n_tensors; i++) {
        comma_buffer_puts(b, i ? ",{" : "{");
        put_string(b, "name", in->tensors[i].name);
        put_string(b, "dtype", in->tensors[i].dtype);
        put_key(b, "shape");
        shape_text(&in->tensors[i], shape, sizeof(shape)); /* reads as JSON, too */
        comma_buffer_puts(b, shape);
        comma_buffer_puts(b, "}");
    }
    comma_buffer_puts(b, "]");
}

static bool print_json(const struct comma_inspection *in, struct comma_error *err)
{
    struct comma_buffer b;
    bool ok;

    comma_buffer_init(&b, MAX_LINE_BYTES);
    comma_buffer_puts(&b, "{");
    put_string(&b, "kind", kind_names[in->kind]);
    put_string(&b, "name", in->name);
    if (in->container)
        put_string(&b, "container", in->container);
    if (in->note[0])
        put_string(&b, "note", in->note);
    if (is_backbone(in))
        put_model(&b, &in->model);
    if (in->kind == COMMA_INSPECTED_MODEL)
        put_adapters(&b, in);
    else if (is_adapter(in))
        put_adapter(&b, &in->adapters[0]);
    put_dtypes(&b, in);
    if (in->kind != COMMA_INSPECTED_MODEL)
        put_tensors(&b, in);
    comma_buffer_puts(&b, "}\n");
    ok = comma_buffer_ok(&b, err);
    if (ok)
        fwrite(b.data, 1, b.size, stdout);
    comma_buffer_finish(&b);
    return ok;
}

/* ---- tables ---- */

static void add_pair(struct comma_table *rows, const char *what, const char *format, ...) COMMA_PRINTF(3, 4);

static void add_pair(struct comma_table *rows, const char *what, const char *format, ...)
{
    char value[640];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    comma_table_add(rows, "%s", what);
    comma_table_add(rows, "%s", value);
}

static void add_model(struct comma_table *rows, const struct comma_engine_info *m)
{
    add_pair(rows, "image", "%zu px, patches of %zu px", m->image_size, m->patch_size);
    add_pair(rows, "vision tower", "width %zu, %zu layers, %zu heads", m->vision_width, m->vision_layers,
             m->vision_heads);
    add_pair(rows, "text tower", "width %zu, %zu layers, %zu heads, context %zu, vocabulary %zu", m->text_width,
             m->text_layers, m->text_heads, m->context_length, m->vocab_size);
    add_pair(rows, "features", "%zu numbers", m->embed_dim);
    add_pair(rows, "activation", "%s", m->activation);
    add_pair(rows, "logit scale", "%.6g", (double)m->logit_scale);
    add_pair(rows, "tokenizer", "%s", m->has_tokenizer ? "yes" : "no: images only");
    add_pair(rows, "parameters", "%zu in %zu bytes", m->n_parameters, m->stored_bytes);
}

static void add_adapter(struct comma_table *rows, const struct comma_inspected_adapter *a)
{
    add_pair(rows, "method", "%s", a->info.method);
    add_pair(rows, "prompts", "n_ctx %zu, prompt_depth %zu, last_layer %zu", a->info.n_ctx, a->info.prompt_depth,
             a->info.last_layer);
    add_pair(rows, "ctx_init", "%s", a->info.ctx_init);
    if (a->info.n_classes)
        add_pair(rows, "classes", "%zu, and no others", a->info.n_classes);
    if (a->base_model[0])
        add_pair(rows, "base model", "%s", a->base_model);
    add_pair(rows, "parameters", "%zu in %zu bytes", a->n_parameters, a->info.bytes);
    if (a->compared)
        add_pair(rows, "fits the model", "%s%s", a->fits ? "yes" : "no: ", a->reason);
}

static bool print_pairs(const struct comma_inspection *in, struct comma_error *err)
{
    struct comma_table rows = { .n_columns = 2 };

    add_pair(&rows, "kind", "%s", kind_names[in->kind]);
    add_pair(&rows, "name", "%s", in->name);
    if (in->container)
        add_pair(&rows, "container", "%s", in->container);
    if (in->note[0])
        add_pair(&rows, "note", "%s", in->note);
    if (is_backbone(in))
        add_model(&rows, &in->model);
    else if (is_adapter(in))
        add_adapter(&rows, &in->adapters[0]);
    for (size_t i = 0; i < in->n_dtypes; i++)
        add_pair(&rows, in->dtypes[i].name, "%zu tensors, %zu parameters, %zu bytes", in->dtypes[i].n_tensors,
                 in->dtypes[i].n_parameters, in->dtypes[i].bytes);
    return comma_table_print(&rows, 0, err);
}

static bool print_own_adapters(const struct comma_inspection *in, struct comma_error *err)
{
    struct comma_table rows = { .n_columns = 6 };

    for (size_t i = 0; i < in->n_adapters; i++) {
        const struct comma_inspected_adapter *a = &in->adapters[i];

        comma_table_add(&rows, "adapter");
        comma_table_add(&rows, "%s", a->info.name);
        comma_table_add(&rows, "%s", a->info.method);
        comma_table_add(&rows, "n_ctx %zu, prompt_depth %zu", a->info.n_ctx, a->info.prompt_depth);
        comma_table_add(&rows, "%zu bytes", a->info.bytes);
        comma_table_add(&rows, "%s%s", a->fits ? "fits" : "does not fit: ", a->reason);
    }
    return comma_table_print(&rows, 0, err);
}

static bool print_tensors(const struct comma_inspection *in, struct comma_error *err)
{
    struct comma_table rows = { .n_columns = 3 };
    char shape[256];

    for (size_t i = 0; i < in->n_tensors; i++) {
        shape_text(&in->tensors[i], shape, sizeof(shape));
        comma_table_add_text(&rows, comma_text_of(in->tensors[i].name));
        comma_table_add(&rows, "%s", in->tensors[i].dtype);
        comma_table_add(&rows, "%s", shape);
    }
    return comma_table_print(&rows, 0, err);
}

static bool print(const struct comma_inspection *in, bool json, struct comma_error *err)
{
    if (json)
        return print_json(in, err);
    if (!print_pairs(in, err))
        return false;
    return in->kind == COMMA_INSPECTED_MODEL ? print_own_adapters(in, err) : print_tensors(in, err);
}

static int inspect(const struct settings *settings, const char *path)
{
    struct comma_inspection in = { 0 };
    struct comma_error err;
    bool failed = false;

    if (!comma_inspect(path, settings->model, &in, &err)) {
        comma_complain("%s", err.message);
        return comma_exit_status(err.code);
    }
    if (!print(&in, settings->json, &err)) {
        comma_complain("%s", err.message);
        failed = true;
    }
    (void)comma_stdout_flush(&failed);
    for (size_t i = 0; i < in.n_adapters; i++)
        failed |= in.adapters[i].compared && !in.adapters[i].fits;
    comma_inspection_close(&in);
    return failed;
}

int comma_command_inspect(int argc, char **argv)
{
    struct settings settings;
    struct comma_strings paths;
    int status = comma_options_main(&table, argc, argv, &settings, sizeof(settings), &paths);

    if (status >= 0)
        return status;
    if (paths.n > 1) {
        comma_complain("inspect takes one path, not %zu", paths.n);
        status = 2;
    } else {
        status = inspect(&settings, paths.n == 1 ? paths.items[0] : NULL);
    }
    comma_options_finish(&table, &settings);
    comma_strings_finish(&paths);
    return status;
}
