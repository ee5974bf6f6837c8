/* SPDX-License-Identifier: MIT */
/* preprocess.c - Pillow's bicubic resampling, bit for bit (SPEC 8.2, 8.3).
 *
 * A resize is separable: each output column is a weighted sum of a few input columns, then each output row of a few of
 * those rows. Weights are made in double, in Pillow's order of operations, then rounded to 22 binary places; this file
 * is compiled without contraction to fused multiply-adds, which would round otherwise. The sums are integers, so how
 * the kernels order them does not matter.
 *
 * The horizontal pass is always the first, as in the Pillow of the authors and of all before 13. Pillow 13 runs the
 * vertical one first for some tall pictures, where its bytes may differ from these by one level.
 *
 * Only what the centre square keeps is computed: its columns in the first pass, and in that pass only the rows that
 * the second one reads. So cost is bounded by the picture itself, however long and thin it is. */
#include "engine/preprocess.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/kernels/kernels.h"

#define PRECISION_BITS 22

/* One direction: n_in input pixels become n_full, of which n_out from offset on are kept. */
struct axis {
    size_t n_in, n_full, offset, n_out;
    bool same;         /* n_in == n_full: no resampling, only the cut */
    size_t max_count;  /* weights a kept pixel has room for */
    int32_t *weights;  /* [n_out, max_count] */
    uint32_t *first;   /* [n_out] input pixel of the first weight */
    uint32_t *count;   /* [n_out] weights in use */
    size_t begin, end; /* input pixels that are read at all */
};

/* Keys' cubic with a = -0.5, in Pillow's order. */
static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/* Half of the difference, halves to even: differences of 1, 3, 5, 7 give 0, 2, 2, 4. */
static size_t crop_offset(size_t n_full, size_t n_out)
{
    const size_t difference = n_full - n_out;
    const size_t half = difference / 2;

    return difference % 2 == 0 ? half : half + half % 2;
}

