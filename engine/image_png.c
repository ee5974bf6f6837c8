/* SPDX-License-Identifier: MIT */
/* image_png.c - PNG by stb_image, which this file alone includes; APNG comes out as its still picture.
 *
 * stb_image trusts the file more than we do: it allocates what a chunk's length field says, inflates without an end,
 * and reads palette entries that are not there. So the file is walked first, with our own eyes, and stb is handed a new
 * one made of what counts: header, a palette of full length, all image data as one chunk. That also leaves out what a
 * picture for the model does not need (transparency, colour profiles, animation). stb allocates from a budget that is
 * measured by the header, so a small picture cannot inflate to a gigabyte.
 *
 * Samples come out as SPEC 8.1 says: gray replicated, alpha dropped and not blended, the high byte of 16 bits. */
#include "engine/image_codec.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/png_chunks.h"

/* ---- the budget that stb_image allocates from ---- */

/* Stands before each block, since stb frees without saying how much, and forgets blocks where it fails. */
union block {
    struct {
        size_t size;
        union block *next, **from; /* from: what points to this block */
    } at;
    max_align_t align;
};

struct budget {
    size_t used, max;
    bool exceeded, no_memory;
    union block *blocks;
};

/* stb's hooks take no user pointer; the budget of the decode that this thread is in, NULL outside. */
static _Thread_local struct budget *budget;

static void link_block(union block *block)
{
    block->at.next = budget->blocks;
    block->at.from = &budget->blocks;
    if (block->at.next)
        block->at.next->at.from = &block->at.next;
    budget->blocks = block;
}

static void unlink_block(union block *block)
{
    *block->at.from = block->at.next;
    if (block->at.next)
        block->at.next->at.from = block->at.from;
}

static void *budget_realloc(void *old, size_t size)
{
    union block *block = old ? (union block *)old - 1 : NULL, *moved;
    const size_t had = block ? block->at.size : 0;

    if (size > PTRDIFF_MAX - sizeof(*block) || size > budget->max - (budget->used - had)) {
        budget->exceeded = true;
        return NULL;
    }
    if (block)
        unlink_block(block);
    moved = realloc(block, sizeof(*block) + size);
    if (!moved) {
        budget->no_memory = true;
        if (block)
            link_block(block);
        return NULL;
    }
    budget->used += size - had;
    moved->at.size = size;
    link_block(moved);
    return moved + 1;
}

static void *budget_malloc(size_t size)
{
    return budget_realloc(NULL, size);
}

static void budget_free(void *p)
{
    union block *block = p ? (union block *)p - 1 : NULL;

    if (!block)
        return;
    budget->used -= block->at.size;
    unlink_block(block);
    free(block);
}

/* Ends this thread's decode: what stb forgot goes too. */
static void budget_finish(void)
{
    while (budget && budget->blocks)
        budget_free(budget->blocks + 1);
    budget = NULL;
}

#define STBI_MALLOC(size)     budget_malloc(size)
#define STBI_REALLOC(p, size) budget_realloc(p, size)
#define STBI_FREE(p)          budget_free(p)
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_NO_FAILURE_STRINGS /* they are built in a static buffer, and never go out */
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
/* To the end of this file, since the compiler looks for unused functions only there. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>

/* ---- the file, walked with our own eyes ---- */

#define MAX_CHUNKS    65536             /* an encoder that writes 4 KiB at a time reaches it at 256 MiB */
#define MAX_RAW_BYTES ((size_t)1 << 30) /* stb counts in int, and so do its checks */
#define SLACK_BYTES   ((size_t)64 << 10)
#define CHUNK_BYTES   12 /* of length, type and checksum */
#define PALETTE_BYTES 768

enum { GRAY = 0, RGB = 2, PALETTE = 3, GRAY_ALPHA = 4, RGB_ALPHA = 6 };

