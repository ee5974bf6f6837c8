/* SPDX-License-Identifier: MIT */
/* png_chunks.h - steps through the chunks of a PNG file without trusting their lengths. Shared by the decoder and the
 * EXIF reader. Checksums are not looked at: a wrong one changes no size, and sizes are what must be right. */
#ifndef COMMA_ENGINE_PNG_CHUNKS_H
#define COMMA_ENGINE_PNG_CHUNKS_H

#include <stdint.h>

#include "engine/base/text.h"

#define COMMA_PNG_SIGNATURE_BYTES 8

struct comma_png_chunk {
    const unsigned char *type; /* [4] */
    struct comma_bytes data;
};

static inline bool comma_is_png(struct comma_bytes file)
{
    return file.size >= COMMA_PNG_SIGNATURE_BYTES &&
           memcmp(file.data, "\x89PNG\r\n\x1a\n", COMMA_PNG_SIGNATURE_BYTES) == 0;
}

static inline uint32_t comma_be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The chunk at *at, which then points behind it. False at the end of the file, or where the chunk runs past it; *at is
 * then file.size only if nothing is left over. Start with *at = COMMA_PNG_SIGNATURE_BYTES. */
static inline bool comma_png_next_chunk(struct comma_bytes file, size_t *at, struct comma_png_chunk *out)
{
    const size_t left = file.size - *at;
    size_t length;

    if (left < 12)
        return false;
    length = comma_be32(file.data + *at);
    if (length > left - 12)
        return false;
    out->type = file.data + *at + 4;
    out->data = (struct comma_bytes){ file.data + *at + 8, length };
    *at += 12 + length;
    return true;
}

static inline bool comma_png_is(const struct comma_png_chunk *chunk, const char *type)
{
    return memcmp(chunk->type, type, 4) == 0;
}

#endif
