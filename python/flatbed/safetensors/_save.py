"""Writing: serialize(), serialize_file() and TensorSpec; and deserialize()."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional, Union

from .. import _flatbed
from .._flatbed import TensorSpec as TensorSpec
from ._errors import SafetensorError, reported
from ._modes import check_verify

PathLike = Union[str, "os.PathLike[str]"]
SavedTensors = Dict[str, TensorSpec]
Metadata = Optional[Dict[str, str]]


def serialize(tensor_dict: SavedTensors, metadata: Metadata = None, *, seal: bool = False) -> bytes:
    """The safetensors file of these tensors, as bytes.

    Args:
        tensor_dict: the tensors by name.
        metadata: pairs of texts for the header.
        seal: whether the file is sealed. Without, its bytes are those that safetensors writes.

    Raises:
        SafetensorError: the tensors do not make a file.
    """
    with reported("Error while serializing: "):
        return _flatbed.safetensors_serialize(tensor_dict, metadata, seal)


def serialize_file(
    tensor_dict: SavedTensors, filename: PathLike, metadata: Metadata = None, *, seal: bool = False
) -> None:
    """Writes the safetensors file of these tensors.

    The file appears complete or not at all. A sealed file is also on disk when this returns;
    without a seal that is left to the system, as safetensors does.

    Args:
        tensor_dict: the tensors by name.
        filename: where to write; a file that exists is replaced.
        metadata: pairs of texts for the header.
        seal: whether the file is sealed. Without, its bytes are those that safetensors writes.

    Raises:
        SafetensorError: the tensors do not make a file, or it cannot be written.
    """
    path = os.fspath(filename)
    if "\0" in path:
        raise SafetensorError("Error while serializing: a file's name has no NUL")
    with reported("Error while serializing: "):
        _flatbed.safetensors_serialize_file(tensor_dict, path, metadata, seal)


def deserialize(bytes: bytes, *, verify: str = "tensor") -> list[tuple[str, dict[str, Any]]]:
    """The tensors of a safetensors file in memory.

    Args:
        bytes: the file.
        verify: ``"off"`` ignores a seal; otherwise every chunk of a sealed file is verified.

    Returns:
        ``(name, {"shape": [...], "dtype": "F32", "data": bytearray})`` of every tensor, in the
        order of the file.

    Raises:
        SafetensorError: the file is damaged or not safetensors.
    """
    check_verify(verify)
    with reported("Error while deserializing: "):
        tensors = _flatbed.safetensors_deserialize(bytes, verify != "off")
    return [
        (name, {"shape": shape, "dtype": dtype, "data": data})
        for name, dtype, shape, data in tensors
    ]
