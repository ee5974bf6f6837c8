#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The same images and labels through ONNX Runtime and through comma, turn by turn in one run.

    python3 -m venv peer && peer/bin/pip install numpy onnx onnxruntime
    peer/bin/python tests/bench/peer_onnxruntime.py --binary build/server/comma --model /tmp/b16 \\
        --adapter /tmp/b16/adapters/comma --ours openblas:f32,onednn:f32,onednn:int8

ONNX Runtime gets the graphs of clip_onnx.py, fused as its own optimizer fuses, all its optimizations and one thread a
core; int8 is quantize_dynamic, per channel. Its features are compared with comma's before anything is timed. Labels are
a batch cut at EOT: SOS, the prompt, and the tokens of their own that comma bench uses. Each figure is the median of the
rounds, as is comma's; the peak is comma's measurement in the same rounds. Exit status 1 if features differ."""
import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

import clip_onnx

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
N_LABELS, BATCH, OWN_TOKENS = 100, 8, 3
LABEL = "be"  # one token, of a made-up vocabulary too
LEAST_COSINE = 0.9999


def write_png(path, rgb):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                     chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class Comma:
    """The program under comparison."""

    def __init__(self, options):
        self.binary, self.threads = options.binary, options.threads
        self.model = ["--model", options.model] + (["--adapter", options.adapter] if options.adapter else [])

    def run(self, *arguments):
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()

    def feature(self, *what):
        answer = self.run("embed", *self.model, *what, "--json")
        if isinstance(answer, str):
            raise SystemExit(answer)
        return np.array(answer["features"], np.float32)

    def ids(self, text):
        return self.run("tokenize", *self.model[:2], text, "--json")["ids"]

    def bench(self, backend, precision, seconds):
        return self.run("bench", *self.model, "--json", "--seconds", str(seconds), "--threads", str(self.threads),
                        "--backend", backend, "--precision", precision)


class Peer:
    """ONNX Runtime's sessions, f32 and int8."""

    def __init__(self, m, n_ids, directory, threads):
        self.sessions = {}
        for tower in ("vision", "text"):
            path = directory / f"{tower}.onnx"
            if tower == "vision":
                clip_onnx.save_vision(m, path)
            else:
                clip_onnx.save_text(m, path, n_ids)
            small = directory / f"{tower}.int8.onnx"
            quantize_dynamic(path, small, per_channel=True, weight_type=QuantType.QInt8,
                             op_types_to_quantize=["MatMul", "Attention"],
                             extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
            for precision, file in (("f32", path), ("int8", small)):
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
                options.log_severity_level = 3
                self.sessions[tower, precision] = onnxruntime.InferenceSession(
                    str(file), options, providers=["CPUExecutionProvider"])
                file.unlink()

    def run(self, tower, precision, x):
        return self.sessions[tower, precision].run(None, {"pixels" if tower == "vision" else "ids": x})[0]

    def rate(self, tower, precision, x, seconds):
        """Rows of x a second, median of runs for about so long."""
        self.run(tower, precision, x)
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            begin = time.perf_counter()
            self.run(tower, precision, x)
            times.append(time.perf_counter() - begin)
        return len(x) / statistics.median(times)


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def check(comma, peer, m, directory):
    """Cosines of features, ONNX Runtime's against comma's in f32."""
    side = m.tower("vision")["image_size"]
    rgb = np.random.default_rng(1).integers(0, 256, (side // 8, side // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    write_png(directory / "picture.png", rgb)
    pixels = ((rgb.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)[None].copy()
    image = comma.feature("--image", str(directory / "picture.png"))
    prompt = f"a photo of a {LABEL}."
    text = comma.feature("--text", LABEL if m.prompts else prompt)
    ids = np.array([comma.ids(prompt)])
    return {f"{tower}_{precision}": cosine(peer.run(tower, precision, x)[0], ours)
            for tower, x, ours in (("vision", pixels, image), ("text", ids, text)) for precision in ("f32", "int8")}


def measure(comma, peer, m, ours, options):
    """name: rates of the rounds."""
    rates, seen = {}, {}
    side, vocab = m.tower("vision")["image_size"], m.tower("text")["vocab_size"]
    rng = np.random.default_rng(2)
    pixels = rng.standard_normal((BATCH, 3, side, side)).astype(np.float32)
    ids = rng.integers(0, vocab - 2, (N_LABELS, options.label_tokens))
    ids[:, 0], ids[:, -1] = vocab - 2, vocab - 1
    for _ in range(options.rounds):
        for name in list(ours):
            figures = comma.bench(*name.split(":"), options.seconds)
            if isinstance(figures, str):
                print(f"{name} is left out: {figures}", file=sys.stderr)
                ours.remove(name)
                continue
            seen.setdefault("peak", []).append(figures["peak_gflops"])
            seen["gflop"] = figures["image"]["gflop"]
            for key, value in (("lone image", 1e3 / figures["image"]["lone_ms"]), ("images", figures["image"]["per_s"]),
                               ("labels", figures["text"]["cold_labels_per_s"])):
                rates.setdefault(f"comma {name} {key}", []).append(value)
        for precision in ("f32", "int8"):
            for key, tower, x in (("lone image", "vision", pixels[:1]), ("images", "vision", pixels),
                                  ("labels", "text", ids)):
                rates.setdefault(f"onnxruntime {precision} {key}", []).append(
                    peer.rate(tower, precision, x, options.seconds / 6))
    return {name: statistics.median(values) for name, values in rates.items()}, seen


def show(rates, seen, ours, cosines):
    peak = statistics.median(seen["peak"])
    print(f"onnxruntime {onnxruntime.__version__}; cosine to comma f32: " +
          ", ".join(f"{name} {value:.6f}" for name, value in cosines.items()))
    print(f"peak {peak:.1f} GFLOP/s f32; an image {seen['gflop']:.1f} GFLOP nominal")
    print(f"{'':28} {'lone image':>12} {'images/s':>10} {'of peak':>8} {'labels/s':>10}")
    for who in [f"comma {name}" for name in ours] + ["onnxruntime f32", "onnxruntime int8"]:
        image = rates[f"{who} images"]
        print(f"{who:28} {1e3 / rates[who + ' lone image']:9.1f} ms {image:10.2f} {100 * image * seen['gflop'] / peak:6.1f} % "
              f"{rates[who + ' labels']:10.0f}")
    for name in ours:
        theirs = "onnxruntime int8" if name.endswith("int8") else "onnxruntime f32"
        ratios = {key: rates[f"comma {name} {key}"] / rates[f"{theirs} {key}"] for key in ("lone image", "images", "labels")}
        print(f"comma {name} against {theirs}: " + ", ".join(f"{key} {value:.2f}x" for key, value in ratios.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="build/server/comma")
    parser.add_argument("--model", required=True, help="directory in Hugging Face layout, as make_model.py writes it")
    parser.add_argument("--adapter", help="directory of COMMA prompts")
    parser.add_argument("--ours", default="openblas:f32", help="backend:precision,...")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="for each comma bench, and for ONNX Runtime, in a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    m, comma, ours = clip_onnx.Model(options.model, options.adapter), Comma(options), options.ours.split(",")
    prefix = len(comma.ids("a photo of a")) - 1  # with SOS, without EOT
    options.label_tokens = prefix + OWN_TOKENS
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        peer = Peer(m, options.label_tokens, directory, options.threads)
        cosines = check(comma, peer, m, directory)
    rates, seen = measure(comma, peer, m, ours, options)
    if options.json:
        print(json.dumps({"cosines": cosines, "peak_gflops": statistics.median(seen["peak"]), "per_s": rates}))
    else:
        show(rates, seen, ours, cosines)
    return 0 if min(cosines["vision_f32"], cosines["text_f32"]) > LEAST_COSINE else 1


if __name__ == "__main__":
    sys.exit(main())
