/* SPDX-License-Identifier: MIT */
/* pickle.c - see pickle.h. A stack machine: each opcode pushes a value or joins those above the last mark.
 *
 * Values live in one array and refer to one another by index, so that a deep or cyclic graph costs nothing to free. */
#include "models/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES  ((size_t)256 << 20)
#define MAX_VALUES 2000000 /* the largest CLIP with its optimizer has 60,000 */
#define NO_VALUE   UINT32_MAX

/* A growing array of indices: the stack, the marks, the memo. */
struct indices {
    uint32_t *data;
    size_t n, capacity;
};

struct machine {
    const char *name;
    const unsigned char *data;
    size_t size, at;
    struct comma_pickle *p;
    struct indices stack;
    struct indices marks; /* stack heights */
    struct indices memo;  /* NO_VALUE where nothing was put */
    struct comma_error *err;
};

static bool broken(struct machine *m, const char *what)
{
    comma_fail(m->err, COMMA_E_MODEL, "%s: %s at byte %zu of the pickle", m->name, what, m->at);
    return false;
}

static bool out_of_memory(struct machine *m)
{
    comma_fail(m->err, COMMA_E_NOMEM, "%s: out of memory", m->name);
    return false;
}

static bool indices_push(struct machine *m, struct indices *list, uint32_t value)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 256;
        uint32_t *data = realloc(list->data, capacity * sizeof(*data));

        if (!data)
            return out_of_memory(m);
        list->data = data;
        list->capacity = capacity;
    }
    list->data[list->n++] = value;
    return true;
}

/* ---- reading the input ---- */

static bool take_bytes(struct machine *m, size_t n, const unsigned char **out)
{
    if (n > m->size - m->at)
        return broken(m, "the end comes too early");
    *out = m->data + m->at;
    m->at += n;
    return true;
}

static bool take_number(struct machine *m, size_t n_bytes, uint64_t *out)
{
    const unsigned char *p;

    if (!take_bytes(m, n_bytes, &p))
        return false;
    *out = 0;
    for (size_t i = n_bytes; i-- > 0;)
        *out = *out << 8 | p[i];
    return true;
}

/* n bytes behind a length of n_bytes. */
static bool take_text(struct machine *m, size_t n_bytes, struct comma_text *out)
{
    const unsigned char *p;
    uint64_t n;

    if (!take_number(m, n_bytes, &n) || !take_bytes(m, n, &p))
        return false;
    *out = (struct comma_text){ (const char *)p, n };
    return true;
}

static bool take_line(struct machine *m, struct comma_text *out)
{
    const unsigned char *start = m->data + m->at, *end = memchr(start, '\n', m->size - m->at);

    if (!end)
        return broken(m, "a line does not end");
    *out = (struct comma_text){ (const char *)start, (size_t)(end - start) };
    m->at += out->size + 1;
    return true;
}

/* ---- values ---- */

static struct comma_pickle_value *value_at(struct machine *m, uint32_t i)
{
    return &m->p->values[i];
}

static bool push_value(struct machine *m, struct comma_pickle_value value)
{
    struct comma_pickle *p = m->p;

    if (p->n_values == MAX_VALUES)
        return broken(m, "more values than any checkpoint has");
    if (p->n_values == p->capacity) {
        const uint32_t capacity = p->capacity ? p->capacity * 2 : 1024;
        struct comma_pickle_value *values = realloc(p->values, capacity * sizeof(*values));

        if (!values)
            return out_of_memory(m);
        p->values = values;
        p->capacity = capacity;
    }
    p->values[p->n_values] = value;
    return indices_push(m, &m->stack, p->n_values++);
}

static bool push_kind(struct machine *m, enum comma_pickle_kind kind)
{
    return push_value(m, (struct comma_pickle_value){ .kind = kind });
}

static bool push_int(struct machine *m, int64_t integer)
{
    return push_value(m, (struct comma_pickle_value){ .kind = COMMA_PICKLE_INT, .integer = integer });
}

static bool push_text(struct machine *m, enum comma_pickle_kind kind, struct comma_text text)
{
    return push_value(m, (struct comma_pickle_value){ .kind = kind, .text = text });
}

/* The stack may only be used down to the last mark. */
static size_t stack_floor(const struct machine *m)
{
    return m->marks.n > 0 ? m->marks.data[m->marks.n - 1] : 0;
}

