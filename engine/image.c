/* SPDX-License-Identifier: MIT */
/* image.c - says what a file is, lets the right decoder read it, and turns the picture upright. */
#include "engine/image.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/exif.h"
#include "engine/image_codec.h"
#include "engine/png_chunks.h"
#include "engine/preprocess.h"

#define TILE_PX 32 /* a tile of both pictures fits into the first-level cache */

struct comma_image_limits comma_image_default_limits(void)
{
    return (struct comma_image_limits){
        .max_pixels = 50000000, .max_side_px = 65500, .max_decode_bytes = (size_t)512 << 20, .max_scans = 100
    };
}

void comma_image_finish(struct comma_image *image)
{
    free(image->pixels);
    *image = (struct comma_image){ 0 };
}

/* ---- what the bytes are ---- */

struct signature {
    size_t at;
    const char *bytes;
    size_t size;
    const char *name;
};

/* What people send instead of PNG and JPEG. The first that fits is named; it only helps them, so it need not be sure.
 */
static const struct signature signatures[] = {
    { 0, "GIF8", 4, "a GIF" },
    { 8, "WEBP", 4, "a WebP picture" },
    { 4, "ftypavi", 7, "an AVIF picture" },
    { 4, "ftyphei", 7, "a HEIC picture" },
    { 4, "ftyphev", 7, "a HEIC picture" },
    { 4, "ftypmif1", 8, "a HEIF picture" },
    { 4, "ftypmsf1", 8, "a HEIF picture" },
    { 4, "ftyp", 4, "a video" },
    { 0, "\0\0\0\x0CjP  ", 8, "a JPEG 2000 picture" },
    { 0, "\0\0\0\x0CJXL ", 8, "a JPEG XL picture" },
    { 0, "\xFF\x0A", 2, "a JPEG XL picture" },
    { 0, "II*\0", 4, "a TIFF" },
    { 0, "MM\0*", 4, "a TIFF" },
    { 0, "8BPS", 4, "a Photoshop file" },
    { 0, "%PDF", 4, "a PDF" },
    { 0, "\0\0\1\0", 4, "an icon" },
    { 0, "PK\3\4", 4, "a zip archive" },
    { 0, "\x1F\x8B", 2, "a gzip file" },
    { 0, "data:", 5, "a data URI, text in place of its bytes" },
    { 0, "iVBORw0KG", 9, "base64 text in place of its bytes" },
    { 0, "/9j/", 4, "base64 text in place of its bytes" },
    { 0, "<svg", 4, "an SVG" },
    { 0, "<?xml", 5, "an XML text" },
    { 0, "<", 1, "an HTML text" },
    { 0, "{", 1, "a JSON text" },
    { 0, "BM", 2, "a BMP" },
};

static bool fail_format(struct comma_bytes file, struct comma_error *err)
{
    if (file.size == 0)
        return comma_fail(err, COMMA_E_FORMAT, "the image is empty; PNG and JPEG are read");
    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        const struct signature *s = &signatures[i];

        if (file.size >= s->at + s->size && memcmp(file.data + s->at, s->bytes, s->size) == 0)
            return comma_fail(err, COMMA_E_FORMAT, "the image looks like %s; PNG and JPEG are read", s->name);
    }
    return comma_fail(err, COMMA_E_FORMAT, "the image is of an unknown format; PNG and JPEG are read");
}

static bool is_jpeg(struct comma_bytes file)
{
    return file.size >= 3 && memcmp(file.data, "\xFF\xD8\xFF", 3) == 0;
}

/* ---- limits ---- */

bool comma_image_check_size(size_t width, size_t height, const struct comma_image_limits *limits,
                            struct comma_error *err)
{
    size_t pixels;

    if (width == 0 || height == 0)
        return comma_fail(err, COMMA_E_INPUT, "the image is %zu x %zu pixels; both sides must be at least 1", width,
                          height);
    if (width > limits->max_side_px || height > limits->max_side_px)
        return comma_fail(err, COMMA_E_LIMIT, "the image is %zu x %zu pixels; a side may have at most %zu", width,
                          height, limits->max_side_px);
    if (!comma_mul(width, height, &pixels) || pixels > limits->max_pixels)
        return comma_fail(err, COMMA_E_LIMIT, "the image is %zu x %zu pixels; at most %zu pixels are allowed", width,
                          height, limits->max_pixels);
    return true;
}

bool comma_image_fail_memory(size_t width, size_t height, const struct comma_image_limits *limits,
                             struct comma_error *err)
{
    return comma_fail(err, COMMA_E_LIMIT,
                      "the image of %zu x %zu pixels takes more memory to decode than the %zu bytes allowed", width,
                      height, limits->max_decode_bytes);
}

