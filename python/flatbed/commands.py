"""What the tool does, as functions: verify, convert, scan, diff, match."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from . import _flatbed
from ._dtypes import dtype_name
from ._flatbed import Checkpoint
from ._types import Opened, Path, Progress, RenameRules, StorageOptions

if TYPE_CHECKING:
    from .reports import ConvertReport, DiffReport, MatchReport, ScanReport, VerifyReport

__all__ = ["convert", "diff", "match", "scan", "verify"]

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_SHARD_NBYTES = 5_000_000_000


def _opened(source: Opened) -> Checkpoint:
    return source if isinstance(source, Checkpoint) else _flatbed.open(source)


def verify(source: Opened, *, threads: int = 2, progress: Progress = None) -> VerifyReport:
    """Reads every byte of a checkpoint and compares it with its seal, or with the CRCs of a zip.

    Damage is a result, not an exception: see ``VerifyReport.ok`` and ``.damaged``. For files that
    have neither seal nor CRCs the report says that nothing was checked.

    Args:
        source: a Checkpoint, or what ``flatbed.open()`` takes.
        threads: that read and hash.
        progress: called with the bytes done and the bytes in total, every few MiB, or True for a
            bar of tqdm. What it raises ends the work and is raised here, as is Ctrl-C.

    Raises:
        FileError: a file could not be read, or changed meanwhile.
    """
    return typing.cast("VerifyReport", _flatbed._verify(_opened(source), threads, progress))


def _format_of(to: Path, max_shard_size: int | None) -> str:
    if max_shard_size is not None:
        return "set"
    return "torch" if os.fsdecode(to).endswith(_TORCH_SUFFIXES) else "safetensors"


def convert(
    source: Opened,
    to: Path,
    *,
    select: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    state_dict: bool = True,
    rename: RenameRules = None,
    dtype: Any = None,
    keep: Sequence[str] = (),
    format: Literal["safetensors", "torch", "set"] | None = None,
    max_shard_size: int | None = None,
    replace: bool = False,
    seal: bool = True,
    sync: bool = True,
    verify: bool = True,
    ignore_crc: bool = False,
    expand_aliases: bool = False,
    allow_expansion: bool = False,
    convert_objects: bool = False,
    threads: int = 2,
    storage_options: StorageOptions = None,
    progress: Progress = None,
) -> ConvertReport:
    """Writes a checkpoint as another file: sealed, atomic and durable.

    A reader sees the old file or the complete new one, whenever this process ends.

    Args:
        source: a Checkpoint, or what ``flatbed.open()`` takes.
        to: the path of the file, or for a set that of its folder, which must be new or empty; or
            an ``s3://`` URL, where an object appears when it is complete.
        select, include, exclude: as ``Checkpoint.select()``.
        state_dict: a whole pickled model becomes what its ``state_dict()`` returns.
        rename: as ``Checkpoint.rename()``.
        dtype, keep: as ``Checkpoint.cast()``.
        format: by default ``"torch"`` where ``to`` ends in .pth, .pt, .bin or .ckpt, ``"set"``
            with ``max_shard_size``, and otherwise ``"safetensors"``.
        max_shard_size: of a set, in bytes (default: 5,000,000,000).
        replace: whether ``to`` may be there already.
        seal: whether the file gets checksums.
        sync: whether to wait until it survives a power failure.
        verify: whether bytes of a sealed source are compared with their digests.
        ignore_crc: whether records of a zip that do not match their CRC are copied.
        expand_aliases: whether every alias becomes a tensor of its own.
        allow_expansion: whether the output may be more than 1 GiB and more than 16 times the size
            of the source.
        convert_objects: for ``"torch"``: whether objects that ``torch.load(weights_only=True)``
            refuses become ones that it loads.
        storage_options: of ``to``, if that is an ``s3://`` URL: see ``flatbed.open()``.
        threads, progress: as ``flatbed.verify()``.

    Raises:
        FileError: among others, ``to`` is there already (``file_exists``).
        SealError, FormatError, Error: the source is damaged, or cannot be written like this.
    """
    checkpoint = _opened(source)
    whole_model = state_dict and checkpoint.layout != "safetensors"
    if select or include or exclude or whole_model:
        checkpoint = checkpoint.select(
            select, include=include, exclude=exclude, state_dict=state_dict
        )
    if rename is not None:
        checkpoint = checkpoint.rename(rename)
    if dtype is not None:
        checkpoint = checkpoint.cast(dtype, keep=keep)
    chosen = format or _format_of(to, max_shard_size)
    if chosen not in ("safetensors", "torch", "set"):
        raise ValueError(f"format: expected 'safetensors', 'torch' or 'set', not {format!r}")
    if max_shard_size is not None and chosen != "set":
        raise ValueError(f"max_shard_size is for format='set', not {chosen!r}")
    report = _flatbed._convert(
        checkpoint,
        to,
        format=chosen,
        replace=replace,
        seal=seal,
        sync=sync,
        verify=verify,
        ignore_crc=ignore_crc,
        expand_aliases=expand_aliases,
        allow_expansion=allow_expansion,
        convert_objects=convert_objects,
        threads=threads,
        max_shard_nbytes=_SHARD_NBYTES if max_shard_size is None else max_shard_size,
        storage_options=storage_options,
        progress=progress,
    )
    return typing.cast("ConvertReport", report)


def scan(
    path: Path, *, recursive: bool = False, storage_options: StorageOptions = None
) -> ScanReport:
    """What the pickles in a file would import and call if Python loaded them; nothing is called.

    Args:
        path: a file, an index with the files that it names, or a folder.
        recursive: whether to scan the folders in a folder, too.

    Raises:
        FileError: the path itself could not be read. Every fault inside a file is a finding.
    """
    return typing.cast("ScanReport", _flatbed._scan(path, recursive, storage_options))


def diff(
    a: Opened, b: Opened, *, values: bool = False, threads: int = 2, progress: Progress = None
) -> DiffReport:
    """What distinguishes two checkpoints, whatever their layouts.

    Of two sealed files the headers alone are read.

    Args:
        a, b: Checkpoints, or what ``flatbed.open()`` takes.
        values: whether to say how far values differ.
        threads, progress: as ``flatbed.verify()``.
    """
    report = _flatbed._diff(_opened(a), _opened(b), values, threads, progress)
    return typing.cast("DiffReport", report)


def _expectations(expected: Mapping[str, Any]) -> str:
    import json

    entries = {}
    for name, tensor in expected.items():
        shape = getattr(tensor, "shape", None)
        dtype = getattr(tensor, "dtype", None)
        if isinstance(tensor, Mapping):
            shape, dtype = tensor.get("shape"), tensor.get("dtype")
        entries[name] = {
            "shape": None if shape is None else [int(size) for size in shape],
            "dtype": None if dtype is None else dtype_name(dtype),
        }
    return json.dumps(entries)


def match(
    source: Opened,
    expected: Opened | Mapping[str, Any],
    *,
    torch: bool = False,
    exact_dtypes: bool = False,
    ignore_mismatched_sizes: bool = False,
) -> MatchReport:
    """Whether a model would take a checkpoint: what is missing, unexpected or of another shape.

    Args:
        source: a Checkpoint, or what ``flatbed.open()`` takes.
        expected: a dict of names to tensors (anything with ``shape`` and ``dtype``, such as
            ``model.state_dict()``) or to ``{"shape": ..., "dtype": ...}``, in which None means
            any; or another checkpoint.
        torch: report the keys that ``load_state_dict()`` reports.
        exact_dtypes: whether another dtype is a mismatch.
        ignore_mismatched_sizes: whether another shape counts against ``complete``.
    """
    wanted: Any = expected
    if isinstance(expected, Mapping) and not isinstance(expected, Checkpoint):
        wanted = _expectations(expected)
    elif not isinstance(expected, Checkpoint):
        wanted = _flatbed.open(expected)
    report = _flatbed._match(
        _opened(source), wanted, torch, exact_dtypes, ignore_mismatched_sizes
    )
    return typing.cast("MatchReport", report)
