/* SPDX-License-Identifier: MIT */
/* texts.c - see texts.h. */
#include "api/texts.h"

#include "api/fields.h"

static bool add_all(struct comma_fields *f, const struct comma_api_texts *texts)
{
    for (size_t i = 0; i < texts->n_lists; i++) {
        /* Pieces of a list borrow from it: the copy is what they point into. */
        const size_t size = strlen(texts->lists[i]);
        char *copy = comma_pool_take(&f->request->pool, size + 1);

        if (!copy)
            return comma_fields_no_memory(f);
        memcpy(copy, texts->lists[i], size + 1);
        if (!comma_fields_append_list(f, COMMA_FIELD_LABELS, (struct comma_text){ copy, size }))
            return false;
    }
    for (size_t i = 0; i < texts->n_labels; i++)
        if (!comma_fields_append(f, COMMA_FIELD_LABELS, comma_text_of(texts->labels[i]), true))
            return false;
    for (size_t i = 0; i < texts->n_templates; i++)
        if (!comma_fields_append(f, COMMA_FIELD_TEMPLATE, comma_text_of(texts->templates[i]), true))
            return false;
    return f->labels.n > 0 || comma_problem_set(f->problem, COMMA_PROBLEM_NO_LABELS, "/labels",
                                                "There are no labels; give at least one class name.");
}

bool comma_api_request_of_texts(const struct comma_api_texts *texts, const struct comma_api_limits *limits,
                                struct comma_api_request *out, struct comma_problem *problem)
{
    struct comma_api_request r = {
        .endpoint = COMMA_API_CLASSIFY, .top_k = SIZE_MAX, .auto_orient = true, .normalize = true
    };
    struct comma_problem unheard;
    struct comma_fields f = { .request = &r, .limits = limits, .problem = problem ? problem : &unheard };

    comma_pool_init(&r.pool, SIZE_MAX); /* the command line is the user's own */
    if (!add_all(&f, texts)) {
        comma_pool_finish(&r.pool);
        return false;
    }
    r.labels = f.labels.items;
    r.n_labels = f.labels.n;
    r.templates = f.templates.items;
    r.n_templates = f.templates.n;
    *out = r;
    return true;
}
