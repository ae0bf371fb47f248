"""Failing system calls: strace makes the k-th call fail, for every k. Whatever fails, the output is the old file or the
complete new one, nothing else is left, and an exit code of 0 means the new one."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import inputs
from tool import FAILURE, OK, TIME_LIMIT, ToolTest, binary

CALLS = 200  # more than any run makes of one kind
NOT_STARTED = 127  # the dynamic loader met the fault


def can_inject():
    """Whether strace is here and may trace: containers often forbid it."""
    if shutil.which("strace") is None:
        return False
    with tempfile.TemporaryFile() as null:
        trace = ["strace", "-qq", "-e", "inject=getuid:error=EIO", sys.executable, "-c", ""]
        return subprocess.run(trace, stdout=null, stderr=null).returncode == 0


def is_instrumented():
    """The address sanitizer's runtime opens files at start, too, and tries for ever when it cannot."""
    with open(binary(), "rb") as file:
        return b"__asan_init" in file.read()


@unittest.skipUnless(can_inject(), "strace is not here or may not trace")
@unittest.skipIf(is_instrumented(), "the faults would meet the sanitizer's runtime")
class FaultTest(ToolTest):
    def setUp(self):
        super().setUp()
        # Several pieces, so that both threads have work; many small tensors; one chunk that ends early.
        tensors = {f"small.{i}": ("U8", [7], b"0123456") for i in range(50)}
        tensors["large"] = ("U8", [13 * inputs.CHUNK + 1], bytes(range(256)) * (13 * inputs.CHUNK // 256) + b"x")
        inputs.write_safetensors(self.path("in.safetensors"), tensors)
        self.run_tool("convert", "in.safetensors", "-o", "good.safetensors")
        self.good = self.path("good.safetensors").read_bytes()
        self.path("good.safetensors").unlink()

    def trace(self, *strace_options, options=()):
        """The finished conversion and the lines of strace's log."""
        log = self.path("log")
        process = subprocess.run(
            ["strace", "-f", "-qq", "-o", log, *strace_options,
             binary(), "convert", *options, "in.safetensors", "-o", "out.safetensors"],
            cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIME_LIMIT,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})  # that detector traces, too
        lines = log.read_text().splitlines()
        log.unlink()
        return process, lines

    def output(self):
        out = self.path("out.safetensors")
        return out.read_bytes() if out.exists() else None

    def fail_each(self, call, error, *options, old=None):
        """One conversion per call that one makes. The exit codes that were seen."""
        codes = set()
        for number in range(1, CALLS):
            with self.subTest(call=call, error=error, number=number):
                if old is not None:
                    self.path("out.safetensors").write_bytes(old)
                process, lines = self.trace("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}",
                                            options=options)
                code = process.returncode
                self.assertEqual(self.output(), self.good if code == OK else old, process.stderr)
                self.assertEqual(self.names(), ["in.safetensors"] + ["out.safetensors"] * (self.output() is not None))
                self.path("out.safetensors").unlink(missing_ok=True)
            if not any("(INJECTED" in line for line in lines):
                self.assertEqual(code, OK)
                return codes
            codes.add(code)
        self.fail(f"more than {CALLS} calls of {call}")

    def test_no_fault_loses_the_old_file_or_leaves_a_new_one_behind(self):
        for call, error in (("openat", "EMFILE"), ("openat", "EACCES"), ("fallocate", "ENOSPC"), ("pread64", "EIO"),
                            ("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("fsync", "EIO"), ("fstat,newfstatat", "EIO"),
                            ("renameat,renameat2,rename", "EIO")):
            codes = self.fail_each(call, error, "--force", old=b"the old one")
            self.assertTrue(codes - {OK, NOT_STARTED}, f"{call} {error} was met by nobody")

    def kill_each(self, call, old=None):
        """One conversion per call, killed when it comes to that. How many were killed."""
        kills = 0
        for number in range(1, CALLS):
            with self.subTest(call=call, number=number, old=old):
                if old is not None:
                    self.path("out.safetensors").write_bytes(old)
                process, _ = self.trace("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}",
                                        options=["--force"])
                self.assertIn(self.output(), (old, self.good))
                if process.returncode != OK:
                    kills += 1
                    self.run_tool("convert", "--force", "in.safetensors", "-o", "out.safetensors")
                self.assertEqual(self.output(), self.good)
                self.assertEqual(self.names(), ["in.safetensors", "out.safetensors"])
                self.path("out.safetensors").unlink()
            if process.returncode == OK:
                return kills
        self.fail(f"more than {CALLS} calls of {call}")

    def test_no_kill_loses_the_old_file_or_leaves_a_new_one(self):
        for call in ("linkat", "renameat,renameat2", "fsync", "flock", "fchmod", "unlinkat"):
            for old in (None, b"the old one"):
                kills = self.kill_each(call, old)
                self.assertTrue(kills or call in ("renameat,renameat2", "unlinkat"), f"{call} was not met")

    def test_interruptions_are_no_failures(self):
        for call in ("pread64", "pwrite64", "fallocate"):
            self.assertEqual(self.fail_each(call, "EINTR") - {NOT_STARTED}, {OK}, call)

    def test_what_a_file_system_cannot_do_is_done_without(self):
        self.assertEqual(self.fail_each("fallocate", "EOPNOTSUPP"), {OK})
        self.assertEqual(self.fail_each("sync_file_range", "ESPIPE"), {OK})
        for error in ("EIO", "EOPNOTSUPP"):  # there are two ways to link, and one without links
            self.assertEqual(self.fail_each("linkat", error), {OK})
            self.assertEqual(self.fail_each("linkat", error, "--force", old=b"the old one"), {OK})
        self.assertEqual(self.fail_each("fchown,fchmod", "EPERM", "--force", old=b"the old one"), {OK})
        # Of the file and of the directory: the output is complete, and may not survive a power cut.
        self.assertEqual(self.fail_each("fsync", "EINVAL"), {OK})

    def test_a_failed_fsync_of_the_file_is_not_tried_again(self):
        process, lines = self.trace("-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1")
        self.assertEqual(process.returncode, FAILURE)
        self.assertRegex(process.stderr, r"\Aflatbed: .*\[io_error\]\n\Z")
        self.assertEqual(len(lines), 1)

    def test_the_file_is_synced_before_it_has_its_name_and_the_directory_after(self):
        process, lines = self.trace("-e", "trace=pwrite64,fsync,linkat,renameat,renameat2,rename")
        self.assertEqual(process.returncode, OK)
        calls = [line.split(None, 1)[1].split("(")[0] for line in lines]
        self.assertEqual(calls[-4:-2], ["pwrite64", "fsync"])  # the header goes in last
        self.assertIn(calls[-2], ("linkat", "renameat2"))
        self.assertEqual(calls[-1], "fsync")
