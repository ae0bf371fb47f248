"""The part of the oracle that needs torch and safetensors; started by run_oracle.py.

Usage: judge.py make DIR         writes checkpoints
       judge.py compare WORK     judges WORK/converted; writes WORK/saved_again
"""

import argparse
import collections
import ctypes
import datetime
import hashlib
import importlib
import json
import math
import os
import pickle
import sys

try:
    import torch
    import safetensors
    import safetensors.torch
    import numpy
except ImportError as missing:
    print(f"skipped: {sys.executable} has no {missing.name}")
    sys.exit(77)

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(TESTS, "fixtures")
sys.path.insert(0, os.path.join(os.path.dirname(TESTS), "spec"))
import reader  # noqa: E402 -- lies in spec/

# Before 0.6 it refuses whole files that hold one tensor of a dtype that came later.
SAFETENSORS_VERSION = tuple(int(part) for part in safetensors.__version__.split(".")[:2])
TORCH_VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])

# What the fixtures hold beyond the classes that every reader knows. Named here, so trusted.
CLASSES = {
    ("argparse", "Namespace"): argparse.Namespace,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "Counter"): collections.Counter,
    ("builtins", "list"): list,
    ("datetime", "date"): datetime.date,
    ("numpy", "dtype"): numpy.dtype,
    # how pickle finds torch.channels_last: through the first module that imports torch
    ("torch._utils", "torch"): torch,
    ("torch._utils", "torch.channels_last"): torch.channels_last,
    ("builtins", "getattr"): getattr,
}


def know_jagged():
    """What jagged tensors are made of, where torch has them: torch allows it once it is imported."""
    if TORCH_VERSION < (2, 6):
        return
    importlib.import_module("torch._dynamo")
    for module, name in (("torch.nested._internal.nested_tensor", "NestedTensor"),
                         ("torch.nested._internal.nested_tensor", "_rebuild_njt"),
                         ("torch._dynamo.decorators", "_DimRange"),
                         ("torch._tensor", "_rebuild_from_type_v2")):
        CLASSES[module, name] = getattr(importlib.import_module(module), name)


# ---- training that can be resumed ---------------------------------------------------------------

class Training:
    """A small model with all that a real run keeps: two optimizers, a scheduler, a scaler, the
    state of the random generator."""

    def __init__(self):
        torch.manual_seed(11)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3),
            torch.nn.GELU(), torch.nn.Linear(16, 4))
        self.adamw = torch.optim.AdamW(self.net[0].parameters(), lr=1e-2, amsgrad=True)
        rest = [*self.net[1].parameters(), *self.net[4].parameters()]
        self.sgd = torch.optim.SGD(rest, lr=0.1, momentum=0.9, nesterov=True)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.adamw, 0.05, total_steps=20)
        self.scaler = (torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
                       if hasattr(torch.amp, "GradScaler")
                       else torch.cuda.amp.GradScaler(enabled=False))

    PARTS = ("net", "adamw", "sgd", "scheduler", "scaler")

    def state(self):
        state = {part: getattr(self, part).state_dict() for part in self.PARTS}
        return {**state, "rng": torch.get_rng_state(), "best": math.inf}

    def resume(self, state):
        for part in self.PARTS:
            getattr(self, part).load_state_dict(state[part])
        torch.set_rng_state(state["rng"])
        return self

    def run(self, steps):
        for _ in range(steps):
            loss = self.net(torch.randn(8, 6)).square().mean()
            self.adamw.zero_grad()
            self.sgd.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.adamw)
            self.scaler.step(self.sgd)
            self.scaler.update()
            self.scheduler.step()
        return self


def make(folder):
    print(f"torch {torch.__version__}, safetensors {safetensors.__version__}, "
          f"numpy {numpy.__version__}, Python {sys.version.split()[0]}", flush=True)
    os.makedirs(folder)
    torch.save(Training().run(5).state(), os.path.join(folder, "training.pth"))


def compare_resumed(work):
    """Resuming from either file gives the same run, bit for bit, as never having stopped."""
    original = load_pth(os.path.join(work, "made", "training.pth"))
    ours = reader.load(os.path.join(work, "converted", "made", "training.safetensors"),
                       classes=CLASSES)
    straight = Training().run(12).state()
    for name, state in (("torch", original), ("flatbed", ours)):
        Same().check(straight, Training().resume(state).run(7).state(), f"resumed from {name}")
    print("training resumed from both files, 7 more steps: bit-identical to the uninterrupted run")


# ---- equality of everything ---------------------------------------------------------------------

def tensor_bytes(tensor):
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    nbytes = plain.numel() * plain.element_size()
    return ctypes.string_at(plain.data_ptr(), nbytes) if nbytes else b""


def geometry(tensor):
    """Tensors with one geometry are the same bytes in the same form (A1)."""
    storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
    return (storage.data_ptr(), tensor.storage_offset(), tensor.dtype, tuple(tensor.shape),
            tuple(tensor.stride()), tensor.is_conj(), tensor.is_neg())


