"""The drop-in libcuda.so.1, and flatbed's table of CUDA functions over it: that every call works and
fails as the driver says, and what is said of a driver that is too old, incomplete or missing.

Usage: test_fake_driver.py FAKE_LIBRARY PROGRAM
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

LIBRARY, PROGRAM = sys.argv[1:3]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))


def run(config="", *arguments):
    """(exit status, lines of the ledger)"""
    with tempfile.TemporaryDirectory() as folder:
        ledger = os.path.join(folder, "ledger")
        environment = dict(os.environ, FLATBED_FAKE_CUDA=config, FLATBED_FAKE_CUDA_LEDGER=ledger,
                           LD_LIBRARY_PATH=os.path.dirname(LIBRARY))
        status = subprocess.run([PROGRAM, *arguments], env=environment, timeout=600,
                                check=False).returncode
        with open(ledger, encoding="utf-8") as file:
            return status, file.read().splitlines()


def refusal(config, folder=os.path.dirname(LIBRARY)):
    """The sentence with which there is no table."""
    environment = dict(os.environ, FLATBED_FAKE_CUDA=config, LD_LIBRARY_PATH=folder)
    result = subprocess.run([PROGRAM], env=environment, timeout=600, check=False,
                            capture_output=True, text=True)
    return result.returncode, result.stderr.strip()


class FakeDriver(unittest.TestCase):
    def test_makes_every_call(self):
        for schedule in ("lazy", "eager", "threads"):
            self.assertEqual(run(f"devices=2,schedule={schedule}", "all"), (0, []), schedule)
        self.assertEqual(run("", "batch"), (0, []))

    def test_a_driver_that_is_too_old_is_named(self):
        self.assertEqual(refusal("driver=10020"), (
            200, "the NVIDIA driver is too old: found one for CUDA 10.2, expected CUDA 11.4 or newer"))
        self.assertEqual(run("driver=11040", "all"), (0, []))

    def test_a_function_that_the_driver_lacks_is_named(self):
        with open(os.path.join(ROOT, "cuda", "driver_functions.hpp"), encoding="utf-8") as file:
            names = set(re.findall(r"\(\*(cu\w+)\)\(", file.read()))
        self.assertGreater(len(names), 35)
        for name in names - {"cuMemcpyBatchAsync"}:
            self.assertEqual(refusal(f"missing={name}"), (
                200, f"the NVIDIA driver is too old: found one for CUDA 13.0 without {name}, "
                     "expected CUDA 11.4 or newer"))

    def test_copies_in_batches_only_where_the_driver_can(self):
        self.assertEqual(run("driver=12070", "batch")[0], 201)
        self.assertEqual(run("driver=12080", "batch"), (0, []))
        self.assertEqual(run("missing=cuMemcpyBatchAsync", "batch")[0], 201)

    def test_no_driver_is_no_error_of_the_loader(self):
        status, text = refusal("", "/nonexistent")
        if status == 0:
            self.skipTest("this machine has a driver")
        self.assertEqual(status, 200)
        self.assertRegex(text, r"\Ano NVIDIA driver found: libcuda\.so\.1: ")

    def test_what_the_driver_says_when_it_starts(self):
        self.assertEqual(run("init=100")[0], 100)
        self.assertEqual(run("init=803")[0], 803 % 256)
        self.assertEqual(run("retain=2")[0], 2)

    def test_runs_a_program_under_each_schedule(self):
        for schedule in ("lazy", "eager", "random", "threads"):
            self.assertEqual(run(f"devices=2,schedule={schedule},seed=7,not_ready=3"), (0, []))

    def test_fails_the_call_that_it_is_told_to(self):
        status, ledger = run("fail=EventRecord:1:once:46")
        self.assertEqual(status, 46)
        self.assertIn("LEAK nobody waited for copy 1 in stream 1", ledger)
        self.assertEqual(run("fail=MemcpyAsync:1:at_completion:199")[0], 199)
        self.assertEqual(run("fail=:3:sticky")[0], 700 % 256)
        self.assertEqual(run("pinned_limit=1000")[0], 2)
        self.assertEqual(run("devices=0")[0], 100)

    def test_writes_leaks_to_the_ledger(self):
        status, ledger = run("", "leak")
        self.assertEqual(status, 0)
        self.assertEqual(len([line for line in ledger if line.startswith("LEAK ")]), 4)

    def test_sees_calls_of_static_destructors(self):
        self.assertEqual(run("", "late"),
                         (0, ["MISUSE cudaFree was called while CUDA unloads"]))

    def test_names_what_it_did_not_understand(self):
        self.assertEqual(run("devices=2,colour=7"),
                         (0, ["MISUSE FLATBED_FAKE_CUDA: 'colour=7' means nothing"]))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
