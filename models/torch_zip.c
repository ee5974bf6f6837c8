/* SPDX-License-Identifier: MIT */
/* torch_zip.c - see torch_zip.h.
 *
 * libzip reads the directory, through a source of ours over the file in memory. It does not tell where an entry's data
 * begins, but our source sees where it reads: one byte is read through libzip, and the rest is used in place. */
#include "models/torch_zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zip.h>

#include "engine/base/checked.h"
#include "models/gzip.h"
#include "models/tensor.h"

#define MAX_ENTRIES 100000 /* one a storage: bigG with its optimizer has 6,000 */

struct comma_torch_zip {
    const char *name;
    struct comma_bytes file;
    zip_t *zip;
    char root[256];              /* with a slash behind */
    struct comma_bytes *entries; /* [n] by index; data NULL until asked for */
    size_t n;
    size_t total; /* bytes of the entries asked for: overlapping ones would make their checksums cost too much */
    /* The source's state. */
    uint64_t at;       /* where it reads next */
    uint64_t last_at;  /* where its last read began */
    zip_error_t error; /* libzip's, for the source */
};

/* ---- libzip's source ---- */

static zip_int64_t source_read(struct comma_torch_zip *z, void *data, uint64_t size)
{
    const uint64_t left = z->file.size - z->at, n = size < left ? size : left;

    z->last_at = z->at;
    if (n > 0)
        memcpy(data, z->file.data + z->at, n);
    z->at += n;
    return (zip_int64_t)n;
}

static zip_int64_t source_seek(struct comma_torch_zip *z, void *data, uint64_t size)
{
    const zip_int64_t at = zip_source_seek_compute_offset(z->at, z->file.size, data, size, &z->error);

    if (at < 0)
        return -1;
    z->at = (uint64_t)at;
    return 0;
}

static zip_int64_t source_stat(const struct comma_torch_zip *z, void *data)
{
    zip_stat_t *st = data;

    zip_stat_init(st);
    st->size = z->file.size;
    st->valid |= ZIP_STAT_SIZE;
    return sizeof(*st);
}

static zip_int64_t source(void *user, void *data, zip_uint64_t size, zip_source_cmd_t command)
{
    struct comma_torch_zip *z = user;

    switch (command) {
    case ZIP_SOURCE_OPEN:
        z->at = 0;
        return 0;
    case ZIP_SOURCE_READ:
        return source_read(z, data, size);
    case ZIP_SOURCE_SEEK:
        return source_seek(z, data, size);
    case ZIP_SOURCE_TELL:
        return (zip_int64_t)z->at;
    case ZIP_SOURCE_STAT:
        return source_stat(z, data);
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&z->error, data, size);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
                                              ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL,
                                              ZIP_SOURCE_SUPPORTS, -1);
    default:
        zip_error_set(&z->error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
}

static bool open_archive(struct comma_torch_zip *z, struct comma_error *err)
{
    zip_source_t *src;
    zip_error_t error;

    zip_error_init(&error);
    src = zip_source_function_create(source, z, &error);
    if (src && !(z->zip = zip_open_from_source(src, ZIP_RDONLY, &error)))
        zip_source_free(src);
    if (!z->zip && zip_error_code_zip(&error) == ZIP_ER_MEMORY)
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", z->name);
    else if (!z->zip)
        comma_fail(err, COMMA_E_MODEL, "%s: the zip archive cannot be read (%s); is the download complete?", z->name,
                   zip_error_strerror(&error));
    zip_error_fini(&error);
    return z->zip != NULL;
}

/* ---- entries ---- */

/* Where the data of a stored entry lie. */
static bool locate(struct comma_torch_zip *z, zip_uint64_t index, const zip_stat_t *st, struct comma_bytes *out,
                   struct comma_error *err)
{
    zip_file_t *f = zip_fopen_index(z->zip, index, ZIP_FL_COMPRESSED);
    unsigned char first = 0;
    bool ok = false;

    if (f && st->size == 0)
        z->last_at = 0;
    if (f && (st->size == 0 || zip_fread(f, &first, 1) == 1))
        ok = z->last_at <= z->file.size && st->size <= z->file.size - z->last_at &&
             (st->size == 0 || z->file.data[z->last_at] == first);
    if (f)
        zip_fclose(f);
    if (!ok)
        return comma_fail(err, COMMA_E_MODEL, "%s: entry %s of the archive cannot be read", z->name,
                          comma_shown_name(st->name).text);
    *out = (struct comma_bytes){ z->file.data + z->last_at, st->size };
    return true;
}

