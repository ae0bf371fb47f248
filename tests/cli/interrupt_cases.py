"""Ctrl-C: the tool stops soon, leaves nothing partial, says so, and dies of the signal."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess

import inputs
from tool import INTERRUPTED, OK, TIME_LIMIT, HeldTool, ToolTest, binary, wait_until, wait_until_caught

BIG = 64 << 20  # several times what lies between two lines of progress


class InterruptTest(ToolTest):
    def big(self, name="big.safetensors"):
        inputs.write_sparse_safetensors(self.path(name), BIG)
        return name

    def interrupted(self, *arguments, number=signal.SIGINT):
        """What the tool says that a signal met in the middle of its work, and died of."""
        held = self.start_held(*arguments)
        held.interrupt(number)
        said = held.finish()
        self.assertEqual(held.process.returncode, -number, said)
        return said

    def test_convert_leaves_nothing_and_dies_of_the_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            _, err = self.interrupted("convert", "--no-sync", self.big(), "-o", "out.safetensors", number=number)
            self.assertRegex(err, r"\Aflatbed: .*: interrupted at .* of 64\.0 MiB; nothing written \[cancelled\]\n\Z")
            self.assertEqual(self.names(), ["big.safetensors"])

    def test_a_set_leaves_nothing(self):
        _, err = self.interrupted("convert", "--no-sync", self.big(), "-o", "s", "--max-shard-size", "20MB")
        self.assertRegex(err, r"\Aflatbed: .*: interrupted at .* of 64\.0 MiB; nothing written \[cancelled\]\n\Z")
        self.assertEqual(self.names(), ["big.safetensors"])

    def test_a_series_keeps_what_it_had(self):
        inputs.write_safetensors(self.path("small.safetensors"), {"w": ("U8", [1], b"x")})
        self.run_tool("series", "run", "save", "small.safetensors", "--step", 1)
        before = {path.name: path.read_bytes() for path in self.path("run").iterdir()}
        for options in ((), ("--max-shard-size", "20MB")):
            _, err = self.interrupted("series", "run", "save", self.big(), "--step", 2, *options)
            self.assertRegex(err, r"\Aflatbed: run.*: interrupted at .* of 64\.0 MiB; nothing written \[cancelled\]\n")
            self.assertEqual({path.name: path.read_bytes() for path in self.path("run").iterdir()}, before)

    def test_an_existing_output_stays(self):
        self.path("out.safetensors").write_bytes(b"the old one")
        self.interrupted("convert", "--no-sync", "--force", self.big(), "-o", "out.safetensors")
        self.assertEqual(self.path("out.safetensors").read_bytes(), b"the old one")
        self.assertEqual(self.names(), ["big.safetensors", "out.safetensors"])

    def test_the_rest_of_a_batch_is_not_started(self):
        inputs.write_torch(self.path("z.pth"), {"w": inputs.Tensor([1], [1])})
        out, _ = self.interrupted("convert", "--no-sync", self.big(), "z.pth", "--out-dir", "out")
        self.assertRegex(out, r"(?m)^failed +big\.safetensors ")
        self.assertRegex(out, r"(?m)^not started +z\.pth ")
        self.assertRegex(out, r"(?m)^1 failed, 1 not started$")
        self.assertFalse(os.path.exists(self.path("out")))

    def test_a_batch_in_json_says_what_was_not_started(self):
        """It draws no progress: what holds it is the error of the first file, which it reports before the second."""
        inputs.write_torch(self.path("z.pth"), {"w": inputs.Tensor([1], [1])})
        self.path("broken.safetensors").write_bytes(b"broken")
        out, _ = self.interrupted("convert", "--no-sync", "--json", "broken.safetensors", "z.pth", "--out-dir", "out")
        report = json.loads(out)
        self.assertEqual([file["status"] for file in report["files"]], ["failed", "not_started"])
        self.assertEqual((report["not_started"], report["exit_code"]), (1, INTERRUPTED))
        self.assertFalse(os.path.exists(self.path("out")))

    def test_the_loop_of_a_shell_stops(self):
        self.big()
        loop = 'for i in 1 2 3; do "$FLATBED" convert --no-sync big.safetensors -o out.safetensors; echo next; done'
        held = HeldTool(lambda terminal: subprocess.Popen(
            ["bash", "-c", loop], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal,
            start_new_session=True, env={**os.environ, "TERM": "xterm", "FLATBED": binary()}))
        shell = held.process.pid
        children = pathlib.Path(f"/proc/{shell}/task/{shell}/children")
        tool = int(wait_until(lambda: children.read_text().split(), "the shell starts the tool")[0])
        held.wait(tool)
        os.killpg(shell, signal.SIGINT)  # as a terminal does
        wait_until_caught(tool, signal.SIGINT, caught=False)
        out, _ = held.finish()
        self.assertNotIn("next", out)
        self.assertEqual(self.names(), ["big.safetensors"])

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
        process.communicate(timeout=TIME_LIMIT)
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_verify_stops(self):
        self.run_tool("convert", "--sidecar", self.big())
        self.interrupted("verify", "big.safetensors")

    def test_an_ignored_interrupt_stays_ignored(self):
        def ignore():
            signal.signal(signal.SIGINT, signal.SIG_IGN)

        held = HeldTool(lambda terminal: self.start("convert", "--no-sync", self.big(), "-o", "out.safetensors",
                                                    stderr=terminal, preexec_fn=ignore))
        held.wait()
        held.process.send_signal(signal.SIGINT)
        held.finish()
        self.assertEqual(held.process.returncode, OK)
        self.assertTrue(self.path("out.safetensors").exists())
