/* SPDX-License-Identifier: MIT */
/* torch_file.c - see torch_file.h. Pickle gives a graph of plain values; here it is seen what torch means by them. */
#include "models/torch_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/map.h"
#include "models/pickle.h"
#include "models/safetensors.h"
#include "models/tensor_list.h"
#include "models/torch_zip.h"

#define MAX_NAME   1024
#define MAX_DEPTH  64     /* of a tree of modules */
#define MAX_VISITS 200000 /* of its nodes: shared ones are seen once for each path that leads to them */

struct reader {
    const char *name;
    struct comma_torch_zip *zip;
    struct comma_pickle pickle;
    struct comma_tensors *tensors;
    struct comma_error *err;
};

/* ---- one tensor ---- */

static bool storage_dtype(const struct comma_pickle_value *class, enum comma_dtype *out)
{
    static const struct {
        const char *name;
        enum comma_dtype dtype;
    } storages[] = {
        { "FloatStorage", COMMA_F32 },  { "HalfStorage", COMMA_F16 }, { "BFloat16Storage", COMMA_BF16 },
        { "DoubleStorage", COMMA_F64 }, { "LongStorage", COMMA_I64 }, { "IntStorage", COMMA_I32 },
        { "ShortStorage", COMMA_I16 },  { "CharStorage", COMMA_I8 },  { "ByteStorage", COMMA_U8 },
        { "BoolStorage", COMMA_BOOL },
    };

    for (size_t i = 0; i < sizeof(storages) / sizeof(*storages); i++)
        if (comma_pickle_is_global(class, "torch", storages[i].name)) {
            *out = storages[i].dtype;
            return true;
        }
    return false;
}

static bool get_size(const struct comma_pickle_value *v, size_t *out)
{
    if (!v || v->kind != COMMA_PICKLE_INT || v->integer < 0)
        return false;
    *out = (size_t)v->integer;
    return true;
}

/* persistent id ('storage', class, key, location, numel): its bytes, and its elements' dtype into t. */
static bool read_storage(struct reader *r, const char *name, const struct comma_pickle_value *persistent,
                         struct comma_tensor *t, size_t *numel)
{
    const struct comma_pickle *p = &r->pickle;
    const struct comma_pickle_value *id = comma_pickle_item(p, persistent, 0), *key = comma_pickle_item(p, id, 2);
    struct comma_bytes bytes;
    char entry[128];
    size_t size;

    if (!persistent || persistent->kind != COMMA_PICKLE_PERSISTENT || !id || id->kind != COMMA_PICKLE_TUPLE || !key ||
        key->kind != COMMA_PICKLE_STRING || key->text.size > 64 || !get_size(comma_pickle_item(p, id, 4), numel))
        return comma_fail(r->err, COMMA_E_MODEL, "%s: %s has no storage", r->name, comma_shown_name(name).text);
    if (!storage_dtype(comma_pickle_item(p, id, 1), &t->dtype))
        return comma_fail(r->err, COMMA_E_UNSUPPORTED, "%s: %s is stored in an unknown type", r->name,
                          comma_shown_name(name).text);
    snprintf(entry, sizeof(entry), "data/%.*s", (int)key->text.size, key->text.data);
    if (!comma_torch_zip_entry(r->zip, entry, &bytes, r->err))
        return false;
    if (!comma_mul(*numel, comma_dtype_bytes(t->dtype), &size) || size > bytes.size)
        return comma_fail(r->err, COMMA_E_MODEL, "%s: the storage of %s has %zu bytes, too few for %zu of %s", r->name,
                          comma_shown_name(name).text, bytes.size, *numel, comma_dtype_name(t->dtype));
    t->data = bytes.data;
    return true;
}

/* Sizes and strides; the last element must lie inside the storage. */
static bool read_layout(struct reader *r, const char *name, const struct comma_pickle_value *arguments, size_t numel,
                        struct comma_tensor *t)
{
    const struct comma_pickle *p = &r->pickle;
    const struct comma_pickle_value *sizes = comma_pickle_item(p, arguments, 2);
    const struct comma_pickle_value *strides = comma_pickle_item(p, arguments, 3);
    size_t offset, last, count = 1;
    bool empty = false, ok;

