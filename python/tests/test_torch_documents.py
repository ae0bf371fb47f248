"""The examples of doc/python_torch.md."""

from __future__ import annotations

import contextlib
import io
import os
import re
import unittest

import support


@support.needs_torch
@support.needs_numpy
class ExamplesTest(support.FolderTest):
    def test_run_one_after_the_other(self) -> None:
        text = (support.ROOT / "doc" / "python_torch.md").read_text()
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.assertGreater(len(blocks), 6)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        names: dict[str, object] = {}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            for block in blocks:
                exec(compile(block, "doc/python_torch.md", "exec"), names)
        for expected in ("['weight', 'bias']", "weights_only_refused - at 'args'", "300 200"):
            self.assertIn(expected, printed.getvalue())


if __name__ == "__main__":
    unittest.main()
