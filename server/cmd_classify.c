/* SPDX-License-Identifier: MIT */
/* cmd_classify.c - comma classify: pictures against labels. Several pictures are under way at once; results come in
 * the order of the arguments, and a picture that fails does not stop the others. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/response.h"
#include "api/texts.h"
#include "server/command.h"
#include "server/input.h"
#include "server/pipeline.h"
#include "server/terminal.h"
#include "server/tool.h"

struct settings {
    struct comma_tool_settings tool;
    struct comma_strings labels, templates;
    const char *labels_file;
    size_t top_k; /* 0: all */
    bool json;
};

static const struct comma_option options[] = {
    COMMA_TOOL_MODEL_OPTION(struct settings),
    COMMA_TOOL_ADAPTER_OPTION(struct settings),
    { "labels", 'l', NULL, COMMA_STRINGS_FIELD(struct settings, labels), NULL, 0, 0, "LIST",
      "class names: a JSON array, or separated by newlines or commas" },
    { "labels-file", 0, NULL, COMMA_STRING_FIELD(struct settings, labels_file), NULL, 0, 0, "FILE",
      "class names, one a line; - is standard input" },
    { "template", 0, NULL, COMMA_STRINGS_FIELD(struct settings, templates), NULL, 0, 0, "TEXT",
      "text with {} for the label; several: the mean of their features. Not with an adapter, which has a prompt of its "
      "own. Left out: \"a photo of a {}.\"" },
    { "top-k", 'k', NULL, COMMA_SIZE_FIELD(struct settings, top_k), NULL, 1, 1e9, "N",
      "print the N best labels; left out: all" },
    { "json", 0, NULL, COMMA_FLAG_FIELD(struct settings, json), NULL, 0, 0, NULL,
      "one JSON object a line, as POST /classify answers, with \"image\": path" },
    COMMA_TOOL_ORIENT_OPTION(struct settings),
    COMMA_TOOL_FAST_DECODE_OPTION(struct settings),
    COMMA_TOOL_MEGAPIXELS_OPTION(struct settings),
    COMMA_TOOL_THREADS_OPTION(struct settings),
    COMMA_TOOL_BACKEND_OPTION(struct settings),
    COMMA_TOOL_PRECISION_OPTION(struct settings),
};

static const struct comma_option_table table = {
    "classify",
    "[option]... --labels LIST | --labels-file FILE  IMAGE...",
    "Scores PNG and JPEG pictures against class names; - is standard input.",
    options,
    sizeof(options) / sizeof(*options),
    "Columns of the table: label, score (softmax over the labels given), similarity (cosine). In a pipe there is a "
    "line\n"
    "for each picture and label, with tabs: image, label, score, similarity.\n"
    "Exit status: 0 done, 1 some pictures failed (each said on standard error), 2 wrong usage.",
};

/* One run of the command. */
struct work {
    const struct settings *settings;
    const struct comma_strings *images;
    struct comma_tool tool;
    struct comma_api_request request; /* the labels and templates */
    struct comma_bytes *files;        /* [images->n]: empty where not under way */
    bool failed, stopped;
};

#define MAX_FILE_BYTES ((size_t)256 << 20)
#define MAX_LINE_BYTES ((size_t)1 << 30)

/* ---- one picture ---- */

static bool begin_image(void *user, size_t i, struct comma_job *job, struct comma_error *err)
{
    struct work *work = user;

    if (!comma_input_read(work->images->items[i], MAX_FILE_BYTES, &work->files[i], err))
        return false;
    comma_api_request_to_job(&work->request, job);
    job->adapter = work->tool.adapter;
    job->image = work->files[i];
    job->raw_orientation = work->settings->tool.no_auto_orient;
    return true;
}

static bool print_json(const struct work *work, const struct comma_job *job, const char *path, struct comma_error *err)
{
    struct comma_buffer line;
    bool ok;

    comma_buffer_init(&line, MAX_LINE_BYTES);
    ok = comma_api_write_classify(&line, job, work->tool.model, work->settings->top_k, path, err);
    if (ok) {
        fwrite(line.data, 1, line.size, stdout);
        fputc('\n', stdout);
    }
    comma_buffer_finish(&line);
    return ok;
}

/* On a terminal the path, then a row a label; in a pipe the path is the first column of each row. */
static bool print_table(const struct work *work, const struct comma_job *job, const char *path, struct comma_error *err)
{
    const size_t k = work->settings->top_k < job->n_texts ? work->settings->top_k : job->n_texts;
    const bool on_terminal = comma_stdout_is_terminal();
    struct comma_table rows = { .n_columns = on_terminal ? 3 : 4, .right = on_terminal ? 6 : 12 };
    size_t *order = calloc(k, sizeof(*order));

    if (!order)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the table");
    comma_top_k(job->scores, job->n_texts, k, order);
    for (size_t i = 0; i < k; i++) {
        if (!on_terminal)
            comma_table_add_text(&rows, comma_text_of(path));
        comma_table_add_text(&rows, job->texts[order[i]]);
        comma_table_add(&rows, "%.4f", job->scores[order[i]]);
        comma_table_add(&rows, "%.4f", job->similarities[order[i]]);
    }
    free(order);
    if (on_terminal) {
        comma_print_text(comma_text_of(path));
        fputc('\n', stdout);
    }
    return comma_table_print(&rows, 2, err);
}

