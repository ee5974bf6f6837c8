# SPDX-License-Identifier: MIT
"""The two towers of a model directory as ONNX graphs, for peer_onnxruntime.py; plain CLIP or with COMMA prompts.

Written with the operators that ONNX Runtime's own optimizer puts in for an exported CLIP (Attention,
SkipLayerNormalization, QuickGelu), so nothing is left unfused, whatever an exporter would have made of it. All tokens of
all layers are computed, as an exported model does. SPEC sections 3 to 6 say what is computed; n_ctx and prompt_depth come
from the adapter, last_layer must be 1."""
import json
import pathlib
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"


def read_safetensors(path):
    """name: f32 array."""
    data = np.memmap(path, np.uint8, "r")
    (n,) = struct.unpack("<Q", data[:8].tobytes())
    header = json.loads(data[8:8 + n].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        raw = data[8 + n + entry["data_offsets"][0]:8 + n + entry["data_offsets"][1]]
        if entry["dtype"] == "BF16":
            value = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in ("F32", "F16"):
            value = raw.view({"F32": np.float32, "F16": np.float16}[entry["dtype"]]).astype(np.float32)
        else:
            continue  # position ids
        tensors[name] = value.reshape(entry["shape"])
    return tensors


class Model:
    def __init__(self, directory, adapter=None):
        directory = pathlib.Path(directory)
        self.weights = read_safetensors(directory / "model.safetensors")
        self.config = json.loads((directory / "config.json").read_text())
        self.prompts = Prompts(pathlib.Path(adapter), self.config) if adapter else None

    def tower(self, kind):
        return self.config[f"{kind}_config"]


class Prompts:
    """COMMA's prompts, generated once (SPEC 6.2): text and vision vectors at the input and before deeper blocks."""

    def __init__(self, directory, config):
        about = json.loads((directory / "adapter_config.json").read_text())
        if about["method"] != "comma" or about.get("last_layer", 1) != 1:
            raise SystemExit(f"{directory}: only COMMA prompts with last_layer 1 can be put into a graph")
        w = {name.removeprefix("prompt_learner."): value.astype(np.float64)
             for name, value in read_safetensors(directory / "adapter_model.safetensors").items()}
        self.n = about["n_ctx"]
        ctx = w["ctx"]
        self.text, self.vision = [ctx], [ctx @ w["proj.weight"].T + w["proj.bias"]]
        for j in range(about["prompt_depth"] - 1):
            name = "compound_prompt_projections_image_base." if j == 0 else f"compound_prompt_projections_image.{j - 1}."
            generator = {key.removeprefix(name): value for key, value in w.items() if key.startswith(name)}
            self.vision.append(self.generate(generator, self.vision[-1], self.text[-1]))
            self.text.append(w["compound_prompts_text"][j])
        self.text = [x.astype(np.float32) for x in self.text[:config["text_config"]["num_hidden_layers"]]]
        self.vision = [x.astype(np.float32) for x in self.vision[:config["vision_config"]["num_hidden_layers"]]]

    @staticmethod
    def generate(g, u, t):
        k = t @ g["fc.weight"].T + g["fc.bias"]
        scores = u @ k.T / np.sqrt(k.shape[1])
        w = np.exp(scores - scores.max(1, keepdims=True))
        z = w / w.sum(1, keepdims=True) @ k
        z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5) * g["ln.weight"] + g["ln.bias"]
        return np.maximum(z @ g["mlp.0.weight"].T + g["mlp.0.bias"], 0) @ g["mlp.2.weight"].T + g["mlp.2.bias"]


