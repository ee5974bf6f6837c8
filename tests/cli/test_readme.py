# SPDX-License-Identifier: MIT
"""README is the front door: its option table is that of the program, its pasted answer is the real one."""
import gzip
import json
import re
import shlex
import shutil

from conftest import ROOT, run, run_json
from golden import find_golden

README = (ROOT / "README.md").read_text()


def test_every_option_of_serve_is_in_the_table_with_its_variable():
    text = run("serve", "--help").stdout
    options = re.findall(r"^  (--[a-z-]+)", text, re.M)
    variables = re.findall(r"\[(COMMA_[A-Z_]+)\]", text)
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| `(COMMA_[A-Z_]+)`", README, re.M)
    assert [name for name, _ in rows] == [name for name in options if name != "--help"]
    assert [variable for _, variable in rows] == variables


def test_every_option_of_convert_is_in_its_table():
    options = re.findall(r"^  (--[a-z-]+)", run("convert", "--help").stdout, re.M)
    table = README[README.index("## From checkpoints"):]
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*`(?:, `-o`)? \| [^|]*\|$", table[:table.index("\n## ", 5)].replace("\\|", "/"), re.M)
    assert rows == [name for name in options if name != "--help"]


def test_the_commands_of_the_checkpoint_owner_do_what_they_say(tmp_path):
    """README's own line, with a small checkpoint under the names that it uses."""
    tiny, data = find_golden("tiny"), ROOT / "tests" / "golden" / "data"
    line = re.search(r"^comma (convert ViT-B-16\.pt .*)$", README, re.M)[1]
    serve = re.search(r"^comma serve --model (pets/)$", README, re.M)[1]
    shutil.copy(tiny / "clip.pt", tmp_path / "ViT-B-16.pt")
    shutil.copy(tiny / "comma" / "MultiModalPromptLearner" / "model.pth.tar-5", tmp_path)
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress((data / "bpe_400.txt").read_bytes()))
    done = run(*shlex.split(line), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"next: comma serve --model {serve}, " in done.stdout and "adapter comma: comma" in done.stdout
    (found,) = run_json("inspect", "--json", tmp_path / serve)
    assert found["tokenizer"] and [(a["name"], a["fits"]) for a in found["adapters"]] == [("comma", True)]
    assert line in run("convert", "--help").stdout


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