struct png {
    size_t width, height;
    unsigned depth, color, n_samples; /* bits a sample; colour type; samples a pixel as stored */
    bool interlaced;
    struct comma_bytes palette;
    size_t data_bytes; /* of all IDAT chunks */
    size_t raw_bytes;  /* what they must inflate to: filter bytes and packed samples */
};

static bool parse_kind(struct png *png, const unsigned char *ihdr, struct comma_error *err)
{
    /* Bit depths that each colour type may have, a bit for each of 1, 2, 4, 8, 16 (PNG 3, table 12) */
    static const unsigned char depths[7] = { 1 | 2 | 4 | 8 | 16, 0, 8 | 16, 1 | 2 | 4 | 8, 8 | 16, 0, 8 | 16 };
    static const unsigned char samples[7] = { 1, 0, 3, 1, 2, 0, 4 };
    const unsigned depth = ihdr[8], color = ihdr[9];

    if (color > 6 || (depth & (depth - 1)) != 0 || (depths[color] & depth) == 0)
        return comma_fail(err, COMMA_E_INPUT, "the PNG has colour type %u with %u bits, which the format does not know",
                          color, depth);
    if (ihdr[10] != 0 || ihdr[11] != 0 || ihdr[12] > 1)
        return comma_fail(err, COMMA_E_INPUT,
                          "the PNG has a compression, filter or interlace method that the format "
                          "does not know");
    png->depth = depth;
    png->color = color;
    png->n_samples = samples[color];
    png->interlaced = ihdr[12] == 1;
    return true;
}

/* Filter bytes and packed samples of a picture, or of one pass of an interlaced one; sizes have been checked. */
static size_t pass_bytes(const struct png *png, size_t width, size_t height)
{
    return width == 0 ? 0 : ((width * png->n_samples * png->depth + 7) / 8 + 1) * height;
}

static size_t raw_bytes(const struct png *png)
{
    /* First column and row of each pass, and the steps (PNG 3, 8.2) */
    static const unsigned char x0[7] = { 0, 4, 0, 2, 0, 1, 0 }, y0[7] = { 0, 0, 4, 0, 2, 0, 1 };
    static const unsigned char dx[7] = { 8, 8, 4, 4, 2, 2, 1 }, dy[7] = { 8, 8, 8, 4, 4, 2, 2 };
    size_t sum = 0;

    if (!png->interlaced)
        return pass_bytes(png, png->width, png->height);
    for (size_t i = 0; i < 7; i++)
        sum += pass_bytes(png, (png->width + dx[i] - 1 - x0[i]) / dx[i], (png->height + dy[i] - 1 - y0[i]) / dy[i]);
    return sum;
}

static bool parse_header(struct png *png, const struct comma_png_chunk *chunk, const struct comma_image_limits *limits,
                         struct comma_error *err)
{
    size_t pixels;

    if (comma_png_is(chunk, "CgBI"))
        return comma_fail(err, COMMA_E_FORMAT,
                          "the image is Apple's own kind of PNG (CgBI); save it as a standard PNG");
    if (!comma_png_is(chunk, "IHDR") || chunk->data.size != 13)
        return comma_fail(err, COMMA_E_INPUT, "the PNG does not begin with its header");
    png->width = comma_be32(chunk->data.data);
    png->height = comma_be32(chunk->data.data + 4);
    if (!comma_image_check_size(png->width, png->height, limits, err) || !parse_kind(png, chunk->data.data, err))
        return false;
    /* 8 bytes a pixel at most */
    if (!comma_mul(png->width, png->height, &pixels) || pixels > MAX_RAW_BYTES / 8)
        return comma_image_fail_memory(png->width, png->height, limits, err);
    png->raw_bytes = raw_bytes(png);
    return true;
}