static bool pop(struct machine *m, uint32_t *out)
{
    if (m->stack.n <= stack_floor(m))
        return broken(m, "nothing on the stack");
    *out = m->stack.data[--m->stack.n];
    return true;
}

static bool top(struct machine *m, uint32_t *out)
{
    if (m->stack.n <= stack_floor(m))
        return broken(m, "nothing on the stack");
    *out = m->stack.data[m->stack.n - 1];
    return true;
}

/* Takes the last mark off; *first is the stack index of the values above it, which stay for the caller to drop. */
static bool pop_mark(struct machine *m, size_t *first)
{
    if (m->marks.n == 0)
        return broken(m, "no mark");
    *first = m->marks.data[--m->marks.n];
    return true;
}

static bool append_items(struct machine *m, struct comma_pickle_value *v, const uint32_t *items, size_t n)
{
    const size_t need = v->n + n;

    if (n == 0)
        return true;
    if (need > UINT32_MAX / 4)
        return broken(m, "too many items");
    if (need > v->capacity) {
        const size_t capacity = v->capacity == 0                 ? need
                                : need > 2 * (size_t)v->capacity ? need
                                                                 : 2 * (size_t)v->capacity;
        uint32_t *grown = realloc(v->items, capacity * sizeof(*grown));

        if (!grown)
            return out_of_memory(m);
        v->items = grown;
        v->capacity = (uint32_t)capacity;
    }
    memcpy(v->items + v->n, items, n * sizeof(*items));
    v->n = (uint32_t)need;
    return true;
}

/* Replaces the stack's values from first on by one container of them. */
static bool collect(struct machine *m, enum comma_pickle_kind kind, size_t first)
{
    const size_t n = m->stack.n - first;

    if (kind == COMMA_PICKLE_DICT && n % 2 != 0)
        return broken(m, "a key without its value");
    if (!push_kind(m, kind)) /* above the items, so that they stay where they are until copied */
        return false;
    if (!append_items(m, value_at(m, m->p->n_values - 1), m->stack.data + first, n))
        return false;
    m->stack.data[first] = m->stack.data[m->stack.n - 1];
    m->stack.n = first + 1;
    return true;
}

static bool collect_last(struct machine *m, size_t n)
{
    if (m->stack.n - stack_floor(m) < n)
        return broken(m, "nothing on the stack");
    return collect(m, COMMA_PICKLE_TUPLE, m->stack.n - n);
}

/* Adds the values from first on to the container below them; an opaque object forgets them. */
static bool extend(struct machine *m, enum comma_pickle_kind kind, size_t first)
{
    struct comma_pickle_value *container;

    if (first <= stack_floor(m))
        return broken(m, "nothing to add to");
    container = value_at(m, m->stack.data[first - 1]);
    if (kind == COMMA_PICKLE_DICT && (m->stack.n - first) % 2 != 0)
        return broken(m, "a key without its value");
    if (container->kind == kind && !append_items(m, container, m->stack.data + first, m->stack.n - first))
        return false;
    if (container->kind != kind && container->kind != COMMA_PICKLE_OBJECT && container->kind != COMMA_PICKLE_OTHER)
        return broken(m, "items for what holds none");
    m->stack.n = first;
    return true;
}

static bool extend_marked(struct machine *m, enum comma_pickle_kind kind)
{
    size_t first;

    return pop_mark(m, &first) && extend(m, kind, first);
}

static bool extend_last(struct machine *m, enum comma_pickle_kind kind, size_t n)
{
    if (m->stack.n - stack_floor(m) < n + 1)
        return broken(m, "nothing on the stack");
    return extend(m, kind, m->stack.n - n);
}

/* ---- objects ---- */

bool comma_pickle_is_global(const struct comma_pickle_value *v, const char *module, const char *name)
{
    return v && v->kind == COMMA_PICKLE_GLOBAL && comma_text_equal(v->text, comma_text_of(module)) &&
           comma_text_equal(v->global_name, comma_text_of(name));
}

static bool is_dict_class(const struct comma_pickle_value *v)
{
    return comma_pickle_is_global(v, "collections", "OrderedDict") ||
           comma_pickle_is_global(v, "collections", "defaultdict") ||
           comma_pickle_is_global(v, "__builtin__", "dict") || comma_pickle_is_global(v, "builtins", "dict");
}

