"""Which classes and functions a load makes: those that ``torch.load(weights_only=True)`` allows."""

from __future__ import annotations

import builtins
import sys
from typing import Any, Callable, Iterable

import torch

from .._factory import full_name

# Allowed by name in every torch that has them.
_NAMES = (
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.set",
    "collections.Counter",
    "collections.OrderedDict",
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
    "torch.storage.TypedStorage",
    "torch.storage.UntypedStorage",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._utils._rebuild_meta_tensor_no_storage",
    "torch._utils._rebuild_nested_tensor",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_wrapper_subclass",
)
# How pickle says that a class makes the object. They make nothing that is not allowed by itself,
# and are no values.
STRUCTURE = {
    "builtins.object", "copyreg.__newobj__", "copyreg.__newobj_ex__", "copyreg._reconstructor"
}  # fmt: skip
BLOCKED_MODULES = {"nt", "os", "posix", "sys"}

_CONSTANTS = (torch.dtype, torch.layout, torch.qscheme)


def constant(name: str) -> Any:
    """``torch.float32``, ``torch.strided``, ``torch.per_tensor_affine``; None for other names."""
    module, _, attribute = name.partition(".")
    # Not getattr(), which imports torch._dynamo and others when it is asked for their names.
    value = vars(torch).get(attribute) if module == "torch" else None
    return value if isinstance(value, _CONSTANTS) else None


def _storage_classes() -> dict[str, Any]:
    """The classes of storages and of typed tensors, which are named with a dtype."""
    kinds = list(torch._storage_classes) + list(torch._tensor_classes)  # type: ignore[attr-defined]
    return {f"{kind.__module__}.{kind.__name__}": kind for kind in kinds}


def _lookup(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    found = sys.modules.get(module)
    return getattr(found, attribute, None)


def _user_names(given: Iterable[Any]) -> dict[str, Any]:
    """What add_safe_globals() takes: a class or function, or a pair of one and its full name."""
    names = {}
    for one in given:
        value, name = one if isinstance(one, tuple) and len(one) == 2 else (one, None)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"allow: the name of {value!r} is not a str but {name!r}")
        if name is None and not hasattr(value, "__qualname__"):
            raise TypeError(f"allow takes classes and functions, not {value!r}")
        names[name or full_name(value)] = value
    return names


class Allowed:
    """The names that a load makes objects of, with the objects that they stand for."""

    def __init__(self, allow: Iterable[Callable[..., Any] | tuple[Any, str]]) -> None:
        self._names: dict[str, Any] = {**_storage_classes()}
        for name in _NAMES:
            value = _lookup(name)
            if value is not None:
                self._names[name] = value
        safe = getattr(torch.serialization, "get_safe_globals", list)
        self._user = {**_user_names(safe()), **_user_names(allow)}

    def find(self, name: str) -> Any:
        """The object of this name; None if it is not allowed."""
        if name.partition(".")[0] in BLOCKED_MODULES:  # whatever a caller allows, as in torch
            return None
        if name in self._user:
            return self._user[name]
        found = self._names.get(name)
        return constant(name) if found is None else found

    def by_user(self, value: Any) -> bool:
        """Whether the caller or ``torch.serialization.add_safe_globals()`` allows it."""
        return any(value is one for one in self._user.values())

    def numpy_arrays(self) -> bool:
        return any(
            name.startswith("numpy.") and name.endswith((".ndarray", "._reconstruct"))
            for name in self._user
        )

    def numpy_scalars(self) -> bool:
        numpy = sys.modules.get("numpy")
        return numpy is not None and any(
            name.endswith("multiarray.scalar")
            or (isinstance(value, builtins.type) and issubclass(value, numpy.generic))
            for name, value in self._user.items()
        )
