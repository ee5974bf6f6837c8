/* SPDX-License-Identifier: MIT */
/* safetensors_write.c - see safetensors_write.h. Values pass through f32 in pieces of some megabytes: exact for every
 * dtype that is stored, and the memory does not grow with the model. */
#include "models/safetensors_write.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "engine/base/half.h"

#define PIECE_ELEMENTS ((size_t)1 << 20)
#define ALIGN_BYTES    64 /* of the data in the file, so that a mapping's tensors can be used where they lie */

/* ---- pieces of a tensor ---- */

/* A scalar is one row. */
static size_t n_rows(const struct comma_tensor *t)
{
    return t->n_dims == 0 ? 1 : t->shape[0];
}

static size_t row_elements(const struct comma_tensor *t)
{
    return n_rows(t) == 0 ? 1 : comma_tensor_count(t) / n_rows(t);
}

static size_t piece_rows(const struct comma_tensor *t)
{
    const size_t row = row_elements(t);

    return row >= PIECE_ELEMENTS || row == 0 ? 1 : PIECE_ELEMENTS / row;
}

/* Rows first .. of t, a piece's worth, as f32; returns how many elements. */
static bool read_piece(const struct comma_tensor *t, size_t first, float *out, size_t *n, struct comma_error *err)
{
    const size_t left = n_rows(t) - first, rows = piece_rows(t) < left ? piece_rows(t) : left;
    const struct comma_tensor piece = t->n_dims == 0 ? *t : comma_tensor_rows(t, first, rows);

    *n = comma_tensor_count(&piece);
    return comma_tensor_to_f32(&piece, out, err);
}

/* Floats that the largest piece of items has. */
static size_t largest_piece(const struct comma_stored_tensor *items, size_t n)
{
    size_t most = 1;

    for (size_t i = 0; i < n; i++) {
        const struct comma_tensor *t = &items[i].view;
        const size_t rows = piece_rows(t) < n_rows(t) ? piece_rows(t) : n_rows(t), size = rows * row_elements(t);

        most = size > most ? size : most;
    }
    return most;
}

/* One value in its dtype and back. */
static float rounded(float x, enum comma_dtype dtype)
{
    if (dtype == COMMA_F16)
        return comma_f16_to_f32(comma_f32_to_f16(x));
    return dtype == COMMA_BF16 ? comma_bf16_to_f32(comma_f32_to_bf16(x)) : x;
}

/* Values to the bytes of dtype, in place: nothing becomes wider. */
static void pack(float *values, size_t n, enum comma_dtype dtype)
{
    uint16_t *halves = (uint16_t *)(void *)values;

    if (dtype == COMMA_F32)
        return;
    for (size_t i = 0; i < n; i++) {
        float x;
        uint16_t half;

        memcpy(&x, &values[i], sizeof(x));
        half = dtype == COMMA_F16 ? comma_f32_to_f16(x) : comma_f32_to_bf16(x);
        memcpy(&halves[i], &half, sizeof(half));
    }
}

/* ---- writing ---- */

static bool write_all(int fd, const char *path, const void *data, size_t size, struct comma_error *err)
{
    const unsigned char *p = data;

    while (size > 0) {
        const ssize_t n = write(fd, p, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return comma_fail(err, COMMA_E_IO, "%s: %s", path, strerror(errno));
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static size_t stored_bytes(const struct comma_stored_tensor *item)
{
    return comma_tensor_count(&item->view) * comma_dtype_bytes(item->dtype);
}

static bool add_entry(json_t *header, const struct comma_stored_tensor *item, size_t *at)
{
    json_t *shape = json_array();
    const size_t end = *at + stored_bytes(item);
    bool ok = shape != NULL;

    for (unsigned d = 0; ok && d < item->view.n_dims; d++)
        ok = json_array_append_new(shape, json_integer((json_int_t)item->view.shape[d])) == 0;
    ok = ok && json_object_set_new(header, item->name,
                                   json_pack("{s:s, s:O, s:[I, I]}", "dtype", comma_dtype_name(item->dtype), "shape",
                                             shape, "data_offsets", (json_int_t)*at, (json_int_t)end)) == 0;
    json_decref(shape);
    *at = end;
    return ok;
}

/* The header, padded with blanks. */
static bool write_header(int fd, const char *path, const struct comma_stored_tensor *items, size_t n,
                         struct comma_error *err)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    char *text = NULL, *padded = NULL;
    size_t at = 0, size, whole;
    uint64_t length;
    bool ok = header != NULL;

    for (size_t i = 0; ok && i < n; i++)
        ok = add_entry(header, &items[i], &at);
    if (ok)
        text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    size = text ? strlen(text) : 0;
    whole = (sizeof(length) + size + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    length = whole - sizeof(length);
    if (text)
        padded = malloc(whole);
    if (padded) {
        memset(padded, ' ', whole);
        memcpy(padded, &length, sizeof(length)); /* tensor.c asserts the byte order */
        memcpy(padded + sizeof(length), text, size);
        ok = write_all(fd, path, padded, whole, err);
    } else {
        ok = comma_fail(err, COMMA_E_NOMEM, "%s: out of memory for its header", path);
    }
    free(padded);
    free(text);
    return ok;
}

static bool check_values(const char *path, const struct comma_stored_tensor *item, const float *values, size_t n,
                         bool allow_nan, struct comma_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]) && !allow_nan)
            return comma_fail(err, COMMA_E_MODEL, "%s: %s holds %s; if that is meant, --allow-nan lets it pass", path,
                              comma_shown_name(item->name).text, isnan(values[i]) ? "NaN" : "an infinity");
        if (isfinite(values[i]) && !isfinite(rounded(values[i], item->dtype)))
            return comma_fail(err, COMMA_E_MODEL, "%s: %s holds %g, too large for %s; store it as bf16 or f32", path,
                              comma_shown_name(item->name).text, (double)values[i], comma_dtype_name(item->dtype));
    }
    return true;
}

