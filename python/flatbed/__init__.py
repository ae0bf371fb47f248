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
    from . import reports, series
    from .series import Series

_Mapping.register(Checkpoint)

__all__ = [
    "ERROR_CODES",
    "Checkpoint",
    "DeviceError",
    "Error",
    "FileError",
    "FormatError",
    "SealError",
    "Series",
    "Tensor",
    "TensorNotFoundError",
    "__version__",
    "convert",
    "diff",
    "match",
    "open",
    "reports",
    "scan",
    "series",
    "verify",
]


def __getattr__(name: str) -> object:
    """``reports``, ``series`` and ``Series`` are imported when they are first used: they take most
    of the time."""
    if name not in ("reports", "series", "Series"):
        raise AttributeError(f"module 'flatbed' has no attribute {name!r}")
    import importlib

    module = importlib.import_module("flatbed." + name.lower())
    return module if name != "Series" else module.Series
