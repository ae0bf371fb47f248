"""Storages in every torch since 1.13, and which dtype a stored tensor has."""

from __future__ import annotations

from typing import Any

import torch

# The dtypes of safetensors, as torch names them.
TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32",
    "U32": "uint32", "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu", "F4": "float4_e2m1fn_x2",
}  # fmt: skip
_TYPED = getattr(torch.storage, "TypedStorage", None) or torch.storage._TypedStorage
_UNTYPED = getattr(torch, "UntypedStorage", None) or torch.storage._UntypedStorage
STORAGES = (_TYPED, _UNTYPED)
# Stored with one more dimension: the real and the imaginary parts.
PAIRS = ("complex32", "complex128", "bcomplex32")


class Row:
    """What the checkpoint knows about one tensor."""

    __slots__ = ("begin", "dtype", "name", "nbytes", "shape", "storage")

    def __init__(self, row: tuple[str, str, tuple[int, ...], int, int, int | None]) -> None:
        self.name, self.dtype, self.shape, self.nbytes, self.storage, self.begin = row


def torch_dtype(name: str, where: str) -> torch.dtype:
    dtype = vars(torch).get(name)  # getattr() may import a module
    if isinstance(dtype, torch.dtype):
        return dtype
    from .. import errors

    raise errors._from_code(
        174, "not_in_torch", f"tensor {where!r}: torch {torch.__version__} has no dtype {name!r}"
    )


def untyped(tensor: torch.Tensor) -> Any:
    """The storage of a tensor, as bytes."""
    if hasattr(tensor, "untyped_storage"):
        return tensor.untyped_storage()
    storage = tensor.storage()
    return storage.untyped() if hasattr(storage, "untyped") else storage._untyped()


def typed(storage: Any, dtype: torch.dtype) -> Any:
    """A storage as elements of a dtype, as the functions that rebuild tensors take it."""
    try:
        return _TYPED(wrap_storage=storage, dtype=dtype, _internal=True)
    except (TypeError, RuntimeError):  # before 2.0
        return _TYPED(wrap_storage=storage, dtype=dtype)


def as_bytes(tensor: torch.Tensor) -> tuple[int, int]:
    """The address and the size in bytes of a tensor that is one block."""
    return tensor.data_ptr(), tensor.numel() * tensor.element_size()


# Integers, and a pair of floats, to copy elements of any dtype bit for bit.
SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}
# A view whose elements lie further apart than this is loaded as one block, with other strides.
MAX_SPREAD, _ALWAYS_SPREAD = 16, 65536
ALWAYS_SPARE = 1 << 26  # bytes that all of them may take besides


def spread(
    block: torch.Tensor,
    itemsize: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    max_nbytes: int,
) -> torch.Tensor | None:
    """The elements of ``block``, which holds bytes in C order, with these strides.

    Returns the bytes of a new storage, or None if it would be far larger than the elements, or
    than ``max_nbytes``.
    """
    elements = block.view(SAME_SIZE[itemsize]).view(size)
    count = elements.numel()
    extent = 1 + sum((n - 1) * step for n, step in zip(size, stride))
    if extent > max(MAX_SPREAD * count, _ALWAYS_SPREAD) or extent * itemsize > max_nbytes:
        return None
    storage = torch.zeros(extent, dtype=elements.dtype)
    put(elements, storage, stride)
    return storage.view(torch.uint8)


def put(elements: torch.Tensor, storage: torch.Tensor, stride: tuple[int, ...]) -> None:
    """Copies elements to where a view with these strides has them, from the storage's begin on."""
    for dim, step in enumerate(stride):
        if step == 0:
            elements = elements.narrow(dim, 0, 1)
    if _is_apart(elements.shape, stride):
        storage.as_strided(elements.shape, stride, storage.storage_offset()).copy_(elements)
        return
    # Several elements are in one place, and have one value.
    places = torch.zeros((), dtype=torch.int64)
    for dim, (n, step) in enumerate(zip(elements.shape, stride)):
        steps = torch.arange(n) * step
        places = places + steps.view([-1 if i == dim else 1 for i in range(len(stride))])
    storage[places.reshape(-1)] = elements.reshape(-1)


def _is_apart(size: Any, stride: tuple[int, ...]) -> bool:
    """Whether no two elements are in one place, for views of the usual forms."""
    reach = 0
    for step, n in sorted(zip(stride, size)):
        if n > 1 and step <= reach:
            return False
        reach += (n - 1) * step if n > 1 else 0
    return True
