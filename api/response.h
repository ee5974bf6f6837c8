/* SPDX-License-Identifier: MIT */
/* response.h - results in, JSON out: the bodies of answers, and the lines of the command line's --json.
 *
 * Compact JSON on one line, without a newline at its end, written straight into a bounded buffer. A number that is not
 * finite fails with COMMA_E_INTERNAL, so that NaN never leaves as JSON. On failure what the buffer holds is to be
 * thrown away. Any thread. */
#ifndef COMMA_API_RESPONSE_H
#define COMMA_API_RESPONSE_H

#include "api/buffer.h"
#include "api/request.h"
#include "engine/comma.h"

/* The answer of POST /classify for a COMMA_JOB_CLASSIFY that ended well.
 *
 *   model  name to be shown: comma_adapter_name(), or the backbone's
 *   top_k  results at most; they fall in score, equal ones stand in the request's order
 *   image  NULL, or a path: put in front as "image" (a line of comma classify --json) */
COMMA_MUST_CHECK
bool comma_api_write_classify(struct comma_buffer *out, const struct comma_job *job, const char *model, size_t top_k,
                              const char *image, struct comma_error *err);

/* The answer of POST /embed for a COMMA_JOB_EMBED_*: one feature per input, of dim (embed_dim) numbers each; as base64
 * a feature is a string of little-endian f32. */
COMMA_MUST_CHECK
bool comma_api_write_embed(struct comma_buffer *out, const struct comma_job *job, const char *model, size_t dim,
                           enum comma_api_encoding encoding, struct comma_error *err);

/* The answer of GET /models.
 *   default_model  name that a request without "model" gets */
COMMA_MUST_CHECK
bool comma_api_write_models(struct comma_buffer *out, const struct comma_engine_info *info,
                            const struct comma_adapter_info *adapters, size_t n_adapters, const char *default_model,
                            struct comma_error *err);

/* {"status":"ok"}: of GET /healthz and, with "ready", of GET /readyz. */
COMMA_MUST_CHECK
bool comma_api_write_status(struct comma_buffer *out, const char *status, struct comma_error *err);

/* ---- lines of the command line ---- */

/* {"input":...,"features":[...]}: a line of comma embed.
 *   feature  [dim] f32 */
COMMA_MUST_CHECK
bool comma_api_write_embed_line(struct comma_buffer *out, struct comma_text input, const float *feature, size_t dim,
                                struct comma_error *err);

/* {"text":...,"ids":[...]}: a line of comma tokenize --json. */
COMMA_MUST_CHECK
bool comma_api_write_tokenize_line(struct comma_buffer *out, struct comma_text text, const int32_t *ids, size_t n_ids,
                                   struct comma_error *err);

#endif
