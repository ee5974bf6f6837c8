/* SPDX-License-Identifier: MIT */
/* image_jpeg.c - JPEG by libjpeg-turbo, which this file alone includes: the decoder that Pillow uses, set as Pillow
 * sets it (accurate integer DCT, smooth chroma upsampling), so that pixels are equal to the last bit.
 *
 * Also as in Pillow: damage that the decoder can repair is not an error, a file that ends too early is. What Pillow
 * does not do: sizes, memory and the number of scans are limited, since a few hundred kilobytes of empty scans keep a
 * decoder busy for seconds. */
#include "engine/image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "engine/base/checked.h"

/* ---- libjpeg's hooks: it knows errors as a jump, and a source as callbacks ---- */

struct decoder {
    struct jpeg_decompress_struct jpeg; /* first: hooks get a pointer to it */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct jpeg_source_mgr source;
    jmp_buf failed;
    unsigned max_scans;
    bool too_many_scans, cut_short;
    unsigned char *pixels; /* [height, width, 3] */
    unsigned char *row;    /* [width, 4], for CMYK only */
};

/* The message stays inside: libjpeg's own text never goes out. */
static void on_error(j_common_ptr jpeg)
{
    longjmp(((struct decoder *)jpeg)->failed, 1);
}

static void on_message(j_common_ptr jpeg, int level)
{
    (void)jpeg;
    (void)level;
}

static void on_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void on_progress(j_common_ptr jpeg)
{
    struct decoder *d = (struct decoder *)jpeg;

    if (d->jpeg.input_scan_number > 0 && (unsigned)d->jpeg.input_scan_number > d->max_scans) {
        d->too_many_scans = true;
        longjmp(d->failed, 1);
    }
}

static void on_source_event(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

/* All bytes were there from the start, so whoever asks for more has been promised a longer file. */
static boolean on_source_empty(j_decompress_ptr jpeg)
{
    struct decoder *d = (struct decoder *)jpeg;

    d->cut_short = true;
    longjmp(d->failed, 1);
}

static void on_source_skip(j_decompress_ptr jpeg, long n)
{
    struct jpeg_source_mgr *source = jpeg->src;

    if (n <= 0)
        return;
    if ((size_t)n > source->bytes_in_buffer)
        on_source_empty(jpeg);
    source->next_input_byte += n;
    source->bytes_in_buffer -= (size_t)n;
}

static void start(struct decoder *d, struct comma_bytes file, unsigned max_scans)
{
    d->max_scans = max_scans;
    d->progress.progress_monitor = on_progress;
    d->source = (struct jpeg_source_mgr){ .next_input_byte = file.data,
                                          .bytes_in_buffer = file.size,
                                          .init_source = on_source_event,
                                          .fill_input_buffer = on_source_empty,
                                          .skip_input_data = on_source_skip,
                                          .resync_to_restart = jpeg_resync_to_restart,
                                          .term_source = on_source_event };
    jpeg_create_decompress(&d->jpeg);
    d->jpeg.progress = &d->progress;
    d->jpeg.src = &d->source;
}

/* ---- from header to pixels ---- */

/* The smallest of 1, 1/2, 1/4, 1/8 that keeps both sides at min_side_px; libjpeg rounds sides up. */
static unsigned scale_denominator(size_t width, size_t height, size_t min_side_px)
{
    const size_t side = width < height ? width : height;
    unsigned denominator = 1;

    if (min_side_px == 0)
        return 1;
    while (denominator < 8 && (side + 2 * denominator - 1) / (2 * denominator) >= min_side_px)
        denominator *= 2;
    return denominator;
}

/* Asks libjpeg for RGB, or for CMYK as it knows no way from there to RGB. */
static bool choose_output(struct decoder *d, size_t min_side_px, const struct comma_image_limits *limits,
                          struct comma_error *err)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    size_t bytes;

    if (jpeg->num_components == 4)
        jpeg->out_color_space = JCS_CMYK;
    else
        jpeg->out_color_space = JCS_RGB;
    jpeg->scale_num = 1;
    jpeg->scale_denom = scale_denominator(jpeg->image_width, jpeg->image_height, min_side_px);
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    jpeg_calc_output_dimensions(jpeg);
    if (!comma_mul(jpeg->output_width, jpeg->output_height, &bytes) || !comma_mul(bytes, 3, &bytes) ||
        bytes >= limits->max_decode_bytes)
        return comma_image_fail_memory(jpeg->image_width, jpeg->image_height, limits, err);
    /* What is left of the memory may hold the coefficients of a progressive file; beyond it libjpeg would want a
     * temporary file, and fails since it is built without them. */
    jpeg->mem->max_memory_to_use = (long)(limits->max_decode_bytes - bytes);
    d->pixels = malloc(bytes);
    d->row = jpeg->out_color_space == JCS_CMYK ? malloc(4 * (size_t)jpeg->output_width) : NULL;
    if (!d->pixels || (jpeg->out_color_space == JCS_CMYK && !d->row))
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while decoding the image");
    return true;
}

