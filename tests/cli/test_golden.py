# SPDX-License-Identifier: MIT
"""The authors' numbers through the front door: model directories made of the golden sets, run by the real binary.

SPEC section 12 gives the limits. What needs CLIP's whole list of merges is skipped where that does not lie beside the
project; the small models need its first 400 lines, which are here."""
import json
import shutil

import pytest
from conftest import run, run_json
from golden import (FEATURE_LIMIT, LOGIT_LIMIT, exact, find_golden, labels_for_a_command_line, merges_of, pictures,
                    scale_of)
from files import Tensor, largest_difference, read_safetensors, read_state_dict, write_safetensors

# ---- micro: one block a tower, under Hugging Face's and OpenAI's names; its pictures are random numbers, not files ----

@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    source = find_golden("micro")
    if not source:
        pytest.skip("the golden set micro is not there")
    folder = tmp_path_factory.mktemp("models")
    expected = read_safetensors(source / "expected.safetensors")
    for name, weights in [("hf", source / "hf" / "model.safetensors"),
                          ("hf_bf16", source / "hf_names_bf16.safetensors"),
                          ("openai", source / "openai_names_f32.safetensors")]:
        (folder / name).mkdir()
        shutil.copy(weights, folder / name / "model.safetensors")
        shutil.copy(source / "hf" / "config.json", folder / name / "config.json")
    return folder, expected, json.loads((source / "index.json").read_text())


@pytest.mark.parametrize("name", ["hf", "hf_bf16", "openai"])
def test_micro_text_features(micro, name):
    folder, expected, index = micro
    (folder / name / "merges.txt").write_text(merges_of(index["merges"]))
    texts = [index["template"].replace("{}", label.replace("_", " ")) for label in index["classnames"]]
    for more, key in [([], "text_features"), (["--no-normalize"], "text_features_raw")]:
        lines = run_json("embed", "--json", "--model", folder / name, *more, "--text", *texts)
        for line, row in zip(lines, expected[key].rows):
            assert largest_difference(line["features"], row) < FEATURE_LIMIT


# ---- tiny: three blocks a tower, COMMA prompts, pictures of every kind ----

ADAPTERS = [("comma", "comma_last1", dict(n_ctx=2, prompt_depth=3, last_layer=1)),
            ("comma", "comma_last2", dict(n_ctx=2, prompt_depth=3, last_layer=2)),
            ("comma_depth2", "comma_depth2_last1", dict(n_ctx=4, prompt_depth=2, last_layer=1)),
            ("comma_depth2", "comma_depth2_last3", dict(n_ctx=4, prompt_depth=2, last_layer=3))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    source = find_golden("tiny")
    if not source:
        pytest.skip("the golden set tiny is not there")
    folder = tmp_path_factory.mktemp("tiny")
    index = json.loads((source / "index.json").read_text())
    geometry = index["clip"]
    weights = {name: t for name, t in read_state_dict(source / geometry["file"]).items() if isinstance(t, Tensor)}
    (folder / "model").mkdir()
    write_safetensors(folder / "model" / "model.safetensors", weights)
    (folder / "model" / "merges.txt").write_text(merges_of(geometry["merges"]))
    for learner, expected, options in ADAPTERS:
        adapter = folder / expected
        adapter.mkdir()
        shutil.copy(source / (learner + ".safetensors"), adapter / "adapter_model.safetensors")
        (adapter / "adapter_config.json").write_text(
            json.dumps(dict(options, method="comma", ctx_init="a photo of a", base_model="tiny")))
    return folder, source, index


def check_set(tiny, expected_file, args, as_text):
    """Features of pictures and texts, and the logits that classify works with, of one set."""
    folder, source, index = tiny
    expected = read_safetensors(source / expected_file)
    names = index["classnames"]
    chosen = pictures(source, index)
    model = ["--model", folder / "model", *args]
    lines = run_json("embed", "--json", *model, "--no-auto-orient", "--image", *[path for _, path in chosen])
    for line, (i, _) in zip(lines, chosen):
        assert largest_difference(line["features"], expected["image_features"].rows[i]) < FEATURE_LIMIT, line["input"]
    lines = run_json("embed", "--json", *model, "--text", *[as_text(names[i]) for i in exact(names)])
    for line, i in zip(lines, exact(names)):
        assert largest_difference(line["features"], expected["text_features"].rows[i]) < FEATURE_LIMIT, line["input"]
    return expected, names, chosen, model


def check_logits(expected, names, chosen, model, scale):
    kept = labels_for_a_command_line(names)
    labels = json.dumps([names[i] for i in kept])
    lines = run_json("classify", "--json", *model, "--no-auto-orient", "--labels", labels, *[p for _, p in chosen])
    for line, (row, _) in zip(lines, chosen):
        found = {r["label"]: r["similarity"] * scale for r in line["results"]}
        for i in kept:
            assert found[names[i]] == pytest.approx(expected["logits"].rows[row][i], abs=LOGIT_LIMIT)


def test_tiny_without_prompts(tiny):
    found = check_set(tiny, "plain.safetensors", [], lambda name: f"a photo of a {name.replace('_', ' ')}.")
    check_logits(*found, scale_of(found[0]))


@pytest.mark.parametrize("name", [expected for _, expected, _ in ADAPTERS])
def test_tiny_with_comma_prompts(tiny, name):
    found = check_set(tiny, name + ".safetensors", ["--adapter", tiny[0] / name], lambda label: label)
    check_logits(*found, scale_of(found[0]))


def test_tiny_with_another_template(tiny):
    folder, source, index = tiny
    expected = read_safetensors(source / "plain_template2.safetensors")
    model = ["--model", folder / "model", "--template", index["sets"]["plain_template2"]["template"]]
    scale = scale_of(read_safetensors(source / "plain.safetensors"))
    check_logits(expected, index["classnames"], pictures(source, index), model, scale)


# ---- CLIP's full vocabulary ----

def test_ids_of_the_full_vocabulary(tmp_path):
    source, texts = find_golden("micro"), find_golden("tokenizer")
    if not source or not texts:
        pytest.skip("the golden sets micro and tokenizer are not there")
    tensors = read_safetensors(source / "hf" / "model.safetensors")
    (embedding,) = [name for name in tensors if name.endswith("token_embedding.weight")]
    tensors[embedding] = Tensor("F16", [49408, 64], bytes(2 * 49408 * 64))
    config = json.loads((source / "hf" / "config.json").read_text())
    config["text_config"]["vocab_size"] = 49408
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "merges.txt").write_text(merges_of(48894))
    write_safetensors(tmp_path / "model.safetensors", tensors)
    cases = [case for case in json.loads((texts / "encode.json").read_text()) if "\0" not in case["text"]]
    lines = run_json("tokenize", "--json", "--model", tmp_path, "--", *[case["text"] for case in cases])
    different = [case["text"] for case, line in zip(cases, lines) if line["ids"][1:-1] != case["ids"]]
    known = [case["text"] for case in cases if "ids_without_ftfy" in case]
    assert set(different) <= set(known) and len(different) <= 6


