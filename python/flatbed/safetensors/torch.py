"""Safetensors files of PyTorch's tensors, as ``safetensors.torch`` reads and writes them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Iterable, Mapping, Optional, Union

import torch

from . import TensorSpec, deserialize, safe_open, serialize, serialize_file
from ._frameworks import framework
from ._save import Metadata, PathLike

__all__ = ["load", "load_file", "load_model", "save", "save_file", "save_model"]

Device = Union[str, int, torch.device]


# ---- loading -------------------------------------------------------------------------------------


def load_file(
    filename: PathLike,
    device: Device = "cpu",
    *,
    backend: str = "mmap",
    verify: Optional[str] = None,
) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by name, verified if it is sealed.

    Args:
        filename: the path of the file.
        device: where the tensors go.
        backend: ``"mmap"``: on the CPU they lie in the mapped file, and what is written to them
            reaches no file. ``"pread"``: they are read into memory of their own.
        verify: ``"tensor"`` (the default), ``"copy"`` or ``"off"``, see flatbed.safetensors.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: the file is damaged or not safetensors.
    """
    with safe_open(filename, "pt", device, backend=backend, verify=verify) as file:
        return file.get_tensors()


def load(data: bytes, *, verify: str = "tensor") -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file in memory, by name, on the CPU.

    Args:
        data: the file.
        verify: ``"off"`` ignores a seal; otherwise every chunk of a sealed file is verified.

    Raises:
        SafetensorError: the file is damaged or not safetensors.
    """
    make = framework("pytorch", None).tensor
    return {
        name: make(tensor["data"], tensor["dtype"], tensor["shape"])
        for name, tensor in deserialize(data, verify=verify)
    }


def load_model(
    model: torch.nn.Module,
    filename: PathLike,
    strict: bool = True,
    device: Device = "cpu",
    *,
    backend: str = "mmap",
    verify: Optional[str] = None,
) -> tuple[set[str], list[str]]:
    """Loads a file that save_model() wrote into a module, also where its tensors share memory.

    Args:
        model: the module, whose tensors are overwritten.
        filename: the path of the file.
        strict: whether a missing or an unexpected name is an error.
        device: where the tensors are loaded before they are copied.
        backend: ``"mmap"`` or ``"pread"``, see load_file().
        verify: ``"tensor"`` (the default), ``"copy"`` or ``"off"``, see flatbed.safetensors.

    Returns:
        the names in the module that were not loaded, and those in the file that were not used.

    Raises:
        RuntimeError: with ``strict``, names are missing or unexpected.
        SafetensorError: the file is damaged or not safetensors.
    """
    loaded = load_file(filename, device=device, backend=backend, verify=verify)
    dropped = _remove_duplicate_names(model.state_dict(), preferred_names=loaded.keys())
    missing_keys, unexpected = model.load_state_dict(loaded, strict=False)
    missing = set(missing_keys)
    for name in (name for names in dropped.values() for name in names):
        if name in missing:
            missing.remove(name)  # another name stands for it
        else:
            unexpected.append(name)
    if strict and (missing or unexpected):
        raise RuntimeError(_misfit(type(model).__name__, missing, unexpected))
    return missing, unexpected


def _misfit(model: str, missing: Iterable[str], unexpected: Iterable[str]) -> str:
    parts = [f"Error(s) in loading state_dict for {model}:"]
    for what, names in (("Missing", missing), ("Unexpected", unexpected)):
        if names:
            listed = ", ".join(f'"{name}"' for name in sorted(names))
            parts.append(f"    {what} key(s) in state_dict: {listed}")
    return "\n".join(parts)


# ---- saving --------------------------------------------------------------------------------------


def save(
    tensors: Mapping[str, torch.Tensor], metadata: Metadata = None, *, seal: bool = False
) -> bytes:
    """The safetensors file of these tensors, as bytes.

    Args:
        tensors: by name, on any device; contiguous, dense, and without shared memory.
        metadata: pairs of texts for the header.
        seal: whether the file is sealed.

    Raises:
        ValueError: a tensor is not contiguous or not dense, or a value is no tensor.
        RuntimeError: tensors share memory.
    """
    on_cpu = _to_cpu(tensors)
    return serialize(_specs(on_cpu), metadata, seal=seal)


def save_file(
    tensors: Mapping[str, torch.Tensor],
    filename: PathLike,
    metadata: Metadata = None,
    *,
    seal: bool = False,
) -> None:
    """Writes the safetensors file of these tensors; it appears complete or not at all.

    Args:
        tensors: by name, on any device; contiguous, dense, and without shared memory. They must not
            change meanwhile.
        filename: where to write; a file that exists is replaced.
        metadata: pairs of texts for the header.
        seal: whether the file is sealed, and on disk when this returns.

    Raises:
        ValueError: a tensor is not contiguous or not dense, or a value is no tensor.
        RuntimeError: tensors share memory.
        SafetensorError: the file cannot be written.
    """
    on_cpu = _to_cpu(tensors)
    serialize_file(_specs(on_cpu), filename, metadata, seal=seal)


def save_model(
    model: torch.nn.Module,
    filename: PathLike,
    metadata: Metadata = None,
    force_contiguous: bool = True,
    *,
    seal: bool = False,
) -> None:
    """Writes the tensors of a module, of those that share memory only one.

    Args:
        model: the module.
        filename: where to write; a file that exists is replaced.
        metadata: pairs of texts for the header. The names that were left out are added, each with
            the name that stands for it.
        force_contiguous: whether tensors that are not contiguous are copied instead of refused.
        seal: whether the file is sealed.

    Raises:
        ValueError: a tensor is not contiguous, without ``force_contiguous``.
        RuntimeError: of tensors that share memory none is all of it.
    """
    state = dict(model.state_dict())
    dropped = {
        name: kept for kept, names in _remove_duplicate_names(state).items() for name in names
    }
    for name in dropped:
        del state[name]
    if dropped:
        metadata = {**dropped, **(metadata or {})}
    if force_contiguous:
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    try:
        save_file(state, filename, metadata, seal=seal)
    except ValueError as error:
        raise ValueError(f"{error}; or use save_model(..., force_contiguous=True)") from None


def _to_cpu(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors in the host's memory, once they are known to make a file."""
    if not isinstance(tensors, dict):
        raise ValueError(f"expected a dict of tensors, not {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name!r} is no tensor: found {type(tensor).__name__}")
        if tensor.layout != torch.strided:
            raise ValueError(f"tensor {name!r} is sparse: use to_dense(), which may make it large")
    shared = [sorted(names) for names in _find_shared_tensors(tensors) if len(names) > 1]
    if shared:
        raise RuntimeError(
            f"tensors share memory, which a file would hold several times: {shared}; "
            "save_model() writes such tensors once"
        )
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"tensor {name!r} is not contiguous: pass tensor.contiguous()")
    return {name: _plain(tensor) for name, tensor in tensors.items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the host's memory whose bytes are its values: conj() and the like are lazy."""
    return tensor.detach().to("cpu").resolve_conj().resolve_neg()


def _specs(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            dtype=str(tensor.dtype).rpartition(".")[2],
            shape=tensor.shape,
            data_ptr=tensor.data_ptr(),
            data_len=tensor.numel() * tensor.element_size(),
        )
        for name, tensor in tensors.items()
    }


