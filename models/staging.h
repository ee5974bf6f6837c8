/* SPDX-License-Identifier: MIT */
/* staging.h - a directory that appears whole or not at all: it is filled under a hidden name beside its place, written
 * out to the disk, and then renamed.
 *
 *     begin; mkdir and create as needed; commit - or abandon, from wherever it stands.
 *
 * Who is ended by a signal that cannot be caught leaves .NAME.XXXXXXXX behind, never a part of NAME. One thread. */
#ifndef COMMA_MODELS_STAGING_H
#define COMMA_MODELS_STAGING_H

#include "engine/base/error.h"
#include "engine/base/text.h"

struct comma_staging {
    char *target; /* where it is to be, links resolved */
    char *dir;    /* where it is being filled; NULL after commit */
    bool replace; /* a model or adapter directory is there and is to be exchanged */
};

/* Makes the hidden directory. What is at target already is refused with COMMA_E_INPUT, unless it is an empty directory,
 * or force is set and it is a model or adapter directory and nothing else: weights, a configuration and no folders but
 * adapters/. Fails with COMMA_E_INPUT, COMMA_E_IO or COMMA_E_NOMEM, and nothing is left. */
COMMA_MUST_CHECK
bool comma_staging_begin(const char *target, bool force, struct comma_staging *out, struct comma_error *err);

/* A folder inside it; its parents are there. */
COMMA_MUST_CHECK
bool comma_staging_mkdir(struct comma_staging *s, const char *name, struct comma_error *err);

/* A new file inside it, open for writing; *path, to free(), is its name for messages. To be closed by
 * comma_staging_close(), which writes it out to the disk. */
COMMA_MUST_CHECK
bool comma_staging_create(struct comma_staging *s, const char *name, int *fd, char **path, struct comma_error *err);
COMMA_MUST_CHECK
bool comma_staging_close(int fd, const char *path, struct comma_error *err);

/* A whole small file. */
COMMA_MUST_CHECK
bool comma_staging_write(struct comma_staging *s, const char *name, struct comma_text text, struct comma_error *err);

/* Puts it in its place. On failure all is as it was before, and the staging is still to be abandoned. What was replaced
 * is removed; if that fails, *leftover (else NULL) names what is left of it, to free(). */
COMMA_MUST_CHECK
bool comma_staging_commit(struct comma_staging *s, char **leftover, struct comma_error *err);
void comma_staging_abandon(struct comma_staging *s); /* removes it; a committed or zeroed one is fine */

#endif
