/* SPDX-License-Identifier: MIT */
/* torch_zip.h - the zip archive that torch.save writes: one root folder, every entry stored, not compressed (SPEC 2.2).
 * Inside models/ only. The file is treated as hostile. */
#ifndef COMMA_MODELS_TORCH_ZIP_H
#define COMMA_MODELS_TORCH_ZIP_H

#include "engine/base/error.h"
#include "engine/base/text.h"

struct comma_torch_zip;

/* Opens the archive in file, which the caller keeps alive; name is used in messages and kept alive too. Finds the root
 * folder by its data.pkl. Fails with COMMA_E_MODEL, COMMA_E_UNSUPPORTED (files from before torch 1.6, big-endian ones)
 * or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_torch_zip_open(struct comma_bytes file, const char *name, struct comma_torch_zip **out,
                          struct comma_error *err);
void comma_torch_zip_close(struct comma_torch_zip *zip); /* NULL is fine */

/* The bytes of <root>/entry, where they lie in the file; their CRC is checked once. */
COMMA_MUST_CHECK
bool comma_torch_zip_entry(struct comma_torch_zip *zip, const char *entry, struct comma_bytes *out,
                           struct comma_error *err);

/* True if the bytes begin as a zip archive or as a torch file of the time before. */
bool comma_torch_zip_detect(struct comma_bytes file);

#endif
