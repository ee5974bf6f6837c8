/* SPDX-License-Identifier: MIT */
/* response.c - see response.h. */
#include "api/response.h"

#include <stdlib.h>

#include "engine/base/half.h"

static void put_key_string(struct comma_buffer *b, const char *key, const char *value)
{
    comma_buffer_puts(b, key);
    comma_json_string(b, value);
}

static void put_key_size(struct comma_buffer *b, const char *key, size_t value)
{
    comma_buffer_puts(b, key);
    comma_json_size(b, value);
}

static void put_key_ms(struct comma_buffer *b, const char *key, double ms)
{
    comma_buffer_puts(b, key);
    comma_json_ms(b, ms);
}

static void put_timing(struct comma_buffer *b, const struct comma_timing *t)
{
    put_key_ms(b, ",\"timing_ms\":{\"queue\":", t->queue);
    put_key_ms(b, ",\"decode\":", t->decode);
    put_key_ms(b, ",\"image\":", t->image);
    put_key_ms(b, ",\"text\":", t->text);
    put_key_ms(b, ",\"total\":", t->total);
    comma_buffer_puts(b, "}");
}

/* ---- POST /classify ---- */

static void put_result(struct comma_buffer *b, struct comma_text label, float score, float similarity)
{
    comma_buffer_puts(b, "{\"label\":");
    comma_json_text(b, label);
    comma_buffer_puts(b, ",\"score\":");
    comma_json_float(b, score);
    comma_buffer_puts(b, ",\"similarity\":");
    comma_json_float(b, similarity);
    comma_buffer_puts(b, "}");
}

bool comma_api_write_classify(struct comma_buffer *out, const struct comma_job *job, const char *model, size_t top_k,
                              const char *image, struct comma_error *err)
{
    const size_t n = top_k < job->n_texts ? top_k : job->n_texts;
    size_t *order = calloc(n ? n : 1, sizeof(*order));

    if (!order)
        return comma_fail(err, COMMA_E_NOMEM, "the answer: out of memory");
    comma_top_k(job->scores, job->n_texts, n, order);
    comma_buffer_puts(out, "{");
    if (image) {
        put_key_string(out, "\"image\":", image);
        comma_buffer_puts(out, ",");
    }
    put_key_string(out, "\"model\":", model);
    comma_buffer_puts(out, ",\"results\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            comma_buffer_puts(out, ",");
        put_result(out, job->texts[order[i]], job->scores[order[i]], job->similarities[order[i]]);
    }
    put_key_size(out, "],\"labels\":{\"count\":", job->n_texts);
    put_key_size(out, ",\"cached\":", job->n_cached);
    comma_buffer_puts(out, "}");
    put_timing(out, &job->timing);
    comma_buffer_puts(out, "}");
    free(order);
    return comma_buffer_ok(out, err);
}

/* ---- POST /embed ---- */

static void put_floats(struct comma_buffer *b, const float *values, size_t n)
{
    comma_buffer_puts(b, "[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            comma_buffer_puts(b, ",");
        comma_json_float(b, values[i]);
    }
    comma_buffer_puts(b, "]");
}

/* scratch: [4 * n] */
static void put_floats_base64(struct comma_buffer *b, const float *values, size_t n, unsigned char *scratch)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = comma_bits_of_float(values[i]);

        if ((bits & 0x7F800000) == 0x7F800000) /* infinite or NaN */
            b->why = b->why == COMMA_OK ? COMMA_E_INTERNAL : b->why;
        for (size_t k = 0; k < 4; k++) /* little-endian whatever the machine */
            scratch[4 * i + k] = (unsigned char)(bits >> 8 * k);
    }
    comma_json_base64(b, (struct comma_bytes){ scratch, 4 * n });
}

bool comma_api_write_embed(struct comma_buffer *out, const struct comma_job *job, const char *model, size_t dim,
                           enum comma_api_encoding encoding, struct comma_error *err)
{
    const bool base64 = encoding == COMMA_ENCODING_BASE64, texts = job->kind == COMMA_JOB_EMBED_TEXTS;
    const float *features = texts ? job->text_features : job->image_feature;
    const size_t n = texts ? job->n_texts : 1;
    unsigned char *scratch = base64 ? calloc(dim ? dim : 1, 4) : NULL;

    if (base64 && !scratch)
        return comma_fail(err, COMMA_E_NOMEM, "the answer: out of memory");
    put_key_string(out, "{\"model\":", model);
    put_key_size(out, ",\"dim\":", dim);
    put_key_string(out, ",\"encoding\":", base64 ? "base64" : "float");
    comma_buffer_puts(out, ",\"features\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            comma_buffer_puts(out, ",");
        if (base64)
            put_floats_base64(out, features + i * dim, dim, scratch);
        else
            put_floats(out, features + i * dim, dim);
    }
    comma_buffer_puts(out, "]");
    put_timing(out, &job->timing);
    comma_buffer_puts(out, "}");
    free(scratch);
    return comma_buffer_ok(out, err);
}

