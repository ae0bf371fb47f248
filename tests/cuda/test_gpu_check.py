"""tools/gpu_check over the fake driver: that it runs to its last line, and notices a driver that fails.

Usage: test_gpu_check.py BUILD_TREE FAKE_DRIVER
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

TREE, DRIVER = map(os.path.abspath, sys.argv[1:3])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(fake, *arguments, without_tests=False):
    """(exit status, report, output)"""
    with tempfile.TemporaryDirectory() as folder:
        programs, out = os.path.join(folder, "programs"), os.path.join(folder, "out")
        subprocess.run([sys.executable, os.path.join(ROOT, "tools", "gpu_check"), "pack", "--link", TREE, programs],
                       check=True, stdout=subprocess.DEVNULL)
        if without_tests:
            os.unlink(os.path.join(programs, "flatbed_cuda_tests"))
            os.symlink("/bin/true", os.path.join(programs, "flatbed_cuda_tests"))
        environment = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(DRIVER), FLATBED_FAKE_CUDA=fake,
                           PATH="/nonexistent")  # no nvidia-smi, no sanitizer, no torch
        done = subprocess.run([sys.executable, os.path.join(programs, "gpu_check"), "run", programs, out, "--mib", "8",
                               *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False)
        with open(os.path.join(out, "report.json"), encoding="utf-8") as file:
            return done.returncode, json.load(file), done.stdout + done.stderr


class GpuCheck(unittest.TestCase):
    def test_runs_to_the_last_line(self):
        status, report, text = run("schedule=eager,guard=0,track=0")
        self.assertEqual((status, report["failed"]), (0, []), text)
        self.assertEqual(len(report["checks"]), 10)
        self.assertEqual(len(report["link"]), 9)
        self.assertEqual(len(report["load"]), 18)
        self.assertTrue(text.endswith("nothing failed\n"), text)

    def test_names_what_failed(self):
        status, report, text = run("schedule=eager,fail=MemcpyAsync:1:forever", without_tests=True)
        self.assertEqual(status, 1, text)
        self.assertIn("copies in its own stream", report["failed"])
        self.assertIn("cudaMemcpyAsync of 1 byte", text)

    def test_ends_in_time(self):
        status, report, _ = run("schedule=eager", "--seconds", "0")
        self.assertEqual(status, 1)
        self.assertTrue(all(step["status"].startswith(("no time", "skipped", "they differ"))
                            for step in report["steps"]), report["steps"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