/* A label at fault is at fault for every picture: said once, and the rest is left alone. */
static bool complain(struct work *work, const struct comma_job *job, const char *path)
{
    work->failed = true;
    if (job->error_text < job->n_texts) {
        comma_complain("%s", job->error.message);
        return false;
    }
    comma_complain("%s: %s", path, job->error.message);
    return true;
}

static bool end_image(void *user, size_t i, struct comma_job *job)
{
    struct work *work = user;
    const char *path = work->images->items[i];
    struct comma_error err;

    free((void *)(uintptr_t)work->files[i].data);
    work->files[i] = (struct comma_bytes){ 0 };
    if (work->stopped)
        return false;
    comma_progress_clear();
    if (!job->ok) {
        work->stopped = !complain(work, job, path);
    } else if (!(work->settings->json ? print_json : print_table)(work, job, path, &err)) {
        comma_complain("%s: %s", path, err.message);
        work->failed = true;
    }
    if (!comma_stdout_flush(&work->failed))
        work->stopped = true;
    return !work->stopped;
}

/* ---- the command line ---- */

static bool is_stdin(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

/* What no engine is needed to see. */
static bool check_usage(const struct settings *settings, const struct comma_strings *images, struct comma_error *err)
{
    size_t n_stdin = is_stdin(settings->labels_file);

    for (size_t i = 0; i < images->n; i++)
        n_stdin += is_stdin(images->items[i]);
    if (images->n == 0)
        return comma_fail(err, COMMA_E_INPUT, "no picture was given; name one or more PNG or JPEG files, or -");
    if (settings->labels.n == 0 && !settings->labels_file)
        return comma_fail(err, COMMA_E_INPUT, "no labels were given; use --labels cat,dog or --labels-file FILE");
    if (n_stdin > 1)
        return comma_fail(err, COMMA_E_INPUT, "- stands for standard input, which can be read once only");
    return true;
}

/* Labels and templates, read and checked as those of POST /classify are, without its limits. */
static bool read_texts(const struct settings *settings, struct comma_api_request *out, struct comma_error *err)
{
    static const struct comma_api_limits limits = {
        .max_labels = 10000000, .max_label_bytes = 65536, .max_labels_bytes = MAX_LINE_BYTES, .max_templates = 1000
    };
    struct comma_problem problem = { 0 };
    struct comma_strings lines = { 0 };
    bool ok = false;

    if (settings->labels_file && !comma_input_lines(settings->labels_file, &lines, err))
        goto out;
    ok = comma_api_request_of_texts(
             &(struct comma_api_texts){ .lists = (const char *const *)settings->labels.items,
                                        .n_lists = settings->labels.n,
                                        .labels = (const char *const *)lines.items,
                                        .n_labels = lines.n,
                                        .templates = (const char *const *)settings->templates.items,
                                        .n_templates = settings->templates.n },
             &limits, out, &problem) ||
         comma_fail(err, COMMA_E_INPUT, "%s", problem.detail);
out:
    comma_strings_finish(&lines);
    return ok;
}

static int classify(const struct settings *settings, const struct comma_strings *images)
{
    struct work work = { .settings = settings, .images = images };
    struct comma_pipeline pipeline = { .what = "images", .user = &work, .begin = begin_image, .end = end_image };
    struct comma_error err = { 0 };
    struct comma_problem problem;
    int status = 2;

    if (!check_usage(settings, images, &err) || !read_texts(settings, &work.request, &err)) {
        comma_complain("%s", err.message);
        goto out;
    }
    status = 1;
    work.files = calloc(images->n, sizeof(*work.files));
    if (!work.files) {
        comma_complain("out of memory for %zu pictures", images->n);
        goto out;
    }
    if (!comma_tool_open(&settings->tool, comma_engine_default_options(), &work.tool, &err)) {
        comma_complain("%s", err.message);
        goto out;
    }
    if (!comma_api_request_fits(&work.request, work.tool.adapter && comma_adapter_has_prompt(work.tool.adapter),
                                &problem)) {
        comma_complain("%s", problem.detail);
        status = 2;
        goto out;
    }
    pipeline.engine = work.tool.engine;
    pipeline.n_inputs = images->n;
    pipeline.window = 16 + 2 * (size_t)work.tool.info.n_threads; /* a batch for each thread, and the next ones read */
    if (!comma_pipeline_run(&pipeline, &err)) {
        comma_complain("%s", err.message);
        goto out;
    }
    status = work.failed;
out:
    comma_tool_close(&work.tool);
    comma_api_request_finish(&work.request);
    free(work.files);
    return status;
}

int comma_command_classify(int argc, char **argv)
{
    struct settings settings;
    struct comma_strings images;
    int status = comma_options_main(&table, argc, argv, &settings, sizeof(settings), &images);

    if (status >= 0)
        return status;
    if (settings.top_k == 0)
        settings.top_k = SIZE_MAX;
    status = classify(&settings, &images);
    comma_options_finish(&table, &settings);
    comma_strings_finish(&images);
    return status;
}
