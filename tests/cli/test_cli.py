#!/usr/bin/env python3
"""Tests of the tool `flatbed` as its users meet it: a process with arguments, streams and an exit code.

    FLATBED_BIN=build/dev/tools/flatbed python3 tests/cli/test_cli.py [-v]

Python's standard library only. inputs.py and spec/writer.py write the inputs, spec/reader.py judges the outputs.
"""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).parent


def load_tests(loader, tests, pattern):
    return unittest.TestSuite(loader.discover(str(HERE), pattern="*_cases.py"))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    unittest.main()
