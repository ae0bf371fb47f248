"""Series: the checkpoints of a training run, in a folder.

This one saves arrays of numpy by name and opens checkpoints; ``flatbed.torch.Series`` saves whole
training states, and loads them.

    from flatbed.series import Series

    with Series("run", metric="accuracy", mode="max", keep_last=3) as series:
        series.save({"weight": numpy.ones((2, 3))}, step=100, score=0.81)
        weight = series.open(series.best())["weight"].read()
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Iterator, Mapping

from . import _flatbed
from ._background import PendingSave, in_background
from ._flatbed import Checkpoint, SeriesEntry
from ._types import Path, Progress

__all__ = ["PendingSave", "Series", "SeriesEntry", "SeriesListing", "SeriesSaved"]

Entries = list[SeriesEntry]  # Series.list() hides the builtin from the annotations of the class
Verified = list[tuple[SeriesEntry, bool, str]]


@dataclasses.dataclass(frozen=True)
class SeriesSaved:
    """A checkpoint that was saved.

    Attributes:
        entry: the checkpoint: ``path``, ``step``, ``score`` and more.
        nbytes: the size of its files.
        durable: whether it survives a power cut.
        pruned: the checkpoints that were removed after it was saved.
        notes: why something could not be pruned.
    """

    entry: SeriesEntry
    nbytes: int
    durable: bool
    pruned: list[SeriesEntry]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class SeriesListing:
    """What is in the folder: ``entries`` in the order in which they were saved."""

    entries: list[SeriesEntry]
    metric: str | None
    mode: str
    notes: list[str]

    def __iter__(self) -> Iterator[SeriesEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Series:
    """The checkpoints of one training run. Each states its step and score in its sealed header,
    and nothing else is recorded, so nothing can name a checkpoint that is not there.

        series = Series("run", metric="accuracy", mode="max", keep_last=3)
        series.save({"weight": array}, step=100, score=0.81)
        checkpoint = series.open(series.latest())

    One process writes at a time: the first save locks the folder until ``close()``, or until the
    object goes. Any number may read.

    Args:
        folder: made by the first save if it is absent.
        metric: the name of the scores; None is what the series has.
        mode: ``"min"`` or ``"max"``, which of them is the best.
        keep_last, keep_every: what a save leaves: the last ones, and those whose step is a
            multiple; 0 and 0 keep all.
        keep_best: how many of the best are left besides.
        max_shard_size: save each checkpoint as a set of shards of at most this many bytes.

    Raises:
        flatbed.Error: ``series_mismatch`` if the folder's series has another metric or mode.
    """

    def __init__(
        self,
        folder: Path,
        *,
        metric: str | None = None,
        mode: str | None = None,
        keep_last: int = 0,
        keep_best: int = 1,
        keep_every: int = 0,
        max_shard_size: int | None = None,
    ) -> None:
        self.folder = os.fspath(folder)
        self.metric = metric
        self._series = _flatbed.open_series(
            folder, metric=metric, mode=mode, keep_last=keep_last, keep_best=keep_best,
            keep_every=keep_every, max_shard_nbytes=max_shard_size,
        )  # fmt: skip

    def save(
        self,
        state: Any,
        *,
        step: int,
        score: float | None = None,
        metrics: Mapping[str, float] | None = None,
        wait: bool = True,
        progress: Progress = None,
    ) -> SeriesSaved | PendingSave:
        """Saves a checkpoint that follows the latest one, then prunes.

        Args:
            state: arrays by name, as ``flatbed.numpy.save_file`` takes them.
            step: higher than that of the latest checkpoint.
            score: of the metric. ``metrics`` instead is a dict that has the metric among others.
            wait: False returns a ``PendingSave`` once the tensors are copied. Each save waits for
                the one before, and so does the end of the program.
            progress: called with the bytes done and in total; not with ``wait=False``.

        Raises:
            flatbed.Error: ``step_not_after``, ``series_locked``, and those of saving.
            TypeError: an array of a dtype that the format lacks.
            KeyError: ``metrics`` lacks the metric.
        """
        if metrics is not None:
            if score is not None or self.metric is None:
                raise ValueError("metrics needs a series with a metric, and no score beside it")
            score = metrics[self.metric]
        plan = self._plan(state, os.path.join(self.folder, f"step {step}"))
        if wait:
            return SeriesSaved(**self._series.save(plan, step, score, progress))
        plan.gather()
        pending = self._series.save_async(plan, step, score)
        return in_background(lambda: SeriesSaved(**pending.wait()))

    def _plan(self, state: Any, label: str) -> _flatbed.Plan:
        from .numpy._arrays import plan_of

        return plan_of(state)

    def list(self) -> SeriesListing:
        """All checkpoints, read from their headers."""
        return SeriesListing(*self._series.listing())

    def latest(self) -> SeriesEntry:
        """The one that was saved last, of those that are whole.

        Raises:
            flatbed.Error: ``step_not_found`` if there is none.
        """
        return self._series.latest()

    def best(self) -> SeriesEntry:
        """The one with the best score, of those that are whole; of equal ones the first."""
        return self._series.best()

    def at(self, step: int) -> SeriesEntry:
        """The one of this step."""
        return self._series.at(step)

    def open(self, entry: SeriesEntry) -> Checkpoint:
        """Opens one of the checkpoints, which must still be the one that was found.

        Raises:
            flatbed.Error: ``file_changed`` if another one has its place, and those of opening.
        """
        return _flatbed.open_entry(entry)

    def verify(self, progress: Progress = None) -> Verified:
        """Reads all bytes: each checkpoint, whether it is undamaged, and otherwise why."""
        return self._series.verify(progress)

    def prune(self, dry_run: bool = False) -> tuple[Entries, Entries]:
        """Removes what the options do not keep. Returns what was removed, and what is left."""
        removed, kept, _ = self._series.prune(dry_run)
        return removed, kept

    def roll_back(self, step: int) -> Entries:
        """Makes the checkpoint of this step the latest. Returns the later ones, which are moved to
        the folder ``abandoned``."""
        return self._series.roll_back(step)[1]

    def close(self) -> None:
        """Waits for what is being saved, and gives up the lock."""
        self._series.close()

    def __enter__(self) -> Series:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