/* ---- orientation ---- */

/* Where the pixel at the top left of the turned picture comes from, and how far in the stored picture a step right or
 * down goes; in bytes. */
struct walk {
    const unsigned char *start;
    ptrdiff_t right, down;
};

/* The eight orientations (SPEC 8.1): 5 to 8 swap the sides; then columns, rows or both run backwards. */
static struct walk walk_of(const struct comma_image *stored, unsigned orientation)
{
    const ptrdiff_t column = 3, row = 3 * (ptrdiff_t)stored->width;
    const bool swap = orientation >= 5;
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const ptrdiff_t along_row = from_right ? -column : column, along_column = from_bottom ? -row : row;
    const unsigned char *start = stored->pixels;

    if (from_right)
        start += column * (ptrdiff_t)(stored->width - 1);
    if (from_bottom)
        start += row * (ptrdiff_t)(stored->height - 1);
    return (struct walk){ start, swap ? along_column : along_row, swap ? along_row : along_column };
}

/* In tiles, since one of the two pictures is walked down its columns. */
static void turn(struct walk from, struct comma_image *to)
{
    for (size_t tile_y = 0; tile_y < to->height; tile_y += TILE_PX) {
        const size_t end_y = tile_y + TILE_PX < to->height ? tile_y + TILE_PX : to->height;

        for (size_t tile_x = 0; tile_x < to->width; tile_x += TILE_PX) {
            const size_t end_x = tile_x + TILE_PX < to->width ? tile_x + TILE_PX : to->width;

            for (size_t y = tile_y; y < end_y; y++) {
                const unsigned char *in = from.start + (ptrdiff_t)y * from.down + (ptrdiff_t)tile_x * from.right;
                unsigned char *out = to->pixels + 3 * (y * to->width + tile_x);

                for (size_t x = tile_x; x < end_x; x++, in += from.right, out += 3) {
                    out[0] = in[0];
                    out[1] = in[1];
                    out[2] = in[2];
                }
            }
        }
    }
}

static bool make_upright(struct comma_image *image, unsigned orientation, const struct comma_image_limits *limits,
                         struct comma_error *err)
{
    const size_t bytes = 3 * image->width * image->height; /* allocated by the decoder, so it fits */
    struct comma_image turned = { image->width, image->height, NULL };

    if (orientation == 1)
        return true;
    if (bytes > limits->max_decode_bytes / 2)
        return comma_image_fail_memory(image->width, image->height, limits, err);
    if (orientation >= 5)
        turned = (struct comma_image){ image->height, image->width, NULL };
    turned.pixels = malloc(bytes);
    if (!turned.pixels)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while turning the image upright");
    turn(walk_of(image, orientation), &turned);
    comma_image_finish(image);
    *image = turned;
    return true;
}

bool comma_image_decode(struct comma_bytes file, const struct comma_image_limits *limits, bool auto_orient,
                        size_t min_side_px, struct comma_image *out, struct comma_error *err)
{
    struct comma_image image = { 0 };
    bool ok;

    if (comma_is_png(file))
        ok = comma_image_decode_png(file, limits, &image, err);
    else if (is_jpeg(file))
        ok = comma_image_decode_jpeg(file, limits, min_side_px, &image, err);
    else
        ok = fail_format(file, err);
    if (ok && auto_orient)
        ok = make_upright(&image, comma_exif_orientation(file), limits, err);
    if (ok)
        *out = image;
    else
        comma_image_finish(&image);
    return ok;
}

bool comma_image_decode_square(struct comma_bytes file, const struct comma_image_limits *limits, bool auto_orient,
                               size_t min_side_px, size_t square_px, struct comma_image *out, struct comma_error *err)
{
    struct comma_image whole = { 0 }, square = { square_px, square_px, NULL };
    size_t bytes;
    bool ok = false;

    if (square_px == 0)
        return comma_image_decode(file, limits, auto_orient, min_side_px, out, err);
    if (!comma_mul(square_px, square_px, &bytes) || !comma_mul(bytes, 3, &bytes))
        return comma_fail(err, COMMA_E_LIMIT, "no picture has %zu x %zu pixels", square_px, square_px);
    if (!comma_image_decode(file, limits, auto_orient, min_side_px, &whole, err))
        return false;
    square.pixels = malloc(bytes);
    if (!square.pixels)
        comma_fail(err, COMMA_E_NOMEM, "out of memory while resizing the image");
    else
        ok = comma_preprocess_square(&whole, square_px, square.pixels, err);
    comma_image_finish(&whole);
    if (ok)
        *out = square;
    else
        comma_image_finish(&square);
    return ok;
}
