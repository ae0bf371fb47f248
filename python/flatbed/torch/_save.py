"""save(): an object with its tensors as a sealed file."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Mapping

from .. import _flatbed
from .._background import PendingSave, in_background
from .._types import Path, Progress
from ._state import check_plain, plan_of


@dataclasses.dataclass(frozen=True)
class SaveReport:
    """What was written.

    Attributes:
        path: the file, or the folder of a sharded set.
        nbytes: its size.
        content: the digest of everything in it; of an unsealed file or a set of several, "".
        durable: whether it survives a power cut; if not, ``note`` says why.
        notes: what the file does not keep, one sentence each: that tensors which are different
            views of the same memory were stored apart, and hooks.
    """

    path: str
    nbytes: int
    content: str
    durable: bool
    note: str = ""
    notes: tuple[str, ...] = ()


def save(
    state: Any,
    path: Path,
    *,
    seal: bool = True,
    overwrite: bool = True,
    wait: bool = True,
    max_shard_size: int | None = None,
    metadata: Mapping[str, str] | None = None,
    sync: bool = True,
    progress: Progress = None,
) -> SaveReport | PendingSave:
    """Saves an object: tensors as such, and everything around them as data.

    ``state`` is anything that ``torch.save`` takes: state dicts, optimizers' states, dicts and
    lists of them. Tensors that share their memory stay shared. The file is written under no name,
    made durable, and then named: readers see the old file or the complete new one.

    Args:
        state: the object.
        path: the file; with ``max_shard_size`` a folder for a sharded set.
        seal: write the digests with which a load verifies every byte, and the structure. False
            takes a dict of names and tensors alone, because an unsealed file keeps nothing else.
        overwrite: replace what is there; otherwise that is ``file_exists``.
        wait: False copies the tensors, writes them on another thread, and returns a
            ``PendingSave`` at once. The copy takes as much memory as the tensors.
        max_shard_size: write a set of shards of at most this many bytes of tensors each.
        metadata: texts for the file's ``__metadata__``.
        sync: wait until the disk has the file.
        progress: called with the bytes done and in total (with ``wait=False`` on the other
            thread); True for a bar of tqdm. An exception that it raises stops the save.

    Raises:
        flatbed.FormatError: something in ``state`` cannot be saved (``tree_not_representable``):
            a tensor of the meta device, an object that pickle refuses, with ``seal=False`` what is
            no tensor; the message has its place.
            Nothing was written.
        flatbed.FileError: the system reported an error; the file at ``path`` is as it was.
    """
    if not seal:
        check_plain(state)
    plan = plan_of(state, os.fspath(path))
    pairs = list((metadata or {}).items())
    if not wait:
        plan.detach()

    def write() -> SaveReport:
        report = _flatbed.save_plan(
            plan, path, seal=seal, replace=overwrite, sync=sync, max_shard_nbytes=max_shard_size,
            metadata=pairs, progress=progress,
        )  # fmt: skip
        return SaveReport(path=os.fspath(path), notes=tuple(plan.notes), **report)

    return write() if wait else in_background(write)
