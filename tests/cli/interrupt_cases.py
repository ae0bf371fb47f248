"""Ctrl-C: the tool stops soon, leaves nothing partial, says so, and dies of the signal."""

import contextlib
import json
import os
import signal
import subprocess
import time

import inputs
from tool import INTERRUPTED, OK, ToolTest, binary, wait_until_caught

BIG = 3 << 30  # takes seconds to hash and write


class InterruptTest(ToolTest):
    def big(self, name="big.safetensors"):
        inputs.write_sparse_safetensors(self.path(name), BIG)
        return name

    def interrupt_when_writing(self, process, number):
        """Sends the signal once an output file takes room, or bytes were read."""
        self.wait_until_read(process.pid)
        process.send_signal(number)
        sent = time.monotonic()
        out, err = process.communicate(timeout=60)
        self.assertLess(time.monotonic() - sent, 20)
        return out.decode(), err.decode()

    def wait_until_read(self, pid):
        io = f"/proc/{pid}/io"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with open(io) as stream:
                read = int(stream.readline().split()[1])
            if read > 8 << 20:
                break
            time.sleep(0.01)
        else:
            self.fail("the tool read nothing")

    def test_convert_leaves_nothing_and_dies_of_the_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.start("convert", "--no-sync", self.big(), "-o", "out.safetensors")
            _, err = self.interrupt_when_writing(process, number)
            self.assertEqual(process.returncode, -number)
            self.assertRegex(err, r"\Aflatbed: .*: interrupted at .* of 3\.0 GiB; nothing written \[cancelled\]\n\Z")
            self.assertEqual(self.names(), ["big.safetensors"])

    def test_a_set_leaves_nothing(self):
        process = self.start("convert", "--no-sync", self.big(), "-o", "s", "--max-shard-size", "1GB")
        _, err = self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertRegex(err, r"\Aflatbed: .*: interrupted at .* of 3\.0 GiB; nothing written \[cancelled\]\n\Z")
        self.assertEqual(self.names(), ["big.safetensors"])

    def test_a_series_keeps_what_it_had(self):
        inputs.write_safetensors(self.path("small.safetensors"), {"w": ("U8", [1], b"x")})
        self.run_tool("series", "run", "save", "small.safetensors", "--step", 1)
        before = {path.name: path.read_bytes() for path in self.path("run").iterdir()}
        for options in ((), ("--max-shard-size", "1GB")):
            process = self.start("series", "run", "save", self.big(), "--step", 2, *options)
            _, err = self.interrupt_when_writing(process, signal.SIGINT)
            self.assertEqual(process.returncode, -signal.SIGINT)
            self.assertRegex(err, r"\Aflatbed: run.*: interrupted at .* of 3\.0 GiB; nothing written \[cancelled\]\n\Z")
            self.assertEqual({path.name: path.read_bytes() for path in self.path("run").iterdir()}, before)

    def test_an_existing_output_stays(self):
        self.path("out.safetensors").write_bytes(b"the old one")
        process = self.start("convert", "--no-sync", "--force", self.big(), "-o", "out.safetensors")
        self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertEqual(self.path("out.safetensors").read_bytes(), b"the old one")
        self.assertEqual(self.names(), ["big.safetensors", "out.safetensors"])

    def test_the_rest_of_a_batch_is_not_started(self):
        inputs.write_torch(self.path("z.pth"), {"w": inputs.Tensor([1], [1])})
        process = self.start("convert", "--no-sync", "--json", self.big(), "z.pth", "--out-dir", "out")
        out, _ = self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, -signal.SIGINT)
        report = json.loads(out)
        self.assertEqual([file["status"] for file in report["files"]], ["failed", "not_started"])
        self.assertEqual((report["not_started"], report["exit_code"]), (1, INTERRUPTED))
        self.assertFalse(os.path.exists(self.path("out")))

    def test_the_loop_of_a_shell_stops(self):
        self.big()
        loop = 'for i in 1 2 3; do "$FLATBED" convert --no-sync big.safetensors -o out.safetensors; echo next; done'
        shell = subprocess.Popen(["bash", "-c", loop], cwd=self.folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                                 env={**os.environ, "FLATBED": binary()})
        self.wait_until_read(self.child_of(shell))
        os.killpg(shell.pid, signal.SIGINT)  # as a terminal does
        out, _ = shell.communicate(timeout=60)
        self.assertNotIn(b"next", out)
        self.assertEqual(self.names(), ["big.safetensors"])

    def child_of(self, process):
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with open(children) as stream:
                pids = stream.read().split()
            if pids:
                return int(pids[0])
            time.sleep(0.01)
        self.fail("the shell started nothing")

    def test_a_second_signal_ends_the_tool_at_once(self):
        inputs.write_sparse_safetensors(self.path("in.safetensors"), 1)
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
        # Nobody reads, so that the tool waits for ever when it reports.
        process = self.start("convert", "--json", "in.safetensors", "-o", "out.safetensors", stdout=writer)
        os.close(writer)
        wait_until_caught(process.pid, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        wait_until_caught(process.pid, signal.SIGINT, caught=False)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_verify_stops(self):
        self.run_tool("convert", "--sidecar", self.big())
        process = self.start("verify", "big.safetensors")
        self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_an_ignored_interrupt_stays_ignored(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 256 << 20)

        def ignore():
            signal.signal(signal.SIGINT, signal.SIG_IGN)

        process = self.start("convert", "--no-sync", "big.safetensors", "-o", "out.safetensors", preexec_fn=ignore)
        self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, OK)
        self.assertTrue(self.path("out.safetensors").exists())
