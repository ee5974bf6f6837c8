/* SPDX-License-Identifier: MIT */
/* torch_pickle.c - any bytes as the pickle of a sound archive, so that a mutation is not stopped by the checksum: the
 * state dict or tree of modules, its tensors, their storages. Of what is accepted every element is read. */
#include <stdlib.h>
#include <string.h>

#include "models/gzip.h"
#include "models/torch_file.h"
#include "tests/fuzz/fuzz.h"

#define N_STORAGES    3
#define STORAGE_BYTES 64

struct archive {
    uint8_t *data;
    size_t size;
    uint8_t directory[1024];
    size_t directory_size;
    unsigned n_entries;
};

static uint8_t *put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

static uint8_t *put32(uint8_t *p, size_t v)
{
    return put16(put16(p, (unsigned)v & 0xFFFF), (unsigned)(v >> 16) & 0xFFFF);
}

/* Checksum, both sizes, length of the name and of the extra field. */
static uint8_t *put_sizes(uint8_t *p, uint32_t crc, size_t size, const char *name)
{
    return put16(put16(put32(put32(put32(p, crc), size), size), (unsigned)strlen(name)), 0);
}

/* A stored entry: its local header and data, and its line in the directory. */
static void add(struct archive *a, const char *name, const uint8_t *data, size_t size)
{
    const uint32_t crc = comma_crc32((struct comma_bytes){ data, size });
    uint8_t *p = a->data + a->size, *d = a->directory + a->directory_size;

    d = put16(put16(put32(d, 0x02014b50), 20), 20);
    d = put32(put16(put16(d, 0), 0), 0x00210000); /* flags, stored, the first day there is */
    d = put_sizes(d, crc, size, name);
    d = put32(put32(put16(put16(put16(d, 0), 0), 0), 0), a->size); /* no comment, disk 0, attributes, where */
    d = (uint8_t *)mempcpy(d, name, strlen(name));
    a->directory_size = (size_t)(d - a->directory);
    p = put32(put16(put16(put16(put32(p, 0x04034b50), 20), 0), 0), 0x00210000);
    p = put_sizes(p, crc, size, name);
    p = (uint8_t *)mempcpy(p, name, strlen(name));
    if (size > 0)
        memcpy(p, data, size);
    a->size = (size_t)(p - a->data) + size;
    a->n_entries++;
}

static void finish(struct archive *a)
{
    uint8_t *p = a->data + a->size;
    const size_t at = a->size;

    p = (uint8_t *)mempcpy(p, a->directory, a->directory_size);
    p = put32(put32(p, 0x06054b50), 0);
    p = put16(put32(put32(put16(put16(p, a->n_entries), a->n_entries), a->directory_size), at), 0);
    a->size = (size_t)(p - a->data);
}

static void read_all(const struct comma_tensors *ts)
{
    struct comma_error err;

    for (size_t i = 0; i < comma_tensors_size(ts); i++) {
        const struct comma_tensor *t = comma_tensors_at(ts, i);
        float *out = malloc((comma_tensor_count(t) + 1) * sizeof(*out));

        if (out && comma_dtype_is_float(t->dtype) && !comma_tensor_to_f32(t, out, &err))
            abort();
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[N_STORAGES] = { "m/data/0", "m/data/1", "m/data/2" };
    const uint8_t storage[STORAGE_BYTES] = { 1, 2, 3 };
    struct archive a = { .data = malloc(size + 4096) };
    struct comma_tensors *ts = NULL;
    struct comma_error err = { 0 };
    uint8_t *exact;

    if (!a.data)
        return 0;
    add(&a, "m/data.pkl", data, size);
    for (size_t i = 0; i < N_STORAGES; i++)
        add(&a, names[i], storage, STORAGE_BYTES);
    finish(&a);
    exact = realloc(a.data, a.size); /* so that a read behind it is seen */
    if (exact)
        a.data = exact;
    if (comma_torch_parse((struct comma_bytes){ a.data, a.size }, "fuzz", &ts, &err))
        read_all(ts);
    else if (!err.message[0] || strstr(err.message, "zip archive cannot be read"))
        abort(); /* the archive itself is sound */
    comma_tensors_close(ts);
    free(a.data);
    return 0;
}
