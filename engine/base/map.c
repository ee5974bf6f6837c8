/* SPDX-License-Identifier: MIT */
/* map.c - see map.h. */
#include "engine/base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool comma_map_open(struct comma_map *map, const char *path, struct comma_error *err)
{
    /* O_NONBLOCK: opening a FIFO must not wait for a writer; it is then refused as no regular file. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    void *p = NULL;
    bool ok = false;

    if (fd < 0)
        return comma_fail(err, COMMA_E_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0)
        comma_fail(err, COMMA_E_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        comma_fail(err, COMMA_E_IO, "%s: not a regular file", path);
    else if ((uintmax_t)st.st_size > SIZE_MAX)
        comma_fail(err, COMMA_E_IO, "%s: too large to map", path);
    else if (st.st_size > 0 && (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        comma_fail(err, COMMA_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
    else
        ok = true;
    if (ok)
        *map = (struct comma_map){ p, (size_t)st.st_size };
    close(fd);
    return ok;
}

void comma_map_trim(const struct comma_map *map)
{
    if (map->data)
        madvise((void *)(uintptr_t)map->data, map->size, MADV_DONTNEED); /* only advice: no failure matters */
}

void comma_map_close(struct comma_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct comma_map){ 0 };
}
