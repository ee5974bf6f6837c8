/* SPDX-License-Identifier: MIT */
/* image_hostile.c - files made to crash, fill or stall a decoder, and good ones that were damaged on the way. Each must
 * end in a picture or in a sentence, within the limits; under AddressSanitizer it shows that nothing else happened.
 * The table of bombs is RELIABILITY's, made here byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/exif.h"
#include "engine/image.h"
#include "tests/unit/pictures.h"

static const char *const golden_names[] = { "bilevel.png",      "cmyk.jpg",    "crop_half.png",   "exif6.jpg",
                                            "gray.jpg",         "gray.png",    "gray16.png",      "jpeg420.jpg",
                                            "jpeg422.jpg",      "jpeg444.jpg", "la.png",          "large.jpg",
                                            "palette_trns.png", "palette.gif", "progressive.jpg", "rgb.png",
                                            "rgb16.png",        "rgba.png",    "upscale.png",     "wide.png" };
#define N_GOLDEN (sizeof(golden_names) / sizeof(golden_names[0]))

static struct buffer golden_picture(size_t i)
{
    char path[128];

    snprintf(path, sizeof(path), "tiny/images/%s", golden_names[i]);
    return golden_file(path);
}

/* Wants a refusal of that code, with those words, and the picture untouched. Frees the file. */
static void assert_refused(const char *name, struct buffer file, const struct comma_image_limits *limits,
                           enum comma_code code, const char *words)
{
    const struct comma_image_limits usual = comma_image_default_limits();
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    if (comma_image_decode(buffer_bytes(&file), limits ? limits : &usual, true, 0, &image, &err))
        fail_msg("%s was decoded", name);
    if (err.code != code || !strstr(err.message, words))
        fail_msg("%s: code %d, %s", name, (int)err.code, err.message);
    assert_null(image.pixels);
    free(file.data);
}

/* Either way is right, as long as it ends. Returns whether it was a picture. */
static bool survives(struct comma_bytes file)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };
    const bool ok = comma_image_decode(file, &limits, true, 0, &image, &err);

    if (!ok) {
        assert_int_not_equal(err.code, COMMA_OK);
        assert_int_not_equal(err.message[0], '\0');
    }
    comma_image_finish(&image);
    return ok;
}

/* A copy in memory of exactly its size, so that a read past the end is seen. */
static bool survives_alone(const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);
    bool ok;

    assert_non_null(copy);
    memcpy(copy, data, size);
    ok = survives((struct comma_bytes){ copy, size });
    free(copy);
    return ok;
}

/* ---- damaged on the way ---- */

static void a_file_that_was_cut_short_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOLDEN; i++) {
        struct buffer file = golden_picture(i);

        for (size_t size = 0; size < file.size; size += size + 97 < file.size ? 97 : 1)
            if (survives_alone(file.data, size))
                fail_msg("%s, first %zu bytes", golden_names[i], size);
        free(file.data);
    }
}

static void flipped_bits_give_a_picture_or_an_error(void **state)
{
    uint32_t random = 1;

    (void)state;
    for (size_t i = 0; i < N_GOLDEN; i++) {
        struct buffer file = golden_picture(i);

        for (int n = 0; n < 200; n++) {
            size_t at[3];

            /* Mostly in the first 512 bytes, where the structure is */
            for (size_t k = 0; k < 3; k++) {
                random = random * 1664525 + 1013904223;
                at[k] = (random >> 8) % (n % 2 == 0 && file.size > 512 ? 512 : file.size);
                file.data[at[k]] ^= (unsigned char)(1 << (random >> 29));
            }
            survives(buffer_bytes(&file));
            free(file.data);
            file = golden_picture(i);
        }
        free(file.data);
    }
}

/* ---- JPEG ---- */

static void jpeg_scan(struct buffer *b, unsigned first, unsigned last, const void *data, size_t size)
{
    jpeg_segment(b, 0xDA, (unsigned char[]){ 1, 1, 0, (unsigned char)first, (unsigned char)last, 0 }, 6);
    buffer_add(b, data, size);
}

