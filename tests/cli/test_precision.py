# SPDX-License-Identifier: MIT
"""Back ends and precisions by the command line: answers near those of f32, and what cannot be had is refused in words."""
import json
import os

import pytest
from conftest import ROOT, run

PICTURES = sorted((ROOT / "models" / "emoji" / "samples").glob("*.png"))
NAMES = "pizza,guitar,rocket,cat,elephant,umbrella,snowman"
# largest change of a similarity: f32 by another order of sums; bf16 and int8 about ten times what is seen
ALLOWED = {"f32": 1e-5, "bf16": 0.02, "int8": 0.06}


def similarities(*options, adapter=()):
    done = run("classify", *options, *adapter, "--json", "--labels", NAMES, *PICTURES)
    if done.returncode and ("not in this build" in done.stderr or "this processor" in done.stderr):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return [{r["label"]: r["similarity"] for r in line["results"]} for line in map(json.loads, done.lines)]


@pytest.mark.parametrize("adapter", [(), ("--adapter", "groups")], ids=["plain", "comma"])
@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_packed_weights_answer_as_f32_does(precision, adapter):
    want = similarities(adapter=adapter)
    got = similarities("--backend", "onednn", "--precision", precision, adapter=adapter)
    assert len(want) == len(got) == len(PICTURES) > 0
    for a, b in zip(want, got):
        assert a.keys() == b.keys()
        assert max(abs(a[label] - b[label]) for label in a) <= ALLOWED[precision]
    if precision != "f32":
        assert want != got  # it really was another precision


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_openblas_has_f32_only_and_says_what_has_more(precision):
    done = run("classify", "--precision", precision, "--labels", "cat", PICTURES[0])
    assert done.returncode == 1 and done.stdout == ""
    assert precision in done.stderr and "--backend onednn" in done.stderr


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_processor_without_the_units_is_refused_with_what_it_has(precision):
    done = run("classify", "--backend", "onednn", "--precision", precision, "--labels", "cat", PICTURES[0],
               env={**os.environ, "COMMA_CPU": "avx2"})
    if "not in this build" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1 and done.stdout == ""
    assert f"has no {precision} products" in done.stderr and "--precision f32" in done.stderr
