"""Tensors of PyTorch, numpy and others from the memory of a file, whole and in parts."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Optional

from ._errors import SafetensorError
from ._index import read_index

_KINDS = {
    "pt": "pytorch", "torch": "pytorch", "pytorch": "pytorch",
    "np": "numpy", "numpy": "numpy",
    "tf": "tensorflow", "tensorflow": "tensorflow",
    "jax": "flax", "flax": "flax",
    "mlx": "mlx",
    "paddle": "paddle",
}  # fmt: skip

# Those that torch knows and that may have a number.
_ACCELERATORS = ("cuda", "musa", "npu", "xpu", "xla", "mlu", "hpu")

# The names of the dtypes in torch and numpy.
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64",
    "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}  # fmt: skip

_NUMPY_DTYPES = frozenset(
    ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64")
)


def kind_of(framework: str) -> str:
    """The framework of this name.

    Raises:
        SafetensorError: it is unknown.
    """
    if not isinstance(framework, str):
        raise TypeError(f"framework must be a str, not {type(framework).__name__}")
    kind = _KINDS.get(framework)
    if kind is None:
        raise SafetensorError(f"framework {framework} is invalid")
    return kind


def _parse_device(device: Any) -> Optional[Any]:
    if isinstance(device, str):
        name, colon, number = device.partition(":")
        if device == "cpu":
            return None
        if name in _ACCELERATORS and (not colon or number.isdecimal()):
            return device if colon else device + ":0"
        if device in ("mps", "mps:0"):
            return "mps"
    elif isinstance(device, int) and not isinstance(device, bool) and device >= 0:
        return device
    elif type(device).__name__ == "device":  # a torch.device
        return _parse_device(str(device))
    raise SafetensorError(f"device {device} is invalid")


def check_device(device: Any, kind: str) -> Optional[Any]:
    """Where tensors go; None is the CPU.

    Raises:
        SafetensorError: there is no such device, or the framework has none.
    """
    place = None if device is None else _parse_device(device)
    if place is not None and kind not in ("pytorch", "paddle"):
        raise SafetensorError(f"Device {place} is not supported for framework {kind}")
    return place


@functools.lru_cache(maxsize=64)
def framework(kind: str, place: Optional[Any]) -> Any:
    """What makes the tensors of this framework on this device."""
    if kind == "pytorch":
        return _Torch(place)
    return _Numpy() if kind == "numpy" else _Converted(kind, place)


def _unknown_dtype(dtype: str, module: Any) -> SafetensorError:
    return SafetensorError(
        f"dtype {dtype}: {module.__name__} {module.__version__} has none like it",
        42,
        "unknown_dtype",
    )


class _Torch:
    """Tensors of PyTorch."""

    takes_mapped = True

    def __init__(self, place: Optional[Any]) -> None:
        self._torch = importlib.import_module("torch")
        self._place = place
        self._dtypes: dict[str, Any] = {}

    def _dtype(self, dtype: str) -> Any:
        found = self._dtypes.get(dtype)
        if found is None:
            found = getattr(self._torch, _DTYPES.get(dtype, ""), None)
            if found is None:
                raise _unknown_dtype(dtype, self._torch)
            self._dtypes[dtype] = found
        return found

    @staticmethod
    def _torch_shape(dtype: str, shape: list[int]) -> list[int]:
        if dtype != "F4":
            return shape
        if not shape or shape[-1] % 2:
            raise SafetensorError(f"F4 of shape {shape}: PyTorch needs an even last dimension")
        return [*shape[:-1], shape[-1] // 2]

    def _host(self, memory: Any, dtype: str, shape: list[int]) -> Any:
        """The tensor in the host's memory; ``shape`` is PyTorch's."""
        if 0 in shape:
            return self._torch.empty(shape, dtype=self._dtype(dtype), device="cpu")
        flat = self._torch.frombuffer(memory, dtype=self._dtype(dtype))
        return flat if len(shape) == 1 else flat.view(shape)

    def _placed(self, tensor: Any) -> Any:
        return tensor if self._place is None else tensor.to(self._place)

    def tensor(self, memory: Any, dtype: str, shape: list[int]) -> Any:
        return self._placed(self._host(memory, dtype, self._torch_shape(dtype, shape)))

    def part(self, of: Any, index: Any) -> Any:
        dtype, shape = of._dtype, self._torch_shape(of._dtype, of._shape)
        if isinstance(index, list) and not index:
            index = slice(0, 0)
        if 0 in shape:
            return self._placed(self._host(None, dtype, shape)[index])
        if not _takes_view(index):  # what copies must find verified bytes
            of._check(0, of._nbytes)
            return self._placed(self._whole(of, dtype, shape)[index])
        if of._copies:
            return self._placed(self._read_part(of, dtype, shape, index))
        whole = self._host(of._mapped(), dtype, shape)
        part = whole[index]
        if part.is_contiguous():
            begin = part.data_ptr() - whole.data_ptr() if part.numel() else 0
            of._check(begin, begin + part.numel() * part.element_size())
        else:
            of._check(0, of._nbytes)
        return self._placed(part)

    def _whole(self, of: Any, dtype: str, shape: list[int]) -> Any:
        return self._host(of._read(0, of._nbytes) if of._copies else of._mapped(), dtype, shape)

    def _read_part(self, of: Any, dtype: str, shape: list[int], index: Any) -> Any:
        """A part in memory of its own."""
        plan = self._torch.empty(shape, dtype=self._dtype(dtype), device="meta")[index]
        if not plan.numel():
            return self._torch.empty(plan.shape, dtype=plan.dtype, device="cpu")
        if not plan.is_contiguous():
            return self._whole(of, dtype, shape)[index].contiguous()
        size = plan.element_size()
        memory = of._read(plan.storage_offset() * size, plan.numel() * size)
        return self._host(memory, dtype, list(plan.shape))


def _takes_view(index: Any) -> bool:
    """Whether an index of PyTorch gives a view of the tensor, and no copy."""
    # A tuple inside a tuple is a list of positions, which copies.
    return all(map(_keeps_view, index if isinstance(index, tuple) else (index,)))


def _keeps_view(item: Any) -> bool:
    if item is None or item is Ellipsis or isinstance(item, slice):
        return True
    return isinstance(item, int) and not isinstance(item, bool)


class _Numpy:
    """Arrays of numpy."""

    takes_mapped = False  # so that arrays do not depend on the file

    def __init__(self) -> None:
        self._numpy = importlib.import_module("numpy")
        self._dtypes: dict[str, Any] = {}

    def _dtype(self, dtype: str) -> Any:
        found = self._dtypes.get(dtype)
        if found is None:
            found = self._dtypes[dtype] = self._find_dtype(dtype)
        return found

    def _find_dtype(self, dtype: str) -> Any:
        name = _DTYPES.get(dtype, "")
        if dtype in _NUMPY_DTYPES:
            return self._numpy.dtype(name)
        try:
            return self._numpy.dtype(getattr(importlib.import_module("ml_dtypes"), name))
        except (ImportError, AttributeError):
            raise _unknown_dtype(dtype, self._numpy) from None

    def tensor(self, memory: Any, dtype: str, shape: list[int]) -> Any:
        if 0 in shape:
            return self._numpy.empty(shape, dtype=self._dtype(dtype))
        return self._numpy.frombuffer(memory, dtype=self._dtype(dtype)).reshape(shape)

    def part(self, of: Any, index: Any) -> Any:
        chosen = read_index(index, of._shape)
        dtype = self._dtype(of._dtype)
        run = chosen.run()
        if run is not None:  # contiguous in the file
            begin, count = run
            memory = of._read(begin * dtype.itemsize, count * dtype.itemsize)
            return _Numpy.tensor(self, memory, of._dtype, chosen.shape())
        if of._maps:
            of._check(0, of._nbytes)
            memory = of._mapped()
        else:
            memory = of._read(0, of._nbytes)
        whole = self._numpy.frombuffer(memory, dtype=dtype).reshape(of._shape)
        return whole[chosen.items()].copy()


class _Converted(_Numpy):
    """Tensors of a framework that takes arrays of numpy."""

    _MODULES = {
        "tensorflow": ("tensorflow", "tensorflow", "convert_to_tensor"),
        "flax": ("flax", "jax.numpy", "array"),
        "mlx": ("mlx", "mlx.core", "array"),
        "paddle": ("paddle", "paddle", "to_tensor"),
    }

    def __init__(self, kind: str, place: Optional[Any]) -> None:
        super().__init__()
        package, module, function = self._MODULES[kind]
        importlib.import_module(package)  # registers dtypes with numpy
        self._convert = getattr(importlib.import_module(module), function)
        self._arguments: dict[str, Any] = {}
        if kind == "paddle":
            place = "cpu" if place is None else str(place).replace("cuda", "gpu")
            self._arguments["place"] = place

    def tensor(self, memory: Any, dtype: str, shape: list[int]) -> Any:
        return self._convert(super().tensor(memory, dtype, shape), **self._arguments)

    def part(self, of: Any, index: Any) -> Any:
        return self._convert(super().part(of, index), **self._arguments)
