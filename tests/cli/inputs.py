"""Model files for the tests, written with the standard library: .safetensors, PyTorch zips, and impostors."""

import collections
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

CHUNK = 262_144  # bytes under one digest


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes), written as the reference does: no seal, no alignment."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_sparse_safetensors(path, nbytes):
    """One U8 tensor of zeros that takes no room on the disk."""
    text = json.dumps({"big": {"dtype": "U8", "shape": [nbytes], "data_offsets": [0, nbytes]}}).encode()
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + nbytes)


class Storage:
    """Bytes in a record of their own; `key` is the record's name, given when it is written."""

    def __init__(self, raw):
        self.raw, self.key = raw, None


class Tensor:
    """A float32 tensor, C-contiguous unless `stride` says otherwise. Tensors may share a storage."""

    def __init__(self, shape, values, stride=None, storage=None):
        self.shape = tuple(shape)
        self.storage = storage or Storage(floats(*values))
        self.stride = stride or self.contiguous_stride()

    def contiguous_stride(self):
        stride, step = [], 1
        for size in reversed(self.shape):
            stride.append(step)
            step *= size
        return tuple(reversed(stride))


def class_of(module, name, base=object):
    return type(name, (base,), {"__module__": module})


class Wrapper:
    """The result of torch.compile, which is pickled as a call without attributes."""

    def __reduce__(self):
        return type(self), (self.inside, None)


# Classes that Lightning, omegaconf and torch.compile pickle by name.
OTHERS = {
    (module, name): class_of(module, name, base)
    for module, name, base in (
        ("omegaconf.dictconfig", "DictConfig", object),
        ("omegaconf.listconfig", "ListConfig", object),
        ("omegaconf.nodes", "AnyNode", object),
        ("omegaconf.base", "ContainerMetadata", object),
        ("omegaconf.base", "Metadata", object),
        ("lightning_fabric.utilities.data", "AttributeDict", dict),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", object),
        ("torch._dynamo.eval_frame", "OptimizedModule", Wrapper),
    )
}


def other(module, name, **attributes):
    """An instance of one of these classes."""
    made = OTHERS[module, name]()
    made.__dict__.update(attributes)
    return made


def omega(value, key=None, parent=None):
    """The result of OmegaConf.create(value): an object for each value, which knows its place."""
    kind = type(value) if isinstance(value, (dict, list)) else None
    about = {"ref_type": None, "object_type": kind, "optional": True, "key": key, "flags": {}, "flags_root": False}
    about["resolver_cache"] = collections.defaultdict(dict)
    if kind is None:
        about = other("omegaconf.base", "Metadata", **about)
        return other("omegaconf.nodes", "AnyNode", _metadata=about, _parent=parent, _val=value)
    about = other("omegaconf.base", "ContainerMetadata", **about, key_type=None, element_type=None)
    if kind is dict:
        config = other("omegaconf.dictconfig", "DictConfig", _metadata=about, _parent=parent)
        config._content = {key: omega(item, key, config) for key, item in value.items()}
    else:
        config = other("omegaconf.listconfig", "ListConfig", _metadata=about, _parent=parent)
        config._content = [omega(item, i, config) for i, item in enumerate(value)]
    return config


def torch_modules():
    """As much of torch, and of others, as pickle needs to write its names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2():
        raise AssertionError("only its name is used")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    modules = {"torch": torch, "torch._utils": utils}
    for (module, name), kind in OTHERS.items():
        parts = module.split(".")
        for package in (".".join(parts[: i + 1]) for i in range(len(parts))):
            modules.setdefault(package, types.ModuleType(package))
        setattr(modules[module], name, kind)
    return modules


class Module:
    """A whole torch module: torch's own attributes and others, without any torch."""

    def __init__(self, parameters=(), buffers=(), children=(), **others):
        hooks = ("_backward_hooks", "_forward_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks")
        self.training = True
        self._parameters, self._buffers = dict(parameters), dict(buffers)
        self._non_persistent_buffers_set = {name for name in self._buffers if name.startswith("tmp")}
        self.__dict__.update((name, collections.OrderedDict()) for name in hooks)
        self._modules = dict(children)
        self.__dict__.update(others)


