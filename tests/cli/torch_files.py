# SPDX-License-Identifier: MIT
"""Writes what torch.save() writes, without torch: a zip of a pickle and of the storages that it names.

The classes of torch that a pickle refers to by name are empty ones here, in modules that exist while it is written."""
import collections
import contextlib
import io
import math
import pickle
import sys
import types
import zipfile

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "F64": "DoubleStorage",
            "I64": "LongStorage", "I32": "IntStorage"}
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4}


def _module(name, **members):
    module = types.ModuleType(name)
    for key, value in members.items():
        value.__module__, value.__qualname__ = name, key
        setattr(module, key, value)
    return module


def _rebuild(*_):
    raise AssertionError("only its name is written")


_CLASSES = {name: type(name, (), {}) for name in STORAGES.values()}
_MODULES = {
    "torch": _module("torch", **_CLASSES),
    "torch._utils": _module("torch._utils", _rebuild_tensor_v2=_rebuild),
    "torch.optim": _module("torch.optim"),
    "torch.optim.sgd": _module("torch.optim.sgd", SGD=type("SGD", (), {})),
}


@contextlib.contextmanager
def _pretend_torch():
    old = {name: sys.modules.get(name) for name in _MODULES}
    sys.modules.update(_MODULES)
    try:
        yield
    finally:
        for name, module in old.items():
            if module:
                sys.modules[name] = module
            else:
                del sys.modules[name]


class _Storage:
    def __init__(self, tensor, key):
        self.tensor, self.key = tensor, key


class _Pickler(pickle.Pickler):
    def __init__(self, out, tensor_class):
        super().__init__(out, protocol=2)
        self.tensor_class, self.storages = tensor_class, []

    def persistent_id(self, obj):
        if not isinstance(obj, _Storage):
            return None
        t = obj.tensor
        return "storage", _CLASSES[STORAGES[t.dtype]], obj.key, "cpu", len(t.data) // SIZES[t.dtype]

    def reducer_override(self, obj):
        if not isinstance(obj, self.tensor_class):
            return NotImplemented
        self.storages.append(obj.data)
        strides, n = [], math.prod(obj.shape)
        for side in obj.shape:
            n //= side or 1
            strides.append(n)
        storage = _Storage(obj, str(len(self.storages) - 1))
        return _rebuild, (storage, 0, tuple(obj.shape), tuple(strides), False, collections.OrderedDict())


def write_archive(path, pickled, storages=(), root="model", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(root + "/data.pkl", pickled)
        for i, data in enumerate(storages):
            archive.writestr(f"{root}/data/{i}", data)
        archive.writestr(root + "/version", "3\n")
    return path


def save(path, value):
    """torch.save(value, path): dicts, lists and numbers with files.Tensor in them."""
    from files import Tensor
    out = io.BytesIO()
    with _pretend_torch():
        pickler = _Pickler(out, Tensor)
        pickler.dump(value)
    return write_archive(path, out.getvalue(), pickler.storages)


def save_checkpoint(path, tensors):
    """What the authors' trainer leaves: the state dict, and the optimizer with its parameters again."""
    state = collections.OrderedDict(tensors)
    with _pretend_torch():
        optimizer = _MODULES["torch.optim.sgd"].SGD()
        optimizer.param_groups = [{"params": list(tensors.values())[:2], "lr": 0.0035}]
    return save(path, {"state_dict": state, "epoch": 5, "optimizer": {"state": {}, "param_groups": []},
                       "scheduler": optimizer, "val_result": None})