static bool open_entry(struct comma_torch_zip *z, zip_uint64_t index, struct comma_bytes *out, struct comma_error *err)
{
    const zip_uint64_t need = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_CRC;
    zip_stat_t st;

    if (zip_stat_index(z->zip, index, 0, &st) != 0 || (st.valid & need) != need)
        return comma_fail(err, COMMA_E_MODEL, "%s: an entry of the archive cannot be read", z->name);
    if (st.comp_method != ZIP_CM_STORE || st.size != st.comp_size)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is compressed, as torch.save never does; unpack it first",
                          z->name, comma_shown_name(st.name).text);
    if (!comma_add(z->total, st.size, &z->total) || z->total > z->file.size)
        return comma_fail(err, COMMA_E_MODEL, "%s: entries of the archive overlap", z->name);
    if (!locate(z, index, &st, out, err))
        return false;
    if (comma_crc32(*out) != st.crc)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is damaged: its checksum is wrong", z->name,
                          comma_shown_name(st.name).text);
    return true;
}

/* entry_name whole, with the root. */
static bool find_entry(struct comma_torch_zip *z, const char *entry_name, struct comma_bytes *out,
                       struct comma_error *err)
{
    const zip_int64_t index = zip_name_locate(z->zip, entry_name, ZIP_FL_ENC_RAW);

    if (index < 0 || (size_t)index >= z->n)
        return comma_fail(err, COMMA_E_MODEL, "%s: %s is not in the archive", z->name,
                          comma_shown_name(entry_name).text);
    if (!z->entries[index].data && !open_entry(z, (zip_uint64_t)index, &z->entries[index], err))
        return false;
    *out = z->entries[index];
    return true;
}

bool comma_torch_zip_entry(struct comma_torch_zip *z, const char *entry, struct comma_bytes *out,
                           struct comma_error *err)
{
    char name[512];

    if (snprintf(name, sizeof(name), "%s%s", z->root, entry) >= (int)sizeof(name))
        return comma_fail(err, COMMA_E_MODEL, "%s: an entry name that is too long", z->name);
    return find_entry(z, name, out, err);
}

/* The root is the folder of the data.pkl that lies in a folder of its own. */
static bool find_root(struct comma_torch_zip *z, struct comma_error *err)
{
    static const char pickle[] = "data.pkl";

    for (size_t i = 0; i < z->n; i++) {
        const char *name = zip_get_name(z->zip, i, ZIP_FL_ENC_RAW), *slash = name ? strchr(name, '/') : NULL;

        if (!slash || strcmp(slash + 1, pickle) != 0 || (size_t)(slash - name) + 2 > sizeof(z->root))
            continue;
        memcpy(z->root, name, (size_t)(slash - name) + 1);
        z->root[slash - name + 1] = '\0';
        return true;
    }
    return comma_fail(err, COMMA_E_MODEL, "%s: a zip archive, but not of torch.save: no data.pkl in its folder",
                      z->name);
}

static bool check_byte_order(struct comma_torch_zip *z, struct comma_error *err)
{
    struct comma_bytes order = { 0 };
    char name[300];

    snprintf(name, sizeof(name), "%sbyteorder", z->root);
    if (zip_name_locate(z->zip, name, ZIP_FL_ENC_RAW) < 0)
        return true; /* before torch 2.1: little */
    if (!find_entry(z, name, &order, err))
        return false;
    if (order.size != 6 || memcmp(order.data, "little", 6) != 0)
        return comma_fail(err, COMMA_E_UNSUPPORTED, "%s: written in big-endian order; only little-endian is supported",
                          z->name);
    return true;
}

static const unsigned char zip_magic[] = { 'P', 'K', 3, 4 };
static const unsigned char old_magic[] = { 0x80, 2, 0x8a, 0x0a }; /* a pickled number that torch < 1.6 wrote first */

bool comma_torch_zip_detect(struct comma_bytes file)
{
    return file.size >= 4 && (memcmp(file.data, zip_magic, 4) == 0 || memcmp(file.data, old_magic, 4) == 0);
}

bool comma_torch_zip_open(struct comma_bytes file, const char *name, struct comma_torch_zip **out,
                          struct comma_error *err)
{
    struct comma_torch_zip *z = NULL;
    zip_int64_t n;

    if (file.size >= 4 && memcmp(file.data, old_magic, 4) == 0)
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "%s: the format of torch before 1.6; load it and torch.save() it again with a newer torch",
                          name);
    z = calloc(1, sizeof(*z));
    if (!z)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", name);
    z->name = name;
    z->file = file;
    zip_error_init(&z->error);
    if (!open_archive(z, err))
        goto out;
    n = zip_get_num_entries(z->zip, 0);
    if (n < 0 || n > MAX_ENTRIES) {
        comma_fail(err, COMMA_E_MODEL, "%s: %lld entries in the archive; at most %d are read", name, (long long)n,
                   MAX_ENTRIES);
        goto out;
    }
    z->n = (size_t)n;
    z->entries = calloc(z->n + 1, sizeof(*z->entries));
    if (!z->entries) {
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", name);
        goto out;
    }
    if (!find_root(z, err) || !check_byte_order(z, err))
        goto out;
    *out = z;
    return true;
out:
    comma_torch_zip_close(z);
    return false;
}

void comma_torch_zip_close(struct comma_torch_zip *z)
{
    if (!z)
        return;
    if (z->zip)
        zip_discard(z->zip);
    zip_error_fini(&z->error);
    free(z->entries);
    free(z);
}
