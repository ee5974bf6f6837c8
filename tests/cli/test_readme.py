# SPDX-License-Identifier: MIT
"""README is the front door: its option table is that of the program, its pasted answer is the real one."""
import json
import re

from conftest import ROOT, run, run_json

README = (ROOT / "README.md").read_text()


def test_every_option_of_serve_is_in_the_table_with_its_variable():
    text = run("serve", "--help").stdout
    options = re.findall(r"^  (--[a-z-]+)", text, re.M)
    variables = re.findall(r"\[(COMMA_[A-Z_]+)\]", text)
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| `(COMMA_[A-Z_]+)`", README, re.M)
    assert [name for name, _ in rows] == [name for name in options if name != "--help"]
    assert [variable for _, variable in rows] == variables


def test_the_pasted_answer_is_the_real_one():
    pasted = json.loads(re.search(r"^```json\n(\{\"model\".*?\})\n```", README, re.M)[1])
    image, labels = re.search(r"curl -F image=@(\S+) -F labels=\"([^\"]+)\"", README).groups()
    real, = run_json("classify", "--json", "--labels", labels, ROOT / image)
    assert [r["label"] for r in real["results"]] == [r["label"] for r in pasted["results"]]
    for ours, theirs in zip(real["results"], pasted["results"]):
        assert abs(ours["score"] - theirs["score"]) < 1e-5 and abs(ours["similarity"] - theirs["similarity"]) < 1e-5


def test_both_commands_and_the_way_to_ones_own_model_are_on_the_first_screen():
    first = "\n".join(README.split("\n")[:40])
    for words in ["./quickstart", "./check", "curl -F image=@", "comma serve --model"]:
        assert words in first