    if (!sizes || !strides || sizes->kind != COMMA_PICKLE_TUPLE || strides->kind != COMMA_PICKLE_TUPLE ||
        sizes->n != strides->n || sizes->n > COMMA_MAX_DIMS || !get_size(comma_pickle_item(p, arguments, 1), &offset))
        return comma_fail(r->err, COMMA_E_MODEL, "%s: %s has no shape of up to %d dimensions", r->name,
                          comma_shown_name(name).text, COMMA_MAX_DIMS);
    t->n_dims = sizes->n;
    last = offset;
    ok = true;
    for (unsigned i = 0; ok && i < t->n_dims; i++) {
        size_t step;

        ok = get_size(comma_pickle_item(p, sizes, i), &t->shape[i]) &&
             get_size(comma_pickle_item(p, strides, i), &t->strides[i]);
        if (ok && t->shape[i] == 0)
            empty = true;
        else if (ok) /* count also bounds views with stride 0, which repeat what is there */
            ok = comma_mul(t->shape[i] - 1, t->strides[i], &step) && comma_add(last, step, &last) &&
                 comma_mul(count, t->shape[i], &count);
    }
    if (!ok || (empty ? offset > numel : last >= numel || count > numel))
        return comma_fail(r->err, COMMA_E_MODEL, "%s: %s reaches past the end of its storage", r->name,
                          comma_shown_name(name).text);
    t->data += offset * comma_dtype_bytes(t->dtype);
    return true;
}

/* The arguments of the call that makes a tensor; NULL if v is none. Parameters wrap a tensor. */
static const struct comma_pickle_value *tensor_arguments(const struct comma_pickle *p,
                                                         const struct comma_pickle_value *v)
{
    for (int wrapped = 0; wrapped < 4 && v && v->kind == COMMA_PICKLE_OBJECT; wrapped++) {
        const struct comma_pickle_value *class = comma_pickle_item(p, v, 0), *arguments = comma_pickle_item(p, v, 1);

        if (comma_pickle_is_global(class, "torch._utils", "_rebuild_tensor_v2"))
            return arguments;
        if (!comma_pickle_is_global(class, "torch._utils", "_rebuild_parameter"))
            break;
        v = comma_pickle_item(p, arguments, 0);
    }
    return NULL;
}

static bool read_tensor(struct reader *r, const char *name, const struct comma_pickle_value *arguments)
{
    struct comma_tensor t = { 0 };
    size_t numel = 0;

    return read_storage(r, name, comma_pickle_item(&r->pickle, arguments, 0), &t, &numel) &&
           read_layout(r, name, arguments, numel, &t) && comma_tensors_add(r->tensors, name, &t, r->err);
}

/* ---- the tree ---- */

/* A dictionary being walked. */
struct frame {
    const struct comma_pickle_value *dict;
    uint32_t next;      /* pair */
    size_t name_length; /* of the path to it */
};

struct walk {
    struct frame frames[MAX_DEPTH];
    size_t depth, visits;
    char name[MAX_NAME];
};

/* What the attributes of a value are: a dictionary's pairs, an object's state; NULL for plain values. */
static const struct comma_pickle_value *attributes(const struct comma_pickle *p, const struct comma_pickle_value *v)
{
    if (v && v->kind == COMMA_PICKLE_OBJECT)
        v = comma_pickle_item(p, v, 2);
    return v && v->kind == COMMA_PICKLE_DICT ? v : NULL;
}

/* Puts the key behind the frame's path; false if it is no usable name. */
static bool extend_name(struct walk *w, const struct frame *f, const struct comma_pickle_value *key)
{
    size_t at = f->name_length;

    if (key->kind != COMMA_PICKLE_STRING || key->text.size == 0 || key->text.size + 2 > sizeof(w->name) - at ||
        memchr(key->text.data, '\0', key->text.size) || !comma_utf8_valid(key->text.data, key->text.size))
        return false;
    if (at > 0)
        w->name[at++] = '.';
    memcpy(w->name + at, key->text.data, key->text.size);
    w->name[at + key->text.size] = '\0';
    return true;
}