static bool parse_palette(struct png *png, struct comma_bytes data, struct comma_error *err)
{
    if (png->color != PALETTE || png->palette.size > 0)
        return true; /* a suggestion for poor screens, or a second one: passed over, as Pillow does */
    if (data.size == 0 || data.size > PALETTE_BYTES || data.size % 3 != 0)
        return comma_fail(err, COMMA_E_INPUT,
                          "the PNG has a palette of %zu bytes; 1 to 256 colours of 3 bytes are "
                          "allowed",
                          data.size);
    png->palette = data;
    return true;
}

/* Reads all but the pixels. */
static bool walk(struct png *png, struct comma_bytes file, const struct comma_image_limits *limits,
                 struct comma_error *err)
{
    size_t at = COMMA_PNG_SIGNATURE_BYTES;
    struct comma_png_chunk chunk;

    for (size_t n = 0; n < MAX_CHUNKS; n++) {
        if (!comma_png_next_chunk(file, &at, &chunk))
            return comma_fail(err, COMMA_E_INPUT, "the PNG is cut short; is the upload complete?");
        if (n == 0 && !parse_header(png, &chunk, limits, err))
            return false;
        if (comma_png_is(&chunk, "PLTE") && !parse_palette(png, chunk.data, err))
            return false;
        if (comma_png_is(&chunk, "IDAT"))
            png->data_bytes += chunk.data.size;
        if (comma_png_is(&chunk, "IEND"))
            return true;
    }
    return comma_fail(err, COMMA_E_LIMIT, "the PNG has more than %d chunks", MAX_CHUNKS);
}

static bool check_data(const struct png *png, struct comma_error *err)
{
    if (png->data_bytes == 0)
        return comma_fail(err, COMMA_E_INPUT, "the PNG has no image data");
    if (png->color == PALETTE && png->palette.size == 0)
        return comma_fail(err, COMMA_E_INPUT, "the PNG has colours by palette and no palette");
    if (png->data_bytes > png->raw_bytes + png->raw_bytes / 100 + SLACK_BYTES)
        return comma_fail(err, COMMA_E_INPUT,
                          "the PNG has %zu bytes of image data, more than a picture of %zu x %zu "
                          "pixels can fill",
                          png->data_bytes, png->width, png->height);
    return true;
}

/* ---- the new file for stb_image ---- */

static unsigned char *put(unsigned char *out, const void *bytes, size_t size)
{
    memcpy(out, bytes, size);
    return out + size;
}

/* Length and type of a chunk. Its checksum is left zero: stb_image does not look at it. */
static unsigned char *put_head(unsigned char *out, const char *type, size_t size)
{
    const unsigned char length[4] = { (unsigned char)(size >> 24), (unsigned char)(size >> 16),
                                      (unsigned char)(size >> 8), (unsigned char)size };

    return put(put(out, length, 4), type, 4);
}

static size_t clean_bytes(const struct png *png)
{
    return COMMA_PNG_SIGNATURE_BYTES + 4 * CHUNK_BYTES + 13 + PALETTE_BYTES + png->data_bytes;
}

/* Writes the new file; out holds clean_bytes() zeros, and the unused end of it is no harm. */
static void write_clean(const struct png *png, struct comma_bytes file, unsigned char *out)
{
    size_t at = COMMA_PNG_SIGNATURE_BYTES;
    struct comma_png_chunk chunk;
    unsigned char *data;

    out = put(out, file.data, COMMA_PNG_SIGNATURE_BYTES + 8 + 13) + 4; /* IHDR is the first chunk */
    if (png->color == PALETTE) {
        out = put_head(out, "PLTE", PALETTE_BYTES); /* missing colours are black, as in Pillow */
        put(out, png->palette.data, png->palette.size);
        out += PALETTE_BYTES + 4;
    }
    data = put_head(out, "IDAT", png->data_bytes);
    while (comma_png_next_chunk(file, &at, &chunk) && !comma_png_is(&chunk, "IEND"))
        if (comma_png_is(&chunk, "IDAT"))
            data = put(data, chunk.data.data, chunk.data.size);
    put_head(data + 4, "IEND", 0);
}

/* ---- pixels ---- */

