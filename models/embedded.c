/* SPDX-License-Identifier: MIT */
/* embedded.c - the default model and its adapter inside the binary: the files of models/emoji, put there by the
 * assembler, used where they lie. */
#include <stdlib.h>
#include <string.h>

#include "models/hf_dir.h"
#include "models/safetensors.h"

#include "embedded_inputs.h" /* made by meson: changes when one of the files does, so that this is built again */

/* symbol .. symbol_end are the bytes of file, which the assembler finds on the include path. */
#define EMBED(symbol, file)                                                                                            \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".balign 64\n"                                                                                             \
            ".globl " #symbol "\n"                                                                                     \
            ".hidden " #symbol "\n" #symbol ":\n"                                                                      \
            ".incbin \"" file "\"\n"                                                                                   \
            ".globl " #symbol "_end\n"                                                                                 \
            ".hidden " #symbol "_end\n" #symbol "_end:\n"                                                              \
            ".byte 0\n"                                                                                                \
            ".popsection\n");                                                                                          \
    extern const unsigned char symbol[], symbol##_end[]

EMBED(comma_emoji_config, "config.json");
EMBED(comma_emoji_preprocessor, "preprocessor_config.json");
EMBED(comma_emoji_merges, "merges.txt");
EMBED(comma_emoji_weights, "model.safetensors");
EMBED(comma_emoji_groups_config, "adapters/groups/adapter_config.json");
EMBED(comma_emoji_groups_weights, "adapters/groups/adapter_model.safetensors");

#define BYTES(symbol) ((struct comma_bytes){ symbol, (size_t)(symbol##_end - symbol) })

static bool set_file(struct comma_model_file *file, const char *path, struct comma_bytes bytes, struct comma_error *err)
{
    *file = (struct comma_model_file){ .path = strdup(path), .bytes = bytes };
    return file->path || comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);
}

bool comma_model_files_embedded(struct comma_model_files *out, struct comma_error *err)
{
    static const char weights[] = "emoji/model.safetensors";
    struct comma_model_files files = { .weights_path = strdup(weights) };

    if (!files.weights_path)
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", weights);
    else if (set_file(&files.config, "emoji/config.json", BYTES(comma_emoji_config), err) &&
             set_file(&files.preprocessor, "emoji/preprocessor_config.json", BYTES(comma_emoji_preprocessor), err) &&
             set_file(&files.merges, "emoji/merges.txt", BYTES(comma_emoji_merges), err) &&
             comma_safetensors_parse(BYTES(comma_emoji_weights), weights, &files.tensors, err)) {
        *out = files;
        return true;
    }
    comma_model_files_close(&files);
    return false;
}

struct comma_embedded_adapter comma_embedded_adapter_at(size_t i)
{
    if (i > 0)
        return (struct comma_embedded_adapter){ 0 };
    return (struct comma_embedded_adapter){ "groups", BYTES(comma_emoji_groups_config),
                                            BYTES(comma_emoji_groups_weights) };
}
