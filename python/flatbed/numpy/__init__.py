"""Checkpoints as dicts of numpy arrays.

    from flatbed.numpy import load_file, save_file

    save_file({"weight": numpy.ones((2, 3), "float32")}, "w.safetensors")
    arrays = load_file("w.safetensors")

Files are sealed, and every byte is verified when it is loaded.
"""

from __future__ import annotations

from typing import Any, Mapping

import numpy

from .. import _flatbed, errors
from .. import open as _open
from .._types import Opened, Path, Progress
from ._arrays import numpy_dtype, plan_of

__all__ = ["load_file", "save_file"]


def load_file(
    path: Opened,
    *,
    mmap: bool = False,
    allow_expansion: bool = False,
    verify: bool = True,
    threads: int = 0,
    progress: Progress = None,
) -> dict[str, numpy.ndarray[Any, Any]]:
    """Loads all tensors, by name and in the order of the file; an alias is the same array.

    Args:
        path: what ``flatbed.open`` takes, or a ``flatbed.Checkpoint``.
        mmap: map the file copy on write, so that nothing is read before it is used. Mapped bytes
            are not verified. Otherwise arrays own their memory.
        allow_expansion: load tensors that take more than 1 GiB and more than 16 times the size of
            the file, which a few bytes and a stride of 0 can ask for.
        verify: compare the bytes with the digests of a sealed file.
        threads: how many read and hash; 0 chooses.
        progress: called with the bytes done and in total; True for a bar of tqdm.

    Raises:
        flatbed.Error: of reading. ``unsupported_format`` for a dtype that numpy lacks: bfloat16
            and float8 need ``ml_dtypes``. ``expansion_refused``, see ``allow_expansion``.
    """
    checkpoint = path if isinstance(path, _flatbed.Checkpoint) else _open(path)
    if not allow_expansion:
        _flatbed.check_expansion(checkpoint)
    rows = _flatbed.tensor_rows(checkpoint)
    dtypes = [_dtype_of(name, dtype) for name, dtype, *_ in rows]
    arrays = {}
    targets = []
    for index, (name, _, shape, nbytes, *_) in enumerate(rows):
        if mmap and nbytes:
            data = numpy.frombuffer(_flatbed.map_tensor(checkpoint, index), numpy.uint8)
        else:
            data = numpy.empty(nbytes, numpy.uint8)
            targets.append((index, data.ctypes.data, nbytes, None))
        arrays[name] = data.view(dtypes[index]).reshape(shape)
    targets = [target for target in targets if target[2]]
    _flatbed.load_tensors(checkpoint, targets, verify, threads, progress)
    for other, stored in checkpoint.aliases.items():
        arrays[other] = arrays[stored]
    return arrays


def save_file(
    arrays: Mapping[str, Any],
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    seal: bool = True,
    overwrite: bool = True,
    progress: Progress = None,
) -> None:
    """Saves arrays by name as a sealed safetensors file, written whole or not at all.

    Args:
        arrays: names and arrays. Those that are not contiguous or not little-endian are copied.
        path: the file.
        metadata: texts for the file's ``__metadata__``; ``format`` is ``"np"`` unless it is given.
        seal: write the digests with which a load verifies every byte.
        overwrite: replace a file that exists; otherwise that is ``file_exists``.
        progress: called with the bytes done and in total; True for a bar of tqdm.

    Raises:
        TypeError: an array of a dtype that the format lacks, with its name.
        flatbed.Error: of writing; the file at ``path`` is then as it was.
    """
    pairs = list({"format": "np", **(metadata or {})}.items())
    plan = plan_of(arrays)
    _flatbed.save_plan(plan, path, seal=seal, replace=overwrite, metadata=pairs, progress=progress)


def _dtype_of(name: str, dtype: str) -> numpy.dtype[Any]:
    found = numpy_dtype(dtype)
    if found is None:
        raise errors._from_code(
            22, "unsupported_format", f"tensor {name!r}: numpy has no dtype for {dtype}"
        )
    return found
