"""save(): an object with its tensors as a sealed file."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import threading
from typing import Any, Callable, Mapping

from .. import _flatbed
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


class PendingSave(concurrent.futures.Future):  # type: ignore[type-arg]
    """A save that may still be running: a Future with what the save returns.

    A program that ends waits for it. An error that nobody asked for is reported as an unraisable
    exception when the last reference goes.
    """

    _asked = False

    def result(self, timeout: float | None = None) -> Any:
        self._asked = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._asked = True
        return super().exception(timeout)

    def __del__(self) -> None:
        if self.done() and not self._asked:
            error = super().exception()
            if error is not None:  # Python reports what is raised here, and goes on
                raise RuntimeError(
                    f"a save failed, and nobody asked for its result: {error}"
                ) from error


def in_background(work: Callable[[], Any]) -> PendingSave:
    """Runs `work` on a thread that the interpreter waits for when it exits."""
    pending = PendingSave()
    pending.set_running_or_notify_cancel()

    # The thread drops what it was given when it ends, so that an error which nobody asked for is
    # reported when the caller's reference goes. It must not be the caller's variable.
    def run(own: PendingSave) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 -- result() raises it
            own.set_exception(error)
        else:
            own.set_result(result)

    threading.Thread(target=run, args=(pending,), name="flatbed save", daemon=False).start()
    return pending


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