class Same:
    """Compares two object graphs: types, values, bits of tensors, and object identity."""

    def __init__(self):
        self.partners = {}     # id in one graph -> id in the other
        self.geometries = {}   # of tensors of the first graph -> data pointer in the second
        self.keep = []

    def check(self, a, b, path):
        if type(a) is not type(b):
            raise AssertionError(f"{path}: {type(a)} became {type(b)}: {b!r}")
        if isinstance(a, (dict, list, torch.Tensor, numpy.ndarray)):
            self.keep += [a, b]
            if id(a) in self.partners:
                self.demand(self.partners[id(a)] == id(b), path, "is another object")
                return
            self.demand(id(b) not in self.partners.values(), path, "is not an object of its own")
            self.partners[id(a)] = id(b)
        if isinstance(a, torch.Tensor) and str(a.layout) == "torch.jagged":
            # Its shape has a symbol that no other tensor has.
            for name in ("_values", "_offsets", "_lengths", "_ragged_idx", "_metadata_cache", "requires_grad"):
                self.check(getattr(a, name), getattr(b, name), f"{path}.{name}")
            return
        if isinstance(a, torch.Tensor):
            self.check_tensor(a, b, path)
        elif isinstance(a, (numpy.ndarray, numpy.generic)):
            self.demand(a.dtype == b.dtype and a.shape == b.shape, path, f"{a!r} became {b!r}")
            self.demand(a.tobytes() == b.tobytes(), path, f"{a!r} became {b!r}")
        elif isinstance(a, dict):
            self.check_dict(a, b, path)
        elif isinstance(a, (list, tuple)):
            self.demand(len(a) == len(b), path, f"{len(a)} items became {len(b)}")
            for index, (x, y) in enumerate(zip(a, b)):
                self.check(x, y, f"{path}.{index}")
        else:
            self.demand(repr(a) == repr(b), path, f"{a!r} became {b!r}")
        if hasattr(a, "__dict__") and not isinstance(a, type):
            self.check(vars(a), vars(b), f"{path}.__dict__")

    def check_dict(self, a, b, path):
        self.demand(len(a) == len(b), path, f"{len(a)} keys became {len(b)}")
        for (key_a, x), (key_b, y) in zip(a.items(), b.items()):
            self.check(key_a, key_b, f"{path} key {key_a!r}")
            self.check(x, y, f"{path}.{key_a}")

    def check_tensor(self, a, b, path):
        for what in ("dtype", "shape", "layout", "requires_grad"):
            x, y = getattr(a, what), getattr(b, what)
            self.demand(x == y, path, f"{what} {x} became {y}")
        if a.layout == torch.sparse_coo:
            self.check(a._indices(), b._indices(), path + ".indices")
            self.check(a._values(), b._values(), path + ".values")
        elif a.layout == torch.sparse_csr:
            self.check(a.crow_indices(), b.crow_indices(), path + ".crow_indices")
            self.check(a.values(), b.values(), path + ".values")
        elif a.is_quantized:
            self.demand(repr(a) == repr(b), path, f"{a} became {b}")
            self.check(a.int_repr(), b.int_repr(), path + ".int_repr")
        else:
            self.demand(tensor_bytes(a) == tensor_bytes(b), path, f"values differ: {a} {b}")
            pointer = self.geometries.setdefault(geometry(a), b.data_ptr())
            self.demand(pointer == b.data_ptr(), path, "no longer shares its storage")

    @staticmethod
    def demand(condition, path, message):
        if not condition:
            raise AssertionError(f"{path}: {message}")


# ---- converted files ----------------------------------------------------------------------------

def load_pth(path):
    if os.path.basename(path).startswith("pickled_"):
        with open(path, "rb") as file:
            return pickle.load(file)
    return torch.load(path, map_location="cpu", weights_only=False)


def compare_reader(pth, converted):
    """spec/reader.py gives back what torch.load gives."""
    Same().check(load_pth(pth), reader.load(converted, classes=CLASSES), os.path.basename(pth))


