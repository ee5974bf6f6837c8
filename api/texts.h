/* SPDX-License-Identifier: MIT */
/* texts.h - labels and templates that come from a command line, read and checked by the rules of a request's fields, so
 * that both doors take the same lists and refuse the same texts. */
#ifndef COMMA_API_TEXTS_H
#define COMMA_API_TEXTS_H

#include "api/request.h"

struct comma_api_texts {
    const char *const *lists; /* [n_lists] each as a field "labels": a JSON array, or newline- or comma-separated */
    size_t n_lists;
    const char *const *labels; /* [n_labels] one label each, behind those of the lists */
    size_t n_labels;
    const char *const *templates; /* [n_templates] one template each */
    size_t n_templates;
};

/* A request to classify that lacks its image: comma_api_request_to_job() takes it, the image is then the caller's. It
 * has at least one label. Texts are copied. limits: those of bodies and timeouts do not matter. Fails as
 * comma_api_request_parse() does; *out is then not to be finished. */
COMMA_MUST_CHECK
bool comma_api_request_of_texts(const struct comma_api_texts *texts, const struct comma_api_limits *limits,
                                struct comma_api_request *out, struct comma_problem *problem);

#endif
