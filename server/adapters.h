/* SPDX-License-Identifier: MIT */
/* adapters.h - which adapters are served: those named by --adapter, those that lie in --adapters' folder and those in
 * the model's own adapters/ folder, opened at start and looked at again at a reload. Of one name the first of these
 * comes first. One thread. */
#ifndef COMMA_SERVER_ADAPTERS_H
#define COMMA_SERVER_ADAPTERS_H

#include "server/log.h"
#include "server/options.h"

struct comma_adapter_set;

/* named: NAME=DIR each, borrowed, as dir is; dir and model_dir may be NULL. */
COMMA_MUST_CHECK
bool comma_adapter_set_create(const struct comma_strings *named, const char *dir, const char *model_dir,
                              struct comma_adapter_set **out, struct comma_error *err);
void comma_adapter_set_destroy(struct comma_adapter_set *set); /* NULL is fine */

/* Opens all. A named one that cannot be opened fails it; one that lies in a folder is logged and left out, so that a
 * broken file among many does not keep a server from starting. */
COMMA_MUST_CHECK
bool comma_adapter_set_open(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_log *log,
                            struct comma_error *err);

/* Opens what is new or has changed and takes away what is gone. One that cannot be opened is logged and leaves what was
 * served under its name. False if there was such a one. */
bool comma_adapter_set_reload(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_log *log);

#endif
