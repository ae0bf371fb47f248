"""load(): the object that was saved."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Callable, Iterable, Iterator, Mapping, Union

import torch

from .. import _flatbed, errors
from .. import open as _open
from .._types import Opened, Progress
from ._allowed import STRUCTURE, Allowed
from ._factory import TorchFactory
from ._memory import Memory

MapLocation = Union[
    None, str, torch.device, Mapping[str, str], Callable[[Any, str], Any]  # noqa: UP007
]


def load(
    path: Opened,
    map_location: MapLocation = None,
    *,
    mmap: bool = False,
    unknown: str = "raise",
    allow: Iterable[Any] = (),
    allow_expansion: bool = False,
    verify: bool = True,
    threads: int = 0,
    progress: Progress = None,
) -> Any:
    """Loads what was saved at ``path``, a file or sharded set of any layout that flatbed reads.

    It is the object that ``torch.load(weights_only=True)`` gives of the PyTorch file that it was:
    tensors that shared their memory do so again, and Parameters, strides, dtypes, attributes of
    OrderedDicts and Python's containers are those that were saved. No pickle is run.

    Args:
        path: what ``flatbed.open`` takes, or a ``flatbed.Checkpoint``, such as a part of one.
        map_location: where tensors go, in all forms that torch.load takes. None is the device that
            each was saved from.
        mmap: map tensors copy on write instead of reading them. What is written stays in memory.
            Mapped bytes are not verified, and a file that shrinks later ends the process.
        unknown: what to do with classes that ``torch.load(weights_only=True)`` refuses:
            ``"raise"``, or ``"inert"`` for ``flatbed.inert.Object`` in their place.
        allow: classes and functions that are made all the same, as
            ``torch.serialization.add_safe_globals()`` takes them. Their constructors run: allow
            only what you trust. What that function has allowed is allowed here too.
        allow_expansion: load tensors that take more than 1 GiB and more than 16 times the size of
            the file, which a few bytes and a stride of 0 can ask for.
        verify: compare the bytes with the digests of a sealed file.
        threads: how many read and hash; 0 chooses.
        progress: called with the bytes done and in total; True for a bar of tqdm. An exception
            that it raises stops the load.

    Raises:
        flatbed.FormatError: the file is malformed, or (``weights_only_refused``) names a class
            that is not allowed; the message has its name and place.
        flatbed.Error: ``expansion_refused``, see ``allow_expansion``.
        flatbed.SealError: bytes do not match the seal.
        flatbed.FileError: the system reported an error.
        RuntimeError: a tensor was saved on a device that is not there; pass ``map_location``.
    """
    if unknown not in ("raise", "inert"):
        raise ValueError(f"unknown must be 'raise' or 'inert', not {unknown!r}")
    checkpoint = path if isinstance(path, _flatbed.Checkpoint) else _open(path)
    allowed = Allowed(allow)
    names = _flatbed.tree_names(checkpoint)
    if unknown == "raise":
        _refuse_unknown(names, allowed)
    memory = Memory(checkpoint, map_location)
    if not allow_expansion and not memory.is_meta:
        _flatbed.check_expansion(checkpoint)
    if mmap:
        memory.map()
    else:
        memory.read(verify=verify, threads=threads, progress=progress)
    with _map_location_of_rebuilds(map_location):
        try:
            loaded = _flatbed.build_tree(checkpoint, TorchFactory(memory, allowed, unknown))
        except BaseException:
            # torch would refuse the next load for them.
            getattr(torch._utils, "_sparse_tensors_to_validate", []).clear()
            raise
        _validate_sparse()
    return loaded


def _refuse_unknown(names: list[tuple[str, str, str]], allowed: Allowed) -> None:
    refused = [(name, place) for what, name, place in names if not _is_allowed(what, name, allowed)]
    if not refused:
        return
    name, place = refused[0]
    name = name or "a call of an object"
    more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
    where = f"at {place!r}: " if place else ""
    raise errors._from_code(
        173,
        "weights_only_refused",
        f"{where}{name} is not allowed by default{more}; pass allow=[...] with what you trust, or "
        "unknown='inert' for inert objects",
    )


def _is_allowed(what: str, name: str, allowed: Allowed) -> bool:
    if what == "array":
        return allowed.numpy_arrays()
    if what == "scalar":
        return allowed.numpy_scalars()
    if what == "value":
        return name not in STRUCTURE or allowed.find(name) is not None
    return what == "named" and (name in STRUCTURE or allowed.find(name) is not None)


@contextlib.contextmanager
def _map_location_of_rebuilds(map_location: MapLocation) -> Iterator[None]:
    """What torch's functions for tensors without storages ask for their device."""
    local = getattr(torch.serialization, "_serialization_tls", None)
    if local is None or not hasattr(local, "map_location"):
        yield
        return
    before, local.map_location = local.map_location, map_location
    try:
        yield
    finally:
        local.map_location = before


def _validate_sparse() -> None:
    """Checks the indices of sparse tensors, which a file could have made point anywhere."""
    validate = getattr(torch._utils, "_validate_loaded_sparse_tensors", None)
    if validate is None or not torch._utils._sparse_tensors_to_validate:
        return
    # Some versions validate only what is asked for, and not all of them have this option.
    invariants = getattr(torch.sparse, "check_sparse_tensor_invariants", contextlib.nullcontext)
    takes = inspect.signature(validate).parameters
    options = {"weights_only": True} if "weights_only" in takes else {}
    try:
        with invariants():
            validate(**options)
    except RuntimeError as error:
        raise errors._from_code(155, "rebuild_malformed", f"a sparse tensor: {error}") from error
