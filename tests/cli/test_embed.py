# SPDX-License-Identifier: MIT
"""comma embed on the embedded model, against what numpy makes of the same files."""
import json
import math

import pytest
from conftest import run, run_json
from files import largest_difference

LIMIT = 1e-5  # the reference writes six decimals, SPEC 12 asks for 1e-5


def test_features_of_the_samples_are_those_of_the_reference(golden_emoji, samples):
    for golden, more in zip(golden_emoji, [[], ["--adapter", "groups"]]):
        paths = [samples / image["file"] for image in golden["images"]]
        lines = run_json("embed", "--json", *more, "--image", *paths)
        for line, image, path in zip(lines, golden["images"], paths):
            assert line["input"] == str(path)
            assert largest_difference(line["features"], image["image_feature"]) < LIMIT


def test_a_text_without_an_adapter_is_encoded_as_it_stands(golden_emoji):
    golden = golden_emoji[0]
    texts = [golden["template"].replace("{}", label) for label in golden["classes"]]
    lines = run_json("embed", "--json", "--text", *texts)
    for line, text, expected in zip(lines, texts, golden["text_features"]):
        assert line["input"] == text
        assert largest_difference(line["features"], expected) < LIMIT


def test_a_text_with_an_adapter_is_a_class_name_put_into_its_prompt(golden_emoji):
    golden = golden_emoji[1]
    lines = run_json("embed", "--json", "--adapter", "groups", "--text", *golden["classes"])
    for line, label, expected in zip(lines, golden["classes"], golden["text_features"]):
        assert line["input"] == label
        assert largest_difference(line["features"], expected) < LIMIT


def test_pictures_come_before_texts_and_the_options_may_be_repeated(samples):
    cat, pizza = samples / "cat.png", samples / "pizza.png"
    lines = run_json("embed", "--text", "one", "two", "--image", cat, "--json", "--image", pizza, "--text", "three")
    assert [line["input"] for line in lines] == [str(cat), str(pizza), "one", "two", "three"]


def test_features_have_unit_length_unless_told_otherwise(cat):
    unit = run_json("embed", "--json", "--image", cat, "--text", "cat")
    raw = run_json("embed", "--json", "--no-normalize", "--image", cat, "--text", "cat")
    for u, r in zip(unit, raw):
        norm = math.sqrt(sum(x * x for x in r["features"]))
        assert math.sqrt(sum(x * x for x in u["features"])) == pytest.approx(1, abs=1e-5)
        assert abs(norm - 1) > 1e-2
        assert largest_difference([x / norm for x in r["features"]], u["features"]) < LIMIT


def test_the_plain_form_is_the_input_and_its_numbers_between_tabs(cat):
    (line,) = run_json("embed", "--json", "--image", cat)
    done = run("embed", "--image", cat)
    cells = done.stdout.rstrip("\n").split("\t")
    assert cells[0] == str(cat)
    assert largest_difference([float(cell) for cell in cells[1:]], line["features"]) < 1e-6


def test_a_text_file_has_a_text_a_line(tmp_path):
    (tmp_path / "texts").write_bytes("one\r\n\r\nzwei, drei\n四".encode())
    lines = run_json("embed", "--json", "--text-file", tmp_path / "texts")
    assert [line["input"] for line in lines] == ["one", "zwei, drei", "四"]
    piped = run_json("embed", "--json", "--text-file", "-", stdin=(tmp_path / "texts").read_bytes())
    for line, other in zip(lines, piped):
        assert other["input"] == line["input"]
        assert largest_difference(other["features"], line["features"]) < LIMIT


def test_bad_inputs_are_reported_and_the_others_done(cat, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    long = "word " * 100
    done = run("embed", "--json", "--image", tmp_path / "bad.png", cat, "--text", long, "cat")
    assert done.returncode == 1
    assert [json.loads(line)["input"] for line in done.lines] == [str(cat), "cat"]
    assert f"comma: {tmp_path / 'bad.png'}: " in done.stderr and '"word word' in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_text_that_is_not_utf8_is_refused():
    done = run("embed", "--text", b"\xff\xfe", "cat")
    assert done.returncode == 1 and "UTF-8" in done.stderr
    assert len(done.lines) == 1


def test_a_missing_text_file_is_named():
    done = run("embed", "--text-file", "/nonexistent/texts")
    assert done.returncode == 1
    assert "/nonexistent/texts: No such file or directory" in done.stderr
