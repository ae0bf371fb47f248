"""flatbed bench: which ways it compares, and that its two forms say the same. Never how fast they are."""

import signal

import inputs
import writer
from tool import FAILURE, OK, USAGE, ToolTest


class BenchTest(ToolTest):
    def sealed(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [700_000], bytes(700_000)), ("b", "U8", [2], b"hi")])
        return "s.safetensors"

    def paths(self, report):
        return [(path["name"], path["threads"]) for path in report["paths"]]

    def test_compares_the_ways_on_a_sealed_file(self):
        report = self.run_json("bench", self.sealed(), "--runs", "3", "--threads", "1,2")
        paths = [path for path in self.paths(report) if "direct" not in path[0]]  # not every file system has it
        self.assertEqual(paths, [
            ("load automatic, verified", None),
            ("load buffered, verified", 1), ("load buffered", 1),
            ("load buffered, verified", 2), ("load buffered", 2),
            ("bare pread()", 1), ("bare pread()", 2),
            ("read(), verified", 1), ("read()", 1),
            ("view() and touch", 1),
            ("verify()", 1), ("verify()", 2),
        ])
        for path in report["paths"]:
            rates = path["gb_per_second"]
            self.assertEqual(len(rates), 3)
            self.assertEqual(sorted(rates)[1], path["median_gb_per_second"])
            self.assertEqual((min(rates), max(rates)), (path["min_gb_per_second"], path["max_gb_per_second"]))
            self.assertGreater(path["first_gb_per_second"], 0)
            self.assertGreater(min(rates), 0)

    def test_names_the_fastest_load_and_what_automatic_chose(self):
        report = self.run_json("bench", self.sealed(), "--runs", "1", "--threads", "1")
        loads = [path for path in report["paths"] if path["name"].startswith("load")]
        best = max(loads, key=lambda path: path["median_gb_per_second"])
        self.assertEqual(report["paths"][report["fastest"]], best)
        self.assertTrue(report["paths"][report["fastest_verified"]]["verified"])
        for choice in (report["automatic"]["first"], report["automatic"]["last"]):
            self.assertEqual(choice["files_direct"] + choice["files_buffered"], 1)
        self.assertEqual((report["exit_code"], report["error"], report["tensors"]), (OK, None, 2))

    def test_an_unsealed_file_has_nothing_to_verify(self):
        inputs.write_safetensors(self.path("u.safetensors"), {"w": ("U8", [1000], bytes(1000))})
        report = self.run_json("bench", "u.safetensors", "--runs", "1", "--threads", "1")
        self.assertFalse(any(path["verified"] for path in report["paths"]))
        self.assertIsNone(report["fastest_verified"])

    def test_what_is_not_plain_is_neither_mapped_nor_read_barely(self):
        inputs.write_torch(self.path("t.pth"), {"t": inputs.Tensor([3, 2], [1, 2, 3, 4, 5, 6], stride=(1, 3))})
        names = {name for name, _ in self.paths(self.run_json("bench", "t.pth", "--runs", "1", "--threads", "1"))}
        self.assertEqual({name for name in names if "direct" not in name},
                         {"load automatic", "load buffered", "read()"})

    def test_the_text_has_a_line_for_each_way(self):
        text = self.run_tool("bench", self.sealed(), "--runs", "2", "--threads", "2").stdout
        lines = text.splitlines()
        self.assertEqual(lines[0], "s.safetensors: 2 tensors, 683.6 KiB, sealed, to host")
        self.assertRegex(lines[1], r"\Apath +threads +first +median +min\.\.max, GB/s\Z")
        for name, threads in (("load automatic, verified", "auto"), ("load buffered", "2"), ("bare pread()", "2"),
                              ("read()", "1"), ("view() and touch", "1"), ("verify()", "2")):
            start = name.replace("(", r"\(").replace(")", r"\)")
            self.assertRegex(text, rf"(?m)^{start} +{threads} +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d\.\.\d+\.\d\d$")
        self.assertRegex(text, r"(?m)^automatic: .* the page cache")
        self.assertRegex(text, r"(?m)^fastest: load .*, threads \w+, \d+\.\d\d GB/s$")
        self.assertRegex(text, r"(?m)^fastest verified: load .*, verified, threads \w+, \d+\.\d\d GB/s$")
        self.assertRegex(text, r"(?m)^2 rounds after the first; nothing was dropped from the page cache$")

    def test_failures(self):
        self.assert_error(self.run_tool("bench", "missing", expect=FAILURE), "file_not_found", "missing")
        writer.write(self.path("e.safetensors"), [("e", "F32", [0], b"")])
        self.assert_error(self.run_tool("bench", "e.safetensors", expect=FAILURE), "invalid_argument", "no bytes")
        report = self.run_json("bench", "missing", expect=FAILURE)
        self.assertEqual((report["exit_code"], report["error"]["name"]), (FAILURE, "file_not_found"))

    def test_damage_ends_it(self):
        raw = bytearray(self.path(self.sealed()).read_bytes())
        raw[-1] ^= 1
        self.path("s.safetensors").write_bytes(raw)
        self.assert_error(self.run_tool("bench", "s.safetensors", expect=FAILURE), "chunk_corrupt", "s.safetensors")

    def test_words_that_mean_nothing(self):
        for option, word in (("--threads", "0"), ("--threads", "1,"), ("--threads", "1,x"), ("--threads", "65"),
                             ("--threads", ",".join("1" * 17)), ("--runs", "0"), ("--device", "gpu")):
            result = self.run_tool("bench", "a.safetensors", f"{option}={word}", expect=USAGE)
            self.assert_error(result, "invalid_argument", option, "--help")

    def test_an_interrupt_stops_it(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 64 << 20)
        held = self.start_held("bench", "big.safetensors", "--runs", "1000")
        held.interrupt()
        _, err = held.finish()
        self.assertEqual(held.process.returncode, -signal.SIGINT)
        self.assertRegex(err, r"\Aflatbed: .*\[cancelled\]\n\Z")
