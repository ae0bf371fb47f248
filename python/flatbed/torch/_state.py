"""What Python holds, as a plan to save it.

The object is described as torch.save describes it, in pickles, with the storages left in memory.
The library reads this description as it reads a file. So what can be saved, and under which names,
is exactly what can be converted, and no tensor is copied unless its elements are not one block.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any, Iterator

import torch

from .. import _flatbed, errors
from ._storage import STORAGES, TORCH_NAMES

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_PICKLE_PROTOCOL = 4


class _Refused(Exception):
    """An object that cannot be saved, and why."""


class _StatePickler(pickle.Pickler):
    """Pickles an object and collects its storages."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=_PICKLE_PROTOCOL)
        self.keys: dict[tuple[int, Any], str] = {}
        self.rows: list[tuple[int, int, int]] = []  # count, address, nbytes
        self.keep: list[Any] = []

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, STORAGES):
            return None
        name = getattr(value, "_pickle_storage_type", getattr(value, "pickle_storage_type", None))
        if name is not None:
            kind = getattr(torch, name())
            storage = getattr(value, "_untyped_storage", None)
            if storage is None:
                storage = value.untyped() if hasattr(value, "untyped") else value._untyped()
            count = value._size() if hasattr(value, "_size") else value.size()
        else:
            kind, storage, count = type(value), value, value.nbytes()
        # One storage as elements of two dtypes is two, because a file has one dtype for each.
        key = (storage._cdata, kind)
        if key not in self.keys:
            self._add(key, storage, count)
        location = torch.serialization.location_tag(storage)
        return ("storage", kind, self.keys[key], location, count, None)

    def _add(self, key: tuple[int, Any], storage: Any, count: int) -> None:
        if storage.device.type == "meta":
            raise _Refused("a tensor of the meta device has no values")
        memory = storage if storage.device.type == "cpu" else storage.cpu()
        self.keep += [storage, memory]
        self.keys[key] = str(len(self.keys))
        nbytes = memory.nbytes()
        self.rows.append((count, memory.data_ptr() if nbytes else 0, nbytes))

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.device.type == "meta":
            raise _Refused("a tensor of the meta device has no values")
        if type(value) is torch.Tensor and _loses_bits(value):
            return value.resolve_conj().resolve_neg().__reduce_ex__(_PICKLE_PROTOCOL)
        return NotImplemented


def _loses_bits(tensor: torch.Tensor) -> bool:
    """Whether the values are not the stored ones, and this torch does not say so: before 2.0."""
    known = hasattr(torch._utils, "get_tensor_metadata")
    return not known and tensor.layout == torch.strided and (tensor.is_conj() or tensor.is_neg())


def plan_of(state: Any, label: str) -> _flatbed.Plan:
    """A plan to save ``state``; it borrows the memory of its tensors."""
    head = io.BytesIO()
    for part in (_MAGIC, _PROTOCOL, {"little_endian": sys.byteorder == "little"}):
        pickle.dump(part, head, protocol=2)
    pickler = _StatePickler(head)
    try:
        pickler.dump(state)
    except RecursionError as error:
        raise errors._from_code(
            77, "tree_too_deep", "the object is nested too deeply to be saved"
        ) from error
    except (
        _Refused,
        pickle.PicklingError,
        TypeError,
        AttributeError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        place = _find_refused(state)
        where = f"at {place!r}: " if place else ""
        raise errors._from_code(170, "tree_not_representable", f"{where}{error}") from error
    pickle.dump(list(pickler.keys.values()), head, protocol=2)
    return _flatbed.plan_state(head.getvalue(), pickler.rows, label, (state, pickler.keep))


def check_plain(state: Any) -> None:
    """Raises unless ``state`` is what an unsealed file can hold: tensors by name."""
    place = ""
    if isinstance(state, dict):
        refused = [str(key) for key, value in state.items() if not _is_plain(key, value)]
        if not refused:
            return
        place = refused[0]
    where = f"at {place!r}: " if place else ""
    raise errors._from_code(
        170,
        "tree_not_representable",
        f"{where}an unsealed file keeps a dict of names and plain tensors alone; pass seal=True",
    )


def _is_plain(key: Any, value: Any) -> bool:
    return (
        isinstance(key, str)
        and type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout == torch.strided
        and str(value.dtype).rpartition(".")[2] in TORCH_NAMES.values()
    )


def _find_refused(state: Any) -> str:
    """The place of the first part that cannot be pickled by itself."""
    for place, value in _leaves(state):
        try:
            _StatePickler(io.BytesIO()).dump(value)
        except Exception:  # noqa: BLE001 -- whatever it was, it is here
            return place
    return ""


def _leaves(state: Any) -> Iterator[tuple[str, Any]]:
    pending, seen = [("", state)], set()
    while pending:
        place, value = pending.pop()
        if isinstance(value, (dict, list, tuple)) and type(value).__module__ in (
            "builtins", "collections"
        ):  # fmt: skip
            if id(value) in seen:
                continue
            seen.add(id(value))
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            inner = [(f"{place}.{key}" if place else str(key), item) for key, item in pairs]
            pending.extend(reversed(inner))
        else:
            yield place, value
