/* SPDX-License-Identifier: MIT */
/* cmd_tokenize.c - comma tokenize: the token ids of texts, with SOS and EOT, as the text tower gets them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/response.h"
#include "server/command.h"
#include "server/terminal.h"
#include "server/tool.h"

/* The context may be shorter: this is for looking at texts, too long ones too. */
#define MAX_IDS        65536
#define MAX_LINE_BYTES ((size_t)1 << 30)

struct settings {
    struct comma_tool_settings tool;
    bool json;
};

static const struct comma_option options[] = {
    COMMA_TOOL_MODEL_OPTION(struct settings),
    { "json", 0, NULL, COMMA_FLAG_FIELD(struct settings, json), NULL, 0, 0, NULL,
      "one {\"text\": ..., \"ids\": [...]} a line" },
};

static const struct comma_option_table table = {
    "tokenize",
    "[option]... STR...",
    "Prints the token ids of each text on a line, with SOS and EOT and without padding.",
    options,
    sizeof(options) / sizeof(*options),
    "A text that is longer than the model's context is shown all the same.\n"
    "Exit status: 0 done, 1 some texts failed (each said on standard error), 2 wrong usage.",
};

static bool print_json(struct comma_text text, const int32_t *ids, size_t n_ids, struct comma_error *err)
{
    struct comma_buffer line;
    bool ok;

    comma_buffer_init(&line, MAX_LINE_BYTES);
    ok = comma_api_write_tokenize_line(&line, text, ids, n_ids, err);
    if (ok) {
        fwrite(line.data, 1, line.size, stdout);
        fputc('\n', stdout);
    }
    comma_buffer_finish(&line);
    return ok;
}

static bool print_ids(struct comma_engine *engine, const char *text, bool json, int32_t *ids, struct comma_error *err)
{
    size_t n_ids;

    if (!comma_engine_tokenize(engine, comma_text_of(text), ids, MAX_IDS, &n_ids, err))
        return false;
    if (json)
        return print_json(comma_text_of(text), ids, n_ids, err);
    for (size_t i = 0; i < n_ids; i++)
        printf("%s%d", i ? " " : "", (int)ids[i]);
    putchar('\n');
    return true;
}

static int tokenize(const struct settings *settings, const struct comma_strings *texts)
{
    struct comma_engine_options engine_options = comma_engine_default_options();
    struct comma_tool tool = { 0 };
    struct comma_error err = { 0 };
    int32_t *ids = calloc(MAX_IDS, sizeof(*ids));
    bool failed = true;

    if (!ids) {
        comma_complain("out of memory");
        goto out;
    }
    if (!comma_tool_open(&settings->tool, engine_options, &tool, &err)) {
        comma_complain("%s", err.message);
        goto out;
    }
    failed = false;
    for (size_t i = 0; i < texts->n; i++) {
        if (!print_ids(tool.engine, texts->items[i], settings->json, ids, &err)) {
            comma_complain("\"%.60s%s\": %s", texts->items[i], strlen(texts->items[i]) > 60 ? "..." : "", err.message);
            failed = true;
        }
        if (!comma_stdout_flush(&failed))
            break;
    }
out:
    comma_tool_close(&tool);
    free(ids);
    return failed;
}

int comma_command_tokenize(int argc, char **argv)
{
    struct settings settings;
    struct comma_strings texts;
    int status = comma_options_main(&table, argc, argv, &settings, sizeof(settings), &texts);

    if (status >= 0)
        return status;
    settings.tool.threads = 1; /* nothing is encoded */
    if (texts.n > 0) {
        status = tokenize(&settings, &texts);
    } else {
        comma_complain("no text was given; see comma tokenize --help");
        status = 2;
    }
    comma_options_finish(&table, &settings);
    comma_strings_finish(&texts);
    return status;
}