/* ---- GET /models ---- */

static void put_backbone(struct comma_buffer *b, const struct comma_engine_info *info)
{
    put_key_string(b, "{\"name\":", info->name);
    put_key_size(b, ",\"embed_dim\":", info->embed_dim);
    comma_buffer_puts(b, ",\"logit_scale\":");
    comma_json_float(b, info->logit_scale);
    put_key_string(b, ",\"activation\":", info->activation);
    put_key_size(b, ",\"vision\":{\"image_size\":", info->image_size);
    put_key_size(b, ",\"patch_size\":", info->patch_size);
    put_key_size(b, ",\"width\":", info->vision_width);
    put_key_size(b, ",\"layers\":", info->vision_layers);
    put_key_size(b, ",\"heads\":", info->vision_heads);
    put_key_size(b, "},\"text\":{\"context_length\":", info->context_length);
    put_key_size(b, ",\"vocab_size\":", info->vocab_size);
    put_key_size(b, ",\"width\":", info->text_width);
    put_key_size(b, ",\"layers\":", info->text_layers);
    put_key_size(b, ",\"heads\":", info->text_heads);
    comma_buffer_puts(b, info->has_tokenizer ? ",\"tokenizer\":true}" : ",\"tokenizer\":false}");
    put_key_size(b, ",\"parameters\":", info->n_parameters);
    put_key_string(b, ",\"stored_dtype\":", info->dtype);
    put_key_string(b, ",\"precision\":", info->precision);
    put_key_string(b, ",\"backend\":", info->backend);
    comma_buffer_puts(b, "}");
}

static void put_adapter(struct comma_buffer *b, const struct comma_adapter_info *a)
{
    put_key_string(b, "{\"name\":", a->name);
    put_key_string(b, ",\"method\":", a->method);
    put_key_size(b, ",\"n_ctx\":", a->n_ctx);
    put_key_size(b, ",\"prompt_depth\":", a->prompt_depth);
    put_key_string(b, ",\"ctx_init\":", a->ctx_init);
    put_key_size(b, ",\"last_layer\":", a->last_layer);
    put_key_size(b, ",\"bytes\":", a->bytes);
    comma_buffer_puts(b, "}");
}

bool comma_api_write_models(struct comma_buffer *out, const struct comma_engine_info *info,
                            const struct comma_adapter_info *adapters, size_t n_adapters, const char *default_model,
                            struct comma_error *err)
{
    put_key_string(out, "{\"default\":", default_model);
    put_key_string(out, ",\"models\":[", info->name);
    for (size_t i = 0; i < n_adapters; i++)
        put_key_string(out, ",", adapters[i].name);
    comma_buffer_puts(out, "],\"backbone\":");
    put_backbone(out, info);
    comma_buffer_puts(out, ",\"adapters\":[");
    for (size_t i = 0; i < n_adapters; i++) {
        if (i > 0)
            comma_buffer_puts(out, ",");
        put_adapter(out, &adapters[i]);
    }
    comma_buffer_puts(out, "]}");
    return comma_buffer_ok(out, err);
}

bool comma_api_write_status(struct comma_buffer *out, const char *status, struct comma_error *err)
{
    put_key_string(out, "{\"status\":", status);
    comma_buffer_puts(out, "}");
    return comma_buffer_ok(out, err);
}

/* ---- lines of the command line ---- */

bool comma_api_write_embed_line(struct comma_buffer *out, struct comma_text input, const float *feature, size_t dim,
                                struct comma_error *err)
{
    comma_buffer_puts(out, "{\"input\":");
    comma_json_text(out, input);
    comma_buffer_puts(out, ",\"features\":");
    put_floats(out, feature, dim);
    comma_buffer_puts(out, "}");
    return comma_buffer_ok(out, err);
}

bool comma_api_write_tokenize_line(struct comma_buffer *out, struct comma_text text, const int32_t *ids, size_t n_ids,
                                   struct comma_error *err)
{
    comma_buffer_puts(out, "{\"text\":");
    comma_json_text(out, text);
    comma_buffer_puts(out, ",\"ids\":[");
    for (size_t i = 0; i < n_ids; i++) {
        if (i > 0)
            comma_buffer_puts(out, ",");
        comma_json_int(out, ids[i]);
    }
    comma_buffer_puts(out, "]}");
    return comma_buffer_ok(out, err);
}
