/* SPDX-License-Identifier: MIT */
/* phrase.c - see phrase.h. The cache is a short list, newest use first: requests bring a handful of templates. */
#include "engine/phrase.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEMPLATE_BYTES 1024

static char *copy_text(struct comma_text t)
{
    char *s = malloc(t.size + 1);

    if (s) {
        if (t.size)
            memcpy(s, t.data, t.size);
        s[t.size] = '\0';
    }
    return s;
}

/* Words that end in white space are tokens of their own whatever follows; of others only SOS is certain. */
static bool ends_apart(struct comma_text t)
{
    return t.size > 0 && (t.data[t.size - 1] == ' ' || t.data[t.size - 1] == '\n' || t.data[t.size - 1] == '\t');
}

/* Learned rows that are the same for all labels and stand in front of them: SPEC 10, CoOp. */
static size_t learned_in_front(const struct comma_prompts *p)
{
    if (p->n_classes || p->class_position == COMMA_CLASS_FRONT)
        return 0;
    return p->class_position == COMMA_CLASS_MIDDLE ? p->n_text / 2 : p->n_text;
}

bool comma_phrase_make(struct comma_phrase *p, const struct comma_text_tower *tower,
                       const struct comma_tokenizer *tokenizer, struct comma_worker *w,
                       const struct comma_prompts *prompts, struct comma_text before, struct comma_text after,
                       struct comma_error *err)
{
    const struct comma_text empty = { "", 0 };
    const size_t n_learned = prompts->n_text;
    const size_t in_front = learned_in_front(prompts);
    int32_t *ids = NULL;
    size_t n = 0;
    bool ok = false;

    *p = (struct comma_phrase){ .prompts = prompts, .learned = n_learned > 0 };
    p->ids = malloc(tower->context_length * sizeof(*p->ids));
    ids = malloc(tower->context_length * sizeof(*ids));
    p->before = copy_text(before);
    p->after = copy_text(after);
    if (!p->ids || !ids || !p->before || !p->after) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for a prompt's words");
        goto out;
    }
    if (!comma_tokenizer_encode(tokenizer, ends_apart(before) ? before : empty, p->ids, tower->context_length, &n,
                                err)) {
        comma_fail_within(err, "the words \"%.80s\"", p->before);
        goto out;
    }
    p->n_words = n - 1; /* without EOT */
    if (p->n_words < 1 + n_learned) {
        comma_fail(err, COMMA_E_MODEL, "ctx_init \"%.80s\" has %zu tokens, but %zu learned vectors take their places",
                   p->before, p->n_words - 1, n_learned);
        goto out;
    }
    p->n_before = in_front == n_learned ? p->n_words : 1 + in_front;
    memcpy(ids, p->ids, p->n_words * sizeof(*ids));
    for (size_t i = 0; i < in_front; i++)
        ids[1 + i] = -1 - (int32_t)i;
    ok = comma_prefix_make(tower, w, prompts, ids, p->n_before, &p->prefix, err);
out:
    free(ids);
    if (!ok)
        comma_phrase_finish(p);
    return ok;
}

void comma_phrase_finish(struct comma_phrase *p)
{
    free(p->before);
    free(p->after);
    free(p->ids);
    comma_prefix_finish(&p->prefix);
    *p = (struct comma_phrase){ 0 };
}

/* The label with '_' as spaces; the caller frees data. */
static bool compose_name(struct comma_text label, bool spaces, struct comma_text *out)
{
    char *s = copy_text(label);

    for (size_t i = 0; s && spaces && i < label.size; i++)
        if (s[i] == '_')
            s[i] = ' ';
    *out = (struct comma_text){ s, label.size };
    return s != NULL;
}

/* before + label + after; the caller frees data. */
static bool compose(const struct comma_phrase *p, struct comma_text label, bool spaces, struct comma_text *out)
{
    const size_t n_before = strlen(p->before), n_after = strlen(p->after);
    char *s = malloc(n_before + label.size + n_after + 1);

    if (!s)
        return false;
    memcpy(s, p->before, n_before);
    if (label.size)
        memcpy(s + n_before, label.data, label.size);
    if (spaces)
        for (size_t i = 0; i < label.size; i++)
            if (s[n_before + i] == '_')
                s[n_before + i] = ' ';
    memcpy(s + n_before + label.size, p->after, n_after);
    *out = (struct comma_text){ s, n_before + label.size + n_after };
    return true;
}

/* A label in a sentence of an error: whole characters, at most 100 bytes. */
static int shown(struct comma_text label)
{
    size_t n = label.size;

    if (n > 100) {
        n = 100;
        while (n > 0 && ((unsigned char)label.data[n] & 0xC0) == 0x80)
            n--;
    }
    return comma_utf8_valid(label.data, n) ? (int)n : 0;
}

