/* SPDX-License-Identifier: MIT */
/* adapters.h - which adapters are served: those named by --adapter and those that lie in --adapters' folder, opened at
 * start and looked at again at a reload. One thread. */
#ifndef COMMA_SERVER_ADAPTERS_H
#define COMMA_SERVER_ADAPTERS_H

#include "server/log.h"
#include "server/options.h"

struct comma_adapter_set;

/* named: NAME=DIR each, borrowed, as dir is; dir may be NULL. */
COMMA_MUST_CHECK
bool comma_adapter_set_create(const struct comma_strings *named, const char *dir, struct comma_adapter_set **out,
                              struct comma_error *err);
void comma_adapter_set_destroy(struct comma_adapter_set *set); /* NULL is fine */

/* Opens all; the first that cannot be opened fails it, by name. */
COMMA_MUST_CHECK
bool comma_adapter_set_open(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_error *err);

/* Opens what is new or has changed and takes away what is gone. One that cannot be opened is logged and leaves what was
 * served under its name. False if there was such a one. */
bool comma_adapter_set_reload(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_log *log);

#endif
