# SPDX-License-Identifier: MIT
"""comma convert: whatever a user has on disk becomes a directory that gives the authors' numbers."""
import gzip
import json
import math
import os
import random
import shutil
import struct

import pytest
import torch_files
from conftest import find_shared, run, run_json
from files import Tensor, largest_difference, read_safetensors, read_state_dict, write_safetensors
from golden import DATA, FEATURE_LIMIT, LOGIT_LIMIT, exact, pictures, scale_of

MERGES = DATA / "bpe_400.txt"
CONTAINERS = ["openai_state_dict.pt", "openai_torchscript.pt", "open_clip_checkpoint.pt",
              "openai_names_f32.safetensors", "hf_names_bf16.safetensors", "hf"]


@pytest.fixture(scope="module")
def checkpoint(tiny):
    return tiny / "comma" / "MultiModalPromptLearner" / "model.pth.tar-5"


@pytest.fixture(scope="module")
def tiny_index(tiny):
    return json.loads((tiny / "index.json").read_text())


@pytest.fixture(scope="module")
def tiny_model(tiny, tmp_path_factory):
    """tiny's backbone as a model directory."""
    out = tmp_path_factory.mktemp("converted") / "tiny"
    assert convert(tiny / "clip.pt", "--merges", MERGES, "-o", out).returncode == 0
    return out


@pytest.fixture(scope="module")
def clip_of_checkpoints(tiny):
    """What the authors' trainer saves of CLIP beside the learner: all but the token embedding."""
    out = {}
    for name, t in read_state_dict(tiny / "clip.pt").items():
        if not isinstance(t, Tensor) or name == "token_embedding.weight":
            continue
        if name.startswith("visual."):
            name = "image_encoder." + name[len("visual."):]
        elif name != "logit_scale":
            name = "text_encoder." + name
        out[name] = t
    return out


def convert(*args, **more):
    return run("convert", *args, **more)


def converted(*args):
    """The run of a conversion that has to succeed."""
    done = convert(*args)
    assert done.returncode == 0, done.stderr
    return done


def refused(out, *args, status=1):
    """What is said of a conversion that has to fail, of which nothing may be left."""
    before = sorted(os.listdir(out.parent))
    done = convert(*args, "-o", out)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout == "" and sorted(os.listdir(out.parent)) == before
    errors = [line for line in done.stderr.splitlines() if not line.startswith("comma: warning: ")]
    assert len(errors) == 1 and errors[0].startswith("comma: "), done.stderr
    return errors[0]


def tensors_of(path):
    return read_safetensors(path / "model.safetensors")


# ---- backbones ----

@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_features_of_the_directory(micro, tiny, tmp_path, name):
    expected = read_safetensors(micro / "expected.safetensors")
    index = json.loads((micro / "index.json").read_text())
    texts = [index["template"].replace("{}", label.replace("_", " ")) for label in index["classnames"]]
    converted(micro / name, "--merges", MERGES, "--activation", "quick_gelu", "-o", tmp_path / "model")
    lines = run_json("embed", "--json", "--model", tmp_path / "model", "--text", *texts)
    for line, row in zip(lines, expected["text_features"].rows):
        assert largest_difference(line["features"], row) < FEATURE_LIMIT
    picture = tiny / "images" / "rgb.png"
    (ours,) = run_json("embed", "--json", "--model", tmp_path / "model", "--image", picture)
    (theirs,) = run_json("embed", "--json", "--model", micro / "hf", "--image", picture)
    assert largest_difference(ours["features"], theirs["features"]) < FEATURE_LIMIT


