# SPDX-License-Identifier: MIT
"""comma tokenize on the embedded model; test_golden.py does it with CLIP's own vocabulary."""
from conftest import run, run_json

SOS, EOT = 2046, 2047


def test_ids_are_those_of_the_reference(golden_emoji):
    golden = golden_emoji[0]
    texts = [golden["template"].replace("{}", label) for label in golden["classes"]]
    lines = run_json("tokenize", "--json", *texts)
    assert [line["ids"] for line in lines] == golden["tokens"]
    assert [line["text"] for line in lines] == texts
    assert {tuple(line) for line in lines} == {("text", "ids")}


def test_the_plain_form_is_ids_between_blanks_a_text_a_line(golden_emoji):
    done = run("tokenize", "a photo of a monkey.", "a photo of a unicorn.")
    assert done.lines == [" ".join(map(str, ids)) for ids in golden_emoji[0]["tokens"][:2]]


def test_an_empty_text_is_sos_and_eot():
    (line,) = run_json("tokenize", "--json", "")
    assert line == {"text": "", "ids": [SOS, EOT]}


def test_a_text_longer_than_the_context_is_shown_whole():
    (line,) = run_json("tokenize", "--json", "cat " * 500)
    assert len(line["ids"]) >= 502 and line["ids"][0] == SOS and line["ids"][-1] == EOT


def test_a_text_that_is_not_utf8_is_refused_and_the_others_are_done():
    done = run("tokenize", b"\xff", "cat")
    assert done.returncode == 1
    assert "UTF-8" in done.stderr and len(done.lines) == 1


def test_texts_that_look_like_options_stand_behind_two_dashes():
    (line,) = run_json("tokenize", "--json", "--", "--json")
    assert line["text"] == "--json"
