"""What the tests of the Python package share: fixtures, small files, and what is installed."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import struct
import tempfile
import unittest

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
