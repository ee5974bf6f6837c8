/* SPDX-License-Identifier: MIT */
/* clip.c - see clip.h.
 *
 * Sizes come from the tensors, are compared with config.json, and then every role is looked up and its shape checked.
 * What is left over must be harmless: a tensor inside a tower that no role asked for means another architecture. */
#include "models/clip.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "models/adapter.h"
#include "models/clip_config.h"
#include "models/hf_dir.h"
#include "models/merges.h"
#include "models/names.h"
#include "models/vocab.h"

/* Larger than any CLIP; they keep products of sizes small for all who compute with them. */
#define MAX_WIDTH      (1 << 16)
#define MAX_LAYERS     1024
#define MAX_IMAGE_SIDE 4096
#define MAX_CONTEXT    (1 << 16)
#define MAX_VOCAB      (1 << 22)

struct comma_clip {
    char *name;
    struct comma_model_files files;
    struct comma_naming naming;
    struct comma_clip_config config;
    struct comma_tensor roles[COMMA_N_CLIP_ROLES];
    struct comma_tensor *blocks[2]; /* by tower: [layers][COMMA_N_BLOCK_ROLES] */
    bool *used;                     /* [n tensors] some role or the logit scale asked for it */
    size_t n_parameters, stored_bytes;
    struct comma_adapter_list adapters;
};

/* ---- looking roles up ---- */

/* The shape that a role's tensor has in the file, as text for messages; 0 stands for any size. */
static const char *wanted_shape(const struct comma_place *place, unsigned n_dims, const size_t *shape, char *out,
                                size_t size)
{
    struct comma_tensor stored = { .n_dims = n_dims };
    char *zero;

    memcpy(stored.shape, shape, n_dims * sizeof(*shape));
    stored.shape[0] *= place->n_parts;
    if (place->transposed && n_dims == 2) {
        stored.shape[0] = shape[1];
        stored.shape[1] = shape[0];
    }
    comma_tensor_shape_text(&stored, out, size);
    while ((zero = strstr(out, "[0")) || (zero = strstr(out, " 0")))
        zero[1] = 'n';
    return out;
}

static bool shape_fits(const struct comma_tensor *view, unsigned n_dims, const size_t *shape)
{
    if (view->n_dims != n_dims)
        return false;
    for (unsigned i = 0; i < n_dims; i++)
        if (view->shape[i] == 0 || (shape[i] != 0 && view->shape[i] != shape[i]))
            return false;
    return true;
}

/* The view at a place; shape's zeros fit any size but 0. */
static bool take(struct comma_clip *clip, const struct comma_place *place, unsigned n_dims, const size_t *shape,
                 struct comma_tensor *out, struct comma_error *err)
{
    const struct comma_tensor *t = comma_tensors_find(clip->files.tensors, place->name);
    struct comma_tensor view;
    char is[200], wanted[200];

    if (!t)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is missing", clip->files.weights_path, place->name);
    if (!comma_dtype_is_float(t->dtype))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is %s; weights are F32, F16, BF16 or F64",
                          clip->files.weights_path, place->name, comma_dtype_name(t->dtype));
    if (!comma_place_view(place, t, &view) || !shape_fits(&view, n_dims, shape))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is %s, but must be %s", clip->files.weights_path, place->name,
                          comma_tensor_shape_text(t, is, sizeof(is)),
                          wanted_shape(place, n_dims, shape, wanted, sizeof(wanted)));
    clip->used[t - comma_tensors_at(clip->files.tensors, 0)] = true;
    *out = view;
    return true;
}

static bool take_role(struct comma_clip *clip, enum comma_clip_role role, unsigned n_dims, const size_t *shape,
                      struct comma_error *err)
{
    const struct comma_place place = comma_clip_place(&clip->naming, role);

    return take(clip, &place, n_dims, shape, &clip->roles[role], err);
}

static bool take_block_role(struct comma_clip *clip, enum comma_tower tower, size_t layer, enum comma_block_role role,
                            unsigned n_dims, const size_t *shape, struct comma_tensor *out, struct comma_error *err)
{
    const struct comma_place place = comma_block_place(&clip->naming, tower, layer, role);

    return take(clip, &place, n_dims, shape, out, err);
}

/* ---- sizes by the tensors ---- */

