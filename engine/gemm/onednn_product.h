/* SPDX-License-Identifier: MIT */
/* onednn_product.h - products of fixed shapes by oneDNN, and weights in the order that they read.
 *
 * oneDNN makes machine code for each shape, some tenths of a millisecond each. So the few shapes that any number of
 * rows and columns is put together from are all made when a layer is (comma_onednn_prepare), and a run can neither fail
 * nor wait: DESIGN "GEMM back ends".
 *
 *   rows     blocks of the sizes that comma_onednn_next_rows() hands out
 *   columns  groups of 1, 2 or 4 panels of COMMA_PANEL: a group's weights and sums stay in the core's own cache
 *
 * A product writes its sums dense, [rows, columns], because oneDNN 2.6 has no fast product for a part of a wider
 * matrix. After loading all is read-only: any thread may run any product. */
#ifndef COMMA_ENGINE_ONEDNN_PRODUCT_H
#define COMMA_ENGINE_ONEDNN_PRODUCT_H

#include "engine/gemm/gemm.h"

enum comma_onednn_kind {
    COMMA_ONEDNN_F32,  /* x f32, w f32, sums f32 */
    COMMA_ONEDNN_BF16, /* x bf16, w bf16, sums f32 */
    COMMA_ONEDNN_INT8, /* x u8, w s8, sums s32 */
    COMMA_ONEDNN_N_KINDS
};

struct comma_onednn;

/* Fails with COMMA_E_UNSUPPORTED where this processor has no fast product of the kind, COMMA_E_NOMEM, or
 * COMMA_E_INTERNAL with what the library says. */
COMMA_MUST_CHECK
bool comma_onednn_open(struct comma_onednn **out, struct comma_error *err);
void comma_onednn_close(struct comma_onednn *o); /* NULL is fine */

/* Whether this processor has a product of the kind that is worth having. */
bool comma_onednn_has(const struct comma_onednn *o, enum comma_onednn_kind kind);

/* Bytes of an element of x and of w. */
size_t comma_onednn_element(enum comma_onednn_kind kind);

/* Columns of x that a product reads: k, or k rounded up to what the kind's units take at once (the rest is zeros). */
size_t comma_onednn_k(enum comma_onednn_kind kind, size_t k);

/* Bytes of packed weights; panel p begins at p * comma_onednn_panel_bytes(). */
size_t comma_onednn_panel_bytes(const struct comma_onednn *o, enum comma_onednn_kind kind, size_t k);

/* Packs the rows of COMMA_PANEL outputs or fewer.
 *   w       [n, k] row-major: f32 for F32 and BF16, int8_t for INT8; n <= COMMA_PANEL
 *   packed  out: a panel; outputs from n on are zeros */
COMMA_MUST_CHECK
bool comma_onednn_pack(struct comma_onednn *o, enum comma_onednn_kind kind, const void *w, size_t n, size_t k,
                       void *packed, struct comma_error *err);

/* Makes the products of a layer with k inputs and n outputs, where they are not there yet. Load time, one thread. */
COMMA_MUST_CHECK
bool comma_onednn_prepare(struct comma_onednn *o, enum comma_onednn_kind kind, size_t k, size_t n,
                          struct comma_error *err);

/* The next block of rows where `done` of m are done and `there` rows of x may be read: *first .. *first + the result.
 * *first may lie before done, so that a block of a size that exists ends at the last row. */
size_t comma_onednn_next_rows(size_t done, size_t m, size_t there, size_t *first);

/* Panels of the next group of columns where `left` are left to do. */
size_t comma_onednn_next_panels(size_t k, size_t left);

/* Bytes of working memory that any product made so far takes, COMMA_ALIGN-aligned; its sums come on top. */
size_t comma_onednn_scratch_bytes(const struct comma_onednn *o);

/* Largest sums of a product with k inputs, in elements of 4 bytes. */
size_t comma_onednn_max_sums(size_t k);

/* sums[rows, panels * COMMA_PANEL] = x w^T; rows and panels as handed out.
 *   x        [rows, comma_onednn_k(kind, k)]
 *   w        packed panels
 *   scratch  [comma_onednn_scratch_bytes()]
 * False where the library had no memory for the few hundred bytes that a call takes it; sums are then undefined. */
COMMA_MUST_CHECK
bool comma_onednn_run(const struct comma_onednn *o, enum comma_onednn_kind kind, size_t k, size_t rows, size_t panels,
                      const void *x, const void *w, void *sums, void *scratch);

#endif
