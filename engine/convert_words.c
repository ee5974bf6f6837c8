/* SPDX-License-Identifier: MIT */
/* convert_words.c - which words stood behind the learned vectors when an adapter was trained (SPEC 2.5, 6.1).
 *
 * A checkpoint does not say its ctx_init, but token_suffix holds the embeddings of what followed the learned rows in
 * each training prompt: the rest of the words, the class name, a full stop. What all classes have in common are the
 * words, and rows of the token embedding tell which. The words that the learned rows took the place of are gone, and do
 * not matter: any of as many tokens will do. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/convert_impl.h"
#include "models/merges.h"
#include "models/methods.h"

#define MAX_WORDS 64 /* tokens behind the learned ones that are looked at */

struct search {
    const float *embedding; /* [vocab_size, width] */
    float *memory;          /* what it lies in, if not in the file */
    size_t vocab_size, width;
    float *rows; /* [n_common, width] what all classes have in common behind the learned rows */
    size_t n_common, n_classes;
};

/* Rounded to F16 in the checkpoint, perhaps to 16 bits in the backbone. */
static bool same_row(const float *a, const float *b, size_t width)
{
    for (size_t i = 0; i < width; i++)
        if (!(fabsf(a[i] - b[i]) <= fmaxf(fabsf(a[i]), fabsf(b[i])) * 0x1p-7f + 1e-6f))
            return false;
    return true;
}

/* Row `row` of a class in token_suffix [classes, rows, width], as f32. */
static bool suffix_row(const struct comma_tensor *suffix, size_t class, size_t row, float *out, struct comma_error *err)
{
    struct comma_tensor rows = comma_tensor_rows(suffix, class, 1);

    rows.n_dims = 2;
    for (unsigned d = 0; d < 2; d++) {
        rows.shape[d] = rows.shape[d + 1];
        rows.strides[d] = rows.strides[d + 1];
    }
    rows = comma_tensor_rows(&rows, row, 1);
    return comma_tensor_to_f32(&rows, out, err);
}

/* The rows that all classes begin with. */
static bool find_common(struct search *s, const struct comma_tensor *suffix, struct comma_error *err)
{
    const size_t most = suffix->shape[1] < MAX_WORDS ? suffix->shape[1] : MAX_WORDS;
    float *other = malloc(s->width * sizeof(*other));
    bool ok = false;

    s->n_classes = suffix->shape[0];
    s->rows = malloc(most * s->width * sizeof(*s->rows));
    if (!other || !s->rows) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the training prompts");
        goto out;
    }
    for (s->n_common = 0; s->n_common < most; s->n_common++) {
        float *first = s->rows + s->n_common * s->width;
        bool same = true;

        if (!suffix_row(suffix, 0, s->n_common, first, err))
            goto out;
        for (size_t c = 1; same && c < s->n_classes; c++) {
            if (!suffix_row(suffix, c, s->n_common, other, err))
                goto out;
            same = memcmp(first, other, s->width * sizeof(*other)) == 0;
        }
        if (!same)
            break;
    }
    ok = true;
out:
    free(other);
    return ok;
}

static bool open_search(struct search *s, const struct comma_clip *clip, const struct comma_tensor *suffix,
                        struct comma_error *err)
{
    const struct comma_tensor t = comma_clip_tensor(clip, COMMA_TOKEN_EMBEDDING);

    s->vocab_size = t.shape[0];
    s->width = t.shape[1];
    s->embedding = comma_tensor_as_f32(&t);
    if (!s->embedding) {
        s->memory = malloc(comma_tensor_count(&t) * sizeof(*s->memory));
        if (!s->memory)
            return comma_fail(err, COMMA_E_NOMEM, "out of memory for the token embedding");
        if (!comma_tensor_to_f32(&t, s->memory, err))
            return false;
        s->embedding = s->memory;
    }
    return find_common(s, suffix, err);
}

/* The id whose embedding the common row i is; -1 for none. */
static int32_t find_id(const struct search *s, size_t i)
{
    for (size_t id = 0; id < s->vocab_size; id++)
        if (same_row(s->embedding + id * s->width, s->rows + i * s->width, s->width))
            return (int32_t)id;
    return -1;
}

/* ---- ctx_init as tokens ---- */

/* The words of ctx_init behind the n_ctx learned rows, as ids; *n 0 where there are none, or where each word is an X,
 * all of which are overwritten (SPEC 6.1). False if it cannot be tokenised. */
static bool rest_of(const struct comma_tokenizer *tokenizer, const struct comma_adapter_config *config,
                    const char *ctx_init, int32_t *ids, size_t *n)
{
    const bool any_length = strcmp(config->method, "coop") == 0 || strcmp(config->method, "cocoop") == 0;
    int32_t all[MAX_WORDS + 2 + COMMA_MAX_N_CTX];
    char words[sizeof(config->ctx_init) + 1];
    size_t n_all = 0;

    *n = 0;
    if (!ctx_init[0] || (config->n_ctx > 4 && !any_length))
        return true;
    snprintf(words, sizeof(words), "%s ", ctx_init);
    for (char *p = words; *p; p++)
        if (*p == '_')
            *p = ' ';
    if (config->n_ctx > COMMA_MAX_N_CTX ||
        !comma_tokenizer_encode(tokenizer, comma_text_of(words), all, sizeof(all) / sizeof(*all), &n_all, NULL) ||
        n_all < config->n_ctx + 2 || n_all - 2 - config->n_ctx > MAX_WORDS)
        return false;
    *n = n_all - 2 - config->n_ctx;
    memcpy(ids, all + 1 + config->n_ctx, *n * sizeof(*ids));
    return true;
}

