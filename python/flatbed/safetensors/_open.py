"""safe_open: a safetensors file whose tensors are verified before they are handed out."""

from __future__ import annotations

import operator
import os
from typing import Any, ClassVar, Optional, Union

from .. import _flatbed
from ..errors import Error
from . import _frameworks
from ._errors import SafetensorError, opening_error, reported
from ._modes import check_verify

Device = Union[str, int, Any]

# What has been verified in this process. A file that changed is another one.
_known = _flatbed.VerifiedFiles()

_BACKENDS = ("mmap", "pread")


class safe_open:
    """A safetensors file, opened for reading; also a context manager.

    Args:
        filename: the path of the file.
        framework: what get_tensor() returns: ``"pt"``, ``"np"``, ``"tf"``, ``"flax"``, ``"mlx"`` or
            ``"paddle"``; their longer names do as well.
        device: where tensors of PyTorch and Paddle go, such as ``"cuda:0"`` or ``0``.
        backend: ``"mmap"``: tensors of PyTorch on the CPU lie in the mapped file, and pages that a
            program writes are its own. ``"pread"``: they are read into memory of their own. Tensors
            of other frameworks are always read.
        verify: ``"tensor"``, ``"copy"`` or ``"off"``, see flatbed.safetensors. Default:
            ``"tensor"``, or what install() was told.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: the file is damaged or not safetensors, or an argument is invalid.
    """

    _default_verify: ClassVar[str] = "tensor"

    def __init__(
        self,
        filename: Union[str, "os.PathLike[str]"],
        framework: str,
        device: Optional[Device] = "cpu",
        *,
        backend: str = "mmap",
        verify: Optional[str] = None,
    ) -> None:
        self._file: Optional[_flatbed.SafetensorsFile] = None
        path = os.fspath(filename)
        if not isinstance(path, str):
            raise TypeError(f"filename must be a str or a path of one, not {type(path).__name__}")
        if "\0" in path:  # which no file's name has
            raise FileNotFoundError(f"No such file or directory: {path}")
        if backend not in _BACKENDS:
            raise SafetensorError(f"backend {backend!r} is invalid, expected 'mmap' or 'pread'")
        mode = check_verify(self._default_verify if verify is None else verify)
        kind = _frameworks.kind_of(framework)
        place = _frameworks.check_device(device, kind)
        try:
            file = _flatbed.SafetensorsFile.open(path, mode != "off", _known)
        except Error as error:
            raise opening_error(path, error) from None
        self._framework = _frameworks.framework(kind, place)
        self._maps = backend == "mmap" and mode != "copy"
        self._copies = not (self._maps and self._framework.takes_mapped)
        self._file = file

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, *_: object) -> None:
        self._file = None

    def _opened(self) -> _flatbed.SafetensorsFile:
        if self._file is None:
            raise SafetensorError("File is closed")
        return self._file

    def _find(self, name: str) -> tuple[int, str, list[int], int]:
        found = self._opened().find(name)
        if found is None:
            raise SafetensorError(f"File does not contain tensor {name}", 11, "tensor_not_found")
        return found

    def metadata(self) -> Optional[dict[str, str]]:
        """The pairs of the header's metadata without flatbed's own; None if there are none."""
        return self._opened().metadata()

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return self._opened().keys()

    def offset_keys(self) -> list[str]:
        """The names of the tensors, in the order of the file."""
        return self._opened().offset_keys()

    def get_tensor(self, name: str) -> Any:
        """The tensor of this name, verified.

        Raises:
            SafetensorError: there is none, or its bytes do not match their digests.
        """
        number, dtype, shape, nbytes = self._find(name)
        file = self._opened()
        with reported(""):
            memory = file.read(number, 0, nbytes) if self._copies else file.view(number)
        return self._framework.tensor(memory, dtype, shape)

    def get_tensors(self) -> dict[str, Any]:
        """All tensors by name, verified, in the order of the file.

        Raises:
            SafetensorError: the bytes of a tensor do not match their digests.
        """
        with reported(""):
            tensors = self._opened().all(self._copies)
        make = self._framework.tensor
        return {name: make(memory, dtype, shape) for name, dtype, shape, memory in tensors}

    def get_slice(self, name: str) -> "PySafeSlice":
        """A tensor of which parts can be taken: ``get_slice("w")[:, :8]``.

        Raises:
            SafetensorError: there is no tensor of this name.
        """
        found = self._find(name)
        return PySafeSlice(self._opened(), self._framework, self._copies, self._maps, found)


class _safe_open_handle(safe_open):
    """safe_open() of a file object, by its name."""

    def __init__(
        self,
        f: Any,
        framework: str,
        device: Optional[Device] = "cpu",
        *,
        backend: str = "mmap",
        verify: Optional[str] = None,
    ) -> None:
        operator.attrgetter("fileno")(f)  # an AttributeError if it is no file
        super().__init__(f.name, framework, device, backend=backend, verify=verify)


class PySafeSlice:
    """A tensor of a file, from which an index takes a part: ``slice[8:16]``, ``slice[:, ::2]``.

    A part that is contiguous in the file is verified by its own chunks; any other by the whole
    tensor, once. Indices are those of the framework: of PyTorch whatever a tensor takes; otherwise
    integers, slices with a positive step, and one ellipsis.
    """

    def __init__(
        self,
        file: _flatbed.SafetensorsFile,
        framework: Any,
        copies: bool,
        maps: bool,
        found: tuple[int, str, list[int], int],
    ) -> None:
        self._file = file
        self._framework = framework
        self._copies = copies  # whether a part has memory of its own
        self._maps = maps  # whether it may be copied out of the mapped file
        self._number, self._dtype, self._shape, self._nbytes = found

    def get_shape(self) -> list[int]:
        """The shape of the whole tensor."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """The dtype of the whole tensor, as in the file: ``"F32"``."""
        return self._dtype

    def __getitem__(self, index: Any) -> Any:
        with reported(""):
            return self._framework.part(self, index)

    # What a framework takes parts from.

    def _check(self, begin: int, end: int) -> None:
        self._file.check(self._number, begin, end)

    def _mapped(self) -> _flatbed.SafetensorsMemory:
        return self._file.view_unchecked(self._number)

    def _read(self, begin: int, nbytes: int) -> _flatbed.SafetensorsMemory:
        return self._file.read(self._number, begin, nbytes)
