# SPDX-License-Identifier: MIT
"""comma classify on the embedded model, against what numpy makes of the same files."""
import json
import math
import re

import pytest
from conftest import run, run_json
from files import png

LABELS = "cat,dog,red apple"


def results_of(line):
    return {r["label"]: r for r in line["results"]}


def test_top_5_of_each_sample_are_those_of_the_reference(golden_emoji, samples, tmp_path):
    golden = golden_emoji[0]
    (tmp_path / "labels").write_text("\n".join(golden["classes"]))
    paths = [samples / image["file"] for image in golden["images"]]
    lines = run_json("classify", "--labels-file", tmp_path / "labels", "--top-k", "5", "--json", *paths)
    for line, image, path in zip(lines, golden["images"], paths):
        assert line["image"] == str(path) and line["model"] == "emoji"
        assert [r["label"] for r in line["results"]] == [label for label, _ in image["top5"]]
        for r, (_, score) in zip(line["results"], image["top5"]):
            assert r["score"] == pytest.approx(score, abs=2e-4)
        assert line["labels"]["count"] == len(golden["classes"])


def test_top_5_with_the_comma_prompts_are_those_of_the_reference(golden_emoji, samples, emoji_model):
    golden = golden_emoji[1]
    paths = [samples / image["file"] for image in golden["images"]]
    labels = json.dumps(golden["classes"])
    by_name = run_json("classify", "--adapter", "groups", "--labels", labels, "--top-k", "5", "--json", *paths)
    by_path = run_json("classify", "--adapter", str(emoji_model / "adapters" / "groups") + "/", "--labels", labels,
                       "--top-k", "5", "--json", *paths)
    for line, other, image in zip(by_name, by_path, golden["images"]):
        assert line["model"] == other["model"] == "groups"
        assert [r["label"] for r in line["results"]] == [label for label, _ in image["comma_top5"]]
        for r, o, (_, score) in zip(line["results"], other["results"], image["comma_top5"]):
            assert r["score"] == pytest.approx(score, abs=2e-4)
            assert o["score"] == pytest.approx(score, abs=2e-4)


def test_a_line_has_the_shape_of_the_http_answer(cat):
    (line,) = run_json("classify", "--labels", LABELS, "--json", cat)
    assert list(line) == ["image", "model", "results", "labels", "timing_ms"]
    assert {tuple(r) for r in line["results"]} == {("label", "score", "similarity")}
    assert line["labels"]["count"] == 3 and 0 <= line["labels"]["cached"] <= 3
    assert set(line["timing_ms"]) == {"queue", "decode", "image", "text", "total"}
    scores = [r["score"] for r in line["results"]]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-5)


def test_scores_are_the_softmax_of_the_scaled_similarities(cat, golden_emoji):
    (line,) = run_json("classify", "--labels", LABELS, "--json", cat)
    weights = {r["label"]: math.exp(golden_emoji[0]["logit_scale"] * r["similarity"]) for r in line["results"]}
    for r in line["results"]:
        assert r["score"] == pytest.approx(weights[r["label"]] / sum(weights.values()), abs=1e-4)


@pytest.mark.parametrize("labels", ["cat,dog,red apple", " cat , dog,,red apple ", "cat\ndog\r\nred apple\n",
                                    '["cat", "dog", "red apple"]'])
def test_the_ways_to_write_labels_are_those_of_http(cat, labels):
    (line,) = run_json("classify", "--labels", labels, "--json", cat)
    assert set(results_of(line)) == {"cat", "dog", "red apple"}


def test_a_labels_file_takes_crlf_blank_lines_and_a_byte_order_mark(cat, tmp_path):
    (tmp_path / "labels").write_bytes(b"\xef\xbb\xbfcat\r\n\r\n   \r\nred, apple\r\ndog")
    (line,) = run_json("classify", "--labels-file", tmp_path / "labels", "--json", cat)
    assert set(results_of(line)) == {"cat", "red, apple", "dog"}


def test_labels_come_from_standard_input_and_add_to_those_of_the_option(cat):
    (line,) = run_json("classify", "--labels", "cat", "--labels", "dog", "--labels-file", "-", "--json", cat,
                       stdin="rocket\n")
    assert set(results_of(line)) == {"cat", "dog", "rocket"}