/* Ink as Adobe stores it, inverted, times black, to light (SPEC 8.1). Pillow takes every CMYK file for Adobe's. */
static void cmyk_to_rgb(const unsigned char *cmyk, unsigned char *rgb, size_t width)
{
    for (size_t x = 0; x < width; x++, cmyk += 4, rgb += 3)
        for (size_t c = 0; c < 3; c++) {
            const unsigned t = (unsigned)cmyk[3] * cmyk[c] + 128;

            rgb[c] = (unsigned char)(((t >> 8) + t) >> 8);
        }
}

static void read_rows(struct decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;

    while (jpeg->output_scanline < jpeg->output_height) {
        unsigned char *rgb = d->pixels + 3 * (size_t)jpeg->output_width * jpeg->output_scanline;
        JSAMPROW row = d->row ? d->row : rgb;

        if (jpeg_read_scanlines(jpeg, &row, 1) == 1 && d->row)
            cmyk_to_rgb(d->row, rgb, jpeg->output_width);
    }
}

static bool fail_decode(const struct decoder *d, const struct comma_image_limits *limits, struct comma_error *err)
{
    if (d->cut_short)
        return comma_fail(err, COMMA_E_INPUT, "the JPEG is cut short; is the upload complete?");
    if (d->too_many_scans)
        return comma_fail(err, COMMA_E_LIMIT, "the JPEG has more than %u scans", d->max_scans);
    switch (d->errors.msg_code) {
    case JERR_OUT_OF_MEMORY:
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while decoding the image");
    case JERR_IMAGE_TOO_BIG:
        return comma_fail(err, COMMA_E_LIMIT, "the JPEG has a side of more than %ld pixels", JPEG_MAX_DIMENSION);
    case JERR_NO_BACKING_STORE:
        return comma_image_fail_memory(d->jpeg.image_width, d->jpeg.image_height, limits, err);
    case JERR_EMPTY_IMAGE:
        return comma_fail(err, COMMA_E_INPUT, "the JPEG has a side of 0 pixels");
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
        return comma_fail(err, COMMA_E_FORMAT,
                          "the JPEG is lossless, hierarchical or of more than 8 bits; baseline and "
                          "progressive JPEG are read");
    default:
        return comma_fail(err, COMMA_E_INPUT, "the JPEG is broken and cannot be decoded");
    }
}

/* Apart from the function that owns *d, whose fields a jump would otherwise leave undefined. */
static bool run(struct decoder *d, struct comma_bytes file, const struct comma_image_limits *limits, size_t min_side_px,
                struct comma_error *err)
{
    if (setjmp(d->failed) != 0)
        return fail_decode(d, limits, err);
    start(d, file, limits->max_scans);
    jpeg_read_header(&d->jpeg, TRUE);
    if (!comma_image_check_size(d->jpeg.image_width, d->jpeg.image_height, limits, err) ||
        !choose_output(d, min_side_px, limits, err))
        return false;
    jpeg_start_decompress(&d->jpeg);
    read_rows(d);
    jpeg_finish_decompress(&d->jpeg); /* reads on to the end marker: without it the file is cut short */
    return true;
}

bool comma_image_decode_jpeg(struct comma_bytes file, const struct comma_image_limits *limits, size_t min_side_px,
                             struct comma_image *out, struct comma_error *err)
{
    struct decoder d = { 0 };
    bool ok;

    d.jpeg.err = jpeg_std_error(&d.errors);
    d.errors.error_exit = on_error;
    d.errors.emit_message = on_message;
    d.errors.output_message = on_output;
    ok = run(&d, file, limits, min_side_px, err);
    if (ok) {
        *out = (struct comma_image){ d.jpeg.output_width, d.jpeg.output_height, d.pixels };
        d.pixels = NULL;
    }
    jpeg_destroy_decompress(&d.jpeg);
    free(d.row);
    free(d.pixels);
    return ok;
}
