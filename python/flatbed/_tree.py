"""The structure of a checkpoint without torch: ``Checkpoint.tree``."""

from __future__ import annotations

from typing import Any

from . import _flatbed
from ._factory import Factory


class _CoreFactory(Factory):
    """Tensors, arrays and long bytes are those of the checkpoint."""

    def __init__(self, checkpoint: _flatbed.Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.names = [row[0] for row in _flatbed.tensor_rows(checkpoint)]

    def tensor(self, index: int, attributes: dict[str, Any]) -> _flatbed.Tensor:
        return self.checkpoint[self.names[index]]

    def array(self, index: int, typestr: str) -> _flatbed.Tensor:
        return self.checkpoint[self.names[index]]

    def long_bytes(self, index: int) -> bytes:
        return self.checkpoint[self.names[index]].read()


def tree_of(checkpoint: _flatbed.Checkpoint) -> Any:
    return _flatbed.build_tree(checkpoint, _CoreFactory(checkpoint))
