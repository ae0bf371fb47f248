"""Storages of which several tensors are views, as a matrix and its transpose."""

from __future__ import annotations

import dataclasses

import torch

from ._storage import SAME_SIZE, Row, put

# A storage that is larger than this many times what its tensors show is not made.
_MAX_RATIO, _ALWAYS_NBYTES = 16, 1 << 20


@dataclasses.dataclass
class View:
    """What a tensor shows of a storage. ``begin`` and ``stride`` are in elements."""

    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    begin: int = 0
    itemsize: int = 1
    is_direct: bool = False  # it is read to its place

    def extent(self) -> tuple[int, int]:
        """The first byte of the storage that it shows, and the one after the last."""
        last = sum((n - 1) * step for n, step in zip(self.size, self.stride))
        return self.begin * self.itemsize, (self.begin + last + 1) * self.itemsize


class SharedStorage:
    """One storage, from its beginning to the last element that a tensor shows."""

    def __init__(self) -> None:
        self.views: dict[int, View] = {}  # by the index of the tensor
        self._shown_nbytes = 0
        self._memory: torch.Tensor | None = None

    def add(self, index: int, row: Row, view: View) -> None:
        view.itemsize = torch.empty(0, dtype=view.dtype, device="meta").element_size()
        if index not in self.views and row.begin is not None and row.begin % view.itemsize == 0:
            view.begin = row.begin // view.itemsize
            self.views[index] = view
            self._shown_nbytes += row.nbytes

    def make(self, device: str) -> bool:
        """Makes the memory, unless it would be far larger than the tensors."""
        nbytes = max(view.extent()[1] for view in self.views.values())
        if len(self.views) < 2 or nbytes > max(_MAX_RATIO * self._shown_nbytes, _ALWAYS_NBYTES):
            return False
        self._memory = torch.zeros(nbytes, dtype=torch.uint8, device=device)
        reached = 0
        for view in sorted(self.views.values(), key=View.extent):
            begin, end = view.extent()
            view.is_direct = begin >= reached and view.stride == c_order(view.size)
            reached = end if view.is_direct else reached
        return True

    def memory(self) -> torch.Tensor:
        assert self._memory is not None
        return self._memory

    def place(self, index: int) -> torch.Tensor | None:
        """The bytes to which a tensor can be read; None if they are not its alone."""
        view = self.views[index]
        begin, end = view.extent()
        return self.memory()[begin:end] if view.is_direct else None

    def fill(self, index: int, block: torch.Tensor) -> None:
        """Puts the elements of a block in C order where the view has them."""
        view, memory = self.views[index], self.memory()
        dtype = SAME_SIZE[view.itemsize]
        whole = memory[: memory.numel() // view.itemsize * view.itemsize].view(dtype)
        put(block.view(dtype).view(view.size), whole[view.begin :], view.stride)

    def holds(self, index: int, view: View) -> bool:
        """Whether a node of the tree means the view that is here."""
        own = self.views[index]
        return (own.dtype, own.size, own.stride) == (view.dtype, view.size, view.stride)


def c_order(size: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor that is one block."""
    stride, step = [], 1
    for n in reversed(size):
        stride.append(step)
        step *= max(n, 1)
    return tuple(reversed(stride))
