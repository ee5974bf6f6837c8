/* SPDX-License-Identifier: MIT */
/* main.c - the process: which subcommand was asked for. What each does is in cmd_<name>.c. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "engine/comma.h"
#include "server/blas_env.h"
#include "server/command.h"

struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct subcommand subcommands[] = {
    { "serve", comma_command_serve, "serve a model over HTTP" },
    { "classify", comma_command_classify, "score pictures against labels" },
    { "embed", comma_command_embed, "print the features of pictures or texts" },
    { "tokenize", comma_command_tokenize, "print the token ids of texts" },
    { "convert", comma_command_convert, "make a model directory of a checkpoint" },
    { "inspect", comma_command_inspect, "show what a model, an adapter or a tensor file holds" },
    { "healthcheck", comma_command_healthcheck, "ask a server whether it is ready, for containers" },
    { "bench", comma_command_bench, "measure speed and memory on this machine" },
};

enum { N_SUBCOMMANDS = sizeof(subcommands) / sizeof(*subcommands) };

static void print_usage(FILE *out)
{
    fputs("usage: comma SUBCOMMAND [option]... [argument]...\n\n"
          "Scores pictures against class names with a CLIP ViT and COMMA prompts.\n\n",
          out);
    for (int i = 0; i < N_SUBCOMMANDS; i++)
        fprintf(out, "  %-13s%s\n", subcommands[i].name, subcommands[i].summary);
    fputs("\ncomma SUBCOMMAND --help lists its options; comma --version prints the version.\n", out);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    comma_blas_env_apply(argv);
    /* A reader that went away is an error of write(), seen where output is written. */
    signal(SIGPIPE, SIG_IGN);
    if (!name) {
        print_usage(stderr);
        return 2;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0) {
        puts("comma " COMMA_VERSION);
        return 0;
    }
    for (int i = 0; i < N_SUBCOMMANDS; i++)
        if (strcmp(name, subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "comma: unknown subcommand \"%.80s\"\n\n", name);
    print_usage(stderr);
    return 2;
}
