/* SPDX-License-Identifier: MIT */
/* onednn_product.c - see onednn_product.h. The only file that knows oneDNN; versions 2 and 3 of its C interface.
 *
 * Weights lie in the library's own blocked order, asked for by name and not left to it, so that each panel of 64
 * outputs is one piece and products of different sizes read the same bytes: [k / 16][64][...] with 2 or 4 inputs side
 * by side for bf16 and int8. Where the processor has no product for that order (f32 without AVX-512) weights stay
 * row-major.
 *
 * oneDNN is built with OpenMP threads. They are never wanted: the engine's threads call it on slices. */
#include "engine/gemm/onednn_product.h"

#include <assert.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/cpu.h"

/* Of the OpenMP run-time that oneDNN brings along, if it does. */
extern void omp_set_num_threads(int n) __attribute__((weak));

/* Blocks of rows, falling. 208 is ViT-B/16's 197 or 199 rows in whole AMX tiles, 200 in whole rows of four. */
static const size_t block_rows[] = { 208, 200, 160, 128, 96, 64, 48, 40, 32, 24, 16, 12, 8, 4 };
enum { N_BLOCKS = sizeof(block_rows) / sizeof(block_rows[0]) };

/* Groups of panels, falling. */
static const size_t group_panels[] = { 4, 2, 1 };
enum { N_GROUPS = sizeof(group_panels) / sizeof(group_panels[0]) };

/* From this k on two panels are a group: their weights fill the second cache already. */
#define LONG_K 1536

/* One shape's code; read-only once made. */
struct product {
    dnnl_primitive_t primitive;
#if DNNL_VERSION_MAJOR >= 3
    dnnl_primitive_desc_t desc; /* owns the memory descriptions below */
    const_dnnl_memory_desc_t x, w, sums, scratch;
#else
    dnnl_memory_desc_t x, w, sums, scratch;
#endif
};

/* All products of one k and kind. */
struct product_set {
    size_t k;
    enum comma_onednn_kind kind;
    struct product products[N_BLOCKS][N_GROUPS];
    struct product_set *next;
};

struct comma_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct product_set *sets;
    size_t scratch_bytes;
    bool has[COMMA_ONEDNN_N_KINDS];
    bool plain; /* f32 weights row-major */
};

static const struct kind {
    dnnl_data_type_t x, w, sums;
    dnnl_format_tag_t order;
    size_t element, k_step;
} kinds[] = {
    [COMMA_ONEDNN_F32] = { dnnl_f32, dnnl_f32, dnnl_f32, dnnl_BA16a64b, 4, 1 },
    [COMMA_ONEDNN_BF16] = { dnnl_bf16, dnnl_bf16, dnnl_f32, dnnl_BA16a64b2a, 2, 32 },
    [COMMA_ONEDNN_INT8] = { dnnl_u8, dnnl_s8, dnnl_s32, dnnl_BA16a64b4a, 1, 64 },
};

/* One thread for what this thread makes and runs: a number in its own storage, so it costs nothing. */
static void stay_single(void)
{
    if (omp_set_num_threads)
        omp_set_num_threads(1);
}

static size_t round_up(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

/* ---- the two interfaces ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t memory_desc; /* a handle, to be destroyed */

static bool describe(memory_desc *d, size_t rows, size_t columns, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    const dnnl_dims_t dims = { (dnnl_dim_t)rows, (dnnl_dim_t)columns };

    return dnnl_memory_desc_create_with_tag(d, 2, dims, type, tag) == dnnl_success;
}

static void forget(memory_desc *d)
{
    if (*d)
        dnnl_memory_desc_destroy(*d);
}

static size_t desc_bytes(const_dnnl_memory_desc_t d)
{
    return dnnl_memory_desc_get_size(d);
}

static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t engine, memory_desc x, memory_desc w,
                                      memory_desc sums, const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(out, engine, x, w, NULL, sums, attr);
}

static dnnl_status_t make_memory(dnnl_memory_t *out, const_dnnl_memory_desc_t d, dnnl_engine_t engine, void *data)
{
    return dnnl_memory_create(out, d, engine, data);
}

static dnnl_status_t describe_reorder(dnnl_primitive_desc_t *out, memory_desc from, memory_desc to,
                                      dnnl_engine_t engine)
{
    return dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, NULL);
}

static void take_descs(struct product *p, dnnl_primitive_desc_t pd)
{
    p->desc = pd;
    p->x = dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0);
    p->w = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    p->sums = dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
    p->scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
}

