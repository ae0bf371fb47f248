"""``Tensor.__array__``: the only place of ``import flatbed`` where numpy comes in."""

from __future__ import annotations

from typing import Any

from ._flatbed import Tensor, check_expansion

# The dtypes that numpy has, with its names.
NUMPY_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "C64": "<c8",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}


def as_array(tensor: Tensor, dtype: Any, copy: bool | None) -> Any:
    """The array for ``numpy.asarray(tensor)`` and ``numpy.array(tensor)``.

    Raises:
        TypeError: numpy has no such dtype.
        ValueError: ``copy`` is False, and another dtype needs a copy.
    """
    import numpy as np

    own = NUMPY_DTYPES.get(tensor.dtype)
    if own is None:
        raise TypeError(
            f"tensor {tensor.name!r}: numpy has no dtype {tensor.dtype}; "
            "use read(), DLPack or Checkpoint.cast()"
        )
    wanted = np.dtype(own if dtype is None else dtype)
    if copy is False and wanted != own:
        raise ValueError(f"{tensor.dtype} as {wanted} needs a copy")
    if copy:
        check_expansion(tensor)
        array = np.empty(tensor.shape, own)
        tensor.read_into(array)
    else:
        array = np.asarray(memoryview(tensor))
    return array.astype(wanted, copy=False)