class Graph:
    def __init__(self):
        self.nodes, self.constants, self.n = [], [], 0

    def constant(self, value, name="c"):
        self.n += 1
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{name}{self.n}"))
        return self.constants[-1].name

    def add(self, op, inputs, n_outputs=1, domain="", **attributes):
        self.n += 1
        outputs = [f"{op}{self.n}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{op}{self.n}", domain=domain, **attributes))
        return outputs if n_outputs > 1 else outputs[0]

    def rows(self, x, first, last):
        return self.add("Slice", [x] + [self.constant(np.array([v], np.int64)) for v in (first, last, 1)])

    def save(self, path, inputs, output, embed):
        graph = helper.make_graph(self.nodes, "tower", inputs, [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", embed])], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)])
        model.ir_version = 9
        onnx.save(model, path)


def repeat(g, rows, of):
    """rows [n, width] once for each of the batch of the graph's input."""
    batch = g.add("Slice", [g.add("Shape", [of])] + [g.constant(np.array([v], np.int64)) for v in (0, 1)])
    shape = g.add("Concat", [batch, g.constant(np.array(rows.shape, np.int64))], axis=0)
    return g.add("Expand", [g.constant(rows[None]), shape])


def layer_norm(g, m, x, name):
    return g.add("LayerNormalization", [x, g.constant(m.weights[name + ".weight"]), g.constant(m.weights[name + ".bias"])],
                 axis=-1, epsilon=1e-5)


def linear(g, m, x, name):
    """x W^T, without the bias, which the next fused operator takes."""
    return g.add("MatMul", [x, g.constant(m.weights[name + ".weight"].T)]), g.constant(m.weights[name + ".bias"])


def residual_norm(g, m, y, bias, x, name):
    """x + y + bias, and its LayerNorm."""
    normed, _, _, total = g.add("SkipLayerNormalization", [
        x, y, g.constant(m.weights[name + ".weight"]), g.constant(m.weights[name + ".bias"]), bias], 4, MICROSOFT,
        epsilon=1e-5)
    return normed, total


def attention(g, m, y, prefix, config, causal):
    qkv = [prefix + f"self_attn.{c}_proj" for c in "qkv"]
    weight = g.constant(np.concatenate([m.weights[name + ".weight"].T for name in qkv], axis=1), "qkv")
    bias = g.constant(np.concatenate([m.weights[name + ".bias"] for name in qkv]))
    y = g.add("Attention", [y, weight, bias], domain=MICROSOFT, num_heads=config["num_attention_heads"],
              unidirectional=int(causal))
    return linear(g, m, y, prefix + "self_attn.out_proj")


def activation(g, x, bias, config):
    if config["hidden_act"] == "quick_gelu":
        return g.add("QuickGelu", [g.add("Add", [x, bias])], domain=MICROSOFT, alpha=1.702)
    return g.add("BiasGelu", [x, bias], domain=MICROSOFT)


def blocks(g, m, x, kind, causal, n_deep, replace):
    """Blocks over x [batch, rows, width] to the residual stream; before blocks 1 .. n_deep, replace(i, x) puts prompts in."""
    config, y, bias = m.tower(kind), None, None
    for i in range(config["num_hidden_layers"]):
        prefix = f"{kind}_model.encoder.layers.{i}."
        before = x
        if 1 <= i <= n_deep:
            before = x = replace(i, g.add("Add", [x, g.add("Add", [y, bias])]))
            normed = layer_norm(g, m, x, prefix + "layer_norm1")
        elif y is not None:
            normed, before = residual_norm(g, m, y, bias, x, prefix + "layer_norm1")
        else:
            normed = layer_norm(g, m, x, prefix + "layer_norm1")
        y, bias = attention(g, m, normed, prefix, config, causal)
        normed, x = residual_norm(g, m, y, bias, before, prefix + "layer_norm2")
        y, bias = linear(g, m, normed, prefix + "mlp.fc1")
        y, bias = linear(g, m, activation(g, y, bias, config), prefix + "mlp.fc2")
    return g.add("Add", [x, g.add("Add", [y, bias])])


def save_vision(m, path):
    """pixels [batch, 3, side, side], normalised -> image_features [batch, embed], as the projection gives them."""
    g, config = Graph(), m.tower("vision")
    width, n = config["hidden_size"], m.prompts.n if m.prompts else 0
    side, patch = config["image_size"], config["patch_size"]
    patches, e = (side // patch) ** 2, "vision_model.embeddings."

    def replace(i, x):
        return g.add("Concat", [g.rows(x, 0, 1 + patches), repeat(g, m.prompts.vision[i], "pixels")], axis=1)

    x = g.add("Conv", ["pixels", g.constant(m.weights[e + "patch_embedding.weight"])], strides=[patch, patch])
    x = g.add("Reshape", [x, g.constant(np.array([0, width, patches], np.int64))])
    position = m.weights[e + "position_embedding.weight"]
    x = g.add("Add", [g.add("Transpose", [x], perm=[0, 2, 1]), g.constant(position[1:])])
    parts = [repeat(g, (m.weights[e + "class_embedding"] + position[0])[None], "pixels"), x]
    if n:
        parts.append(repeat(g, m.prompts.vision[0], "pixels"))
    x = layer_norm(g, m, g.add("Concat", parts, axis=1), "vision_model.pre_layrnorm")
    x = blocks(g, m, x, "vision", False, len(m.prompts.vision) - 1 if n else 0, replace)
    x = g.add("Squeeze", [g.rows(x, 0, 1), g.constant(np.array([1], np.int64))])
    x = layer_norm(g, m, x, "vision_model.post_layernorm")
    x = g.add("MatMul", [x, g.constant(m.weights["visual_projection.weight"].T)])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, side, side])
    g.save(path, [pixels], x, m.config["projection_dim"])


def save_text(m, path, n_ids):
    """ids [batch, n_ids] with SOS, padded behind EOT with 0 -> text_features [batch, embed]."""
    g, n = Graph(), m.prompts.n if m.prompts else 0
    e = "text_model.embeddings."

    def replace(i, x, position=0):
        rows = repeat(g, m.prompts.text[i] + position, "ids")
        return g.add("Concat", [g.rows(x, 0, 1), rows, g.rows(x, 1 + n, n_ids)], axis=1)

    x = g.add("Gather", [g.constant(m.weights[e + "token_embedding.weight"]), "ids"])
    position = m.weights[e + "position_embedding.weight"][:n_ids]
    x = g.add("Add", [x, g.constant(position)])
    if m.prompts:
        x = replace(0, x, position[1:1 + n])
    x = blocks(g, m, x, "text", True, len(m.prompts.text) - 1 if n else 0, replace)
    eot = g.add("ArgMax", ["ids"], axis=1, keepdims=1)  # EOT has the largest id
    x = g.add("GatherND", [x, eot], batch_dims=1)
    x = layer_norm(g, m, x, "text_model.final_layer_norm")
    x = g.add("MatMul", [x, g.constant(m.weights["text_projection.weight"].T)])
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", n_ids])
    g.save(path, [ids], x, m.config["projection_dim"])