static bool measure_vision(struct comma_clip *clip, struct comma_error *err)
{
    struct comma_clip_config *c = &clip->config;
    const struct comma_tensor *t = clip->roles;
    size_t rows;

    if (!take_role(clip, COMMA_PATCH_EMBEDDING, 4, (size_t[]){ 0, 3, 0, 0 }, err))
        return false;
    c->vision.width = t[COMMA_PATCH_EMBEDDING].shape[0];
    c->patch_size = t[COMMA_PATCH_EMBEDDING].shape[3];
    if (!take_role(clip, COMMA_VISION_POSITION, 2, (size_t[]){ 0, c->vision.width }, err) ||
        !take_role(clip, COMMA_VISION_PROJECTION, 2, (size_t[]){ 0, c->vision.width }, err))
        return false;
    rows = t[COMMA_VISION_POSITION].shape[0];
    c->grid = (size_t)lround(sqrt((double)(rows - 1)));
    if (c->grid == 0 || c->grid > MAX_IMAGE_SIDE || c->grid * c->grid + 1 != rows)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu position rows are no square of patches and a class token",
                          clip->files.weights_path, rows);
    c->embed_dim = t[COMMA_VISION_PROJECTION].shape[0];
    if (c->patch_size > MAX_IMAGE_SIDE || c->grid * c->patch_size > MAX_IMAGE_SIDE)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu patches of %zu pixels a side; at most %d pixels are supported",
                          clip->files.weights_path, c->grid, c->patch_size, MAX_IMAGE_SIDE);
    c->image_size = c->grid * c->patch_size;
    return true;
}

static bool measure_text(struct comma_clip *clip, struct comma_error *err)
{
    struct comma_clip_config *c = &clip->config;
    const struct comma_tensor *t = clip->roles;

    if (!take_role(clip, COMMA_LN_FINAL_WEIGHT, 1, (size_t[]){ 0 }, err))
        return false;
    c->text.width = t[COMMA_LN_FINAL_WEIGHT].shape[0];
    if (!take_role(clip, COMMA_TOKEN_EMBEDDING, 2, (size_t[]){ 0, c->text.width }, err) ||
        !take_role(clip, COMMA_TEXT_POSITION, 2, (size_t[]){ 0, c->text.width }, err))
        return false;
    c->vocab_size = t[COMMA_TOKEN_EMBEDDING].shape[0];
    c->context_length = t[COMMA_TEXT_POSITION].shape[0];
    if (c->vocab_size > MAX_VOCAB || c->context_length > MAX_CONTEXT)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu tokens, context %zu; at most %d and %d are supported",
                          clip->files.weights_path, c->vocab_size, c->context_length, MAX_VOCAB, MAX_CONTEXT);
    return true;
}

/* Blocks and mlp_dim of one tower. */
static bool measure_blocks(struct comma_clip *clip, enum comma_tower tower, struct comma_tower_config *t,
                           struct comma_error *err)
{
    struct comma_tensor fc = { 0 };
    struct comma_place place;

    for (t->layers = 0;; t->layers++) {
        place = comma_block_place(&clip->naming, tower, t->layers, COMMA_LN_1_WEIGHT);
        if (!comma_tensors_find(clip->files.tensors, place.name))
            break;
    }
    if (t->layers == 0)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is missing", clip->files.weights_path, place.name);
    if (!take_block_role(clip, tower, 0, COMMA_FC_WEIGHT, 2, (size_t[]){ 0, t->width }, &fc, err))
        return false;
    t->mlp_dim = fc.shape[0];
    if (t->layers > MAX_LAYERS || t->width > MAX_WIDTH || t->mlp_dim > 8 * MAX_WIDTH)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu layers, width %zu, MLP %zu; at most %d, %d and %d are supported",
                          clip->files.weights_path, t->layers, t->width, t->mlp_dim, MAX_LAYERS, MAX_WIDTH,
                          8 * MAX_WIDTH);
    return true;
}

static bool detect_naming(struct comma_clip *clip, struct comma_error *err)
{
    if (comma_tensors_find(clip->files.tensors, "visual.layer1.0.conv1.weight"))
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "%s: a CLIP with a ResNet image tower; only vision transformers (ViT) are supported",
                          clip->files.weights_path);
    if (!comma_naming_detect(clip->files.tensors, &clip->naming))
        return comma_fail(err, COMMA_E_MODEL,
                          "%s: no CLIP ViT: neither visual.conv1.weight nor "
                          "vision_model.embeddings.patch_embedding.weight is there",
                          clip->files.weights_path);
    return true;
}

