/* SPDX-License-Identifier: MIT */
/* exif.c - any bytes as a JPEG or PNG that may bear EXIF, and as the bare block. */
#include <assert.h>
#include <stdint.h>

#include "engine/exif.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct comma_bytes bytes = { data, size };
    const unsigned of_file = comma_exif_orientation(bytes), of_block = comma_exif_tiff_orientation(bytes);

    assert(of_file >= 1 && of_file <= 8 && of_block >= 1 && of_block <= 8);
    return 0;
}
