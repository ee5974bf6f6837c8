/* SPDX-License-Identifier: MIT */
/* pillow_resize.c - a filter for pillow_resize.py: raw RGB on stdin, resized and cut square on stdout.
 * Usage: pillow_resize WIDTH HEIGHT SIZE */
#include <stdio.h>
#include <stdlib.h>

#include "engine/preprocess.h"

int main(int argc, char **argv)
{
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };
    unsigned char *out = NULL;
    size_t size_px, n_in, n_out;
    int status = 1;

    if (argc != 4)
        return 2;
    image.width = strtoul(argv[1], NULL, 10);
    image.height = strtoul(argv[2], NULL, 10);
    size_px = strtoul(argv[3], NULL, 10);
    n_in = 3 * image.width * image.height;
    n_out = 3 * size_px * size_px;
    image.pixels = malloc(n_in);
    out = malloc(n_out);
    if (!image.pixels || !out || fread(image.pixels, 1, n_in, stdin) != n_in)
        goto out;
    if (!comma_preprocess_square(&image, size_px, out, &err))
        fprintf(stderr, "%s\n", err.message);
    else if (fwrite(out, 1, n_out, stdout) == n_out)
        status = 0;
out:
    free(out);
    comma_image_finish(&image);
    return status;
}