def test_the_layout_is_hugging_faces(micro, tmp_path):
    done = converted(micro / "openai_torchscript.pt", "--merges", MERGES, "-o", tmp_path / "model")
    assert done.stderr == "" and f"comma serve --model {tmp_path / 'model'}" in done.stdout
    assert sorted(os.listdir(tmp_path / "model")) == ["config.json", "merges.txt", "model.safetensors",
                                                      "preprocessor_config.json", "vocab.json"]
    ours, theirs = tensors_of(tmp_path / "model"), tensors_of(micro / "hf")
    names = {name for name in theirs if not name.endswith("position_ids")}
    assert set(ours) == names
    assert {name: t.shape for name, t in ours.items()} == {name: theirs[name].shape for name in names}
    for name in names:
        assert ours[name].values == theirs[name].values
    config, golden = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "model", micro / "hf"))
    for tower in "text_config", "vision_config":
        for key, value in golden[tower].items():
            assert config[tower][key] == value, key
    assert config["model_type"] == "clip" and config["projection_dim"] == golden["projection_dim"]
    pixels = json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())
    assert pixels["size"] == {"shortest_edge": 16} and pixels["crop_size"] == {"height": 16, "width": 16}
    assert pixels["image_mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073], abs=1e-7)
    vocab = json.loads((tmp_path / "model" / "vocab.json").read_text())
    assert len(vocab) == 576 and sorted(vocab.values()) == list(range(576))
    assert (vocab["!"], vocab["!</w>"], vocab["in"], vocab["<|startoftext|>"], vocab["<|endoftext|>"]) == \
        (0, 256, 512, 574, 575)
    assert (tmp_path / "model" / "merges.txt").read_text().splitlines()[1:] == \
        MERGES.read_text().splitlines()[1:63]


@pytest.mark.parametrize("dtype,tag", [("f32", "F32"), ("f16", "F16"), ("bf16", "BF16")])
def test_weights_are_stored_as_asked(micro, tmp_path, dtype, tag):
    done = converted(micro / "openai_state_dict.pt", "--dtype", dtype, "-o", tmp_path / "model")
    tensors = tensors_of(tmp_path / "model")
    assert {t.dtype for name, t in tensors.items() if name != "logit_scale"} == {tag}
    assert tensors["logit_scale"].dtype == "F32"
    assert "cosine of 1.000000" in done.stdout  # the golden weights are exact in all three
    kept = converted(micro / "openai_state_dict.pt", "-o", tmp_path / "kept")
    assert {t.dtype for t in tensors_of(tmp_path / "kept").values()} == {"F32", "F16"} and kept.returncode == 0


def test_a_directory_changes_its_dtype_and_keeps_its_adapters(emoji_model, cat, tmp_path):
    converted(emoji_model, "--dtype", "bf16", "-o", tmp_path / "emoji")
    (before,) = run_json("classify", "--json", "--labels", "cat,dog", "--adapter", "groups", cat)
    (after,) = run_json("classify", "--json", "--labels", "cat,dog", "--adapter", "groups", "--model",
                        tmp_path / "emoji", cat)
    for a, b in zip(before["results"], after["results"]):
        assert a["label"] == b["label"] and a["similarity"] == pytest.approx(b["similarity"], abs=0.02)
    (line,) = run_json("inspect", "--json", tmp_path / "emoji")
    assert [a["name"] for a in line["adapters"]] == ["groups"] and line["adapters"][0]["fits"]
    assert {d["dtype"] for d in line["dtypes"]} == {"BF16"}


def f32(shape, values):
    return Tensor("F32", shape, struct.pack(f"<{len(values)}f", *values))


def random_clip(width, heads_wide, layers=1, text_width=64, vocab=514, patch=8, image=16, prefix="", text_prefix=""):
    """A CLIP under OpenAI's names whose sizes are unlike the golden ones."""
    source = random.Random(width)

    def weights(*shape):
        n = math.prod(shape)
        return f32(shape, [source.gauss(0, 0.05) for _ in range(n)])

    def ones(n):
        return f32([n], [1.0] * n)

    out = {"logit_scale": f32([], [3.0]), "visual.class_embedding": weights(width),
           "visual.positional_embedding": weights((image // patch) ** 2 + 1, width),
           "visual.conv1.weight": weights(width, 3, patch, patch), "visual.proj": weights(width, 32),
           "text.token_embedding.weight": weights(vocab, text_width),
           "text.positional_embedding": weights(77, text_width), "text.text_projection": weights(text_width, 32)}
    for name, n in [("visual.ln_pre", width), ("visual.ln_post", width), ("text.ln_final", text_width)]:
        out[name + ".weight"], out[name + ".bias"] = ones(n), weights(n)
    for tower, n in [("visual", width), ("text", text_width)]:
        for i in range(layers):
            p = f"{tower}.transformer.resblocks.{i}."
            out[p + "attn.in_proj_weight"], out[p + "attn.in_proj_bias"] = weights(3 * n, n), weights(3 * n)
            out[p + "attn.out_proj.weight"], out[p + "attn.out_proj.bias"] = weights(n, n), weights(n)
            out[p + "mlp.c_fc.weight"], out[p + "mlp.c_fc.bias"] = weights(2 * n, n), weights(2 * n)
            out[p + "mlp.c_proj.weight"], out[p + "mlp.c_proj.bias"] = weights(n, 2 * n), weights(n)
            for ln in "ln_1", "ln_2":
                out[p + ln + ".weight"], out[p + ln + ".bias"] = ones(n), weights(n)
    return {prefix + (text_prefix + n[len("text."):] if n.startswith("text.") else n): t for n, t in out.items()}


def test_the_text_tower_may_stand_under_a_prefix_and_heads_may_be_of_any_width(tmp_path):
    tensors = random_clip(160, 80, prefix="module.", text_prefix="text.")
    source = torch_files.save(tmp_path / "epoch_32.pt", {"epoch": 32, "name": "ViT", "state_dict": tensors,
                                                         "optimizer": {"state": {}}, "scaler": None})
    words = refused(tmp_path / "model", source)
    assert "vision width 160 is no multiple of 64" in words and "--heads" in words
    assert "do not divide" in refused(tmp_path / "model", source, "--heads", "3")
    done = converted(source, "--heads", "2,1", "--activation", "gelu", "-o", tmp_path / "model")
    assert "warning" in done.stderr and "--merges" in done.stderr
    (line,) = run_json("inspect", "--json", tmp_path / "model")
    assert (line["vision"]["heads"], line["text"]["heads"], line["activation"]) == (2, 1, "gelu")
    assert line["tokenizer"] is False


@pytest.mark.parametrize("config,words", [
    ({}, None),
    ({"quick_gelu": True}, None),
    ({"vision_cfg": {"timm_model_name": "x"}}, "timm"),
    ({"text_cfg": {"hf_model_name": "x"}}, "text tower of Hugging Face"),
    ({"embed_dim": 512}, "embed_dim is 512, but the tensors say 32"),
])
def test_open_clip_config_json_says_what_the_tensors_cannot(tmp_path, config, words):
    model = {"embed_dim": 32, "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 160, "layers": 1,
                                             "head_width": 80},
             "text_cfg": {"context_length": 77, "vocab_size": 514, "width": 64, "heads": 2, "layers": 1}}
    for key, value in config.items():
        if isinstance(value, dict):
            model[key].update(value)
        else:
            model[key] = value
    (tmp_path / "hub").mkdir()
    source = tmp_path / "hub" / "open_clip_pytorch_model.bin"
    torch_files.save(source, random_clip(160, 80))
    (tmp_path / "hub" / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.5]}}))
    if words:
        assert words in refused(tmp_path / "model", source)
        return
    for kind, path in [("file", source), ("directory", tmp_path / "hub")]:
        done = converted(path, "-o", tmp_path / kind)
        assert "activation" not in done.stderr
        (line,) = run_json("inspect", "--json", tmp_path / kind)
        assert (line["vision"]["heads"], line["text"]["heads"]) == (2, 2)
        assert line["activation"] == ("quick_gelu" if config else "gelu")
        pixels = json.loads((tmp_path / kind / "preprocessor_config.json").read_text())
        assert pixels["image_mean"] == [0.5, 0.5, 0.5] and pixels["image_std"] == [0.25, 0.25, 0.5]


