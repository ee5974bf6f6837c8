/* SPDX-License-Identifier: MIT */
/* clip.h - a CLIP ViT on disk: its sizes, and its weights by role whatever names the file uses.
 *
 * A model is a directory in Hugging Face layout (DESIGN "Models on disk"), or the one embedded in the binary. Names of
 * Hugging Face, OpenAI and OpenCLIP are one table in names.c; whoever asks for a role gets the tensor oriented as torch
 * stores a Linear, [out, in], with q, k and v apart. Read-only once open; threads may share it. */
#ifndef COMMA_MODELS_CLIP_H
#define COMMA_MODELS_CLIP_H

#include "engine/base/text.h"
#include "models/tensor.h"

enum comma_activation { COMMA_QUICK_GELU, COMMA_GELU };

/* Sizes of one tower. */
struct comma_tower_config {
    size_t width, layers, heads, mlp_dim;
    enum comma_activation activation;
    float layer_norm_eps;
};

/* From config.json where there is one, checked against the tensors; else from the tensors (SPEC 2.1). */
struct comma_clip_config {
    struct comma_tower_config vision, text;
    size_t embed_dim;
    size_t image_size, patch_size, grid; /* image_size = grid * patch_size, in pixels */
    size_t context_length, vocab_size;
    float image_mean[3], image_std[3]; /* from preprocessor_config.json, else CLIP's */
    float logit_scale;                 /* as stored: a logarithm */
};

enum comma_tower { COMMA_VISION, COMMA_TEXT };

/* Tensors outside the blocks: shape. D is the tower's width, E embed_dim. */
enum comma_clip_role {
    COMMA_CLASS_EMBEDDING, /* [D] vision */
    COMMA_PATCH_EMBEDDING, /* [D, 3, patch, patch] vision */
    COMMA_VISION_POSITION, /* [grid*grid + 1, D], row 0 is the class token */
    COMMA_LN_PRE_WEIGHT,   /* [D] vision */
    COMMA_LN_PRE_BIAS,
    COMMA_LN_POST_WEIGHT, /* [D] vision */
    COMMA_LN_POST_BIAS,
    COMMA_VISION_PROJECTION, /* [E, D] */
    COMMA_TOKEN_EMBEDDING,   /* [vocab_size, D] text */
    COMMA_TEXT_POSITION,     /* [context_length, D] text */
    COMMA_LN_FINAL_WEIGHT,   /* [D] text */
    COMMA_LN_FINAL_BIAS,
    COMMA_TEXT_PROJECTION, /* [E, D] */
    COMMA_N_CLIP_ROLES
};

/* Tensors of one block. */
enum comma_block_role {
    COMMA_LN_1_WEIGHT, /* [D] */
    COMMA_LN_1_BIAS,
    COMMA_Q_WEIGHT, /* [D, D] */
    COMMA_Q_BIAS,   /* [D] */
    COMMA_K_WEIGHT,
    COMMA_K_BIAS,
    COMMA_V_WEIGHT,
    COMMA_V_BIAS,
    COMMA_OUT_WEIGHT, /* [D, D] */
    COMMA_OUT_BIAS,
    COMMA_LN_2_WEIGHT, /* [D] */
    COMMA_LN_2_BIAS,
    COMMA_FC_WEIGHT, /* [mlp_dim, D] */
    COMMA_FC_BIAS,
    COMMA_PROJ_WEIGHT, /* [D, mlp_dim] */
    COMMA_PROJ_BIAS,
    COMMA_N_BLOCK_ROLES
};

struct comma_clip;

/* Opens a model directory: config.json, model.safetensors (or its parts by an index, or pytorch_model.bin), merges.txt
 * (or tokenizer.json), vocab.json, preprocessor_config.json. Every tensor that the roles name is looked up and its
 * shape checked here, so the getters below cannot fail. Fails with COMMA_E_MODEL, COMMA_E_IO, COMMA_E_UNSUPPORTED (a
 * ResNet CLIP) or COMMA_E_NOMEM; the sentence names the file and the tensor. */
COMMA_MUST_CHECK
bool comma_clip_open(const char *dir, struct comma_clip **out, struct comma_error *err);

/* What its owner says of a checkpoint that its files may not tell; all zero: nothing is said. Used by convert. */
struct comma_clip_claims {
    const char *activation;          /* "quick_gelu" or "gelu"; NULL: not said */
    size_t vision_heads, text_heads; /* 0: not said */
    const char *merges;              /* file with a list of merges, in place of the model's own; NULL: not said */
    void (*doubt)(void *user, const char *sentence); /* told what is assumed, and where a claim contradicts the files */
    void *user;
};

/* As comma_clip_open(), and also from one file: OpenAI's .pt, OpenCLIP's .bin, .safetensors or training checkpoint,
 * pytorch_model.bin. What a claim says is followed. An open_clip_config.json beside a file is read, too.
 * Fails with COMMA_E_INPUT as well, for claims that cannot be. */