/* Weights of kept pixel i; row is scratch of max_count doubles. */
static void make_weights(struct axis *a, size_t i, double *row)
{
    const double scale = (double)a->n_in / (double)a->n_full;
    const double filter_scale = scale < 1.0 ? 1.0 : scale;
    const double support = 2.0 * filter_scale, inverse = 1.0 / filter_scale;
    const double center = ((double)(a->offset + i) + 0.5) * scale;
    const double low = center - support + 0.5, high = center + support + 0.5;
    const size_t first = low > 0 ? (size_t)low : 0;
    const size_t end = high < (double)a->n_in ? (size_t)high : a->n_in;
    int32_t *weights = a->weights + i * a->max_count;
    double sum = 0.0;

    for (size_t j = 0; j < end - first; j++) {
        row[j] = bicubic(((double)(first + j) - center + 0.5) * inverse);
        sum += row[j];
    }
    for (size_t j = 0; j < end - first; j++) {
        const double w = (sum != 0.0 ? row[j] / sum : row[j]) * (1 << PRECISION_BITS);

        weights[j] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
    a->first[i] = (uint32_t)first;
    a->count[i] = (uint32_t)(end - first);
}

static void axis_finish(struct axis *a)
{
    free(a->weights);
    free(a->first);
    free(a->count);
}

/* On failure too what it holds is axis_finish()'s. */
static bool axis_init(struct axis *a, size_t n_in, size_t n_full, size_t n_out, struct comma_error *err)
{
    double *row = NULL;
    size_t n_weights;
    bool ok = false;

    *a = (struct axis){ .n_in = n_in, .n_full = n_full, .n_out = n_out, .same = n_in == n_full };
    a->offset = crop_offset(n_full, n_out);
    a->begin = a->offset;
    a->end = a->offset + n_out;
    if (a->same)
        return true;
    a->max_count = (size_t)ceil(2.0 * fmax((double)n_in / (double)n_full, 1.0)) * 2 + 1;
    if (!comma_mul(n_out, a->max_count, &n_weights))
        goto out;
    a->weights = calloc(n_weights, sizeof(*a->weights));
    a->first = calloc(n_out, sizeof(*a->first));
    a->count = calloc(n_out, sizeof(*a->count));
    row = calloc(a->max_count, sizeof(*row));
    if (!a->weights || !a->first || !a->count || !row)
        goto out;
    for (size_t i = 0; i < n_out; i++)
        make_weights(a, i, row);
    a->begin = a->first[0];
    a->end = a->first[n_out - 1] + a->count[n_out - 1];
    ok = true;
out:
    free(row);
    return ok || comma_fail(err, COMMA_E_NOMEM, "out of memory while resizing the image");
}

/* Rows begin to end of the vertical axis, each cut or resized to the kept columns.
 *   out  [y->end - y->begin, x->n_out, 3] */
static void resize_rows(const struct comma_image *image, const struct axis *x, const struct axis *y, unsigned char *out)
{
    const struct comma_resize_rows r = { .out = out,
                                         .in = image->pixels + 3 * image->width * y->begin,
                                         .out_stride = 3 * x->n_out,
                                         .in_stride = 3 * image->width,
                                         .n_rows = y->end - y->begin,
                                         .weights = x->weights,
                                         .max_count = x->max_count,
                                         .n_out = x->n_out,
                                         .first = x->first,
                                         .count = x->count };

    if (!x->same) {
        comma_kernels()->resize_horizontal(&r);
        return;
    }
    for (size_t row = 0; row < r.n_rows; row++)
        memcpy(out + row * r.out_stride, r.in + row * r.in_stride + 3 * x->offset, r.out_stride);
}

static void resize_columns(const unsigned char *rows, const struct axis *y, size_t row_bytes, unsigned char *out)
{
    const struct comma_kernels *k = comma_kernels();

    for (size_t i = 0; i < y->n_out; i++)
        k->resize_vertical(out + i * row_bytes, rows + (y->first[i] - y->begin) * row_bytes, row_bytes,
                           y->weights + i * y->max_count, y->count[i], row_bytes);
}

/* First pass into the rows that the second one needs, or straight into the result where there is none. */
static bool resize(const struct comma_image *image, const struct axis *x, const struct axis *y, unsigned char *out,
                   struct comma_error *err)
{
    const size_t row_bytes = 3 * x->n_out;
    unsigned char *rows;

    if (y->same) {
        resize_rows(image, x, y, out);
        return true;
    }
    rows = malloc((y->end - y->begin) * row_bytes);
    if (!rows)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while resizing the image");
    resize_rows(image, x, y, rows);
    resize_columns(rows, y, row_bytes, out);
    free(rows);
    return true;
}

bool comma_preprocess_square(const struct comma_image *image, size_t size_px, unsigned char *out,
                             struct comma_error *err)
{
    const bool upright = image->width <= image->height;
    const size_t shorter = upright ? image->width : image->height, longer = upright ? image->height : image->width;
    struct axis x = { 0 }, y = { 0 };
    size_t full;
    bool ok = false;

    if (!comma_mul(size_px, longer, &full))
        return comma_fail(err, COMMA_E_LIMIT, "the image of %zu x %zu pixels is too long and thin to be resized",
                          image->width, image->height);
    full /= shorter;
    if (axis_init(&x, image->width, upright ? size_px : full, size_px, err) &&
        axis_init(&y, image->height, upright ? full : size_px, size_px, err))
        ok = resize(image, &x, &y, out, err);
    axis_finish(&x);
    axis_finish(&y);
    return ok;
}

void comma_preprocess_normalise(const unsigned char *rgb, size_t size_px, const float mean[3], const float std[3],
                                float *out)
{
    const size_t pixels = size_px * size_px;

    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < pixels; i++)
            out[c * pixels + i] = ((float)rgb[3 * i + c] / 255.0f - mean[c]) / std[c];
}
