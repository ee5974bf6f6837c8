/* SPDX-License-Identifier: MIT */
/* cmd_convert.c - comma convert: a checkpoint becomes a model directory, or an adapter directory, that can be served.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/problem.h"
#include "engine/comma.h"
#include "server/command.h"
#include "server/input.h"
#include "server/options.h"
#include "server/terminal.h"

struct settings {
    struct comma_strings adapters;
    const char *out, *model, *merges, *activation, *heads, *dtype, *ctx_init, *classnames, *class_token_position;
    size_t last_layer;
    unsigned threads;
    bool allow_nan, force;
};

static const struct comma_option options[] = {
    { "output", 'o', NULL, COMMA_STRING_FIELD(struct settings, out), NULL, 0, 0, "DIR",
      "directory to make; its parent must be there" },
    { "adapter-from", 0, NULL, COMMA_STRINGS_FIELD(struct settings, adapters), NULL, 0, 0, "[NAME=]CKPT",
      "bundle the prompts of this checkpoint (model.pth.tar-5) or adapter directory; without NAME the method names it: "
      "comma, comma-2; may be given again" },
    { "merges", 0, NULL, COMMA_STRING_FIELD(struct settings, merges), NULL, 0, 0, "FILE",
      "the tokenizer, which OpenAI's and OpenCLIP's files do not carry: bpe_simple_vocab_16e6.txt, plain or gzip, or a "
      "merges.txt; what the vocabulary does not use is left out" },
    { "ctx-init", 0, NULL, COMMA_STRING_FIELD(struct settings, ctx_init), NULL, 0, 0, "TEXT",
      "CTX_INIT of the training; left out: as the checkpoint's own embeddings tell, else \"a photo of a\"" },
    { "last-layer", 0, NULL, COMMA_SIZE_FIELD(struct settings, last_layer), "1", 1, 1000, "K",
      "LAST_LAYER of the training, which the checkpoint does not carry" },
    { "activation", 0, NULL, COMMA_CHOICE_FIELD(struct settings, activation), NULL, 0, 0, "quick_gelu|gelu",
      "OpenAI's weights use quick_gelu, most of OpenCLIP's gelu; left out: as the files tell, else quick_gelu" },
    { "heads", 0, NULL, COMMA_STRING_FIELD(struct settings, heads), NULL, 0, 0, "VISION[,TEXT]",
      "attention heads of the towers; left out: as the files tell, else width / 64 and 16 in ViT-H, g and bigG" },
    { "dtype", 0, NULL, COMMA_CHOICE_FIELD(struct settings, dtype), NULL, 0, 0, "f32|f16|bf16",
      "store the backbone's weights as these; left out: as they are" },
    { "precision", 0, NULL, COMMA_CHOICE_FIELD(struct settings, dtype), NULL, 0, 0, "f32|f16|bf16",
      "the same as --dtype" },
    { "classnames", 0, NULL, COMMA_STRING_FIELD(struct settings, classnames), NULL, 0, 0, "FILE",
      "for CoOp with class-specific contexts: the names, a line each, in the order of the training" },
    { "class-token-position", 0, NULL, COMMA_CHOICE_FIELD(struct settings, class_token_position), NULL, 0, 0,
      "end|middle|front", "for CoOp: where the class name stands; left out: end" },
    { "model", 'm', NULL, COMMA_STRING_FIELD(struct settings, model), NULL, 0, 0, "DIR",
      "where SOURCE is prompts alone: the model to hold them against" },
    { "allow-nan", 0, NULL, COMMA_FLAG_FIELD(struct settings, allow_nan), NULL, 0, 0, NULL,
      "store weights that are NaN or infinite; a server does not start over features that are" },
    { "force", 'f', NULL, COMMA_FLAG_FIELD(struct settings, force), NULL, 0, 0, NULL,
      "replace the model or adapter directory that is there, all of it, when the new one is complete" },
    { "threads", 't', NULL, COMMA_UINT_FIELD(struct settings, threads), "0", 0, 1024, "N",
      "threads for the trial at the end; 0: the cores that affinity and cgroup allow" },
};

static const struct comma_option_table table = {
    "convert",
    "SOURCE [option]... -o DIR",
    "Makes a model directory of OpenAI's .pt, OpenCLIP's .bin, .safetensors or training checkpoint, pytorch_model.bin "
    "or a\n"
    "Hugging Face directory; or an adapter directory of prompts alone (COMMA, MaPLe, IVLP, VPT, CoOp, CoCoOp:\n"
    "model.pth.tar-N). Nothing in a checkpoint is executed.\n\n"
    "  comma convert ViT-B-16.pt --adapter-from model.pth.tar-5 --merges bpe_simple_vocab_16e6.txt.gz -o pets/",
    options,
    sizeof(options) / sizeof(*options),
    "The directory is written under a hidden name beside its place, read back, tried with a picture and a label "
    "against\n"
    "the source, and then renamed: it is there whole or not at all.\n"
    "Exit status: 0 done, 1 it could not be made and nothing was left, 2 wrong usage.",
};

/* Set by a signal, seen at the next piece of work. */
static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* A signal ends the work in order, so that what was begun is removed; a second one ends it at once. */
static void catch_signals(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = interrupt, .sa_flags = SA_RESETHAND };

    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
        struct sigaction old;

        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) /* nohup, and shells' background */
            (void)sigaction(signals[i], &action, NULL);
    }
    signal(SIGXFSZ, SIG_IGN); /* a file too large for its limit is an error of write() */
}

static bool show_progress(void *user, size_t done, size_t total)
{
    (void)user;
    if (total > 0)
        comma_progress_show("MB", done / 1000000, total / 1000000);
    return !interrupted;
}

