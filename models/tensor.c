/* SPDX-License-Identifier: MIT */
/* tensor.c - see tensor.h. Strided views are walked as an odometer; what is contiguous goes in one run. */
#include "models/tensor.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/half.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights are little-endian and used where they lie");

static const struct {
    const char *name;
    unsigned char bytes;
} dtypes[COMMA_N_DTYPES] = {
    [COMMA_F32] = { "F32", 4 }, [COMMA_F16] = { "F16", 2 },   [COMMA_BF16] = { "BF16", 2 }, [COMMA_F64] = { "F64", 8 },
    [COMMA_I64] = { "I64", 8 }, [COMMA_I32] = { "I32", 4 },   [COMMA_I16] = { "I16", 2 },   [COMMA_I8] = { "I8", 1 },
    [COMMA_U8] = { "U8", 1 },   [COMMA_BOOL] = { "BOOL", 1 },
};

size_t comma_dtype_bytes(enum comma_dtype dtype)
{
    return dtypes[dtype].bytes;
}

const char *comma_dtype_name(enum comma_dtype dtype)
{
    return dtypes[dtype].name;
}

bool comma_dtype_is_float(enum comma_dtype dtype)
{
    return dtype == COMMA_F32 || dtype == COMMA_F16 || dtype == COMMA_BF16 || dtype == COMMA_F64;
}

size_t comma_tensor_count(const struct comma_tensor *t)
{
    size_t n = 1;

    for (unsigned i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

bool comma_tensor_contiguous(const struct comma_tensor *t)
{
    size_t expected = 1;

    if (comma_tensor_count(t) == 0)
        return true;
    for (unsigned i = t->n_dims; i-- > 0;) {
        if (t->shape[i] != 1 && t->strides[i] != expected)
            return false;
        expected *= t->shape[i];
    }
    return true;
}

const char *comma_tensor_shape_text(const struct comma_tensor *t, char *out, size_t size)
{
    size_t used = 0;

    if (size == 0)
        return out;
    out[0] = '\0';
    for (unsigned i = 0; i <= t->n_dims && used < size; i++) {
        const size_t room = size - used;
        int n;

        if (i == t->n_dims)
            n = snprintf(out + used, room, i == 0 ? "[]" : "]");
        else
            n = snprintf(out + used, room, "%s%zu", i == 0 ? "[" : ", ", t->shape[i]);
        used += n > 0 ? (size_t)n : room;
    }
    return out;
}

bool comma_tensor_has_shape(const struct comma_tensor *t, unsigned n_dims, const size_t *shape)
{
    return t->n_dims == n_dims && (n_dims == 0 || memcmp(t->shape, shape, n_dims * sizeof(*shape)) == 0);
}

const float *comma_tensor_as_f32(const struct comma_tensor *t)
{
    if (t->dtype != COMMA_F32 || (uintptr_t)t->data % _Alignof(float) != 0 || !comma_tensor_contiguous(t))
        return NULL;
    return (const float *)(const void *)t->data;
}

/* n elements, stride elements apart. The loops are apart so that each has one conversion. */
static void run_to_f32(enum comma_dtype dtype, const unsigned char *from, size_t stride, size_t n, float *out)
{
    const size_t step = stride * comma_dtype_bytes(dtype);
    uint16_t half;
    double wide;

    switch (dtype) {
    case COMMA_F32:
        if (stride == 1)
            memcpy(out, from, n * sizeof(*out));
        else
            for (size_t i = 0; i < n; i++)
                memcpy(out + i, from + i * step, sizeof(*out));
        break;
    case COMMA_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, from + i * step, sizeof(half));
            out[i] = comma_f16_to_f32(half);
        }
        break;
    case COMMA_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, from + i * step, sizeof(half));
            out[i] = comma_bf16_to_f32(half);
        }
        break;
    case COMMA_F64:
        for (size_t i = 0; i < n; i++) {
            memcpy(&wide, from + i * step, sizeof(wide));
            out[i] = (float)wide;
        }
        break;
    default:
        assert(comma_dtype_is_float(dtype)); /* to_f32 refused all others */
    }
}

/* Advances index over the dimensions before the last; false after the last row. */
static bool next_row(const struct comma_tensor *t, size_t *index, size_t *offset)
{
    for (unsigned d = t->n_dims - 1; d-- > 0;) {
        *offset += t->strides[d];
        if (++index[d] < t->shape[d])
            return true;
        *offset -= t->strides[d] * t->shape[d];
        index[d] = 0;
    }
    return false;
}

bool comma_tensor_to_f32(const struct comma_tensor *t, float *out, struct comma_error *err)
{
    const size_t count = comma_tensor_count(t), element = comma_dtype_bytes(t->dtype);
    size_t index[COMMA_MAX_DIMS] = { 0 }, offset = 0, row;

    if (!comma_dtype_is_float(t->dtype))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s cannot be a weight; F32, F16, BF16 and F64 can",
                          comma_shown_name(t->name).text, comma_dtype_name(t->dtype));
    if (count == 0)
        return true;
    if (comma_tensor_contiguous(t)) {
        run_to_f32(t->dtype, t->data, 1, count, out);
        return true;
    }
    row = t->shape[t->n_dims - 1]; /* not contiguous, so it has a dimension */
    do {
        run_to_f32(t->dtype, t->data + offset * element, t->strides[t->n_dims - 1], row, out);
        out += row;
    } while (next_row(t, index, &offset));
    return true;
}

struct comma_tensor comma_tensor_rows(const struct comma_tensor *t, size_t first, size_t n)
{
    struct comma_tensor view = *t;

    assert(t->n_dims >= 1 && first <= t->shape[0] && n <= t->shape[0] - first);
    view.shape[0] = n;
    view.data += first * t->strides[0] * comma_dtype_bytes(t->dtype);
    return view;
}

struct comma_tensor comma_tensor_transposed(const struct comma_tensor *t)
{
    struct comma_tensor view = *t;

    assert(t->n_dims == 2);
    view.shape[0] = t->shape[1];
    view.shape[1] = t->shape[0];
    view.strides[0] = t->strides[1];
    view.strides[1] = t->strides[0];
    return view;
}

struct comma_shown_name comma_shown_name(const char *name)
{
    struct comma_shown_name shown;
    size_t n = 0;

    for (; name[n] && n < sizeof(shown.text) - 4; n++)
        shown.text[n] = (unsigned char)name[n] < 0x20 || name[n] == 0x7F ? '?' : name[n];
    if (name[n]) {
        while (n > 0 && ((unsigned char)name[n] & 0xC0) == 0x80) /* not inside a character */
            n--;
        memcpy(shown.text + n, "...", 3);
        n += 3;
    }
    shown.text[n] = '\0';
    return shown;
}
