/* SPDX-License-Identifier: MIT */
/* preprocess.h - a decoded picture to the square the vision tower reads: Pillow's bicubic, bit for bit (SPEC 8.2, 8.3).
 */
#ifndef COMMA_ENGINE_PREPROCESS_H
#define COMMA_ENGINE_PREPROCESS_H

#include "engine/image.h"

/* Shorter side to size_px, then the centre square.
 *   out  [size_px, size_px, 3] u8 RGB
 * Fails with COMMA_E_NOMEM, or COMMA_E_LIMIT where the aspect is so extreme that the resized picture would exceed
 * limits' pixels although the original does not. Only the rows and columns that the crop keeps are computed. */
COMMA_MUST_CHECK
bool comma_preprocess_square(const struct comma_image *image, size_t size_px, unsigned char *out,
                             struct comma_error *err);

/* (u8 / 255 - mean) / std in f32, in this order (SPEC 8.4).
 *   rgb  [size_px, size_px, 3];  out [3, size_px, size_px] */
void comma_preprocess_normalise(const unsigned char *rgb, size_t size_px, const float mean[3], const float std[3],
                                float *out);

#endif
