/* SPDX-License-Identifier: MIT */
/* image.c - what decoding makes of each kind of PNG and JPEG. Expected pixels of JPEGs are Pillow's (golden set); those
 * of the PNGs made here follow from the format by hand. Hostile files are image_hostile.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/image.h"
#include "tests/unit/pictures.h"

static struct comma_image decoded(struct comma_bytes file, bool auto_orient, size_t min_side_px)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    if (!comma_image_decode(file, &limits, auto_orient, min_side_px, &image, &err))
        print_error("%s\n", err.message);
    assert_non_null(image.pixels);
    return image;
}

static struct comma_image decoded_golden(const char *name, bool auto_orient)
{
    struct buffer file = golden_file(name);
    struct comma_image image = decoded(buffer_bytes(&file), auto_orient, 0);

    free(file.data);
    return image;
}

static void assert_same(const struct comma_image *a, const struct comma_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->pixels, b->pixels, 3 * a->width * a->height);
}

static void a_jpeg_comes_out_as_from_pillow(void **state)
{
    static const char *const names[] = { "jpeg420.jpg", "jpeg444.jpg", "jpeg422.jpg", "progressive.jpg",
                                         "gray.jpg",    "cmyk.jpg",    "exif6.jpg",   "large.jpg" };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[128];
        struct comma_image ours, pillows;

        snprintf(path, sizeof(path), "tiny/images/%s", names[i]);
        ours = decoded_golden(path, false);
        snprintf(path, sizeof(path), "tiny/decoded/%s.png", names[i]);
        pillows = decoded_golden(path, false);
        assert_same(&ours, &pillows);
        comma_image_finish(&ours);
        comma_image_finish(&pillows);
    }
}

static void sixteen_bit_gray_gives_its_high_byte(void **state)
{
    struct comma_image ours = decoded_golden("tiny/images/gray16.png", true);
    struct comma_image expected = decoded_golden("tiny/decoded/gray16.png.high_byte.png", true);

    (void)state;
    assert_same(&ours, &expected);
    comma_image_finish(&ours);
    comma_image_finish(&expected);
}

/* Each row is its filter byte 0 and its samples. */
static void every_kind_of_png_becomes_rgb(void **state)
{
    static const struct {
        const char *name;
        unsigned width, height, depth, color, interlace;
        const char *raw;
        size_t raw_size;
        const char *rgb;
    } cases[] = {
        { "1-bit gray", 3, 2, 1, 0, 0, "\0\xA0\0\x40", 4, "\xFF\xFF\xFF\0\0\0\xFF\xFF\xFF\0\0\0\xFF\xFF\xFF\0\0\0" },
        { "2-bit gray", 4, 1, 2, 0, 0, "\0\x1B", 2, "\0\0\0\x55\x55\x55\xAA\xAA\xAA\xFF\xFF\xFF" },
        { "4-bit gray", 3, 1, 4, 0, 0, "\0\x0F\x70", 3, "\0\0\0\xFF\xFF\xFF\x77\x77\x77" },
        { "8-bit gray", 2, 1, 8, 0, 0, "\0\x12\xFE", 3, "\x12\x12\x12\xFE\xFE\xFE" },
        { "16-bit gray", 2, 1, 16, 0, 0, "\0\x12\x34\xFE\xFF", 5, "\x12\x12\x12\xFE\xFE\xFE" },
        { "rgb", 2, 1, 8, 2, 0, "\0\1\2\3\4\5\6", 7, "\1\2\3\4\5\6" },
        { "16-bit rgb", 1, 1, 16, 2, 0, "\0\1\xFF\2\xFF\3\xFF", 7, "\1\2\3" },
        { "gray and alpha", 2, 1, 8, 4, 0, "\0\7\0\x09\x80", 5, "\7\7\7\x09\x09\x09" },
        { "16-bit gray and alpha", 1, 1, 16, 4, 0, "\0\7\0\0\0", 5, "\7\7\7" },
        { "rgb and alpha", 1, 2, 8, 6, 0, "\0\1\2\3\0\0\4\5\6\xFF", 10, "\1\2\3\4\5\6" },
        { "16-bit rgb and alpha", 1, 1, 16, 6, 0, "\0\1\0\2\0\3\0\0\0", 9, "\1\2\3" },
        { "rows by difference", 2, 2, 8, 0, 0, "\1\5\1\2\1\1", 6, "\5\5\5\6\6\6\6\6\6\7\7\7" },
        { "interlaced", 2, 2, 8, 0, 1, "\0\1\0\2\0\3\4", 7, "\1\1\1\2\2\2\3\3\3\4\4\4" },
        { "interlaced 1-bit", 1, 3, 1, 0, 1, "\0\x80\0\x80\0\0", 6, "\xFF\xFF\xFF\0\0\0\xFF\xFF\xFF" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buffer file = png_file(cases[i].width, cases[i].height, cases[i].depth, cases[i].color,
                                      cases[i].interlace, cases[i].raw, cases[i].raw_size);
        struct comma_image image = decoded(buffer_bytes(&file), true, 0);

        print_message("%s\n", cases[i].name);
        assert_int_equal(image.width, cases[i].width);
        assert_int_equal(image.height, cases[i].height);
        assert_memory_equal(image.pixels, cases[i].rgb, 3 * image.width * image.height);
        comma_image_finish(&image);
        free(file.data);
    }
}

/* Entry 3 does not exist: stb_image alone would show what lay on its stack; Pillow shows black. */
static void palette_colours_are_looked_up_and_missing_ones_are_black(void **state)
{
    struct buffer file = { 0 };
    struct comma_image image;

    (void)state;
    png_start(&file, 4, 1, 2, 3, 0);
    png_chunk(&file, "PLTE", "\1\2\3\4\5\6\7\x08\x09", 9);
    png_chunk(&file, "tRNS", "\0\0\0", 3); /* transparency is ignored */
    png_chunk(&file, "gAMA", "\0\0\0\1", 4);
    png_data(&file, "\0\x1B", 2);
    png_chunk(&file, "IEND", NULL, 0);
    image = decoded(buffer_bytes(&file), true, 0);
    assert_memory_equal(image.pixels, "\1\2\3\4\5\6\7\x08\x09\0\0\0", 12);
    comma_image_finish(&image);
    free(file.data);
}

static void an_animated_png_gives_its_still_picture(void **state)
{
    struct buffer file = { 0 };
    struct comma_image image;

    (void)state;
    png_start(&file, 1, 1, 8, 0, 0);
    png_chunk(&file, "acTL", "\0\0\0\2\0\0\0\0", 8);
    png_data(&file, "\0\x11", 2);
    png_chunk(&file, "fdAT", "\0\0\0\1\0\0", 6);
    png_chunk(&file, "IEND", NULL, 0);
    image = decoded(buffer_bytes(&file), true, 0);
    assert_memory_equal(image.pixels, "\x11\x11\x11", 3);
    comma_image_finish(&image);
    free(file.data);
}

/* SPEC 8.1's list, on a picture of two rows ABC, DEF. */
static void each_exif_orientation_is_turned_upright(void **state)
{
    static const char *const expected[9] = { NULL,     "ABCDEF", "CBAFED", "FEDCBA", "DEFABC",
                                             "ADBECF", "DAEBFC", "FCEBDA", "CFBEAD" };

    (void)state;
    for (unsigned o = 1; o <= 8; o++) {
        struct buffer file = { 0 }, exif = exif_block(o % 2 == 0, o);
        struct comma_image image;

        png_start(&file, 3, 2, 8, 0, 0);
        png_chunk(&file, "eXIf", exif.data, exif.size);
        png_data(&file, "\0ABC\0DEF", 8);
        png_chunk(&file, "IEND", NULL, 0);
        image = decoded(buffer_bytes(&file), true, 0);
        assert_int_equal(image.width, o < 5 ? 3 : 2);
        assert_int_equal(image.height, o < 5 ? 2 : 3);
        for (size_t i = 0; i < 6; i++)
            assert_int_equal(image.pixels[3 * i + 1], expected[o][i]);
        comma_image_finish(&image);

        image = decoded(buffer_bytes(&file), false, 0); /* and left as it lies where that is asked for */
        assert_int_equal(image.width, 3);
        assert_int_equal(image.pixels[0], 'A');
        comma_image_finish(&image);
        free(exif.data);
        free(file.data);
    }
}

/* Larger than a tile of the turning loop: exif6.jpg is 100 x 70 and to be turned clockwise. */
static void a_photograph_lying_on_its_side_is_turned(void **state)
{
    struct comma_image stored = decoded_golden("tiny/images/exif6.jpg", false);
    struct comma_image turned = decoded_golden("tiny/images/exif6.jpg", true);

    (void)state;
    assert_int_equal(turned.width, 70);
    assert_int_equal(turned.height, 100);
    for (size_t y = 0; y < turned.height; y++)
        for (size_t x = 0; x < turned.width; x++)
            assert_memory_equal(turned.pixels + 3 * (y * turned.width + x),
                                stored.pixels + 3 * ((stored.height - 1 - x) * stored.width + y), 3);
    comma_image_finish(&stored);
    comma_image_finish(&turned);
}

/* large.jpg is 240 x 161; libjpeg rounds sides up. */
static void a_jpeg_may_come_out_smaller_by_a_power_of_two(void **state)
{
    static const struct {
        size_t min_side_px, width, height;
    } cases[] = { { 0, 240, 161 }, { 161, 240, 161 }, { 82, 240, 161 }, { 81, 120, 81 }, { 42, 120, 81 },
                  { 41, 60, 41 },  { 22, 60, 41 },    { 21, 30, 21 },   { 1, 30, 21 },   { 1000, 240, 161 } };
    struct buffer file = golden_file("tiny/images/large.jpg");

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct comma_image image = decoded(buffer_bytes(&file), true, cases[i].min_side_px);

        assert_int_equal(image.width, cases[i].width);
        assert_int_equal(image.height, cases[i].height);
        comma_image_finish(&image);
    }
    free(file.data);
}

