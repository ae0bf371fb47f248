"""Checkpoints in the memory of NVIDIA GPUs, with or without another framework.

    tensors = flatbed.cuda.load("model.safetensors", "cuda:0")
    weight = torch.from_dlpack(tensors["fc.weight"])

It needs the NVIDIA driver (CUDA 11.4 or newer), which is found when it is first used, and nothing
else. Bytes are read, verified on the host, and copied to the GPU through a small page-locked buffer
while the next ones are read. All functions return when the bytes have arrived, so that every stream
sees them.

Streams are named as DLPack names them: ``"legacy"`` or 1 is the legacy default stream, stream 0 of
most programs and of torch; ``"per_thread"`` or 2 the calling thread's default stream; any other
integer a ``cudaStream_t``. 0 is refused, because it means either.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Union

from . import _flatbed
from . import open as _open
from ._flatbed import DeviceTensor
from ._types import Opened, Progress

__all__ = ["DeviceInfo", "DeviceTensor", "LoadIntoReport", "devices", "load", "load_into"]

Device = Union[int, str]
Stream = Union[int, str, None]

_STREAMS = {"legacy": 1, "per_thread": 2}


@dataclasses.dataclass(frozen=True)
class DeviceInfo:
    """A GPU.

    Attributes:
        ordinal: its number, N of ``"cuda:N"``.
        name: as ``"NVIDIA H100 80GB HBM3"``.
        memory_nbytes: the size of its memory.
        compute_capability: (major, minor).
        pci_bus_id: as ``"0000:3B:00.0"``.
    """

    ordinal: int
    name: str
    memory_nbytes: int
    compute_capability: tuple[int, int]
    pci_bus_id: str


@dataclasses.dataclass(frozen=True)
class LoadIntoReport:
    """What load_into() did.

    Attributes:
        bytes_read: from files.
        bytes_verified: compared with digests of a seal.
        seconds: of the whole load.
    """

    bytes_read: int
    bytes_verified: int
    seconds: float


def devices() -> list[DeviceInfo]:
    """The GPUs that this process can use, in the order of their numbers; at least one.

    Raises:
        flatbed.DeviceError: ``device_unavailable``: there is no driver, one that is too old, or no
            GPU.
    """
    return [
        DeviceInfo(ordinal, name, memory_nbytes, (major, minor), pci_bus_id)
        for ordinal, name, memory_nbytes, major, minor, pci_bus_id in _flatbed.cuda_devices()
    ]


def load(
    path: Opened,
    device: Device = 0,
    *,
    stream: Stream = None,
    verify: bool = True,
    threads: int = 0,
    progress: Progress = None,
) -> dict[str, DeviceTensor]:
    """Loads all tensors into one block of the GPU's memory that flatbed allocates.

    Args:
        path: what ``flatbed.open`` takes, or a ``flatbed.Checkpoint``, such as a part of one.
        device: the GPU: its number or ``"cuda:N"``.
        stream: a stream after whose work the copies come. Fresh memory needs none.
        verify: compare the bytes with the digests of a sealed file.
        threads: how many read and hash; 0 chooses.
        progress: called with the bytes done and in total; True for a bar of tqdm.

    Returns:
        the tensors by name, to be taken over by DLPack. The block is freed with the last of them.

    Raises:
        flatbed.DeviceError: there is no driver or no such GPU, or the GPU reported an error.
        flatbed.Error: its memory does not suffice (``resource_exhausted``), or of reading.
    """
    checkpoint = path if isinstance(path, _flatbed.Checkpoint) else _open(path)
    tensors = _flatbed.load_to_device(
        checkpoint, _ordinal(device), _stream(stream), verify, threads, progress
    )
    return {tensor.name: tensor for tensor in tensors}


def load_into(
    destinations: Mapping[str, Any],
    path: Opened,
    device: Device = 0,
    *,
    stream: Stream,
    verify: bool = True,
    threads: int = 0,
    progress: Progress = None,
) -> LoadIntoReport:
    """Loads tensors into memory that the caller has on the GPU.

    Args:
        destinations: for each name of the checkpoint that is wanted, its memory: an object with
            ``__cuda_array_interface__`` (of cupy, numba, torch), contiguous in C order and as large
            as the tensor, or a pair (address, nbytes). The bytes are those of the checkpoint's
            dtype, whatever the object calls them. It must stay as it is during the call.
        path: what ``flatbed.open`` takes, or a ``flatbed.Checkpoint``: ``checkpoint.cast()`` and
            ``checkpoint.rename()`` give other dtypes and names.
        device: the GPU that the memory is of: its number or ``"cuda:N"``.
        stream: the stream on which the memory was allocated or last used: the copies come after
            what it holds now. torch's allocator gives memory that the current stream may still use,
            ``torch.cuda.current_stream().cuda_stream or "legacy"``. None: nobody uses the memory.
        verify: compare the bytes with the digests of a sealed file.
        threads: how many read and hash; 0 chooses.
        progress: called with the bytes done and in total; True for a bar of tqdm.

    Raises:
        flatbed.TensorNotFoundError: the checkpoint has no such tensor.
        ValueError: an object has another size, or is not contiguous or not writable.
        TypeError: it has no ``__cuda_array_interface__``.
        flatbed.DeviceError: there is no driver or no such GPU, the stream is captured into a graph
            (``stream_capturing``), or the GPU reported an error.
        flatbed.Error: the memory is not of that GPU (``destination_invalid``), or of reading. After
            the latter its contents are unspecified.
    """
    checkpoint = path if isinstance(path, _flatbed.Checkpoint) else _open(path)
    numbers = {row[0]: number for number, row in enumerate(_flatbed.tensor_rows(checkpoint))}
    targets = []
    for name, destination in destinations.items():
        tensor = checkpoint[name]
        address, nbytes = _memory_of(name, destination)
        if nbytes != tensor.nbytes:
            raise ValueError(
                f"destination of {name!r}: found {nbytes} bytes, "
                f"{tensor.dtype}{list(tensor.shape)} needs {tensor.nbytes}"
            )
        if nbytes:
            targets.append((numbers[tensor.name], address, nbytes, None))
    made = _flatbed.cuda_device(_ordinal(device), _stream(stream))
    done = _flatbed.load_tensors(
        checkpoint, targets, verify, threads, progress, [made] * len(targets)
    )
    return LoadIntoReport(done["bytes_read"], done["bytes_verified"], done["seconds"])


def _ordinal(device: Device) -> int:
    number = device
    if isinstance(device, str):
        kind, colon, digits = device.partition(":")
        if kind == "cuda" and (not colon or (digits.isascii() and digits.isdecimal())):
            number = int(digits or 0)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**31:
        return number
    raise ValueError(f"device: found {device!r}, expected a number or 'cuda:N'")


def _stream(stream: Stream) -> int | None:
    handle = _STREAMS.get(stream) if isinstance(stream, str) else stream
    if handle is None and stream is None:
        return None
    if not isinstance(handle, int) or isinstance(handle, bool) or not 0 <= handle < 2**64:
        raise ValueError(
            f"stream: found {stream!r}, expected None, 'legacy', 'per_thread' or a handle"
        )
    if handle == 0:
        raise ValueError("stream: found 0, expected 'legacy' or 'per_thread': 0 means either")
    return handle


def _memory_of(name: str, destination: Any) -> tuple[int, int]:
    """The address and the size in bytes."""
    if isinstance(destination, tuple) and len(destination) == 2:
        address, nbytes = destination
        return int(address), int(nbytes)
    interface = getattr(destination, "__cuda_array_interface__", None)
    if not isinstance(interface, Mapping):
        raise TypeError(
            f"destination of {name!r}: expected an object with __cuda_array_interface__ or "
            f"(address, nbytes), not {type(destination).__name__}"
        )
    shape, itemsize = tuple(interface["shape"]), int(interface["typestr"][2:])
    address, is_read_only = interface["data"]
    if is_read_only:
        raise ValueError(f"destination of {name!r}: the memory is read-only")
    strides = interface.get("strides")
    if strides is not None and not _is_c_order(shape, tuple(strides), itemsize):
        raise ValueError(f"destination of {name!r}: expected memory contiguous in C order")
    return int(address or 0), math.prod(shape) * itemsize


def _is_c_order(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    expected = itemsize
    for size, stride in zip(reversed(shape), reversed(strides)):
        if size == 0:
            return True
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