def test_a_picture_comes_from_standard_input(cat):
    (piped,) = run_json("classify", "--labels", LABELS, "--json", "-", stdin=cat.read_bytes())
    (named,) = run_json("classify", "--labels", LABELS, "--json", cat)
    assert piped["image"] == "-"
    for label, r in results_of(named).items():  # sums round differently in other company
        assert results_of(piped)[label]["score"] == pytest.approx(r["score"], abs=1e-5)


def test_unicode_labels_come_back_as_they_were(cat):
    labels = ["猫", "crème brûlée", "😀 emoji", 'a "quoted" \\ label', "Straße"]
    (line,) = run_json("classify", "--labels", json.dumps(labels), "--json", cat)
    assert set(results_of(line)) == set(labels)


def test_in_a_pipe_a_line_is_image_label_score_similarity(cat):
    done = run("classify", "--labels", LABELS, "--top-k", "2", cat)
    assert done.returncode == 0 and len(done.lines) == 2
    for line in done.lines:
        image, label, score, similarity = line.split("\t")
        assert image == str(cat) and label in LABELS
        assert re.fullmatch(r"\d\.\d{4}", score) and re.fullmatch(r"-?\d\.\d{4}", similarity)


def test_templates_change_the_features_and_one_that_says_the_default_does_not(cat):
    (plain,) = run_json("classify", "--labels", LABELS, "--json", cat)
    (same,) = run_json("classify", "--labels", LABELS, "--template", "a photo of a {}.", "--json", cat)
    (two,) = run_json("classify", "--labels", LABELS, "--template", "a {}", "--template", "the {}.", "--json", cat)
    for label, r in results_of(plain).items():
        assert results_of(same)[label]["similarity"] == pytest.approx(r["similarity"], abs=1e-6)
        assert abs(results_of(two)[label]["similarity"] - r["similarity"]) > 1e-4


def test_one_bad_picture_is_reported_and_the_others_are_done_in_their_order(cat, samples, tmp_path):
    bad = {"text.png": (b"this is text", "PNG and JPEG"), "empty.png": (b"", ""),
           "cut.png": (cat.read_bytes()[:700], "")}
    paths = [cat]
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
        paths += [tmp_path / name, samples / "banana.png"]
    paths += [tmp_path / "missing.png", tmp_path, cat]
    done = run("classify", "--labels", LABELS, "--json", *paths)
    good = [json.loads(line)["image"] for line in done.lines]
    assert done.returncode == 1
    assert good == [str(p) for p in paths if p.suffix == ".png" and p.name in ("cat.png", "banana.png")]
    complaints = done.stderr.splitlines()
    assert len(complaints) == 5
    for name, (_, words) in bad.items():
        assert any(c.startswith(f"comma: {tmp_path / name}: ") and words in c for c in complaints)
    assert f"comma: {tmp_path / 'missing.png'}: No such file or directory" in complaints


def test_a_label_longer_than_the_context_is_named_once(cat, samples):
    long = "very " * 60 + "long"
    done = run("classify", "--labels", f"cat,{long}", cat, samples / "banana.png")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "very very" in done.stderr


def test_a_picture_above_the_limit_is_refused_by_its_size(tmp_path):
    (tmp_path / "big.png").write_bytes(png(200, 100, bytes(200 * 100 * 3)))
    done = run("classify", "--labels", LABELS, "--max-megapixels", "0.01", tmp_path / "big.png")
    assert done.returncode == 1 and "200" in done.stderr and "100" in done.stderr
    assert run("classify", "--labels", LABELS, "--max-megapixels", "0.02", tmp_path / "big.png").returncode == 0


def test_many_pictures_at_once_score_as_each_alone(samples):
    paths = sorted(samples.glob("*.png"))
    together = run_json("classify", "--labels", LABELS, "--json", *(paths * 8))
    for line, path in zip(together, paths * 8):
        assert line["image"] == str(path)
    for path in paths[:3]:
        (alone,) = run_json("classify", "--labels", LABELS, "--json", "--threads", "1", path)
        for line in together[paths.index(path)::len(paths)]:
            for label, r in results_of(alone).items():
                assert results_of(line)[label]["score"] == pytest.approx(r["score"], abs=1e-4)