/* The 16 counts of a Huffman table may add up to 256; Debian 12's stb_image writes beyond its tables where they add up
 * to more. */
static void a_huffman_table_of_too_many_codes_is_refused(void **state)
{
    uint32_t random = 7;

    (void)state;
    for (int n = 0; n < 300; n++) {
        unsigned char table[17 + 16 * 255] = { 0 };
        size_t sum = 0;
        struct buffer file = { 0 };

        for (size_t i = 1; i <= 16; i++) {
            random = random * 1664525 + 1013904223;
            table[i] = (unsigned char)(n == 0 ? 255 : random >> 24);
            sum += table[i];
        }
        table[0] = (unsigned char)(n % 2 << 4);
        jpeg_start(&file, n % 3 == 2 ? 0xC2 : 0xC0, 16, 16);
        jpeg_segment(&file, 0xC4, table, 17 + sum);
        jpeg_scan(&file, 0, 63, "\x12\x34\x56\x78", 4);
        buffer_add(&file, "\xFF\xD9", 2);
        if (sum > 256)
            assert_refused("DHT", file, NULL, COMMA_E_INPUT, "the JPEG is broken");
        else
            free(file.data);
    }
}

/* Scans of nothing: each says with 15-bit codes that the next 16,384 blocks are empty. */
static struct buffer jpeg_of_scans(unsigned side, size_t n_scans)
{
    const unsigned char table[] = { 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xE0 };
    const unsigned char zeros[64] = { 0 };
    struct buffer file = { 0 };

    jpeg_start(&file, 0xC2, side, side);
    jpeg_segment(&file, 0xC4, table, sizeof(table));
    for (size_t i = 0; i < n_scans; i++)
        jpeg_scan(&file, 1, 63, zeros, (((size_t)side + 7) / 8 * ((side + 7) / 8) / 16384 + 1) * 15 / 8 + 1);
    buffer_add(&file, "\xFF\xD9", 2);
    return file;
}

static void a_progressive_jpeg_has_at_most_so_many_scans(void **state)
{
    struct comma_image_limits few = comma_image_default_limits();
    struct buffer good = jpeg_of_scans(64, 100);

    (void)state;
    assert_true(survives(buffer_bytes(&good)));
    free(good.data);
    assert_refused("101 scans", jpeg_of_scans(64, 101), NULL, COMMA_E_LIMIT, "more than 100 scans");
    assert_refused("2,000 scans", jpeg_of_scans(4000, 2000), NULL, COMMA_E_LIMIT, "more than 100 scans");
    assert_refused("20,000 scans", jpeg_of_scans(4000, 20000), NULL, COMMA_E_LIMIT, "more than 100 scans");
    few.max_scans = 3;
    assert_refused("4 scans", jpeg_of_scans(8, 4), &few, COMMA_E_LIMIT, "more than 3 scans");
}

