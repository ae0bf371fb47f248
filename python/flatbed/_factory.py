"""Makes the objects of a checkpoint's structure; ``python/src/tree.hpp`` says when each is called.

A factory knows the few constructors that every reader knows (T4 of the specification). What it does
not know becomes an inert object. Subclasses add what torch and numpy have.
"""

from __future__ import annotations

import collections
from typing import Any, Callable

from . import errors
from .inert import Global, Object, Scalar


def malformed(what: str) -> errors.Error:
    return errors._from_code(75, "tree_malformed_node", what)


def _pairs(*args: Any) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict(*args)


def _of_list(kind: type) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if type(items) is not list and items != ():
            raise TypeError(f"{kind.__name__} of {type(items).__name__}, expected a list")
        return kind(items)

    return make


def _bytearray(content: Any = b"", encoding: Any = None) -> bytearray:
    if encoding == "latin-1" and type(content) is str:
        content = content.encode(encoding)
    if type(content) is not bytes:  # a number would be a size
        raise TypeError(f"bytearray of {type(content).__name__}, expected bytes")
    return bytearray(content)


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise TypeError("a complex number of other parts than two floats")
    return complex(real, imaginary)


class Factory:
    """The objects of plain Python."""

    def __init__(self) -> None:
        # full name -> (what a value that is the name itself becomes, what a call of it calls)
        self.known: dict[str, tuple[Any, Callable[..., Any] | None]] = {
            "collections.OrderedDict": (collections.OrderedDict, _pairs),
            "builtins.set": (set, _of_list(set)),
            "builtins.frozenset": (frozenset, _of_list(frozenset)),
            "builtins.bytearray": (bytearray, _bytearray),
            "builtins.complex": (complex, _complex),
        }

    def tensor(self, index: int, attributes: dict[str, Any]) -> Any:
        raise NotImplementedError

    def long_bytes(self, index: int) -> bytes:
        raise NotImplementedError

    def array(self, index: int, typestr: str) -> Any:
        raise NotImplementedError

    def scalar(self, typestr: str, data: bytes) -> Any:
        return Scalar(typestr, data)

    def named(self, module: str, qualname: str) -> Any:
        """A name is itself until it is called, because only then it matters which is meant."""
        known = self.known.get(f"{module}.{qualname}")
        return Global(module, qualname) if known is None else known[0]

    def call(self, function: Any, args: tuple[Any, ...]) -> Any:
        make = None if isinstance(function, (Global, Object)) else self.maker(function)
        if make is None or any(isinstance(arg, (Global, Object)) for arg in args):
            return self.inert(self.as_global(function), args)
        try:
            return make(*args)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            raise malformed(f"{full_name(function)}: {error}") from error

    def inert(self, function: Any, args: tuple[Any, ...]) -> Object:
        """What becomes of a call that is not made."""
        return Object(function, args)

    def maker(self, function: Any) -> Callable[..., Any] | None:
        known = self.known.get(full_name(function))
        return known[1] if known is not None and known[0] is function else None

    def as_global(self, function: Any) -> Any:
        if isinstance(function, (Global, Object)):
            return function
        return Global(function.__module__, function.__qualname__)

    def extend(self, made: Any, items: list[Any]) -> None:
        if isinstance(made, Object):
            made.items.extend(items)
        else:
            made.extend(items)

    def update(self, made: Any, pairs: list[tuple[Any, Any]]) -> None:
        if isinstance(made, Object):
            made.pairs.extend(pairs)
            return
        for key, value in pairs:
            made[key] = value

    def set_state(self, made: Any, state: Any) -> None:
        if isinstance(made, Object):
            made.state, made.has_state = state, True
        elif isinstance(made, collections.OrderedDict) and isinstance(state, dict):
            vars(made).update(state)
        else:
            raise malformed(f"a state of {type(made).__name__}, which has none")


def full_name(function: Any) -> str:
    """``module.qualname``, as a pickle names it."""
    if isinstance(function, Global):
        return str(function)
    module = getattr(function, "__module__", None) or "builtins"
    return f"{module}.{getattr(function, '__qualname__', function)}"
