# SPDX-License-Identifier: MIT
"""comma inspect: models, adapters, tensor files, and whether an adapter fits."""
import json
import shutil

import pytest
import torch_files
from conftest import run, run_json
from golden import find_golden
from files import Tensor, read_safetensors, write_safetensors


def write_model(source, folder, change):
    """A copy of a model or adapter whose tensors went through change()."""
    shutil.copytree(source, folder)
    path = next(folder.glob("*model.safetensors"))
    tensors = read_safetensors(path)
    change(tensors)
    path.unlink()
    write_safetensors(path, tensors)
    return folder


def test_the_embedded_model_is_what_its_files_say(emoji_model):
    (embedded,) = run_json("inspect", "--json")
    (on_disk,) = run_json("inspect", "--json", emoji_model)
    config = json.loads((emoji_model / "config.json").read_text())
    tensors = read_safetensors(emoji_model / "model.safetensors")
    assert embedded == on_disk
    assert embedded["kind"] == "model" and embedded["name"] == "emoji"
    assert embedded["image_size"] == config["vision_config"]["image_size"]
    assert embedded["patch_size"] == config["vision_config"]["patch_size"]
    assert embedded["embed_dim"] == config["projection_dim"]
    assert embedded["vision"] == {"width": config["vision_config"]["hidden_size"],
                                  "layers": config["vision_config"]["num_hidden_layers"],
                                  "heads": config["vision_config"]["num_attention_heads"]}
    assert embedded["text"]["width"] == config["text_config"]["hidden_size"]
    assert embedded["vocab_size"] == config["text_config"]["vocab_size"]
    assert embedded["tokenizer"] is True
    weights = [t for name, t in tensors.items() if "position_ids" not in name]
    assert embedded["parameters"] == sum(len(t.values) for t in weights)


def test_the_model_lists_its_own_adapters():
    (line,) = run_json("inspect", "--json")
    (groups,) = line["adapters"]
    assert groups["name"] == "groups" and groups["method"] == "comma" and groups["fits"] is True
    assert (groups["n_ctx"], groups["prompt_depth"], groups["last_layer"]) == (2, 3, 1)
    assert groups["ctx_init"] == "a photo of a"


def test_an_adapter_is_compared_with_the_model_that_is_named(emoji_model):
    folder = emoji_model / "adapters" / "groups"
    (alone,) = run_json("inspect", "--json", folder)
    (compared,) = run_json("inspect", "--json", folder, "--model", emoji_model)
    tensors = read_safetensors(folder / "adapter_model.safetensors")
    assert alone["kind"] == "adapter" and alone["name"] == "groups" and "fits" not in alone
    assert compared["fits"] is True
    assert [t["name"] for t in alone["tensors"]] == list(tensors)
    assert [t["shape"] for t in alone["tensors"]] == [t.shape for t in tensors.values()]
    assert alone["parameters"] == sum(len(t.values) for t in tensors.values())


