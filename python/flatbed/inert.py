"""What a checkpoint names and flatbed does not make: classes, functions and calls, as data.

Nothing here is ever imported or called. A value of a class that is not known is an ``Object`` with
everything that was saved of it.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

_FORMATS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I",
    "u8": "Q", "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip

__all__ = ["Global", "Object", "Scalar"]


@dataclasses.dataclass(frozen=True)
class Global:
    """A class, function or constant by name, as ``argparse.Namespace``."""

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A numpy scalar: its ``dtype.str`` and its bytes."""

    typestr: str
    data: bytes

    @property
    def value(self) -> bool | int | float | None:
        """The number; None for complex numbers, texts, dates and long doubles."""
        code = _FORMATS.get(self.typestr[1:])
        if code is None:
            return None
        number: bool | int | float
        (number,) = struct.unpack(self.typestr[0].replace("|", "<") + code, self.data)
        return number


@dataclasses.dataclass(eq=False)
class Object:
    """The result of a call that is not made, in pickle's terms.

    Attributes:
        function: what is called: a ``Global``, rarely an ``Object``.
        args: the arguments of the call.
        items: what is then appended.
        pairs: the keys and values that are then set.
        state: what the object is then given, or None; ``has_state`` tells whether it was None.
    """

    function: Any
    args: tuple[Any, ...]
    items: list[Any] = dataclasses.field(default_factory=list)
    pairs: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)
    state: Any = None
    has_state: bool = False

    def __repr__(self) -> str:
        return f"Object({self.class_name})"

    @property
    def class_name(self) -> str:
        """The name of the class, or of the function that makes the object."""
        by_class = str(self.function) in ("copyreg.__newobj__", "copyreg._reconstructor")
        return str(self.args[0] if by_class and self.args else self.function)
