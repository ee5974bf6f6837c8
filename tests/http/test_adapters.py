# SPDX-License-Identifier: MIT
"""Many adapters over one backbone: batches that mix them, folders that change under a running server, broken ones."""
import concurrent.futures
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys

import openapi_check
import pytest
from conftest import BINARY, ROOT, SAMPLES, wait_until

sys.path.insert(0, str(ROOT / "tests" / "cli"))
from files import Tensor, read_safetensors, write_safetensors  # noqa: E402

EMOJI = ROOT / "models" / "emoji"
GROUPS = EMOJI / "adapters" / "groups"
LABELS = ["food prepared", "animal mammal", "sky & weather"]


def write_adapter(folder, seed):
    """The emoji model's adapter with other context vectors, in its place at once, as comma convert puts one there."""
    hidden = folder.parent / f".{folder.name}.new"
    hidden.mkdir()
    shutil.copy(GROUPS / "adapter_config.json", hidden)
    tensors = read_safetensors(GROUPS / "adapter_model.safetensors")
    ctx = tensors["prompt_learner.ctx"]
    values = [random.Random(seed).gauss(0, 0.5) for _ in ctx.values]
    tensors["prompt_learner.ctx"] = Tensor("F32", ctx.shape, struct.pack(f"<{len(values)}f", *values))
    write_safetensors(hidden / "adapter_model.safetensors", tensors)
    if folder.exists():
        shutil.rmtree(folder)
    hidden.rename(folder)


def break_adapter(folder):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text('{"method": "comma"}')
    weights = folder / ".broken"
    weights.write_bytes(b"nonsense")
    weights.rename(folder / "adapter_model.safetensors")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "adapters"
    path.mkdir()
    for i in range(8):
        write_adapter(path / f"a{i}", i)
    return path


def names(server):
    return [a["name"] for a in server.ask("GET", "/models").json["adapters"]]


def similarities(server, picture, model):
    answer = server.classify(picture, LABELS, model=model)
    assert answer.status == 200, answer.body
    return {r["label"]: r["similarity"] for r in answer.json["results"]}


def metric(server, name):
    text = server.ask("GET", "/metrics").body.decode()
    return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])


def admin_post(server, headers=None):
    port = next(int(line.rsplit(":", 1)[1].split('"')[0]) for line in server.log if "admin_listening" in line)
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    c.request("POST", "/admin/reload", headers=headers or {})
    r = c.getresponse()
    openapi_check.load().check("POST", "/admin/reload", r.status, dict(r.getheaders()), r.read())
    return r.status


def test_a_batch_that_mixes_8_adapters_gives_each_what_it_gets_alone(start, folder):
    pictures = [f.read_bytes() for f in sorted(SAMPLES.glob("*.png"))[:3]]
    work = [(f"a{i}", p) for p in range(3) for i in range(8)]
    alone = start("--threads", "1", "--adapters", str(folder))
    expected = [similarities(alone, pictures[p], name) for name, p in work]
    assert len({tuple(e.values()) for e in expected}) == len(expected)  # they are all different
    mixed = start("--threads", "1", "--adapters", str(folder), "--label-cache-mb", "1")
    encoded, batches = (metric(mixed, f"comma_{what}_total") for what in ("images_encoded", "image_batches"))
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda w: similarities(mixed, pictures[w[1]], w[0]), work))
    for ours, theirs in zip(found, expected):
        for label in LABELS:
            assert ours[label] == pytest.approx(theirs[label], abs=2e-6)
    # Pictures of different adapters did share batches.
    assert metric(mixed, "comma_image_batches_total") - batches < metric(mixed, "comma_images_encoded_total") - encoded


@pytest.mark.parametrize("how", ["SIGHUP", "POST"])
def test_a_reload_takes_in_what_is_new_changed_and_gone_without_losing_a_request(start, folder, pizza, how):
    server = start("--adapters", str(folder), "--admin-port", "0")

    def reload():
        if how == "POST":
            assert admin_post(server) == 202
        else:
            server.process.send_signal(signal.SIGHUP)

    before = {name: similarities(server, pizza, name) for name in ("a0", "a1")}
    write_adapter(folder / "new", 100)
    write_adapter(folder / "a1", 101)
    shutil.rmtree(folder / "a2")
    break_adapter(folder / "bad")
    break_adapter(folder / "a3")  # was good: what is served under its name stays
    kept = similarities(server, pizza, "a3")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.classify, pizza, LABELS, model=f"a{i % 2}") for i in range(60)]
        reload()
        assert all(a.result().status == 200 for a in asked)
    wait_until(lambda: "new" in names(server) and any('"reloaded"' in line or "reloaded" in line for line in server.log))
    assert names(server) == ["a0", "a1", "a3", "a4", "a5", "a6", "a7", "groups", "new"]
    assert similarities(server, pizza, "a0") == before["a0"] and similarities(server, pizza, "a3") == kept
    changed = similarities(server, pizza, "a1")
    assert max(abs(changed[label] - before["a1"][label]) for label in LABELS) > 1e-4
    assert server.classify(pizza, LABELS, model="a2").status == 404
    assert server.classify(pizza, LABELS, model="bad").status == 404
    for name in "bad", "a3":
        assert [line for line in server.log if "reload_failed" in line and name in line], name
    assert 'comma_reloads_total{result="failed"} 1' in server.ask("GET", "/metrics").body.decode()
    # Mended, it comes back; and nothing is opened again that did not change.
    write_adapter(folder / "bad", 7)
    write_adapter(folder / "a3", 3)
    seen = len(server.log)
    reload()
    wait_until(lambda: "bad" in names(server))
    wait_until(lambda: any("reloaded" in line for line in server.log[seen:]))
    opened = [line for line in server.log[seen:] if "adapter_opened" in line]
    assert len(opened) == 2 and 'comma_reloads_total{result="ok"} 1' in server.ask("GET", "/metrics").body.decode()
    assert server.stop() == 0


