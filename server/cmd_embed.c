/* SPDX-License-Identifier: MIT */
/* cmd_embed.c - comma embed: pictures and texts to their features, pictures first, in the order of the arguments. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/response.h"
#include "server/command.h"
#include "server/input.h"
#include "server/pipeline.h"
#include "server/terminal.h"
#include "server/tool.h"

#define MAX_FILE_BYTES ((size_t)256 << 20)
#define MAX_LINE_BYTES ((size_t)1 << 30)

/* Jobs under way: texts are small, and are encoded many at a time. */
#define WINDOW 256

struct settings {
    struct comma_tool_settings tool;
    struct comma_strings images, texts;
    const char *text_file;
    bool no_normalize, json;
};

static const struct comma_option options[] = {
    COMMA_TOOL_MODEL_OPTION(struct settings),
    COMMA_TOOL_ADAPTER_OPTION(struct settings),
    { "image", 'i', NULL, COMMA_REST_FIELD(struct settings, images), NULL, 0, 0, "FILE",
      "PNG or JPEG pictures; - is standard input" },
    { "text", 0, NULL, COMMA_REST_FIELD(struct settings, texts), NULL, 0, 0, "STR",
      "texts, encoded as they stand; with an adapter class names, put into its prompt" },
    { "text-file", 0, NULL, COMMA_STRING_FIELD(struct settings, text_file), NULL, 0, 0, "FILE",
      "texts, one a line; - is standard input" },
    { "no-normalize", 0, NULL, COMMA_FLAG_FIELD(struct settings, no_normalize), NULL, 0, 0, NULL,
      "features as the projection gives them, not divided by their length" },
    { "json", 0, NULL, COMMA_FLAG_FIELD(struct settings, json), NULL, 0, 0, NULL,
      "one {\"input\": ..., \"features\": [...]} a line" },
    COMMA_TOOL_ORIENT_OPTION(struct settings),
    COMMA_TOOL_FAST_DECODE_OPTION(struct settings),
    COMMA_TOOL_MEGAPIXELS_OPTION(struct settings),
    COMMA_TOOL_THREADS_OPTION(struct settings),
    COMMA_TOOL_BACKEND_OPTION(struct settings),
    COMMA_TOOL_PRECISION_OPTION(struct settings),
};

static const struct comma_option_table table = {
    "embed",
    "[option]... --image FILE... | --text STR... | --text-file FILE",
    "Prints the features of pictures and texts.",
    options,
    sizeof(options) / sizeof(*options),
    "--image and --text take all that follows up to the next option, and may be repeated. A line is the input and its\n"
    "numbers, with a tab in front of each; pictures come first.\n"
    "Exit status: 0 done, 1 some inputs failed (each said on standard error), 2 wrong usage.",
};

/* One run of the command. Input i is picture i, or text i - images.n. */
struct work {
    const struct settings *settings;
    struct comma_tool tool;
    struct comma_text *texts;  /* [settings->texts.n] */
    struct comma_bytes *files; /* [settings->images.n]: empty where not under way */
    bool failed, stopped;
};

static const char *input_of(const struct work *work, size_t i)
{
    const size_t n_images = work->settings->images.n;

    return i < n_images ? work->settings->images.items[i] : work->settings->texts.items[i - n_images];
}

static bool begin_input(void *user, size_t i, struct comma_job *job, struct comma_error *err)
{
    struct work *work = user;
    const size_t n_images = work->settings->images.n;

    *job = (struct comma_job){ .adapter = work->tool.adapter,
                               .raw_orientation = work->settings->tool.no_auto_orient,
                               .not_normalized = work->settings->no_normalize };
    if (i < n_images) {
        if (!comma_input_read(work->settings->images.items[i], MAX_FILE_BYTES, &work->files[i], err))
            return false;
        job->kind = COMMA_JOB_EMBED_IMAGE;
        job->image = work->files[i];
    } else {
        job->kind = COMMA_JOB_EMBED_TEXTS;
        job->texts = &work->texts[i - n_images];
        job->n_texts = 1;
    }
    return true;
}