/* What a call or an instantiation of class with arguments is: a dictionary, or an object that is left alone. */
static bool push_object(struct machine *m, uint32_t class, uint32_t arguments)
{
    const uint32_t items[3] = { class, arguments, arguments }; /* the state is the arguments until BUILD brings one */

    if (is_dict_class(value_at(m, class)))
        return push_kind(m, COMMA_PICKLE_DICT);
    return push_kind(m, COMMA_PICKLE_OBJECT) && append_items(m, value_at(m, m->p->n_values - 1), items, 3);
}

static bool make_object(struct machine *m, bool with_keywords)
{
    uint32_t class, arguments, keywords;

    if (with_keywords && !pop(m, &keywords))
        return false;
    return pop(m, &arguments) && pop(m, &class) && push_object(m, class, arguments);
}

/* BUILD: state for the object below it. */
static bool build(struct machine *m)
{
    uint32_t state, object;

    if (!pop(m, &state) || !top(m, &object))
        return false;
    if (value_at(m, object)->kind == COMMA_PICKLE_OBJECT)
        value_at(m, object)->items[2] = state;
    return true; /* others are known types whose attributes do not matter: OrderedDict's _metadata */
}

static bool push_persistent(struct machine *m)
{
    uint32_t id;

    return pop(m, &id) && push_kind(m, COMMA_PICKLE_PERSISTENT) &&
           append_items(m, value_at(m, m->p->n_values - 1), &id, 1);
}

static bool push_global(struct machine *m, struct comma_text module, struct comma_text name)
{
    return push_value(m,
                      (struct comma_pickle_value){ .kind = COMMA_PICKLE_GLOBAL, .text = module, .global_name = name });
}

static bool global(struct machine *m)
{
    struct comma_text module, name;

    return take_line(m, &module) && take_line(m, &name) && push_global(m, module, name);
}

static bool stack_global(struct machine *m)
{
    uint32_t module, name;

    if (!pop(m, &name) || !pop(m, &module))
        return false;
    if (value_at(m, name)->kind != COMMA_PICKLE_STRING || value_at(m, module)->kind != COMMA_PICKLE_STRING)
        return broken(m, "a global that is not named by strings");
    return push_global(m, value_at(m, module)->text, value_at(m, name)->text);
}

/* ---- memo ---- */

static bool memo_put(struct machine *m, uint64_t slot)
{
    uint32_t value;

    if (!top(m, &value))
        return false;
    if (slot > m->size) /* pickles number their memo from 0, at most once an opcode */
        return broken(m, "a memo number beyond the pickle's length");
    while (m->memo.n <= slot)
        if (!indices_push(m, &m->memo, NO_VALUE))
            return false;
    m->memo.data[slot] = value;
    return true;
}

static bool memo_get(struct machine *m, uint64_t slot)
{
    if (slot >= m->memo.n || m->memo.data[slot] == NO_VALUE)
        return broken(m, "an empty memo is read");
    return indices_push(m, &m->stack, m->memo.data[slot]);
}

/* ---- numbers ---- */

static bool push_long(struct machine *m, size_t n_bytes)
{
    const unsigned char *p;
    uint64_t n, bits = 0;

    if (!take_number(m, n_bytes, &n) || !take_bytes(m, n, &p))
        return false;
    if (n > 8)
        return push_kind(m, COMMA_PICKLE_OTHER);
    for (size_t i = n; i-- > 0;)
        bits = bits << 8 | p[i];
    if (n > 0 && n < 8 && p[n - 1] & 0x80) /* two's complement of n bytes */
        bits |= UINT64_MAX << (8 * n);
    return push_int(m, (int64_t)bits);
}

static bool push_float(struct machine *m)
{
    const unsigned char *p;
    uint64_t bits = 0;
    double real;

    if (!take_bytes(m, 8, &p))
        return false;
    for (size_t i = 0; i < 8; i++) /* the only big-endian number of the format */
        bits = bits << 8 | p[i];
    memcpy(&real, &bits, sizeof(real));
    return push_value(m, (struct comma_pickle_value){ .kind = COMMA_PICKLE_FLOAT, .real = real });
}

/* ---- the opcodes ---- */

