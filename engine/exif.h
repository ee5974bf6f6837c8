/* SPDX-License-Identifier: MIT */
/* exif.h - which way up a photograph is to be shown, from the EXIF block of a JPEG or PNG file.
 *
 * The block is a small TIFF file written by strangers: every offset is checked, and whatever is broken or missing reads
 * as "upright". Pure functions, any thread. Source: EXIF 2.32, 4.6.2; TIFF 6.0, section 2; PNG 3, 11.3.4.5. */
#ifndef COMMA_ENGINE_EXIF_H
#define COMMA_ENGINE_EXIF_H

#include "engine/base/text.h"

/* The orientation of a JPEG or PNG file, 1 to 8; 1 (upright) if it bears none that can be read. Time grows with the
 * number of segments or chunks, at most with the file's size. */
unsigned comma_exif_orientation(struct comma_bytes file);

/* The orientation that a bare TIFF block gives, without JPEG's "Exif\0\0" before it. */
unsigned comma_exif_tiff_orientation(struct comma_bytes tiff);

#endif
