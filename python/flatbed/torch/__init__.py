"""State dicts and whole training states in PyTorch, without pickle.

    import flatbed.torch as ft

    ft.save({"model": model.state_dict(), "epoch": 3}, "last.safetensors")
    state = ft.load("last.safetensors")
    report = ft.load_into(model, "model.pth", strict=False)

    with ft.Series("run", metric="accuracy", mode="max") as series:
        series.save(state, step=100, score=0.81)
        state = series.load_best()

doc/python_torch.md goes through it task by task.
"""

from .._background import PendingSave
from ..series import SeriesEntry, SeriesListing, SeriesSaved
from ._load import load
from ._load_into import LoadIntoReport, load_into
from ._ranks import Ranks, load_together
from ._save import SaveReport, save
from ._series import Series

__all__ = [
    "LoadIntoReport",
    "PendingSave",
    "Ranks",
    "SaveReport",
    "Series",
    "SeriesEntry",
    "SeriesListing",
    "SeriesSaved",
    "load",
    "load_into",
    "load_together",
    "save",
]
