/* SPDX-License-Identifier: MIT */
/* image_codec.h - what image.c and the two decoders behind it share; nobody else includes it. */
#ifndef COMMA_ENGINE_IMAGE_CODEC_H
#define COMMA_ENGINE_IMAGE_CODEC_H

#include "engine/image.h"

/* Holds a header's size against the limits, before anything is allocated for it. Fails with COMMA_E_INPUT for a side of
 * 0, else COMMA_E_LIMIT. */
COMMA_MUST_CHECK
bool comma_image_check_size(size_t width, size_t height, const struct comma_image_limits *limits,
                            struct comma_error *err);

/* Fails with COMMA_E_LIMIT: a decoder needs more than limits->max_decode_bytes. Returns false. */
bool comma_image_fail_memory(size_t width, size_t height, const struct comma_image_limits *limits,
                             struct comma_error *err);

/* Decode a file that begins with the format's signature, upright as stored. They fail as comma_image_decode() does, and
 * keep nothing between calls; any thread. */
COMMA_MUST_CHECK
bool comma_image_decode_png(struct comma_bytes file, const struct comma_image_limits *limits, struct comma_image *out,
                            struct comma_error *err);
COMMA_MUST_CHECK
bool comma_image_decode_jpeg(struct comma_bytes file, const struct comma_image_limits *limits, size_t min_side_px,
                             struct comma_image *out, struct comma_error *err);

#endif
