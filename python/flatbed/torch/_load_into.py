"""load_into(): a checkpoint into a model that exists."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

import torch

from .. import _flatbed
from .. import open as _open
from .._types import Opened, Progress, RenameRules
from . import _cuda
from ._storage import PAIRS, TORCH_NAMES, Row, as_bytes, torch_dtype, untyped

_STORED_NAMES = {name: dtype for dtype, name in TORCH_NAMES.items()}
_STORED_PAIRS = {"complex32": "F16", "complex128": "F64", "bcomplex32": "BF16"}
_CASTABLE = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}


@dataclasses.dataclass(frozen=True)
class LoadIntoReport:
    """What load_into() found.

    Attributes:
        missing_keys: names of the model that the checkpoint lacks; they keep their values.
        unexpected_keys: names of the checkpoint that the model lacks.
        mismatched: (name, shape in the checkpoint, shape in the model) where these differ.
        suggestion: a change of names with which more would match, or None.
        bytes_read: from files.
        bytes_verified: compared with digests of a seal.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    suggestion: str | None
    bytes_read: int = 0
    bytes_verified: int = 0

    @property
    def complete(self) -> bool:
        """Nothing is missing, unexpected or of another shape."""
        return not (self.missing_keys or self.unexpected_keys or self.mismatched)


