# SPDX-License-Identifier: MIT
"""The file formats that tests make and read: safetensors, torch's state dicts, PNG. Plain Python, small files."""
import collections
import io
import json
import math
import pickle
import struct
import zipfile
import zlib

FORMATS = {"F32": "f", "F16": "e", "I32": "i", "I64": "q"}


class Tensor:
    """values is flat, in row-major order."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, list(shape), data

    @property
    def values(self):
        n = math.prod(self.shape)
        if self.dtype == "BF16":
            return [struct.unpack("<f", b"\0\0" + self.data[2 * i:2 * i + 2])[0] for i in range(n)]
        return list(struct.unpack(f"<{n}{FORMATS[self.dtype]}", self.data))

    @property
    def rows(self):
        """A 2-D tensor as a list of lists."""
        width, values = math.prod(self.shape[1:]), self.values
        return [values[i:i + width] for i in range(0, len(values), width)]


def read_safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    body = data[8 + size:]
    return {name: Tensor(t["dtype"], t["shape"], body[slice(*t["data_offsets"])]) for name, t in header.items()}


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, at + len(t.data)]}
        at += len(t.data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.data for t in tensors.values()))


class _StateDict(pickle.Unpickler):
    """Contiguous tensors of a torch.save() file; classes of torch are empty ones, nothing of theirs is run."""

    def __init__(self, archive, root):
        super().__init__(io.BytesIO(archive.read(root + "/data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module, name):
        if name == "OrderedDict":
            return collections.OrderedDict
        if name == "_rebuild_tensor_v2":
            return self.rebuild
        return name

    def persistent_load(self, pid):
        _, storage, key, _, _ = pid
        dtype = {"FloatStorage": "F32", "HalfStorage": "F16", "LongStorage": "I64"}[storage]
        return dtype, self.archive.read(f"{self.root}/data/{key}")

    @staticmethod
    def rebuild(storage, offset, shape, stride, *_):
        dtype, data = storage
        expected, n = [], 1
        for side in reversed(shape):
            expected.insert(0, n)
            n *= side
        assert list(stride) == expected, "only contiguous tensors occur in the golden files"
        width = struct.calcsize(FORMATS[dtype])
        return Tensor(dtype, shape, data[offset * width:(offset + n) * width])


def read_state_dict(path):
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        return dict(_StateDict(archive, root).load())


def png(width, height, rgb):
    """An 8-bit RGB PNG of height * width * 3 bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(rgb[3 * width * y:3 * width * (y + 1)]) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def largest_difference(a, b):
    assert len(a) == len(b)
    return max((abs(x - y) for x, y in zip(a, b)), default=0)
