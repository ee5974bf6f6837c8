/* SPDX-License-Identifier: MIT */
/* tool.h - what classify, embed, tokenize and bench have in common: the options that choose a model and an engine, and
 * the engine that they open. */
#ifndef COMMA_SERVER_TOOL_H
#define COMMA_SERVER_TOOL_H

#include "engine/comma.h"
#include "server/options.h"

/* A field `tool` of the subcommand's struct of settings. */
struct comma_tool_settings {
    const char *model, *adapter, *backend, *precision; /* model, adapter: NULL where not given */
    unsigned threads;                                  /* 0: all */
    bool no_auto_orient, fast_decode;
    double max_megapixels;
};

/* Rows of the subcommand's option table. */
#define COMMA_TOOL_MODEL_OPTION(type)                                                                                  \
    {                                                                                                                  \
        "model", 'm', NULL, COMMA_STRING_FIELD(type, tool.model), NULL, 0, 0, "DIR",                                   \
            "model directory in Hugging Face layout; left out: the embedded emoji model"                               \
    }
#define COMMA_TOOL_ADAPTER_OPTION(type)                                                                                \
    {                                                                                                                  \
        "adapter", 'a', NULL, COMMA_STRING_FIELD(type, tool.adapter), NULL, 0, 0, "DIR",                               \
            "adapter directory, or the name of an adapter that comes with the model; left out: plain CLIP"             \
    }
#define COMMA_TOOL_THREADS_OPTION(type)                                                                                \
    {                                                                                                                  \
        "threads", 't', NULL, COMMA_UINT_FIELD(type, tool.threads), "0", 0, 1024, "N",                                 \
            "threads; 0: the cores that affinity and cgroup allow"                                                     \
    }
#define COMMA_TOOL_BACKEND_OPTION(type)                                                                                \
    {                                                                                                                  \
        "backend", 0, NULL, COMMA_CHOICE_FIELD(type, tool.backend), "openblas", 0, 0, "openblas|onednn",               \
            "GEMM library"                                                                                             \
    }
#define COMMA_TOOL_PRECISION_OPTION(type)                                                                              \
    {                                                                                                                  \
        "precision", 0, NULL, COMMA_CHOICE_FIELD(type, tool.precision), "f32", 0, 0, "f32|bf16|int8",                  \
            "number type of the weights"                                                                               \
    }
#define COMMA_TOOL_ORIENT_OPTION(type)                                                                                 \
    {                                                                                                                  \
        "no-auto-orient", 0, NULL, COMMA_FLAG_FIELD(type, tool.no_auto_orient), NULL, 0, 0, NULL,                      \
            "leave the EXIF orientation out of account"                                                                \
    }
#define COMMA_TOOL_FAST_DECODE_OPTION(type)                                                                            \
    {                                                                                                                  \
        "fast-decode", 0, NULL, COMMA_FLAG_FIELD(type, tool.fast_decode), NULL, 0, 0, NULL,                            \
            "decode large JPEG pictures at a fraction of their size: faster, pixels change a little"                   \
    }
#define COMMA_TOOL_MEGAPIXELS_OPTION(type)                                                                             \
    {                                                                                                                  \
        "max-megapixels", 0, NULL, COMMA_NUMBER_FIELD(type, tool.max_megapixels), "50", 0.001, 4000, "N",              \
            "refuse larger pictures"                                                                                   \
    }

/* The engine of a subcommand. All zero is closed. */
struct comma_tool {
    struct comma_engine *engine;
    struct comma_engine_info info;
    struct comma_adapter *adapter; /* NULL: plain CLIP */
    const char *model;             /* name to be shown: the adapter's, or the backbone's */
};

/* Opens the engine, and its adapter: a directory of that path, under the last part of its name; else one of that name
 * that the model came with.
 *   options  as comma_engine_default_options() and the subcommand want it; what the settings say is put into it */
COMMA_MUST_CHECK
bool comma_tool_open(const struct comma_tool_settings *settings, struct comma_engine_options options,
                     struct comma_tool *out, struct comma_error *err);
void comma_tool_close(struct comma_tool *tool); /* a zeroed one is fine */

#endif