class TorchPickler(pickle.Pickler):
    def __init__(self, stream, modules):
        super().__init__(stream, protocol=2)
        self.modules, self.storages = modules, []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if value.key is None:
            value.key = str(len(self.storages))
            self.storages.append(value)
        return ("storage", self.modules["torch"].FloatStorage, value.key, "cpu", len(value.raw) // 4)

    def reducer_override(self, value):
        if not isinstance(value, Tensor):
            return NotImplemented
        rebuild = self.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (value.storage, 0, value.shape, value.stride, False, collections.OrderedDict())


def torch_bytes(value):
    """The bytes that torch.save(value) would write."""
    modules, pickled, archive = torch_modules(), io.BytesIO(), io.BytesIO()
    with mock.patch.dict(sys.modules, modules):
        pickler = TorchPickler(pickled, modules)
        pickler.dump(value)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as records:
        records.writestr("archive/data.pkl", pickled.getvalue())
        records.writestr("archive/byteorder", "little")
        for storage in pickler.storages:
            records.writestr(f"archive/data/{storage.key}", storage.raw)
        records.writestr("archive/version", "3\n")
    for storage in pickler.storages:
        storage.key = None
    return archive.getvalue()


def write_torch(path, value):
    path.write_bytes(torch_bytes(value))


def state_another_crc(path, record, crc=None):
    """Changes the CRC that a zip states for a record, in its central directory; default: one bit of it."""
    raw = bytearray(path.read_bytes())
    at = raw.rindex(record.encode()) - 46 + 16
    assert raw[at - 16:at - 12] == b"PK\1\2"
    stated = struct.unpack_from("<I", raw, at)[0]
    struct.pack_into("<I", raw, at, stated ^ 1 if crc is None else crc)
    local = raw.index(record.encode()) - 30 + 14
    struct.pack_into("<I", raw, local, stated ^ 1 if crc is None else crc)
    path.write_bytes(raw)


def lightning():
    """A Lightning checkpoint: weights, an optimizer's state, numbers and texts."""
    weight = Tensor([2, 3], [1, 2, 3, 4, 5, 6])
    bias = Tensor([3], [7, 8, 9])
    moments = {"step": 5, "exp_avg": Tensor([2, 3], [0] * 6)}
    return {
        "epoch": 12,
        "global_step": 900,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": collections.OrderedDict([("fc.weight", weight), ("fc.bias", bias)]),
        "optimizer_states": [{"state": {0: moments}, "param_groups": [{"lr": 0.001, "params": [0]}]}],
        "hyper_parameters": {"name": "tiny", "sizes": (2, 3)},
    }


def net():
    """Two layers, the second also named `head`, with a parameter that a list repeats."""
    weight = Tensor([2, 2], [1, 2, 3, 4])
    first = Module({"weight": weight, "bias": None}, {"mean": Tensor([1], [5])}, stride=(1, 1))
    second = Module({"weight": Tensor([2], [6, 7])}, {"tmp": Tensor([1], [8])})
    return Module(children={"0": first, "1": second, "head": second}, names={0: "cat"}, flat=[weight])


IMPOSTORS = {
    # name: (content, the code it is refused with, a word that the message must hold)
    "lfs.pth": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4" * 64 + b"\nsize 12345\n",
        "unsupported_format",
        "git-lfs",
    ),
    "page.safetensors": (b"<!DOCTYPE html>\n<html><title>404</title></html>\n", "unsupported_format", "HTML"),
    "model.gguf.safetensors": (b"GGUF\x03\0\0\0" + b"\0" * 64, "unsupported_format", "GGUF"),
    "keras.pth": (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "unsupported_format", "HDF5"),
    "nothing.pth": (b"", "file_too_short", "empty"),
}