static void finish_product(struct product *p)
{
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    if (p->desc)
        dnnl_primitive_desc_destroy(p->desc);
}
#else
typedef dnnl_memory_desc_t memory_desc; /* a value */

static bool describe(memory_desc *d, size_t rows, size_t columns, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    const dnnl_dims_t dims = { (dnnl_dim_t)rows, (dnnl_dim_t)columns };

    return dnnl_memory_desc_init_by_tag(d, 2, dims, type, tag) == dnnl_success;
}

static void forget(memory_desc *d)
{
    (void)d;
}

static size_t desc_bytes(dnnl_memory_desc_t d)
{
    return dnnl_memory_desc_get_size(&d);
}

static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t engine, memory_desc x, memory_desc w,
                                      memory_desc sums, const_dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t desc;
    const dnnl_status_t status = dnnl_matmul_desc_init(&desc, &x, &w, NULL, &sums);

    return status != dnnl_success ? status : dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
}

static dnnl_status_t make_memory(dnnl_memory_t *out, dnnl_memory_desc_t d, dnnl_engine_t engine, void *data)
{
    return dnnl_memory_create(out, &d, engine, data);
}

static dnnl_status_t describe_reorder(dnnl_primitive_desc_t *out, memory_desc from, memory_desc to,
                                      dnnl_engine_t engine)
{
    return dnnl_reorder_primitive_desc_create(out, &from, engine, &to, engine, NULL);
}

static void take_descs(struct product *p, dnnl_primitive_desc_t pd)
{
    p->x = *dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0);
    p->w = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    p->sums = *dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
    p->scratch = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    dnnl_primitive_desc_destroy(pd);
}

static void finish_product(struct product *p)
{
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
}
#endif

static bool fail(struct comma_error *err, const char *what, dnnl_status_t status)
{
    if (status == dnnl_out_of_memory)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for oneDNN's %s", what);
    return comma_fail(err, COMMA_E_INTERNAL, "oneDNN gives no %s (status %d)", what, (int)status);
}

/* ---- making products ---- */

/* Reference code, which oneDNN falls back to in silence, is a hundred times slower than what is wanted here. */
static bool is_reference(dnnl_primitive_desc_t pd)
{
    const char *name = "ref";

    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return strncmp(name, "ref", 3) == 0;
}

static dnnl_status_t make_product(const struct comma_onednn *o, const struct kind *kind, dnnl_format_tag_t order,
                                  size_t rows, size_t columns, size_t k, struct product *out)
{
    memory_desc x = { 0 }, w = { 0 }, sums = { 0 };
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_out_of_memory;

    if (describe(&x, rows, k, kind->x, dnnl_ab) && describe(&w, k, columns, kind->w, order) &&
        describe(&sums, rows, columns, kind->sums, dnnl_ab) && dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success)
        status = describe_product(&pd, o->engine, x, w, sums, attr);
    if (status == dnnl_success && is_reference(pd)) {
        dnnl_primitive_desc_destroy(pd);
        status = dnnl_unimplemented;
    } else if (status == dnnl_success) {
        status = dnnl_primitive_create(&out->primitive, pd);
        if (status == dnnl_success)
            take_descs(out, pd);
        else
            dnnl_primitive_desc_destroy(pd);
    }
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    forget(&x);
    forget(&w);
    forget(&sums);
    return status;
}

static dnnl_format_tag_t order_of(const struct comma_onednn *o, enum comma_onednn_kind kind)
{
    return kind == COMMA_ONEDNN_F32 && o->plain ? dnnl_ba : kinds[kind].order;
}

/* A small product of the kind, to see whether there is a fast one. */
static bool try_kind(struct comma_onednn *o, enum comma_onednn_kind kind)
{
    struct product p = { 0 };
    const dnnl_status_t status = make_product(o, &kinds[kind], order_of(o, kind), 16, COMMA_PANEL, 64, &p);

    finish_product(&p);
    return status == dnnl_success;
}

