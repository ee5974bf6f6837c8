/* SPDX-License-Identifier: MIT */
/* tensor_list.c - see tensor_list.h; also the reading half of tensor.h's list. */
#include "models/tensor_list.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct comma_tensors {
    char *file;
    struct comma_tensor *items; /* in the file's order; names are ours */
    size_t n, capacity;
    size_t *by_name; /* [n] indices sorted by name, NULL until sealed */
    struct comma_map *maps;
    size_t n_maps;
    void **memory;
    size_t n_memory;
};

static bool out_of_memory(const struct comma_tensors *ts, struct comma_error *err)
{
    return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", ts->file);
}

bool comma_tensors_create(const char *file, struct comma_tensors **out, struct comma_error *err)
{
    struct comma_tensors *ts = calloc(1, sizeof(*ts));

    if (ts && (ts->file = strdup(file))) {
        *out = ts;
        return true;
    }
    free(ts);
    return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", file);
}

bool comma_tensors_own_map(struct comma_tensors *ts, struct comma_map map, struct comma_error *err)
{
    struct comma_map *maps = realloc(ts->maps, (ts->n_maps + 1) * sizeof(*maps));

    if (!maps) {
        comma_map_close(&map);
        return out_of_memory(ts, err);
    }
    ts->maps = maps;
    ts->maps[ts->n_maps++] = map;
    return true;
}

bool comma_tensors_own_memory(struct comma_tensors *ts, void *memory, struct comma_error *err)
{
    void **all = realloc(ts->memory, (ts->n_memory + 1) * sizeof(*all));

    if (!all) {
        free(memory);
        return out_of_memory(ts, err);
    }
    ts->memory = all;
    ts->memory[ts->n_memory++] = memory;
    return true;
}

bool comma_tensors_add(struct comma_tensors *ts, const char *name, const struct comma_tensor *t,
                       struct comma_error *err)
{
    char *own_name;

    assert(!ts->by_name);
    if (ts->n == COMMA_MAX_TENSORS)
        return comma_fail(err, COMMA_E_MODEL, "%s: more than %d tensors", ts->file, COMMA_MAX_TENSORS);
    if (ts->n == ts->capacity) {
        const size_t capacity = ts->capacity ? ts->capacity * 2 : 64;
        struct comma_tensor *items = realloc(ts->items, capacity * sizeof(*items));

        if (!items)
            return out_of_memory(ts, err);
        ts->items = items;
        ts->capacity = capacity;
    }
    if (!(own_name = strdup(name)))
        return out_of_memory(ts, err);
    ts->items[ts->n] = *t;
    ts->items[ts->n++].name = own_name;
    return true;
}

bool comma_tensors_append(struct comma_tensors *ts, struct comma_tensors *from, struct comma_error *err)
{
    bool ok = true;

    for (size_t i = 0; ok && i < from->n; i++)
        ok = comma_tensors_add(ts, from->items[i].name, &from->items[i], err);
    for (; ok && from->n_maps > 0; from->n_maps--)
        ok = comma_tensors_own_map(ts, from->maps[from->n_maps - 1], err);
    for (; ok && from->n_memory > 0; from->n_memory--)
        ok = comma_tensors_own_memory(ts, from->memory[from->n_memory - 1], err);
    comma_tensors_close(from);
    return ok;
}

static int compare_names(const void *a, const void *b, void *items)
{
    const struct comma_tensor *t = items;

    return strcmp(t[*(const size_t *)a].name, t[*(const size_t *)b].name);
}

bool comma_tensors_seal(struct comma_tensors *ts, struct comma_error *err)
{
    ts->by_name = malloc((ts->n + 1) * sizeof(*ts->by_name));
    if (!ts->by_name)
        return out_of_memory(ts, err);
    for (size_t i = 0; i < ts->n; i++)
        ts->by_name[i] = i;
    qsort_r(ts->by_name, ts->n, sizeof(*ts->by_name), compare_names, ts->items);
    for (size_t i = 1; i < ts->n; i++) {
        const char *name = ts->items[ts->by_name[i]].name;

        if (strcmp(ts->items[ts->by_name[i - 1]].name, name) == 0)
            return comma_fail(err, COMMA_E_MODEL, "%s: %s is there twice", ts->file, comma_shown_name(name).text);
    }
    return true;
}

void comma_tensor_set_strides(struct comma_tensor *t)
{
    size_t stride = 1;

    for (unsigned i = t->n_dims; i-- > 0;) {
        t->strides[i] = stride;
        stride *= t->shape[i];
    }
}

size_t comma_tensors_size(const struct comma_tensors *ts)
{
    return ts->n;
}

const struct comma_tensor *comma_tensors_at(const struct comma_tensors *ts, size_t i)
{
    assert(i < ts->n);
    return &ts->items[i];
}

const struct comma_tensor *comma_tensors_find(const struct comma_tensors *ts, const char *name)
{
    size_t low = 0, high = ts->n;

    assert(ts->by_name);
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct comma_tensor *t = &ts->items[ts->by_name[middle]];
        const int order = strcmp(name, t->name);

        if (order == 0)
            return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

void comma_tensors_trim(const struct comma_tensors *ts)
{
    for (size_t i = 0; i < ts->n_maps; i++)
        comma_map_trim(&ts->maps[i]);
}

void comma_tensors_close(struct comma_tensors *ts)
{
    if (!ts)
        return;
    for (size_t i = 0; i < ts->n; i++)
        free((char *)(uintptr_t)ts->items[i].name);
    for (size_t i = 0; i < ts->n_maps; i++)
        comma_map_close(&ts->maps[i]);
    for (size_t i = 0; i < ts->n_memory; i++)
        free(ts->memory[i]);
    free(ts->items);
    free(ts->by_name);
    free(ts->maps);
    free(ts->memory);
    free(ts->file);
    free(ts);
}
