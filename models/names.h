/* SPDX-License-Identifier: MIT */
/* names.h - the one table of CLIP's tensor names: OpenAI = OpenCLIP = Hugging Face (SPEC 2.1, 2.3, 2.4).
 *
 * A name is asked for by role; the answer says also how the tensor there is turned into the role's view. */
#ifndef COMMA_MODELS_NAMES_H
#define COMMA_MODELS_NAMES_H

#include "models/clip.h"

#define COMMA_MAX_NAME 160

/* How a file spells the names. */
struct comma_naming {
    bool hugging_face;         /* else OpenAI's, which OpenCLIP shares */
    const char *prefix;        /* before all names: "module." after DDP training, else "" */
    const char *vision_prefix; /* before the image tower's, after prefix: "visual.", and "image_encoder." in COMMA
                                  checkpoints; not used for Hugging Face */
    const char *text_prefix;   /* "", "text." of some OpenCLIP models, "text_encoder." of COMMA checkpoints */
};

/* A role's place in a file. */
struct comma_place {
    char name[COMMA_MAX_NAME];
    bool transposed; /* stored [in, out] */
    unsigned part;   /* of n_parts equal slices of rows: q, k, v of in_proj */
    unsigned n_parts;
};

/* Tells the spelling by the patch embedding's name; false if no CLIP ViT's is there. */
COMMA_MUST_CHECK
bool comma_naming_detect(const struct comma_tensors *ts, struct comma_naming *out);

/* Hugging Face's own spelling, which convert writes. */
struct comma_naming comma_naming_hugging_face(void);

struct comma_place comma_clip_place(const struct comma_naming *naming, enum comma_clip_role role);
struct comma_place comma_block_place(const struct comma_naming *naming, enum comma_tower tower, size_t layer,
                                     enum comma_block_role role);
struct comma_place comma_logit_scale_place(const struct comma_naming *naming);

/* The role's view of the tensor that stands at its place: turned, or its slice of rows. False if it has not the
 * dimensions for that. */
COMMA_MUST_CHECK
bool comma_place_view(const struct comma_place *place, const struct comma_tensor *stored, struct comma_tensor *out);

/* What a name is that no role asked for. */
enum comma_stray {
    COMMA_STRAY_HARMLESS, /* buffers that hold no weights, and tensors of parts that are not CLIP's towers */
    COMMA_STRAY_BLOCK,    /* of a block: *layer says which */
    COMMA_STRAY_UNKNOWN   /* inside a tower, so that leaving it out would change the result */
};
enum comma_stray comma_naming_stray(const struct comma_naming *naming, const char *name, enum comma_tower *tower,
                                    size_t *layer);

#endif
