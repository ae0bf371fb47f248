"""Makes the objects of a checkpoint with torch's tensors, Parameters, sizes and devices."""

from __future__ import annotations

import collections
import ctypes
from typing import Any, Callable, cast

import torch

from .. import errors
from .._factory import Factory, full_name, malformed
from ..inert import Global, Object
from ._allowed import Allowed
from ._memory import Memory
from ._storage import as_bytes, typed, untyped

# torch's functions that make one dense tensor of a storage; the tensor stands in the place of their
# arguments.
_DENSE = {
    f"torch._utils.{name}"
    for name in (
        "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor",
        "_rebuild_parameter", "_rebuild_parameter_with_state",
        "_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor",
    )
}  # fmt: skip


def _size(sizes: Any = ()) -> torch.Size:
    if not all(type(size) is int for size in sizes):
        raise TypeError("sizes that are not ints")
    return torch.Size(sizes)


def _device(kind: Any, index: Any = None) -> torch.device:
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise TypeError("expected a device's type and index")
    return torch.device(kind) if index is None else torch.device(kind, index)


def _counter(*args: Any) -> collections.Counter[Any]:
    if args and not isinstance(args[0], dict):
        raise TypeError("a Counter of something that is no dict")
    return collections.Counter(*args)


def set_attributes(value: Any, state: Any) -> None:
    """Python attributes: a dict, or a tuple of one and of the slots."""
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    for part in (state, slots):
        if part is not None and not isinstance(part, dict):
            raise malformed(f"attributes of {type(value).__name__} that are no dict")
    try:
        if state:
            vars(value).update(state)
        for name, item in (slots or {}).items():
            setattr(value, name, item)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise malformed(f"attributes of {type(value).__name__}: {error}") from error


