/* SPDX-License-Identifier: MIT */
/* request.c - see request.h. Looks at the Content-Type and hands the body to the reader of that kind; the readers are
 * in multipart.c, json_request.c and query.c, the fields' own checks in fields.c. */
#include "api/request.h"

#include <stdio.h>
#include <strings.h>

#include "api/fields.h"
#include "api/header_params.h"
#include "engine/base/checked.h"

struct comma_api_limits comma_api_default_limits(void)
{
    return (struct comma_api_limits){
        .max_body_bytes = 16 << 20,
        .max_labels = 10000,
        .max_label_bytes = 1024,
        .max_labels_bytes = 4 << 20,
        .max_templates = 128,
        .max_timeout_ms = 30000,
    };
}

/* More than the limits let a request fill, so that a limit is met before the pool's end: each text with its NUL, arrays
 * that doubled (old ones stay), a query decoded, and as much again for what is left over in chunks. */
static size_t pool_bytes(const struct comma_api_limits *l)
{
    size_t n, per_text, templates, sum;

    if (!comma_add(l->max_labels, l->max_templates, &n) ||
        !comma_mul(n, 4 * sizeof(struct comma_text) + 1, &per_text) ||
        !comma_mul(l->max_templates, l->max_label_bytes, &templates) ||
        !comma_add(l->max_labels_bytes, templates, &sum) || !comma_add(sum, per_text, &sum) ||
        !comma_add(sum, 1 << 20, &sum) || !comma_mul(sum, 2, &sum))
        return SIZE_MAX;
    return sum;
}

static bool fail_type(struct comma_fields *f, struct comma_text type, const char *more)
{
    const int shown = type.size > 80 ? 80 : (int)type.size;

    return comma_problem_set(f->problem, COMMA_PROBLEM_UNSUPPORTED_TYPE, NULL,
                             "Content-Type \"%.*s\" is not read here%s; send multipart/form-data, application/json, or "
                             "the picture itself as image/png or image/jpeg.",
                             shown, type.data, more);
}

/* The value of a parameter of the Content-Type; false if it is not there. */
static bool find_param(struct comma_text params, const char *name, struct comma_text *value)
{
    struct comma_text key;

    while (comma_header_param(&params, &key, value) == COMMA_PARAM_FOUND)
        if (comma_header_is(key, name))
            return true;
    return false;
}

static bool read_body(struct comma_fields *f, const struct comma_api_input *in)
{
    const struct comma_bytes body = { in->body, in->body_size };
    struct comma_text params, value, type;

    if (!in->content_type)
        return comma_problem_set(f->problem, COMMA_PROBLEM_UNSUPPORTED_TYPE, NULL,
                                 "The Content-Type is missing; send multipart/form-data, application/json, or the "
                                 "picture itself as image/png or image/jpeg.");
    type = comma_header_value(comma_text_of(in->content_type), &params);
    if (comma_header_is(type, "multipart/form-data")) {
        if (!find_param(params, "boundary", &value))
            return comma_problem_set(f->problem, COMMA_PROBLEM_MALFORMED_FORM, NULL,
                                     "The Content-Type multipart/form-data has no boundary; let the client's library "
                                     "write that header.");
        return comma_fields_read_multipart(f, body, value);
    }
    if (comma_header_is(type, "application/json")) {
        if (find_param(params, "charset", &value) && !comma_header_is(value, "utf-8"))
            return fail_type(f, comma_text_of(in->content_type), ", as JSON is UTF-8");
        return comma_fields_read_json(f, in->body, in->body_size);
    }
    if (comma_header_is(type, "application/octet-stream") ||
        (type.size > 6 && strncasecmp(type.data, "image/", 6) == 0)) {
        f->seen |= 1u << COMMA_FIELD_IMAGE;
        return comma_fields_set_image(f, body.data, body.size);
    }
    return fail_type(f, type, "");
}

bool comma_api_request_parse(enum comma_api_endpoint endpoint, const struct comma_api_input *input,
                             const struct comma_api_limits *limits, struct comma_api_request *out,
                             struct comma_problem *problem)
{
    struct comma_api_request r = { .endpoint = endpoint, .top_k = SIZE_MAX, .auto_orient = true, .normalize = true };
    struct comma_problem unheard;
    struct comma_fields f = { .request = &r, .limits = limits, .problem = problem ? problem : &unheard };

    comma_pool_init(&r.pool, pool_bytes(limits));
    if (input->body_size > limits->max_body_bytes) {
        comma_problem_set(f.problem, COMMA_PROBLEM_TOO_LARGE, NULL,
                          "The body is %zu bytes long; at most %zu are allowed.", input->body_size,
                          limits->max_body_bytes);
        goto fail;
    }
    if (!comma_fields_read_query(&f, input->query) || !read_body(&f, input) || !comma_fields_close(&f))
        goto fail;
    *out = r;
    return true;
fail:
    comma_pool_finish(&r.pool);
    return false;
}

void comma_api_request_finish(struct comma_api_request *request)
{
    comma_pool_finish(&request->pool);
}

bool comma_api_request_fits(const struct comma_api_request *request, bool adapter_has_prompt,
                            struct comma_problem *problem)
{
    if (!adapter_has_prompt || request->n_templates == 0)
        return true;
    return comma_problem_set(problem, COMMA_PROBLEM_TEMPLATE_REFUSED, "/templates",
                             "This model has a learnt prompt of its own; leave the templates out, or name a model "
                             "without a prompt.");
}

void comma_api_request_to_job(const struct comma_api_request *request, struct comma_job *job)
{
    job->image = request->image;
    job->raw_orientation = !request->auto_orient;
    job->templates = request->templates;
    job->n_templates = request->n_templates;
    job->not_normalized = !request->normalize;
    if (request->endpoint == COMMA_API_CLASSIFY) {
        job->kind = COMMA_JOB_CLASSIFY;
        job->texts = request->labels;
        job->n_texts = request->n_labels;
        return;
    }
    job->kind = request->n_texts > 0 ? COMMA_JOB_EMBED_TEXTS : COMMA_JOB_EMBED_IMAGE;
    job->texts = request->texts;
    job->n_texts = request->n_texts;
}
