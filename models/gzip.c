/* SPDX-License-Identifier: MIT */
/* gzip.c - see gzip.h. */
#include "models/gzip.h"

#include <stdlib.h>

#include <zlib.h>

#define FIRST_ROOM ((size_t)1 << 20)

bool comma_gzip_detect(struct comma_bytes file)
{
    return file.size >= 2 && file.data[0] == 0x1f && file.data[1] == 0x8b;
}

/* Makes room for more output, up to max_bytes and one byte more, by which an excess is noticed. */
static bool grow(unsigned char **out, size_t *room, size_t max_bytes)
{
    size_t more = *room ? *room * 2 : FIRST_ROOM;
    unsigned char *grown;

    if (more > max_bytes + 1)
        more = max_bytes + 1;
    grown = realloc(*out, more);
    if (!grown)
        return false;
    *out = grown;
    *room = more;
    return true;
}

bool comma_gzip_unpack(struct comma_bytes file, const char *name, size_t max_bytes, unsigned char **out, size_t *size,
                       struct comma_error *err)
{
    z_stream z = { .next_in = (z_const Bytef *)(uintptr_t)file.data };
    unsigned char *bytes = NULL;
    size_t room = 0, left = file.size;
    int state = Z_OK;
    bool ok = false;

    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) /* 16: gzip, not zlib */
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", name);
    while (state == Z_OK) {
        if (z.total_out == room && (room > max_bytes || !grow(&bytes, &room, max_bytes))) {
            comma_fail(err, room > max_bytes ? COMMA_E_MODEL : COMMA_E_NOMEM,
                       room > max_bytes ? "%s: unpacks to more than %zu bytes"
                                        : "%s: out of memory for up to %zu unpacked bytes",
                       name, max_bytes);
            goto out;
        }
        if (z.avail_in == 0) { /* zlib counts in 32 bits */
            z.avail_in = (uInt)(left < (1u << 30) ? left : 1u << 30);
            left -= z.avail_in;
        }
        z.next_out = bytes + z.total_out;
        z.avail_out = (uInt)(room - z.total_out < (1u << 30) ? room - z.total_out : 1u << 30);
        state = inflate(&z, Z_NO_FLUSH);
    }
    ok = state == Z_STREAM_END && z.total_out <= max_bytes;
    if (!ok)
        comma_fail(err, state == Z_MEM_ERROR ? COMMA_E_NOMEM : COMMA_E_MODEL,
                   "%s: the gzip file cannot be unpacked; is the download complete?", name);
out:
    if (ok) {
        *out = bytes;
        *size = z.total_out;
    } else {
        free(bytes);
    }
    inflateEnd(&z);
    return ok;
}

uint32_t comma_crc32(struct comma_bytes bytes)
{
    const size_t piece = 1 << 30; /* zlib's crc32() takes 32-bit lengths */
    uLong crc = crc32(0, NULL, 0);

    for (size_t at = 0; at < bytes.size; at += piece)
        crc = crc32(crc, bytes.data + at, (uInt)(bytes.size - at < piece ? bytes.size - at : piece));
    return (uint32_t)crc;
}
