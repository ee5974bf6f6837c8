/* SPDX-License-Identifier: MIT */
/* gemm.c - picks a back end by name and passes calls on; checks what all back ends would have to. See gemm.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/gemm/gemm_impl.h"

#ifdef COMMA_HAVE_ONEDNN
#define BACKENDS "openblas, onednn"
#else
#define BACKENDS "openblas"
#endif

bool comma_gemm_open(const char *backend, const char *precision, struct comma_gemm **out, struct comma_error *err)
{
    if (!precision)
        precision = "f32";
    if (!backend)
        backend = "openblas";
    if (strcmp(precision, "f32") != 0 && strcmp(precision, "bf16") != 0 && strcmp(precision, "int8") != 0)
        return comma_fail(err, COMMA_E_UNSUPPORTED, "precision '%.32s' is not known; there are f32, bf16, int8",
                          precision);
    if (strcmp(backend, "openblas") == 0)
        return comma_gemm_open_openblas(precision, out, err);
#ifdef COMMA_HAVE_ONEDNN
    if (strcmp(backend, "onednn") == 0)
        return comma_gemm_open_onednn(precision, out, err);
#endif
    return comma_fail(err, COMMA_E_UNSUPPORTED, "back end '%.32s' is not in this build; it has " BACKENDS, backend);
}

void comma_gemm_close(struct comma_gemm *g)
{
    if (g)
        g->close(g);
}

const char *comma_gemm_backend(const struct comma_gemm *g)
{
    return g->backend;
}

const char *comma_gemm_precision(const struct comma_gemm *g)
{
    return g->precision;
}

bool comma_gemm_packs(const struct comma_gemm *g)
{
    return g->packs;
}

bool comma_linear_create(struct comma_gemm *g, const struct comma_tensor *weights, const struct comma_tensor *biases,
                         size_t n_parts, bool exact, struct comma_linear **out, struct comma_error *err)
{
    for (size_t i = 0; i < n_parts; i++) {
        char shape[96];

        if (weights[i].n_dims != 2 || weights[i].shape[0] == 0 || weights[i].shape[1] == 0 ||
            weights[i].shape[1] != weights[0].shape[1])
            return comma_fail(err, COMMA_E_MODEL, "%s: shape %s is no linear layer's", weights[i].name,
                              comma_tensor_shape_text(&weights[i], shape, sizeof(shape)));
        if (biases && !comma_tensor_has_shape(&biases[i], 1, weights[i].shape))
            return comma_fail(err, COMMA_E_MODEL, "%s: shape %s does not go with a weight of %zu rows", biases[i].name,
                              comma_tensor_shape_text(&biases[i], shape, sizeof(shape)), weights[i].shape[0]);
    }
    return g->create(g, weights, biases, n_parts, exact, out, err);
}

bool comma_gemm_join_biases(const struct comma_tensor *biases, size_t n_parts, size_t n, float **out,
                            struct comma_error *err)
{
    float *joined;
    size_t at = 0;

    if (!biases) {
        *out = NULL;
        return true;
    }
    joined = comma_alloc_floats(n);
    if (!joined)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %s", biases[0].name);
    for (size_t i = 0; i < n_parts; at += biases[i++].shape[0]) {
        if (!comma_tensor_to_f32(&biases[i], joined + at, err)) {
            free(joined);
            return false;
        }
    }
    *out = joined;
    return true;
}

void comma_linear_destroy(struct comma_linear *l)
{
    if (l)
        l->ops->destroy(l);
}

size_t comma_linear_n(const struct comma_linear *l)
{
    return l->n;
}

size_t comma_linear_k(const struct comma_linear *l)
{
    return l->k;
}

size_t comma_linear_bytes(const struct comma_linear *l)
{
    return l->bytes;
}

size_t comma_linear_input_bytes(const struct comma_linear *l, size_t m)
{
    return l->ops->input_bytes ? l->ops->input_bytes(l, m) : 0;
}

void comma_linear_prepare(const struct comma_linear *l, const float *x, size_t ldx, size_t m, size_t first, size_t n,
                          void *input)
{
    if (l->ops->prepare)
        l->ops->prepare(l, x, ldx, m, first, n, input);
}

size_t comma_linear_workspace_bytes(const struct comma_linear *l)
{
    return l->ops->workspace_bytes ? l->ops->workspace_bytes(l) : 0;
}

size_t comma_linear_group(const struct comma_linear *l)
{
    return l->ops->group ? l->ops->group(l) : (l->n + COMMA_PANEL - 1) / COMMA_PANEL * COMMA_PANEL;
}

void comma_linear_run(const struct comma_linear *l, const float *x, size_t ldx, const void *input, size_t m, size_t n0,
                      size_t n1, float *y, size_t ldy, bool accumulate, void *workspace)
{
    l->ops->run(l, x, ldx, input, m, n0, n1, y, ldy, accumulate, workspace);
}
