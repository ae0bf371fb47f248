"""SafetensorError, and flatbed's errors as the exceptions that ``safetensors`` raises."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from ..errors import Error


class SafetensorError(Error):
    """A file is damaged or not safetensors, or an argument does not fit.

    Attributes:
        code: the number of flatbed's error, or 10 (invalid_argument).
        name: the name of the code, such as ``"chunk_corrupt"``.
        message: what is wrong, in one line.
    """

    def __init__(self, message: str = "", code: int = 10, name: str = "invalid_argument") -> None:
        super().__init__(code, name, message)
        self.args = (message, code, name)  # for pickle and copy


SafetensorError.__module__ = "flatbed.safetensors"

# By the names of flatbed's codes: what the operating system says keeps its exception.
_SYSTEM_ERRORS: dict[str, type[OSError]] = {
    "file_not_found": FileNotFoundError,
    "permission_denied": PermissionError,
}


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Raises flatbed's errors as SafetensorError; the message begins with ``what``."""
    try:
        yield
    except SafetensorError:
        raise
    except Error as error:
        raise SafetensorError(what + error.message, error.code, error.name) from None


def opening_error(path: str, error: Error) -> Exception:
    """The exception for a file that cannot be opened."""
    if error.name == "not_a_regular_file":  # a folder, a pipe, a device
        return (IsADirectoryError if os.path.isdir(path) else OSError)(error.message)
    kind = _SYSTEM_ERRORS.get(error.name)
    if kind is FileNotFoundError:
        return FileNotFoundError(f"No such file or directory: {path}")
    if kind is not None:
        return kind(error.message)
    return SafetensorError(
        "Error while deserializing header: " + error.message, error.code, error.name
    )
