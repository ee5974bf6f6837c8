/* SPDX-License-Identifier: MIT */
/* label_store.h - what the label cache keeps: rows and whole lists in one hash table, bounded in bytes.
 *
 * An entry is a key (scope, one label or a list of them) and its features. While requests use it, it is pinned; with
 * the last pin gone it queues as the most recently used, and the least recently used ones go when bytes run out.
 * A scope is (owner, templates), held once for all its entries. Keys are compared in full; the hash, seeded at random
 * so that clients cannot choose labels that collide, only finds the bucket.
 *
 * Private to label_cache.c, which calls all of this under its one lock, save what says otherwise. */
#ifndef COMMA_ENGINE_LABEL_STORE_H
#define COMMA_ENGINE_LABEL_STORE_H

#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

/* Texts one behind the other: the form in which keys are kept. */
struct comma_packed {
    size_t n;
    size_t *sizes; /* [n] */
    char *bytes;
};

/* What a hash table holds: the first member of scopes and entries. */
struct comma_node {
    struct comma_node *next; /* in its bucket */
    uint64_t hash;
};

struct comma_table {
    struct comma_node **buckets; /* [n_buckets], a power of two */
    size_t n_buckets, n;
};

struct comma_scope {
    struct comma_node node;
    uint64_t owner;
    size_t refs, bytes;
    bool forgotten; /* its entries are not kept once unpinned */
    struct comma_packed templates;
};

enum comma_entry_state { COMMA_PROMISED, COMMA_READY, COMMA_ABANDONED };

struct comma_entry {
    struct comma_node node;
    struct comma_entry *newer, *older; /* the queue of the unpinned; older also chains the dead */
    struct comma_entry *next_todo;     /* the promiser's */
    const void *promiser;              /* who promised it; means something only while COMMA_PROMISED */
    struct comma_scope *scope;
    size_t pins, bytes; /* bytes: key, features and overhead */
    bool is_list, in_table;
    /* Written by the promiser alone, with release, after the features; whoever read COMMA_READY with acquire may read
     * the features without the lock. */
    _Atomic int state;
    struct comma_packed labels; /* one, or a list's */
    float *features; /* [labels.n, dim]; a row's has room for the struct comma_error that COMMA_ABANDONED holds */
};

struct comma_store {
    size_t dim, max_bytes;
    size_t bytes; /* entries and scopes alive, pinned ones too */
    size_t n_rows, n_lists;
    uint64_t seed, evictions; /* of rows */
    struct comma_table entries, scopes;
    struct comma_entry *newest, *oldest; /* ends of the queue */
    struct comma_entry *dead;            /* to be freed by comma_store_bury() */
};

/* Fails with COMMA_E_NOMEM, the store then needs no finish. */
COMMA_MUST_CHECK
bool comma_store_init(struct comma_store *store, size_t dim, size_t max_bytes, struct comma_error *err);
void comma_store_finish(struct comma_store *store); /* nothing may be pinned */

/* Finds or makes the scope and refs it; NULL when memory ran out. */
struct comma_scope *comma_scope_get(struct comma_store *store, uint64_t owner, const struct comma_text *templates,
                                    size_t n_templates);
void comma_scope_unref(struct comma_store *store, struct comma_scope *scope);

/* Hashes of a label and of a list. Need no lock. */
uint64_t comma_store_hash_row(const struct comma_store *store, const struct comma_scope *scope,
                              struct comma_text label);
uint64_t comma_store_hash_list(const struct comma_store *store, const struct comma_scope *scope,
                               const struct comma_text *labels, size_t n);

/* The entry of that key, or NULL. */
struct comma_entry *comma_store_find(const struct comma_store *store, const struct comma_scope *scope, bool is_list,
                                     uint64_t hash, const struct comma_text *labels, size_t n);

/* An entry outside the table with its key filled in, features not, pinned once; NULL when memory ran out. A list's
 * features are COMMA_ALIGN-aligned. Needs no lock. */
struct comma_entry *comma_entry_create(size_t dim, bool is_list, uint64_t hash, const struct comma_text *labels,
                                       size_t n);
void comma_entry_destroy(struct comma_entry *entry); /* one that was never inserted; NULL is fine */

/* Makes sure that n more entries can be inserted. False when memory ran out. */
COMMA_MUST_CHECK
bool comma_store_reserve(struct comma_store *store, size_t n);
void comma_store_insert(struct comma_store *store, struct comma_scope *scope, struct comma_entry *entry);

/* Takes an entry out of the table, for those who look it up; who pinned it keeps it. */
void comma_store_remove(struct comma_store *store, struct comma_entry *entry);

void comma_store_pin(struct comma_store *store, struct comma_entry *entry);
void comma_store_unpin(struct comma_store *store, struct comma_entry *entry);

/* Lets the least recently used unpinned entries go until max_bytes are met. */
void comma_store_evict(struct comma_store *store);

/* Lets all unpinned entries of an owner go, and the others as soon as they are unpinned. */
void comma_store_forget(struct comma_store *store, uint64_t owner);

/* Takes the chain of entries that have gone; comma_entries_free() frees it, without the lock, since it may be long. */
struct comma_entry *comma_store_bury(struct comma_store *store);
void comma_entries_free(struct comma_entry *chain);

#endif