/* What decoding takes at most at one time, for an honest file: twice the file (ours and stb's copy of it), the inflated
 * bytes (stb doubles its buffer, and its first guess may be a little short), samples of a picture and of one pass of
 * it, in 16 and in 8 bits or as numbers and as colours. */
static size_t most_bytes(const struct png *png)
{
    const size_t pixels = png->width * png->height;
    const size_t sample_bytes = png->depth == 16 ? 2 : 1;

    return 2 * clean_bytes(png) + 3 * png->raw_bytes + 2 * SLACK_BYTES + 2 * pixels * png->n_samples * sample_bytes +
           3 * pixels;
}

static void to_rgb(const unsigned char *in, int n_samples, size_t pixels, unsigned char *out)
{
    if (n_samples == 3)
        memcpy(out, in, 3 * pixels);
    else if (n_samples <= 2)
        for (size_t i = 0; i < pixels; i++, in += n_samples, out += 3)
            out[0] = out[1] = out[2] = in[0];
    else
        for (size_t i = 0; i < pixels; i++, in += 4, out += 3) {
            out[0] = in[0];
            out[1] = in[1];
            out[2] = in[2];
        }
}

/* Runs stb_image on the new file, inside the thread's budget. Returns samples of the budget's, NULL on failure. */
static unsigned char *decode_clean(const struct png *png, struct comma_bytes file, int *n_samples)
{
    unsigned char *clean = budget_malloc(clean_bytes(png)), *samples;
    int width = 0, height = 0;

    if (!clean)
        return NULL;
    memset(clean, 0, clean_bytes(png));
    write_clean(png, file, clean);
    samples = stbi_load_from_memory(clean, (int)clean_bytes(png), &width, &height, n_samples, 0);
    assert(!samples || ((size_t)width == png->width && (size_t)height == png->height));
    budget_free(clean);
    return samples;
}

static bool fail_decode(const struct png *png, const struct budget *spent, bool by_limit,
                        const struct comma_image_limits *limits, struct comma_error *err)
{
    if (spent->no_memory)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while decoding the image");
    if (spent->exceeded && by_limit)
        return comma_image_fail_memory(png->width, png->height, limits, err);
    if (spent->exceeded)
        return comma_fail(err, COMMA_E_INPUT, "the PNG inflates to more than a picture of %zu x %zu pixels can fill",
                          png->width, png->height);
    return comma_fail(err, COMMA_E_INPUT, "the PNG's image data is broken; is the upload complete?");
}

bool comma_image_decode_png(struct comma_bytes file, const struct comma_image_limits *limits, struct comma_image *out,
                            struct comma_error *err)
{
    struct png png = { 0 };
    struct budget spent = { 0 };
    struct comma_image image = { 0 };
    unsigned char *samples = NULL;
    size_t rgb_bytes, most;
    int n_samples = 0;
    bool ok = false;

    if (!walk(&png, file, limits, err) || !check_data(&png, err))
        goto out;
    rgb_bytes = 3 * png.width * png.height;
    most = most_bytes(&png);
    if (limits->max_decode_bytes < rgb_bytes ||
        limits->max_decode_bytes - rgb_bytes < png.raw_bytes + clean_bytes(&png)) {
        comma_image_fail_memory(png.width, png.height, limits, err);
        goto out;
    }
    spent.max = limits->max_decode_bytes - rgb_bytes < most ? limits->max_decode_bytes - rgb_bytes : most;
    budget = &spent;
    samples = decode_clean(&png, file, &n_samples);
    if (!samples) {
        fail_decode(&png, &spent, spent.max < most, limits, err);
        goto out;
    }
    image = (struct comma_image){ png.width, png.height, malloc(rgb_bytes) };
    if (!image.pixels) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory while decoding the image");
        goto out;
    }
    to_rgb(samples, n_samples, png.width * png.height, image.pixels);
    *out = image;
    ok = true;
out:
    budget_finish();
    return ok;
}