def test_what_is_assumed_and_what_contradicts_the_files_is_warned_of(micro, tmp_path):
    done = converted(micro / "openai_names_f32.safetensors", "-o", tmp_path / "a")
    assert "quick_gelu is assumed" in done.stderr and "--activation gelu" in done.stderr
    done = converted(micro / "openai_state_dict.pt", "--activation", "gelu", "-o", tmp_path / "b")
    assert "look like OpenAI's" in done.stderr
    done = converted(micro / "hf", "--activation", "gelu", "--heads", "2", "-o", tmp_path / "c")
    assert "config.json says quick_gelu; --activation gelu is followed" in done.stderr
    assert "config.json says 1 heads for the vision tower; --heads 2 is followed" in done.stderr
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert config["vision_config"]["num_attention_heads"] == 2 and config["text_config"]["num_attention_heads"] == 1
    assert config["text_config"]["hidden_act"] == config["vision_config"]["hidden_act"] == "gelu"


def test_a_resnet_clip_is_refused_in_one_clear_sentence(micro, tmp_path):
    tensors = read_safetensors(micro / "openai_names_f32.safetensors")
    resnet = {n: t for n, t in tensors.items() if not n.startswith("visual.")}
    resnet["visual.layer1.0.conv1.weight"] = f32([4, 4, 1, 1], [0.5] * 16)
    write_safetensors(tmp_path / "RN50.safetensors", resnet)
    assert "ResNet" in refused(tmp_path / "model", tmp_path / "RN50.safetensors")