def test_an_adapter_of_another_width_does_not_fit_and_the_tensor_is_named(emoji_model, tmp_path):
    def narrow(tensors):
        bias = tensors["prompt_learner.proj.bias"]
        weight = tensors["prompt_learner.proj.weight"]
        tensors["prompt_learner.proj.bias"] = Tensor("F16", [bias.shape[0] // 2], bias.data[:len(bias.data) // 2])
        tensors["prompt_learner.proj.weight"] = Tensor("F16", [weight.shape[0] // 2, weight.shape[1]],
                                                       weight.data[:len(weight.data) // 2])

    folder = write_model(emoji_model / "adapters" / "groups", tmp_path / "narrow", narrow)
    done = run("inspect", "--json", folder, "--model", emoji_model)
    assert done.returncode == 1
    if done.stdout:
        line = json.loads(done.stdout)
        assert line["fits"] is False and "proj" in line["reason"]
    else:
        assert "proj" in done.stderr


def test_a_broken_adapter_beside_a_model_does_not_hide_the_model(emoji_model, tmp_path):
    shutil.copytree(emoji_model, tmp_path / "model")
    weights = tmp_path / "model" / "adapters" / "groups" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = run("inspect", "--json", tmp_path / "model")
    line = json.loads(done.stdout)
    assert done.returncode == 1
    assert line["embed_dim"] == 128
    assert line["adapters"][0]["fits"] is False and "adapter_model.safetensors" in line["adapters"][0]["reason"]


def test_a_file_with_a_backbone_says_its_sizes_and_what_is_assumed(emoji_model):
    path = emoji_model / "model.safetensors"
    (line,) = run_json("inspect", "--json", path)
    (model,) = run_json("inspect", "--json")
    tensors = read_safetensors(path)
    assert (line["kind"], line["container"], line["name"]) == ("backbone", "safetensors", "model.safetensors")
    assert "quick_gelu is assumed" in line["note"] and line["tokenizer"] is False
    for key in "image_size", "patch_size", "embed_dim", "context_length", "vocab_size", "parameters", "stored_bytes":
        assert line[key] == model[key]
    assert {t["name"]: (t["dtype"], t["shape"]) for t in line["tensors"]} == {
        name: (t.dtype, t.shape) for name, t in tensors.items()}
    assert sum(d["tensors"] for d in line["dtypes"]) == len(tensors)


def test_a_tensor_file_with_something_else_is_listed_and_says_why_it_is_no_model(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"weight": Tensor("F32", [2, 3], bytes(24))})
    (line,) = run_json("inspect", "--json", tmp_path / "a.safetensors")
    assert line["kind"] == "tensors" and "no CLIP ViT" in line["note"]
    assert line["tensors"] == [{"name": "weight", "dtype": "F32", "shape": [2, 3]}]
    write_safetensors(tmp_path / "a.safetensors", {"visual.layer1.0.conv1.weight": Tensor("F32", [2], bytes(8))})
    (line,) = run_json("inspect", "--json", tmp_path / "a.safetensors")
    assert "ResNet" in line["note"]


def test_every_container_of_a_backbone_is_known(tmp_path):
    micro = find_golden("micro") or pytest.skip("the golden set micro is not there")
    for name, container in [("openai_state_dict.pt", "torch"), ("openai_torchscript.pt", "torch"),
                            ("open_clip_checkpoint.pt", "torch"), ("hf_names_bf16.safetensors", "safetensors")]:
        (line,) = run_json("inspect", "--json", micro / name)
        assert (line["kind"], line["container"]) == ("backbone", container)
        assert (line["embed_dim"], line["vision"]["width"], line["vocab_size"]) == (24, 64, 576)
    done = run("inspect", micro / "openai_torchscript.pt")
    assert "kind\tbackbone" in done.lines and "container\ttorch" in done.lines


def test_prompts_in_a_file_are_compared_with_the_model_that_is_named(emoji_model, tmp_path):
    tiny = find_golden("tiny") or pytest.skip("the golden set tiny is not there")
    path = tiny / "comma" / "MultiModalPromptLearner" / "model.pth.tar-5"
    (line,) = run_json("inspect", "--json", path)
    assert (line["kind"], line["container"], line["method"]) == ("prompts", "torch", "comma")
    assert (line["n_ctx"], line["prompt_depth"]) == (2, 3) and "fits" not in line
    kept = {n: t for n, t in read_safetensors(tiny / "comma.safetensors").items() if not n.endswith("prompts_image")}
    assert line["parameters"] == sum(len(t.values) for t in kept.values())
    (fits,) = run_json("inspect", "--json", path, "--model", tiny / "clip")
    assert fits["fits"] is True
    done = run("inspect", "--json", path, "--model", emoji_model)
    assert done.returncode == 1 and json.loads(done.stdout)["fits"] is False
    # The same sizes, another training: only what the checkpoint carries of its backbone tells.
    other = write_model(tiny / "clip", tmp_path / "other", lambda ts: ts.update(
        {"visual.class_embedding": Tensor("F32", ts["visual.class_embedding"].shape,
                                          ts["visual.class_embedding"].data[::-1])}))
    done = run("inspect", "--json", path, "--model", other)
    assert done.returncode == 1 and "another backbone" in json.loads(done.stdout)["reason"]


@pytest.mark.parametrize("name,method,n_ctx,depth", [
    ("maple", "maple", 2, 3), ("ivlp", "ivlp", 2, 3), ("vpt", "vpt", 5, 3), ("coop_end", "coop", 4, 1),
    ("coop_csc", "coop", 3, 1), ("cocoop", "cocoop", 4, 1)])
def test_the_method_of_a_checkpoint_is_told_by_its_tensors(tmp_path, name, method, n_ctx, depth):
    tiny = find_golden("tiny") or pytest.skip("the golden set tiny is not there")
    source = torch_files.save_checkpoint(tmp_path / "model.pth.tar-9",
                                         read_safetensors(tiny / "other" / (name + ".safetensors")))
    (line,) = run_json("inspect", "--json", source, "--model", tiny / "clip")
    assert (line["method"], line["n_ctx"], line["prompt_depth"], line["fits"]) == (method, n_ctx, depth, True)
    assert line.get("classes") == (12 if name == "coop_csc" else None)


def test_the_table_has_a_fact_a_line():
    done = run("inspect")
    assert done.returncode == 0
    assert "kind\tmodel" in done.lines and "image\t64 px, patches of 8 px" in done.lines


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"\xff" * 100)
    for path in tmp_path / "weights.safetensors", tmp_path, tmp_path / "missing":
        done = run("inspect", path)
        assert done.returncode == 1 and done.stdout == ""
        assert str(path) in done.stderr and len(done.stderr.splitlines()) == 1
