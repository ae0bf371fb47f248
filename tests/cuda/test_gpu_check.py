"""tools/gpu_check over the fake driver: that it runs to its last line, and notices a driver that fails. What a
machine may have besides (nvidia-smi, compute-sanitizer, a Python with peers) are scripts here.

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


NVIDIA_SMI = "echo 'Some GPU, 1.2, 00:01.0, 3 MiB'"
# Its options are four words; then come the program and what it is given.
SANITIZER = 'shift 4; exec "$@"'
SANITIZER_WITH_RACES = 'shift 6; exec "$@"'
OLD_SANITIZER = 'case "$*" in *--track*) echo "unknown option" >&2; exit 1;; esac; ' + SANITIZER
FOUND = 'echo "Invalid __global__ write"; exit 99'
REFUSED = 'echo "the device is not supported"; exit 1'
# "-c", a program, and its arguments.
PEERS = 'case "$2" in *"import sys, time"*) echo "torch says hello"; echo "seconds 0.5";; *torch.save*) : > "$4";; esac'


def run(fake, *arguments, without_tests=False, programs_of_machine=()):
    """(exit status, report, output)"""
    with tempfile.TemporaryDirectory() as folder:
        machine = os.path.join(folder, "machine")
        os.mkdir(machine)
        for name, script in dict(programs_of_machine).items():
            with open(os.path.join(machine, name), "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
            os.chmod(file.name, 0o755)
        programs, out = os.path.join(folder, "programs"), os.path.join(folder, "out")
        subprocess.run([sys.executable, os.path.join(ROOT, "tools", "gpu_check"), "pack", "--link", TREE, programs],
                       check=True, stdout=subprocess.DEVNULL)
        if without_tests:
            os.unlink(os.path.join(programs, "flatbed_cuda_tests"))
            os.symlink("/bin/true", os.path.join(programs, "flatbed_cuda_tests"))
        environment = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(DRIVER), FLATBED_FAKE_CUDA=fake,
                           PATH=machine)
        done = subprocess.run([sys.executable, os.path.join(programs, "gpu_check"), "run", programs, out, "--mib", "8",
                               *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False)
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

    def peers_and_sanitizer(self, sanitizer):
        machine = {"nvidia-smi": NVIDIA_SMI, "compute-sanitizer": sanitizer, "python3": PEERS}
        status, report, text = run("schedule=eager,guard=0,track=0", without_tests=True, programs_of_machine=machine)
        self.assertEqual(report["machine"]["gpu"], "Some GPU, 1.2, 00:01.0, 3 MiB")
        self.assertEqual([row["name"] for row in report["peers"]], ["safetensors", "torch", "fastsafetensors"])
        self.assertEqual({row["gb_per_s"] for row in report["peers"]}, {round((8 << 20) / 0.5 / 1e9, 2)})
        self.assertFalse([step for step in report["steps"] if step["status"].startswith("skipped")], text)
        return status, {step["name"]: step["status"] for step in report["steps"] if "memcheck" in step["name"]}, report

    def test_runs_peers_and_the_sanitizer(self):
        status, steps, _ = self.peers_and_sanitizer(SANITIZER_WITH_RACES)
        self.assertEqual((status, steps), (0, {"memcheck, with races of streams": "ok"}))

    def test_runs_a_sanitizer_that_follows_no_streams(self):
        status, steps, _ = self.peers_and_sanitizer(OLD_SANITIZER)
        self.assertEqual((status, steps), (0, {"memcheck, with races of streams": "exit status 1", "memcheck": "ok"}))

    def test_passes_where_the_sanitizer_refuses_the_device(self):
        status, steps, _ = self.peers_and_sanitizer(REFUSED)
        self.assertEqual((status, set(steps.values())), (0, {"exit status 1"}))

    def test_fails_where_the_sanitizer_finds_something(self):
        status, steps, report = self.peers_and_sanitizer(FOUND)
        self.assertEqual((status, report["failed"]), (1, ["memcheck, with races of streams"]))
        self.assertEqual(len(steps), 1)

    def test_ends_in_time(self):
        status, report, _ = run("schedule=eager", "--seconds", "0")
        self.assertEqual(status, 1)
        self.assertTrue(all(step["status"].startswith(("no time", "skipped", "they differ"))
                            for step in report["steps"]), report["steps"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
