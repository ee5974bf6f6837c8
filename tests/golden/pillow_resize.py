# SPDX-License-Identifier: MIT
"""Resizes random pictures of random sizes with Pillow and with the engine, and wants equal bytes.

Usage: pillow_resize.py PILLOW_RESIZE [PAIRS]. The golden pictures cover some sizes, this many more; it skips (exit 77)
where Pillow is not installed.
"""
import os
import random
import subprocess
import sys

try:
    from PIL import Image
except ImportError:
    print("skipped: Pillow is not installed")
    sys.exit(77)


def square(picture, size):
    """The authors' transform: shorter side to size, then the centre square, halves rounded to even.

    In two steps, since Pillow 13 resizes some tall pictures vertically first, and those before it (the authors' too)
    never do; a step that changes nothing is left out by Pillow itself.
    """
    width, height = picture.size
    if width <= height:
        full = (size, int(size * height / width))
    else:
        full = (int(size * width / height), size)
    picture = picture.resize((full[0], height), Image.BICUBIC).resize(full, Image.BICUBIC)
    left, top = round((full[0] - size) / 2), round((full[1] - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def sizes(rng, pairs):
    """Edges first, then sizes spread evenly over their logarithm; every other one for the usual model."""
    yield from ((1, 1, 224), (1, 300, 224), (300, 1, 224), (224, 224, 224), (224, 500, 224), (500, 224, 224),
                (225, 224, 224), (224, 231, 224), (3, 2000, 32), (2000, 3, 32), (4000, 3000, 224), (7, 5, 1))
    for i in range(pairs):
        yield (int(2 ** rng.uniform(0, 11)), int(2 ** rng.uniform(0, 11)),
               224 if i % 2 == 0 else rng.randint(1, 400))


def main():
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    rng = random.Random(20)
    n = 0
    for width, height, size in sizes(rng, pairs):
        pixels = os.urandom(3 * width * height) if n % 3 else rng.randbytes(3) * (width * height)
        picture = Image.frombytes("RGB", (width, height), pixels)
        if max(width, height) * size / min(width, height) > 200000:
            continue  # Pillow would make all of the long side, gigabytes of it
        ours = subprocess.run([sys.argv[1], str(width), str(height), str(size)], input=pixels, stdout=subprocess.PIPE,
                              check=True).stdout
        if ours != square(picture, size).tobytes():
            print(f"{width} x {height} to {size}: bytes differ")
            return 1
        n += 1
    print(f"{n} pictures equal to Pillow's")
    return 0


sys.exit(main())
