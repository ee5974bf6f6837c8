/* SPDX-License-Identifier: MIT */
/* label_store.c - rows and lists of label features: hash table, least-recently-used queue, bytes.
 *
 * One table holds both kinds; a flag is part of the key. Buckets are chains, so that an entry never moves; the bucket
 * array doubles when there are as many entries as buckets and never shrinks, which costs at most 16 bytes for each
 * entry that there ever was at once. An entry is one block of memory: header, label sizes, features, label bytes. */
#include "engine/label_store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/base/arena.h"
#include "engine/base/checked.h"
#include "engine/base/clock.h"

enum { FIRST_BUCKETS = 64, MALLOC_OVERHEAD = 16, BUCKET_SHARE = 2 * sizeof(void *) };

/* ---- packed texts ---- */

/* Sum of the texts' sizes; false on overflow. */
static bool total_size(const struct comma_text *texts, size_t n, size_t *out)
{
    size_t sum = 0;

    for (size_t i = 0; i < n; i++)
        if (!comma_add(sum, texts[i].size, &sum))
            return false;
    *out = sum;
    return true;
}

static void pack(struct comma_packed *packed, const struct comma_text *texts, size_t n)
{
    char *to = packed->bytes;

    packed->n = n;
    for (size_t i = 0; i < n; i++) {
        packed->sizes[i] = texts[i].size;
        if (texts[i].size > 0) /* an empty text may have no address */
            memcpy(to, texts[i].data, texts[i].size);
        to += texts[i].size;
    }
}

static bool packed_equal(const struct comma_packed *packed, const struct comma_text *texts, size_t n)
{
    const char *at = packed->bytes;

    if (packed->n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (packed->sizes[i] != texts[i].size || (texts[i].size > 0 && memcmp(at, texts[i].data, texts[i].size) != 0))
            return false;
        at += texts[i].size;
    }
    return true;
}

/* ---- hashes ---- */

/* Each text's hash seeds the next one's, so that the borders between texts count. */
static uint64_t hash_texts(uint64_t hash, const struct comma_text *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = XXH3_64bits_withSeed(texts[i].size > 0 ? texts[i].data : "", texts[i].size, hash + texts[i].size);
    return hash;
}

uint64_t comma_store_hash_row(const struct comma_store *store, const struct comma_scope *scope, struct comma_text label)
{
    return hash_texts(store->seed ^ scope->node.hash, &label, 1);
}

uint64_t comma_store_hash_list(const struct comma_store *store, const struct comma_scope *scope,
                               const struct comma_text *labels, size_t n)
{
    return hash_texts(~store->seed ^ scope->node.hash, labels, n);
}

static uint64_t random_seed(const void *address)
{
    uint64_t seed;

    /* Before the system has gathered entropy, time and address layout have to do. */
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = (uint64_t)comma_now_ns() * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)address;
    return seed;
}

/* ---- tables ---- */

static struct comma_node **bucket_of(const struct comma_table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->n_buckets - 1)];
}

static void table_insert(struct comma_table *table, struct comma_node *node)
{
    struct comma_node **bucket = bucket_of(table, node->hash);

    node->next = *bucket;
    *bucket = node;
    table->n++;
}

static void table_remove(struct comma_table *table, struct comma_node *node)
{
    struct comma_node **at = bucket_of(table, node->hash);

    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    table->n--;
}

/* Makes room for n nodes more, with no chain longer than chance makes it. False when memory ran out. */
static bool table_reserve(struct comma_table *table, size_t n)
{
    struct comma_table larger = { .n_buckets = table->n_buckets ? table->n_buckets : FIRST_BUCKETS };
    size_t wanted;

    if (!comma_add(table->n, n, &wanted))
        return false;
    while (larger.n_buckets < wanted)
        if (!comma_mul(larger.n_buckets, 2, &larger.n_buckets))
            return false;
    if (larger.n_buckets == table->n_buckets)
        return true;
    larger.buckets = calloc(larger.n_buckets, sizeof(*larger.buckets));
    if (!larger.buckets)
        return false;
    for (size_t i = 0; i < table->n_buckets; i++) {
        for (struct comma_node *node = table->buckets[i], *next; node; node = next) {
            next = node->next;
            table_insert(&larger, node);
        }
    }
    free(table->buckets);
    *table = larger;
    return true;
}

