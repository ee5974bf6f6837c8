# SPDX-License-Identifier: MIT
"""comma bench: the shape of its answer and how its figures hang together. How fast it is, is not asserted."""
import pytest
from conftest import run, run_json

SHAPE = {
    "backend": str, "precision": str, "threads": int, "peak_gflops": float, "load_ms": float,
    "image": {"gflop": float, "lone_ms": float, "per_s": float, "share_of_peak": float},
    "text": {"tokens_per_label": int, "cold_labels_per_s": float, "full_context_labels_per_s": float},
    "cached": {"labels_10_ms": float, "labels_1000_ms": float, "labels_100000_ms": float},
    "memory": {"weights_mb": float, "resident_mb": float},
}


def check_shape(value, shape):
    if isinstance(shape, dict):
        assert list(value) == list(shape)
        for name in shape:
            check_shape(value[name], shape[name])
    else:
        assert isinstance(value, shape)
        assert isinstance(value, str) or value > 0


@pytest.mark.parametrize("more", [[], ["--adapter", "groups"]])
def test_the_object_is_that_of_the_contract(more):
    (line,) = run_json("bench", "--seconds", "0.5", "--threads", "1", "--json", *more)
    check_shape(line, SHAPE)
    assert (line["backend"], line["precision"], line["threads"]) == ("openblas", "f32", 1)
    image = line["image"]
    assert image["share_of_peak"] == pytest.approx(image["gflop"] * image["per_s"] / line["peak_gflops"], rel=0.01)


def test_the_nominal_work_counts_every_token_of_every_layer():
    """64 patches of 192 numbers and a class token (and 2 prompts, of the adapter that comes along) in 4 layers."""
    (line,) = run_json("bench", "--seconds", "0.1", "--threads", "1", "--json")
    rows, width, layers = 1 + 64 + 2, 192, 4
    per_layer = 12 * rows * width * width + 2 * rows * rows * width
    macs = 64 * 3 * 8 * 8 * width + layers * per_layer + width * 128
    assert line["image"]["gflop"] == pytest.approx(2e-9 * macs, rel=0.01)


def test_the_table_is_for_people():
    done = run("bench", "--seconds", "0.1")
    assert done.returncode == 0 and done.stderr == ""
    assert "share of the peak" in done.stdout
