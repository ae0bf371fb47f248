"""What the functions of flatbed return: plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = [
    "ConvertReport",
    "CrcMismatch",
    "CrcReport",
    "DamagedRange",
    "DiffReport",
    "FileInfo",
    "MatchReport",
    "Mismatch",
    "PrefixRule",
    "ScanFinding",
    "ScanReport",
    "ScannedFile",
    "TensorDifference",
    "ValueDifference",
    "VerifyReport",
]


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """One file of a checkpoint.

    Attributes:
        path: as it was opened; for what is no file, its label.
        nbytes: its size in bytes.
        seal: ``"unsealed"``, ``"sealed"``, ``"annotated"``, ``"newer"`` or ``"broken"``.
        content: 16 hex digits that are equal where names, dtypes, shapes and bytes are; ``""``
            where the file is not sealed.
        seal_note: why the seal is annotated, newer or broken; otherwise ``""``.
        sidecar: whether the seal is in ``<path>.flatbed.json``.
    """

    path: str
    nbytes: int
    seal: str
    content: str
    seal_note: str
    sidecar: bool


@dataclasses.dataclass(frozen=True)
class CrcMismatch:
    """A record of a PyTorch zip whose bytes are not those that its CRC was made of."""

    file: str
    record: str
    stated: int
    found: int


@dataclasses.dataclass(frozen=True)
class CrcReport:
    """The CRCs of the records of PyTorch zips.

    Attributes:
        checked: records whose every byte was read and compared.
        read_in_part: records that were used in part and not checked.
        mismatched: those of the checked ones that do not match.
        unstated: storages without a CRC, which were not checked.
        mismatches: the first 10,000 records that do not match.
        without: zips that state no CRC at all.
        unchecked_files: of ``verify()``: files that have neither a seal nor CRCs.
    """

    checked: int
    read_in_part: int
    mismatched: int
    unstated: int
    mismatches: list[CrcMismatch]
    without: list[str]
    unchecked_files: int


@dataclasses.dataclass(frozen=True)
class DamagedRange:
    """Bytes ``[begin, end)`` of a tensor that do not match their digests."""

    file: str
    tensor: str
    begin: int
    end: int


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What ``verify()`` found.

    Attributes:
        bytes_checked: bytes that were compared with digests or CRCs.
        chunks_checked: chunks that were compared with digests.
        chunks_reread: chunks that were read once more after damage on the way from a server.
        damaged: at most 10,000 ranges, in the order of the tensors.
        damaged_complete: False: there are more.
        crc: the CRCs of PyTorch zips.
    """

    bytes_checked: int
    chunks_checked: int
    chunks_reread: int
    damaged: list[DamagedRange]
    damaged_complete: bool
    crc: CrcReport

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged; also where there was nothing to check."""
        return not self.damaged and self.crc.mismatched == 0


@dataclasses.dataclass(frozen=True)
class ConvertReport:
    """What ``convert()`` wrote.

    Attributes:
        nbytes: the size of all files in bytes.
        content: the content digest of a sealed file; ``""`` for others, and for a set.
        durable: whether it survives a power failure from now on.
        files: the names of the files of a set; empty for one file.
        notes: what was converted or left out, one sentence each.
        casts: the number of tensors that were cast.
        cast_overflows: values that their cast could not represent.
        chunks_reread: chunks that were read once more after damage on the way from a server.
        crc: the CRCs of the records that were copied.
    """

    nbytes: int
    content: str
    durable: bool
    files: list[str]
    notes: list[str]
    casts: int
    cast_overflows: int
    chunks_reread: int
    crc: CrcReport


@dataclasses.dataclass(frozen=True)
class ScanFinding:
    """One name, or one kind of irregularity, in one record.

    Attributes:
        severity: ``"plain"``, ``"unknown"`` or ``"dangerous"``.
        kind: ``"imported"``, ``"called"``, ``"opcode"`` and others, as in ``flatbed scan``.
        module, qualname: of the class or function; ``""`` where the finding is not about one.
        record: in an archive; ``""`` for the file itself.
        offset: of the first place, in the record, in bytes.
        count: the number of places.
        file: the path of the file.
        text: the reason, in half a sentence.
    """

    severity: str
    kind: str
    module: str
    qualname: str
    record: str
    offset: int
    count: int
    file: str
    text: str


@dataclasses.dataclass(frozen=True)
class ScannedFile:
    """One file that ``scan()`` looked at; ``scanned`` is False for what it could not."""

    path: str
    verdict: str
    what: str
    pickles: int
    scanned: bool


@dataclasses.dataclass(frozen=True)
class ScanReport:
    """What the pickles in a file would import and call if Python loaded them.

    Attributes:
        verdict: the worst of all findings: ``"plain"`` is what ``torch.load(weights_only=True)``
            allows, ``"unknown"`` cannot be judged, ``"dangerous"`` runs commands or reaches files.
        findings: the worst first, at most 10,000 of each severity.
        findings_complete: False: there are more, which the verdict includes.
        files: one, the files of an index, or those of a folder.
    """

    verdict: str
    findings: list[ScanFinding]
    findings_complete: bool
    files: list[ScannedFile]


@dataclasses.dataclass(frozen=True)
class ValueDifference:
    """How far apart the values of a tensor are."""

    max_abs: float
    max_rel: float
    mean_abs: float
    different: int
    nans_a: int
    nans_b: int


@dataclasses.dataclass(frozen=True)
class TensorDifference:
    """A tensor that is not the same in both checkpoints.

    Attributes:
        name: of the tensor.
        change: ``"removed"``, ``"added"``, ``"dtype"``, ``"shape"`` or ``"bytes"``.
        dtype_a, shape_a: in the first checkpoint; None where it has no such tensor.
        dtype_b, shape_b: in the second one.
        chunks: for ``"bytes"``: how many chunks of 256 KiB differ.
        values: with ``values=True``: how far values differ, where they are numbers.
    """

    name: str
    change: str
    dtype_a: str | None
    shape_a: tuple[int, ...] | None
    dtype_b: str | None
    shape_b: tuple[int, ...] | None
    chunks: int
    values: ValueDifference | None


@dataclasses.dataclass(frozen=True)
class DiffReport:
    """What distinguishes two checkpoints.

    Attributes:
        tensors: those that differ, in the first checkpoint's order; what was added is last.
        equal_tensors: how many names have equal tensors.
        trees_compared: False if one of the two records no structure.
        tree: dotted paths of the places in the structures whose values differ.
        tree_complete: False: there are more.
        bytes_read: of tensor data. Of two sealed files none is read.
    """

    tensors: list[TensorDifference]
    equal_tensors: int
    trees_compared: bool
    tree: list[str]
    tree_complete: bool
    bytes_read: int

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.tensors and not self.tree


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """A tensor that is there with another shape or dtype than expected."""

    name: str
    shape: tuple[int, ...]
    expected_shape: tuple[int, ...] | None
    dtype: str
    expected_dtype: str | None


@dataclasses.dataclass(frozen=True)
class PrefixRule:
    """A change of names with which more of them match: ``strip``, then ``add``."""

    strip: str
    add: str
    matches_before: int
    matches: int
    reason: str


@dataclasses.dataclass(frozen=True)
class MatchReport:
    """Whether a model would take a checkpoint.

    Attributes:
        missing_keys: expected, and not in the checkpoint.
        unexpected_keys: in the checkpoint, and not expected.
        mismatched: with another shape, or with ``exact_dtypes=True`` another dtype.
        matched: how many expected tensors match.
        suggested: a rule that would help, if at least half of what is expected is missing.
        near_names: for the first missing keys, the unexpected one that is most alike.
        complete: whether nothing is missing, unexpected or mismatched.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    mismatched: list[Mismatch]
    matched: int
    suggested: PrefixRule | None
    near_names: dict[str, str]
    complete: bool


def _make(report: str, /, **fields: Any) -> Any:
    """The report of this class; for the compiled module."""
    return globals()[report](**fields)
