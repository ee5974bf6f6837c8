#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a CLIP of real size with random, seeded weights and COMMA prompts, to measure speed and memory with.

    tests/bench/make_model.py /tmp/b16                      # ViT-B/16, f32, 600 MB, adapter adapters/comma
    tests/bench/make_model.py --size vit-l-14 --dtype f16 /tmp/l14
    tests/bench/make_model.py --merges bpe_simple_vocab_16e6.txt.gz /tmp/b16

The layout is Hugging Face's: config.json, model.safetensors, merges.txt, vocab.json, preprocessor_config.json; the
adapter is adapters/comma/ with the authors' tensor names. Without --merges the merges are made up: the vocabulary has
the right size and every id can occur, but words fall into other pieces than with CLIP's own.

The spreads of the weights are chosen so that attention is uneven and a few channels carry large values, as in trained
models, which is what int8 has to live with. Needs numpy only; one tensor at a time is in memory.
"""
import argparse
import gzip
import itertools
import json
import os
import string
import struct
import sys

import numpy as np

# vision: width, layers, heads; patch; image; text: width, layers, heads; embed_dim, context_length, vocab_size
SIZES = {
    "vit-b-16": dict(vision=(768, 12, 12), patch=16, image=224, text=(512, 12, 8), embed=512, context=77, vocab=49408),
    "vit-b-32": dict(vision=(768, 12, 12), patch=32, image=224, text=(512, 12, 8), embed=512, context=77, vocab=49408),
    "vit-l-14": dict(vision=(1024, 24, 16), patch=14, image=224, text=(768, 12, 12), embed=768, context=77,
                     vocab=49408),
    "vit-l-14-336": dict(vision=(1024, 24, 16), patch=14, image=336, text=(768, 12, 12), embed=768, context=77,
                         vocab=49408),
    "tiny": dict(vision=(128, 3, 2), patch=8, image=32, text=(64, 3, 1), embed=48, context=77, vocab=1024),
}

# ---- tensors: (name, shape, how to fill it) in the order of the file ----


def normal(std, mean=0.0):
    def fill(rng, shape):
        x = rng.standard_normal(shape, dtype=np.float32)
        x *= np.float32(std)
        x += np.float32(mean)
        return x
    return fill


def torch_linear(n_in):
    """torch's own start for a Linear: the authors' affinity modules stay there, since they never get a gradient."""
    def fill(rng, shape):
        return rng.uniform(-n_in ** -0.5, n_in ** -0.5, shape).astype(np.float32)
    return fill


def constant(value):
    return lambda rng, shape: np.full(shape, value, np.float32)


def gains(rng, shape):
    """LayerNorm weights about 1, two channels of which stand out."""
    g = 1 + 0.2 * rng.standard_normal(shape, dtype=np.float32)
    g[rng.integers(0, shape[0], 2)] *= 3
    return g


def layer_norm(name, width):
    return [(name + ".weight", (width,), gains), (name + ".bias", (width,), normal(0.1))]


def linear(name, n_out, n_in, gain, bias_std):
    return [(name + ".weight", (n_out, n_in), normal(gain * n_in ** -0.5)),
            (name + ".bias", (n_out,), normal(bias_std))]


def blocks(prefix, width, layers):
    out = []
    for i in range(layers):
        p = f"{prefix}.encoder.layers.{i}."
        for c in "qkv":
            out += linear(f"{p}self_attn.{c}_proj", width, width, 1.2, 0.2)
        out += linear(p + "self_attn.out_proj", width, width, 0.8, 0.05)
        out += layer_norm(p + "layer_norm1", width)
        out += linear(p + "mlp.fc1", 4 * width, width, 1.0, 0.1)
        out += linear(p + "mlp.fc2", width, 4 * width, 0.8, 0.05)
        out += layer_norm(p + "layer_norm2", width)
    return out


def clip_tensors(s):
    (vw, vl, _), (tw, tl, _) = s["vision"], s["text"]
    patch, rows = s["patch"], (s["image"] // s["patch"]) ** 2 + 1
    v, t = "vision_model.", "text_model."
    return [
        ("logit_scale", (), constant(np.log(100))),
        (t + "embeddings.token_embedding.weight", (s["vocab"], tw), normal(0.5)),
        (t + "embeddings.position_embedding.weight", (s["context"], tw), normal(0.1)),
        *blocks("text_model", tw, tl),
        *layer_norm(t + "final_layer_norm", tw),
        ("text_projection.weight", (s["embed"], tw), normal(tw ** -0.5)),
        (v + "embeddings.class_embedding", (vw,), normal(0.5)),
        (v + "embeddings.patch_embedding.weight", (vw, 3, patch, patch), normal(1.5 * (3 * patch * patch) ** -0.5)),
        (v + "embeddings.position_embedding.weight", (rows, vw), normal(0.3)),
        *layer_norm(v + "pre_layrnorm", vw),
        *blocks("vision_model", vw, vl),
        *layer_norm(v + "post_layernorm", vw),
        ("visual_projection.weight", (s["embed"], vw), normal(vw ** -0.5)),
    ]


def comma_tensors(s, n_ctx, depth):
    vw, tw, learner = s["vision"][0], s["text"][0], "prompt_learner."

    def affinity(name):
        return [(name + ".fc.weight", (vw, tw), torch_linear(tw)), (name + ".fc.bias", (vw,), torch_linear(tw)),
                (name + ".ln.weight", (vw,), constant(1)), (name + ".ln.bias", (vw,), constant(0)),
                (name + ".mlp.0.weight", (vw // 4, vw), torch_linear(vw)),
                (name + ".mlp.0.bias", (vw // 4,), torch_linear(vw)),
                (name + ".mlp.2.weight", (vw, vw // 4), torch_linear(vw // 4)),
                (name + ".mlp.2.bias", (vw,), torch_linear(vw // 4))]

    out = [(learner + "ctx", (n_ctx, tw), normal(0.5)),
           (learner + "proj.weight", (vw, tw), torch_linear(tw)), (learner + "proj.bias", (vw,), torch_linear(tw))]
    if depth > 1:
        out += [(learner + "compound_prompts_text", (depth - 1, n_ctx, tw), normal(0.3)),
                (learner + "compound_prompts_image", (depth - 1, n_ctx, vw), normal(0.02)),
                *affinity(learner + "compound_prompt_projections_image_base")]
    for j in range(depth - 2):
        out += affinity(f"{learner}compound_prompt_projections_image.{j}")
    return out


# ---- safetensors, written one tensor at a time ----

def to_bf16(x):
    """Bit patterns, rounded to the nearest even."""
    bits = x.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


# name: safetensors' and torch's word, bytes, conversion
DTYPES = {
    "f32": ("F32", "float32", 4, lambda x: x),
    "f16": ("F16", "float16", 2, lambda x: x.astype(np.float16)),
    "bf16": ("BF16", "bfloat16", 2, to_bf16),
}


def write_safetensors(path, tensors, dtype, seed, progress):
    tag, _, size, convert = DTYPES[dtype]
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        n_bytes = int(np.prod(shape, dtype=np.int64)) * size
        header[name] = {"dtype": tag, "shape": list(shape), "data_offsets": [end, end + n_bytes]}
        end += n_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)  # so that tensors lie aligned in a mapping
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for i, (name, shape, fill) in enumerate(tensors):
            # A generator for each tensor: its values depend on the seed and its place alone.
            x = fill(np.random.default_rng([seed, i]), shape)
            f.write(memoryview(np.ascontiguousarray(convert(x.reshape(-1)))).cast("B"))
            progress(header[name]["data_offsets"][1] / end)
    os.replace(path + ".part", path)
    return sum(int(np.prod(shape, dtype=np.int64)) for _, shape, _ in tensors), end


# ---- tokenizer ----

def byte_characters():
    """The 256 characters that stand for bytes in CLIP's vocabulary, in the order of their ids (SPEC 7.1)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def read_merges(path, n):
    data = open(path, "rb").read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    lines = data.decode("utf-8").split("\n")[1:n + 1]
    if len(lines) < n or not all(len(line.split()) == 2 for line in lines):
        sys.exit(f"{path}: {n} merges are needed after the header line")
    return lines


