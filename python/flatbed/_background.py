"""Saves on a thread that the interpreter waits for when it exits."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any, Callable


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
