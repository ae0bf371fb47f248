"""What the tests of the Python package share: fixtures, small files, and what is installed."""

from __future__ import annotations

import importlib.util
import io
import json
import pathlib
import pickle
import struct
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "torch2"


def has(module: str) -> bool:
    """Whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


needs_numpy = unittest.skipUnless(has("numpy"), "numpy is not installed")
needs_torch = unittest.skipUnless(has("torch"), "torch is not installed")


def safetensors_bytes(
    tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    """A safetensors file of name -> (dtype, shape, bytes)."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, contents) in tensors.items():
        offsets = [len(data), len(data) + len(contents)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += contents
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def two_tensors() -> bytes:
    """A file of ``a``: F32 [2, 3] with 0 to 5, and ``b``: I64 [2] with 7 and 8."""
    return safetensors_bytes(
        {
            "a": ("F32", [2, 3], struct.pack("<6f", *range(6))),
            "b": ("I64", [2], struct.pack("<2q", 7, 8)),
        }
    )


def expanded_pth(count: int) -> bytes:
    """A file of torch.save: ``w`` shows one stored float, 1.5, ``count`` times (a stride of 0)."""
    size = pickle.dumps((count,), 2)[2:-1]
    data = (
        b"\x80\x02}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storage"
        b"ctorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\1tQK\0" + size + b"K\0\x85\x89"
        b"ccollections\nOrderedDict\n)RtRs."
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", struct.pack("<f", 1.5))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


class FolderTest(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="flatbed-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name: str, contents: bytes) -> pathlib.Path:
        path = self.folder / name
        path.write_bytes(contents)
        return path