static struct buffer jpeg_without_data(unsigned frame, unsigned width, unsigned height)
{
    const unsigned char table[] = { 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    struct buffer file = { 0 };

    jpeg_start(&file, frame, width, height);
    jpeg_segment(&file, 0xC4, table, sizeof(table));
    jpeg_scan(&file, 0, 63, "", 0);
    return file;
}

static void a_jpeg_that_claims_more_than_it_has_is_refused(void **state)
{
    struct comma_image_limits small = comma_image_default_limits();

    (void)state;
    assert_refused("65500 x 65500", jpeg_without_data(0xC0, 65500, 65500), NULL, COMMA_E_LIMIT,
                   "the image is 65500 x 65500 pixels; at most 50000000 pixels are allowed");
    assert_refused("65535 x 1", jpeg_without_data(0xC0, 65535, 1), NULL, COMMA_E_LIMIT, "more than 65500 pixels");
    assert_refused("4096 x 4096", jpeg_without_data(0xC0, 4096, 4096), NULL, COMMA_E_INPUT, "cut short");
    assert_refused("0 x 8", jpeg_without_data(0xC0, 0, 8), NULL, COMMA_E_INPUT, "side of 0 pixels");
    assert_refused("lossless", jpeg_without_data(0xC3, 8, 8), NULL, COMMA_E_FORMAT, "lossless, hierarchical");
    small.max_side_px = 100;
    assert_refused("side", jpeg_without_data(0xC0, 101, 1), &small, COMMA_E_LIMIT, "a side may have at most 100");
    /* 600 x 600 need 1 MB for pixels, and as progressive another 0.7 MB for coefficients */
    small = comma_image_default_limits();
    small.max_decode_bytes = 1000000;
    assert_refused("pixels", jpeg_of_scans(600, 1), &small, COMMA_E_LIMIT, "more memory to decode than the 1000000");
    small.max_decode_bytes = 1200000;
    assert_refused("coefficients", jpeg_of_scans(600, 1), &small, COMMA_E_LIMIT, "more memory to decode than");
}

/* ---- PNG ---- */

struct bits {
    struct buffer *out;
    unsigned value, n;
};

static void put_bits(struct bits *b, unsigned value, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        b->value |= (value >> i & 1) << b->n;
        if (++b->n == 8) {
            buffer_add(b->out, &(unsigned char){ (unsigned char)b->value }, 1);
            b->value = b->n = 0;
        }
    }
}

/* A zlib stream of one literal 0 and n runs of 258 copies of it, in the fixed code: 13 bits a run. */
static struct buffer zeros_deflated(size_t n)
{
    struct buffer z = { 0 };
    struct bits b = { &z, 0, 0 };

    buffer_add(&z, "\x78\x01", 2);
    put_bits(&b, 3, 3);    /* last block, fixed code */
    put_bits(&b, 0x0C, 8); /* literal 0 is 00110000, first bit first */
    for (size_t i = 0; i < n; i++)
        put_bits(&b, 0xA3, 13); /* 11000101 for length 258, 00000 for distance 1 */
    put_bits(&b, 0, 7 + 7);     /* end, and to the end of the byte */
    buffer_add(&z, "\0\0\0\0", 4);
    return z;
}

static struct buffer png_of(unsigned width, unsigned height, unsigned depth, unsigned color, struct buffer data)
{
    struct buffer file = { 0 };

    png_start(&file, width, height, depth, color, 0);
    png_chunk(&file, "IDAT", data.data, data.size);
    png_chunk(&file, "IEND", NULL, 0);
    free(data.data);
    return file;
}

static void a_small_png_that_inflates_to_much_is_refused(void **state)
{
    struct buffer good = png_of(1031, 4, 8, 0, zeros_deflated(16)); /* 4,128 bytes of 4,129 */

    (void)state;
    assert_true(survives(buffer_bytes(&good)));
    free(good.data);
    assert_refused("10 MB in 64 KiB", png_of(1, 1, 8, 0, zeros_deflated(40000)), NULL, COMMA_E_INPUT,
                   "inflates to more than a picture of 1 x 1 pixels can fill");
    assert_refused("170 MB in 1 MB", png_of(1, 1, 8, 0, zeros_deflated(650000)), NULL, COMMA_E_INPUT,
                   "bytes of image data, more than a picture of 1 x 1 pixels can fill");
}