/* ---- all roles, now that the sizes are known ---- */

static bool take_outer(struct comma_clip *clip, struct comma_error *err)
{
    const struct comma_clip_config *c = &clip->config;
    const size_t d[] = { c->vision.width }, t[] = { c->text.width };

    return take_role(clip, COMMA_PATCH_EMBEDDING, 4, (size_t[]){ c->vision.width, 3, c->patch_size, c->patch_size },
                     err) &&
           take_role(clip, COMMA_CLASS_EMBEDDING, 1, d, err) && take_role(clip, COMMA_LN_PRE_WEIGHT, 1, d, err) &&
           take_role(clip, COMMA_LN_PRE_BIAS, 1, d, err) && take_role(clip, COMMA_LN_POST_WEIGHT, 1, d, err) &&
           take_role(clip, COMMA_LN_POST_BIAS, 1, d, err) && take_role(clip, COMMA_LN_FINAL_BIAS, 1, t, err) &&
           take_role(clip, COMMA_TEXT_PROJECTION, 2, (size_t[]){ c->embed_dim, c->text.width }, err);
}

static bool take_blocks(struct comma_clip *clip, enum comma_tower tower, const struct comma_tower_config *t,
                        struct comma_error *err)
{
    const size_t d[] = { t->width }, m[] = { t->mlp_dim }, dd[] = { t->width, t->width };
    const size_t md[] = { t->mlp_dim, t->width }, dm[] = { t->width, t->mlp_dim };
    const struct {
        unsigned n_dims;
        const size_t *shape;
    } shapes[COMMA_N_BLOCK_ROLES] = {
        [COMMA_LN_1_WEIGHT] = { 1, d }, [COMMA_LN_1_BIAS] = { 1, d },   [COMMA_Q_WEIGHT] = { 2, dd },
        [COMMA_Q_BIAS] = { 1, d },      [COMMA_K_WEIGHT] = { 2, dd },   [COMMA_K_BIAS] = { 1, d },
        [COMMA_V_WEIGHT] = { 2, dd },   [COMMA_V_BIAS] = { 1, d },      [COMMA_OUT_WEIGHT] = { 2, dd },
        [COMMA_OUT_BIAS] = { 1, d },    [COMMA_LN_2_WEIGHT] = { 1, d }, [COMMA_LN_2_BIAS] = { 1, d },
        [COMMA_FC_WEIGHT] = { 2, md },  [COMMA_FC_BIAS] = { 1, m },     [COMMA_PROJ_WEIGHT] = { 2, dm },
        [COMMA_PROJ_BIAS] = { 1, d },
    };
    struct comma_tensor *out = calloc(t->layers * COMMA_N_BLOCK_ROLES, sizeof(*out));

    clip->blocks[tower] = out;
    if (!out)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", clip->files.weights_path);
    for (size_t layer = 0; layer < t->layers; layer++)
        for (int role = 0; role < COMMA_N_BLOCK_ROLES; role++)
            if (!take_block_role(clip, tower, layer, (enum comma_block_role)role, shapes[role].n_dims,
                                 shapes[role].shape, out++, err))
                return false;
    return true;
}

static bool take_logit_scale(struct comma_clip *clip, struct comma_error *err)
{
    const struct comma_place place = comma_logit_scale_place(&clip->naming);
    const struct comma_tensor *t = comma_tensors_find(clip->files.tensors, place.name);
    const unsigned n_dims = t && t->n_dims == 1 ? 1 : 0; /* both [] and [1] are in use */
    struct comma_tensor view = { 0 };

    if (!take(clip, &place, n_dims, (size_t[]){ 1 }, &view, err) ||
        !comma_tensor_to_f32(&view, &clip->config.logit_scale, err))
        return false;
    if (!(clip->config.logit_scale > -50 && clip->config.logit_scale < 50))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is %g; a logarithm between -50 and 50 is expected",
                          clip->files.weights_path, place.name, (double)clip->config.logit_scale);
    return true;
}