static bool write_tensor(int fd, const char *path, const struct comma_stored_tensor *item, float *piece,
                         const struct comma_write_options *options, struct comma_error *err)
{
    const struct comma_tensor *t = &item->view;

    for (size_t row = 0; row < n_rows(t); row += piece_rows(t)) {
        size_t n, bytes;

        if (!read_piece(t, row, piece, &n, err) || !check_values(path, item, piece, n, options->allow_nan, err))
            return false;
        bytes = n * comma_dtype_bytes(item->dtype);
        pack(piece, n, item->dtype);
        if (!write_all(fd, path, piece, bytes, err) || (options->step && !options->step(options->user, bytes, err)))
            return false;
    }
    return true;
}

bool comma_safetensors_write(int fd, const char *path, const struct comma_stored_tensor *items, size_t n,
                             const struct comma_write_options *options, struct comma_error *err)
{
    float *piece = malloc(largest_piece(items, n) * sizeof(*piece));
    bool ok = piece || comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);

    ok = ok && write_header(fd, path, items, n, err);
    for (size_t i = 0; ok && i < n; i++)
        ok = write_tensor(fd, path, &items[i], piece, options, err);
    free(piece);
    return ok;
}

/* ---- reading back ---- */

static bool same_value(float stored, float wanted)
{
    return comma_bits_of_float(stored) == comma_bits_of_float(wanted) || (isnan(stored) && isnan(wanted));
}

static bool same_tensor(const struct comma_tensor *stored, const struct comma_stored_tensor *item, float *a, float *b)
{
    const struct comma_tensor *t = &item->view;
    size_t n, m;

    if (!stored || stored->dtype != item->dtype || !comma_tensor_has_shape(stored, t->n_dims, t->shape))
        return false;
    for (size_t row = 0; row < n_rows(t); row += piece_rows(t)) {
        if (!read_piece(stored, row, a, &n, NULL) || !read_piece(t, row, b, &m, NULL) || n != m)
            return false;
        for (size_t i = 0; i < n; i++)
            if (!same_value(a[i], rounded(b[i], item->dtype)))
                return false;
    }
    return true;
}

bool comma_safetensors_compare(const struct comma_tensors *stored, const char *path,
                               const struct comma_stored_tensor *items, size_t n, struct comma_error *err)
{
    const size_t room = largest_piece(items, n);
    float *piece = calloc(2 * room, sizeof(*piece));
    bool ok = piece || comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", path);

    if (ok && comma_tensors_size(stored) != n)
        ok = comma_fail(err, COMMA_E_IO, "%s: %zu tensors were written, but %zu are read back", path, n,
                        comma_tensors_size(stored));
    for (size_t i = 0; ok && i < n; i++)
        if (!same_tensor(comma_tensors_find(stored, items[i].name), &items[i], piece, piece + room))
            ok = comma_fail(err, COMMA_E_IO, "%s: %s is not read back as it was written; is the disk sound?", path,
                            comma_shown_name(items[i].name).text);
    free(piece);
    return ok;
}
