"""flatbed: model checkpoints as safetensors files: trusted, mapped, resumed from."""

from collections.abc import Mapping as _Mapping

from ._flatbed import ERROR_CODES, Checkpoint, Tensor, __version__, open
from .errors import DeviceError, Error, FileError, FormatError, SealError, TensorNotFoundError

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
    "open",
]