# ---- shared memory -------------------------------------------------------------------------------


def _storage(tensor: torch.Tensor) -> Any:
    try:
        return tensor.untyped_storage()
    except AttributeError:  # before torch 2.0
        return tensor.storage()


def storage_ptr(tensor: torch.Tensor) -> int:
    """The address of a tensor's storage; 0 if it has none."""
    try:
        return int(_storage(tensor).data_ptr())
    except (NotImplementedError, RuntimeError):  # on the meta device
        return 0


def storage_size(tensor: torch.Tensor) -> int:
    """The size of a tensor's storage, in bytes."""
    try:
        return int(_storage(tensor).nbytes())
    except NotImplementedError:  # on the meta device, before torch 2.0
        return int(tensor.numel() * tensor.element_size())


def _end_ptr(tensor: torch.Tensor) -> int:
    """The address after the last element."""
    if not tensor.numel():
        return int(tensor.data_ptr())
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride()))
    return int(tensor.data_ptr() + (last + 1) * tensor.element_size())


def _is_complete(tensor: torch.Tensor) -> bool:
    """Whether a tensor is all of its storage."""
    nbytes = tensor.numel() * tensor.element_size()
    return bool(tensor.data_ptr() == storage_ptr(tensor) and nbytes == storage_size(tensor))


def _find_shared_tensors(state_dict: Mapping[str, torch.Tensor]) -> list[set[str]]:
    """The names of tensors in groups: those of one group overlap in memory."""
    storages: dict[Any, list[str]] = defaultdict(list)
    for name, tensor in state_dict.items():
        pointer, size = storage_ptr(tensor), storage_size(tensor)
        if tensor.device.type != "meta" and pointer and size:
            storages[tensor.device, pointer, size].append(name)
    groups: list[set[str]] = []
    for names in storages.values():
        if len(names) == 1:
            groups.append(set(names))
            continue
        areas = sorted(
            (state_dict[name].data_ptr(), _end_ptr(state_dict[name]), name) for name in names
        )
        end = 0
        for begin, stop, name in areas:
            if begin >= end:
                groups.append(set())
            groups[-1].add(name)
            end = max(end, stop)  # a tensor may lie inside one before
    return groups


def _remove_duplicate_names(
    state_dict: Mapping[str, torch.Tensor],
    *,
    preferred_names: Optional[Iterable[str]] = None,
    discard_names: Optional[Iterable[str]] = None,
) -> dict[str, list[str]]:
    """Which names to drop so that no two tensors overlap: by the name that is kept for them.

    Kept is, of those that are all of their storage, the first in name order: of the preferred
    ones if there are any, or else of those not to be discarded.

    Raises:
        RuntimeError: none of the tensors that overlap is all of their storage.
    """
    preferred, discarded = set(preferred_names or ()), set(discard_names or ())
    dropped: dict[str, list[str]] = defaultdict(list)
    for names in _find_shared_tensors(state_dict):
        complete = {name for name in names if _is_complete(state_dict[name])}
        if not complete:
            raise RuntimeError(
                f"of the tensors {sorted(names)}, which share memory, none is all of it: "
                "a file would hold more or less than the model does"
            )
        keep = min(complete & preferred or complete - discarded or complete)
        for name in sorted(names - {keep}):
            dropped[keep].append(name)
    return dropped
