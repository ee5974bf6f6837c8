/* SPDX-License-Identifier: MIT */
/* checkpoint.c - any bytes as the checkpoint that comma convert is given: container, names, sizes, prompts, backbone. A
 * file of the memory it lies in is made, since a model is opened by its path. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/convert.h"
#include "models/methods.h"
#include "models/torch_file.h"
#include "tests/fuzz/fuzz.h"

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Every weight of a backbone that is accepted can be read. */
static void read_backbone(const struct comma_clip *clip)
{
    const struct comma_clip_config *c = comma_clip_config(clip);
    const struct comma_store_options as_stored = { .as_stored = true };
    struct comma_error err;

    require(comma_convert_weight_bytes(clip, &as_stored) > 0 && c->vision.width % c->vision.heads == 0);
    for (int role = 0; role < COMMA_N_CLIP_ROLES; role++) {
        const struct comma_tensor t = comma_clip_tensor(clip, (enum comma_clip_role)role);
        float *out = malloc((comma_tensor_count(&t) + 1) * sizeof(*out));

        require(!out || comma_tensor_to_f32(&t, out, &err));
        free(out);
    }
}

/* tensors are given up. */
static void read_prompts(struct comma_tensors *tensors)
{
    const struct comma_adapter_claims none = { 0 };
    struct comma_adapter_dir adapter = { 0 };
    struct comma_error err = { 0 };

    if (!comma_adapter_from_checkpoint(tensors, "fuzz", &none, &adapter, &err)) {
        require(err.code != COMMA_OK && err.message[0]);
        return;
    }
    require(adapter.config.n_ctx > 0 && adapter.config.prompt_depth > 0 && adapter.config.method[0]);
    comma_adapter_dir_close(&adapter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct comma_tensors *tensors = NULL;
    struct comma_clip *clip = NULL;
    struct comma_error err = { 0 };
    char path[64];

    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (!comma_checkpoint_open(path, &tensors, &err)) {
        require(err.code != COMMA_OK && err.message[0]);
    } else if (comma_method_detect(tensors)) {
        read_prompts(tensors);
    } else {
        comma_tensors_close(tensors);
        if (comma_clip_open_source(path, NULL, &clip, &err))
            read_backbone(clip);
        else
            require(err.code != COMMA_OK && err.message[0]);
        comma_clip_close(clip);
    }
    close(fd);
    return 0;
}