def compare_back(work):
    """A .pth that flatbed wrote gives what the original gave, read and mapped. Files whose names
    begin with unsafe- hold objects that weights_only refuses."""
    count = 0
    for version in ("made", "torch1", "torch2"):
        folder = os.path.join(work, "back", version)
        for file in sorted(os.listdir(folder)):
            unsafe = file.startswith("unsafe-")
            name = file.removeprefix("unsafe-")
            if unsafe and version == "torch1":
                continue
            if "whole_" in name:  # torch has not the code of the originals
                if not unsafe:
                    torch.load(os.path.join(folder, file), weights_only=True)
                continue
            source = work if version == "made" else FIXTURES
            try:
                original = load_pth(os.path.join(source, version, name))
            except (AttributeError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
                if TORCH_VERSION >= (2, 14) or version != "torch2":
                    raise
                print(f"{version}/{name}: torch {torch.__version__} loads not even the original: {error}"[:200])
                continue
            for mmap in (False, True):
                back = torch.load(os.path.join(folder, file), weights_only=not unsafe, mmap=mmap)
                Same().check(original, back, f"{version}/{file}, mmap={mmap}")
            count += 1
    original = Training().run(12).state()
    state = torch.load(os.path.join(work, "back", "made", "training.pth"), weights_only=True)
    Same().check(original, Training().resume(state).run(7).state(), "resumed from flatbed's .pth")
    print(f"{count} files: torch.load of flatbed's .pth gives the objects of the original")


def read_header(path):
    with open(path, "rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def compare_safetensors(truth, converted):
    """safetensors' own library reads every tensor, with the bits that torch saw; returns how many
    it could and how many are of dtypes that it does not give to torch."""
    header = read_header(converted)
    aliases = json.loads(header["__metadata__"].get("flatbed.aliases", "{}"))
    read, unknown = 0, 0
    with safetensors.safe_open(converted, "pt") as file:
        assert set(file.keys()) == set(header) - {"__metadata__"}
        assert file.metadata() == header["__metadata__"]
        for name, (dtype, shape, digest) in truth["tensors"].items():
            stored = aliases.get(name, name)
            if digest is None:
                continue
            try:
                tensor = file.get_tensor(stored)
            except (safetensors.SafetensorError, AttributeError, KeyError, TypeError) as error:
                print(f"  safetensors cannot give {dtype} to torch: {error}")
                unknown += 1
                continue
            found = hashlib.sha256(tensor_bytes(tensor)).hexdigest()
            assert found == digest, f"{converted}: {name}: other bytes"
            if dtype == str(tensor.dtype).replace("torch.", ""):
                assert list(tensor.shape) == shape, f"{converted}: {name}: another shape"
            else:
                assert dtype in ("complex32", "complex128", "bcomplex32"), (name, dtype)
                assert list(tensor.shape) == shape + [2], f"{converted}: {name}: another shape"
            read += 1
        if TORCH_VERSION >= (2, 14):
            compare_torch_load(file, converted)
    return read, unknown


def compare_torch_load(file, converted):
    """torch.load reads safetensors files by itself since 2.14."""
    flat = torch.load(converted)
    assert set(flat) == set(file.keys()), converted
    for name, tensor in flat.items():
        assert tensor_bytes(tensor) == tensor_bytes(file.get_tensor(name)), f"{converted}: {name}"


def compare_fixtures(work):
    total = 0
    for version in ("torch1", "torch2"):
        folder = os.path.join(work, "converted", version)
        for file in sorted(os.listdir(folder)):
            stem = os.path.splitext(file)[0]
            pth = os.path.join(FIXTURES, version, stem + ".pth")
            truth_path = os.path.join(FIXTURES, version, stem + ".truth.json")
            if not os.path.exists(truth_path):
                continue  # a checkpoint with whole models: of these there are truths
            with open(truth_path, encoding="utf-8") as text:
                truth = json.load(text)
            try:
                read, unknown = compare_safetensors(truth, os.path.join(folder, file))
            except safetensors.SafetensorError as error:
                if SAFETENSORS_VERSION >= (0, 6):
                    raise
                print(f"{version}/{stem}: safetensors {safetensors.__version__} does not know its dtypes: {error}")
                continue
            # Whole models became their state dicts; torch cannot load them here, without their code.
            if "whole_" not in stem and (TORCH_VERSION >= (2, 14) or version == "torch1"):
                compare_reader(pth, os.path.join(folder, file))
                total += 1
            print(f"{version}/{stem}: {read} tensors through safetensors, {unknown} that it "
                  "cannot give to torch", flush=True)
    print(f"{total} files: reader.load gives the objects of torch.load")


def save_again(work):
    """What people do to a sealed file with the safetensors library; run_oracle.py has flatbed
    judge the results."""
    source = os.path.join(work, "converted", "torch2", "state_dict.safetensors")
    out = os.path.join(work, "saved_again")
    os.makedirs(out)
    with safetensors.safe_open(source, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}

    def save(name, changes, metadata):
        kept = {key: value for key, value in {**tensors, **changes}.items() if value is not None}
        safetensors.torch.save_file(kept, os.path.join(out, name + ".safetensors"), metadata)

    weight = tensors["0.weight"]
    save("metadata_kept", {}, metadata)
    save("value_changed", {"0.weight": weight + 1}, metadata)
    save("dtype_changed", {"0.weight": weight.double()}, metadata)
    save("tensor_dropped", {"0.weight": None}, metadata)
    save("no_metadata", {}, None)


def main():
    command, folder = sys.argv[1:]
    know_jagged()
    if command == "make":
        make(folder)
        return
    compare_fixtures(folder)
    compare_resumed(folder)
    compare_back(folder)
    save_again(folder)


if __name__ == "__main__":
    main()