# ---- the other methods of the authors' repository: logits of the first 12 names ----

OTHERS = [("maple", dict(n_ctx=2, prompt_depth=3)), ("ivlp", dict(n_ctx=2)), ("vpt", dict(n_ctx=5)),
          ("coop_end", dict(n_ctx=4, ctx_init="", class_token_position="end")),
          ("coop_middle", dict(n_ctx=4, ctx_init="", class_token_position="middle")),
          ("coop_front", dict(n_ctx=4, ctx_init="", class_token_position="front")),
          ("coop_csc", dict(n_ctx=3, ctx_init="", class_token_position="end")),
          ("cocoop", dict(n_ctx=4))]


@pytest.mark.parametrize("name,options", OTHERS, ids=[name for name, _ in OTHERS])
def test_tiny_with_other_methods(tiny, tmp_path, name, options):
    folder, source, index = tiny
    names = index["classnames"][:12]
    config = dict(method=name.split("_")[0], ctx_init="a photo of a", base_model="tiny", **options) \
        if "ctx_init" not in options else dict(method=name.split("_")[0], base_model="tiny", **options)
    if name == "coop_csc":
        config["classnames"] = names
    adapter = tmp_path / name
    adapter.mkdir()
    shutil.copy(source / "other" / (name + ".safetensors"), adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    expected = read_safetensors(source / "other" / (name + "_expected.safetensors"))["logits"].rows
    scale = scale_of(read_safetensors(source / "plain.safetensors"))
    chosen = pictures(source, index)
    lines = run_json("classify", "--json", "--model", folder / "model", "--adapter", adapter, "--no-auto-orient",
                     "--labels", json.dumps(names), *[path for _, path in chosen])
    for line, (row, _) in zip(lines, chosen):
        found = {r["label"]: r["similarity"] * scale for r in line["results"]}
        for i, label in enumerate(names):
            assert found[label] == pytest.approx(expected[row][i], abs=LOGIT_LIMIT)
    if name == "coop_csc":
        done = run("classify", "--model", folder / "model", "--adapter", adapter, "--labels", "no such class", chosen[0][1])
        assert done.returncode == 1 and "12 classes" in done.stderr
