/* SPDX-License-Identifier: MIT */
/* classifier.c - features to scores (SPEC 1): cosine, softmax over the labels of the request, best k. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_impl.h"

bool comma_normalise(float *x, size_t dim)
{
    double sum = 0;

    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * x[i];
    if (!(sum > 0) || !isfinite(sum))
        return false;
    const float norm = (float)sqrt(sum);

    for (size_t i = 0; i < dim; i++)
        x[i] /= norm;
    return true;
}

struct similarity_job {
    float *out;
    const float *image, *labels;
    size_t n, dim;
};

static void similarity_chunk(void *arg, struct comma_worker *self, size_t chunk, size_t n_chunks)
{
    const struct similarity_job *j = arg;
    const size_t r0 = comma_chunk_begin(j->n, chunk, n_chunks), r1 = comma_chunk_begin(j->n, chunk + 1, n_chunks);

    (void)self;
    comma_kernels()->dot_rows(j->out + r0, j->image, j->labels + r0 * j->dim, j->dim, r1 - r0, j->dim);
}

bool comma_classify_features(struct comma_worker *w, const float *image_feature, const float *labels, size_t n_labels,
                             size_t dim, float logit_scale, float *similarities, float *scores, struct comma_error *err)
{
    struct similarity_job j = { similarities, image_feature, labels, n_labels, dim };
    const float scale = expf(logit_scale);

    comma_parallel(w, comma_split(w, n_labels, 400000 / dim + 1), similarity_chunk, &j);
    for (size_t i = 0; i < n_labels; i++) {
        if (!isfinite(similarities[i]))
            return comma_fail(err, COMMA_E_INTERNAL, "a similarity is not finite; are the model's weights?");
        scores[i] = scale * similarities[i];
    }
    comma_kernels()->softmax(scores, n_labels);
    for (size_t i = 0; i < n_labels; i++)
        if (!isfinite(scores[i]))
            return comma_fail(err, COMMA_E_INTERNAL, "a score is not finite; is the model's logit_scale?");
    return true;
}

/* True if a ranks behind b: lower score, or the same and later in the request. */
static bool behind(const float *scores, size_t a, size_t b)
{
    return scores[a] < scores[b] || (scores[a] == scores[b] && a > b);
}

/* Lets heap[i] sink in a heap of n whose root ranks last. */
static void sink(const float *scores, size_t *heap, size_t n, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && behind(scores, heap[child + 1], heap[child]))
            child++;
        if (!behind(scores, heap[child], heap[i]))
            return;
        const size_t t = heap[i];

        heap[i] = heap[child];
        heap[child] = t;
    }
}

void comma_top_k(const float *scores, size_t n, size_t k, size_t *order)
{
    if (k > n)
        k = n;
    if (k == 0)
        return;
    for (size_t i = 0; i < k; i++)
        order[i] = i;
    for (size_t i = k / 2; i-- > 0;)
        sink(scores, order, k, i);
    for (size_t i = k; i < n; i++) {
        if (behind(scores, order[0], i)) {
            order[0] = i;
            sink(scores, order, k, 0);
        }
    }
    for (size_t left = k; left-- > 1;) { /* the last-ranking one goes to the end, again and again */
        const size_t t = order[0];

        order[0] = order[left];
        order[left] = t;
        sink(scores, order, left, 0);
    }
}