bool comma_store_reserve(struct comma_store *store, size_t n)
{
    return table_reserve(&store->entries, n);
}

/* ---- scopes ---- */

/* A scope with its key filled in; NULL when memory ran out. */
static struct comma_scope *scope_create(uint64_t owner, uint64_t hash, const struct comma_text *templates, size_t n)
{
    struct comma_scope *scope;
    size_t sizes, bytes, total;

    if (!total_size(templates, n, &bytes) || !comma_mul(n, sizeof(size_t), &sizes) ||
        !comma_add(sizeof(*scope) + MALLOC_OVERHEAD, sizes, &total) || !comma_add(total, bytes, &total))
        return NULL;
    scope = malloc(total);
    if (!scope)
        return NULL;
    *scope = (struct comma_scope){ .node.hash = hash, .owner = owner, .refs = 1, .bytes = total };
    scope->templates.sizes = (size_t *)(scope + 1);
    scope->templates.bytes = (char *)(scope->templates.sizes + n);
    pack(&scope->templates, templates, n);
    return scope;
}

struct comma_scope *comma_scope_get(struct comma_store *store, uint64_t owner, const struct comma_text *templates,
                                    size_t n_templates)
{
    const uint64_t hash = hash_texts(store->seed + owner * 0x9E3779B97F4A7C15u, templates, n_templates);
    struct comma_scope *scope;

    for (struct comma_node *node = *bucket_of(&store->scopes, hash); node; node = node->next) {
        scope = (struct comma_scope *)node;
        if (node->hash == hash && scope->owner == owner && !scope->forgotten &&
            packed_equal(&scope->templates, templates, n_templates)) {
            scope->refs++;
            return scope;
        }
    }
    if (!table_reserve(&store->scopes, 1))
        return NULL;
    scope = scope_create(owner, hash, templates, n_templates);
    if (!scope)
        return NULL;
    table_insert(&store->scopes, &scope->node);
    store->bytes += scope->bytes;
    return scope;
}

void comma_scope_unref(struct comma_store *store, struct comma_scope *scope)
{
    assert(scope->refs > 0);
    if (--scope->refs > 0)
        return;
    table_remove(&store->scopes, &scope->node);
    store->bytes -= scope->bytes;
    free(scope);
}

/* ---- entries ---- */

struct comma_entry *comma_entry_create(size_t dim, bool is_list, uint64_t hash, const struct comma_text *labels,
                                       size_t n)
{
    struct comma_entry *entry;
    size_t floats, bytes, total, features_at, labels_at;

    if (!comma_mul(n, dim, &floats) || !comma_mul(floats, sizeof(float), &floats) || !total_size(labels, n, &bytes) ||
        !comma_mul(n, sizeof(size_t), &total) || !comma_add(total, sizeof(*entry) + COMMA_ALIGN - 1, &features_at))
        return NULL;
    features_at -= features_at % COMMA_ALIGN;
    if (!is_list && floats < sizeof(struct comma_error))
        floats = sizeof(struct comma_error);
    if (!comma_add(features_at, floats, &labels_at) || !comma_add(labels_at, bytes, &total) ||
        !comma_add(total, COMMA_ALIGN - 1, &total) || total > PTRDIFF_MAX)
        return NULL;
    total -= total % COMMA_ALIGN;
    /* Rows are many and only copied from: for them malloc's alignment will do. */
    entry = is_list ? aligned_alloc(COMMA_ALIGN, total) : malloc(total);
    if (!entry)
        return NULL;
    *entry = (struct comma_entry){ .node.hash = hash, .pins = 1, .is_list = is_list };
    entry->bytes = total + MALLOC_OVERHEAD + BUCKET_SHARE;
    entry->features = (float *)((char *)entry + features_at);
    entry->labels.sizes = (size_t *)(entry + 1);
    entry->labels.bytes = (char *)entry + labels_at;
    pack(&entry->labels, labels, n);
    atomic_init(&entry->state, COMMA_PROMISED);
    return entry;
}

void comma_entry_destroy(struct comma_entry *entry)
{
    free(entry);
}

void comma_entries_free(struct comma_entry *chain)
{
    while (chain) {
        struct comma_entry *next = chain->older;

        free(chain);
        chain = next;
    }
}

