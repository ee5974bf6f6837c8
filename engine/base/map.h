/* SPDX-License-Identifier: MIT */
/* map.h - a whole file as read-only memory.
 *
 * Model files are replaced by rename, never written in place: truncating a mapped file ends the process that reads it.
 */
#ifndef COMMA_BASE_MAP_H
#define COMMA_BASE_MAP_H

#include <stddef.h>

#include "engine/base/error.h"

struct comma_map {
    const unsigned char *data; /* page-aligned; NULL for an empty file */
    size_t size;
};

/* Maps path (a regular file) read-only. Fails with COMMA_E_IO naming the path and the reason. */
COMMA_MUST_CHECK
bool comma_map_open(struct comma_map *map, const char *path, struct comma_error *err);

/* Gives its pages' memory back; reading them again reads the file. */
void comma_map_trim(const struct comma_map *map);
void comma_map_close(struct comma_map *map); /* an empty one is fine */

#endif