static void warn(void *user, const char *sentence)
{
    (void)user;
    comma_complain("warning: %s", sentence);
}

/* ---- options that are more than one value ---- */

static bool is_name(const char *text, size_t size)
{
    return size > 0 && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") >= size;
}

/* NAME=CKPT; what stands before an "=" and is no name is part of a path. */
static void split_name(char *item, struct comma_convert_adapter *out)
{
    char *equals = strchr(item, '=');

    *out = (struct comma_convert_adapter){ .path = item };
    if (!equals || !is_name(item, (size_t)(equals - item)))
        return;
    *equals = '\0';
    *out = (struct comma_convert_adapter){ .name = item, .path = equals + 1 };
}

/* "16" or "16,20". */
static bool parse_heads(const char *text, size_t *vision, size_t *text_heads, struct comma_error *err)
{
    unsigned v = 0, t = 0;
    int end = 0;

    if (!text)
        return true;
    if (strspn(text, "0123456789,") == strlen(text) &&
        ((sscanf(text, "%5u%n", &v, &end) == 1 && !text[end]) ||
         (sscanf(text, "%5u,%5u%n", &v, &t, &end) == 2 && !text[end] && t > 0)) &&
        v > 0) {
        *vision = v;
        *text_heads = t;
        return true;
    }
    return comma_fail(err, COMMA_E_INPUT, "--heads: \"%.40s\" is neither one number of heads nor two with a comma",
                      text);
}

/* ---- what was made ---- */

static void print_adapter(const struct comma_adapter_info *a)
{
    printf("adapter %s: %s, n_ctx %zu, prompt_depth %zu", a->name, a->method, a->n_ctx, a->prompt_depth);
    if (a->n_classes)
        printf(", for its %zu classes", a->n_classes);
    if (a->ctx_init[0])
        printf(", ctx_init \"%s\"", a->ctx_init);
    if (a->last_layer > 1)
        printf(", last_layer %zu", a->last_layer);
    putchar('\n');
}

static void print_result(const struct comma_converted *made, const char *out)
{
    if (made->tried)
        printf("%s: written, read back and tried; features agree with the source's to a cosine of %.6f\n", out,
               made->agreement);
    else
        printf("%s: written and read back\n", out);
    for (size_t i = 0; i < made->n_adapters; i++)
        print_adapter(&made->adapters[i]);
    if (made->kind == COMMA_INSPECTED_ADAPTER)
        printf("next: comma serve --model DIR --adapter %s=%s, and ask with \"model\": \"%s\"\n",
               made->adapters[0].name, out, made->adapters[0].name);
    else if (!made->has_tokenizer)
        printf("next: comma embed --model %s --image FILE; to serve it, convert it again with --merges\n", out);
    else if (made->n_adapters > 0)
        printf("next: comma serve --model %s, and ask with \"model\": \"%s\"\n", out, made->adapters[0].name);
    else
        printf("next: comma serve --model %s\n", out);
}

static int convert(struct settings *s, const char *source, struct comma_convert_adapter *adapters,
                   const struct comma_strings *classnames, struct comma_error *err)
{
    struct comma_convert_options o = { .source = source,
                                       .out = s->out,
                                       .adapters = adapters,
                                       .n_adapters = s->adapters.n,
                                       .model_dir = s->model,
                                       .merges = s->merges,
                                       .activation = s->activation,
                                       .dtype = s->dtype,
                                       .ctx_init = s->ctx_init,
                                       .last_layer = s->last_layer,
                                       .classnames = s->classnames ? classnames->items : NULL,
                                       .n_classnames = classnames->n,
                                       .class_token_position = s->class_token_position,
                                       .allow_nan = s->allow_nan,
                                       .force = s->force,
                                       .n_threads = s->threads,
                                       .progress = show_progress,
                                       .warn = warn };
    struct comma_converted made = { 0 };
    bool failed = false;

    for (size_t i = 0; i < s->adapters.n; i++)
        split_name(s->adapters.items[i], &adapters[i]);
    if (!parse_heads(s->heads, &o.vision_heads, &o.text_heads, err))
        return 2;
    catch_signals();
    if (!comma_convert(&o, &made, err))
        return comma_exit_status(err->code);
    comma_progress_clear();
    err->code = COMMA_OK;
    print_result(&made, s->out);
    (void)comma_stdout_flush(&failed);
    comma_converted_finish(&made);
    return failed;
}

int comma_command_convert(int argc, char **argv)
{
    struct settings s;
    struct comma_strings sources, classnames = { 0 };
    struct comma_error err = { 0 };
    int status = comma_options_main(&table, argc, argv, &s, sizeof(s), &sources);

    if (status >= 0)
        return status;
    status = 2;
    if (sources.n != 1)
        comma_fail(&err, COMMA_E_INPUT, "convert takes one source, not %zu; see comma convert --help", sources.n);
    else if (!s.out)
        comma_fail(&err, COMMA_E_INPUT, "-o DIR says where to write; see comma convert --help");
    else if (s.classnames && !comma_input_lines(s.classnames, &classnames, &err))
        status = 1;
    else {
        struct comma_convert_adapter *adapters = calloc(s.adapters.n + 1, sizeof(*adapters));

        status = adapters ? convert(&s, sources.items[0], adapters, &classnames, &err) : 1;
        free(adapters);
    }
    if (err.code != COMMA_OK)
        comma_complain("%s", err.message);
    comma_strings_finish(&classnames);
    comma_options_finish(&table, &s);
    comma_strings_finish(&sources);
    return status;
}
