/* SPDX-License-Identifier: MIT */
/* budget.h - how the memory that the process may use is shared out, so that its ceiling holds under any mix of
 * requests: what the model takes, the label cache when it is full, a picture's most for each worker, connections, and the
 * rest for requests, which admission then keeps. */
#ifndef COMMA_SERVER_BUDGET_H
#define COMMA_SERVER_BUDGET_H

#include "engine/comma.h"
#include "server/config.h"

/* Bytes the process may use: --max-memory-mb, or nine tenths of what the cgroup or the machine has. */
size_t comma_budget_ceiling(const struct comma_serve_config *config);

/* What a decoder may allocate for one picture: the engine's default, or less where the ceiling is low. */
size_t comma_budget_decode_bytes(const struct comma_serve_config *config, size_t standard, unsigned n_workers);

/* Bytes that requests may hold, once the engine is open and idle. Fails with COMMA_E_LIMIT if they would not do for
 * two bodies of the largest size; the sentence says what would. */
COMMA_MUST_CHECK
bool comma_budget_request_bytes(const struct comma_serve_config *config, const struct comma_engine_options *options,
                                struct comma_engine *engine, size_t *out, struct comma_error *err);

#endif
