# SPDX-License-Identifier: MIT
"""comma inspect: models, adapters, tensor files, and whether an adapter fits."""
import json
import shutil

from conftest import run, run_json
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


def test_a_tensor_file_alone_is_listed(emoji_model):
    path = emoji_model / "model.safetensors"
    (line,) = run_json("inspect", "--json", path)
    tensors = read_safetensors(path)
    assert line["kind"] == "tensors" and line["name"] == "model.safetensors"
    assert {t["name"]: (t["dtype"], t["shape"]) for t in line["tensors"]} == {
        name: (t.dtype, t.shape) for name, t in tensors.items()}
    assert sum(d["tensors"] for d in line["dtypes"]) == len(tensors)


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
