"""flatbed: model checkpoints as safetensors files: trusted, mapped, resumed from.

    import flatbed

    ckpt = flatbed.open("model.pth")  # any layout, any set: a Mapping of names to Tensors
    ckpt["fc.weight"].shape
"""

from collections.abc import Mapping as _Mapping
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._flatbed import ERROR_CODES, Checkpoint, Tensor, open
from ._flatbed import VERSION as __version__
from .commands import convert, diff, match, scan, verify
from .errors import DeviceError, Error, FileError, FormatError, SealError, TensorNotFoundError

if _TYPE_CHECKING:
    from . import reports

_Mapping.register(Checkpoint)

__all__ = [
    "ERROR_CODES",
    "Checkpoint",
    "DeviceError",
    "Error",
    "FileError",
    "FormatError",
    "SealError",
    "Tensor",
    "TensorNotFoundError",
    "__version__",
    "convert",
    "diff",
    "match",
    "open",
    "reports",
    "scan",
    "verify",
]


def __getattr__(name: str) -> object:
    """``flatbed.reports`` is imported when it is first used: it takes most of the time."""
    if name != "reports":
        raise AttributeError(f"module 'flatbed' has no attribute {name!r}")
    import importlib

    return importlib.import_module("flatbed.reports")
