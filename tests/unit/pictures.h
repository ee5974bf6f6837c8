/* SPDX-License-Identifier: MIT */
/* pictures.h - files for the tests of image decoding: read from the golden sets, or made byte by byte.
 *
 * Golden pictures lie under $COMMA_GOLDEN, which meson sets. Made PNGs hold their samples uncompressed, so that a test
 * shows what is in them. All of it asserts instead of failing. */
#ifndef COMMA_TESTS_PICTURES_H
#define COMMA_TESTS_PICTURES_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/text.h"

struct buffer {
    unsigned char *data;
    size_t size, room;
};

static inline void buffer_add(struct buffer *b, const void *bytes, size_t size)
{
    if (b->room - b->size < size) {
        b->room = 2 * (b->size + size);
        b->data = realloc(b->data, b->room);
        assert(b->data);
    }
    if (size > 0)
        memcpy(b->data + b->size, bytes, size);
    b->size += size;
}

static inline void buffer_be32(struct buffer *b, uint32_t v)
{
    buffer_add(b,
               (unsigned char[]){ (unsigned char)(v >> 24), (unsigned char)(v >> 16), (unsigned char)(v >> 8),
                                  (unsigned char)v },
               4);
}

static inline struct comma_bytes buffer_bytes(const struct buffer *b)
{
    return (struct comma_bytes){ b->data, b->size };
}

static inline const char *golden_root(void)
{
    const char *root = getenv("COMMA_GOLDEN");

    return root ? root : "tests/golden/data";
}

/* A file below the golden folder, "tiny/images/rgb.png". */
static inline struct buffer golden_file(const char *name)
{
    struct buffer b = { 0 };
    unsigned char part[4096];
    char path[4096];
    FILE *f;
    size_t n;

    snprintf(path, sizeof(path), "%s/%s", golden_root(), name);
    f = fopen(path, "rb");
    if (!f)
        fprintf(stderr, "%s cannot be opened\n", path);
    assert(f);
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        buffer_add(&b, part, n);
    fclose(f);
    return b;
}

/* ---- PNG ---- */

static inline void png_chunk(struct buffer *b, const char *type, const void *data, size_t size)
{
    buffer_be32(b, (uint32_t)size);
    buffer_add(b, type, 4);
    buffer_add(b, data, size);
    buffer_be32(b, 0); /* checksum */
}

static inline void png_start(struct buffer *b, uint32_t width, uint32_t height, unsigned depth, unsigned color,
                             unsigned interlace)
{
    struct buffer head = { 0 };

    buffer_add(b, "\x89PNG\r\n\x1a\n", 8);
    buffer_be32(&head, width);
    buffer_be32(&head, height);
    buffer_add(&head, (unsigned char[]){ (unsigned char)depth, (unsigned char)color, 0, 0, (unsigned char)interlace },
               5);
    png_chunk(b, "IHDR", head.data, head.size);
    free(head.data);
}

/* raw as one stored block of a zlib stream; at most 65535 bytes. */
static inline void png_data(struct buffer *b, const void *raw, size_t size)
{
    struct buffer z = { 0 };

    assert(size < 65536);
    buffer_add(&z,
               (unsigned char[]){ 0x78, 0x01, 1, (unsigned char)size, (unsigned char)(size >> 8), (unsigned char)~size,
                                  (unsigned char)(~size >> 8) },
               7);
    buffer_add(&z, raw, size);
    buffer_add(&z, "\0\0\0\0", 4); /* checksum */
    png_chunk(b, "IDAT", z.data, z.size);
    free(z.data);
}

/* A whole PNG: head, samples with their filter bytes, end. */
static inline struct buffer png_file(uint32_t width, uint32_t height, unsigned depth, unsigned color,
                                     unsigned interlace, const void *raw, size_t size)
{
    struct buffer b = { 0 };

    png_start(&b, width, height, depth, color, interlace);
    png_data(&b, raw, size);
    png_chunk(&b, "IEND", NULL, 0);
    return b;
}

/* ---- JPEG ---- */

static inline void jpeg_segment(struct buffer *b, unsigned marker, const void *data, size_t size)
{
    buffer_add(
        b,
        (unsigned char[]){ 0xFF, (unsigned char)marker, (unsigned char)((size + 2) >> 8), (unsigned char)(size + 2) },
        4);
    buffer_add(b, data, size);
}

/* Start of image, quantisation by 1, and a frame header of one gray component: 0xC0 baseline, 0xC2 progressive. */
static inline void jpeg_start(struct buffer *b, unsigned frame, unsigned width, unsigned height)
{
    unsigned char table[65];

    memset(table, 1, sizeof(table));
    table[0] = 0;
    buffer_add(b, "\xFF\xD8", 2);
    jpeg_segment(b, 0xDB, table, sizeof(table));
    jpeg_segment(b, frame,
                 (unsigned char[]){ 8, (unsigned char)(height >> 8), (unsigned char)height, (unsigned char)(width >> 8),
                                    (unsigned char)width, 1, 1, 0x11, 0 },
                 9);
}

/* ---- EXIF ---- */

/* A TIFF block with an orientation and nothing else. */
static inline struct buffer exif_block(bool big_endian, unsigned orientation)
{
    const unsigned char o = (unsigned char)orientation;
    const unsigned char big[] = {
        'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, o, 0, 0, 0, 0, 0, 0
    };
    const unsigned char little[] = { 'I', 'I', '*', 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3,
                                     0,   1,   0,   0, 0, o, 0, 0, 0, 0, 0,    0, 0 };
    struct buffer b = { 0 };

    buffer_add(&b, big_endian ? big : little, sizeof(big));
    return b;
}

#endif
