/* SPDX-License-Identifier: MIT */
/* safetensors.c - see safetensors.h.
 *
 * u64 header length, the header, the data. Everything a header claims is compared with the file before it is used:
 * entries are sorted by their offsets and must tile the data from its first byte to its last. */
#include "models/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "models/json.h"
#include "models/tensor_list.h"

#define MAX_HEADER_BYTES  (16 << 20)
#define MAX_HEADER_VALUES (COMMA_MAX_TENSORS * 20) /* an entry of 8 dimensions has 14 */

/* What is being read. */
struct source {
    const char *name;
    const unsigned char *data; /* behind the header */
    size_t data_size;
};

/* A tensor of the header; its bytes are begin .. end of the data. */
struct entry {
    const char *name; /* the JSON's */
    size_t begin, end;
    struct comma_tensor tensor;
};

static uint64_t load_le64(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v)); /* tensor.c asserts the byte order */
    return v;
}

/* A non-negative integer; false for all else. */
static bool get_size(const json_t *json, size_t *out)
{
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return false;
    *out = (size_t)json_integer_value(json);
    return true;
}

static bool parse_dtype(const struct source *src, const char *name, const json_t *json, enum comma_dtype *out,
                        struct comma_error *err)
{
    const char *text = json_string_value(json);

    if (!text)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s has no dtype", src->name, comma_shown_name(name).text);
    for (int i = 0; i < COMMA_N_DTYPES; i++)
        if (strcmp(text, comma_dtype_name((enum comma_dtype)i)) == 0) {
            *out = (enum comma_dtype)i;
            return true;
        }
    return comma_fail(err, COMMA_E_MODEL, "%s: %s has the unknown dtype %s", src->name, comma_shown_name(name).text,
                      comma_shown_name(text).text);
}

/* Shape into e->tensor, and the bytes it takes. */
static bool parse_shape(const struct source *src, const json_t *json, struct entry *e, size_t *bytes,
                        struct comma_error *err)
{
    size_t total = comma_dtype_bytes(e->tensor.dtype), zero = 0;

    if (!json_is_array(json))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s has no shape", src->name, comma_shown_name(e->name).text);
    if (json_array_size(json) > COMMA_MAX_DIMS)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s has %zu dimensions; at most %d are read", src->name,
                          comma_shown_name(e->name).text, json_array_size(json), COMMA_MAX_DIMS);
    e->tensor.n_dims = (unsigned)json_array_size(json);
    for (unsigned i = 0; i < e->tensor.n_dims; i++) {
        size_t *dim = &e->tensor.shape[i];

        if (!get_size(json_array_get(json, i), dim))
            return comma_fail(err, COMMA_E_MODEL, "%s: the shape of %s is not a list of sizes", src->name,
                              comma_shown_name(e->name).text);
        /* Zeros are left out of the product: [2^40, 2^40, 0] must overflow as torch's own count does. */
        zero |= *dim == 0;
        if (*dim != 0 && !comma_mul(total, *dim, &total))
            return comma_fail(err, COMMA_E_MODEL, "%s: the shape of %s is too large", src->name,
                              comma_shown_name(e->name).text);
    }
    *bytes = zero ? 0 : total;
    return true;
}

static bool parse_offsets(const struct source *src, const json_t *json, size_t bytes, struct entry *e,
                          struct comma_error *err)
{
    const char *name = e->name;
    char shape[160];

    if (json_array_size(json) != 2 || !get_size(json_array_get(json, 0), &e->begin) ||
        !get_size(json_array_get(json, 1), &e->end))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s: data_offsets must be two sizes", src->name,
                          comma_shown_name(name).text);
    if (e->end < e->begin)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s: data_offsets end before they begin", src->name,
                          comma_shown_name(name).text);
    if (e->end > src->data_size)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s lies past the end of the file; is the download complete?",
                          src->name, comma_shown_name(name).text);
    if (e->end - e->begin != bytes)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s has %zu bytes, but its shape %s of %s takes %zu", src->name,
                          comma_shown_name(name).text, e->end - e->begin,
                          comma_tensor_shape_text(&e->tensor, shape, sizeof(shape)), comma_dtype_name(e->tensor.dtype),
                          bytes);
    e->tensor.data = src->data + e->begin;
    return true;
}

static bool parse_entry(const struct source *src, const char *name, const json_t *json, struct entry *e,
                        struct comma_error *err)
{
    size_t bytes = 0;

