"""Ctrl-C: the tool stops soon, leaves nothing partial and says so."""

import json
import os
import signal
import time

import inputs
from tool import INTERRUPTED, OK, ToolTest

BIG = 3 << 30  # takes seconds to hash and write


class InterruptTest(ToolTest):
    def big(self, name="big.safetensors"):
        inputs.write_sparse_safetensors(self.path(name), BIG)
        return name

    def interrupt_when_writing(self, process, number):
        """Sends the signal once an output file takes room, or bytes were read."""
        io = f"/proc/{process.pid}/io"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with open(io) as stream:
                read = int(stream.readline().split()[1])
            if read > 8 << 20:
                break
            time.sleep(0.01)
        else:
            self.fail("the tool read nothing")
        process.send_signal(number)
        sent = time.monotonic()
        out, err = process.communicate(timeout=60)
        self.assertLess(time.monotonic() - sent, 20)
        return out.decode(), err.decode()

    def test_convert_leaves_nothing_and_exits_with_130(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.start("convert", "--no-sync", self.big(), "-o", "out.safetensors")
            _, err = self.interrupt_when_writing(process, number)
            self.assertEqual(process.returncode, INTERRUPTED)
            self.assertRegex(err, r"\Aflatbed: .*\[cancelled\]\n\Z")
            self.assertEqual(self.names(), ["big.safetensors"])

    def test_an_existing_output_stays(self):
        self.path("out.safetensors").write_bytes(b"the old one")
        process = self.start("convert", "--no-sync", "--force", self.big(), "-o", "out.safetensors")
        self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, INTERRUPTED)
        self.assertEqual(self.path("out.safetensors").read_bytes(), b"the old one")
        self.assertEqual(self.names(), ["big.safetensors", "out.safetensors"])

    def test_the_rest_of_a_batch_is_not_started(self):
        inputs.write_torch(self.path("z.pth"), {"w": inputs.Tensor([1], [1])})
        process = self.start("convert", "--no-sync", "--json", self.big(), "z.pth", "--out-dir", "out")
        out, _ = self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, INTERRUPTED)
        report = json.loads(out)
        self.assertEqual([file["status"] for file in report["files"]], ["failed", "not_started"])
        self.assertEqual((report["not_started"], report["exit_code"]), (1, INTERRUPTED))
        self.assertEqual(os.listdir(self.path("out")), [])

    def test_verify_stops(self):
        self.run_tool("convert", "--sidecar", self.big())
        process = self.start("verify", "big.safetensors")
        self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, INTERRUPTED)

    def test_an_ignored_interrupt_stays_ignored(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 256 << 20)

        def ignore():
            signal.signal(signal.SIGINT, signal.SIG_IGN)

        process = self.start("convert", "--no-sync", "big.safetensors", "-o", "out.safetensors", preexec_fn=ignore)
        self.interrupt_when_writing(process, signal.SIGINT)
        self.assertEqual(process.returncode, OK)
        self.assertTrue(self.path("out.safetensors").exists())
