"""The package as a whole: what it exports, documents, types and imports."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import unittest

import flatbed
from support import ROOT, has

PACKAGE = pathlib.Path(flatbed.__file__).parent
# Modules that need more than Python, and what.
NEEDS = {"torch": "torch", "numpy": "numpy"}


def public_modules() -> list[str]:
    names = ["flatbed"]
    for module in pkgutil.walk_packages(flatbed.__path__, "flatbed."):
        parts = module.name.split(".")
        if any(part.startswith("_") for part in parts):
            continue
        if all(has(NEEDS[part]) for part in parts if part in NEEDS):
            names.append(module.name)
    return names


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


class ExportsTest(unittest.TestCase):
    def test_every_public_name_has_a_docstring(self) -> None:
        missing = []
        for name in public_modules():
            module = importlib.import_module(name)
            self.assertTrue(inspect.getdoc(module), name)
            for public in getattr(module, "__all__", ()):
                thing = getattr(module, public)
                if not callable(thing):
                    continue
                missing += [f"{name}.{public}"] * (not inspect.getdoc(thing))
                if not inspect.isclass(thing):
                    continue
                for member, value in vars(thing).items():
                    if member.startswith("_") or not (callable(value) or hasattr(value, "fget")):
                        continue
                    if not inspect.getdoc(getattr(thing, member)):
                        missing.append(f"{name}.{public}.{member}")
        self.assertEqual(missing, [])

    @unittest.skipUnless((PACKAGE / "_flatbed.pyi").exists(), "built without its stub")
    def test_the_compiled_module_is_typed_and_documented(self) -> None:
        stub = ast.parse((PACKAGE / "_flatbed.pyi").read_text())
        typed = {node.name: node for node in stub.body
                 if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        typed_values = {node.target.id for node in stub.body
                        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
        for name, thing in vars(flatbed._flatbed).items():
            if name.startswith("__"):
                continue
            if not callable(thing):
                self.assertIn(name, typed_values)
                continue
            self.assertIn(name, typed)
            if inspect.isclass(thing):
                members = {node.name for node in ast.walk(typed[name])
                           if isinstance(node, ast.FunctionDef)}
                for member in vars(thing):
                    if not member.startswith("_"):
                        self.assertIn(member, members)

    def test_has_the_version_of_the_library(self) -> None:
        header = (ROOT / "include" / "flatbed" / "version.hpp").read_text().split()
        numbers = [header[header.index(f"FLATBED_VERSION_{part}") + 1]
                   for part in ("MAJOR", "MINOR", "PATCH")]
        self.assertEqual(flatbed.__version__, ".".join(numbers))

    def test_says_that_it_is_typed(self) -> None:
        self.assertTrue((PACKAGE / "py.typed").exists())


class ImportTest(unittest.TestCase):
    def test_needs_neither_numpy_nor_torch_nor_what_is_slow(self) -> None:
        code = ("import sys, flatbed; "
                "print([m for m in ('numpy', 'torch', 'safetensors', 'tqdm', 'inspect', 'json') "
                "if m in sys.modules])")
        self.assertEqual(run("-c", code).stdout.strip(), "[]")

    def test_leaves_no_leaks_that_nanobind_would_print(self) -> None:
        done = run("-c", "import flatbed, sys; c = flatbed.open(sys.argv[1]); t = c['0.weight']; "
                   "m = memoryview(t)", str(ROOT / "tests/fixtures/torch2/state_dict.pth"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


class ExitTest(unittest.TestCase):
    def test_daemon_threads_at_work_do_not_abort_the_process(self) -> None:
        code = """
import flatbed, sys, threading, time

def read():
    while True:
        flatbed.open(sys.argv[1])["0.weight"].read()

def report():
    while True:
        flatbed.scan(sys.argv[1])

def fail():
    while True:
        try:
            flatbed.open("/")["x"]
        except flatbed.Error:
            flatbed.open(sys.argv[1]).tree

sys.setswitchinterval(1e-6)  # so that the interpreter ends while they run code of Python

class Slow:
    def __del__(self):
        time.sleep(0.3)

slow = Slow()
slow.itself = slow  # ends with the interpreter
for work in (read, report, fail, report):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""
        done = run("-c", code, str(ROOT / "tests/fixtures/torch2/state_dict.pth"))
        # A debug build also says that what those threads hold is never freed.
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("terminate", done.stderr)


@unittest.skipUnless((PACKAGE / "_flatbed.pyi").exists(), "built without its stub")
@unittest.skipUnless(has("mypy"), "mypy is not installed")
class TypesTest(unittest.TestCase):
    def check(self, *arguments: str) -> None:
        with tempfile.TemporaryDirectory() as cache:
            done = run("-m", "mypy", "--strict", "--no-warn-unused-ignores", "--config-file",
                       str(ROOT / "pyproject.toml"), "--cache-dir", cache, *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_package(self) -> None:
        self.check("-p", "flatbed")

    def test_the_tests(self) -> None:
        tests = ROOT / "python" / "tests"
        core = [str(tests / f"{name}.py")
                for name in ("support", "test_checkpoint", "test_commands", "test_open",
                             "test_package", "test_tensor")]
        os.environ["MYPYPATH"] = str(tests)
        self.addCleanup(os.environ.pop, "MYPYPATH")
        self.check(*core)


@unittest.skipUnless(shutil.which("flatbed", path=os.path.dirname(sys.executable)),
                     "the package is not installed")
class InstalledTest(unittest.TestCase):
    def test_brings_the_tool(self) -> None:
        tool = shutil.which("flatbed", path=os.path.dirname(sys.executable))
        assert tool is not None
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
        self.assertIn(flatbed.__version__, done.stdout)


if __name__ == "__main__":
    unittest.main()
