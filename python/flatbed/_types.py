"""Types of arguments, for annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Buffer, Protocol

    class HasFileno(Protocol):
        """An open file."""

        def fileno(self) -> int: ...

    from ._flatbed import Checkpoint

    Path = Union[str, os.PathLike[str]]
    BufferLike = Union[Buffer, numpy.ndarray[Any, Any]]
    Source = Union[Path, BufferLike, int, HasFileno, Sequence[Union[Path, BufferLike]]]
    Opened = Union[Checkpoint, Source]
    StorageOptions = Union[Mapping[str, Any], None]
    Progress = Union[Callable[[int, int], object], bool, None]
    RenameRule = Union[str, Mapping[str, str], Callable[[str], str]]
    RenameRules = Union[RenameRule, Sequence[RenameRule], None]
else:
    Path = BufferLike = Source = Opened = Progress = RenameRule = RenameRules = Any
    StorageOptions = Any
