/* SPDX-License-Identifier: MIT */
/* selftest.c - does the loaded model compute at all? Asked before the first request is taken, and the first computation
 * of a process is a slow one, which then nobody waits for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/process.h"

/* A PNG of 8 x 8 pixels, a gradient. */
static const unsigned char picture[] = {
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00,
    0x08, 0x00, 0x00, 0x00, 0x08, 0x08, 0x02, 0x00, 0x00, 0x00, 0x4b, 0x6d, 0x29, 0xdc, 0x00, 0x00, 0x00, 0x6c, 0x49,
    0x44, 0x41, 0x54, 0x78, 0xda, 0x0d, 0xc9, 0x41, 0x01, 0x00, 0x30, 0x08, 0x03, 0x31, 0xc4, 0x20, 0x06, 0x31, 0x15,
    0x71, 0x12, 0x10, 0x53, 0x31, 0x15, 0xc3, 0x63, 0xcb, 0x37, 0x55, 0x45, 0x17, 0x53, 0xa8, 0xd8, 0xc2, 0x45, 0x8a,
    0x2b, 0xaa, 0x9a, 0x6e, 0xa6, 0x51, 0xb3, 0x8d, 0x9b, 0x34, 0xd7, 0x3f, 0x86, 0x1e, 0x66, 0xd0, 0xb0, 0x83, 0x87,
    0x0c, 0x37, 0x3f, 0x44, 0x8b, 0x11, 0x12, 0x2b, 0x2c, 0x22, 0x4e, 0x3f, 0x96, 0x5e, 0x66, 0xd1, 0xb2, 0x8b, 0x97,
    0x2c, 0xb7, 0x3f, 0x4c, 0x9b, 0x31, 0x32, 0x6b, 0x6c, 0x62, 0xce, 0x3f, 0x42, 0x87, 0x09, 0x0a, 0x1b, 0x1c, 0x12,
    0x2e, 0x3f, 0x8e, 0x3e, 0xe6, 0xd0, 0xb1, 0x87, 0x8f, 0x1c, 0x77, 0x3c, 0xf3, 0x19, 0x5f, 0x01, 0xd7, 0x56, 0xce,
    0xba, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
};

/* The backbone classifies; adapters, of which there may be hundreds, encode a text with their prompt (their numbers
 * were found finite when they were folded). The names are such as no client asks for, so that the label cache starts
 * empty for them. */
static bool test_one(struct comma_engine *engine, const char *name, enum comma_job_kind kind, struct comma_error *err)
{
    const struct comma_text labels[] = { comma_text_of("self-test, one"), comma_text_of("self-test, two") };
    struct comma_job job = { .kind = kind,
                             .adapter = comma_engine_get_adapter(engine, name),
                             .image = { picture, sizeof(picture) },
                             .texts = labels,
                             .n_texts = 2 };
    bool ok = false;

    if (!job.adapter)
        comma_fail(err, COMMA_E_MODEL, "self-test: the model %s is not served", name);
    else if (!comma_engine_run(engine, &job))
        comma_fail(err, COMMA_E_MODEL, "self-test of %s: %s", name, job.error.message);
    else if (kind == COMMA_JOB_CLASSIFY && !(fabsf(job.scores[0] + job.scores[1] - 1) <= 1e-3f))
        comma_fail(err, COMMA_E_MODEL, "self-test of %s: the scores are not numbers that add up to 1", name);
    else
        ok = true;
    comma_job_finish(&job);
    comma_adapter_unref(job.adapter);
    return ok;
}

/* What can be asked of an adapter whatever its method: CoCoOp has no texts without an image, class-specific contexts no
 * class but their own. */
static enum comma_job_kind kind_for(const struct comma_adapter_info *adapter)
{
    if (adapter->n_classes)
        return COMMA_JOB_EMBED_IMAGE;
    return strcmp(adapter->method, "cocoop") == 0 ? COMMA_JOB_CLASSIFY : COMMA_JOB_EMBED_TEXTS;
}

bool comma_self_test(struct comma_engine *engine, struct comma_error *err)
{
    struct comma_adapter_info *adapters = NULL;
    struct comma_engine_info info;
    size_t n = 0;
    bool ok;

    comma_engine_get_info(engine, &info);
    ok = test_one(engine, info.name, COMMA_JOB_CLASSIFY, err) && comma_engine_list_adapters(engine, &adapters, &n, err);
    for (size_t i = 0; ok && i < n; i++)
        ok = test_one(engine, adapters[i].name, kind_for(&adapters[i]), err);
    free(adapters);
    return ok;
}