struct comma_entry *comma_store_find(const struct comma_store *store, const struct comma_scope *scope, bool is_list,
                                     uint64_t hash, const struct comma_text *labels, size_t n)
{
    for (struct comma_node *node = *bucket_of(&store->entries, hash); node; node = node->next) {
        struct comma_entry *entry = (struct comma_entry *)node;

        if (node->hash == hash && entry->scope == scope && entry->is_list == is_list &&
            packed_equal(&entry->labels, labels, n))
            return entry;
    }
    return NULL;
}

void comma_store_insert(struct comma_store *store, struct comma_scope *scope, struct comma_entry *entry)
{
    table_insert(&store->entries, &entry->node);
    entry->in_table = true;
    entry->scope = scope;
    scope->refs++;
    store->bytes += entry->bytes;
    if (entry->is_list)
        store->n_lists++;
    else
        store->n_rows++;
}

void comma_store_remove(struct comma_store *store, struct comma_entry *entry)
{
    if (!entry->in_table)
        return;
    table_remove(&store->entries, &entry->node);
    entry->in_table = false;
    if (entry->is_list)
        store->n_lists--;
    else
        store->n_rows--;
}

/* ---- pins, queue, bytes ---- */

static void leave_queue(struct comma_store *store, struct comma_entry *entry)
{
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        store->newest = entry->older;
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        store->oldest = entry->newer;
    entry->newer = entry->older = NULL;
}

static void join_queue(struct comma_store *store, struct comma_entry *entry)
{
    entry->older = store->newest;
    if (store->newest)
        store->newest->newer = entry;
    else
        store->oldest = entry;
    store->newest = entry;
}

/* The end of an entry that nobody has pinned and that is not in the queue. */
static void let_go(struct comma_store *store, struct comma_entry *entry)
{
    comma_store_remove(store, entry);
    store->bytes -= entry->bytes;
    comma_scope_unref(store, entry->scope);
    entry->older = store->dead;
    store->dead = entry;
}

void comma_store_pin(struct comma_store *store, struct comma_entry *entry)
{
    if (entry->pins++ == 0)
        leave_queue(store, entry);
}

void comma_store_unpin(struct comma_store *store, struct comma_entry *entry)
{
    assert(entry->pins > 0);
    if (--entry->pins > 0)
        return;
    /* What is larger than the whole cache must not push everything else out before it goes itself. */
    if (entry->in_table && !entry->scope->forgotten && entry->bytes <= store->max_bytes)
        join_queue(store, entry);
    else
        let_go(store, entry);
}

void comma_store_evict(struct comma_store *store)
{
    while (store->bytes > store->max_bytes && store->oldest) {
        struct comma_entry *entry = store->oldest;

        leave_queue(store, entry);
        store->evictions += !entry->is_list;
        let_go(store, entry);
    }
}

void comma_store_forget(struct comma_store *store, uint64_t owner)
{
    for (size_t i = 0; i < store->scopes.n_buckets; i++)
        for (struct comma_node *node = store->scopes.buckets[i]; node; node = node->next)
            if (((struct comma_scope *)node)->owner == owner)
                ((struct comma_scope *)node)->forgotten = true;
    for (struct comma_entry *entry = store->oldest, *newer; entry; entry = newer) {
        newer = entry->newer;
        if (entry->scope->owner == owner) {
            leave_queue(store, entry);
            let_go(store, entry);
        }
    }
}

struct comma_entry *comma_store_bury(struct comma_store *store)
{
    struct comma_entry *chain = store->dead;

    store->dead = NULL;
    return chain;
}

bool comma_store_init(struct comma_store *store, size_t dim, size_t max_bytes, struct comma_error *err)
{
    *store = (struct comma_store){ .dim = dim, .max_bytes = max_bytes, .seed = random_seed(store) };
    if (table_reserve(&store->entries, 1) && table_reserve(&store->scopes, 1))
        return true;
    free(store->entries.buckets);
    return comma_fail(err, COMMA_E_NOMEM, "label cache: out of memory");
}

void comma_store_finish(struct comma_store *store)
{
    store->max_bytes = 0;
    comma_store_evict(store);
    assert(store->entries.n == 0 && store->scopes.n == 0); /* else rows were not released */
    comma_entries_free(comma_store_bury(store));
    free(store->entries.buckets);
    free(store->scopes.buckets);
}
