/* SPDX-License-Identifier: MIT */
/* pickle.h - Python's pickle, protocols 2 to 5, as plain data: nothing in it is ever executed. Inside models/ only.
 *
 * The bytes become a graph of values. Dictionaries, lists, tuples, numbers and strings are what they say; a global is
 * its name; a call or an instance is an opaque object that remembers its class, arguments and state. Only the dict
 * types of collections are known by name, as dictionaries. What torch means by its objects is torch_file.c's.
 *
 * Cost is bounded by the input: one step an opcode, at most one value an opcode, no recursion. The graph may have
 * shared values and cycles, so whoever walks it bounds the walk. */
#ifndef COMMA_MODELS_PICKLE_H
#define COMMA_MODELS_PICKLE_H

#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

enum comma_pickle_kind {
    COMMA_PICKLE_NONE,
    COMMA_PICKLE_BOOL,       /* integer 0 or 1 */
    COMMA_PICKLE_INT,        /* integer; beyond 64 bits it becomes COMMA_PICKLE_OTHER */
    COMMA_PICKLE_FLOAT,      /* real */
    COMMA_PICKLE_STRING,     /* text, UTF-8 unchecked, borrowed from the input */
    COMMA_PICKLE_TUPLE,      /* items [n] */
    COMMA_PICKLE_LIST,       /* items [n] */
    COMMA_PICKLE_DICT,       /* items [n]: key, value, key, value; a key may come twice, the later counts */
    COMMA_PICKLE_GLOBAL,     /* text is the module, global_name the name in it */
    COMMA_PICKLE_OBJECT,     /* items [3]: class, arguments, state */
    COMMA_PICKLE_PERSISTENT, /* items [1]: the persistent id */
    COMMA_PICKLE_OTHER       /* bytes, sets, huge integers: nothing that a state dict needs */
};

struct comma_pickle_value {
    enum comma_pickle_kind kind;
    struct comma_text text;
    union {
        int64_t integer;
        double real;
        struct comma_text global_name;
        struct {
            uint32_t *items; /* indices of values */
            uint32_t n, capacity;
        };
    };
};

struct comma_pickle {
    struct comma_pickle_value *values;
    uint32_t n_values, capacity;
    uint32_t root;
};

/* Reads bytes, which must outlive *out. At most 256 MiB are read. Fails with COMMA_E_MODEL naming what is wrong and the
 * byte, or COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_pickle_parse(struct comma_bytes bytes, const char *name, struct comma_pickle *out, struct comma_error *err);
void comma_pickle_finish(struct comma_pickle *p); /* a zeroed one is fine */

/* The value of a string key; NULL if v is no dictionary or has no such key. */
const struct comma_pickle_value *comma_pickle_get(const struct comma_pickle *p, const struct comma_pickle_value *v,
                                                  const char *key);

/* Item i of a tuple, list or object; NULL beyond its end or for other kinds. */
const struct comma_pickle_value *comma_pickle_item(const struct comma_pickle *p, const struct comma_pickle_value *v,
                                                   uint32_t i);

/* True if v (NULL is fine) is the global module.name. */
bool comma_pickle_is_global(const struct comma_pickle_value *v, const char *module, const char *name);

#endif
