"""Safetensors files of numpy arrays, as ``safetensors.numpy`` reads and writes them."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from . import TensorSpec, deserialize, safe_open, serialize, serialize_file
from ._frameworks import framework
from ._save import Metadata, PathLike

__all__ = ["load", "load_file", "save", "save_file"]

Array = Any  # numpy.ndarray


def save(
    tensor_dict: Mapping[str, Array], metadata: Metadata = None, *, seal: bool = False
) -> bytes:
    """The safetensors file of these arrays, as bytes.

    Args:
        tensor_dict: the arrays by name, in any byte order.
        metadata: pairs of texts for the header.
        seal: whether the file is sealed.

    Raises:
        ValueError: an array is not contiguous in C order.
        SafetensorError: a dtype has no name in a file.
    """
    arrays = _little_endian(tensor_dict)
    return serialize(_specs(arrays), metadata, seal=seal)


def save_file(
    tensor_dict: Mapping[str, Array],
    filename: PathLike,
    metadata: Metadata = None,
    *,
    seal: bool = False,
) -> None:
    """Writes the safetensors file of these arrays; it appears complete or not at all.

    Args:
        tensor_dict: the arrays by name, in any byte order.
        filename: where to write; a file that exists is replaced.
        metadata: pairs of texts for the header.
        seal: whether the file is sealed, and on disk when this returns.

    Raises:
        ValueError: an array is not contiguous in C order.
        SafetensorError: a dtype has no name in a file, or the file cannot be written.
    """
    arrays = _little_endian(tensor_dict)
    serialize_file(_specs(arrays), filename, metadata, seal=seal)


def load(data: bytes, *, verify: str = "tensor") -> dict[str, Array]:
    """The arrays of a safetensors file in memory, by name.

    Args:
        data: the file.
        verify: ``"off"`` ignores a seal; otherwise every chunk of a sealed file is verified.

    Raises:
        SafetensorError: the file is damaged or not safetensors.
    """
    make = framework("numpy", None).tensor
    return {
        name: make(tensor["data"], tensor["dtype"], tensor["shape"])
        for name, tensor in deserialize(data, verify=verify)
    }


def load_file(
    filename: PathLike, *, backend: str = "mmap", verify: Optional[str] = None
) -> dict[str, Array]:
    """The arrays of a safetensors file by name, each in memory of its own.

    Args:
        filename: the path of the file.
        backend: ``"mmap"`` or ``"pread"``; arrays are read either way.
        verify: ``"tensor"`` (the default) or ``"copy"``: chunks of a sealed file are hashed while
            they are read; ``"off"``: its seal is ignored.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: the file is damaged or not safetensors.
    """
    with safe_open(filename, framework="np", backend=backend, verify=verify) as file:
        return file.get_tensors()


def _little_endian(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays as a file has them."""
    made = {}
    for name, array in arrays.items():
        if not array.flags.c_contiguous:
            raise ValueError(f"array {name!r} is not contiguous in C order: pass a copy of it")
        made[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return made


def _specs(arrays: Mapping[str, Array]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            dtype=array.dtype.name,
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
