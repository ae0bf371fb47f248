"""The Python examples of README.md and doc/: each runs in a folder with the files that it names."""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
import textwrap
import unittest

import flatbed
from support import FIXTURES, ROOT, FolderTest, has


def examples() -> list[tuple[str, str]]:
    """(document:line, code) of each block that imports flatbed."""
    found = []
    for path in [str(ROOT / "README.md"), *sorted(glob.glob(str(ROOT / "doc" / "*.md")))]:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for block in re.finditer(r"^( *)```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
            if re.search(r"^ *(?:import|from) flatbed", block.group(2), re.MULTILINE):
                line = text.count("\n", 0, block.start()) + 2
                found.append((f"{os.path.basename(path)}:{line}", textwrap.dedent(block.group(2))))
    return found


class DocumentsTest(FolderTest):
    def setUp(self) -> None:
        super().setUp()
        for name in ("checkpoint", "model"):
            (self.folder / f"{name}.pth").write_bytes((FIXTURES / "checkpoint.pth").read_bytes())
        flatbed.convert(self.folder / "checkpoint.pth", self.folder / "checkpoint.safetensors")
        flatbed.convert(self.folder / "checkpoint.pth", self.folder / "model.safetensors",
                        select="model")

    def test_every_example_runs(self) -> None:
        self.assertGreaterEqual(len(examples()), 5)
        package = os.path.dirname(os.path.dirname(os.path.abspath(flatbed.__file__)))
        environment = {**os.environ, "PYTHONPATH": package}
        for where, code in examples():
            with self.subTest(where):
                for module in ("numpy", "torch", "safetensors", "transformers"):
                    if re.search(rf"\b(?:import|from) (?:flatbed\.)?{module}\b", code):
                        if not has(module):
                            self.skipTest(f"{module} is not installed")
                done = subprocess.run([sys.executable, "-c", code], cwd=self.folder,
                                      env=environment, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, f"{where}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    unittest.main()
