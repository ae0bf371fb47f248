"""install(): flatbed in the place of safetensors' compiled module."""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from typing import Any

from . import _open, _save
from ._errors import SafetensorError
from ._modes import check_verify
from ._rebind import rebind

_PLACE = "safetensors._safetensors_rust"

# What programs take from the compiled module.
_EXPORTS = (
    "SafetensorError",
    "TensorSpec",
    "__version__",
    "_safe_open_handle",
    "deserialize",
    "safe_open",
    "serialize",
    "serialize_file",
)


def install(verify: str = "tensor", seal: bool = False) -> None:
    """Lets everything that imports ``safetensors`` read and write through flatbed.

    Stands in for the compiled module ``safetensors._safetensors_rust``: the Python modules of
    ``safetensors``, and programs that use them, stay as they are. May be called before or after
    ``safetensors`` is imported, and again to change the options. Names that were imported before
    are rebound, in modules, classes, functions, lists and dicts.

    Args:
        verify: what is checked of sealed files: ``"tensor"``, ``"copy"`` or ``"off"``, see
            flatbed.safetensors.
        seal: whether files are sealed when they are written. Without a seal their bytes are those
            that safetensors writes.

    Raises:
        ImportError: the ``safetensors`` that is installed is older than 0.8.0.
        RuntimeError: something holds what it imported before where that cannot be replaced, such as
            a subclass or a tuple: call install() before it is imported. Nothing has changed.
    """
    check_verify(verify)
    made = _make_module(verify, bool(seal))
    old = sys.modules.get(_PLACE)
    if old is None and "safetensors" in sys.modules:
        raise RuntimeError(
            "safetensors was imported without its compiled module, so it has no place for flatbed"
        )
    _check_version()
    if old is not None:
        rebind(old, made, [name for name in _EXPORTS if name != "__version__"])
    sys.modules[_PLACE] = made
    # An import of the module's name finds it in sys.modules, and does not set this attribute.
    if importlib.util.find_spec("safetensors") is not None:
        setattr(importlib.import_module("safetensors"), "_safetensors_rust", made)


def _check_version() -> None:
    from importlib import metadata

    try:
        version = metadata.version("safetensors")
    except metadata.PackageNotFoundError:
        return  # not installed as a package: whoever put it there knows
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    if numbers < [0, 8]:
        raise ImportError(f"install() needs safetensors 0.8.0 or newer, found {version}")


def _make_module(verify: str, seal: bool) -> types.ModuleType:
    """A module with the exports of the compiled one that has these options."""
    module = types.ModuleType(_PLACE, "flatbed in the place of safetensors' compiled module.")
    module.__file__ = __file__
    module.__spec__ = importlib.machinery.ModuleSpec(_PLACE, loader=None, origin=__file__)

    class safe_open(_open.safe_open):
        __doc__ = _open.safe_open.__doc__
        _default_verify = verify

    class _safe_open_handle(_open._safe_open_handle):
        __doc__ = _open._safe_open_handle.__doc__
        _default_verify = verify

    @functools.wraps(_save.serialize)
    def serialize(tensor_dict: Any, metadata: Any = None) -> bytes:
        return _save.serialize(tensor_dict, metadata, seal=seal)

    @functools.wraps(_save.serialize_file)
    def serialize_file(tensor_dict: Any, filename: Any, metadata: Any = None) -> None:
        _save.serialize_file(tensor_dict, filename, metadata, seal=seal)

    @functools.wraps(_save.deserialize)
    def deserialize(bytes: bytes) -> list[tuple[str, dict[str, Any]]]:
        return _save.deserialize(bytes, verify=verify)

    for made in (safe_open, _safe_open_handle):
        made.__module__, made.__qualname__ = _PLACE, made.__name__
    exports: dict[str, Any] = {
        "SafetensorError": SafetensorError,
        "TensorSpec": _save.TensorSpec,
        "__version__": importlib.import_module("flatbed.safetensors").__version__,
        "_safe_open_handle": _safe_open_handle,
        "deserialize": deserialize,
        "safe_open": safe_open,
        "serialize": serialize,
        "serialize_file": serialize_file,
    }
    assert tuple(sorted(exports)) == tuple(sorted(_EXPORTS))
    module.__dict__.update(exports)
    return module