static void a_png_that_claims_too_much_is_refused(void **state)
{
    struct comma_image_limits small = comma_image_default_limits();

    (void)state;
    assert_refused("8000 x 8000", png_of(8000, 8000, 16, 6, zeros_deflated(100)), NULL, COMMA_E_LIMIT,
                   "the image is 8000 x 8000 pixels; at most 50000000 pixels are allowed");
    assert_refused("65500 x 65500", png_of(65500, 65500, 1, 0, zeros_deflated(100)), NULL, COMMA_E_LIMIT,
                   "at most 50000000 pixels");
    assert_refused("65535 x 65535", png_of(65535, 65535, 1, 0, zeros_deflated(1)), NULL, COMMA_E_LIMIT,
                   "a side may have at most 65500");
    assert_refused("2^32 - 1", png_of(UINT32_MAX, UINT32_MAX, 16, 6, zeros_deflated(1)), NULL, COMMA_E_LIMIT,
                   "a side may have at most 65500");
    assert_refused("memory", png_of(7000, 7000, 16, 6, zeros_deflated(1)), NULL, COMMA_E_LIMIT,
                   "takes more memory to decode than the 536870912 bytes allowed");
    small.max_decode_bytes = 20000; /* enough to begin: 4 KB inflated, 12 KB of pixels; not for what lies between */
    assert_refused("midway", png_of(1031, 4, 8, 0, zeros_deflated(16)), &small, COMMA_E_LIMIT, "takes more memory");
    /* With all limits lifted, stb_image's own arithmetic is next: it counts in int. */
    small = (struct comma_image_limits){ SIZE_MAX, SIZE_MAX, SIZE_MAX, 100 };
    assert_refused("no limits", png_of(UINT32_MAX, UINT32_MAX, 16, 6, zeros_deflated(1)), &small, COMMA_E_LIMIT,
                   "takes more memory");
}

static void a_png_of_very_many_chunks_is_refused(void **state)
{
    struct buffer file = { 0 };

    (void)state;
    png_start(&file, 100, 100, 8, 2, 0);
    for (size_t i = 0; i < 200000; i++)
        png_chunk(&file, "IDAT", "", 0);
    png_chunk(&file, "IEND", NULL, 0);
    assert_refused("200,000 chunks", file, NULL, COMMA_E_LIMIT, "more than 65536 chunks");
}

/* stb_image alone allocates what this length field says. */
static void a_chunk_longer_than_the_file_is_refused(void **state)
{
    struct buffer file = { 0 };

    (void)state;
    png_start(&file, 8, 8, 8, 2, 0);
    buffer_be32(&file, 0x70000000);
    buffer_add(&file, "IDAT\x78\x01\0\0\0\0\0\0\0\0\0\0", 16);
    assert_refused("IDAT of 1.9 GB", file, NULL, COMMA_E_INPUT, "the PNG is cut short");
}

