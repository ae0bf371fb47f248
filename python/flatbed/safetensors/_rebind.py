"""Replaces objects wherever a program holds them: what a late install() needs."""

from __future__ import annotations

import functools
import gc
import types
import typing
from typing import Any, Callable, Iterable, Tuple

Assign = Callable[[Any], object]
Change = Tuple[Assign, Any, Any]  # the assignment, what is there, and what comes there
_TYPING_ALIAS: Any = type(typing.List[int])  # the class has no public name


def rebind(old: types.ModuleType, new: types.ModuleType, names: Iterable[str]) -> None:
    """Replaces the module ``old`` and these members of it by those of ``new``.

    Raises:
        RuntimeError: something holds one where it cannot be replaced. Nothing has changed.
    """
    gc.collect()  # what is no longer used holds nothing
    search = _Search(old)
    for name in names:
        if name in old.__dict__:
            search.replace(name, old.__dict__[name], new.__dict__[name])
    search.replace(old.__name__, old, new)
    _apply(search.changes)


def _apply(changes: list[Change]) -> None:
    """Makes all of the changes, or none."""
    for at, (assign, _, new) in enumerate(changes):
        try:
            assign(new)
        except Exception as error:  # a frozen object, or a class that refuses assignments
            for undo, value, _ in reversed(changes[:at]):
                undo(value)
            raise RuntimeError(
                "install() cannot replace what was imported from safetensors: "
                f"{type(error).__name__}: {error}; call install() before"
            ) from error


class _Search:
    """Finds the assignments that replace objects. Makes none of them."""

    def __init__(self, old: types.ModuleType) -> None:
        self.changes: list[Change] = []
        self._old = old
        self._ignored = {id(old.__dict__), id(self.changes), id(self.__dict__)}

    def replace(self, name: str, value: Any, new: Any) -> None:
        if value is new:
            return
        if isinstance(value, type):
            subclasses: list[type] = value.__subclasses__()
            for subclass in subclasses:
                self._refuse(name, f"the class {subclass.__module__}.{subclass.__qualname__}")
        self._replace(name, value, new, 0)

    def _replace(self, name: str, value: Any, new: Any, depth: int) -> None:
        for holder in gc.get_referrers(value):
            if id(holder) in self._ignored or self._is_harmless(holder, value):
                continue
            if isinstance(holder, dict):
                self._replace_in_dict(name, holder, value, new)
            elif isinstance(holder, list):
                for at, item in enumerate(holder):
                    if item is value:
                        self._later(functools.partial(holder.__setitem__, at), value, new)
            elif isinstance(holder, types.CellType):
                self._later(functools.partial(setattr, holder, "cell_contents"), value, new)
            elif isinstance(holder, tuple) and type(holder) is tuple and depth < 4:
                made = tuple(new if item is value else item for item in holder)
                self._ignored.add(id(made))
                self._replace(name, holder, made, depth + 1)
            elif isinstance(holder, types.FunctionType) and holder.__defaults__ is value:
                self._later(functools.partial(setattr, holder, "__defaults__"), value, new)
            elif not self._replace_attribute(holder, value, new):
                self._refuse(name, f"a {type(holder).__module__}.{type(holder).__qualname__}")

    def _replace_in_dict(self, name: str, holder: dict[Any, Any], value: Any, new: Any) -> None:
        keys = [key for key, item in holder.items() if item is value]
        owners = gc.get_referrers(holder)
        if any(isinstance(owner, functools._lru_cache_wrapper) for owner in owners):
            return
        if not keys:
            self._refuse(name, "a key of a dict")
        owner = next((owner for owner in owners if _is_namespace_of(holder, owner)), None)
        for key in keys:
            if owner is not None:
                self._later(functools.partial(setattr, owner, key), value, new)
            else:
                self._later(functools.partial(holder.__setitem__, key), value, new)

    def _replace_attribute(self, holder: Any, value: Any, new: Any) -> bool:
        """Where an object holds its attributes without a dict."""
        attributes = getattr(holder, "__dict__", None)
        keys = [key for key, item in dict(attributes or {}).items() if item is value]
        for key in keys:
            self._later(functools.partial(setattr, holder, key), value, new)
        return bool(keys)

    def _later(self, assign: Assign, value: Any, new: Any) -> None:
        change = (assign, value, new)
        self.changes.append(change)
        self._ignored.add(id(change))  # it holds the objects, and is no place to rebind

    def _is_harmless(self, holder: Any, value: Any) -> bool:
        """Whether a program cannot get at the value through the holder, or only what it was."""
        if isinstance(holder, (types.FrameType, types.GeneratorType, types.CoroutineType)):
            return True  # a call that has not ended
        if isinstance(holder, (types.BuiltinFunctionType, functools._lru_cache_wrapper)):
            return True  # a function of the module or of the type; a cache, such as typing's
        if isinstance(value, type):
            return (
                isinstance(holder, value)  # an open file, an error that was raised
                or getattr(holder, "__objclass__", None) is value  # its methods
                or holder is value.__mro__
            )
        if type(value) is tuple:  # that holds it; here only for annotations
            if isinstance(holder, types.FunctionType):
                return holder.__defaults__ is not value
            return isinstance(holder, (types.GenericAlias, _TYPING_ALIAS, types.UnionType))
        return False

    def _refuse(self, name: str, where: str) -> None:
        raise RuntimeError(
            f"install() cannot replace {name} in {where}, which was made when safetensors was "
            "imported: call install() before"
        )


def _is_namespace_of(holder: dict[Any, Any], owner: Any) -> bool:
    """Whether `holder` holds the attributes of a class, which must be set through the class."""
    if not isinstance(owner, type) or owner.__module__ == "builtins":
        return False
    names = owner.__dict__
    return len(names) == len(holder) and all(names.get(key) is item for key, item in holder.items())
