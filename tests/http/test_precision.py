# SPDX-License-Identifier: MIT
"""Served in int8: requests at once get what each gets alone, since a row's scale is its own."""
import concurrent.futures
import subprocess

import pytest
from conftest import BINARY, SAMPLES

PICTURES = [p.read_bytes() for p in sorted(SAMPLES.glob("*.png"))]
LABELS = ["pizza", "guitar", "rocket", "cat"]


def test_int8_requests_at_once_get_what_each_gets_alone(start):
    tried = subprocess.run([BINARY, "classify", "--backend", "onednn", "--precision", "int8", "--labels", "cat",
                            str(next(SAMPLES.glob("*.png")))], capture_output=True, text=True, timeout=120)
    if tried.returncode:
        assert "not in this build" in tried.stderr or "this processor" in tried.stderr, tried.stderr
        pytest.skip(tried.stderr.strip())
    server = start("--backend", "onednn", "--precision", "int8", "--threads", "2")
    backbone = server.ask("GET", "/models").json["backbone"]
    assert backbone["backend"] == "onednn" and backbone["precision"] == "int8"

    def ask(i):
        answer = server.classify(PICTURES[i % len(PICTURES)], LABELS, model=["emoji", "groups"][i % 2])
        assert answer.status == 200, answer.body
        return {r["label"]: r["similarity"] for r in answer.json["results"]}

    alone = [ask(i) for i in range(2 * len(PICTURES))]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(2 * len(PICTURES))))
    for a, b in zip(alone, together):
        assert max(abs(a[label] - b[label]) for label in a) <= 1e-4
    assert server.stop() == 0