    *e = (struct entry){ .name = name };
    if (!json_is_object(json))
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is not described by an object", src->name,
                          comma_shown_name(name).text);
    if (!parse_dtype(src, name, json_object_get(json, "dtype"), &e->tensor.dtype, err) ||
        !parse_shape(src, json_object_get(json, "shape"), e, &bytes, err) ||
        !parse_offsets(src, json_object_get(json, "data_offsets"), bytes, e, err))
        return false;
    comma_tensor_set_strides(&e->tensor);
    return true;
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) /* an empty tensor stands before the one that begins at its place */
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorted entries must follow one another without gap or overlap. */
static bool check_tiling(const struct source *src, const struct entry *entries, size_t n, struct comma_error *err)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if (entries[i].begin < at)
            return comma_fail(err, COMMA_E_MODEL, "%s: %s overlaps %s", src->name,
                              comma_shown_name(entries[i].name).text, comma_shown_name(entries[i - 1].name).text);
        if (entries[i].begin > at)
            return comma_fail(err, COMMA_E_MODEL, "%s: %zu bytes before %s belong to no tensor", src->name,
                              entries[i].begin - at, comma_shown_name(entries[i].name).text);
        at = entries[i].end;
    }
    if (at != src->data_size)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu bytes at the end belong to no tensor", src->name,
                          src->data_size - at);
    return true;
}

static bool parse_header(const struct source *src, json_t *header, struct comma_tensors *ts, struct comma_error *err)
{
    struct entry *entries = calloc(json_object_size(header) + 1, sizeof(*entries));
    const char *name;
    json_t *value;
    size_t n = 0;
    bool ok = false;

    if (!entries)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", src->name);
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (n == COMMA_MAX_TENSORS) {
            comma_fail(err, COMMA_E_MODEL, "%s: more than %d tensors", src->name, COMMA_MAX_TENSORS);
            goto out;
        }
        if (!parse_entry(src, name, value, &entries[n++], err))
            goto out;
    }
    qsort(entries, n, sizeof(*entries), compare_entries);
    if (!check_tiling(src, entries, n, err))
        goto out;
    for (size_t i = 0; i < n; i++)
        if (!comma_tensors_add(ts, entries[i].name, &entries[i].tensor, err))
            goto out;
    ok = comma_tensors_seal(ts, err);
out:
    free(entries);
    return ok;
}

static bool parse_into(struct comma_bytes file, const char *name, struct comma_tensors *ts, struct comma_error *err)
{
    const struct comma_json_limits limits = { MAX_HEADER_BYTES, 8, MAX_HEADER_VALUES };
    struct source src = { .name = name };
    json_t *header = NULL;
    uint64_t size;
    bool ok;

    if (file.size < 8)
        return comma_fail(err, COMMA_E_MODEL, "%s: %zu bytes are no safetensors file", name, file.size);
    size = load_le64(file.data);
    if (size > file.size - 8)
        return comma_fail(err, COMMA_E_MODEL,
                          "%s: the header runs past the end; is this safetensors, and the download complete?", name);
    if (size > MAX_HEADER_BYTES)
        return comma_fail(err, COMMA_E_MODEL, "%s: a header of %llu bytes; at most %d are read", name,
                          (unsigned long long)size, MAX_HEADER_BYTES);
    src.data = file.data + 8 + size;
    src.data_size = file.size - 8 - (size_t)size;
    ok = comma_json_parse((struct comma_text){ (const char *)file.data + 8, (size_t)size }, name, limits, &header,
                          err) &&
         parse_header(&src, header, ts, err);
    json_decref(header);
    return ok;
}

bool comma_safetensors_parse(struct comma_bytes file, const char *name, struct comma_tensors **out,
                             struct comma_error *err)
{
    struct comma_tensors *ts = NULL;

    if (!comma_tensors_create(name, &ts, err))
        return false;
    if (!parse_into(file, name, ts, err)) {
        comma_tensors_close(ts);
        return false;
    }
    *out = ts;
    return true;
}

bool comma_safetensors_open(const char *path, struct comma_tensors **out, struct comma_error *err)
{
    struct comma_tensors *ts = NULL;
    struct comma_map map = { 0 };

    if (!comma_map_open(&map, path, err))
        return false;
    if (!comma_safetensors_parse((struct comma_bytes){ map.data, map.size }, path, &ts, err)) {
        comma_map_close(&map);
        return false;
    }
    if (!comma_tensors_own_map(ts, map, err)) {
        comma_tensors_close(ts);
        return false;
    }
    *out = ts;
    return true;
}