static void a_png_whose_header_is_wrong_is_refused(void **state)
{
    static const struct {
        unsigned width, height, depth, color, interlace;
        const char *words;
    } cases[] = {
        { 0, 1, 8, 2, 0, "0 x 1 pixels; both sides must be at least 1" },
        { 1, 0, 8, 2, 0, "1 x 0 pixels; both sides must be at least 1" },
        { 1, 1, 8, 1, 0, "colour type 1 with 8 bits" },
        { 1, 1, 8, 7, 0, "colour type 7 with 8 bits" },
        { 1, 1, 4, 2, 0, "colour type 2 with 4 bits" },
        { 1, 1, 16, 3, 0, "colour type 3 with 16 bits" },
        { 1, 1, 3, 0, 0, "colour type 0 with 3 bits" },
        { 1, 1, 24, 0, 0, "colour type 0 with 24 bits" },
        { 1, 1, 0, 0, 0, "colour type 0 with 0 bits" },
        { 1, 1, 8, 0, 2, "interlace method" },
        { 1, 1, 8, 3, 0, "by palette and no palette" },
        { 2, 2, 8, 0, 0, "image data is broken" }, /* for want of samples */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(cases[i].words,
                       png_file(cases[i].width, cases[i].height, cases[i].depth, cases[i].color, cases[i].interlace,
                                "\0\1\2\3", 4),
                       NULL, COMMA_E_INPUT, cases[i].words);
}

static void a_png_whose_chunks_are_wrong_is_refused(void **state)
{
    struct buffer no_data = { 0 }, palette = { 0 }, apple = { 0 }, headless = { 0 }, early = { 0 };

    (void)state;
    png_start(&no_data, 1, 1, 8, 2, 0);
    png_chunk(&no_data, "IEND", NULL, 0);
    assert_refused("no IDAT", no_data, NULL, COMMA_E_INPUT, "has no image data");

    png_start(&palette, 1, 1, 8, 3, 0);
    png_chunk(&palette, "PLTE", "\1\2\3\4", 4);
    assert_refused("palette", palette, NULL, COMMA_E_INPUT, "a palette of 4 bytes");

    buffer_add(&apple, "\x89PNG\r\n\x1a\n", 8);
    png_chunk(&apple, "CgBI", "\x50\0\x20\2", 4);
    assert_refused("CgBI", apple, NULL, COMMA_E_FORMAT, "Apple's own kind of PNG");

    buffer_add(&headless, "\x89PNG\r\n\x1a\n", 8);
    png_chunk(&headless, "IDAT", "", 0);
    assert_refused("no IHDR", headless, NULL, COMMA_E_INPUT, "does not begin with its header");

    png_start(&early, 1, 1, 8, 2, 0);
    assert_refused("no IEND", early, NULL, COMMA_E_INPUT, "cut short");
}

/* ---- EXIF ---- */

static void broken_exif_reads_as_upright(void **state)
{
    struct buffer good = exif_block(true, 6);

    (void)state;
    assert_int_equal(comma_exif_tiff_orientation(buffer_bytes(&good)), 6);
    for (size_t size = 0; size < 20; size++) { /* cut before the value */
        unsigned char *copy = malloc(size ? size : 1);

        assert_non_null(copy);
        memcpy(copy, good.data, size);
        assert_int_equal(comma_exif_tiff_orientation((struct comma_bytes){ copy, size }), 1);
        free(copy);
    }
    good.data[19] = 9; /* no such orientation */
    assert_int_equal(comma_exif_tiff_orientation(buffer_bytes(&good)), 1);
    good.data[19] = 6;
    good.data[13] = 4; /* not a SHORT */
    assert_int_equal(comma_exif_tiff_orientation(buffer_bytes(&good)), 1);
    good.data[13] = 3;
    memset(good.data + 4, 0xFF, 4); /* a directory beyond the end */
    assert_int_equal(comma_exif_tiff_orientation(buffer_bytes(&good)), 1);
    free(good.data);
}

/* Fill bytes, a marker without length, and other people's APP1 before it. */
static void exif_is_found_behind_other_segments(void **state)
{
    struct buffer file = { 0 }, exif = { 0 }, tiff = exif_block(false, 8);

    (void)state;
    buffer_add(&exif, "Exif\0\0", 6);
    buffer_add(&exif, tiff.data, tiff.size);
    buffer_add(&file, "\xFF\xD8", 2);
    jpeg_segment(&file, 0xE0, "JFIF\0\1\1\0\0\1\0\1\0\0", 14);
    jpeg_segment(&file, 0xE1, "http://ns.adobe.com/xap/1.0/\0", 29);
    buffer_add(&file, "\xFF\x01\xFF\xFF", 4);
    jpeg_segment(&file, 0xE1, exif.data, exif.size);
    assert_int_equal(comma_exif_orientation(buffer_bytes(&file)), 8);
    for (size_t size = 0; size < file.size; size++)
        assert_int_equal(comma_exif_orientation((struct comma_bytes){ file.data, size }), 1);
    free(file.data);
    free(exif.data);
    free(tiff.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_was_cut_short_is_refused),
        cmocka_unit_test(flipped_bits_give_a_picture_or_an_error),
        cmocka_unit_test(a_huffman_table_of_too_many_codes_is_refused),
        cmocka_unit_test(a_progressive_jpeg_has_at_most_so_many_scans),
        cmocka_unit_test(a_jpeg_that_claims_more_than_it_has_is_refused),
        cmocka_unit_test(a_small_png_that_inflates_to_much_is_refused),
        cmocka_unit_test(a_png_that_claims_too_much_is_refused),
        cmocka_unit_test(a_png_of_very_many_chunks_is_refused),
        cmocka_unit_test(a_chunk_longer_than_the_file_is_refused),
        cmocka_unit_test(a_png_whose_header_is_wrong_is_refused),
        cmocka_unit_test(a_png_whose_chunks_are_wrong_is_refused),
        cmocka_unit_test(broken_exif_reads_as_upright),
        cmocka_unit_test(exif_is_found_behind_other_segments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
