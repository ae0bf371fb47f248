"""What ``progress=`` may be: a callable, or ``True`` for a bar of tqdm."""

from __future__ import annotations

from typing import Callable

Progress = Callable[[int, int], object]


class _Bar:
    """A bar of tqdm as a callback."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("progress=True needs tqdm, which is not installed") from error
        self._bar = tqdm(total=0, unit="B", unit_scale=True, unit_divisor=1024)

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def callback(progress: object) -> Progress | None:
    """The callable for a ``progress`` argument; None for None and False.

    Raises:
        TypeError: it is something else.
        ImportError: it is True, and tqdm is not installed.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return _Bar()
    if callable(progress):
        return progress
    raise TypeError(f"progress must be a callable, a bool or None, not {type(progress).__name__}")
