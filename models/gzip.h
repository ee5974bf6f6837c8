/* SPDX-License-Identifier: MIT */
/* gzip.h - zlib's two uses: unpacking a small gzip file, and the checksum of zip entries. Inside models/ only. */
#ifndef COMMA_MODELS_GZIP_H
#define COMMA_MODELS_GZIP_H

#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

/* True if the bytes begin as a gzip file. */
bool comma_gzip_detect(struct comma_bytes file);

/* Unpacks file into heap memory, to free(). What would take more than max_bytes is refused, so that a small file cannot
 * become a large one; name is used in messages. Fails with COMMA_E_MODEL or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_gzip_unpack(struct comma_bytes file, const char *name, size_t max_bytes, unsigned char **out, size_t *size,
                       struct comma_error *err);

/* CRC-32 as zip and gzip use it. */
uint32_t comma_crc32(struct comma_bytes bytes);

#endif
