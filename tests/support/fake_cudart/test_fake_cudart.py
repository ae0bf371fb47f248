"""The drop-in libcudart.so.13: that it has what a program of flatbed's needs, under the names and
the version of the real one, and that a program linked with the real one runs against it.

Usage: test_fake_cudart.py NM FAKE_LIBRARY PROGRAM
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

NM, LIBRARY, PROGRAM = sys.argv[1:4]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))


def run(config="", *arguments):
    """(exit status, lines of the ledger)"""
    with tempfile.TemporaryDirectory() as folder:
        ledger = os.path.join(folder, "ledger")
        environment = dict(os.environ, FLATBED_FAKE_CUDA=config, FLATBED_FAKE_CUDA_LEDGER=ledger,
                           LD_LIBRARY_PATH=os.path.dirname(LIBRARY))
        status = subprocess.run([PROGRAM, *arguments], env=environment, timeout=60,
                                check=False).returncode
        with open(ledger, encoding="utf-8") as file:
            return status, file.read().splitlines()


class FakeCudart(unittest.TestCase):
    def test_exports_the_table_under_the_real_names_and_version(self):
        with open(os.path.join(ROOT, "cuda", "cuda_api.hpp"), encoding="utf-8") as file:
            wanted = set(re.findall(r"\(\*(\w+)\)\(", file.read()))
        self.assertGreaterEqual(len(wanted), 23)
        listed = subprocess.run([NM, "-D", "--defined-only", LIBRARY], capture_output=True,
                                text=True, check=True).stdout
        exported = set(re.findall(r" T cuda(\w+)@@libcudart\.so\.13", listed))
        self.assertEqual(wanted - exported, set())
        self.assertFalse(re.search(r" T (?!_?_?cuda)", listed), listed)

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
                         (0, ["MISUSE cudaGetLastError was called while CUDA unloads"]))

    def test_names_what_it_did_not_understand(self):
        self.assertEqual(run("devices=2,colour=7"),
                         (0, ["MISUSE FLATBED_FAKE_CUDA: 'colour=7' means nothing"]))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