class _Target:
    """A tensor of the model under all its names."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        self.names = [name]
        self.tensor = tensor

    def shape(self) -> list[int]:
        pair = self.dtype_name() in PAIRS
        return [*self.tensor.shape, 2] if pair else [*self.tensor.shape]

    def dtype_name(self) -> str:
        return str(self.tensor.dtype).rpartition(".")[2]

    def stored_dtype(self) -> str | None:
        name = self.dtype_name()
        return _STORED_PAIRS.get(name) or _STORED_NAMES.get(name)

    def takes(self, row: Row) -> bool:
        """Whether the load can write its memory, cast if that is needed."""
        tensor, stored = self.tensor, self.stored_dtype()
        if not tensor.is_contiguous() or stored is None:
            return False
        if tensor.device.type != "cpu" and _cuda.gpu_of(tensor.device) is None:
            return False
        if tensor.is_conj() or tensor.is_neg():  # whose memory has other values
            return False
        if row.dtype == stored:
            return True
        return self.dtype_name() not in PAIRS and {row.dtype, stored} <= _CASTABLE


def load_into(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    path: Opened,
    strict: bool = True,
    *,
    select: str | None = None,
    rename: RenameRules = None,
    dtype: torch.dtype | None = None,
    ignore_mismatched_sizes: bool = False,
    verify: bool = True,
    threads: int = 0,
    progress: Progress = None,
) -> LoadIntoReport:
    """Loads a checkpoint into the parameters and persistent buffers of a model.

    Bytes are read straight into the model's memory where it is contiguous, on the CPU or an NVIDIA
    GPU, and floats are cast on the way. On a GPU they come after what its current stream holds.
    Everything is compared before the first byte is read. Tied parameters need one of their names.
    State that is no tensor (``get_extra_state``) stays.

    Args:
        model: a module, or a dict of tensors by name.
        path: what ``flatbed.open`` takes, or a ``flatbed.Checkpoint``.
        strict: raise if names are missing or unexpected.
        select: the part of the checkpoint that holds the model, as ``"model"`` or
            ``"state.ema"``.
        rename: rules as ``flatbed.Checkpoint.rename`` takes them, ``{"module.*": "{1}"}``.
        dtype: give the model's floating-point parameters and buffers this dtype first.
        ignore_mismatched_sizes: leave tensors of another shape as they are instead of raising.
        verify: compare the bytes with the digests of a sealed file.
        threads: how many read and hash; 0 chooses.
        progress: called with the bytes done and in total; True for a bar of tqdm.

    Raises:
        RuntimeError: names or shapes do not match, as ``load_state_dict`` raises; the model is
            unchanged.
        flatbed.Error: of reading. Bytes that do not match a seal are found while they are read:
            the model's values are then unspecified.
    """
    checkpoint = path if isinstance(path, _flatbed.Checkpoint) else _open(path)
    if select is not None:
        checkpoint = checkpoint.select(select)
    if rename is not None:
        checkpoint = checkpoint.rename(rename)
    targets = _targets_of(model)
    expected = [(t.names[0], t.shape(), None, t.names[1:]) for t in targets]
    found = _flatbed.match_names(checkpoint, expected, ignore_mismatched_sizes)
    matched = found.pop("matched")
    report = LoadIntoReport(**found)
    _raise_errors(model, report, strict, ignore_mismatched_sizes)
    pairs = [(targets[i], index) for i, index in matched]
    with torch.no_grad():
        if dtype is not None:
            _give_dtype(targets, {id(target) for target, _ in pairs}, dtype)
        work = _flatbed_load(checkpoint, pairs, (verify, threads, progress))
    return dataclasses.replace(
        report, bytes_read=work["bytes_read"], bytes_verified=work["bytes_verified"]
    )


def _flatbed_load(
    checkpoint: _flatbed.Checkpoint,
    pairs: list[tuple[_Target, int]],
    options: tuple[bool, int, Any],
) -> dict[str, Any]:
    rows = [Row(row) for row in _flatbed.tensor_rows(checkpoint)]
    pairs_with_bytes = [(target, index) for target, index in pairs if rows[index].nbytes]
    plan, copies, places = _plan(pairs_with_bytes, rows, True)
    work = _cuda.load_tensors(checkpoint, plan, options, places)
    if work is None:  # those on GPUs take the way over the host
        plan, copies, places = _plan(pairs_with_bytes, rows, False)
        work = _flatbed.load_tensors(checkpoint, plan, *options)
    for target, row, source in copies:
        name = target.dtype_name()
        of = name if name in PAIRS else TORCH_NAMES.get(row.dtype, row.dtype)
        target.tensor.copy_(source.view(torch_dtype(of, row.name)).view(target.tensor.shape))
    if hasattr(torch.autograd, "graph") and hasattr(torch.autograd.graph, "increment_version"):
        for target, _ in pairs:
            if not target.tensor.is_inference():
                torch.autograd.graph.increment_version(target.tensor)
    return work


def _plan(
    pairs: list[tuple[_Target, int]], rows: list[Row], to_gpus: bool
) -> tuple[list[Any], list[Any], list[Any]]:
    """What load_tensors() takes, the tensors that are copied afterwards, and the places of all."""
    plan: list[Any] = []
    copies: list[Any] = []
    places: list[Any] = []
    for target, index in pairs:
        row, tensor = rows[index], target.tensor
        if target.takes(row) and (to_gpus or tensor.device.type == "cpu"):
            stored = target.stored_dtype()
            plan.append((index, *as_bytes(tensor), None if stored == row.dtype else stored))
            places.append(_cuda.gpu_of(tensor.device))
            continue
        source = torch.empty(row.nbytes, dtype=torch.uint8)
        plan.append((index, *as_bytes(source), None))
        places.append(None)
        copies.append((target, row, source))
    return plan, copies, places


def _named_tensors(model: Any) -> list[tuple[str, Any]]:
    if not isinstance(model, torch.nn.Module):
        return list(model.items())
    named = []
    for prefix, module in model.named_modules(remove_duplicate=False):
        names = [*module._parameters.items()]
        names += [
            (name, buffer)
            for name, buffer in module._buffers.items()
            if name not in module._non_persistent_buffers_set
        ]
        named += [(f"{prefix}.{name}" if prefix else name, tensor) for name, tensor in names]
    return [(name, tensor) for name, tensor in named if tensor is not None]


def _targets_of(model: Any) -> list[_Target]:
    """The model's tensors, each once."""
    targets: dict[Any, _Target] = {}
    for name, tensor in _named_tensors(model):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name!r} is no tensor but {type(tensor).__name__}")
        if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
            raise ValueError(f"{name!r} has no shape yet: run the model once, or give it one")
        if tensor.device.type == "meta":
            raise ValueError(
                f"{name!r} is a tensor of the meta device, which has no memory: "
                "call model.to_empty(device='cpu') first"
            )
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise TypeError(f"{name!r} is not a dense tensor")
        key: Any = id(tensor)
        if tensor.numel() != 0:
            key = (
                untyped(tensor)._cdata,
                tensor.storage_offset(),
                tensor.dtype,
                tuple(tensor.shape),
                tuple(tensor.stride()),
            )
        if key in targets:
            targets[key].names.append(name)
        else:
            targets[key] = _Target(name, tensor)
    return list(targets.values())


def _raise_errors(model: Any, report: LoadIntoReport, strict: bool, ignore_sizes: bool) -> None:
    lines = []
    if strict and report.missing_keys:
        lines.append("missing keys: " + ", ".join(map(repr, report.missing_keys)))
    if strict and report.unexpected_keys:
        lines.append("unexpected keys: " + ", ".join(map(repr, report.unexpected_keys)))
    if not ignore_sizes:
        lines += [
            f"size mismatch of {name!r}: the checkpoint has {list(found)}, the model {list(own)}"
            for name, found, own in report.mismatched
        ]
    if not lines:
        return
    if report.suggestion:
        lines.append(f"perhaps: {report.suggestion}")
    raise RuntimeError(f"cannot load into {type(model).__name__}:\n  " + "\n  ".join(lines))


def _give_dtype(targets: list[_Target], matched: set[int], dtype: torch.dtype) -> None:
    for target in targets:
        tensor = target.tensor
        if not tensor.is_floating_point() or tensor.dtype == dtype:
            continue
        if id(target) in matched:
            tensor.data = torch.empty_like(tensor, dtype=dtype)
        else:
            tensor.data = tensor.to(dtype)