static void a_square_that_cannot_be_is_refused(void **state)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    struct buffer file = golden_file("tiny/images/large.jpg");
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    (void)state;
    assert_false(comma_image_decode_square(buffer_bytes(&file), &limits, true, 0, SIZE_MAX / 2, &image, &err));
    assert_int_equal(err.code, COMMA_E_LIMIT);
    assert_non_null(strstr(err.message, "no picture has"));
    assert_null(image.pixels);
    free(file.data);
}

static void other_formats_are_refused_by_name(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } cases[] = {
        { "", 0, "is empty" },
        { "GIF89a", 6, "looks like a GIF; PNG and JPEG are read" },
        { "RIFF\1\0\0\0WEBPVP8 ", 16, "looks like a WebP" },
        { "BM\1\0\0\0", 6, "looks like a BMP" },
        { "II*\0\0", 5, "looks like a TIFF" },
        { "MM\0*\0", 5, "looks like a TIFF" },
        { "\0\0\0\x18"
          "ftypheic",
          12, "looks like a HEIC" },
        { "\0\0\0\x1C"
          "ftypavif",
          12, "looks like an AVIF" },
        { "\0\0\0\x1C"
          "ftypisom",
          12, "looks like a video" },
        { "%PDF-1.7", 8, "looks like a PDF" },
        { "<svg xmlns", 10, "looks like an SVG" },
        { "/9j/4AAQ", 8, "looks like base64 text" },
        { "\x89PNG\r\n\x1a", 7, "unknown format; PNG and JPEG are read" },
        { "\xFF\xD8", 2, "unknown format" },
        { "hello", 5, "unknown format" },
    };
    const struct comma_image_limits limits = comma_image_default_limits();

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct comma_bytes file = { (const unsigned char *)cases[i].bytes, cases[i].size };
        struct comma_image image = { 0 };
        struct comma_error err = { 0 };

        assert_false(comma_image_decode(file, &limits, true, 0, &image, &err));
        assert_int_equal(err.code, COMMA_E_FORMAT);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s", err.message);
        assert_null(image.pixels);
    }
}