/* Opcodes that a length and a text follow, or a number. */
static bool step_literal(struct machine *m, unsigned char opcode, bool *known)
{
    struct comma_text text;
    uint64_t n;

    switch (opcode) {
    case 'N':
        return push_kind(m, COMMA_PICKLE_NONE);
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push_value(m, (struct comma_pickle_value){ .kind = COMMA_PICKLE_BOOL, .integer = opcode == 0x88 });
    case 'J': /* BININT */
        return take_number(m, 4, &n) && push_int(m, (int32_t)(uint32_t)n);
    case 'K': /* BININT1 */
        return take_number(m, 1, &n) && push_int(m, (int64_t)n);
    case 'M': /* BININT2 */
        return take_number(m, 2, &n) && push_int(m, (int64_t)n);
    case 0x8a: /* LONG1 */
        return push_long(m, 1);
    case 0x8b: /* LONG4 */
        return push_long(m, 4);
    case 'G': /* BINFLOAT */
        return push_float(m);
    case 0x8c: /* SHORT_BINUNICODE */
        return take_text(m, 1, &text) && push_text(m, COMMA_PICKLE_STRING, text);
    case 'X': /* BINUNICODE */
        return take_text(m, 4, &text) && push_text(m, COMMA_PICKLE_STRING, text);
    case 0x8d: /* BINUNICODE8 */
        return take_text(m, 8, &text) && push_text(m, COMMA_PICKLE_STRING, text);
    case 'U': /* SHORT_BINSTRING: Python 2's str */
        return take_text(m, 1, &text) && push_text(m, COMMA_PICKLE_STRING, text);
    case 'T': /* BINSTRING */
        return take_text(m, 4, &text) && push_text(m, COMMA_PICKLE_STRING, text);
    case 'C': /* SHORT_BINBYTES */
        return take_text(m, 1, &text) && push_kind(m, COMMA_PICKLE_OTHER);
    case 'B': /* BINBYTES */
        return take_text(m, 4, &text) && push_kind(m, COMMA_PICKLE_OTHER);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return take_text(m, 8, &text) && push_kind(m, COMMA_PICKLE_OTHER);
    case 'c':
        return global(m);
    default:
        *known = false;
        return true;
    }
}

/* Opcodes that make or fill containers. */
static bool step_container(struct machine *m, unsigned char opcode, bool *known)
{
    size_t first;

    switch (opcode) {
    case '}':
        return push_kind(m, COMMA_PICKLE_DICT);
    case ']':
        return push_kind(m, COMMA_PICKLE_LIST);
    case ')':
        return push_kind(m, COMMA_PICKLE_TUPLE);
    case 0x8f: /* EMPTY_SET */
        return push_kind(m, COMMA_PICKLE_OTHER);
    case '(':
        return indices_push(m, &m->marks, (uint32_t)m->stack.n);
    case 't':
        return pop_mark(m, &first) && collect(m, COMMA_PICKLE_TUPLE, first);
    case 'l':
        return pop_mark(m, &first) && collect(m, COMMA_PICKLE_LIST, first);
    case 'd':
        return pop_mark(m, &first) && collect(m, COMMA_PICKLE_DICT, first);
    case 0x91: /* FROZENSET */
        return pop_mark(m, &first) && collect(m, COMMA_PICKLE_OTHER, first);
    case 0x85: /* TUPLE1 to 3 */
    case 0x86:
    case 0x87:
        return collect_last(m, opcode - 0x84u);
    case 'a':
        return extend_last(m, COMMA_PICKLE_LIST, 1);
    case 'e':
        return extend_marked(m, COMMA_PICKLE_LIST);
    case 's':
        return extend_last(m, COMMA_PICKLE_DICT, 2);
    case 'u':
        return extend_marked(m, COMMA_PICKLE_DICT);
    case 0x90: /* ADDITEMS */
        return extend_marked(m, COMMA_PICKLE_OTHER);
    default:
        *known = false;
        return true;
    }
}