/* Which class-specific context a label takes: the names count '_' and ' ' as one, as the authors' code does. */
static bool find_class(const struct comma_prompts *p, struct comma_text label, size_t *out, struct comma_error *err)
{
    for (size_t c = 0; c < p->n_classes; c++) {
        const char *name = p->class_names[c];
        size_t i = 0;

        if (strlen(name) != label.size)
            continue;
        while (i < label.size && (name[i] == label.data[i] || ((name[i] == '_' || name[i] == ' ') &&
                                                               (label.data[i] == '_' || label.data[i] == ' '))))
            i++;
        if (i == label.size) {
            *out = c;
            return true;
        }
    }
    return comma_fail(err, COMMA_E_INPUT,
                      "label \"%.*s\" is none of the %zu classes that this adapter was trained on, one vector each",
                      shown(label), label.data ? label.data : "", p->n_classes);
}

/* Rows behind the prefix where the class name does not simply follow it (SPEC 10, CoOp): learned rows, the name, more
 * learned rows, then what stands behind the name in the tokens, in this order.
 *   ids  [end + 1] of the whole, EOT last;  out [context_length] */
static bool arrange(const struct comma_phrase *p, const struct comma_text_tower *tower,
                    const struct comma_tokenizer *tokenizer, struct comma_text label, const int32_t *ids, size_t end,
                    int32_t *out, size_t *n, struct comma_error *err)
{
    const struct comma_prompts *prompts = p->prompts;
    const size_t learned = prompts->n_text, in_front = learned_in_front(prompts);
    const size_t before_name = prompts->class_position == COMMA_CLASS_END      ? learned
                               : prompts->class_position == COMMA_CLASS_MIDDLE ? learned / 2
                                                                               : 0;
    const int32_t *name = ids + p->n_words;
    size_t n_name = 0, class_index = 0, at = 0;

    if (prompts->n_classes && !find_class(prompts, label, &class_index, err))
        return false;
    if (!comma_tokenizer_encode(tokenizer, label, out, tower->context_length, &n_name, err))
        return false;
    n_name -= 2; /* SOS and EOT */
    if (p->n_words + n_name > end)
        return comma_fail(err, COMMA_E_INPUT, "label \"%.*s\" has other tokens alone than in its prompt", shown(label),
                          label.data ? label.data : "");
    for (size_t i = in_front; i < before_name; i++)
        out[at++] = -1 - (int32_t)(class_index * learned + i);
    memcpy(out + at, name, n_name * sizeof(*out));
    at += n_name;
    for (size_t i = before_name; i < learned; i++)
        out[at++] = -1 - (int32_t)(class_index * learned + i);
    memcpy(out + at, name + n_name, (end + 1 - p->n_words - n_name) * sizeof(*out));
    *n = at + end + 1 - p->n_words - n_name;
    return true;
}

bool comma_phrase_ids(const struct comma_phrase *p, const struct comma_text_tower *tower,
                      const struct comma_tokenizer *tokenizer, const struct comma_prefix *sos, struct comma_text label,
                      bool spaces, int32_t *room, const int32_t **ids, size_t *n, const struct comma_prefix **prefix,
                      struct comma_error *err)
{
    const int32_t eot = comma_tokenizer_eot(tokenizer);
    struct comma_text whole;
    size_t n_ids = 0, first, end = 1;
    bool ok;

    if (!compose(p, label, spaces, &whole))
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a label");
    ok = comma_tokenizer_encode(tokenizer, whole, room, tower->context_length, &n_ids, err);
    free((char *)whole.data);
    if (!ok)
        return comma_fail_within(err, "label \"%.*s\"", shown(label), label.data ? label.data : "");
    while (room[end] != eot) /* the largest id marks the position that is read: SPEC 5 (3) */
        end++;
    assert(end < n_ids);
    *prefix = &p->prefix;
    first = p->n_words;
    if (end < first || memcmp(room, p->ids, first * sizeof(*room)) != 0) {
        if (p->learned)
            return comma_fail(err, COMMA_E_INPUT, "label \"%.*s\" changes the words of the prompt in front of it",
                              shown(label), label.data ? label.data : "");
        *prefix = sos;
        first = 1;
    }
    if (p->n_before < p->n_words) {
        struct comma_text name;

        *ids = room + tower->context_length;
        if (!compose_name(label, spaces, &name))
            return comma_fail(err, COMMA_E_NOMEM, "out of memory for a label");
        ok = arrange(p, tower, tokenizer, name, room, end, room + tower->context_length, n, err);
        free((char *)name.data);
        return ok;
    }
    *ids = room + first;
    *n = end + 1 - first;
    return true;
}