static void the_golden_gif_and_bmp_are_refused_by_name(void **state)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    struct buffer gif = golden_file("tiny/images/palette.gif"), bmp = golden_file("tiny/images/plain.bmp");
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    (void)state;
    assert_false(comma_image_decode(buffer_bytes(&gif), &limits, true, 0, &image, &err));
    assert_string_equal(err.message, "the image looks like a GIF; PNG and JPEG are read");
    assert_false(comma_image_decode(buffer_bytes(&bmp), &limits, true, 0, &image, &err));
    assert_string_equal(err.message, "the image looks like a BMP; PNG and JPEG are read");
    free(gif.data);
    free(bmp.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jpeg_comes_out_as_from_pillow),
        cmocka_unit_test(sixteen_bit_gray_gives_its_high_byte),
        cmocka_unit_test(every_kind_of_png_becomes_rgb),
        cmocka_unit_test(palette_colours_are_looked_up_and_missing_ones_are_black),
        cmocka_unit_test(an_animated_png_gives_its_still_picture),
        cmocka_unit_test(each_exif_orientation_is_turned_upright),
        cmocka_unit_test(a_photograph_lying_on_its_side_is_turned),
        cmocka_unit_test(a_jpeg_may_come_out_smaller_by_a_power_of_two),
        cmocka_unit_test(a_square_that_cannot_be_is_refused),
        cmocka_unit_test(other_formats_are_refused_by_name),
        cmocka_unit_test(the_golden_gif_and_bmp_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
