/* SPDX-License-Identifier: MIT */
/* adapters.c - see adapters.h. An adapter has changed if one of its files has another inode, size or time: files are to
 * be replaced by rename, never written in place, since they are mapped. */
#include "server/adapters.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct entry {
    char name[65];
    char *dir;
    bool from_folder, served, seen;
    struct stamp config, weights;
};

struct comma_adapter_set {
    const char *folder; /* NULL: none */
    struct entry *items;
    size_t n;
};

/* The entry of a name; a new one at the end if there is none. */
static struct entry *entry_of(struct comma_adapter_set *set, const char *name, size_t size, struct comma_error *err)
{
    struct entry *items;

    if (size >= sizeof(items->name)) {
        comma_fail(err, COMMA_E_INPUT, "adapter %.70s: a name has at most 64 bytes", name);
        return NULL;
    }
    for (size_t i = 0; i < set->n; i++)
        if (strlen(set->items[i].name) == size && memcmp(set->items[i].name, name, size) == 0)
            return &set->items[i];
    items = realloc(set->items, (set->n + 1) * sizeof(*items));
    if (!items) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
        return NULL;
    }
    set->items = items;
    items[set->n] = (struct entry){ .from_folder = true };
    memcpy(items[set->n].name, name, size);
    return &items[set->n++];
}

static bool add_named(struct comma_adapter_set *set, const char *item, struct comma_error *err)
{
    const char *equals = strchr(item, '=');
    struct entry *e = entry_of(set, item, (size_t)(equals - item), err);

    if (!e)
        return false;
    if (e->dir)
        return comma_fail(err, COMMA_E_INPUT, "--adapter: the name %s is given twice", e->name);
    e->from_folder = false;
    e->dir = strdup(equals + 1);
    return e->dir || comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
}

bool comma_adapter_set_create(const struct comma_strings *named, const char *dir, struct comma_adapter_set **out,
                              struct comma_error *err)
{
    struct comma_adapter_set *set = calloc(1, sizeof(*set));
    bool ok = set || comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");

    if (ok)
        set->folder = dir;
    for (size_t i = 0; ok && i < named->n; i++)
        ok = add_named(set, named->items[i], err);
    if (ok)
        *out = set;
    else
        comma_adapter_set_destroy(set);
    return ok;
}

void comma_adapter_set_destroy(struct comma_adapter_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->n; i++)
        free(set->items[i].dir);
    free(set->items);
    free(set);
}

static bool read_stamp(const char *dir, const char *file, struct stamp *out)
{
    char path[PATH_MAX];
    struct stat st;

    *out = (struct stamp){ 0 };
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path) || stat(path, &st) != 0)
        return false;
    *out = (struct stamp){ st.st_dev, st.st_ino, st.st_size, st.st_mtim };
    return true;
}

static bool same(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Notes the adapters in the folder: those with an adapter_config.json. */
static bool scan(struct comma_adapter_set *set, struct comma_error *err)
{
    DIR *folder = opendir(set->folder);
    struct dirent *d;
    bool ok = true;

    if (!folder)
        return comma_fail(err, COMMA_E_IO, "--adapters %s: %s", set->folder, strerror(errno));
    while (ok && (d = readdir(folder))) {
        char path[PATH_MAX];
        struct stamp stamp;
        struct entry *e;

        if (d->d_name[0] == '.' ||
            (size_t)snprintf(path, sizeof(path), "%s/%s", set->folder, d->d_name) >= sizeof(path) ||
            !read_stamp(path, "adapter_config.json", &stamp))
            continue;
        e = entry_of(set, d->d_name, strlen(d->d_name), err);
        ok = e != NULL;
        if (!ok || !e->from_folder)
            continue; /* --adapter of the same name comes first */
        e->seen = true;
        if (!e->dir)
            e->dir = strdup(path);
        ok = e->dir || comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
    }
    closedir(folder);
    return ok;
}

/* Opens an adapter if it is new or its files are others now. */
static bool refresh(struct entry *e, struct comma_engine *engine, bool *opened, struct comma_error *err)
{
    struct stamp config, weights;

    *opened = false;
    read_stamp(e->dir, "adapter_config.json", &config);
    read_stamp(e->dir, "adapter_model.safetensors", &weights);
    if (e->served && same(&config, &e->config) && same(&weights, &e->weights))
        return true;
    if (!comma_engine_add_adapter(engine, e->name, e->dir, err))
        return comma_fail_within(err, "adapter %s", e->name);
    e->config = config;
    e->weights = weights;
    e->served = *opened = true;
    return true;
}

bool comma_adapter_set_open(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_error *err)
{
    bool opened;

    if (set->folder && !scan(set, err))
        return false;
    for (size_t i = 0; i < set->n; i++)
        if (!refresh(&set->items[i], engine, &opened, err))
            return false;
    return true;
}

/* Stops serving what is no longer in the folder, and forgets it. */
static void drop_gone(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_log *log)
{
    size_t kept = 0;

    for (size_t i = 0; i < set->n; i++) {
        struct entry e = set->items[i];

        if (!e.from_folder || e.seen) {
            set->items[kept++] = e;
            continue;
        }
        if (e.served && comma_engine_remove_adapter(engine, e.name))
            comma_log_event(log, COMMA_LOG_INFO, "adapter_removed", "%s", e.name);
        free(e.dir);
    }
    set->n = kept;
}

bool comma_adapter_set_reload(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_log *log)
{
    struct comma_error err = { 0 };
    bool ok = true, opened;

    for (size_t i = 0; i < set->n; i++)
        set->items[i].seen = false;
    if (set->folder && !scan(set, &err)) {
        comma_log_event(log, COMMA_LOG_ERROR, "reload_failed", "%s", err.message);
        return false; /* a folder that cannot be read does not mean that all adapters are gone */
    }
    drop_gone(set, engine, log);
    for (size_t i = 0; i < set->n; i++) {
        if (!refresh(&set->items[i], engine, &opened, &err)) {
            comma_log_event(log, COMMA_LOG_ERROR, "reload_failed", "%s", err.message);
            ok = false;
        } else if (opened) {
            comma_log_event(log, COMMA_LOG_INFO, "adapter_opened", "%s from %s", set->items[i].name, set->items[i].dir);
        }
    }
    return ok;
}
