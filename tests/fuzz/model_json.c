/* SPDX-License-Identifier: MIT */
/* model_json.c - any bytes as one of the JSON files of a model or adapter directory: the first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "models/adapter.h"
#include "models/clip_config.h"
#include "models/hf_dir.h"
#include "models/tokenizer_json.h"
#include "tests/fuzz/fuzz.h"

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_error(const struct comma_error *err)
{
    require(err->code != COMMA_OK && err->message[0] && comma_utf8_valid(err->message, strlen(err->message)));
}

/* Sizes as the tensors of a small model would have given them. */
static struct comma_clip_config measured(void)
{
    const struct comma_tower_config vision = { .width = 160, .layers = 1, .mlp_dim = 320 };
    const struct comma_tower_config text = { .width = 64, .layers = 1, .mlp_dim = 128 };

    return (struct comma_clip_config){ .vision = vision,
                                       .text = text,
                                       .embed_dim = 32,
                                       .image_size = 16,
                                       .patch_size = 8,
                                       .grid = 2,
                                       .context_length = 77,
                                       .vocab_size = 514 };
}

static void fuzz_config(struct comma_bytes json, bool open_clip)
{
    const struct comma_config_source source = { .json = json, .name = "fuzz", .open_clip = open_clip };
    struct comma_clip_config c = measured();
    struct comma_error err = { 0 };

    if (!comma_clip_config_apply(&source, &c, &err)) {
        check_error(&err);
        return;
    }
    require(c.vision.heads > 0 && c.vision.width % c.vision.heads == 0 && c.text.heads > 0 &&
            c.text.width % c.text.heads == 0 && c.vision.layer_norm_eps > 0);
}

static void fuzz_preprocessor(struct comma_bytes json)
{
    struct comma_clip_config c = measured();
    struct comma_error err = { 0 };

    if (!comma_preprocessor_config_apply(json, "fuzz", &c, &err))
        check_error(&err);
    else
        for (size_t i = 0; i < 3; i++)
            require(c.image_std[i] > 0 && c.image_mean[i] >= 0);
}

static void fuzz_adapter(struct comma_bytes json)
{
    struct comma_adapter_config c;
    struct comma_error err = { 0 };

    if (!comma_adapter_config_parse(json, "fuzz", &c, &err))
        check_error(&err);
    else
        require(c.last_layer >= 1 && strlen(c.method) < sizeof(c.method) && strlen(c.ctx_init) < sizeof(c.ctx_init));
    for (size_t i = 0; i < c.n_classnames; i++)
        require(c.classnames[i][0] != '\0');
    comma_adapter_config_finish(&c);
}

static void fuzz_tokenizer(struct comma_bytes json)
{
    struct comma_model_file file = { .path = (char[]){ "fuzz" }, .bytes = json }, merges = { 0 };
    struct comma_error err = { 0 };

    if (!comma_tokenizer_json_merges(&file, &merges, &err))
        check_error(&err);
    else
        require(merges.bytes.size > 0 && memchr(merges.bytes.data, '\n', merges.bytes.size));
    comma_model_file_close(&merges);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct comma_bytes json = { data + 1, size - 1 };

    if (size == 0)
        return 0;
    switch (data[0] % 5) {
    case 0:
        fuzz_config(json, false);
        break;
    case 1:
        fuzz_config(json, true);
        break;
    case 2:
        fuzz_preprocessor(json);
        break;
    case 3:
        fuzz_adapter(json);
        break;
    default:
        fuzz_tokenizer(json);
    }
    return 0;
}