bool comma_onednn_open(struct comma_onednn **out, struct comma_error *err)
{
    const uint32_t cpu = comma_cpu_features();
    struct comma_onednn *o = calloc(1, sizeof(*o));
    dnnl_status_t status;

    if (!o)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for oneDNN");
    stay_single();
    if ((status = dnnl_engine_create(&o->engine, dnnl_cpu, 0)) != dnnl_success ||
        (status = dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags)) != dnnl_success) {
        comma_onednn_close(o);
        return fail(err, "engine", status);
    }
    if (!try_kind(o, COMMA_ONEDNN_F32))
        o->plain = true;
    o->has[COMMA_ONEDNN_F32] = try_kind(o, COMMA_ONEDNN_F32);
    /* Without the units oneDNN has the products too, in f32 or with sums that overflow. */
    o->has[COMMA_ONEDNN_BF16] = (cpu & COMMA_CPU_BF16) && try_kind(o, COMMA_ONEDNN_BF16);
    o->has[COMMA_ONEDNN_INT8] = (cpu & COMMA_CPU_VNNI) && try_kind(o, COMMA_ONEDNN_INT8);
    *out = o;
    return true;
}

static void free_set(struct product_set *set)
{
    for (size_t i = 0; i < N_BLOCKS; i++)
        for (size_t j = 0; j < N_GROUPS; j++)
            finish_product(&set->products[i][j]);
    free(set);
}

void comma_onednn_close(struct comma_onednn *o)
{
    if (!o)
        return;
    while (o->sets) {
        struct product_set *next = o->sets->next;

        free_set(o->sets);
        o->sets = next;
    }
    if (o->stream)
        dnnl_stream_destroy(o->stream);
    if (o->engine)
        dnnl_engine_destroy(o->engine);
    free(o);
}

bool comma_onednn_has(const struct comma_onednn *o, enum comma_onednn_kind kind)
{
    return o->has[kind];
}

size_t comma_onednn_element(enum comma_onednn_kind kind)
{
    return kinds[kind].element;
}

size_t comma_onednn_k(enum comma_onednn_kind kind, size_t k)
{
    return round_up(k, kinds[kind].k_step);
}

static struct product_set *find_set(const struct comma_onednn *o, enum comma_onednn_kind kind, size_t k)
{
    for (struct product_set *set = o->sets; set; set = set->next)
        if (set->k == k && set->kind == kind)
            return set;
    return NULL;
}

bool comma_onednn_prepare(struct comma_onednn *o, enum comma_onednn_kind kind, size_t k, size_t n,
                          struct comma_error *err)
{
    const size_t kk = comma_onednn_k(kind, k), panels = (n + COMMA_PANEL - 1) / COMMA_PANEL;
    struct product_set *set = find_set(o, kind, kk);

    if (!set) {
        set = calloc(1, sizeof(*set));
        if (!set)
            return comma_fail(err, COMMA_E_NOMEM, "out of memory for oneDNN's products");
        set->k = kk;
        set->kind = kind;
        set->next = o->sets;
        o->sets = set;
    }
    for (size_t i = 0; i < N_BLOCKS; i++)
        for (size_t j = 0; j < N_GROUPS; j++) {
            struct product *p = &set->products[i][j];
            dnnl_status_t status;

            if (p->primitive || group_panels[j] > panels || group_panels[j] > comma_onednn_next_panels(kk, panels))
                continue;
            status =
                make_product(o, &kinds[kind], order_of(o, kind), block_rows[i], group_panels[j] * COMMA_PANEL, kk, p);
            if (status != dnnl_success)
                return fail(err, "product", status);
            if (desc_bytes(p->scratch) > o->scratch_bytes)
                o->scratch_bytes = desc_bytes(p->scratch);
        }
    return true;
}

/* ---- weights ---- */

size_t comma_onednn_panel_bytes(const struct comma_onednn *o, enum comma_onednn_kind kind, size_t k)
{
    const size_t kk = comma_onednn_k(kind, k);

    /* blocks are whole: 16 inputs of f32, and k is a multiple of the others' already */
    return (kind == COMMA_ONEDNN_F32 && !o->plain ? round_up(kk, 16) : kk) * COMMA_PANEL * kinds[kind].element;
}

