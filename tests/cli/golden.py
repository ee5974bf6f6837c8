# SPDX-License-Identifier: MIT
"""The golden sets, as more than one test reads them."""
import gzip

import pytest
from conftest import ROOT, find_shared

DATA = ROOT / "tests" / "golden" / "data"
FEATURE_LIMIT, LOGIT_LIMIT = 1e-5, 2e-4


def find_golden(name):
    """The folder of a golden set: the project's copy if that is whole, else the one beside the project."""
    path = DATA / name
    whole = path / {"micro": "index.json", "tiny": "index.json", "tokenizer": "encode.json"}[name]
    return path if whole.exists() else find_shared("spec", "golden", name)


def merges_of(n):
    """The first n merges of CLIP's list as merges.txt: the project has 400 of them, more lie beside it or nowhere."""
    whole = find_shared("spec", "golden", "data", "bpe_simple_vocab_16e6.txt.gz")
    if n <= 400:
        lines = (DATA / "bpe_400.txt").read_text().split("\n")
    elif whole:
        lines = gzip.decompress(whole.read_bytes()).decode().split("\n")
    else:
        pytest.skip("CLIP's whole list of merges does not lie beside the project")
    return "\n".join(lines[:n + 1]) + "\n"


def exact(names):
    """All but mojibake, which the authors' tokenizer repairs by guessing (SPEC 7)."""
    return [i for i, name in enumerate(names) if name != "sch\u00c3\u00b6n"]


def labels_for_a_command_line(names):
    """Of those, the ones that a label list takes: not empty, no control characters, no blanks round them."""
    return [i for i in exact(names) if names[i] and names[i].isprintable() and names[i] == names[i].strip()]


def pictures(source, index):
    """Those that the server reads as the authors' code does: 16-bit gray is saturated there; no GIF, no BMP."""
    return [(i, source / "images" / image["file"]) for i, image in enumerate(index["images"])
            if image["format"] in ("PNG", "JPEG") and image["pil_mode"] != "I"]


def scale_of(expected):
    """exp(logit_scale), which the sets do not hold: the largest logit over its cosine."""
    logits, images, texts = (expected[k].rows for k in ("logits", "image_features", "text_features"))
    i, j = max(((i, j) for i in range(len(logits)) for j in range(len(logits[0]))), key=lambda at: logits[at[0]][at[1]])
    return logits[i][j] / sum(x * y for x, y in zip(images[i], texts[j]))