static bool agrees(const struct search *s, const int32_t *rest, size_t n)
{
    if (n > s->n_common)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!same_row(s->embedding + (size_t)rest[i] * s->width, s->rows + i * s->width, s->width))
            return false;
    return true;
}

/* The text of common rows first .. n_common. False if one is no row of the embedding. */
static bool text_of_common(const struct search *s, const struct comma_clip *clip, size_t first, char *out, size_t size)
{
    struct comma_spellings spellings = { 0 };
    struct comma_model_file merges = { 0 };
    size_t used;
    bool ok;

    out[0] = '\0';
    ok = comma_merges_cut(comma_clip_merges(clip), "merges.txt", s->vocab_size, &merges, NULL) &&
         comma_spellings_make(merges.bytes, s->vocab_size, &spellings, NULL);
    for (size_t i = first; ok && i < s->n_common; i++) {
        const int32_t id = find_id(s, i);

        ok = id >= 0 && comma_spellings_append(&spellings, (size_t)id, out, size);
    }
    for (used = strlen(out); used > 0 && out[used - 1] == ' ';)
        out[--used] = '\0';
    comma_spellings_finish(&spellings);
    comma_model_file_close(&merges);
    return ok && comma_utf8_valid(out, used);
}

/* Placeholders for the learned rows, and rest. False if that does not give the common rows again. */
static bool make_ctx_init(const struct search *s, const struct comma_tokenizer *tokenizer,
                          const struct comma_adapter_config *config, const char *rest, char *out, size_t size)
{
    int32_t ids[MAX_WORDS];
    size_t n;

    out[0] = '\0';
    if (!rest[0])
        return true;
    for (size_t i = 0; i < config->n_ctx; i++)
        if (strlen(out) + 3 < size)
            strcat(out, "X ");
    if (strlen(out) + strlen(rest) + 1 > size)
        return false;
    strcat(out, rest);
    return rest_of(tokenizer, config, out, ids, &n) && n == s->n_common && agrees(s, ids, n);
}

/* ---- what that says ---- */

static void warn_of_more(const struct comma_conversion *c, const struct search *s,
                         const struct comma_convert_item *item, size_t n_rest)
{
    char more[200];

    if (s->n_classes > 1 && s->n_common > n_rest && text_of_common(s, c->clip, n_rest, more, sizeof(more)) && more[0])
        comma_convert_warn(c,
                           "%s: all %zu training prompts go on with \"%s\" behind ctx_init \"%s\"; if that is part of "
                           "the prompt and not of the class names, say so with --ctx-init",
                           item->path, s->n_classes, more, item->dir.config.ctx_init);
}

static void settle(const struct comma_conversion *c, const struct search *s, struct comma_convert_item *item)
{
    struct comma_adapter_config *config = &item->dir.config;
    char rest[200], found[sizeof(config->ctx_init)];

    if (s->n_classes < 2 || !text_of_common(s, c->clip, 0, rest, sizeof(rest)) ||
        !make_ctx_init(s, c->tokenizer, config, rest, found, sizeof(found))) {
        comma_convert_warn(
            c,
            "%s: ctx_init \"%s\" does not fit the prompts that it was trained with, and which does cannot "
            "be found out; --ctx-init says it",
            item->path, config->ctx_init);
        return;
    }
    if (c->options->ctx_init) {
        comma_convert_warn(c,
                           "%s: --ctx-init \"%s\" is followed, but the training prompts have %s%s%s behind the %zu "
                           "learned vectors",
                           item->path, config->ctx_init, rest[0] ? "\"" : "no words", rest, rest[0] ? "\"" : "",
                           config->n_ctx);
        return;
    }
    comma_convert_warn(c,
                       "%s: ctx_init is \"%s\", as the training prompts tell (which words the %zu learned vectors "
                       "took the place of does not matter); if some are of the class names, --ctx-init says so",
                       item->path, found, config->n_ctx);
    memcpy(config->ctx_init, found, sizeof(found));
}

bool comma_convert_find_words(const struct comma_conversion *c, struct comma_convert_item *item,
                              struct comma_error *err)
{
    const struct comma_tensor *suffix = comma_method_token_suffix(item->dir.tensors);
    int32_t rest[MAX_WORDS];
    struct search s = { 0 };
    size_t n_rest = 0;
    bool ok;

    if (!suffix || suffix->n_dims != 3 || comma_tensor_count(suffix) == 0 || !comma_dtype_is_float(suffix->dtype) ||
        suffix->shape[2] != comma_clip_config(c->clip)->text.width)
        return true;
    ok = open_search(&s, c->clip, suffix, err);
    if (ok && rest_of(c->tokenizer, &item->dir.config, item->dir.config.ctx_init, rest, &n_rest) &&
        agrees(&s, rest, n_rest))
        warn_of_more(c, &s, item, n_rest);
    else if (ok)
        settle(c, &s, item);
    free(s.memory);
    free(s.rows);
    return ok;
}