class TorchFactory(Factory):
    """``unknown`` is "inert", or "raise" for calls that are not made."""

    def __init__(self, memory: Memory, allowed: Allowed, unknown: str) -> None:
        super().__init__()
        self.memory, self.allowed, self.unknown = memory, allowed, unknown
        self.makers: dict[str, Callable[..., Any]] = {
            **{name: make for name, (_, make) in self.known.items() if make is not None},
            "collections.Counter": _counter,
            "torch.Size": _size,
            "torch.device": _device,
            "torch.nn.parameter.Parameter": torch.nn.Parameter,
            "torch.storage.UntypedStorage": untyped,
        }
        self.dense = {id(getattr(torch._utils, name.rpartition(".")[2], None)) for name in _DENSE}

    # ---- leaves ---------------------------------------------------------------------------------

    def tensor(self, index: int, attributes: dict[str, Any]) -> torch.Tensor:
        try:
            tensor = self.memory.tensor(index, attributes)
            if attributes.get("parameter"):
                tensor = torch.nn.Parameter(tensor, attributes.get("requires_grad", False))
            elif attributes.get("requires_grad"):
                if not (tensor.is_floating_point() or tensor.is_complex()):
                    raise TypeError(f"requires_grad of {tensor.dtype}, expected floats")
                tensor.requires_grad_(True)
        except (TypeError, ValueError, IndexError) as error:
            raise malformed(f"tensor {self.memory.rows[index].name!r}: {error}") from error
        if "state" in attributes:
            set_attributes(tensor, attributes["state"])
        return tensor

    def long_bytes(self, index: int) -> bytes:
        if self.memory.is_meta:  # whose tensors have no memory
            return self.memory.checkpoint[self.memory.rows[index].name].read()
        return ctypes.string_at(*as_bytes(self.memory.blocks[index]))

    def array(self, index: int, typestr: str) -> Any:
        from ..numpy._arrays import array_of

        row = self.memory.rows[index]
        if self.memory.is_meta:
            import numpy

            block = numpy.frombuffer(bytearray(self.long_bytes(index)), numpy.uint8)
        else:
            block = self.memory.blocks[index].numpy()
        return array_of(block, row.shape, typestr)

    def scalar(self, typestr: str, data: bytes) -> Any:
        try:
            import numpy
        except ImportError:
            return super().scalar(typestr, data)
        return numpy.frombuffer(bytearray(data), typestr)[0]

    # ---- names and calls ------------------------------------------------------------------------

    def named(self, module: str, qualname: str) -> Any:
        found = self.allowed.find(f"{module}.{qualname}")
        return Global(module, qualname) if found is None else found

    def call(self, function: Any, args: tuple[Any, ...]) -> Any:
        if isinstance(function, Global) and function.module == "copyreg":
            return self._new(function, args)
        return super().call(function, args)

    def inert(self, function: Any, args: tuple[Any, ...]) -> Object:
        made = super().inert(function, args)
        if self.unknown == "raise":
            what = f"an object of {made.class_name} that is made by {full_name(function)}"
            raise errors._from_code(173, "weights_only_refused", f"{what} is not allowed")
        return made

    def maker(self, function: Any) -> Callable[..., Any] | None:
        name = full_name(function)
        if name == "torch._tensor._rebuild_from_type_v2":
            return self._from_type
        if name in self.makers:
            return self.makers[name]
        if any(function is kind for kind in torch._storage_classes):
            return lambda tensor: typed(untyped(tensor), tensor_dtype(function))
        # Other names may be values, but a call of torch.FloatTensor would only ask for memory.
        # An object's attributes may say that it is one of those, so it has to be the one.
        rebuilds = name.startswith("torch._utils._rebuild_") and self.allowed.find(name) is function
        if not rebuilds and not self.allowed.by_user(function):
            return None
        return cast("Callable[..., Any]", function)

    def _new(self, function: Global, args: tuple[Any, ...]) -> Any:
        """An object that its class makes, where that is allowed."""
        kind: Any = args[0] if args else None
        if kind is torch.nn.Parameter and function.qualname == "__newobj__":
            return torch.nn.Parameter(*args[1:])
        if not isinstance(kind, type) or not self.allowed.by_user(kind):
            return self.inert(function, args)
        plain = (Global("builtins", "object"), None)
        if function.qualname == "_reconstructor" and args[1:] == plain:
            return object.__new__(kind)
        if function.qualname == "__newobj__":
            return kind.__new__(*args)
        if function.qualname == "__newobj_ex__" and len(args) == 3:
            return kind.__new__(kind, *args[1], **args[2])
        return self.inert(function, args)

    def _from_type(self, function: Any, kind: Any, args: tuple[Any, ...], state: Any) -> Any:
        if any(isinstance(part, (Global, Object)) for part in (function, kind, *args)):
            return self.inert(
                Global("torch._tensor", "_rebuild_from_type_v2"), (function, kind, args, state)
            )
        of_tensor = len(args) == 1 and isinstance(args[0], torch.Tensor)
        if of_tensor and id(function) in self.dense:
            return torch._tensor._rebuild_from_type_v2(lambda tensor: tensor, kind, args, state)
        make = self.maker(function)
        if make is None:  # such as torch.FloatTensor, of a number: memory that nobody has written
            return self.inert(
                Global("torch._tensor", "_rebuild_from_type_v2"), (function, kind, args, state)
            )
        return torch._tensor._rebuild_from_type_v2(make, kind, args, state)

    def extend(self, made: Any, items: list[Any]) -> None:
        self._check_filled(made, list)
        super().extend(made, items)

    def update(self, made: Any, pairs: list[tuple[Any, Any]]) -> None:
        self._check_filled(made, dict)
        super().update(made, pairs)

    def _check_filled(self, made: Any, kind: type) -> None:
        """Items are for lists and pairs for dicts: ``tensor[key] = value`` would run torch."""
        if isinstance(made, (Object, kind)) or self.allowed.by_user(type(made)):
            return
        raise malformed(f"items of {type(made).__name__}, expected a {kind.__name__}")

    def set_state(self, made: Any, state: Any) -> None:
        if isinstance(made, Object) or not self.allowed.by_user(type(made)):
            super().set_state(made, state)
        elif hasattr(made, "__setstate__"):
            made.__setstate__(state)
        else:
            set_attributes(made, state)


def tensor_dtype(storage_class: Any) -> torch.dtype:
    """The dtype of a class of storages, such as torch.FloatStorage."""
    dtype = getattr(storage_class, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else storage_class().dtype
