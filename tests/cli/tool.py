"""ToolTest: a test case with a folder of its own that runs the tool and reads what it says."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "spec"))

import reader  # noqa: E402

OK, FAILURE, USAGE, ANNOTATED, UNSEALED, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
SCAN_UNKNOWN, SCAN_DANGEROUS, CRC_MATCHES = 6, 7, 8
TIME_LIMIT = 600  # seconds, after which a process hangs: far above what any takes on a busy machine

# What was started in the background of a shell, or by nohup, ignores some of these, and so would the tool.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def binary():
    path = os.environ.get("FLATBED_BIN")
    if not path:
        sys.exit("FLATBED_BIN must name the flatbed binary")
    return os.path.abspath(path)


def wait_until(happened, what):
    """Until happened() is true; then what it returned."""
    deadline = time.monotonic() + TIME_LIMIT
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what}: not within {TIME_LIMIT} s")


def wait_until_caught(pid, number, caught=True):
    """Until a process handles a signal instead of dying of it, or until it no longer does."""
    def is_so():
        mask = re.search(r"SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]
        return bool(int(mask, 16) >> (number - 1) & 1) == caught

    wait_until(is_so, f"signal {number} is {'' if caught else 'no longer '}caught")


def waits_to_write(pid, descriptor):
    """Whether a thread of the process is inside write(), where it stays only if the other end does not take more."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            call = (task / "syscall").read_text().split()
            if call[0] in ("1", "64") and int(call[1], 16) == descriptor:  # write() of x86-64, of aarch64
                return True
    return False


class HeldTool:
    """The tool, stopped in the middle of its work for as long as a test likes: standard error is a terminal that takes
    no output, so that the tool waits at its first line of progress. `pid`: of the process that draws it."""

    def __init__(self, start):
        self._primary, self._secondary = os.openpty()
        termios.tcflow(self._secondary, termios.TCOOFF)
        self.process = start(self._secondary)

    def wait(self, pid=None):
        """Until the tool is there."""
        pid = pid or self.process.pid
        wait_until(lambda: waits_to_write(pid, 2), "the tool draws its progress")

    def interrupt(self, number=signal.SIGINT):
        """Sends the signal and returns when its handler has run."""
        self.process.send_signal(number)
        wait_until_caught(self.process.pid, number, caught=False)

    def finish(self):
        """Lets the tool go on to its end. What it wrote to standard output, and to the terminal after the progress."""
        termios.tcflow(self._secondary, termios.TCOON)
        os.close(self._secondary)
        drawn = []
        with open(self._primary, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
            while part := terminal.read(65536):  # fails after the last writer has closed
                drawn.append(part)
        out, _ = self.process.communicate(timeout=TIME_LIMIT)
        text = b"".join(drawn).decode().replace("\r\n", "\n")
        return out.decode(), text.rpartition("\r\033[K")[2]


class ToolTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flatbed-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return self.folder / name

    def names(self):
        """The files in the folder, to find leftovers."""
        return sorted(entry.name for entry in self.folder.iterdir())

    def start(self, *arguments, **options):
        """Starts the tool in the folder; both streams are pipes unless said otherwise."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.folder, **options}
        options.setdefault("env", {**os.environ, "TERM": "xterm"})
        return subprocess.Popen([binary(), *map(str, arguments)], stdin=subprocess.DEVNULL, **options)

    def start_held(self, *arguments):
        """The tool at its first line of progress, which it draws for 8 MiB and more."""
        held = HeldTool(lambda terminal: self.start(*arguments, stderr=terminal))
        held.wait()
        return held

    def run_raw(self, *arguments, expect=OK, **options):
        """The finished process, its streams as bytes. Without `expect` any exit code is right."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=TIME_LIMIT)
        result = subprocess.CompletedProcess(arguments, process.returncode, out, err)
        if expect is not None:
            self.assertEqual(result.returncode, expect, f"flatbed {arguments}: {out!r} {err!r}")
        return result

    def run_tool(self, *arguments, expect=OK, **options):
        """The finished process, its streams as text."""
        result = self.run_raw(*arguments, expect=expect, **options)
        result.stdout = result.stdout.decode() if result.stdout is not None else ""
        result.stderr = result.stderr.decode() if result.stderr is not None else ""
        return result

    def run_on_terminal(self, *arguments, stream, expect=OK):
        """run_tool with a terminal as its `stream`, "stdout" or "stderr"."""
        primary, secondary = os.openpty()
        try:
            process = self.start(*arguments, **{stream: secondary})
        finally:
            os.close(secondary)
        written = b""
        with open(primary, "rb", buffering=0) as terminal:
            # A read returns what the kernel has passed on so far, and fails after the last writer has closed.
            with contextlib.suppress(OSError):
                while True:
                    written += terminal.read(65536)
        streams = dict(zip(("stdout", "stderr"), process.communicate(timeout=TIME_LIMIT), strict=True))
        streams[stream] = written
        self.assertEqual(process.returncode, expect, f"flatbed {arguments}: {streams}")
        texts = {name: data.decode() for name, data in streams.items()}
        return subprocess.CompletedProcess(arguments, process.returncode, **texts)

    def run_json(self, *arguments, expect=OK):
        return json.loads(self.run_tool(*arguments, "--json", expect=expect).stdout)

    def assert_error(self, result, code, *parts):
        """Standard error is one line "flatbed: ... [code]" that holds each of `parts`."""
        self.assertRegex(result.stderr, rf"\Aflatbed: [^\n]*\[{code}\]\n\Z")
        for part in parts:
            self.assertIn(part, result.stderr)

    def assert_sealed(self, path):
        """By the second implementation, every byte."""
        self.assertEqual(reader.check(str(self.path(path))), "sealed")

    def load(self, path):
        """The nested object by the second implementation, tensors as plain buffers."""
        return reader.load(str(self.path(path)), backend="plain")
