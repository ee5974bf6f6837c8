/* SPDX-License-Identifier: MIT */
/* adapter.c - one task's prompts over the shared backbone: made, named, counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_impl.h"

struct make_call {
    struct comma_adapter *adapter;
    bool ok;
    struct comma_error err;
};

/* On a thread of the engine: folding needs its working memory. */
static void fold(void *arg, struct comma_worker *w)
{
    struct make_call *c = arg;
    struct comma_adapter *a = c->adapter;
    struct comma_engine *e = a->engine;

    c->ok = comma_vision_fold(&e->vision, w, &a->prompts, &a->vision, &c->err);
    if (c->ok && a->has_prompt && e->tokenizer) {
        char before[520];

        snprintf(before, sizeof(before), "%s ", a->prompts.text_before);
        c->ok = comma_phrase_make(&a->phrase, &e->text, e->tokenizer, w, &a->prompts, comma_text_of(before),
                                  comma_text_of(a->prompts.text_after), &c->err);
    }
}

static void destroy(struct comma_adapter *a)
{
    comma_phrase_finish(&a->phrase);
    comma_vision_prompts_finish(&a->vision);
    comma_prompts_finish(&a->prompts);
    free(a);
}

bool comma_adapter_make(struct comma_engine *e, const char *name, const struct comma_adapter_dir *dir,
                        struct comma_adapter **out, struct comma_error *err)
{
    struct comma_adapter *a = calloc(1, sizeof(*a));
    struct make_call call = { .adapter = a };

    if (!a)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for adapter '%.64s'", name);
    atomic_init(&a->refs, 1);
    a->engine = e;
    snprintf(a->name, sizeof(a->name), "%s", name);
    if (dir) {
        a->config = dir->config;
        a->has_prompt = true;
        if (dir->config.n_ctx > COMMA_MAX_N_CTX) {
            comma_fail(err, COMMA_E_UNSUPPORTED, "n_ctx is %zu; at most %d are served", dir->config.n_ctx,
                       COMMA_MAX_N_CTX);
            goto fail;
        }
        if (!comma_prompts_fold(&a->prompts, dir, comma_clip_config(e->clip), err))
            goto fail;
    }
    comma_fail(&call.err, COMMA_E_NOMEM, "out of memory"); /* where the call does not come to run */
    comma_engine_call(e, fold, &call);
    if (!call.ok) {
        *err = call.err;
        goto fail;
    }
    *out = a;
    return true;
fail:
    destroy(a);
    return false;
}

void comma_adapter_unref(struct comma_adapter *adapter)
{
    if (!adapter || atomic_fetch_sub_explicit(&adapter->refs, 1, memory_order_acq_rel) != 1)
        return;
    comma_label_cache_forget(adapter->engine->cache, adapter->id);
    destroy(adapter);
}

const char *comma_adapter_name(const struct comma_adapter *adapter)
{
    return adapter->name;
}

bool comma_adapter_has_prompt(const struct comma_adapter *adapter)
{
    return adapter->has_prompt;
}