/* ---- the cache ---- */

struct entry {
    struct comma_phrase phrase; /* first: a phrase is its entry */
    char *template;
    size_t size;
    unsigned users;
    struct entry *next;
};

struct comma_phrase_cache {
    pthread_mutex_t lock; /* protects all below and the entries' users and next */
    struct entry *entries;
    size_t n, max;
};

bool comma_phrase_cache_create(size_t max_phrases, struct comma_phrase_cache **out, struct comma_error *err)
{
    struct comma_phrase_cache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the template cache");
    cache->max = max_phrases;
    pthread_mutex_init(&cache->lock, NULL);
    *out = cache;
    return true;
}

static void entry_free(struct entry *e)
{
    comma_phrase_finish(&e->phrase);
    free(e->template);
    free(e);
}

void comma_phrase_cache_destroy(struct comma_phrase_cache *cache)
{
    if (!cache)
        return;
    for (struct entry *e = cache->entries, *next; e; e = next) {
        next = e->next;
        entry_free(e);
    }
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* Moves the template's entry to the front and takes it; NULL if there is none. Lock held. */
static struct entry *find(struct comma_phrase_cache *cache, struct comma_text template)
{
    for (struct entry **p = &cache->entries, *e; (e = *p); p = &e->next) {
        if (e->size != template.size || memcmp(e->template, template.data, template.size) != 0)
            continue;
        *p = e->next;
        e->next = cache->entries;
        cache->entries = e;
        e->users++;
        return e;
    }
    return NULL;
}

/* Drops the entries least recently used that nobody holds. Lock held. */
static void shrink(struct comma_phrase_cache *cache)
{
    size_t kept = 0;

    for (struct entry **p = &cache->entries, *e; (e = *p);) {
        if (kept < cache->max || e->users) {
            kept++;
            p = &e->next;
            continue;
        }
        *p = e->next;
        cache->n--;
        entry_free(e);
    }
}

static bool make(const struct comma_text_tower *tower, const struct comma_tokenizer *tokenizer, struct comma_worker *w,
                 struct comma_text template, struct entry **out, struct comma_error *err)
{
    static const struct comma_prompts plain = { 0 };
    const char *hole = template.size ? memmem(template.data, template.size, "{}", 2) : NULL;
    struct entry *e;
    size_t before;

    if (!hole || memmem(hole + 2, template.size - (size_t)(hole + 2 - template.data), "{}", 2))
        return comma_fail(err, COMMA_E_INPUT,
                          "a template has one {} where the class name goes, as \"a photo of a {}.\"");
    if (template.size > MAX_TEMPLATE_BYTES)
        return comma_fail(err, COMMA_E_INPUT, "a template has at most %d bytes; this one has %zu", MAX_TEMPLATE_BYTES,
                          template.size);
    before = (size_t)(hole - template.data);
    e = calloc(1, sizeof(*e));
    if (!e || !(e->template = copy_text(template))) {
        free(e);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a template");
    }
    if (!comma_phrase_make(&e->phrase, tower, tokenizer, w, &plain, (struct comma_text){ template.data, before },
                           (struct comma_text){ hole + 2, template.size - before - 2 }, err)) {
        entry_free(e);
        return comma_fail_within(err, "template \"%.*s\"", shown(template), template.data);
    }
    e->size = template.size;
    *out = e;
    return true;
}

bool comma_phrase_cache_get(struct comma_phrase_cache *cache, const struct comma_text_tower *tower,
                            const struct comma_tokenizer *tokenizer, struct comma_worker *w, struct comma_text template,
                            const struct comma_phrase **out, struct comma_error *err)
{
    struct entry *e, *made = NULL;

    pthread_mutex_lock(&cache->lock);
    e = find(cache, template);
    pthread_mutex_unlock(&cache->lock);
    if (!e) {
        if (!make(tower, tokenizer, w, template, &made, err))
            return false;
        pthread_mutex_lock(&cache->lock);
        e = find(cache, template); /* another thread may have been quicker */
        if (!e) {
            e = made;
            made = NULL;
            e->users = 1;
            e->next = cache->entries;
            cache->entries = e;
            cache->n++;
            shrink(cache);
        }
        pthread_mutex_unlock(&cache->lock);
        if (made)
            entry_free(made);
    }
    *out = &e->phrase;
    return true;
}

void comma_phrase_cache_put(struct comma_phrase_cache *cache, const struct comma_phrase *p)
{
    struct entry *e = (struct entry *)(uintptr_t)p;

    pthread_mutex_lock(&cache->lock);
    e->users--;
    if (cache->n > cache->max)
        shrink(cache);
    pthread_mutex_unlock(&cache->lock);
}
