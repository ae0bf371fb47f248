"""flatbed convert with several inputs: skipping, failing, reporting."""

import os

import inputs
from tool import FAILURE, OK, SOME_FAILED, ToolTest


class BatchTest(ToolTest):
    def torch(self, *names):
        for name in names:
            inputs.write_torch(self.path(name), {"w": inputs.Tensor([2], [1, 2])})
            os.utime(self.path(name), (1_000_000_000, 1_000_000_000))
        return names

    def statuses(self, report):
        return {file["input"]: file["status"] for file in report["files"]}

    def test_converts_each_beside_its_input_and_ends_with_a_table(self):
        text = self.run_tool("convert", *self.torch("a.pth", "b.pt")).stdout
        table = text.split("\n\n")[1].splitlines()
        self.assertRegex(table[0], r"\ASTATUS +INPUT +TENSORS +SIZE +OUTPUT\Z")
        self.assertRegex(table[1], r"\Aconverted +a\.pth +1 +8 B +a\.safetensors\Z")
        self.assertRegex(table[2], r"\Aconverted +b\.pt +1 +8 B +b\.safetensors\Z")
        self.assertEqual(table[3], "2 converted")
        self.assert_sealed("a.safetensors")
        self.assert_sealed("b.safetensors")

    def test_one_failure_does_not_stop_the_rest(self):
        self.torch("a.pth", "z.pth")
        self.path("m.pth").write_bytes(b"")
        result = self.run_tool("convert", "a.pth", "m.pth", "missing.pth", "z.pth", expect=SOME_FAILED)
        self.assertEqual(len(result.stderr.splitlines()), 2)
        self.assertIn("2 converted, 2 failed\n", result.stdout)
        self.assertRegex(result.stdout, r"(?m)^failed +m\.pth +- +- +\[file_too_short\]$")
        self.assertEqual(self.names(), ["a.pth", "a.safetensors", "m.pth", "z.pth", "z.safetensors"])

    def test_all_failed_is_also_5_and_a_single_failure_is_1(self):
        self.run_tool("convert", "x.pth", "y.pth", "--dry-run", "--json", "--out-dir", "out", expect=SOME_FAILED)
        self.run_tool("convert", "x.pth", expect=FAILURE)

    def test_outputs_that_are_up_to_date_are_counted(self):
        self.torch("a.pth", "b.pth")
        self.run_tool("convert", "a.pth", "b.pth")
        report = self.run_json("convert", "a.pth", "b.pth")
        self.assertEqual(self.statuses(report), {"a.pth": "up_to_date", "b.pth": "up_to_date"})
        text = self.run_tool("convert", "a.pth", "b.pth").stdout
        self.assertIn("2 up to date\n", text)
        self.assertRegex(text, r"(?m)^up to date +a\.pth +1 +8 B +a\.safetensors$")

    def test_outputs_that_are_broken_or_unsealed_fail_and_are_redone_by_force(self):
        names = self.torch("broken.pth", "plain.pth", "good.pth")
        self.run_tool("convert", *names)
        raw = self.path("broken.safetensors").read_bytes()
        self.path("broken.safetensors").write_bytes(raw[:-1])
        inputs.write_safetensors(self.path("plain.safetensors"), {"w": ("F32", [2], inputs.floats(1, 2))})
        report = self.run_json("convert", *names, expect=SOME_FAILED)
        self.assertEqual(list(self.statuses(report).values()), ["failed", "failed", "up_to_date"])
        report = self.run_json("convert", "--force", *names)
        self.assertEqual(list(self.statuses(report).values()), ["converted", "converted", "up_to_date"])
        for name in ("broken", "plain", "good"):
            self.assert_sealed(f"{name}.safetensors")

    def test_out_dir_collects_the_outputs(self):
        self.path("x").mkdir()
        self.torch("a.pth", "x/b.pth")
        self.run_tool("convert", "a.pth", "x/b.pth", "--out-dir", "out")
        self.assertEqual(sorted(os.listdir(self.path("out"))), ["a.safetensors", "b.safetensors"])

    def test_jobs_run_side_by_side_with_the_same_result(self):
        names = self.torch(*(f"{i}.pth" for i in range(12)))
        self.path("5.pth").write_bytes(b"GGUF" + bytes(40))
        report = self.run_json("convert", "--jobs", "4", *names, expect=SOME_FAILED)
        self.assertEqual((report["converted"], report["failed"]), (11, 1))
        self.assertEqual([file["input"] for file in report["files"]], list(names))
        for i in set(range(12)) - {5}:
            self.assert_sealed(f"{i}.safetensors")

    def test_sidecars_for_several_files(self):
        for name in ("a.safetensors", "b.safetensors"):
            inputs.write_safetensors(self.path(name), {"w": ("U8", [1], b"x")})
            os.utime(self.path(name), (1_000_000_000, 1_000_000_000))
        self.run_tool("convert", "--sidecar", "a.safetensors", "b.safetensors")
        self.assert_sealed("a.safetensors")
        self.assert_sealed("b.safetensors")
        report = self.run_json("convert", "--sidecar", "a.safetensors", "b.safetensors", expect=OK)
        self.assertEqual(report["up_to_date"], 2)