/* Tensors that nobody took. */
static bool check_strays(struct comma_clip *clip, struct comma_error *err)
{
    static const char *const tower_names[] = { "vision", "text" };
    enum comma_tower tower = COMMA_VISION;
    size_t layer = 0;

    for (size_t i = 0; i < comma_tensors_size(clip->files.tensors); i++) {
        const char *name = comma_tensors_at(clip->files.tensors, i)->name;
        const enum comma_stray stray =
            clip->used[i] ? COMMA_STRAY_HARMLESS : comma_naming_stray(&clip->naming, name, &tower, &layer);
        const size_t layers = tower == COMMA_VISION ? clip->config.vision.layers : clip->config.text.layers;

        if (stray == COMMA_STRAY_HARMLESS)
            continue;
        if (stray == COMMA_STRAY_BLOCK && layer >= layers)
            return comma_fail(err, COMMA_E_MODEL, "%s: %s is there, but block %zu of the %s tower is missing",
                              clip->files.weights_path, comma_shown_name(name).text, layers, tower_names[tower]);
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: %s is no part of a CLIP ViT that is supported",
                          clip->files.weights_path, comma_shown_name(name).text);
    }
    return true;
}

static void add_up(struct comma_clip *clip, const struct comma_tensor *t)
{
    clip->n_parameters += comma_tensor_count(t);
    clip->stored_bytes += comma_tensor_count(t) * comma_dtype_bytes(t->dtype);
}

static void count_parameters(struct comma_clip *clip)
{
    clip->n_parameters = 1; /* logit_scale */
    for (int i = 0; i < COMMA_N_CLIP_ROLES; i++)
        add_up(clip, &clip->roles[i]);
    for (size_t i = 0; i < clip->config.vision.layers * COMMA_N_BLOCK_ROLES; i++)
        add_up(clip, &clip->blocks[COMMA_VISION][i]);
    for (size_t i = 0; i < clip->config.text.layers * COMMA_N_BLOCK_ROLES; i++)
        add_up(clip, &clip->blocks[COMMA_TEXT][i]);
}

/* OpenAI's own: their archives carry these numbers, and their conversion leaves layer norms in F32 beside F16 weights
 * (SPEC 2.1). */
static bool is_from_openai(const struct comma_clip *clip)
{
    return comma_tensors_find(clip->files.tensors, "input_resolution") ||
           (clip->roles[COMMA_PATCH_EMBEDDING].dtype == COMMA_F16 &&
            clip->roles[COMMA_LN_FINAL_WEIGHT].dtype == COMMA_F32);
}

/* A list of merges in place of the model's own. */
static bool claim_merges(struct comma_clip *clip, const char *path, struct comma_error *err)
{
    struct comma_model_files *f = &clip->files;

    comma_model_file_close(&f->merges);
    comma_model_file_close(&f->vocab);
    return comma_merges_load(path, clip->config.vocab_size, &f->merges, err);
}

/* From open files to a checked model. */
static bool understand(struct comma_clip *clip, const struct comma_clip_claims *claims, struct comma_error *err)
{
    struct comma_clip_config *c = &clip->config;
    struct comma_model_files *f = &clip->files;
    struct comma_config_source source = { .json = f->config.bytes, .open_clip = f->open_clip_config, .claims = claims };

    clip->used = calloc(comma_tensors_size(f->tensors) + 1, sizeof(*clip->used));
    if (!clip->used)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", f->weights_path);
    if (!detect_naming(clip, err) || !measure_vision(clip, err) || !measure_text(clip, err) ||
        !measure_blocks(clip, COMMA_VISION, &c->vision, err) || !measure_blocks(clip, COMMA_TEXT, &c->text, err))
        return false;
    source.name = f->config.bytes.data ? f->config.path : f->weights_path;
    source.from_openai = is_from_openai(clip);
    if (!comma_preprocessor_config_apply(f->preprocessor.bytes, f->preprocessor.path, c, err) ||
        !comma_clip_config_apply(&source, c, err))
        return false;
    if (!take_outer(clip, err) || !take_blocks(clip, COMMA_VISION, &c->vision, err) ||
        !take_blocks(clip, COMMA_TEXT, &c->text, err) || !take_logit_scale(clip, err) || !check_strays(clip, err))
        return false;
    if (claims && claims->merges && !claim_merges(clip, claims->merges, err))
        return false;
    if (!comma_vocab_check(&f->merges, &f->vocab, c->vocab_size, err))
        return false;
    count_parameters(clip);
    return true;
}