/* Opcodes of objects, memo and stack. */
static bool step_other(struct machine *m, unsigned char opcode, bool *known)
{
    const unsigned char *p;
    uint32_t value;
    uint64_t n;
    size_t first;

    switch (opcode) {
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        return make_object(m, false);
    case 0x92: /* NEWOBJ_EX */
        return make_object(m, true);
    case 0x93:
        return stack_global(m);
    case 'b':
        return build(m);
    case 'Q':
        return push_persistent(m);
    case 'q':
        return take_number(m, 1, &n) && memo_put(m, n);
    case 'r':
        return take_number(m, 4, &n) && memo_put(m, n);
    case 0x94: /* MEMOIZE */
        return memo_put(m, m->memo.n);
    case 'h':
        return take_number(m, 1, &n) && memo_get(m, n);
    case 'j':
        return take_number(m, 4, &n) && memo_get(m, n);
    case '0':
        return pop(m, &value);
    case '1':
        if (!pop_mark(m, &first))
            return false;
        m->stack.n = first;
        return true;
    case '2':
        return top(m, &value) && indices_push(m, &m->stack, value);
    case 0x80: /* PROTO */
        return take_bytes(m, 1, &p) && ((*p >= 2 && *p <= 5) || broken(m, "a protocol that is not 2 to 5"));
    case 0x95: /* FRAME: a hint for buffered readers */
        return take_number(m, 8, &n);
    default:
        *known = false;
        return true;
    }
}

static bool step(struct machine *m, unsigned char opcode)
{
    static bool (*const groups[])(struct machine *, unsigned char, bool *) = { step_literal, step_container,
                                                                               step_other };
    char what[40];

    for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
        bool known = true;

        if (!groups[i](m, opcode, &known))
            return false;
        if (known)
            return true;
    }
    snprintf(what, sizeof(what), "the unknown opcode 0x%02x", opcode);
    return broken(m, what);
}

static bool run(struct machine *m)
{
    const unsigned char *opcode;

    for (;;) {
        if (!take_bytes(m, 1, &opcode))
            return false;
        if (*opcode == '.')
            break;
        if (!step(m, *opcode))
            return false;
    }
    return pop(m, &m->p->root);
}

bool comma_pickle_parse(struct comma_bytes bytes, const char *name, struct comma_pickle *out, struct comma_error *err)
{
    struct comma_pickle p = { 0 };
    struct machine m = { .name = name, .data = bytes.data, .size = bytes.size, .p = &p, .err = err };
    bool ok;

    if (bytes.size > MAX_BYTES)
        return comma_fail(err, COMMA_E_MODEL, "%s: a pickle of %zu bytes; at most %zu are read", name, bytes.size,
                          MAX_BYTES);
    ok = run(&m);
    free(m.stack.data);
    free(m.marks.data);
    free(m.memo.data);
    if (ok)
        *out = p;
    else
        comma_pickle_finish(&p);
    return ok;
}

static bool has_items(const struct comma_pickle_value *v)
{
    switch (v->kind) {
    case COMMA_PICKLE_TUPLE:
    case COMMA_PICKLE_LIST:
    case COMMA_PICKLE_DICT:
    case COMMA_PICKLE_OBJECT:
    case COMMA_PICKLE_PERSISTENT:
    case COMMA_PICKLE_OTHER:
        return true;
    default:
        return false;
    }
}

void comma_pickle_finish(struct comma_pickle *p)
{
    for (uint32_t i = 0; i < p->n_values; i++)
        if (has_items(&p->values[i]))
            free(p->values[i].items);
    free(p->values);
    *p = (struct comma_pickle){ 0 };
}

const struct comma_pickle_value *comma_pickle_get(const struct comma_pickle *p, const struct comma_pickle_value *v,
                                                  const char *key)
{
    const struct comma_text wanted = comma_text_of(key);

    if (!v || v->kind != COMMA_PICKLE_DICT)
        return NULL;
    for (uint32_t i = v->n; i >= 2; i -= 2) {
        const struct comma_pickle_value *k = &p->values[v->items[i - 2]];

        if (k->kind == COMMA_PICKLE_STRING && comma_text_equal(k->text, wanted))
            return &p->values[v->items[i - 1]];
    }
    return NULL;
}

const struct comma_pickle_value *comma_pickle_item(const struct comma_pickle *p, const struct comma_pickle_value *v,
                                                   uint32_t i)
{
    if (!v || !has_items(v) || v->kind == COMMA_PICKLE_OTHER || i >= v->n)
        return NULL;
    return &p->values[v->items[i]];
}
