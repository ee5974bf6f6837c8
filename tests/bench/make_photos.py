#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes pictures with a photo's spectrum (noise that falls with frequency, edges, fine grain), as JPEG and PNG, to time
decoding and resizing with; needs numpy and Pillow.

    tests/bench/make_photos.py /tmp/photos && build/tests/bench/bench_images /tmp/photos/*"""
import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw

PHOTOS = [  # name, width, height, how it is saved
    ("12mpx.jpg", 4000, 3000, dict(quality=90)),
    ("12mpx_progressive.jpg", 4000, 3000, dict(quality=90, progressive=True)),
    ("12mpx_444.jpg", 4000, 3000, dict(quality=95, subsampling=0)),
    ("2mpx.jpg", 1920, 1080, dict(quality=90)),
    ("web.jpg", 640, 480, dict(quality=85)),
    ("2mpx.png", 1920, 1080, dict(compress_level=6)),
]


def photo(width, height, seed=1):
    rng = np.random.default_rng(seed)
    rgb = np.zeros((height, width, 3), np.float32)
    size, strength = 2, 60.0
    while size < 2 * max(width, height):
        noise = rng.standard_normal((max(2, size * height // width), size, 3)).astype(np.float32)
        noise[..., 1:] = 0.7 * noise[..., :1] + 0.3 * noise[..., 1:]  # colours go together
        layers = [np.asarray(Image.fromarray(noise[..., c]).resize((width, height), Image.BICUBIC)) for c in range(3)]
        rgb += strength * np.stack(layers, axis=-1)
        size, strength = 2 * size, 0.62 * strength
    rgb += 7 * rng.standard_normal((height, width, 3)).astype(np.float32)  # a sensor's grain
    image = Image.fromarray(np.clip(rgb + 120, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(40):  # edges
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        r = int(rng.integers(width // 200 + 2, width // 12))
        draw.ellipse([x - r, y - r, x + r, y + r // 2], fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, width, height, how in PHOTOS:
        if (width, height) not in made:
            made[width, height] = photo(width, height)
        made[width, height].save(directory / name, **how)
        print(f"{directory / name}: {width} x {height}, {(directory / name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