# ---- tokenizers ----

def test_a_list_of_merges_may_be_plain_gzip_or_a_merges_txt(micro, tmp_path):
    (tmp_path / "list.txt.gz").write_bytes(gzip.compress(MERGES.read_bytes()))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES.read_text().split("\n")[1:63]) + "\n")
    (tmp_path / "crlf.txt").write_text(MERGES.read_text().replace("\n", "\r\n"))
    written = set()
    for path in [MERGES, tmp_path / "list.txt.gz", tmp_path / "merges.txt", tmp_path / "crlf.txt"]:
        out = tmp_path / ("of-" + path.name)
        converted(micro / "openai_state_dict.pt", "--merges", path, "-o", out)
        written.add((out / "merges.txt").read_bytes() + (out / "vocab.json").read_bytes())
    assert len(written) == 1


def test_clips_whole_list_is_cut_to_the_vocabulary(micro, tmp_path):
    whole = find_shared("spec", "golden", "data", "bpe_simple_vocab_16e6.txt.gz")
    if not whole:
        pytest.skip("CLIP's whole list of merges does not lie beside the project")
    converted(micro / "openai_state_dict.pt", "--merges", whole, "-o", tmp_path / "model")
    assert len((tmp_path / "model" / "merges.txt").read_text().splitlines()) == 63


def test_without_merges_the_model_takes_images_only_and_that_is_said(micro, tiny, tmp_path):
    done = converted(micro / "openai_state_dict.pt", "-o", tmp_path / "model")
    assert "images only" in done.stderr and "--merges" in done.stderr and "bpe_simple_vocab_16e6.txt.gz" in done.stderr
    assert not (tmp_path / "model" / "merges.txt").exists()
    run_json("embed", "--json", "--model", tmp_path / "model", "--image", tiny / "images" / "rgb.png")
    assert run("embed", "--model", tmp_path / "model", "--text", "cat").returncode == 1