def test_a_broken_adapter_in_a_folder_does_not_keep_the_server_from_starting(start, folder, pizza):
    break_adapter(folder / "bad")
    shutil.copytree(folder / "a0", folder / ("x" * 65))
    server = start("--adapters", str(folder))
    assert "bad" not in names(server) and "a0" in names(server)
    assert len([line for line in server.log if "adapter_skipped" in line]) == 2
    assert server.classify(pizza, LABELS, model="a0").status == 200
    done = subprocess.run([BINARY, "serve", "--port", "0", "--adapter", f"bad={folder / 'bad'}"], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 1 and "adapter 'bad'" in done.stderr  # one that was asked for by name is wanted


def test_the_models_own_folder_is_looked_through_again_and_comes_last(start, tmp_path, folder, pizza):
    model = tmp_path / "model"
    shutil.copytree(EMOJI, model, ignore=shutil.ignore_patterns("recipe", "samples"))
    shutil.rmtree(model / "adapters")
    server = start("--model", str(model))
    assert names(server) == []
    (model / "adapters").mkdir()
    write_adapter(model / "adapters" / "late", 5)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: names(server) == ["late"])
    break_adapter(model / "adapters" / "bad")
    # Of one name: --adapter, then --adapters, then the model's own.
    for name in "a1", "a2":
        write_adapter(model / "adapters" / name, 200)
    three = start("--model", str(model), "--adapters", str(folder), "--adapter", f"a1={folder / 'a7'}")
    assert names(three) == [f"a{i}" for i in range(8)] + ["late"]
    assert similarities(three, pizza, "a1") == similarities(three, pizza, "a7")
    own = similarities(three, pizza, "a2")
    shutil.rmtree(folder / "a2")
    three.process.send_signal(signal.SIGHUP)
    wait_until(lambda: similarities(three, pizza, "a2") != own)
    assert "a2" in names(three) and [line for line in three.log if "adapter_skipped" in line and "bad" in line]


def test_reloading_from_afar_wants_the_key_that_is_named_admin(start, tmp_path):
    keys = tmp_path / "keys"
    lines = [f"{name}:{hashlib.sha256(secret).hexdigest()}:1000:1000:*\n"
             for name, secret in [("alice", b"secret-of-alice"), ("admin", b"secret-of-admin")]]
    keys.write_text("".join(lines))
    keys.chmod(0o600)
    server = start("--api-keys-file", str(keys), "--admin-port", "0")
    assert admin_post(server) in (401, 403)
    assert admin_post(server, {"Authorization": "Bearer secret-of-alice"}) == 403
    assert admin_post(server, {"Authorization": "Bearer secret-of-admin"}) == 202
    wait_until(lambda: any("reloaded" in line for line in server.log))
    assert server.ask("POST", "/admin/reload", headers={"Authorization": "Bearer secret-of-admin"}).status == 404


def test_a_converted_model_is_served_with_the_adapters_that_were_bundled(start, tmp_path, pizza):
    tiny = ROOT / "tests" / "golden" / "data" / "tiny"
    checkpoint = tiny / "comma" / "MultiModalPromptLearner" / "model.pth.tar-5"
    subprocess.run([BINARY, "convert", str(tiny / "clip.pt"), "--adapter-from", str(checkpoint), "--merges",
                    str(ROOT / "tests" / "golden" / "data" / "bpe_400.txt"), "-o", str(tmp_path / "pets")], check=True,
                   capture_output=True, timeout=120)
    server = start("--model", str(tmp_path / "pets"))
    models = server.ask("GET", "/models").json
    assert [a["name"] for a in models["adapters"]] == ["comma"] and models["adapters"][0]["method"] == "comma"
    for model in "comma", "pets":
        answer = server.classify(pizza, ["cat", "dog"], model=model)
        assert answer.status == 200 and answer.json["model"] == model
    assert not [line for line in server.log if "adapter_skipped" in line]
    # Replaced as a whole, with another LAST_LAYER, while it is served: SIGHUP takes the new one in.
    before = server.classify(pizza, ["cat", "dog"], model="comma").json["results"]
    subprocess.run([BINARY, "convert", str(checkpoint), "--model", str(tmp_path / "pets"), "--last-layer", "2", "--force",
                    "-o", str(pathlib.Path(tmp_path, "pets", "adapters", "comma"))], check=True, capture_output=True,
                   timeout=120)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.classify(pizza, ["cat", "dog"], model="comma").json["results"] != before)
    assert json.loads((tmp_path / "pets" / "adapters" / "comma" / "adapter_config.json").read_text())["last_layer"] == 2
    assert not [n for n in os.listdir(tmp_path / "pets" / "adapters") if n.startswith(".")]