bool comma_onednn_pack(struct comma_onednn *o, enum comma_onednn_kind kind, const void *w, size_t n, size_t k,
                       void *packed, struct comma_error *err)
{
    const struct kind *to = &kinds[kind];
    const size_t kk = comma_onednn_k(kind, k), from_size = kind == COMMA_ONEDNN_INT8 ? 1 : sizeof(float);
    const dnnl_data_type_t from_type = kind == COMMA_ONEDNN_INT8 ? dnnl_s8 : dnnl_f32;
    unsigned char *panel = calloc(COMMA_PANEL * kk, from_size);
    memory_desc from_desc = { 0 }, to_desc = { 0 };
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL, into = NULL;
    dnnl_status_t status = dnnl_out_of_memory;

    if (panel) {
        for (size_t i = 0; i < n; i++)
            memcpy(panel + i * kk * from_size, (const unsigned char *)w + i * k * from_size, k * from_size);
        if (describe(&from_desc, kk, COMMA_PANEL, from_type, dnnl_ba) &&
            describe(&to_desc, kk, COMMA_PANEL, to->w, order_of(o, kind)))
            status = describe_reorder(&pd, from_desc, to_desc, o->engine);
    }
    if (status == dnnl_success && (status = dnnl_primitive_create(&reorder, pd)) == dnnl_success &&
        (status = make_memory(&from, from_desc, o->engine, panel)) == dnnl_success &&
        (status = make_memory(&into, to_desc, o->engine, packed)) == dnnl_success) {
        const dnnl_exec_arg_t args[] = { { DNNL_ARG_FROM, from }, { DNNL_ARG_TO, into } };

        status = dnnl_primitive_execute(reorder, o->stream, 2, args);
    }
    if (from)
        dnnl_memory_destroy(from);
    if (into)
        dnnl_memory_destroy(into);
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    forget(&from_desc);
    forget(&to_desc);
    free(panel);
    return status == dnnl_success || fail(err, "packed weights", status);
}

/* ---- running ---- */

size_t comma_onednn_next_rows(size_t done, size_t m, size_t there, size_t *first)
{
    const size_t left = m - done;
    size_t best = N_BLOCKS - 1;

    *first = done;
    if (left >= block_rows[0])
        return block_rows[0];
    /* the smallest block that takes all that is left, where that many rows are there */
    while (best > 0 && block_rows[best] < left)
        best--;
    if (block_rows[best] <= there) {
        if (done + block_rows[best] > there)
            *first = there - block_rows[best];
        return block_rows[best];
    }
    while (block_rows[best] > there) /* there is at least one of the smallest: memory comes in whole tiles */
        best++;
    return block_rows[best];
}

size_t comma_onednn_next_panels(size_t k, size_t left)
{
    const size_t most = k >= LONG_K ? 2 : 4;

    for (size_t j = 0; j < N_GROUPS; j++)
        if (group_panels[j] <= left && group_panels[j] <= most)
            return group_panels[j];
    return 1;
}

size_t comma_onednn_scratch_bytes(const struct comma_onednn *o)
{
    return round_up(o->scratch_bytes, COMMA_ALIGN);
}

size_t comma_onednn_max_sums(size_t k)
{
    return block_rows[0] * comma_onednn_next_panels(k, SIZE_MAX) * COMMA_PANEL;
}

static const struct product *find_product(const struct comma_onednn *o, enum comma_onednn_kind kind, size_t k,
                                          size_t rows, size_t panels)
{
    const struct product_set *set = find_set(o, kind, k);
    size_t i = 0, j = 0;

    while (i + 1 < N_BLOCKS && block_rows[i] != rows)
        i++;
    while (j + 1 < N_GROUPS && group_panels[j] != panels)
        j++;
    assert(set && set->products[i][j].primitive);
    return &set->products[i][j];
}

bool comma_onednn_run(const struct comma_onednn *o, enum comma_onednn_kind kind, size_t k, size_t rows, size_t panels,
                      const void *x, const void *w, void *sums, void *scratch)
{
    const struct product *p = find_product(o, kind, comma_onednn_k(kind, k), rows, panels);
    dnnl_memory_t memory[4] = { 0 };
    dnnl_stream_t stream = NULL;
    bool ok;

    stay_single();
    ok = make_memory(&memory[0], p->x, o->engine, (void *)(uintptr_t)x) == dnnl_success &&
         make_memory(&memory[1], p->w, o->engine, (void *)(uintptr_t)w) == dnnl_success &&
         make_memory(&memory[2], p->sums, o->engine, sums) == dnnl_success &&
         make_memory(&memory[3], p->scratch, o->engine, scratch) == dnnl_success &&
         dnnl_stream_create(&stream, o->engine, dnnl_stream_default_flags) == dnnl_success;
    if (ok) {
        const dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, memory[0] },
                                         { DNNL_ARG_WEIGHTS, memory[1] },
                                         { DNNL_ARG_DST, memory[2] },
                                         { DNNL_ARG_SCRATCHPAD, memory[3] } };

        ok = dnnl_primitive_execute(p->primitive, stream, 4, args) == dnnl_success;
    }
    if (stream)
        dnnl_stream_destroy(stream);
    for (size_t i = 0; i < 4; i++)
        if (memory[i])
            dnnl_memory_destroy(memory[i]);
    return ok;
}