/* Depth first, in the file's order; modules says whether objects are gone into. */
static bool walk_tree(struct reader *r, const struct comma_pickle_value *root, bool modules, struct walk *w)
{
    const struct comma_pickle *p = &r->pickle;

    w->frames[0] = (struct frame){ .dict = root };
    w->depth = 1;
    while (w->depth > 0) {
        struct frame *f = &w->frames[w->depth - 1];
        const struct comma_pickle_value *value, *arguments, *inner;

        if (f->next >= f->dict->n) {
            w->depth--;
            continue;
        }
        value = &p->values[f->dict->items[f->next + 1]];
        f->next += 2;
        if (++w->visits > MAX_VISITS)
            return comma_fail(r->err, COMMA_E_MODEL, "%s: more than %d attributes", r->name, MAX_VISITS);
        if (!extend_name(w, f, &p->values[f->dict->items[f->next - 2]]))
            continue;
        if ((arguments = tensor_arguments(p, value))) {
            if (!read_tensor(r, w->name, arguments))
                return false;
        } else if (modules && value->kind == COMMA_PICKLE_OBJECT && (inner = attributes(p, value))) {
            if (w->depth == MAX_DEPTH)
                return comma_fail(r->err, COMMA_E_MODEL, "%s: modules nested deeper than %d", r->name, MAX_DEPTH);
            w->frames[w->depth++] = (struct frame){ inner, 0, strlen(w->name) };
        }
    }
    return true;
}

static bool read_root(struct reader *r)
{
    const struct comma_pickle *p = &r->pickle;
    const struct comma_pickle_value *root = &p->values[p->root], *inner;
    const bool modules = root->kind == COMMA_PICKLE_OBJECT; /* TorchScript */
    struct walk *w;
    bool ok;

    if ((inner = comma_pickle_get(p, root, "state_dict")))
        root = inner;
    root = attributes(p, root);
    if (!root)
        return comma_fail(r->err, COMMA_E_MODEL, "%s: holds neither a state dict nor a TorchScript module", r->name);
    w = calloc(1, sizeof(*w));
    if (!w)
        return comma_fail(r->err, COMMA_E_NOMEM, "%s: out of memory", r->name);
    ok = walk_tree(r, root, modules, w);
    free(w);
    return ok && comma_tensors_seal(r->tensors, r->err);
}

bool comma_torch_parse(struct comma_bytes file, const char *name, struct comma_tensors **out, struct comma_error *err)
{
    struct reader r = { .name = name, .err = err };
    struct comma_bytes pickle;
    bool ok = false;

    if (comma_tensors_create(name, &r.tensors, err) && comma_torch_zip_open(file, name, &r.zip, err) &&
        comma_torch_zip_entry(r.zip, "data.pkl", &pickle, err) && comma_pickle_parse(pickle, name, &r.pickle, err) &&
        read_root(&r))
        ok = comma_tensors_size(r.tensors) > 0 ||
             comma_fail(err, COMMA_E_MODEL, "%s: holds no tensors by name; a state dict is needed", name);
    comma_pickle_finish(&r.pickle);
    comma_torch_zip_close(r.zip);
    if (ok)
        *out = r.tensors;
    else
        comma_tensors_close(r.tensors);
    return ok;
}

/* ---- files ---- */

typedef bool (*parse_fn)(struct comma_bytes, const char *, struct comma_tensors **, struct comma_error *);

/* parse NULL: by the first bytes. */
static bool open_file(const char *path, parse_fn parse, struct comma_tensors **out, struct comma_error *err)
{
    struct comma_map map = { 0 };
    struct comma_tensors *ts = NULL;
    struct comma_bytes bytes;

    if (!comma_map_open(&map, path, err))
        return false;
    bytes = (struct comma_bytes){ map.data, map.size };
    if (!parse)
        parse = comma_torch_zip_detect(bytes) ? comma_torch_parse : comma_safetensors_parse;
    if (!parse(bytes, path, &ts, err)) {
        comma_map_close(&map);
        return false;
    }
    if (!comma_tensors_own_map(ts, map, err)) {
        comma_tensors_close(ts);
        return false;
    }
    *out = ts;
    return true;
}

bool comma_torch_open(const char *path, struct comma_tensors **out, struct comma_error *err)
{
    return open_file(path, comma_torch_parse, out, err);
}

bool comma_checkpoint_open(const char *path, struct comma_tensors **out, struct comma_error *err)
{
    return open_file(path, NULL, out, err);
}

const char *comma_checkpoint_container(const char *path)
{
    struct comma_map map = { 0 };
    bool torch;

    if (!comma_map_open(&map, path, NULL))
        return NULL;
    torch = comma_torch_zip_detect((struct comma_bytes){ map.data, map.size });
    comma_map_close(&map);
    return torch ? "torch" : "safetensors";
}