@pytest.mark.parametrize("content,words", [
    (b"", "first line"), (b"i n\nt h\n", "first line"), (b"#version: 0.2\ni n\n", "1 merges, but"),
    (b"#version: 0.2\ni n\nt\n" + b"a b\n" * 70, "line 3 is not two symbols"),
    (b"#version: 0.2\n" + b"a b\n" * 70, "merges.txt: "), (b"#version: 0.2\n" + b"\xff \xfe\n" * 70, "line 2"),
    (b"#version: 0.2\n" + b"zz yy\n" * 70, "line 2"), (b"\x1f\x8b\x08\x00 no gzip", "cannot be unpacked"),
    (gzip.compress(b"#version" + bytes(100 << 20)), "unpacks to more than"),
], ids=lambda x: "" if isinstance(x, bytes) else x)
def test_a_bad_list_of_merges_is_named(micro, tmp_path, content, words):
    (tmp_path / "merges.txt").write_bytes(content)
    said = refused(tmp_path / "model", micro / "openai_state_dict.pt", "--merges", tmp_path / "merges.txt")
    assert words in said and "merges.txt" in said


# ---- adapters ----

@pytest.mark.parametrize("name,last_layer", [("comma_last1", 1), ("comma_last2", 2)])
def test_a_comma_checkpoint_gives_the_authors_numbers(tiny, tiny_index, checkpoint, tmp_path, name, last_layer):
    converted(tiny / "clip.pt", "--adapter-from", checkpoint, "--merges", MERGES, "--last-layer", last_layer and
              str(last_layer), "-o", tmp_path / "pets")
    expected, names = read_safetensors(tiny / (name + ".safetensors")), tiny_index["classnames"]
    model = ["--json", "--model", tmp_path / "pets", "--adapter", "comma"]
    chosen = pictures(tiny, tiny_index)
    lines = run_json("embed", *model, "--no-auto-orient", "--image", *[path for _, path in chosen])
    for line, (i, _) in zip(lines, chosen):
        assert largest_difference(line["features"], expected["image_features"].rows[i]) < FEATURE_LIMIT
    lines = run_json("embed", *model, "--text", *[names[i] for i in exact(names)])
    for line, i in zip(lines, exact(names)):
        assert largest_difference(line["features"], expected["text_features"].rows[i]) < FEATURE_LIMIT
    config = json.loads((tmp_path / "pets" / "adapters" / "comma" / "adapter_config.json").read_text())
    assert config == {"method": "comma", "n_ctx": 2, "prompt_depth": 3, "ctx_init": "a photo of a",
                      "last_layer": last_layer, "base_model": ""}
    kept = read_safetensors(tmp_path / "pets" / "adapters" / "comma" / "adapter_model.safetensors")
    learner = read_safetensors(tiny / "comma.safetensors")
    assert set(kept) == set(learner) - {"prompt_learner.compound_prompts_image"}
    assert all(kept[n].data == learner[n].data and kept[n].dtype == learner[n].dtype for n in kept)


OTHERS = [("maple", ["--ctx-init", "a photo of a"]), ("ivlp", []), ("vpt", []), ("coop_end", []),
          ("coop_middle", ["--class-token-position", "middle"]), ("coop_front", ["--class-token-position", "front"]),
          ("coop_csc", ["--classnames"]), ("cocoop", [])]