/* ---- public ---- */

/* The last part of the directory's real path, so that "." has a name too. */
static char *name_of(const char *dir, struct comma_error *err)
{
    char *real = realpath(dir, NULL);
    const char *slash = strrchr(real ? real : dir, '/');
    const char *last = slash ? slash + 1 : real ? real : dir;
    char *name = strdup(*last ? last : "model");

    free(real);
    if (!name)
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", dir);
    return name;
}

/* A directory with its adapters, or one file. */
static bool open_files(const char *path, bool one_file, const struct comma_clip_claims *claims, struct comma_clip **out,
                       struct comma_error *err)
{
    struct comma_clip *clip = calloc(1, sizeof(*clip));

    if (!clip)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);
    if (!(one_file ? comma_model_files_open_file(path, &clip->files, err)
                   : comma_model_files_open(path, &clip->files, err)) ||
        !(clip->name = name_of(path, err)) || !understand(clip, claims, err) ||
        !(one_file || comma_adapter_list_directory(path, &clip->adapters, err))) {
        comma_clip_close(clip);
        return false;
    }
    *out = clip;
    return true;
}

bool comma_clip_open(const char *dir, struct comma_clip **out, struct comma_error *err)
{
    return open_files(dir, false, NULL, out, err);
}

bool comma_clip_open_source(const char *path, const struct comma_clip_claims *claims, struct comma_clip **out,
                            struct comma_error *err)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return comma_fail(err, COMMA_E_IO, "%s: %s", path, strerror(errno));
    return open_files(path, !S_ISDIR(st.st_mode), claims, out, err);
}

bool comma_clip_open_embedded(struct comma_clip **out, struct comma_error *err)
{
    struct comma_clip *clip = calloc(1, sizeof(*clip));

    if (clip && !(clip->name = strdup("emoji"))) {
        free(clip);
        clip = NULL;
    }
    if (!clip)
        return comma_fail(err, COMMA_E_NOMEM, "emoji: out of memory");
    if (!comma_model_files_embedded(&clip->files, err) || !understand(clip, NULL, err) ||
        !comma_adapter_list_embedded(&clip->adapters, err)) {
        comma_clip_close(clip);
        return false;
    }
    *out = clip;
    return true;
}

void comma_clip_trim(const struct comma_clip *clip)
{
    comma_tensors_trim(clip->files.tensors);
}

void comma_clip_close(struct comma_clip *clip)
{
    if (!clip)
        return;
    comma_adapter_list_finish(&clip->adapters);
    comma_model_files_close(&clip->files);
    free(clip->blocks[COMMA_VISION]);
    free(clip->blocks[COMMA_TEXT]);
    free(clip->used);
    free(clip->name);
    free(clip);
}

const struct comma_clip_config *comma_clip_config(const struct comma_clip *clip)
{
    return &clip->config;
}

const char *comma_clip_name(const struct comma_clip *clip)
{
    return clip->name;
}

struct comma_tensor comma_clip_tensor(const struct comma_clip *clip, enum comma_clip_role role)
{
    return clip->roles[role];
}

struct comma_tensor comma_clip_block_tensor(const struct comma_clip *clip, enum comma_tower tower, size_t layer,
                                            enum comma_block_role role)
{
    return clip->blocks[tower][layer * COMMA_N_BLOCK_ROLES + (size_t)role];
}

struct comma_bytes comma_clip_merges(const struct comma_clip *clip)
{
    return clip->files.merges.bytes;
}

size_t comma_clip_n_parameters(const struct comma_clip *clip)
{
    return clip->n_parameters;
}

size_t comma_clip_stored_bytes(const struct comma_clip *clip)
{
    return clip->stored_bytes;
}

enum comma_dtype comma_clip_dtype(const struct comma_clip *clip)
{
    return clip->roles[COMMA_PATCH_EMBEDDING].dtype;
}

size_t comma_clip_n_adapters(const struct comma_clip *clip)
{
    return clip->adapters.n;
}

const char *comma_clip_adapter_name(const struct comma_clip *clip, size_t i)
{
    return clip->adapters.names[i];
}

bool comma_clip_adapter_open(const struct comma_clip *clip, size_t i, struct comma_adapter_dir *out,
                             struct comma_error *err)
{
    return comma_adapter_list_open(&clip->adapters, i, out, err);
}