def made_up_merges(n):
    """Pairs, then triples, then fours of letters, each inside and at the end of a word; each made of earlier ones."""
    letters = string.ascii_lowercase

    def grow(length, head):
        for word in itertools.product(letters, repeat=length):
            for end in ("", "</w>"):
                yield f"{''.join(word[:head])} {''.join(word[head:])}{end}"
    return list(itertools.islice(itertools.chain(grow(2, 1), grow(3, 2), grow(4, 2)), n))


def write_tokenizer(directory, merges):
    characters = byte_characters()
    tokens = characters + [c + "</w>" for c in characters] + ["".join(m.split()) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with open(os.path.join(directory, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(m + "\n" for m in merges))
    write_json(directory, "vocab.json", {token: i for i, token in enumerate(tokens)}, indent=None)


# ---- configuration ----

def write_json(directory, name, value, indent=2):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=indent, ensure_ascii=False)
        f.write("\n")


def write_configs(directory, s, activation, dtype):
    def tower(kind, width, layers, heads, **more):
        return dict(model_type=f"clip_{kind}_model", hidden_act=activation, hidden_size=width,
                    intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
                    layer_norm_eps=1e-5, projection_dim=s["embed"], **more)

    write_json(directory, "config.json", {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": s["embed"],
        "logit_scale_init_value": 2.6592, "torch_dtype": DTYPES[dtype][1],
        "text_config": tower("text", *s["text"], max_position_embeddings=s["context"], vocab_size=s["vocab"],
                             bos_token_id=s["vocab"] - 2, eos_token_id=s["vocab"] - 1),
        "vision_config": tower("vision", *s["vision"], image_size=s["image"], patch_size=s["patch"])})
    write_json(directory, "preprocessor_config.json", {
        "crop_size": {"height": s["image"], "width": s["image"]}, "do_center_crop": True, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "size": {"shortest_edge": s["image"]}})


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--size", choices=SIZES, default="vit-b-16")
    p.add_argument("--dtype", choices=DTYPES, default="f32", help="of the backbone (f32)")
    p.add_argument("--activation", choices=["quick_gelu", "gelu"], default="quick_gelu")
    p.add_argument("--merges", metavar="FILE", help="bpe_simple_vocab_16e6.txt, plain or .gz, or a merges.txt")
    p.add_argument("--n-ctx", type=int, default=2)
    p.add_argument("--depth", type=int, default=9, help="prompt_depth: the input and depth-1 deep prompts (9)")
    p.add_argument("--no-adapter", action="store_true")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    if not 1 <= a.n_ctx <= 4:
        p.error("--n-ctx: 1 to 4, the words of 'a photo of a'")
    if a.depth < 1:
        p.error("--depth: 1 or more")
    return a


def main():
    a = parse_arguments()
    s = SIZES[a.size]
    depth = min(a.depth, s["vision"][1], s["text"][1])  # as many deep prompts as there are blocks for

    def progress(share):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{a.directory}: {100 * share:3.0f} %" + ("\n" if share == 1 else ""))

    os.makedirs(a.directory, exist_ok=True)
    n_merges = s["vocab"] - 514
    write_tokenizer(a.directory, read_merges(a.merges, n_merges) if a.merges else made_up_merges(n_merges))
    write_configs(a.directory, s, a.activation, a.dtype)
    weights = os.path.join(a.directory, "model.safetensors")
    n, size = write_safetensors(weights, clip_tensors(s), a.dtype, a.seed, progress)
    print(f"{a.directory}: {a.size}, {n / 1e6:.2f} M parameters, {size / 1e6:.0f} MB {a.dtype}")
    if a.no_adapter:
        return
    adapter = os.path.join(a.directory, "adapters", "comma")
    os.makedirs(adapter, exist_ok=True)
    write_json(adapter, "adapter_config.json", {
        "method": "comma", "n_ctx": a.n_ctx, "prompt_depth": depth, "ctx_init": "a photo of a", "last_layer": 1,
        "base_model": a.size})
    prompts = os.path.join(adapter, "adapter_model.safetensors")
    dtype = "f16" if a.dtype == "f16" else "f32"
    n, size = write_safetensors(prompts, comma_tensors(s, a.n_ctx, depth), dtype, a.seed + 1, lambda share: None)
    print(f"{adapter}: n_ctx {a.n_ctx}, prompt_depth {depth}, {n / 1e6:.2f} M values, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