@pytest.mark.parametrize("name,more", OTHERS, ids=[name for name, _ in OTHERS])
def test_checkpoints_of_the_other_methods_give_the_authors_numbers(tiny, tiny_index, clip_of_checkpoints, tmp_path, name,
                                                                   more):
    method, names = name.split("_")[0], tiny_index["classnames"][:12]
    learner = read_safetensors(tiny / "other" / (name + ".safetensors"))
    whole = {**learner, **({} if method in ("coop", "cocoop") else clip_of_checkpoints)}
    source = torch_files.save_checkpoint(tmp_path / "model.pth.tar-50", whole)
    if more == ["--classnames"]:
        assert "--classnames FILE" in refused(tmp_path / "pets", tiny / "clip.pt", "--adapter-from", source)
        (tmp_path / "names").write_text("\n".join(names[:11]))
        assert "12 classes, but --classnames lists 11" in refused(
            tmp_path / "pets", tiny / "clip.pt", "--adapter-from", source, "--classnames", tmp_path / "names")
        (tmp_path / "names").write_text("\n".join(names))
        more = ["--classnames", tmp_path / "names"]
    done = converted(tiny / "clip.pt", "--adapter-from", source, "--merges", MERGES, *more, "-o", tmp_path / "pets")
    assert f"adapter {method}: {method}, " in done.stdout and f'"model": "{method}"' in done.stdout
    assert ("carries nothing of its backbone" in done.stderr) == (method in ("coop", "cocoop"))
    scale = scale_of(read_safetensors(tiny / "plain.safetensors"))
    expected = read_safetensors(tiny / "other" / (name + "_expected.safetensors"))["logits"].rows
    chosen = pictures(tiny, tiny_index)
    lines = run_json("classify", "--json", "--model", tmp_path / "pets", "--adapter", method, "--no-auto-orient",
                     "--labels", json.dumps(names), *[path for _, path in chosen])
    for line, (row, _) in zip(lines, chosen):
        found = {r["label"]: r["similarity"] * scale for r in line["results"]}
        for i, label in enumerate(names):
            assert found[label] == pytest.approx(expected[row][i], abs=LOGIT_LIMIT)


def test_adapters_are_named_by_their_method_or_as_asked(tiny, checkpoint, tmp_path):
    done = converted(tiny / "clip.pt", "--merges", MERGES, "--adapter-from", checkpoint, "--adapter-from",
                     f"pets={checkpoint}", "--adapter-from", checkpoint, "-o", tmp_path / "model")
    assert sorted(os.listdir(tmp_path / "model" / "adapters")) == ["comma", "comma-2", "pets"]
    (line,) = run_json("inspect", "--json", tmp_path / "model")
    assert [(a["name"], a["fits"]) for a in line["adapters"]] == [("comma", True), ("comma-2", True), ("pets", True)]
    assert '"model": "comma"' in done.stdout
    # Served names: the backbone's is that of its directory, so an adapter may not have it.
    converted(tiny / "clip.pt", "--adapter-from", checkpoint, "-o", tmp_path / "comma")
    assert os.listdir(tmp_path / "comma" / "adapters") == ["comma-2"]
    for name, words in [("model", "backbone's own"), (".x", "not allowed"), ("a" * 65, "not allowed")]:
        (tmp_path / "new").mkdir(exist_ok=True)
        assert words in refused(tmp_path / "new" / "model", tiny / "clip.pt", "--adapter-from", f"{name}={checkpoint}")
    assert "given twice" in refused(tmp_path / "new" / "model", tiny / "clip.pt", "--adapter-from", f"a={checkpoint}",
                                    "--adapter-from", f"a={checkpoint}")


def test_prompts_alone_become_an_adapter_directory(tiny_model, checkpoint, cat, tmp_path):
    done = converted(checkpoint, "-o", tmp_path / "alone")
    assert "not held against a backbone" in done.stderr and "--model DIR" in done.stderr
    assert sorted(os.listdir(tmp_path / "alone")) == ["adapter_config.json", "adapter_model.safetensors"]
    held = converted(checkpoint, "--model", tiny_model, "-o", tmp_path / "held")
    assert "cosine of 1.000000" in held.stdout and f"--adapter held={tmp_path / 'held'}" in held.stdout
    for file in os.listdir(tmp_path / "alone"):
        assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "held" / file).read_bytes()
    (line,) = run_json("inspect", "--json", tmp_path / "alone", "--model", tiny_model)
    assert line["fits"] is True
    bundled = converted(tiny_model, "--adapter-from", f"x={tmp_path / 'alone'}", "-o", tmp_path / "bundle")
    assert bundled.returncode == 0
    (a,) = run_json("classify", "--json", "--model", tmp_path / "bundle", "--adapter", "x", "--labels", "a,b", cat)
    (b,) = run_json("classify", "--json", "--model", tiny_model, "--adapter", tmp_path / "held", "--labels", "a,b", cat)
    assert a["results"] == b["results"]
    assert "for backbones" in refused(tmp_path / "no", checkpoint, "--dtype", "f16")


