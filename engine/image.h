/* SPDX-License-Identifier: MIT */
/* image.h - PNG or JPEG bytes in, checked RGB pixels out (SPEC 8.1).
 *
 * The bytes come from strangers. Sizes are read from the header and held against the limits before a decoder runs, and
 * decoders allocate from a budget. */
#ifndef COMMA_ENGINE_IMAGE_H
#define COMMA_ENGINE_IMAGE_H

#include "engine/base/error.h"
#include "engine/base/text.h"

struct comma_image_limits {
    size_t max_pixels;       /* width * height; 50,000,000 by default */
    size_t max_side_px;      /* either side; 65,500 by default */
    size_t max_decode_bytes; /* what a decoder may allocate in all; 512 MiB by default */
    unsigned max_scans;      /* of a progressive JPEG; 100 by default */
};

struct comma_image {
    size_t width, height;  /* in pixels, after orientation */
    unsigned char *pixels; /* [height, width, 3] RGB, owned */
};

struct comma_image_limits comma_image_default_limits(void);

/* Decodes a PNG or JPEG.
 *
 *   auto_orient  turn the picture as its EXIF orientation says
 *   min_side_px  0, or: the picture may come out smaller by a power of two as long as both sides stay at least this
 *                (JPEG's scaled decoding; changes pixels)
 *
 * Fails with COMMA_E_FORMAT (neither PNG nor JPEG), COMMA_E_LIMIT (too large), COMMA_E_INPUT (broken), COMMA_E_NOMEM.
 * Sentences are ours: a library's own text never goes out. */
COMMA_MUST_CHECK
bool comma_image_decode(struct comma_bytes file, const struct comma_image_limits *limits, bool auto_orient,
                        size_t min_side_px, struct comma_image *out, struct comma_error *err);

/* The same; where square_px is not 0, resized and cut to the square that comma_preprocess_square() makes. Fails as that
 * does, too. */
COMMA_MUST_CHECK
bool comma_image_decode_square(struct comma_bytes file, const struct comma_image_limits *limits, bool auto_orient,
                               size_t min_side_px, size_t square_px, struct comma_image *out, struct comma_error *err);
void comma_image_finish(struct comma_image *image); /* a zeroed one is fine */

#endif
