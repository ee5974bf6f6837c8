# SPDX-License-Identifier: MIT
"""comma convert and comma inspect over files that were cut, forged or never finished, and conversions that are stopped:
a sentence, bounded time and memory, and nothing left behind."""
import os
import pathlib
import pickle
import resource
import signal
import struct
import subprocess
import time
import zipfile

import pytest
import torch_files
from conftest import BINARY, run
from files import Tensor, read_safetensors, read_state_dict, write_safetensors
from golden import find_golden
from test_convert import MERGES, converted, f32, refused

MEMORY_KB = 400 << 10  # the libraries alone map 60 MB; a sanitizer takes more
SANITIZED = any(name in BINARY for name in ("asan", "sanitize", "thread"))


def inspected(path):
    """comma inspect over a file that may be broken: it ends by itself, with a sentence if it fails."""
    done = run("inspect", path)
    assert done.returncode in (0, 1)
    assert done.returncode == 0 or (done.stdout == "" and len(done.stderr.splitlines()) == 1)
    return done


def limited(out, source, *more):
    """Runs convert; its one line of complaint, after it has stayed within time and memory and left nothing."""
    process = subprocess.Popen([BINARY, "convert", os.fspath(source), *map(os.fspath, more), "-o", os.fspath(out)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    assert process.stdout.read() == b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    assert process.returncode == 1, said
    assert SANITIZED or usage.ru_maxrss < MEMORY_KB
    assert not out.exists() and not [n for n in os.listdir(out.parent) if n.startswith(".")]
    errors = [line for line in said.splitlines() if not line.startswith("comma: warning: ")]
    assert len(errors) == 1, said
    return errors[0]


# ---- cut and flipped ----

@pytest.mark.parametrize("name", ["openai_state_dict.pt", "openai_names_f32.safetensors"])
def test_a_file_cut_at_any_hundredth_is_refused(micro, tmp_path, name):
    whole = (micro / name).read_bytes()
    cut = tmp_path / "cut"
    for i in range(100):
        cut.write_bytes(whole[:len(whole) * i // 100])
        words = refused(tmp_path / "model", cut)
        assert str(cut) in words and len(words) > len(str(cut)) + 20
        if i % 10 == 3:
            assert inspected(cut).returncode == 1


def test_flipped_bits_where_sizes_and_offsets_stand_are_noticed_or_harmless(tiny, tmp_path):
    whole = bytearray((tiny / "comma" / "MultiModalPromptLearner" / "model.pth.tar-5").read_bytes())
    flipped = tmp_path / "flipped"
    for i in range(60):
        # The archive's directory at the end, its first local header, and the pickle behind it.
        at = [len(whole) - 1 - (i * 37) % 6000, (i * 13) % 64, 64 + (i * 101) % 20000][i % 3]
        whole[at] ^= 1 << i % 8
        flipped.write_bytes(whole)
        done = run("convert", flipped, "--force", "-o", tmp_path / "out")
        assert done.returncode in (0, 1) and (done.returncode == 0 or "comma: " in done.stderr)
        inspected(flipped)
        whole[at] ^= 1 << i % 8
    assert set(os.listdir(tmp_path)) <= {"flipped", "out"}


# ---- forged ----

def test_nothing_in_a_pickle_is_executed(tmp_path):
    gone = tmp_path / "gone"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {gone}",)

    forged = {"state_dict": {"visual.conv1.weight": Evil()}, "epoch": Evil()}
    torch_files.write_archive(tmp_path / "evil.pt", pickle.dumps(forged, protocol=2))
    assert "no tensors by name" in limited(tmp_path / "model", tmp_path / "evil.pt")
    inspected(tmp_path / "evil.pt")
    for code in [b"cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.", b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
                 b"c__builtin__\nexec\n(X\x04\x00\x00\x00passtR."]:
        torch_files.write_archive(tmp_path / "evil.pt", b"\x80\x02" + code)
        assert "neither a state dict nor a TorchScript module" in limited(tmp_path / "model", tmp_path / "evil.pt")
    assert not gone.exists()


def test_depth_and_cycles_of_a_pickle_cost_nothing(tmp_path):
    deep = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 10000 + b"N" + b"s" * 10000 + b"."
    cycle = b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s."
    # A module that is its own child: __torch__.M whose state is {"m": itself}.
    module = b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb."
    million = b"\x80\x02]" + b"Na" * 900000 + b"."
    for name, data in [("deep", deep), ("cycle", cycle), ("module", module), ("million", million)]:
        torch_files.write_archive(tmp_path / name, data)
        limited(tmp_path / "model", tmp_path / name)
        inspected(tmp_path / name)


def test_an_archive_that_would_expand_is_refused(micro, tmp_path):
    tensors = {n: t for n, t in read_state_dict(micro / "openai_state_dict.pt").items() if isinstance(t, Tensor)}
    tensors["visual.conv1.weight"] = Tensor("F32", [10 << 20], bytes(40 << 20))
    torch_files.save(tmp_path / "stored.pt", tensors)
    with zipfile.ZipFile(tmp_path / "stored.pt") as stored, \
            zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in stored.namelist():
            bomb.writestr(name, stored.read(name))
    assert (tmp_path / "bomb.pt").stat().st_size < (1 << 20)
    assert "compressed" in limited(tmp_path / "model", tmp_path / "bomb.pt")
    # A directory that says "stored" of what is deflated: sizes then disagree, or the checksum does.
    lies = (tmp_path / "bomb.pt").read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x08\x00",
                                                       b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00")
    (tmp_path / "lies.pt").write_bytes(lies)
    limited(tmp_path / "model", tmp_path / "lies.pt")


def test_weights_that_are_no_floats_are_named(micro, tmp_path):
    tensors = read_safetensors(micro / "openai_names_f32.safetensors")
    t = tensors["visual.proj"]
    tensors["visual.proj"] = Tensor("I32", t.shape, bytes(4 * len(t.values)))
    write_safetensors(tmp_path / "ints.safetensors", tensors)
    assert "visual.proj is I32" in limited(tmp_path / "model", tmp_path / "ints.safetensors")
    learner = read_safetensors(find_golden("tiny") / "comma.safetensors")
    learner["prompt_learner.ctx"] = Tensor("I64", [2, 64], bytes(8 * 128))
    torch_files.save_checkpoint(tmp_path / "ints.pth", learner)
    assert "prompt_learner.ctx is I64" in limited(tmp_path / "model", tmp_path / "ints.pth")


def test_a_shape_that_lies_is_refused_before_memory_is_asked_for(tmp_path):
    big = b'{"visual.conv1.weight":{"dtype":"F32","shape":[4294967296,4294967296,4,4],"data_offsets":[0,0]}}'
    (tmp_path / "big.safetensors").write_bytes(struct.pack("<Q", len(big)) + big)
    assert "visual.conv1.weight" in limited(tmp_path / "model", tmp_path / "big.safetensors")
    # 2 KB of safetensors whose tensors are views of nothing: a million rows of no columns.
    empty = b'{"prompt_learner.ctx":{"dtype":"F32","shape":[1000000000000,0],"data_offsets":[0,0]}}'
    (tmp_path / "empty.safetensors").write_bytes(struct.pack("<Q", len(empty)) + empty)
    assert "prompt_learner.ctx" in limited(tmp_path / "model", tmp_path / "empty.safetensors")


# ---- numbers that are none ----

def put(t, at, value):
    size, form = (4, "<f") if t.dtype == "F32" else (2, "<e")
    return Tensor(t.dtype, t.shape, t.data[:at * size] + struct.pack(form, value) + t.data[(at + 1) * size:])


def test_nan_is_stored_only_when_allowed_and_then_not_served(micro, tmp_path):
    tensors = read_safetensors(micro / "openai_names_f32.safetensors")
    tensors["visual.ln_post.weight"] = put(tensors["visual.ln_post.weight"], 3, float("nan"))
    write_safetensors(tmp_path / "nan.safetensors", tensors)
    words = limited(tmp_path / "model", tmp_path / "nan.safetensors")
    assert "vision_model.post_layernorm.weight holds NaN" in words and "--allow-nan" in words
    converted(tmp_path / "nan.safetensors", "--merges", MERGES, "--allow-nan", "-o", tmp_path / "model")
    done = run("serve", "--model", tmp_path / "model", "--port", "0")
    assert done.returncode == 1 and "self-test" in done.stderr and "not finite" in done.stderr


def test_a_value_that_the_dtype_cannot_hold_is_refused(micro, tmp_path):
    tensors = read_safetensors(micro / "openai_names_f32.safetensors")
    tensors["token_embedding.weight"] = put(tensors["token_embedding.weight"], 5, 1e6)
    write_safetensors(tmp_path / "large.safetensors", tensors)
    for more in [], ["--allow-nan"]:
        words = refused(tmp_path / "model", tmp_path / "large.safetensors", "--dtype", "f16", *more)
        assert "1e+06, too large for F16" in words and "bf16" in words
    converted(tmp_path / "large.safetensors", "--dtype", "bf16", "-o", tmp_path / "model")


@pytest.mark.parametrize("more", [[], ["--allow-nan"]])
def test_prompts_that_are_not_finite_are_refused_with_a_backbone_in_any_case(tiny, tmp_path, more):
    learner = read_safetensors(tiny / "comma.safetensors")
    learner["prompt_learner.ctx"] = put(learner["prompt_learner.ctx"], 0, float("inf"))
    torch_files.save_checkpoint(tmp_path / "model.pth.tar-1", learner)
    words = refused(tmp_path / "model", tiny / "clip.pt", "--adapter-from", tmp_path / "model.pth.tar-1", *more)
    assert "not all finite" in words


# ---- stopped ----

@pytest.fixture(scope="module")
def large(micro, tmp_path_factory):
    """A checkpoint whose writing takes long enough to be stopped: 200 MB of zeros, and sparse on the disk."""
    folder = tmp_path_factory.mktemp("large")
    tensors = read_safetensors(micro / "openai_names_f32.safetensors")
    embedding = tensors.pop("token_embedding.weight")
    rows = (200 << 20) // (4 * embedding.shape[1])
    write_safetensors(folder / "small", {**tensors, "token_embedding.weight": Tensor("F32", [rows, 64], b"")})
    data = (folder / "small").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = data[8:8 + size].decode().rstrip()
    at = len(data) - 8 - size
    header = header.replace(f'"shape": [{rows}, 64], "data_offsets": [{at}, {at}]',
                            f'"shape": [{rows}, 64], "data_offsets": [{at}, {at + rows * 256}]')
    path = folder / "large.safetensors"
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(header)) + header.encode() + data[8 + size:])
        f.truncate(8 + len(header) + at + rows * 256)
    return path


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(large, tmp_path, which):
    # SIGHUP may be ignored here already, under nohup, and what is ignored stays so.
    process = subprocess.Popen([BINARY, "convert", str(large), "-o", str(tmp_path / "model")], stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(which, signal.SIG_DFL))
    deadline = time.monotonic() + 60
    while not any((tmp_path / n / "model.safetensors").exists() for n in os.listdir(tmp_path)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    assert not (tmp_path / "model").exists()  # it grows under another name
    process.send_signal(which)
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 1 and "interrupted; nothing was written" in said
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_leaves_nothing(large, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))

    done = run("convert", large, "-o", tmp_path / "model", preexec_fn=limit)
    assert done.returncode == 1 and "model.safetensors: File too large" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_parent_that_cannot_be_written_is_said(micro):
    if os.geteuid() == 0:
        where, words = pathlib.Path("/proc/model"), "/proc/model"
    else:
        where, words = pathlib.Path("/model"), "Permission denied"
    done = run("convert", micro / "openai_state_dict.pt", "-o", where)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_one_value_more_than_the_file_has_is_no_reason_to_read_behind_it(tmp_path):
    """A storage that is shorter than its tensor."""
    torch_files.save(tmp_path / "a.pt", {"visual.conv1.weight": f32([64, 3, 8, 8], [0.0] * 12287)})
    assert "visual.conv1.weight" in limited(tmp_path / "model", tmp_path / "a.pt")