static bool print_json(struct comma_text input, const float *feature, size_t dim, struct comma_error *err)
{
    struct comma_buffer line;
    bool ok;

    comma_buffer_init(&line, MAX_LINE_BYTES);
    ok = comma_api_write_embed_line(&line, input, feature, dim, err);
    if (ok) {
        fwrite(line.data, 1, line.size, stdout);
        fputc('\n', stdout);
    }
    comma_buffer_finish(&line);
    return ok;
}

static void print_plain(struct comma_text input, const float *feature, size_t dim)
{
    comma_print_text(input);
    for (size_t i = 0; i < dim; i++)
        printf("\t%.9g", feature[i]); /* 9 digits give the same f32 back */
    putchar('\n');
}

static bool end_input(void *user, size_t i, struct comma_job *job)
{
    struct work *work = user;
    const struct comma_text input = comma_text_of(input_of(work, i));
    const bool is_image = i < work->settings->images.n;
    const float *feature = is_image ? job->image_feature : job->text_features;
    struct comma_error err = job->error;
    bool ok = job->ok;

    if (is_image) {
        free((void *)(uintptr_t)work->files[i].data);
        work->files[i] = (struct comma_bytes){ 0 };
    }
    if (work->stopped)
        return false;
    comma_progress_clear();
    if (ok && work->settings->json)
        ok = print_json(input, feature, work->tool.info.embed_dim, &err);
    else if (ok)
        print_plain(input, feature, work->tool.info.embed_dim);
    if (!ok && is_image)
        comma_complain("%s: %s", input.data, err.message);
    else if (!ok)
        comma_complain("\"%.60s%s\": %s", input.data, input.size > 60 ? "..." : "", err.message);
    if (!ok)
        work->failed = true;
    if (!comma_stdout_flush(&work->failed))
        work->stopped = true;
    return !work->stopped;
}

/* ---- the command line ---- */

/* What no engine is needed to see. */
static bool check_usage(const struct settings *settings, struct comma_error *err)
{
    size_t n_stdin = settings->text_file && strcmp(settings->text_file, "-") == 0;

    for (size_t i = 0; i < settings->images.n; i++)
        n_stdin += strcmp(settings->images.items[i], "-") == 0;
    if (settings->images.n + settings->texts.n == 0 && !settings->text_file)
        return comma_fail(err, COMMA_E_INPUT,
                          "nothing to embed; use --image FILE..., --text STR... or --text-file FILE");
    if (n_stdin > 1)
        return comma_fail(err, COMMA_E_INPUT, "- stands for standard input, which can be read once only");
    return true;
}

static bool prepare(struct work *work, struct settings *settings, struct comma_error *err)
{
    if (settings->text_file && !comma_input_lines(settings->text_file, &settings->texts, err))
        return false;
    work->files = calloc(settings->images.n + 1, sizeof(*work->files));
    work->texts = calloc(settings->texts.n + 1, sizeof(*work->texts));
    if (!work->files || !work->texts)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu inputs", settings->images.n + settings->texts.n);
    for (size_t i = 0; i < settings->texts.n; i++)
        work->texts[i] = comma_text_of(settings->texts.items[i]);
    return comma_tool_open(&settings->tool, comma_engine_default_options(), &work->tool, err);
}

static int embed(struct settings *settings)
{
    struct work work = { .settings = settings };
    struct comma_pipeline pipeline = { .what = "inputs", .user = &work, .begin = begin_input, .end = end_input };
    struct comma_error err = { 0 };
    int status = 1;

    if (!check_usage(settings, &err)) {
        comma_complain("%s", err.message);
        return 2;
    }
    if (!prepare(&work, settings, &err)) {
        comma_complain("%s", err.message);
        goto out;
    }
    pipeline.engine = work.tool.engine;
    pipeline.n_inputs = settings->images.n + settings->texts.n;
    pipeline.window = settings->images.n > 0 ? 16 + 2 * (size_t)work.tool.info.n_threads : WINDOW;
    if (comma_pipeline_run(&pipeline, &err))
        status = work.failed;
    else
        comma_complain("%s", err.message);
out:
    comma_tool_close(&work.tool);
    free(work.texts);
    free(work.files);
    return status;
}

int comma_command_embed(int argc, char **argv)
{
    struct settings settings;
    int status = comma_options_main(&table, argc, argv, &settings, sizeof(settings), NULL);

    if (status >= 0)
        return status;
    status = embed(&settings);
    comma_options_finish(&table, &settings);
    return status;
}