def test_a_checkpoint_of_another_backbone_is_refused(tiny, checkpoint, clip_of_checkpoints, tiny_model, micro, tmp_path):
    assert "another backbone" in refused(tmp_path / "model", micro / "openai_state_dict.pt", "--adapter-from", checkpoint)
    learner = read_safetensors(tiny / "comma.safetensors")
    for name, change in [("image_encoder.conv1.weight", lambda t: Tensor(t.dtype, t.shape, bytes(len(t.data)))),
                         ("image_encoder.transformer.resblocks.0.mlp.c_fc.weight",
                          lambda t: Tensor(t.dtype, t.shape, t.data[::-1])),
                         ("logit_scale", lambda t: f32([], [4.6]))]:
        other = dict(clip_of_checkpoints)
        other[name] = change(other[name])
        source = torch_files.save_checkpoint(tmp_path / "model.pth.tar-1", {**learner, **other})
        words = refused(tmp_path / "model", tiny / "clip.pt", "--adapter-from", source)
        assert "trained on another backbone" in words and name in words.replace("q_proj", "")
        assert "another backbone" in refused(tmp_path / "alone", source, "--model", tiny_model)


def test_a_logit_scale_may_be_a_list_of_one(tiny, clip_of_checkpoints, tmp_path):
    other = dict(clip_of_checkpoints)
    other["logit_scale"] = Tensor("F32", [1], other["logit_scale"].data)
    source = torch_files.save_checkpoint(tmp_path / "model.pth.tar-1", {**read_safetensors(tiny / "comma.safetensors"),
                                                                        **other})
    converted(tiny / "clip.pt", "--adapter-from", source, "-o", tmp_path / "model")


def with_prompts(learner, embedding, ids, n_classes=3):
    """token_prefix and token_suffix of training prompts whose words behind the learned rows are ids, then another name
    for each class."""
    rows = [embedding.data[2 * 64 * i:2 * 64 * (i + 1)] for i in range(embedding.shape[0])]
    length = 77 - 1 - 2
    suffix = b"".join(b"".join(rows[i] for i in [*ids, 600 + 7 * c, 269, 913]) + rows[0] * (length - len(ids) - 3)
                      for c in range(n_classes))
    return {**learner, "prompt_learner.token_prefix": Tensor("F16", [n_classes, 1, 64], rows[912] * n_classes),
            "prompt_learner.token_suffix": Tensor("F16", [n_classes, length, 64], suffix)}


def test_ctx_init_is_found_out_from_the_training_prompts(tiny, tiny_model, clip_of_checkpoints, tmp_path):
    wide = read_state_dict(tiny / "clip.pt")["token_embedding.weight"]
    embedding = Tensor("F16", wide.shape, struct.pack(f"<{len(wide.values)}e", *wide.values))
    learner = {**read_safetensors(tiny / "comma.safetensors"), **clip_of_checkpoints}
    (default,) = run_json("tokenize", "--json", "--model", tiny_model, "a photo of a")
    (words,) = run_json("tokenize", "--json", "--model", tiny_model, "the big one")

    def made(ids, *more):
        source = torch_files.save_checkpoint(tmp_path / "model.pth.tar-5", with_prompts(learner, embedding, ids))
        done = converted(source, "--model", tiny_model, "--force", *more, "-o", tmp_path / "adapter")
        return json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["ctx_init"], done.stderr

    assert made(default["ids"][3:-1]) == ("a photo of a", "")
    found, said = made(words["ids"][1:-1])
    assert found == "X X the big one" and 'ctx_init is "X X the big one"' in said
    assert made([])[0] == ""
    claimed, said = made(words["ids"][1:-1], "--ctx-init", "a photo of a")
    assert claimed == "a photo of a" and '--ctx-init "a photo of a" is followed' in said and '"the big one"' in said
    more, said = made(default["ids"][3:-1] + words["ids"][1:-1])
    assert more == "a photo of a" and 'go on with "the big one"' in said


