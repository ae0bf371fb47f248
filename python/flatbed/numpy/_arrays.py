"""numpy's dtypes and the stored ones (T6 of the specification)."""

from __future__ import annotations

from typing import Any, Mapping

import numpy

from .. import _flatbed

# Stored under their own dtype, little-endian whatever the array's byte order is.
DTYPES = {
    "b1": "BOOL", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64", "u1": "U8", "u2": "U16",
    "u4": "U32", "u8": "U64", "f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64",
}  # fmt: skip
TYPES = {dtype: "<" + kind for kind, dtype in DTYPES.items()}
# What numpy has with ml_dtypes only.
EXTENSIONS = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip


def array_of(data: numpy.ndarray[Any, Any], shape: tuple[int, ...], typestr: str) -> Any:
    """The array of a tree's node: ``data`` are its bytes, ``shape`` is the stored one."""
    kind = typestr[1:]
    if kind in DTYPES:
        array = data.view("<" + kind).reshape(shape)
        return array.astype(typestr) if typestr[0] == ">" else array
    if kind == "c16":
        array = data.view("<c16").reshape(shape[:-1])
        return array.astype(typestr) if typestr[0] == ">" else array
    return data.view(typestr).reshape(shape[:-1])


def numpy_dtype(dtype: str) -> numpy.dtype[Any] | None:
    """numpy's dtype of a stored one; None if there is none."""
    if dtype in TYPES:
        return numpy.dtype(TYPES[dtype])
    if dtype not in EXTENSIONS:
        return None
    try:
        import ml_dtypes
    except ImportError:
        return None
    found = getattr(ml_dtypes, EXTENSIONS[dtype], None)
    return None if found is None else numpy.dtype(found)


def stored_dtype(dtype: numpy.dtype[Any]) -> str | None:
    """The name under which arrays of this dtype are stored; None if they cannot be."""
    if dtype.str[1:] in DTYPES and dtype.names is None:
        return DTYPES[dtype.str[1:]]
    for name, extension in EXTENSIONS.items():
        if dtype.name == extension:
            return name
    return None


def plan_of(arrays: Mapping[str, Any]) -> _flatbed.Plan:
    """A plan to save arrays by name, of which it keeps those that are as they are stored."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"expected a dict of names and arrays, not {type(arrays).__name__}")
    rows, keep = [], []
    for name, value in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} is not a str")
        array = numpy.asarray(value)
        dtype = stored_dtype(array.dtype)
        if dtype is None:
            raise TypeError(f"{name!r}: arrays of dtype {array.dtype} cannot be saved")
        array = numpy.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        keep.append(array)
        rows.append((name, dtype, array.shape, array.ctypes.data, array.nbytes))
    return _flatbed.plan_tensors(rows, keep)