COMMA_MUST_CHECK
bool comma_clip_open_source(const char *path, const struct comma_clip_claims *claims, struct comma_clip **out,
                            struct comma_error *err);

/* The embedded default, models/emoji. */
COMMA_MUST_CHECK
bool comma_clip_open_embedded(struct comma_clip **out, struct comma_error *err);

/* Gives back the memory of weights that have been copied; see comma_tensors_trim(). */
void comma_clip_trim(const struct comma_clip *clip);
void comma_clip_close(struct comma_clip *clip); /* NULL is fine */

const struct comma_clip_config *comma_clip_config(const struct comma_clip *clip);
const char *comma_clip_name(const struct comma_clip *clip); /* last part of the path; "emoji" for the embedded one */

/* The views of a role, by value (strides may be any: see comma_tensor_as_f32 and _to_f32). */
struct comma_tensor comma_clip_tensor(const struct comma_clip *clip, enum comma_clip_role role);
struct comma_tensor comma_clip_block_tensor(const struct comma_clip *clip, enum comma_tower tower, size_t layer,
                                            enum comma_block_role role);

/* merges.txt as bytes: a header line, then "left right" lines; data NULL if the directory has no tokenizer, which
 * serves images only. */
struct comma_bytes comma_clip_merges(const struct comma_clip *clip);

/* Parameters of both towers, and bytes of their tensors as stored: for inspect and /models. */
size_t comma_clip_n_parameters(const struct comma_clip *clip);
size_t comma_clip_stored_bytes(const struct comma_clip *clip);
enum comma_dtype comma_clip_dtype(const struct comma_clip *clip); /* of the patch embedding */

/* ---- adapters ---- */

/* adapter_config.json (DESIGN "Models on disk"): these are its fields. All may be left out. */
struct comma_adapter_config {
    char method[32];              /* comma, maple, ivlp, vpt, coop, cocoop (SPEC 10); by the tensors if left out */
    char ctx_init[512];           /* "a photo of a"; may be empty: the prompt's words are then "X X ... X" */
    char base_model[256];         /* may be empty */
    size_t n_ctx;                 /* learned rows of the text input; of the image input for vpt */
    size_t prompt_depth;          /* layers that take prompts, the input counted; 1 for coop and cocoop */
    size_t last_layer;            /* 1 is the ordinary order (SPEC 6.4) */
    char class_token_position[8]; /* coop: "end" (or empty), "middle", "front" */
    char **classnames;            /* coop with class-specific contexts: [n_classnames], in their order; owned by the
                                     struct comma_adapter_dir */
    size_t n_classnames;
};

struct comma_adapter_dir {
    struct comma_adapter_config config;
    struct comma_tensors *tensors; /* adapter_model.safetensors, authors' names */
};

/* Opens an adapter directory. What the config leaves out is taken from the tensors (n_ctx, prompt_depth) or is the
 * authors' default (ctx_init "a photo of a", last_layer 1); what contradicts the tensors is refused. Tensor names are
 * the authors'; CoOp's and CoCoOp's with or without "prompt_learner." in front. */
COMMA_MUST_CHECK
bool comma_adapter_dir_open(const char *dir, struct comma_adapter_dir *out, struct comma_error *err);
void comma_adapter_dir_close(struct comma_adapter_dir *a); /* a zeroed one is fine */

/* What a prompt-learning checkpoint does not carry (SPEC 2.5, 10); all zero: the authors' defaults. */
struct comma_adapter_claims {
    const char *ctx_init;             /* NULL: "a photo of a"; none for coop, and for cocoop unless n_ctx is 4 */
    size_t last_layer;                /* 0: 1 */
    const char *class_token_position; /* coop: NULL: "end" */
    char *const *classnames; /* [n_classnames] coop with class-specific contexts: in the order of the training */
    size_t n_classnames;
};

/* Makes an adapter of a checkpoint's tensors (model.pth.tar-N of the authors' code, or its state dict), which hold
 * much else; takes them over, also when it fails. base_model is left empty. file is used in messages. */
COMMA_MUST_CHECK
bool comma_adapter_from_checkpoint(struct comma_tensors *tensors, const char *file,
                                   const struct comma_adapter_claims *claims, struct comma_adapter_dir *out,
                                   struct comma_error *err);

/* The adapters that come with a model: the sub-directories of its adapters/ folder, sorted by name, or the embedded
 * ones. Adapter i is opened like a directory's. */
size_t comma_clip_n_adapters(const struct comma_clip *clip);
const char *comma_clip_adapter_name(const struct comma_clip *clip, size_t i);
COMMA_MUST_CHECK
bool comma_clip_adapter_open(const struct comma_clip *clip, size_t i, struct comma_adapter_dir *out,
                             struct comma_error *err);

#endif
