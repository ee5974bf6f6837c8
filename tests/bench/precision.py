#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What bf16 and int8 cost in answers: the embedded model names drawings of emoji in each precision.

    apt-get install fonts-noto-color-emoji unicode-cldr-core python3-pil
    tests/bench/precision.py --binary build/server/comma

Draws each emoji whose CLDR name is one of models/emoji/classes.txt by a colour font, on white, and asks for the best
name among all. Prints how often it is the right one, and how often it is the one that f32 gives. The font's drawings
(Noto) are a style that the model was trained on, so this measures the precision, not the model."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

from PIL import Image, ImageDraw, ImageFont

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZE = 109  # the one that the font's bitmaps have


def names(annotations):
    """{name: character} of CLDR's English short names."""
    entries = ElementTree.parse(annotations).getroot().iter("annotation")
    return {e.text: e.get("cp") for e in entries if e.get("type") == "tts"}


def draw(character, font, path):
    image = Image.new("RGB", (144, 144), "white")
    ImageDraw.Draw(image).text((4, 12), character, font=font, embedded_color=True)
    if not image.getbbox() or len(image.getcolors(1 << 16) or [0, 0]) < 2:
        return False  # the font has no drawing of it
    image.save(path)
    return True


def classify(binary, precision, labels, images):
    """[(best label, similarity of each image's best), ...]"""
    backend = ["--backend", "openblas"] if precision == "f32" else ["--backend", "onednn", "--precision", precision]
    done = subprocess.run([binary, "classify", *backend, "--json", "--top-k", "1", "--labels-file", labels, *images],
                          stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line)["results"][0]["label"] for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "build" / "server" / "comma"))
    parser.add_argument("--font", default="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    parser.add_argument("--annotations", default="/usr/share/unicode/cldr/common/annotations/en.xml")
    options = parser.parse_args()
    labels = ROOT / "models" / "emoji" / "classes.txt"
    characters = names(options.annotations)
    font = ImageFont.truetype(options.font, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        truth, images = [], []
        for name in labels.read_text().splitlines():
            path = f"{folder}/{len(images)}.png"
            if name in characters and draw(characters[name], font, path):
                truth.append(name)
                images.append(path)
        if not images:
            sys.exit("no emoji could be drawn; are the font and the annotations there?")
        print(f"{len(images)} drawings, {len(labels.read_text().splitlines())} names")
        first = None
        for precision in ["f32", "bf16", "int8"]:
            best = classify(options.binary, precision, str(labels), images)
            first = first or best
            right = sum(a == b for a, b in zip(best, truth)) / len(truth)
            same = sum(a == b for a, b in zip(best, first)) / len(first)
            print(f"{precision:5} right {100 * right:5.1f} %   as f32 {100 * same:5.1f} %")


if __name__ == "__main__":
    main()
