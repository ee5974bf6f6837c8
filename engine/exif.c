/* SPDX-License-Identifier: MIT */
/* exif.c - finds the EXIF block of a JPEG (APP1 segment) or PNG (eXIf chunk) and reads tag 0x0112 of its first
 * directory. Nothing else of EXIF concerns us: no thumbnails, no second directory, no maker notes. */
#include "engine/exif.h"

#include <stdint.h>

#include "engine/png_chunks.h"

#define UPRIGHT         1
#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT      3
#define ENTRY_BYTES     12

struct reader {
    struct comma_bytes tiff;
    bool big_endian;
};

/* The caller has checked that at + 2 lies inside. */
static unsigned read16(const struct reader *r, size_t at)
{
    const unsigned char *p = r->tiff.data + at;

    return r->big_endian ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static uint32_t read32(const struct reader *r, size_t at)
{
    const uint32_t first = read16(r, at), second = read16(r, at + 2);

    return r->big_endian ? first << 16 | second : second << 16 | first;
}

unsigned comma_exif_tiff_orientation(struct comma_bytes tiff)
{
    struct reader r = { tiff, false };
    size_t at, n_entries;

    if (tiff.size < 8)
        return UPRIGHT;
    if (memcmp(tiff.data, "MM\0*", 4) == 0)
        r.big_endian = true;
    else if (memcmp(tiff.data, "II*\0", 4) != 0)
        return UPRIGHT;
    at = read32(&r, 4);
    if (at > tiff.size - 2)
        return UPRIGHT;
    n_entries = read16(&r, at);
    at += 2;
    for (size_t i = 0; i < n_entries && tiff.size - at >= ENTRY_BYTES; i++, at += ENTRY_BYTES) {
        /* tag, type, count, then the value itself, left-justified */
        if (read16(&r, at) == TAG_ORIENTATION && read16(&r, at + 2) == TYPE_SHORT && read32(&r, at + 4) == 1) {
            const unsigned orientation = read16(&r, at + 8);

            return orientation >= 1 && orientation <= 8 ? orientation : UPRIGHT;
        }
    }
    return UPRIGHT;
}

static unsigned png_orientation(struct comma_bytes file)
{
    size_t at = COMMA_PNG_SIGNATURE_BYTES;
    struct comma_png_chunk chunk;

    while (comma_png_next_chunk(file, &at, &chunk) && !comma_png_is(&chunk, "IEND"))
        if (comma_png_is(&chunk, "eXIf"))
            return comma_exif_tiff_orientation(chunk.data);
    return UPRIGHT;
}

/* True for the markers that stand alone, without a length: TEM and RST0 to RST7. */
static bool stands_alone(unsigned marker)
{
    return marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7);
}

static unsigned jpeg_orientation(struct comma_bytes file)
{
    size_t at = 2; /* behind SOI */

    while (file.size - at >= 4) {
        const unsigned char *p = file.data + at;
        size_t length;

        if (p[0] != 0xFF)
            return UPRIGHT;
        if (p[1] == 0xFF) { /* a fill byte */
            at++;
            continue;
        }
        if (stands_alone(p[1])) {
            at += 2;
            continue;
        }
        if (p[1] == 0xDA || p[1] == 0xD9) /* SOS, EOI: EXIF stands before the picture */
            return UPRIGHT;
        length = (size_t)p[2] << 8 | p[3];
        if (length < 2 || length > file.size - at - 2)
            return UPRIGHT;
        if (p[1] == 0xE1 && length >= 8 && memcmp(p + 4, "Exif\0\0", 6) == 0)
            return comma_exif_tiff_orientation((struct comma_bytes){ p + 10, length - 8 });
        at += 2 + length;
    }
    return UPRIGHT;
}

unsigned comma_exif_orientation(struct comma_bytes file)
{
    if (comma_is_png(file))
        return png_orientation(file);
    if (file.size >= 2 && file.data[0] == 0xFF && file.data[1] == 0xD8)
        return jpeg_orientation(file);
    return UPRIGHT;
}
