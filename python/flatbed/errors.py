"""The exceptions that flatbed raises."""

from __future__ import annotations

__all__ = ["DeviceError", "Error", "FileError", "FormatError", "SealError", "TensorNotFoundError"]


class Error(Exception):
    """What the library reports, with a code that never changes.

    Attributes:
        code: the number of the error, as in ``flatbed/error.hpp``; ``flatbed.ERROR_CODES`` has all.
        name: the name of the code, such as ``"chunk_corrupt"``.
        message: the place, what was found and what was expected, in one line.
    """

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(code, name, message)
        self.code = code
        self.name = name
        self.message = message

    def __str__(self) -> str:
        return self.message


class FileError(Error):
    """The operating system reported an error, or a file changed (codes 1 to 9)."""


class FormatError(Error):
    """A file, or the file that would be written, is not what a format allows (codes 20 to 174)."""


class SealError(FormatError):
    """A seal is missing or malformed, or bytes do not match it (codes 60 to 69)."""


class DeviceError(Error):
    """A device is not there or failed (codes 180 to 189)."""


class TensorNotFoundError(Error, KeyError):
    """No tensor has the name (code 11); also a ``KeyError``."""


# (first code, last code, class); the first row that fits counts.
_CLASSES: tuple[tuple[int, int, type[Error]], ...] = (
    (1, 9, FileError),
    (11, 11, TensorNotFoundError),
    (60, 69, SealError),
    (20, 174, FormatError),
    (180, 189, DeviceError),
)


def _from_code(code: int, name: str, message: str) -> Error:
    for first, last, kind in _CLASSES:
        if first <= code <= last:
            return kind(code, name, message)
    return Error(code, name, message)
