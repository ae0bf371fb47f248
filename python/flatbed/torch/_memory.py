"""The bytes of all tensors of a checkpoint, in memory of torch's."""

from __future__ import annotations

import collections
import math
from typing import Any

import torch

from .. import _flatbed
from . import _cuda
from ._shared import SharedStorage, View, c_order
from ._storage import (
    ALWAYS_SPARE,
    MAX_SPREAD,
    PAIRS,
    TORCH_NAMES,
    Row,
    as_bytes,
    spread,
    torch_dtype,
    typed,
    untyped,
)


class Memory:
    """One block of bytes for each tensor, on the CPU, and its storage where ``map_location`` says.

    Tensors of one block share a storage: they are the tensors that were saved as one. Of PyTorch
    files, all tensors of a storage share one again (SharedStorage).
    """

    def __init__(self, checkpoint: _flatbed.Checkpoint, map_location: Any) -> None:
        self.checkpoint = checkpoint
        self.rows = [Row(row) for row in _flatbed.tensor_rows(checkpoint)]
        self.blocks: list[torch.Tensor] = []
        self.map_location = map_location
        self.is_meta = isinstance(map_location, (str, torch.device)) and str(map_location) == "meta"
        self.shared = self._find_shared()
        self.gpu = self._find_gpu()
        self._storages: dict[Any, tuple[Any, tuple[int, ...]]] = {}
        # What all strides together may take: one tensor may stand in a tree under many.
        self._spare_nbytes = MAX_SPREAD * sum(row.nbytes for row in self.rows) + ALWAYS_SPARE
        self._restored: dict[tuple[int, str], Any] = {}

    def read(self, verify: bool = True, threads: int = 0, progress: Any = None) -> None:
        """Reads all bytes, verified, into memory of their own."""
        if self.gpu is not None and self._read_on_gpu(self.gpu, (verify, threads, progress)):
            return
        self.gpu = None
        device = "meta" if self.is_meta else "cpu"
        for index, row in enumerate(self.rows):
            block = self.shared[index].place(index) if index in self.shared else None
            if block is None:
                block = torch.empty(row.nbytes, dtype=torch.uint8, device=device)
            self.blocks.append(block)
        if self.is_meta:
            return
        targets = [
            (index, *as_bytes(block), None)
            for index, block in enumerate(self.blocks)
            if block.numel() != 0
        ]
        _flatbed.load_tensors(self.checkpoint, targets, verify, threads, progress)
        self._fill_shared()

    def _find_gpu(self) -> torch.device | None:
        """The GPU that all tensors can be read into as they are stored."""
        gpu = _cuda.gpu_of(self.map_location)
        if gpu is None or self.shared:
            return None
        of_the_host = {"stride", "quantizer", "shape"}  # what is made of them is made on the host
        for _, attributes in _flatbed.tree_tensors(self.checkpoint):
            if of_the_host & attributes.keys():
                return None
        return gpu

    def _read_on_gpu(self, gpu: torch.device, options: tuple[bool, int, Any]) -> bool:
        blocks = [torch.empty(row.nbytes, dtype=torch.uint8, device=gpu) for row in self.rows]
        targets = [
            (index, *as_bytes(block), None) for index, block in enumerate(blocks) if block.numel()
        ]
        work = _cuda.load_tensors(self.checkpoint, targets, options, [gpu] * len(targets))
        if work is not None:
            self.blocks = blocks
        return work is not None

    def map(self) -> None:
        """Maps them copy on write; what is not stored plainly is read."""
        self.gpu = None
        for index, row in enumerate(self.rows):
            if self.is_meta or row.nbytes == 0:
                device = "meta" if self.is_meta else "cpu"
                block = torch.empty(row.nbytes, dtype=torch.uint8, device=device)
            else:
                mapped = _flatbed.map_tensor(self.checkpoint, index)
                block = torch.frombuffer(mapped, dtype=torch.uint8)
            self.blocks.append(block)
        if not self.is_meta:
            self._fill_shared()

    def _fill_shared(self) -> None:
        for index, shared in self.shared.items():
            block = self.blocks[index]
            if untyped(block).data_ptr() != untyped(shared.memory()).data_ptr():
                shared.fill(index, block)

    def tensor(self, index: int, attributes: dict[str, Any]) -> torch.Tensor:
        """A tensor without Python attributes, gradients and class."""
        row = self.rows[index]
        name = attributes.get("dtype") or TORCH_NAMES.get(row.dtype, row.dtype)
        dtype = torch_dtype(name, row.name)
        size = own_size(row, name, attributes)
        check_nbytes(row, dtype, size)
        device = attributes.get("device", "cpu")
        begin = 0
        shared = self.shared.get(index)
        view = View(dtype, size, attributes.get("stride") or c_order(size))
        if shared is not None and shared.holds(index, view):
            storage, stride = self._shared_storage(shared, device), view.stride
            begin = shared.views[index].begin
        else:
            storage, stride = self._storage(index, dtype, size, (device, attributes.get("stride")))
        if "quantizer" in attributes:
            return torch._utils._rebuild_qtensor(
                typed(storage, dtype), begin, size, stride, attributes["quantizer"], False, {}
            )
        empty = torch.empty((0,), dtype=dtype, device=storage.device)
        return empty.set_(storage, begin, size, stride)

    def _shared_storage(self, shared: SharedStorage, device: str) -> Any:
        key = id(shared), device
        if key not in self._restored:
            self._restored[key] = self._restore(untyped(shared.memory()), device)
        return self._restored[key]

    def _storage(
        self,
        index: int,
        dtype: torch.dtype,
        size: tuple[int, ...],
        place: tuple[str, tuple[int, ...] | None],
    ) -> tuple[Any, tuple[int, ...]]:
        device, wanted = place
        key = index, size, place
        known = self._storages.get(key)
        if known is not None:
            return known
        block, stride = self.blocks[index], c_order(size)
        itemsize = torch.empty(0, dtype=dtype, device="meta").element_size()
        if wanted is not None and len(wanted) == len(size):
            moved = None
            if block.numel() != 0 and not self.is_meta:
                moved = spread(block, itemsize, size, wanted, self._spare_nbytes)
            if moved is not None:
                self._spare_nbytes -= moved.numel()
            if moved is not None or block.numel() == 0:
                block, stride = block if moved is None else moved, wanted
        storage = self._restore(untyped(block), device)
        self._storages[key] = storage, stride
        return storage, stride

    def _find_shared(self) -> dict[int, SharedStorage]:
        """The storages of which several tensors are views, by the index of each tensor."""
        numbers = collections.Counter(row.storage for row in self.rows if row.begin is not None)
        if max(numbers.values(), default=0) < 2:
            return {}
        groups: dict[int, SharedStorage] = {}
        for index, attributes in _flatbed.tree_tensors(self.checkpoint):
            row = self.rows[index]
            several_in_a_byte = "shape" in attributes
            if row.begin is None or numbers[row.storage] < 2 or several_in_a_byte:
                continue
            name = attributes.get("dtype") or TORCH_NAMES.get(row.dtype, row.dtype)
            size = own_size(row, name, attributes)
            check_nbytes(row, torch_dtype(name, row.name), size)
            stride = attributes.get("stride") or c_order(size)
            view = View(torch_dtype(name, row.name), size, stride)
            groups.setdefault(row.storage, SharedStorage()).add(index, row, view)
        device = "meta" if self.is_meta else "cpu"
        made = [group for group in groups.values() if group.views and group.make(device)]
        return {index: group for group in made for index in group.views}

    def _restore(self, storage: Any, location: str) -> Any:
        """The storage where ``map_location`` wants it, as torch.load decides."""
        restore = torch.serialization.default_restore_location
        wanted = self.map_location
        if self.is_meta or self.gpu is not None:
            return storage
        if wanted is None:
            return restore(storage, location)
        if isinstance(wanted, dict) or hasattr(wanted, "get"):
            return restore(storage, wanted.get(location, location))
        if isinstance(wanted, (str, bytes, torch.device)):
            return restore(storage, wanted if isinstance(wanted, bytes) else str(wanted))
        restored = wanted(storage, location)
        return restore(storage, location) if restored is None else restored


def check_nbytes(row: Row, dtype: torch.dtype, size: tuple[int, ...]) -> None:
    """A tree may name any dtype that torch has, and a shape with it. torch would make a storage
    that is too small larger, with memory that nobody has written."""
    itemsize = torch.empty(0, dtype=dtype, device="meta").element_size()
    several_in_a_byte = dtype in (
        getattr(torch, "quint4x2", None), getattr(torch, "quint2x4", None)
    )  # fmt: skip
    if not several_in_a_byte and math.prod(size) * itemsize != row.nbytes:
        raise ValueError(
            f"found {row.nbytes} bytes, {dtype}{list(size)} needs {math.prod(size) * itemsize}"
        )


def own_size(row: Row, name: str, attributes: dict[str, Any]) -> tuple[int, ...]:
    """The shape that torch sees; the stored one may differ (T6 of the specification)."""
    if "shape" in attributes:
        shape: tuple[int, ...] = attributes["shape"]
        return shape
    if name in PAIRS:
        return row.shape[:-1]
    if row.dtype == "F4":
        return (*row.shape[:-1], row.shape[-1] // 2)
    return row.shape