bool comma_adapter_name_valid(const char *name)
{
    const size_t n = strlen(name);

    return n >= 1 && n <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

/* Index of name, or where it belongs. Lock held. */
static size_t position_of(const struct comma_engine *e, const char *name, bool *found)
{
    size_t lo = 0, hi = e->n_adapters;

    *found = false;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(e->adapters[mid]->name, name);

        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Puts a new adapter into the table; the replaced one goes. Takes over the reference, on failure too. */
static bool publish(struct comma_engine *e, struct comma_adapter *a, struct comma_error *err)
{
    struct comma_adapter **grown, *old = NULL;
    bool found, ok = true;
    size_t at;

    pthread_mutex_lock(&e->adapters_lock);
    a->id = e->next_id++;
    at = position_of(e, a->name, &found);
    if (found) {
        old = e->adapters[at];
        e->adapters[at] = a;
    } else if ((grown = realloc(e->adapters, (e->n_adapters + 1) * sizeof(*grown)))) {
        e->adapters = grown;
        memmove(grown + at + 1, grown + at, (e->n_adapters - at) * sizeof(*grown));
        grown[at] = a;
        e->n_adapters++;
    } else {
        ok = comma_fail(err, COMMA_E_NOMEM, "out of memory for adapter '%s'", a->name);
        old = a;
    }
    pthread_mutex_unlock(&e->adapters_lock);
    comma_adapter_unref(old);
    return ok;
}

/* dir NULL: the model's own adapter number i. */
static bool add(struct comma_engine *e, const char *name, const char *dir, size_t i, struct comma_error *err)
{
    struct comma_adapter_dir opened = { 0 };
    struct comma_adapter *a = NULL;
    bool ok;

    if (!comma_adapter_name_valid(name))
        return comma_fail(err, COMMA_E_INPUT,
                          "adapter name \"%.80s\" is not allowed: 1 to 64 letters, digits, '.', '_' or '-'", name);
    if (strcmp(name, comma_clip_name(e->clip)) == 0)
        return comma_fail(err, COMMA_E_INPUT, "adapter name \"%s\" is the backbone's own; choose another", name);
    ok = dir ? comma_adapter_dir_open(dir, &opened, err) : comma_clip_adapter_open(e->clip, i, &opened, err);
    ok = ok && comma_adapter_make(e, name, &opened, &a, err);
    comma_adapter_dir_close(&opened); /* all that is served has been folded */
    if (!ok)
        return comma_fail_within(err, "adapter '%s'", name);
    return publish(e, a, err);
}

bool comma_engine_add_adapter(struct comma_engine *engine, const char *name, const char *dir, struct comma_error *err)
{
    return add(engine, name, dir, 0, err);
}

bool comma_engine_add_own_adapters(struct comma_engine *e, struct comma_error *err)
{
    for (size_t i = 0; i < comma_clip_n_adapters(e->clip); i++)
        if (!add(e, comma_clip_adapter_name(e->clip, i), NULL, i, err))
            return false;
    return true;
}

bool comma_engine_remove_adapter(struct comma_engine *engine, const char *name)
{
    struct comma_adapter *old = NULL;
    bool found;
    size_t at;

    pthread_mutex_lock(&engine->adapters_lock);
    at = position_of(engine, name, &found);
    if (found) {
        old = engine->adapters[at];
        engine->n_adapters--;
        memmove(engine->adapters + at, engine->adapters + at + 1,
                (engine->n_adapters - at) * sizeof(*engine->adapters));
    }
    pthread_mutex_unlock(&engine->adapters_lock);
    comma_adapter_unref(old);
    return found;
}

struct comma_adapter *comma_engine_get_adapter(struct comma_engine *engine, const char *name)
{
    struct comma_adapter *a = NULL;
    bool found;
    size_t at;

    pthread_mutex_lock(&engine->adapters_lock);
    if (!name || !*name || strcmp(name, engine->plain->name) == 0) {
        a = engine->plain;
    } else {
        at = position_of(engine, name, &found);
        if (found)
            a = engine->adapters[at];
    }
    if (a)
        atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed); /* the table's own keeps it alive here */
    pthread_mutex_unlock(&engine->adapters_lock);
    return a;
}

static void describe(const struct comma_engine *e, const struct comma_adapter *a, struct comma_adapter_info *out)
{
    *out = (struct comma_adapter_info){ .n_ctx = a->config.n_ctx,
                                        .prompt_depth = a->config.prompt_depth,
                                        .last_layer = a->config.last_layer };
    memcpy(out->name, a->name, sizeof(out->name));
    memcpy(out->method, a->config.method, sizeof(out->method));
    memcpy(out->ctx_init, a->config.ctx_init, sizeof(out->ctx_init));
    out->n_classes = a->prompts.n_classes;
    out->bytes = sizeof(*a) + comma_prompts_bytes(&a->prompts, comma_clip_config(e->clip)) +
                 comma_vision_prompts_bytes(&e->vision, &a->vision) + comma_prefix_bytes(&e->text, &a->phrase.prefix);
}

bool comma_engine_list_adapters(struct comma_engine *engine, struct comma_adapter_info **out, size_t *n,
                                struct comma_error *err)
{
    struct comma_adapter_info *list;

    pthread_mutex_lock(&engine->adapters_lock);
    list = malloc((engine->n_adapters + 1) * sizeof(*list));
    if (list) {
        for (size_t i = 0; i < engine->n_adapters; i++)
            describe(engine, engine->adapters[i], &list[i]);
        *out = list;
        *n = engine->n_adapters;
    }
    pthread_mutex_unlock(&engine->adapters_lock);
    return list ? true : comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
}
