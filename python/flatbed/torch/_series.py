"""Series: the checkpoints of a training run, in a folder."""

from __future__ import annotations

from typing import Any

from .. import _flatbed
from .. import series as _series
from .._flatbed import SeriesEntry
from ._load import load
from ._state import plan_of


class Series(_series.Series):
    """A ``flatbed.series.Series`` that saves what ``flatbed.torch.save`` takes, and loads it.

        series = ft.Series("run", metric="accuracy", mode="max", keep_last=3)
        series.save(state, step=100, score=0.81)
        state = series.load_latest(map_location="cpu")

    Raises:
        flatbed.Error: ``series_mismatch`` if the folder's series has another metric or mode.
    """

    def _plan(self, state: Any, label: str) -> _flatbed.Plan:
        return plan_of(state, label)

    def load(self, entry: SeriesEntry, *args: Any, **options: Any) -> Any:
        """Loads a checkpoint; the options are those of ``flatbed.torch.load``."""
        return load(self.open(entry), *args, **options)

    def load_latest(self, *args: Any, **options: Any) -> Any:
        """Loads ``latest()``."""
        return self.load(self.latest(), *args, **options)

    def load_best(self, *args: Any, **options: Any) -> Any:
        """Loads ``best()``."""
        return self.load(self.best(), *args, **options)