# ---- what is already there ----

def test_what_is_there_is_left_alone_unless_forced(micro, tiny, tmp_path):
    out = tmp_path / "model"
    converted(micro / "openai_state_dict.pt", "-o", out)
    before = {f: (out / f).read_bytes() for f in os.listdir(out)}
    assert "--force" in refused(out, tiny / "clip.pt")
    assert {f: (out / f).read_bytes() for f in os.listdir(out)} == before
    # A conversion that fails takes nothing away, forced or not.
    (tmp_path / "cut.pt").write_bytes((tiny / "clip.pt").read_bytes()[:-1000])
    refused(out, tmp_path / "cut.pt", "--force")
    assert {f: (out / f).read_bytes() for f in os.listdir(out)} == before
    converted(tiny / "clip.pt", "--force", "-o", str(out) + "/")
    assert (out / "config.json").read_bytes() != before["config.json"]
    assert sorted(os.listdir(tmp_path)) == ["cut.pt", "model"]


def test_force_takes_nothing_but_models_and_adapters(micro, checkpoint, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    converted(micro / "openai_state_dict.pt", "-o", home)  # an empty directory is no loss
    (home / "thesis").mkdir()
    words = refused(home, micro / "openai_state_dict.pt", "--force")
    assert "thesis" in words and "even with --force" in words
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "draft.txt").write_text("...")
    assert "neither a model nor an adapter" in refused(tmp_path / "papers", checkpoint, "--force")
    (tmp_path / "file").write_text("...")
    assert "there is a file of this name" in refused(tmp_path / "file", checkpoint, "--force")
    assert "No such file" in refused(tmp_path / "model", tmp_path / "missing.pt")
    done = convert(checkpoint, "-o", tmp_path / "nowhere" / "model")
    assert done.returncode == 1 and "No such file or directory" in done.stderr and "nowhere" in done.stderr


def test_a_link_to_a_model_stays_a_link(micro, tmp_path):
    converted(micro / "openai_state_dict.pt", "-o", tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    converted(micro / "openai_state_dict.pt", "--dtype", "f32", "--force", "-o", tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert {t.dtype for t in tensors_of(tmp_path / "v1").values()} == {"F32"}


def test_an_adapter_directory_is_replaced_while_a_server_may_read_it(checkpoint, tmp_path):
    out = tmp_path / "pets"
    converted(checkpoint, "-o", out)
    held = (out / "adapter_model.safetensors").open("rb")
    size = len(held.read())
    converted(checkpoint, "--last-layer", "2", "--force", "-o", out)
    held.seek(0)
    assert len(held.read()) == size  # the old file lives on under its readers
    assert json.loads((out / "adapter_config.json").read_text())["last_layer"] == 2
    held.close()


def test_a_model_that_was_downloaded_in_parts_is_one_file_afterwards(micro, tmp_path):
    tensors = read_safetensors(micro / "hf" / "model.safetensors")
    source = tmp_path / "parts"
    source.mkdir()
    shutil.copy(micro / "hf" / "config.json", source)
    names = list(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, some in parts.items():
        write_safetensors(source / file, {n: tensors[n] for n in some})
    (source / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {n: f for f, some in parts.items() for n in some}}))
    converted(source, "-o", tmp_path / "model")
    ours = tensors_of(tmp_path / "model")
    assert all(ours[n].data == tensors[n].data for n in ours if n != "logit_scale")
