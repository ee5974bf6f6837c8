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

/* Where an adapter comes from; of one name the first counts. */
enum source { NAMED, FOLDER, MODEL };

struct entry {
    char name[65];
    char *dir;
    enum source source;
    bool served, seen;
    struct stamp config, weights;
};

struct comma_adapter_set {
    const char *folder; /* NULL: none */
    char *own;          /* the model's adapters/; NULL: none, or embedded */
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
    items[set->n] = (struct entry){ .source = MODEL };
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
    e->source = NAMED;
    e->dir = strdup(equals + 1);
    return e->dir || comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
}

bool comma_adapter_set_create(const struct comma_strings *named, const char *dir, const char *model_dir,
                              struct comma_adapter_set **out, struct comma_error *err)
{
    struct comma_adapter_set *set = calloc(1, sizeof(*set));
    bool ok = set && (!model_dir || asprintf(&set->own, "%s/adapters", model_dir) >= 0);

    if (!ok) {
        free(set);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
    }
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
    free(set->own);
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

/* Gives the entry of a name to a folder, unless one that comes first has it. */
static bool claim(struct entry *e, enum source source, const char *path, struct comma_error *err)
{
    if (e->source == NAMED || e->seen)
        return true;
    e->seen = true;
    if (e->dir && strcmp(e->dir, path) == 0)
        return true;
    free(e->dir);
    e->dir = strdup(path);
    e->source = source;
    e->config = e->weights = (struct stamp){ 0 }; /* so that it is opened from here */
    return e->dir || comma_fail(err, COMMA_E_NOMEM, "out of memory for the list of adapters");
}

/* Notes the adapters in a folder: those with an adapter_config.json. */
static bool scan(struct comma_adapter_set *set, const char *path, enum source source, struct comma_log *log,
                 struct comma_error *err)
{
    DIR *folder = opendir(path);
    struct dirent *d;
    bool ok = true;

    if (!folder && errno == ENOENT && source == MODEL)
        return true;
    if (!folder)
        return comma_fail(err, COMMA_E_IO, "%s%s: %s", source == FOLDER ? "--adapters " : "", path, strerror(errno));
    while (ok && (d = readdir(folder))) {
        char dir[PATH_MAX];
        struct stamp stamp;
        struct entry *e;

        if (d->d_name[0] == '.' || (size_t)snprintf(dir, sizeof(dir), "%s/%s", path, d->d_name) >= sizeof(dir) ||
            !read_stamp(dir, "adapter_config.json", &stamp))
            continue;
        if (strlen(d->d_name) >= sizeof(e->name)) {
            comma_log_event(log, COMMA_LOG_ERROR, "adapter_skipped", "%s: a name has at most 64 bytes", dir);
            continue;
        }
        e = entry_of(set, d->d_name, strlen(d->d_name), err);
        ok = e && claim(e, source, dir, err);
    }
    closedir(folder);
    return ok;
}

static bool scan_all(struct comma_adapter_set *set, struct comma_log *log, struct comma_error *err)
{
    return (!set->folder || scan(set, set->folder, FOLDER, log, err)) &&
           (!set->own || scan(set, set->own, MODEL, log, err));
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
        return false;
    e->config = config;
    e->weights = weights;
    e->served = *opened = true;
    return true;
}

bool comma_adapter_set_open(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_log *log,
                            struct comma_error *err)
{
    bool opened;

    if (!scan_all(set, log, err))
        return false;
    for (size_t i = 0; i < set->n; i++) {
        if (refresh(&set->items[i], engine, &opened, err))
            continue;
        if (set->items[i].source == NAMED)
            return false;
        comma_log_event(log, COMMA_LOG_ERROR, "adapter_skipped", "%s", err->message);
    }
    return true;
}

/* Stops serving what is no longer in its folder, and forgets it. */
static void drop_gone(struct comma_adapter_set *set, struct comma_engine *engine, struct comma_log *log)
{
    size_t kept = 0;

    for (size_t i = 0; i < set->n; i++) {
        struct entry e = set->items[i];

        if (e.source == NAMED || e.seen) {
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
    if (!scan_all(set, log, &err)) {
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
