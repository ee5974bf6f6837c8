/* SPDX-License-Identifier: MIT */
/* image.c - any bytes through decoder, EXIF and resize. Limits are low so that a run is short; every fourth size asks
 * for scaled decoding, every fifth leaves the orientation alone. */
#include <assert.h>
#include <stdint.h>

#include "engine/preprocess.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct comma_image_limits limits = {
        .max_pixels = 1 << 18, .max_side_px = 65500, .max_decode_bytes = 16 << 20, .max_scans = 20
    };
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };
    unsigned char square[32 * 32 * 3];

    if (!comma_image_decode((struct comma_bytes){ data, size }, &limits, size % 5 != 0, size % 4 == 0 ? 16 : 0, &image,
                            &err)) {
        assert(!image.pixels && err.code != COMMA_OK && err.message[0] != '\0');
        return 0;
    }
    assert(image.width > 0 && image.height > 0 && image.width * image.height <= limits.max_pixels);
    assert(comma_preprocess_square(&image, 32, square, &err));
    comma_image_finish(&image);
    return 0;
}
