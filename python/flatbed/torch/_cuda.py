"""Loads straight into the memory of NVIDIA GPUs that torch has allocated.

The copies come after what torch's current stream of each GPU holds, on which its allocator gave the
memory. Wherever this cannot be done, loads go to the host's memory and torch copies.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch

from .. import _flatbed, errors

_LEGACY = 1  # as DLPack names the legacy default stream, which torch calls 0

# What is found before a byte is read: that this GPU, or memory of this kind, cannot be used.
_UNUSABLE = ("device_unavailable", "destination_invalid")


def gpu_of(place: Any) -> torch.device | None:
    """The GPU, with its number, that ``place`` names, if loads can write to it."""
    if not isinstance(place, (str, torch.device)):
        return None
    if not str(place).startswith("cuda") or getattr(torch.version, "cuda", None) is None:
        return None  # also of ROCm, whose devices have this name
    if not torch.cuda.is_available():
        return None
    index = torch.device(place).index
    return torch.device("cuda", torch.cuda.current_device() if index is None else index)


def load_tensors(
    checkpoint: _flatbed.Checkpoint,
    targets: Sequence[tuple[int, int, int, str | None]],
    options: tuple[bool, int, Any],
    places: Sequence[torch.device | None],
) -> dict[str, Any] | None:
    """As ``_flatbed.load_tensors``, with the GPU of each target, or None for the host's memory.

    Returns None, and has read nothing, if a GPU cannot be used.
    """
    try:
        made = {place: _device(place) for place in places if place is not None}
        devices = [None if place is None else made[place] for place in places] if made else []
        return _flatbed.load_tensors(checkpoint, targets, *options, devices)
    except errors.Error as error:
        if error.name not in _UNUSABLE or not any(place is not None for place in places):
            raise
        return None


def _device(gpu: torch.device) -> _flatbed.CudaDevice:
    return _flatbed.cuda_device(gpu.index, torch.cuda.current_stream(gpu).cuda_stream or _LEGACY)
